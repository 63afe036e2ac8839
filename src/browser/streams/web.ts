/** Web Streams as Source and Sink. */
import type { Sink, Source } from "../../apps/endpoints.ts";
import { asDcpipeError } from "../../errors.ts";

/** Chunks of a Web Stream, which is locked from now on. */
export function readableSource(readable: ReadableStream<Uint8Array>): Source {
  const reader = readable.getReader();
  return {
    read: async () => {
      try {
        return (await reader.read()).value;
      } catch (error) {
        throw asDcpipeError(error, "IO", "reading failed");
      }
    },
    cancel: () => {
      reader.cancel().catch(() => undefined);
    },
  };
}

/**
 * Writes into a Web Stream, which is locked from now on; each chunk is its own, and the next one comes when it wants more. What goes
 * wrong there is the error of the write that follows.
 */
export function writableSink(
  writable: WritableStream<Uint8Array>,
): Sink & { abort(reason?: unknown): Promise<void> } {
  const writer = writable.getWriter();
  // Told by the next write.
  writer.closed.catch(() => undefined);
  return {
    write: async (chunk) => {
      try {
        await writer.ready;
        writer.write(chunk.slice()).catch(() => undefined);
        await writer.ready;
      } catch (error) {
        throw asDcpipeError(error, "IO", "writing failed");
      }
    },
    end: async () => {
      try {
        await writer.close();
      } catch (error) {
        throw asDcpipeError(error, "IO", "writing failed");
      }
    },
    abort: async (reason) => {
      await writer.abort(reason).catch(() => undefined);
    },
  };
}
