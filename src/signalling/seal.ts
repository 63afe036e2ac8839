/**
 * What the server in between may not read. Section 8 of docs/protocol.md: what travels through a mailbox after the key exchange. XChaCha20-Poly1305
 * (draft-irtf-cfrg-xchacha) with a random nonce, under a key for each direction; the body's number is authenticated along
 * with it, so that nobody can pass a body off as another one, or send it back.
 */
import { chacha20poly1305, xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { DcpipeError } from "../errors.ts";
import { NONCE_SIZE } from "../wire/introduction.ts";

/** 32 bytes each, from the key schedule. */
export interface SealingKeys {
  readonly mine: Uint8Array;
  readonly theirs: Uint8Array;
}

export interface Sealed {
  readonly nonce: Uint8Array;
  /** 16 bytes longer than the plaintext. */
  readonly ciphertext: Uint8Array;
}

export class Seal {
  readonly #keys: SealingKeys;

  constructor(keys: SealingKeys) {
    this.#keys = keys;
  }

  /** Seals this side's body number `index`, 0 to 255. */
  seal(index: number, plaintext: Uint8Array): Sealed {
    // Random nonces of 24 bytes do not meet, so a body may be sealed again after a lost connection.
    const nonce = crypto.getRandomValues(new Uint8Array(NONCE_SIZE));
    const ciphertext = xchacha20poly1305(this.#keys.mine, nonce, numbered(index)).encrypt(plaintext);
    return { nonce, ciphertext };
  }

  /** The other side's body number `index`. Throws AUTH_FAILED for anything but what was sealed there with this number. */
  open(index: number, nonce: Uint8Array, ciphertext: Uint8Array): Uint8Array {
    try {
      return xchacha20poly1305(this.#keys.theirs, nonce, numbered(index)).decrypt(ciphertext);
    } catch (cause) {
      throw new DcpipeError("AUTH_FAILED", "a sealed message was altered on its way", { cause });
    }
  }
}

/**
 * Section 3.5: what travels through a relay, in order and without gaps. ChaCha20-Poly1305 (RFC 8439), the message's number as nonce; so each
 * key serves one connection and one direction.
 */
export class SequenceSeal {
  readonly #keys: SealingKeys;
  #sealed = 0;
  #opened = 0;

  constructor(keys: SealingKeys) {
    this.#keys = keys;
  }

  /** Seals this side's next message: 16 bytes longer. */
  seal(plaintext: Uint8Array): Uint8Array {
    return chacha20poly1305(this.#keys.mine, sequenceNonce(this.#sealed++)).encrypt(plaintext);
  }

  /** The other side's next message. Throws AUTH_FAILED for anything else. */
  open(ciphertext: Uint8Array): Uint8Array {
    try {
      return chacha20poly1305(this.#keys.theirs, sequenceNonce(this.#opened++)).decrypt(ciphertext);
    } catch (cause) {
      throw new DcpipeError("AUTH_FAILED", "a relayed message was altered on its way, or left out", {
        cause,
      });
    }
  }
}

/** RFC 8439, section 2.8: 96 bits that never come twice under a key. */
function sequenceNonce(number: number): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, BigInt(number));
  return nonce;
}

function numbered(index: number): Uint8Array {
  if (!Number.isInteger(index) || index < 0 || index > 255) throw new RangeError(`not a u8: ${index}`);
  return Uint8Array.of(index);
}
