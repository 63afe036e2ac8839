/** The rate over the last seconds. */

const WINDOW_MS = 5000;
/** Samples no closer than this: at most so many are kept. */
const SAMPLE_MS = 100;

export class Speed {
  #samples: { readonly time: number; readonly bytes: number }[] = [];

  /** `bytes`: all until now; `time`: milliseconds. */
  add(time: number, bytes: number): void {
    const last = this.#samples.at(-1);
    if (last && time - last.time < SAMPLE_MS) return;
    this.#samples.push({ time, bytes });
    while (this.#samples.length > 2 && time - (this.#samples[0]?.time ?? time) > WINDOW_MS)
      this.#samples.shift();
  }

  /** Bytes a second; 0 when nothing came in the last seconds. */
  get rate(): number {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (!first || !last || last.time === first.time) return 0;
    return Math.max(0, ((last.bytes - first.bytes) / (last.time - first.time)) * 1000);
  }
}
