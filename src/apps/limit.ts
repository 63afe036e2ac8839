/** A source that gives at most so many bytes a second, smoothly: a chunk waits until the ones before it are paid for. */
import type { Source } from "./endpoints.ts";

/** Chunks are cut to a twentieth of a second's worth, so that a low rate does not come in bursts. */
const SLICES = 20;

export function limitSource<S extends Source>(source: S, bytesPerSecond: number): S {
  const slice = Math.max(1, Math.floor(bytesPerSecond / SLICES));
  let rest: Uint8Array | undefined;
  let due = performance.now();
  let wake: (() => void) | undefined;
  const limited: Source = {
    read: async () => {
      const wait = due - performance.now();
      if (wait > 0) await new Promise<void>((resolve) => ((wake = resolve), setTimeout(resolve, wait)));
      rest ??= await source.read();
      const part = rest?.subarray(0, slice);
      if (!rest || !part) return undefined;
      rest = rest.length > part.length ? rest.subarray(part.length) : undefined;
      due = Math.max(due, performance.now()) + (part.length / bytesPerSecond) * 1000;
      return part;
    },
    cancel: () => {
      wake?.();
      source.cancel();
    },
  };
  return Object.assign(Object.create(source) as S, limited);
}
