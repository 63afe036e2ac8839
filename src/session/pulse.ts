/**
 * The pulse of a session: PING and PONG, the round-trip time they show, and the silence that means death. Time is that of
 * `performance.now()`, in milliseconds.
 */
import { DcpipeError } from "../errors.ts";

/** A question every 2.5 s, and silence of 10 s is death: sooner than the 13 s after which SCTP gives up. */
export const HEARTBEAT_MS = 2500;
export const DEAD_MS = 10_000;
/** How often `tick` is called, and while the lanes are full also how often a question goes out. */
export const TICK_MS = 250;
/** The first answers come from a process that has just started: a few more, at once, tell better. */
const WARM_UP_PINGS = 4;
/** Below this a path may be short, and only a few answers tell. */
const UNSURE_MS = 30;
/** At four a second under load: one and a half seconds. */
const RTT_SAMPLES = 6;
/** Questions that may be open; more are as good as unasked. */
const MAX_OPEN = 64;

export class Pulse {
  /** Smoothed round-trip time, 0 while unknown. */
  rtt = 0;
  readonly #ask: (id: number) => void;
  #open = new Map<number, number>();
  #next = 0;
  #asked = 0;
  #silence = 0;
  #tickTime = performance.now();
  #samples: number[] = [];
  #least = Infinity;

  /** `ask` sends PING with the given id. */
  constructor(ask: (id: number) => void) {
    this.#ask = ask;
  }

  /** Round-trip time of the path without our own queue in it, 0 while unknown. */
  get leastRtt(): number {
    return this.#least === Infinity ? 0 : this.#least;
  }

  /** The path as it is now, whatever chance loses: the median of the last answers. */
  get recentRtt(): number {
    return [...this.#samples].sort((a, b) => a - b)[this.#samples.length >> 1] ?? 0;
  }

  /** Enough is known to tell a short path from a long one. */
  get sure(): boolean {
    return this.#samples.length >= WARM_UP_PINGS || (this.rtt > 0 && this.#least >= UNSURE_MS);
  }

  /** How long nothing has been heard while we listened. */
  get silence(): number {
    return this.#silence;
  }

  /** Something came. */
  heard(): void {
    this.#silence = 0;
  }

  /** A new path: what was measured on the old one does not count. */
  renew(): void {
    this.#open.clear();
    this.#samples = [];
    this.#least = Infinity;
    this.#silence = 0;
    this.ping();
  }

  ping(): void {
    this.#asked = performance.now();
    const id = this.#next++;
    if (this.#open.size < MAX_OPEN) this.#open.set(id, this.#asked);
    this.#ask(id);
  }

  /** Takes an answer; true for the first of all. Throws PROTOCOL when the question was not asked. */
  pong(id: number): boolean {
    if (id >= this.#next) throw new DcpipeError("PROTOCOL", "an answer to a question that was not asked");
    const asked = this.#open.get(id);
    if (asked === undefined) return false;
    this.#open.delete(id);
    const sample = performance.now() - asked;
    this.#least = Math.min(this.#least, sample);
    this.#samples = [...this.#samples.slice(1 - RTT_SAMPLES), sample];
    const first = this.rtt === 0;
    this.rtt = first ? sample : this.rtt * 0.75 + sample * 0.25;
    if (this.#samples.length < WARM_UP_PINGS) this.ping();
    return first;
  }

  /** Time passes; asks when it is due, more often while `busy`. */
  tick(busy: boolean): void {
    const now = performance.now();
    // A process that was stopped has heard nothing because it did not listen: late ticks count as one.
    this.#silence += Math.min(now - this.#tickTime, 2 * TICK_MS);
    this.#tickTime = now;
    if (this.#silence < DEAD_MS && now - this.#asked >= (busy ? TICK_MS : HEARTBEAT_MS)) this.ping();
  }

  /** Time passes while there is nobody to listen to. */
  pause(): void {
    this.#tickTime = performance.now();
  }
}
