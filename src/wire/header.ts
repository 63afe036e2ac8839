/**
 * Section 5 of docs/protocol.md: what a stream is for, the header in OPEN.
 *
 *   kind u8 | kind's own fields
 *   pipe  0x01
 *   file  0x02
 */
import { protocolError, Reader, Writer } from "./bytes.ts";

export type StreamHeader = { readonly kind: "pipe" } | { readonly kind: "file" };

const KINDS = { pipe: 0x01, file: 0x02 } as const;

export function encodeHeader(header: StreamHeader): Uint8Array {
  return new Writer(8).u8(KINDS[header.kind]).finish();
}

/** Throws PROTOCOL. */
export function decodeHeader(bytes: Uint8Array): StreamHeader {
  const reader = new Reader(bytes);
  const number = reader.u8();
  const kind = number === KINDS.pipe ? "pipe" : number === KINDS.file ? "file" : undefined;
  if (!kind) throw protocolError(`unknown kind of stream ${number}`);
  reader.end();
  return { kind };
}
