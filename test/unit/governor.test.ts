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

describe("governor", () => {
  test.each([
    [0.2, 1],
    [4.9, 1],
    [5, 2],
    [39, 2],
    [40, 4],
    [400, 4],
  ])("a path of %d ms starts with %d", (rtt, lanes) => {
    expect(new Governor(rtt).target).toBe(lanes);
  });

  test("grows to the top while each step pays: random loss on a fast path", () => {
    const trial = new Trial({ rtt: 50, rate: per(1000) });
    expect(trial.run(60_000)).toBe(MAX_BULK_LANES);
    expect([...new Set(trial.wanted)]).toEqual([4, 8, 16, 32, 64]);
  });

  test("stays with one where one fills the path", () => {
    const trial = new Trial({ rtt: 0.3, rate: per(500_000, 500_000) });
    trial.run(19_000);
    expect(trial.governor.target).toBe(1);
    // It had a look at two, once.
    expect([...new Set(trial.wanted)]).toEqual([1, 2]);
  });

  test("goes back when a step does not pay, and looks again later", () => {
    const trial = new Trial({ rtt: 50, rate: per(3000, 12_000) });
    expect(trial.run(10_000)).toBe(4);
    const first = trial.wanted.indexOf(8);
    const back = trial.wanted.indexOf(4, first);
    expect(first).toBeGreaterThan(0);
    expect(back).toBeGreaterThan(first);
    trial.run(40_000);
    const again = trial.wanted.indexOf(8, back);
    // 20 s, in samples of 250 ms.
    expect(again - back).toBeGreaterThanOrEqual(80);
    expect(again - back).toBeLessThan(120);
  });

  test("finds more lanes when the path has become better", () => {
    const trial = new Trial({ rtt: 50, rate: per(3000, 12_000) });
    expect(trial.run(10_000)).toBe(4);
    trial.path = { rtt: 50, rate: per(3000, 24_000) };
    trial.run(60_000);
    expect(trial.wanted.slice(-40)).toContain(8);
    expect(trial.wanted).not.toContain(32);
  });

  test("asks for no more while the path has a queue", () => {
    const trial = new Trial({ rtt: 50, rate: per(1000), queue: () => 100 });
    expect(trial.run(60_000)).toBe(4);
  });

  test("asks for no more while the streams have too little to send", () => {
    const trial = new Trial({ rtt: 50, rate: per(1000) });
    expect(trial.run(60_000, { limited: false })).toBe(4);
  });

  test("asks for no more before those it asked for stand", () => {
    const trial = new Trial({ rtt: 50, rate: per(1000) });
    expect(trial.run(60_000, { lanes: 3 })).toBe(4);
  });

  test("does not judge before slow start is over: 8 round trips", () => {
    const trial = new Trial({ rtt: 400, rate: per(1000) });
    trial.run(8 * 400);
    expect(trial.wanted).toEqual(trial.wanted.map(() => 4));
  });
});
