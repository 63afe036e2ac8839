/**
 * Sections 2.3 and 8 of docs/protocol.md: the key schedule. One secret, pasted or agreed on by CPace, and everything else
 * derived:
 *
 *   prk = HKDF-Extract(salt = "dcpipe 1", a token's secret)                         RFC 5869, SHA-256
 *   prk = HKDF-Extract(salt = "dcpipe 1 code", the ISK of a code)
 *   prk = HKDF-Extract(salt = "dcpipe 1 peer", the secret of a known peer | nonce)   a session with it; see known.ts
 *
 *   HKDF-Expand(prk, info)            info                                  bytes
 *   ICE ufrag and pwd of a side       "ice ROLE EPOCH INDEX"                6 + 18, as base64 (8 + 24 characters)
 *   joining side's certificate seed   "certificate joining"                 48
 *   offer id                          "offer id"                            4
 *   proof key of a side               "proof ROLE"                          32
 *
 *   proof = HMAC-SHA256(proof key, "EPOCH INDEX" | waiting fingerprint | joining fingerprint), first 16 bytes
 *
 *   of a code and a known peer only:
 *   confirmation key of a side        "confirm ROLE"                        32
 *   sealing key of a side             "seal ROLE"                           32
 *   name of the mailbox               "mailbox"                             16
 *   name of a relay                   "relay EPOCH INDEX"                   16
 *   key of a relayed HELLO            "relay hello ROLE" | its salt         32
 *   key of what follows it            "relay ROLE" | both salts             32
 *   key of a side's calls and answers "punch ROLE"                          32
 *
 *   tag = HMAC-SHA256(confirmation key, HELLO's point | its fingerprint | ANSWER's point | its fingerprint)
 *
 *   tags of a side that punches = HMAC-SHA256(punch key, "call EPOCH" or "answer EPOCH"), first 16 bytes
 *
 *   for people to compare             "verify" | waiting fingerprint | joining fingerprint      8, a word each
 */
import { expand, extract } from "@noble/hashes/hkdf.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes } from "@noble/hashes/utils.js";
import { passwordFrom } from "../wire/code.ts";
import { PROOF_SIZE, type Role } from "../wire/hello.ts";
import { NAME_SIZE } from "../wire/rendezvous.ts";
import { OFFER_ID_SIZE } from "../wire/token.ts";

export interface Fingerprints {
  readonly waiting: Uint8Array;
  readonly joining: Uint8Array;
}

/** What HELLO and ANSWER of an introduction by code have in common. */
export interface Half {
  readonly point: Uint8Array;
  readonly fingerprint: Uint8Array;
}

/**
 * Words of the short authentication string. Nothing binds a side to its certificate before it has seen the other's share, so somebody in
 * the middle may try certificates until the words agree: with 64 bits that is out of reach.
 */
const VERIFIER_WORDS = 8;
/** Nobody gets to guess more than some thousands of them. */
const PUNCH_TAG_SIZE = 16;

export class Keys {
  readonly #prk: Uint8Array;

  /** Of a token's secret. */
  constructor(secret: Uint8Array, salt: "dcpipe 1" | "dcpipe 1 code" | "dcpipe 1 peer" = "dcpipe 1") {
    this.#prk = extract(sha256, secret, ascii(salt));
  }

  /** Of the intermediate session key that a code gave. */
  static fromCode(isk: Uint8Array): Keys {
    return new Keys(isk, "dcpipe 1 code");
  }

  /** Of one session with a known peer: the secret that both keep, 32 bytes, and the nonce of a knock, 16. */
  static ofPeer(secret: Uint8Array, nonce: Uint8Array): Keys {
    return new Keys(concatBytes(secret, nonce), "dcpipe 1 peer");
  }

  /** ICE credentials of one side for one channel. Fresh for each epoch, so that a dead connection's checks go unanswered. */
  ice(role: Role, epoch: number, index: number): { ufrag: string; pwd: string } {
    const bytes = this.#expand(`ice ${role} ${epoch} ${index}`, 24);
    const text = btoa(String.fromCharCode(...bytes));
    return { ufrag: text.slice(0, 8), pwd: text.slice(8) };
  }

  /** Seed of the joining side's certificate, 48 bytes: both sides know it, so the waiting side can check it. */
  get joiningSeed(): Uint8Array {
    return this.#expand("certificate joining", 48);
  }

  /** What an answer names its offer by, 4 bytes. */
  get offerId(): Uint8Array {
    return this.#expand("offer id", OFFER_ID_SIZE);
  }

  /** Key confirmation for one channel: that side holds the secret and sees the same two certificates. */
  proof(role: Role, epoch: number, index: number, { waiting, joining }: Fingerprints): Uint8Array {
    const data = concatBytes(ascii(`${epoch} ${index}`), waiting, joining);
    return hmac(sha256, this.#expand(`proof ${role}`, 32), data).subarray(0, PROOF_SIZE);
  }

  /** The tag by which one side of an introduction by code shows that it has the same key and saw the same messages, 32 bytes. */
  confirmation(role: Role, hello: Half, answer: Half): Uint8Array {
    const data = concatBytes(hello.point, hello.fingerprint, answer.point, answer.fingerprint);
    return hmac(sha256, this.#expand(`confirm ${role}`, 32), data);
  }

  /** The key under which that side seals what it posts, 32 bytes. */
  sealKey(role: Role): Uint8Array {
    return this.#expand(`seal ${role}`, 32);
  }

  /** The mailbox in which the two meet again, 16 bytes. */
  get mailboxName(): Uint8Array {
    return this.#expand("mailbox", NAME_SIZE);
  }

  /** The relay of a channel, 16 bytes; both sides must find it, so the control channel's is the same in all epochs. */
  relayName(epoch: number, index: number): Uint8Array {
    return this.#expand(`relay ${epoch} ${index}`, NAME_SIZE);
  }

  /** The key under which that side seals its relayed HELLO, for the random salt that goes before it. 32 bytes. */
  relayHelloKey(role: Role, salt: Uint8Array): Uint8Array {
    return expand(sha256, this.#prk, concatBytes(ascii(`relay hello ${role}`), salt), 32);
  }

  /** The key under which that side seals all else. Both salts are in it, so nothing of another connection can be played back. 32 bytes. */
  relayKey(role: Role, salts: { readonly waiting: Uint8Array; readonly joining: Uint8Array }): Uint8Array {
    return expand(sha256, this.#prk, concatBytes(ascii(`relay ${role}`), salts.waiting, salts.joining), 32);
  }

  /** What that side sends to find a hole through both NATs, to be tried in this epoch; 16 bytes each. */
  punchTags(role: Role, epoch: number): { readonly call: Uint8Array; readonly answer: Uint8Array } {
    const key = this.#expand(`punch ${role}`, 32);
    const tag = (kind: string): Uint8Array =>
      hmac(sha256, key, ascii(`${kind} ${epoch}`)).subarray(0, PUNCH_TAG_SIZE);
    return { call: tag("call"), answer: tag("answer") };
  }

  /** The short authentication string, which people compare: both see the same words when nobody sits between them. */
  verifier({ waiting, joining }: Fingerprints): string {
    return passwordFrom(
      expand(sha256, this.#prk, concatBytes(ascii("verify"), waiting, joining), VERIFIER_WORDS),
    );
  }

  #expand(info: string, length: number): Uint8Array {
    return expand(sha256, this.#prk, ascii(info), length);
  }
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}
