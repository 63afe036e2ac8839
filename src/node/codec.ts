import { promisify } from "node:util";
import { deflateRaw, inflateRaw, type InputType, type ZlibOptions } from "node:zlib";
import type { Codec } from "../apps/endpoints.ts";

/** The fastest. Higher ones cost more time than they save on the way, on all but the slowest links. */
const LEVEL = 1;
/** zlib takes no smaller output buffer. */
const MIN_CHUNK = 64;

const deflate = promisify<InputType, ZlibOptions, Buffer>(deflateRaw);
/** With `info`, which the published types do not know: what came out, and how much of the input it took. */
const inflate = promisify(inflateRaw) as unknown as (
  bytes: Uint8Array,
  options: ZlibOptions & { info: true },
) => Promise<{ buffer: Buffer; engine: { bytesWritten: number } }>;

/** Raw deflate by zlib, in the thread pool. One output buffer holds all: each further one is another trip to the pool. */
export const codec: Codec = {
  deflate: (bytes) => deflate(bytes, { level: LEVEL, chunkSize: bytes.length + MIN_CHUNK }),
  inflate: async (bytes, size) => {
    const { buffer, engine } = await inflate(bytes, {
      maxOutputLength: size,
      chunkSize: size + MIN_CHUNK,
      info: true,
    });
    if (engine.bytesWritten !== bytes.length)
      throw new RangeError("something stands behind the packed bytes");
    return buffer;
  },
};
