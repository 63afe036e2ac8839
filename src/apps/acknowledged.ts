/** How much content the other side holds: what its acknowledgements of the stream's bytes mean in content. */
import type { Stream } from "../session/stream.ts";

export class Acknowledged {
  readonly #stream: Stream;
  /** Up to this offset of the stream there is so much content more; in order. */
  #marks: { readonly offset: number; readonly content: number }[] = [];
  /** Content that was handed over, that is acknowledged, and that the other side had before. */
  #given = 0;
  #held = 0;
  #skipped = 0;
  #file = { given: 0, skipped: 0, total: 0 as number | undefined };

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /** Another file's content follows. */
  begin(total: number | undefined): void {
    this.#file = { given: this.#given, skipped: this.#skipped, total };
  }

  /** So much content is on its way to the stream. */
  give(content: number): void {
    this.#given += content;
  }

  /** The bytes of the stream before `offset` hold so much content more. */
  sent(offset: number, content: number): void {
    if (content > 0) this.#marks.push({ offset, content });
  }

  /** The other side has so much already. */
  skip(content: number): void {
    this.#skipped += content;
  }

  state(): { readonly bytes: number; readonly file: { bytes: number; total: number | undefined } } {
    const { acknowledged } = this.#stream;
    let done = 0;
    for (const { offset, content } of this.#marks) {
      if (offset > acknowledged) break;
      this.#held += content;
      done++;
    }
    this.#marks.splice(0, done);
    const bytes = Math.max(0, this.#held - this.#file.given) + this.#skipped - this.#file.skipped;
    return { bytes: this.#held + this.#skipped, file: { bytes, total: this.#file.total } };
  }
}
