import { describe, expect, test } from "vitest";
import { Governor, MAX_BULK_LANES, type Sample } from "../../src/session/governor.ts";

interface Path {
  /** Milliseconds. */
  readonly rtt: number;
  /** Bytes a millisecond that so many lanes move. */
  readonly rate: (lanes: number) => number;
  /** Milliseconds that the path's queue adds. */
  readonly queue?: (lanes: number) => number;
}

/** Runs a governor over a path whose lanes come at once, and notes how many it wanted when. */
class Trial {
  readonly governor: Governor;
  readonly wanted: number[] = [];
  time = 1000;
  #delivered = 0;
  #path: Path;

  constructor(path: Path) {
    this.#path = path;
    this.governor = new Governor(path.rtt);
  }

  /** A sample every 250 ms, as a session takes them. */
  run(milliseconds: number, change: Partial<Sample> = {}): number {
    for (const end = this.time + milliseconds; this.time < end; this.time += 250) {
      const lanes = change.lanes ?? this.governor.target;
      this.#delivered += this.#path.rate(lanes) * 250;
      const rtt = this.#path.rtt + (this.#path.queue?.(lanes) ?? 0);
      const sample: Sample = {
        time: this.time,
        delivered: this.#delivered,
        lanes,
        limited: true,
        rtt,
        minRtt: this.#path.rtt,
        ...change,
      };
      const target = this.governor.sample(sample);
      expect(target).toBe(this.governor.target);
      expect(target).toBeGreaterThanOrEqual(1);
      expect(target).toBeLessThanOrEqual(MAX_BULK_LANES);
      this.wanted.push(target);
    }
    return this.governor.target;
  }

  set path(path: Path) {
    this.#path = path;
  }
}

const per =
  (rate: number, cap = Infinity) =>
  (lanes: number): number =>
    Math.min(cap, rate * lanes);

/** Stretches of time in which more than `lanes` were wanted: when each began. */
function looks(wanted: readonly number[], lanes: number): number[] {
  return wanted.flatMap((now, i) => (now > lanes && (wanted[i - 1] ?? 0) <= lanes ? [i] : []));
}

describe("governor", () => {
  test("a near neighbour gets one lane, a long way some", () => {
    const starts = [0.1, 1, 10, 50, 100, 200, 400, 1000].map((rtt) => new Governor(rtt).target);
    expect(starts[0]).toBe(1);
    expect(starts).toEqual([...starts].sort((a, b) => a - b));
    expect(starts.at(-1)).toBeGreaterThan(1);
    expect(starts.at(-1)).toBeLessThanOrEqual(8);
  });

  test("grows to the top while each step pays: random loss on a fast path", () => {
    const trial = new Trial({ rtt: 50, rate: per(1000) });
    expect(trial.run(60_000)).toBe(MAX_BULK_LANES);
    expect(trial.wanted).toEqual([...trial.wanted].sort((a, b) => a - b));
  });

  test("stays with one where one fills the path, and looks around more and more seldom", () => {
    const trial = new Trial({ rtt: 0.3, rate: per(500_000, 500_000) });
    trial.run(300_000);
    expect(Math.max(...trial.wanted)).toBeLessThanOrEqual(2);
    const at = looks(trial.wanted, 1);
    const gaps = at.slice(1).map((look, i) => look - (at[i] ?? 0));
    expect(gaps).toEqual([...gaps].sort((a, b) => a - b));
    expect(at.length).toBeLessThan(12);
    // Most of the time it was content.
    expect(trial.wanted.filter((lanes) => lanes === 1).length).toBeGreaterThan(trial.wanted.length * 0.8);
  });

  test("goes back when a step does not pay", () => {
    const { target } = new Governor(50);
    const trial = new Trial({ rtt: 50, rate: per(3000, 3000 * target) });
    trial.run(120_000);
    expect(looks(trial.wanted, target).length).toBeGreaterThan(0);
    expect(Math.max(...trial.wanted)).toBeLessThanOrEqual(2 * target);
    expect(trial.wanted.filter((lanes) => lanes === target).length).toBeGreaterThan(
      trial.wanted.length * 0.7,
    );
  });

  test("finds more lanes when the path has become better", () => {
    const { target } = new Governor(50);
    const trial = new Trial({ rtt: 50, rate: per(3000, 3000 * target) });
    trial.run(10_000);
    trial.path = { rtt: 50, rate: per(3000, 3000 * 16 * target) };
    trial.run(200_000);
    expect(trial.governor.target).toBeGreaterThan(4 * target);
  });

  test("asks for no more while the path has a queue", () => {
    const { target } = new Governor(50);
    const trial = new Trial({ rtt: 50, rate: per(1000), queue: () => 100 });
    expect(trial.run(60_000)).toBe(target);
  });

  test("asks for no more while the streams have too little to send", () => {
    const { target } = new Governor(50);
    const trial = new Trial({ rtt: 50, rate: per(1000) });
    expect(trial.run(60_000, { limited: false })).toBe(target);
  });

  test("asks for no more before those it asked for stand", () => {
    const { target } = new Governor(50);
    const trial = new Trial({ rtt: 50, rate: per(1000) });
    expect(trial.run(60_000, { lanes: target - 1 })).toBe(target);
  });

  test("does not judge before slow start is over: eight round trips", () => {
    const { target } = new Governor(400);
    const trial = new Trial({ rtt: 400, rate: per(1000) });
    expect(trial.run(8 * 400)).toBe(target);
    expect(new Set(trial.wanted).size).toBe(1);
  });
});
