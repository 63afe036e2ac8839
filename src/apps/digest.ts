/**
 * The digest of content (docs/protocol.md, section 6.3): the SHA-256 of the SHA-256s of its blocks. A browser's own SHA-256, which
 * costs the page less than one in JavaScript, takes nothing but the whole of what it is to hash; so the whole is a block.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import type { Digest } from "./endpoints.ts";

/** Bytes in every block but the last. */
export const DIGEST_BLOCK = 1024 * 1024;

export class ContentDigest {
  readonly #create: () => Digest;
  #block: Digest | undefined;
  #filled = 0;
  #blocks = sha256.create();
  /** Settles when `#blocks` has all blocks that are full. */
  #later: Promise<void> | undefined;

  /** `create` makes the SHA-256 of one block. */
  constructor(create: () => Digest) {
    this.#create = create;
  }

  /** The chunk's bytes are taken before it returns. */
  update(chunk: Uint8Array): void {
    for (let rest = chunk; rest.length > 0;) {
      const part = rest.subarray(0, DIGEST_BLOCK - this.#filled);
      this.#block ??= this.#create();
      this.#block.update(part);
      this.#filled += part.length;
      rest = rest.subarray(part.length);
      if (this.#filled === DIGEST_BLOCK) this.#endBlock(this.#block);
    }
  }

  /** Ends it. */
  async digest(): Promise<Uint8Array> {
    if (this.#block) this.#endBlock(this.#block);
    await this.#later;
    return this.#blocks.digest();
  }

  /** Another one in the same state. */
  copy(): ContentDigest {
    const copy = new ContentDigest(this.#create);
    copy.#block = this.#block?.copy();
    copy.#filled = this.#filled;
    if (this.#later) copy.#follow(this.#later.then(() => void (copy.#blocks = this.#blocks.clone())));
    else copy.#blocks = this.#blocks.clone();
    return copy;
  }

  #endBlock(block: Digest): void {
    this.#block = undefined;
    this.#filled = 0;
    const digest = block.digest();
    if (digest instanceof Uint8Array && !this.#later) {
      this.#blocks.update(digest);
      return;
    }
    const before = this.#later;
    const update = async (): Promise<void> => {
      await before;
      this.#blocks.update(await digest);
    };
    this.#follow(update());
  }

  #follow(later: Promise<void>): void {
    this.#later = later;
    // Told by digest().
    later.catch(() => undefined);
  }
}
