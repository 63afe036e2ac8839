/** Standard streams, and any Node stream, as Source and Sink. */
import { closeSync, createWriteStream, fstatSync, openSync } from "node:fs";
import { Socket, type SocketConstructorOpts } from "node:net";
import type { Readable, Writable } from "node:stream";
import type { Sink, Source } from "../apps/endpoints.ts";
import { asDcpipeError, DcpipeError } from "../errors.ts";

/** Chunks of a Node readable. Reading starts with the first `read`. */
export function readableSource(readable: Readable): Source {
  let iterator: AsyncIterator<string | Uint8Array> | undefined;
  return {
    read: async () => {
      iterator ??= readable[Symbol.asyncIterator]() as AsyncIterator<string | Uint8Array>;
      try {
        const next = await iterator.next();
        if (next.done) return undefined;
        return typeof next.value === "string" ? Buffer.from(next.value) : next.value;
      } catch (error) {
        throw asDcpipeError(error, "IO", "reading failed");
      }
    },
    cancel: () => {
      readable.destroy();
    },
  };
}

/** What one read of a pipe gives at most on Linux. */
const READ_SIZE = 64 * 1024;

/** Standard input. From a pipe it is read into one buffer over and over: a fresh one for each read is garbage by the gigabyte. */
export function stdinSource(): Source {
  const info = fstatSync(0);
  if (!info.isFIFO() && !info.isSocket()) return readableSource(process.stdin);
  const buffer = Buffer.allocUnsafeSlow(READ_SIZE);
  let filled: Buffer | undefined;
  let ended = false;
  let failed: Error | undefined;
  let wake: (() => void) | undefined;
  const socket = new Socket({
    fd: 0,
    readable: true,
    writable: false,
    // Not in the published types of the constructor, but what `net.connect` documents as `onread`.
    onread: {
      buffer,
      callback: (length: number) => {
        filled = buffer.subarray(0, length);
        wake?.();
        return false;
      },
    },
  } as SocketConstructorOpts);
  socket.on("end", () => {
    ended = true;
    wake?.();
  });
  socket.on("error", (error) => {
    failed = error;
    wake?.();
  });
  let started = false;
  return {
    read: async () => {
      // The constructor has begun the first read, and it may be over; later ones go on where the callback stopped.
      if (started) {
        filled = undefined;
        socket.resume();
      }
      started = true;
      while (!filled && !ended && !failed) await new Promise<void>((resolve) => (wake = resolve));
      if (filled) return filled;
      if (failed) throw asDcpipeError(failed, "IO", "reading failed");
      return undefined;
    },
    cancel: () => {
      socket.destroy();
    },
  };
}

/**
 * Standard output. Its end gives the descriptor up, so that a reader behind it sees the end of this direction while the other
 * goes on (`dcpipe pipe | sort`); `process.stdout` itself cannot be closed.
 */
export function stdoutSink(): Sink {
  if (process.stdout.isTTY) return writableSink(process.stdout, { keepOpen: true });
  const info = fstatSync(1);
  if (!info.isFIFO() && !info.isSocket())
    return writableSink(createWriteStream("", { fd: 1, autoClose: false }));
  const sink = writableSink(new Socket({ fd: 1, readable: false, writable: true }), { keepOpen: true });
  return {
    write: (chunk) => sink.write(chunk),
    end: async () => {
      await sink.end();
      if (process.platform === "win32") return;
      // Number 1 must not fall to a socket: the event loop refuses to close those below 3, and ends the process.
      closeSync(1);
      openSync("/dev/null", "w");
    },
  };
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
