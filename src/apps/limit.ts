/** A cap on the rate: at most so many bytes a second, smoothly. */
import type { Source } from "./endpoints.ts";

/** Bytes go in slices of a twentieth of a second's worth, so that a low rate does not come in bursts. */
const SLICES = 20;

/** Whoever takes bytes waits until the ones before are paid for. */
export class Pacer {
  /** The largest piece to take at a time. */
  readonly slice: number;
  readonly #bytesPerSecond: number;
  #due = performance.now();
  #wake: (() => void) | undefined;

  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond;
    this.slice = Math.max(1, Math.floor(bytesPerSecond / SLICES));
  }

  /** Resolves when `bytes` more may go. One caller at a time. */
  async take(bytes: number): Promise<void> {
    const wait = this.#due - performance.now();
    this.#due = Math.max(this.#due, performance.now()) + (bytes / this.#bytesPerSecond) * 1000;
    if (wait > 0) await new Promise<void>((resolve) => ((this.#wake = resolve), setTimeout(resolve, wait)));
  }

  /** Lets the one who waits go on at once. */
  cancel(): void {
    this.#wake?.();
  }
}

/** A source that gives at most so many bytes a second. */
export function limitSource(source: Source, bytesPerSecond: number): Source {
  const pacer = new Pacer(bytesPerSecond);
  let rest: Uint8Array | undefined;
  return {
    read: async () => {
      rest ??= await source.read();
      const part = rest?.subarray(0, pacer.slice);
      if (!rest || !part) return undefined;
      rest = rest.length > part.length ? rest.subarray(part.length) : undefined;
      await pacer.take(part.length);
      return part;
    },
    cancel: () => {
      pacer.cancel();
      source.cancel();
    },
  };
}
