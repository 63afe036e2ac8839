/** Standard streams, and any Node stream, as Source and Sink. */
import { closeSync, createWriteStream, fstatSync } from "node:fs";
import { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import type { Sink, Source } from "../apps/endpoints.ts";
import { asDcpipeError, DcpipeError } from "../errors.ts";

/** Chunks of a Node readable. Reading starts with the first `read`. */
export function readableSource(readable: Readable): Source {
  let iterator: AsyncIterator<unknown> | undefined;
  return {
    read: async () => {
      iterator ??= readable[Symbol.asyncIterator]();
      try {
        const { value, done } = await iterator.next();
        if (done) return undefined;
        return typeof value === "string" ? Buffer.from(value) : (value as Uint8Array);
      } catch (error) {
        throw asDcpipeError(error, "IO", "reading failed");
      }
    },
    cancel: () => {
      readable.destroy();
    },
  };
}

/**
 * Standard output. Its end closes the descriptor, so that a reader behind it sees the end of this direction while the other
 * goes on (`dcpipe pipe | sort`); `process.stdout` itself cannot be closed.
 */
export function stdoutSink(): Sink {
  if (process.stdout.isTTY) return writableSink(process.stdout, { keepOpen: true });
  const info = fstatSync(1);
  const pipe = info.isFIFO() || info.isSocket();
  const stdout = pipe
    ? new Socket({ fd: 1, readable: false, writable: true })
    : createWriteStream("", { fd: 1 });
  // libuv never closes descriptors 0 to 2, and without that a pipe's reader sees no end.
  if (info.isFIFO()) {
    stdout.once("finish", () => stdout.destroy());
    stdout.once("close", () => {
      closeSync(1);
    });
  }
  return writableSink(stdout);
}

/** A Node writable; `end` ends it too unless `keepOpen`. A reader that went away is PIPE_CLOSED. */
export function writableSink(writable: Writable, { keepOpen = false } = {}): Sink {
  let broken: DcpipeError | undefined;
  writable.on("error", (error: NodeJS.ErrnoException) => {
    broken ??= writeError(error);
  });
  return {
    write: (chunk) =>
      new Promise((resolve, reject) => {
        if (broken) {
          reject(broken);
          return;
        }
        writable.write(chunk, (error) => {
          if (error) reject(writeError(error));
          else resolve();
        });
      }),
    end: () =>
      new Promise((resolve, reject) => {
        if (broken) {
          reject(broken);
        } else if (keepOpen) {
          resolve();
        } else {
          writable.end((error?: Error | null) => {
            if (error) reject(writeError(error));
            else resolve();
          });
        }
      }),
  };
}

function writeError(error: NodeJS.ErrnoException): DcpipeError {
  if (error.code === "EPIPE" || error.code === "ERR_STREAM_DESTROYED") {
    return new DcpipeError("PIPE_CLOSED", "the reader of our output has gone", { cause: error });
  }
  if (error.code === "ENOSPC" || error.code === "EDQUOT")
    return new DcpipeError("NO_SPACE", "no space left", { cause: error });
  return new DcpipeError("IO", `writing failed: ${error.message}`, { cause: error });
}
