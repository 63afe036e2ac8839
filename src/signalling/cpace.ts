/**
 * Section 8 of docs/protocol.md: CPace, the key exchange of two people who share no more than two words. Suite
 * CPACE-RISTR255-SHA512 of draft-irtf-cfrg-cpace, over ristretto255 (RFC 9496), initiator and responder:
 *
 *   g    = the generator that password, context and session id name     both sides, before anybody has spoken
 *   Y    = y * g, y random                                              the share that is sent
 *   K    = y * the other side's share                                   never leaves this file
 *   ISK  = SHA-512(lv_cat("CPaceRistretto255_ISK", sid, K) | lv_cat(Ya, ADa) | lv_cat(Yb, ADb))      64 bytes
 *
 * Each run lets whoever is at the other end try one password, and no more: what was sent says nothing about the others.
 */
import { ristretto255, ristretto255_hasher } from "@noble/curves/ed25519.js";
import { bytesToNumberLE } from "@noble/curves/utils.js";
import { sha512 } from "@noble/hashes/sha2.js";
import { concatBytes } from "@noble/hashes/utils.js";
import { protocolError } from "../wire/bytes.ts";
import { RENDEZVOUS_PROTOCOL } from "../wire/rendezvous.ts";

/** Half of a run: `point` is sent, `secret` is kept, and used for one run only. 32 bytes each. */
export interface Share {
  readonly secret: Uint8Array;
  readonly point: Uint8Array;
}

/** What one side has sent: its share, and data that both sides must have seen alike. */
export interface SentShare {
  readonly point: Uint8Array;
  readonly data: Uint8Array;
}

export interface Run {
  /** Of this side's share. */
  readonly secret: Uint8Array;
  /** The other side's point, as it came. */
  readonly theirs: Uint8Array;
  readonly sid: Uint8Array;
  readonly initiator: SentShare;
  readonly responder: SentShare;
}

const DSI = "CPaceRistretto255";
const SECRET_SIZE = 32;
/** Input block of SHA-512: name and password fill the first one, so that what follows says nothing about the password's length. */
const BLOCK_SIZE = 128;

/** CI of a code: what this is for, the names of initiator and responder, and where they meet. */
export function codeContext(nameplate: number): Uint8Array {
  return lvCat(...[RENDEZVOUS_PROTOCOL, "waiting", "joining", `${nameplate}`].map(ascii));
}

/** calculate_generator of the draft: the encoded generator, 32 bytes. As secret as the password. */
export function generator(prs: Uint8Array, ci: Uint8Array, sid: Uint8Array): Uint8Array {
  const padding = Math.max(0, BLOCK_SIZE - 1 - lvCat(prs).length - lvCat(ascii(DSI)).length);
  const hash = sha512(lvCat(ascii(DSI), prs, new Uint8Array(padding), ci, sid));
  // Its type is that of all curves, of which not all have it.
  const element = ristretto255_hasher.deriveToCurve?.(hash);
  if (!element) throw new TypeError("ristretto255 without element derivation");
  return element.toBytes();
}

/** A share of a fresh secret; tests give the secret. */
export function createShare(g: Uint8Array, secret: Uint8Array = sampleScalar()): Share {
  return { secret, point: multiply(secret, ristretto255.Point.fromBytes(g)) };
}

/**
 * The intermediate session key, 64 bytes, to be put through a key schedule (signalling/keys.ts). The same on both sides when
 * password, context, session id and both shares with their data are; otherwise it is another one, and only key confirmation
 * tells. Throws PROTOCOL for a point that is none, or the identity.
 */
export function sharedSecret({ secret, theirs, sid, initiator, responder }: Run): Uint8Array {
  const k = multiply(secret, decodePoint(theirs));
  const head = lvCat(ascii(`${DSI}_ISK`), sid, k);
  return sha512(
    concatBytes(head, lvCat(initiator.point, initiator.data), lvCat(responder.point, responder.data)),
  );
}

/** lv_cat of the draft: each part behind its length in LEB128. */
export function lvCat(...parts: readonly Uint8Array[]): Uint8Array {
  return concatBytes(...parts.flatMap((part) => [leb128(part.length), part]));
}

type Point = InstanceType<typeof ristretto255.Point>;

function multiply(scalar: Uint8Array, point: Point): Uint8Array {
  return point.multiply(bytesToNumberLE(scalar)).toBytes();
}

/** The group has prime order, so the product is the identity only when the point is: it is enough to look here. */
function decodePoint(bytes: Uint8Array): Point {
  let point: Point;
  try {
    point = ristretto255.Point.fromBytes(bytes);
  } catch {
    throw protocolError("no point of the group");
  }
  if (point.is0()) throw protocolError("the identity in place of a share");
  return point;
}

/** sample_scalar as the draft recommends it: 252 random bits, little endian. */
function sampleScalar(): Uint8Array {
  const bytes = crypto.getRandomValues(new Uint8Array(SECRET_SIZE));
  bytes[SECRET_SIZE - 1] = (bytes[SECRET_SIZE - 1] ?? 0) & 0x0f;
  return bytes;
}

function leb128(value: number): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value; bytes.length === 0 || rest > 0; rest >>>= 7)
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
  return Uint8Array.from(bytes);
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}
