/**
 * Which nameplates to try for a new mailbox: the shorter the better, and where at most a third is taken, so that who mistypes or
 * guesses mostly finds nobody.
 */
import { MAX_NAMEPLATE } from "../wire/code.ts";

/** Looked at in each length: for one digit that is all of them, for the others a sample. */
export const SAMPLE = 9;
/** Taken ones in a sample from which on the next length is better. */
export const CROWDED = 3;

/** Samples of nameplates with 1, 2, ... 6 digits, each in random order. They are no secret, so the quick dice do. */
export function sampleNameplates(): number[][] {
  const samples: number[][] = [];
  for (let low = 1; low <= MAX_NAMEPLATE; low *= 10) {
    const sample = new Set<number>();
    while (sample.size < SAMPLE) sample.add(low + Math.floor(Math.random() * 9 * low));
    samples.push([...sample]);
  }
  return samples;
}
