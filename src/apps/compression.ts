/**
 * Whether to compress. It pays when the path is the bottleneck and not this machine: when the time that the saved bytes would
 * take on the path is more than what compressing takes. Both are measured as they happen. What does not shrink is left alone
 * for a while, longer each time.
 */
import type { Stream } from "../session/stream.ts";
import type { Codec } from "./endpoints.ts";

/** The rate of the path is taken over at least this time, milliseconds. */
const RATE_MS = 250;
/** A block must shrink to this part of itself to be sent compressed. */
const WORTH = 0.95;
/** After blocks that did not shrink, so many are left alone at most. */
const MAX_PAUSE = 32;
/** While it does not pay, one block in so many is compressed all the same: paths change. */
const TRIAL = 64;
/** How much a new measurement counts against all before. */
const WEIGHT = 0.3;
/** Shorter blocks have nothing to gain. */
const MIN_SIZE = 128;

export class Compression {
  readonly #codec: Codec;
  readonly #stream: Stream;
  /** Milliseconds for a byte to be compressed, and to travel; undefined before the first measurement. */
  #cost: number | undefined;
  #travel: number | undefined;
  /** What is left of a byte. */
  #ratio = 0.5;
  #since = { time: performance.now(), acknowledged: 0 };
  /** Blocks to leave alone now, and after the next that does not shrink. */
  #pause = 0;
  #nextPause = 1;
  #untried = 0;

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
    if (this.#cost === undefined || this.#travel === undefined) return true;
    if ((1 - this.#ratio) * this.#travel > this.#cost) return true;
    this.#untried = (this.#untried + 1) % TRIAL;
    return this.#untried === 0;
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
    const ratio = packed.length / block.length;
    if (ratio > WORTH) {
      this.#pause = this.#nextPause;
      this.#nextPause = Math.min(MAX_PAUSE, this.#nextPause * 2);
      return undefined;
    }
    this.#ratio = weigh(this.#ratio, ratio);
    this.#nextPause = 1;
    return packed;
  }

  /** An idle path counts as a slow one, and may: there is time to compress. */
  #measurePath(): void {
    const now = performance.now();
    const { time, acknowledged } = this.#since;
    if (now - time < RATE_MS) return;
    const bytes = this.#stream.acknowledged - acknowledged;
    if (bytes > 0) this.#travel = weigh(this.#travel, (now - time) / bytes);
    this.#since = { time: now, acknowledged: this.#stream.acknowledged };
  }
}

function weigh(before: number | undefined, now: number): number {
  return before === undefined ? now : before * (1 - WEIGHT) + now * WEIGHT;
}
