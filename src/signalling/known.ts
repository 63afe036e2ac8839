/**
 * Section 10.2 of docs/protocol.md: what two machines that remember each other derive from the secret they share. Side `a` is the one
 * that waited when they were paired.
 *
 *   prk = HKDF-Extract(salt = "dcpipe 1 peer", secret)                      RFC 5869, SHA-256
 *
 *   HKDF-Expand(prk, info)                 info                       bytes
 *   name of a door                         "door SIDE PURPOSE"        16
 *   sealing key of a knock there           "knock SIDE PURPOSE"       32
 *   nameplate on the local network         "lan SIDE"                 4, a number: 100,000 + it modulo 900,000
 *
 *   keys of a session: section 2.3 with prk = HKDF-Extract(salt = "dcpipe 1 peer", secret | nonce of the knock)
 */
import { expand, extract } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import type { Purpose } from "../wire/header.ts";
import { decodeIntroduction, decodeKnock, encodeIntroduction, encodeKnock } from "../wire/introduction.ts";
import { NAME_SIZE } from "../wire/rendezvous.ts";
import { protocolError } from "../wire/bytes.ts";
import { Keys } from "./keys.ts";
import { Seal } from "./seal.ts";

/** Which of the two: `a` waited when they were paired. */
export type PeerSide = "a" | "b";

/** The codes that people meet by have short nameplates. */
const FIRST_NAMEPLATE = 100_000;
const NAMEPLATES = 900_000;

export class PeerKeys {
  readonly #secret: Uint8Array;
  readonly #prk: Uint8Array;

  /** Of the secret that both keep, 32 bytes. */
  constructor(secret: Uint8Array) {
    this.#secret = secret;
    this.#prk = extract(sha256, secret, ascii("dcpipe 1 peer"));
  }

  /** The door behind which that side waits; of what one of the two may wait with when both call each other: `both`. */
  door(side: PeerSide | "both", purpose: Purpose | "files"): DoorKeys {
    return new DoorKeys(
      this.#expand(`door ${side} ${purpose}`, NAME_SIZE),
      this.#expand(`knock ${side} ${purpose}`, 32),
    );
  }

  /** The number under which that side is called on the local network, 100,000 to 999,999. */
  nameplate(side: PeerSide): number {
    const [a = 0, b = 0, c = 0, d = 0] = this.#expand(`lan ${side}`, 4);
    return FIRST_NAMEPLATE + ((((a * 256 + b) * 256 + c) * 256 + d) % NAMEPLATES);
  }

  /** Of the session that a knock with this nonce asks for. */
  session(nonce: Uint8Array): Keys {
    return Keys.ofPeer(this.#secret, nonce);
  }

  #expand(info: string, length: number): Uint8Array {
    return expand(sha256, this.#prk, ascii(info), length);
  }
}

/** A mailbox that two machines know by name, and what is posted there. */
export class DoorKeys {
  /** 16 bytes. */
  readonly name: Uint8Array;
  readonly #seal: Seal;

  constructor(name: Uint8Array, key: Uint8Array) {
    this.name = name;
    // The side that waits posts nothing there.
    this.#seal = new Seal({ mine: key, theirs: key });
  }

  /** The joining side's only body. */
  sealKnock(nonce: Uint8Array): Uint8Array {
    return encodeIntroduction({ type: "SEALED", ...this.#seal.seal(0, encodeKnock(nonce)) });
  }

  /** The nonce of a knock. Throws PROTOCOL, AUTH_FAILED. */
  openKnock(body: Uint8Array, index: number): Uint8Array {
    const message = decodeIntroduction(body);
    if (message.type !== "SEALED") throw protocolError("something else than a knock");
    return decodeKnock(this.#seal.open(index, message.nonce, message.ciphertext));
  }
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}
