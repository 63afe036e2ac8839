/** A source of bytes that are given to it one after the other: what is typed, and files. */
import type { Source } from "../browser.ts";

/** Of a file, so much is read at a time. */
const CHUNK = 256 * 1024;

export class GivenBytes implements Source {
  readonly #queue: (Uint8Array | Blob)[] = [];
  #ended = false;
  #wake: (() => void) | undefined;
  /** The file at work, and how far it is. */
  #file: { readonly blob: Blob; at: number } | undefined;

  /** Nothing happens after the end. */
  give(what: Uint8Array | Blob): void {
    if (!this.#ended) this.#queue.push(what);
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async read(): Promise<Uint8Array | undefined> {
    for (;;) {
      if (this.#file) {
        const { blob, at } = this.#file;
        if (at < blob.size) {
          this.#file.at = Math.min(at + CHUNK, blob.size);
          return new Uint8Array(await blob.slice(at, this.#file.at).arrayBuffer());
        }
        this.#file = undefined;
      }
      const next = this.#queue.shift();
      if (next instanceof Blob) this.#file = { blob: next, at: 0 };
      else if (next) return next;
      else if (this.#ended) return undefined;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  cancel(): void {
    this.#queue.length = 0;
    this.end();
  }
}
