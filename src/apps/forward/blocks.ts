/** Blocks on a stream: length varint | bytes. */
import { protocolError, Reader, varintSize, Writer } from "../../wire/bytes.ts";

/** Where blocks come from: a stream. */
interface Bytes {
  read(): Promise<Uint8Array | undefined>;
}

export function encodeBlock(bytes: Uint8Array): Uint8Array {
  return new Writer(bytes.length + 4).bytes(bytes).finish();
}

/** Each block in turn, until the end of the stream. Throws PROTOCOL for one of more than `max` bytes, and for half a one. */
export async function* readBlocks(stream: Bytes, max: number): AsyncGenerator<Uint8Array, void, void> {
  let rest: Uint8Array = new Uint8Array(0);
  for (let chunk = await stream.read(); chunk; chunk = await stream.read()) {
    rest = rest.length === 0 ? chunk : concat(rest, chunk);
    for (let block = take(rest, max); block; block = take(rest, max)) {
      rest = rest.subarray(varintSize(block.length) + block.length);
      yield block;
    }
  }
  if (rest.length > 0) throw protocolError("the stream ends in the middle of a block");
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const whole = new Uint8Array(a.length + b.length);
  whole.set(a);
  whole.set(b, a.length);
  return whole;
}

/** The first block, undefined while it is not whole. */
function take(bytes: Uint8Array, max: number): Uint8Array | undefined {
  const first = bytes[0];
  if (first === undefined || bytes.length < 1 << (first >> 6)) return undefined;
  const reader = new Reader(bytes);
  const length = reader.varint(max);
  return reader.remaining < length ? undefined : reader.take(length);
}
