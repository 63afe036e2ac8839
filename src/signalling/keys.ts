/**
 * Section 2.3 of docs/protocol.md: the key schedule. One secret, pasted or agreed on by a PAKE, and everything else derived:
 *
 *   prk = HKDF-Extract(salt = "dcpipe 1", secret)                                   RFC 5869, SHA-256
 *
 *   HKDF-Expand(prk, info)            info                                  bytes
 *   ICE ufrag and pwd of a side       "ice ROLE EPOCH INDEX"                6 + 18, as base64 (8 + 24 characters)
 *   joining side's certificate seed   "certificate joining"                 48
 *   offer id                          "offer id"                            4
 *   proof key of a side               "proof ROLE"                          32
 *
 *   proof = HMAC-SHA256(proof key, "EPOCH INDEX" | waiting fingerprint | joining fingerprint), first 16 bytes
 */
import { expand, extract } from "@noble/hashes/hkdf.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { PROOF_SIZE, type Role } from "../wire/hello.ts";
import { OFFER_ID_SIZE } from "../wire/token.ts";

export interface Fingerprints {
  readonly waiting: Uint8Array;
  readonly joining: Uint8Array;
}

export class Keys {
  readonly #prk: Uint8Array;

  constructor(secret: Uint8Array) {
    this.#prk = extract(sha256, secret, ascii("dcpipe 1"));
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
    const context = ascii(`${epoch} ${index}`);
    const data = new Uint8Array(context.length + waiting.length + joining.length);
    data.set(context);
    data.set(waiting, context.length);
    data.set(joining, context.length + waiting.length);
    return hmac(sha256, this.#expand(`proof ${role}`, 32), data).subarray(0, PROOF_SIZE);
  }

  #expand(info: string, length: number): Uint8Array {
    return expand(sha256, this.#prk, ascii(info), length);
  }
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}
