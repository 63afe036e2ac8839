/**
 * The pulse of a session: PING and PONG, the round-trip time they show, and the silence that means death. Time is that of
 * `performance.now()`, in milliseconds.
 */
import { DcpipeError } from "../errors.ts";

/**
 * A question every 2 s; silence of 6 s is death. SCTP would begin anew at 6.2 s or 12.6 s after the cut (its retransmissions double): a
 * new connection is there sooner, when the cut was shorter than that.
 */
export const HEARTBEAT_MS = 2000;
export const DEAD_MS = 6000;
/** Silence, or a question without an answer, for so long is worth a look at other ways to the other side. */
export const SUSPECT_MS = 3000;
/** After something has happened to the network, the answer to the next question must come within this. */
const PROBE_MS = 1500;
/** How often `tick` is called, and while the lanes are full also how often a question goes out. */
export const TICK_MS = 250;
/** The first answers come from a process that has just started: a few more, at once, tell better. */
const WARM_UP_PINGS = 4;
/** Below this a path may be short, and only a few answers tell. */
const UNSURE_MS = 30;
/** At four a second under load: one and a half seconds. */
const RTT_SAMPLES = 6;
/** Questions that may be open; with more, the oldest are given up. */
const MAX_OPEN = 64;

export class Pulse {
  /** Smoothed round-trip time, 0 while unknown. */
  rtt = 0;
  readonly #ask: (id: number) => void;
  #open = new Map<number, number>();
  #next = 0;
  #asked = 0;
  #silence = 0;
  /** How long questions have been open without any answer: we may be heard no more, and hear. */
  #unanswered = 0;
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

  /** The path may be dead, one way or both. */
  get suspicious(): boolean {
    return this.#silence >= SUSPECT_MS || this.#unanswered >= SUSPECT_MS;
  }

  /** Asks ahead of time, with less patience. */
  probe(): void {
    this.#unanswered = Math.max(this.#unanswered, SUSPECT_MS - PROBE_MS);
    this.ping();
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
    this.#unanswered = 0;
    this.ping();
  }

  ping(): void {
    this.#asked = performance.now();
    const id = this.#next++;
    const [oldest] = this.#open.keys();
    if (oldest !== undefined && this.#open.size >= MAX_OPEN) this.#open.delete(oldest);
    this.#open.set(id, this.#asked);
    this.#ask(id);
  }

  /** Takes an answer; true for the first of all. Throws PROTOCOL when the question was not asked. */
  pong(id: number): boolean {
    if (id >= this.#next) throw new DcpipeError("PROTOCOL", "an answer to a question that was not asked");
    const asked = this.#open.get(id);
    if (asked === undefined) return false;
    // Those before it have died with a lane, or are answered by it as well.
    for (const each of this.#open.keys()) if (each <= id) this.#open.delete(each);
    this.#unanswered = 0;
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
    const passed = Math.min(now - this.#tickTime, 2 * TICK_MS);
    this.#silence += passed;
    if (this.#open.size > 0) this.#unanswered += passed;
    this.#tickTime = now;
    if (this.#silence < DEAD_MS && now - this.#asked >= (busy ? TICK_MS : HEARTBEAT_MS)) this.ping();
  }

  /** Time passes while there is nobody to listen to. */
  pause(): void {
    this.#tickTime = performance.now();
  }
}
