/** How long a transfer took: from when it could begin, without the time that people took to meet and to answer. */
import type { Progress } from "../index.ts";

export class Clock {
  #start = performance.now();

  /** As long as nothing has moved, nothing has begun. */
  see({ bytes }: Progress): void {
    if (bytes === 0) this.#start = performance.now();
  }

  get seconds(): number {
    return (performance.now() - this.#start) / 1000;
  }
}
