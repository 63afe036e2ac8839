/**
 * Section 5 of docs/protocol.md: what a stream is for, the header in OPEN. The joining side opens the first stream and says
 * what it does; a waiting side that does not do the counterpart refuses.
 *
 *   kind u8:  pipe 0x01 | send 0x02 (the opener sends files) | receive 0x03 (the opener receives files)
 */
import { protocolError, Reader, Writer } from "./bytes.ts";

export type StreamKind = "pipe" | "send" | "receive";

export interface StreamHeader {
  readonly kind: StreamKind;
}

const KINDS: readonly (StreamKind | undefined)[] = [undefined, "pipe", "send", "receive"];

export function encodeHeader(header: StreamHeader): Uint8Array {
  return new Writer(8).u8(KINDS.indexOf(header.kind)).finish();
}

/** Throws PROTOCOL. */
export function decodeHeader(bytes: Uint8Array): StreamHeader {
  const reader = new Reader(bytes);
  const number = reader.u8();
  const kind = KINDS[number];
  if (!kind) throw protocolError(`unknown kind of stream ${number}`);
  reader.end();
  return { kind };
}
