/**
 * Section 10.1 of docs/protocol.md: how two sides of a session come to remember each other, on a stream of kind `remember`. Records both
 * ways: length varint | type u8 | fields.
 *
 *   REMEMBER  0x01 | host text | name text | fingerprint 32 | random 32    what I call myself, what I shall call you, my certificate
 *   STORED    0x02                                                         I have it on disk
 */
import { clipText, protocolError, Reader, Writer } from "./bytes.ts";
import { FINGERPRINT_SIZE } from "./token.ts";

export type RememberRecord =
  | {
      readonly type: "REMEMBER";
      /** Both for people only. */
      readonly host: string;
      readonly name: string;
      /** SHA-256 of the certificate that this side will have for the other. */
      readonly fingerprint: Uint8Array;
      readonly random: Uint8Array;
    }
  | { readonly type: "STORED" };

/** A label of a host name (RFC 1035, section 2.3.4), and of ours for peers. */
export const MAX_PEER_NAME = 63;
export const RANDOM_SIZE = 32;
/** REMEMBER with two names of full length. */
export const MAX_REMEMBER_RECORD = 256;

/** One record with its length in front. */
export function encodeRememberRecord(record: RememberRecord): Uint8Array {
  const writer = new Writer();
  if (record.type === "STORED") writer.u8(2);
  else {
    writer.u8(1).text(clipText(record.host, MAX_PEER_NAME)).text(clipText(record.name, MAX_PEER_NAME));
    writer.raw(record.fingerprint).raw(record.random);
  }
  const body = writer.finish();
  return new Writer(body.length + 2).bytes(body).finish();
}

/** The record in `bytes`, which its length has been taken off. Throws PROTOCOL. */
export function decodeRememberRecord(bytes: Uint8Array): RememberRecord {
  const reader = new Reader(bytes);
  const type = reader.u8();
  if (type !== 1 && type !== 2) throw protocolError("unknown record of a pairing");
  const record: RememberRecord =
    type === 2
      ? { type: "STORED" }
      : {
          type: "REMEMBER",
          host: reader.text(MAX_PEER_NAME),
          name: reader.text(MAX_PEER_NAME),
          fingerprint: reader.take(FINGERPRINT_SIZE).slice(),
          random: reader.take(RANDOM_SIZE).slice(),
        };
  reader.end();
  return record;
}
