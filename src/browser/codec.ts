import type { Codec } from "../apps/endpoints.ts";

/** Raw deflate by the browser, which does it beside the page. */
export const codec: Codec = {
  deflate: (bytes) => through(bytes, new CompressionStream("deflate-raw"), Infinity),
  // What stands behind the packed bytes is an error of the stream's.
  inflate: (bytes, size) => through(bytes, new DecompressionStream("deflate-raw"), size),
};

/** Rejects when more than `size` bytes come out. */
async function through(
  bytes: Uint8Array,
  { readable, writable }: CompressionStream | DecompressionStream,
  size: number,
): Promise<Uint8Array> {
  const writer = writable.getWriter();
  // What is wrong with the bytes is told by reading, too.
  writer.write(bytes.slice()).catch(() => undefined);
  writer.close().catch(() => undefined);
  const parts: Uint8Array[] = [];
  let total = 0;
  for await (const part of readable as unknown as AsyncIterable<Uint8Array>) {
    total += part.length;
    // Leaving the loop cancels the stream.
    if (total > size) throw new RangeError("more than was announced");
    parts.push(part);
  }
  const out = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
