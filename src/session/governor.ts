/**
 * How many bulk channels a sender wants. One association moves at most its window a round trip, and under random loss far
 * less, so long or lossy paths want several; a short path wants one, and a full link wants no more.
 *
 *   start by the round-trip time --> grow: by half, under losses double or more, while the path shows no queue
 *                                      |  less than a quarter of the hoped gain
 *                                      v
 *                                    hold: back to the last number, look again after HOLD_MS
 */

/** Each costs a socket, a port and some MiB; under 1 % loss the rate still grows nearly in proportion up to here. */
export const MAX_BULK_LANES = 64;
/** Milliseconds for which a step that did not pay is not tried again; doubled each time. */
const HOLD_MS = 15_000;
const MAX_HOLD_MS = 60_000;
/** Below this, in bytes a round trip, a lane is held back by losses and not by its window of 0.64 MiB. */
const LOSS_LIMITED = 350 * 1024;
/** And below this there is a long way to go. */
const VERY_LOSS_LIMITED = 70 * 1024;
/** A lane of 25 MiB/s, in bytes a millisecond, is held back by the processor: another one would share it. */
const FAST = (25 * 1024 * 1024) / 1000;
/** A new number of lanes is judged after this many milliseconds, and at least this many round trips (slow start). */
const SETTLE_MS = 700;
const SETTLE_ROUND_TRIPS = 8;

export interface Sample {
  /** Milliseconds on a monotonic clock. */
  readonly time: number;
  /** Bytes acknowledged in all. */
  readonly delivered: number;
  /** Bulk lanes that stand. */
  readonly lanes: number;
  /** Streams had more to send than the lanes would take. */
  readonly limited: boolean;
  readonly rtt: number;
  readonly minRtt: number;
}

export class Governor {
  /** Bulk lanes wanted. */
  target: number;
  /** What is being measured: warming up until `from` is set. */
  #trial: { lanes: number; start: number; from: { time: number; delivered: number } | undefined } | undefined;
  #last: { lanes: number; rate: number } | undefined;
  #hold = HOLD_MS;
  #holdUntil = 0;
  #best = 0;

  constructor(rtt: number) {
    // Each lane begins with ten packets a round trip: several at once are up to speed some round trips sooner.
    this.target = rtt < 12 ? 1 : rtt > 100 ? 6 : Math.min(5, Math.ceil(rtt / 8) + 1);
  }

  /** Takes a look; call a few times a second. Returns the wanted number of lanes. */
  sample(now: Sample): number {
    if (!now.limited || now.lanes < this.target) {
      this.#trial = undefined;
      return this.target;
    }
    if (this.#trial?.lanes !== now.lanes)
      this.#trial = { lanes: now.lanes, start: now.time, from: undefined };
    const trial = this.#trial;
    const settle = Math.max(SETTLE_MS, SETTLE_ROUND_TRIPS * now.rtt);
    if (!trial.from) {
      // Slow start does not count.
      if (now.time - trial.start >= settle) trial.from = { time: now.time, delivered: now.delivered };
    } else if (now.time - trial.from.time >= settle / 2) {
      this.#judge(now, (now.delivered - trial.from.delivered) / (now.time - trial.from.time));
      trial.from = { time: now.time, delivered: now.delivered };
    }
    return this.target;
  }

  #judge(now: Sample, rate: number): void {
    const last = this.#last;
    this.#last = undefined;
    if (last && now.lanes > last.lanes) {
      const hoped = now.lanes / last.lanes - 1;
      if (rate < last.rate * (1 + hoped / 4)) {
        this.target = last.lanes;
        this.#holdUntil = now.time + this.#hold;
        this.#hold = Math.min(MAX_HOLD_MS, this.#hold * 2);
        return;
      }
    }
    this.#best = Math.max(this.#best, rate);
    const collapsed = rate < this.#best / 2;
    // A queue on the path means that the link is full; without one, windows or losses are the limit, and lanes help.
    const queued = now.rtt > now.minRtt * 1.05 + 3;
    if (queued || now.lanes >= MAX_BULK_LANES || (now.time < this.#holdUntil && !collapsed)) return;
    if (rate / now.lanes > FAST) return;
    this.#last = { lanes: now.lanes, rate };
    // Too many windows at once overflow the path's queue, and what follows is a crawl of many seconds.
    const perRoundTrip = (rate / now.lanes) * now.minRtt;
    const step = perRoundTrip < VERY_LOSS_LIMITED ? 4 : perRoundTrip < LOSS_LIMITED ? 2 : 1.5;
    this.target = Math.min(MAX_BULK_LANES, Math.ceil(now.lanes * step));
  }
}
