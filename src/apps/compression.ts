/**
 * Whether to compress. It pays when the path is the bottleneck and not this machine: when what waits for the path already will
 * keep it busy for as long as compressing takes. Both are measured as they happen. What does not shrink is left alone for a
 * while, longer each time.
 */
import type { Stream } from "../session/stream.ts";
import type { Codec } from "./endpoints.ts";

/** The rate of the path is taken over at least this time, milliseconds. */
const RATE_MS = 250;
/** A block must shrink to this part of itself to be sent compressed. */
const WORTH = 0.95;
/** After blocks that did not shrink, so many are left alone at most. */
const MAX_PAUSE = 32;
/** What the path can do is the best of so many measurements: less was seen when less was sent. */
const RATES = 20;
/** What is left of a cost with each block that it keeps from being compressed. */
const FORGET = 0.9;
/** How much a new measurement counts against all before. */
const WEIGHT = 0.3;
/** Shorter blocks have nothing to gain. */
const MIN_SIZE = 128;

export class Compression {
  readonly #codec: Codec;
  readonly #stream: Stream;
  /** Milliseconds for a byte to be compressed; undefined before the first. */
  #cost: number | undefined;
  /** The last rates of the path, bytes a millisecond. */
  #rates: number[] = [];
  #since = { time: performance.now(), acknowledged: 0 };
  /** Blocks to leave alone now, and after the next that does not shrink. */
  #pause = 0;
  #nextPause = 1;

  constructor(codec: Codec, stream: Stream) {
    this.#codec = codec;
    this.#stream = stream;
  }

  /** Whether to try with the next block. Ask once a block. */
  pays(length: number): boolean {
    this.#measurePath();
    if (length < MIN_SIZE) return false;
    if (this.#pause > 0) {
      this.#pause--;
      return false;
    }
    // At first nothing is known, and every path starts slowly.
    if (this.#cost === undefined || this.#rates.length === 0) return true;
    if (this.#stream.memory.pending / Math.max(...this.#rates) >= this.#cost * length) return true;
    // It may have been slow because the machine was busy just then.
    this.#cost *= FORGET;
    return false;
  }

  /** Another kind of content comes. */
  refresh(): void {
    this.#pause = 0;
    this.#nextPause = 1;
  }

  /** The block compressed, or undefined when that is no gain. */
  async pack(block: Uint8Array): Promise<Uint8Array | undefined> {
    const started = performance.now();
    const packed = await this.#codec.deflate(block);
    this.#cost = weigh(this.#cost, (performance.now() - started) / block.length);
    if (packed.length > block.length * WORTH) {
      this.#pause = this.#nextPause;
      this.#nextPause = Math.min(MAX_PAUSE, this.#nextPause * 2);
      return undefined;
    }
    this.#nextPause = 1;
    return packed;
  }

  #measurePath(): void {
    const now = performance.now();
    const { time, acknowledged } = this.#since;
    if (now - time < RATE_MS) return;
    const bytes = this.#stream.acknowledged - acknowledged;
    if (bytes > 0) this.#rates.push(bytes / (now - time));
    if (this.#rates.length > RATES) this.#rates.shift();
    this.#since = { time: now, acknowledged: this.#stream.acknowledged };
  }
}

function weigh(before: number | undefined, now: number): number {
  return before === undefined ? now : before * (1 - WEIGHT) + now * WEIGHT;
}
