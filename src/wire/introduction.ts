/**
 * Section 8 of docs/protocol.md: what two strangers with the same code say to each other through a mailbox. The first three are
 * the key exchange, in the clear; all after it is sealed.
 *
 *   HELLO    0x01 | point 32 | fingerprint 32            joining side, its body 0
 *   ANSWER   0x02 | point 32 | fingerprint 32 | tag 32   waiting side, its body 0
 *   CONFIRM  0x03 | tag 32                               joining side, its body 1
 *   SEALED   0x04 | nonce 24 | ciphertext                either side, from then on
 *
 * What is sealed is a list of addresses: 0x01 | candidates (section 2.1); at the door of a known peer (section 10.2) a knock:
 * 0x02 | nonce 16.
 */
import { protocolError, Reader, Writer } from "./bytes.ts";
import { readCandidates, writeCandidates, type Candidate } from "./candidate.ts";
import { FINGERPRINT_SIZE } from "./token.ts";

/** A ristretto255 element (RFC 9496). */
export const POINT_SIZE = 32;
/** HMAC-SHA256 of the key confirmation. */
export const TAG_SIZE = 32;
/** XChaCha20-Poly1305. */
export const NONCE_SIZE = 24;
const SEAL_TAG_SIZE = 16;
/** Of a knock: no two sessions of a pair have the same. */
export const KNOCK_NONCE_SIZE = 16;

export type IntroductionMessage =
  | { type: "HELLO"; point: Uint8Array; fingerprint: Uint8Array }
  | { type: "ANSWER"; point: Uint8Array; fingerprint: Uint8Array; tag: Uint8Array }
  | { type: "CONFIRM"; tag: Uint8Array }
  | { type: "SEALED"; nonce: Uint8Array; ciphertext: Uint8Array };

export function encodeIntroduction(message: IntroductionMessage): Uint8Array {
  const writer = new Writer(128);
  switch (message.type) {
    case "HELLO":
      return writer.u8(1).raw(message.point).raw(message.fingerprint).finish();
    case "ANSWER":
      return writer.u8(2).raw(message.point).raw(message.fingerprint).raw(message.tag).finish();
    case "CONFIRM":
      return writer.u8(3).raw(message.tag).finish();
    case "SEALED":
      return writer.u8(4).raw(message.nonce).raw(message.ciphertext).finish();
  }
}

/** Throws PROTOCOL. */
export function decodeIntroduction(bytes: Uint8Array): IntroductionMessage {
  const reader = new Reader(bytes);
  const message = read(reader);
  reader.end();
  return message;
}

function read(reader: Reader): IntroductionMessage {
  switch (reader.u8()) {
    case 1:
      return { type: "HELLO", point: reader.take(POINT_SIZE), fingerprint: reader.take(FINGERPRINT_SIZE) };
    case 2:
      return {
        type: "ANSWER",
        point: reader.take(POINT_SIZE),
        fingerprint: reader.take(FINGERPRINT_SIZE),
        tag: reader.take(TAG_SIZE),
      };
    case 3:
      return { type: "CONFIRM", tag: reader.take(TAG_SIZE) };
    case 4: {
      const nonce = reader.take(NONCE_SIZE);
      if (reader.remaining <= SEAL_TAG_SIZE) throw protocolError("message ends early");
      return { type: "SEALED", nonce, ciphertext: reader.take(reader.remaining) };
    }
    default:
      throw protocolError("unknown message of an introduction");
  }
}

/** What is sealed. */
export function encodeAddresses(candidates: readonly Candidate[]): Uint8Array {
  const writer = new Writer(64).u8(1);
  writeCandidates(writer, candidates);
  return writer.finish();
}

/** Throws PROTOCOL. */
export function decodeAddresses(bytes: Uint8Array): Candidate[] {
  const reader = new Reader(bytes);
  if (reader.u8() !== 1) throw protocolError("unknown sealed message");
  const candidates = readCandidates(reader);
  reader.end();
  return candidates;
}

/** What is sealed at a door: the nonce of the session that is to be. */
export function encodeKnock(nonce: Uint8Array): Uint8Array {
  return new Writer(1 + KNOCK_NONCE_SIZE).u8(2).raw(nonce).finish();
}

/** Throws PROTOCOL. */
export function decodeKnock(bytes: Uint8Array): Uint8Array {
  const reader = new Reader(bytes);
  if (reader.u8() !== 2) throw protocolError("no knock");
  const nonce = reader.take(KNOCK_NONCE_SIZE).slice();
  reader.end();
  return nonce;
}
