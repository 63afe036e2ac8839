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
/** What compressing costs is the median of so many blocks: now and then one waits for a processor that others have. */
const COSTS = 7;
/** What becomes of a block, roughly. */
const SHRUNK = 0.4;
/** Shorter blocks have nothing to gain. */
const MIN_SIZE = 128;

export class Compression {
  readonly #codec: Codec;
  readonly #stream: Stream;
  /** Milliseconds for a byte to be compressed, of the last blocks. */
  #costs: number[] = [];
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

  /** Whether to try with the next block, `packing` bytes being at it already. Ask once a block. */
  pays(length: number, packing = 0): boolean {
    this.#measurePath();
    if (length < MIN_SIZE) return false;
    if (this.#pause > 0) {
      this.#pause--;
      return false;
    }
    // At first nothing is known, and every path starts slowly.
    const cost = [...this.#costs].sort((x, y) => x - y)[this.#costs.length >> 1];
    if (cost === undefined || this.#rates.length === 0) return true;
    const ahead = this.#stream.memory.pending + packing * SHRUNK;
    if (ahead / Math.max(...this.#rates) >= cost * length) return true;
    // Costs that keep blocks from being compressed must not stand for ever.
    this.#costs.shift();
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
    this.#costs = [...this.#costs.slice(1 - COSTS), (performance.now() - started) / block.length];
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
