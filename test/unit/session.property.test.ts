/**
 * Whatever happens to the lanes, the streams come out whole: random writes on several streams both ways, over lanes that
 * delay, die with all they carry, fall silent, are seen to die at different times on both sides, and are replaced.
 */
import fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { DcpipeError } from "../../src/errors.ts";
import { INITIAL_WINDOW, MAX_WINDOW } from "../../src/session/inbound.ts";
import { WRITE_BUFFER } from "../../src/session/outbound.ts";
import { Session } from "../../src/session/session.ts";
import type { Stream } from "../../src/session/stream.ts";
import {
  MemoryLane,
  otherSide,
  random,
  run,
  settled,
  SIDES,
  startTime,
  stopTime,
  type Side,
} from "./network.ts";

const KINDS = ["cut", "silent", "apart", "left", "late", "absent"] as const;

/** How a lane dies. */
interface Fault {
  /** After so many messages, both ways together. */
  readonly after: number;
  /**
   * cut: both sides are told. silent: nobody is, and the heartbeat must find out. apart: each side is told in its own time.
   * left: one side is told, the other not. late: the other side attaches it after that. absent: it never does.
   */
  readonly kind: (typeof KINDS)[number];
  readonly side: Side;
}

interface Plan {
  readonly seed: number;
  readonly streams: readonly {
    readonly opener: Side;
    readonly at: number;
    /** Sizes of the opener's writes, and of the other side's. */
    readonly there: readonly number[];
    readonly back: readonly number[];
    /** Milliseconds a reader rests now and then. */
    readonly rest: number;
  }[];
  readonly bulk: number;
  readonly delay: number;
  readonly faults: readonly Fault[];
  /** Milliseconds without any lane. */
  readonly gap: number;
  /** Who closes; under fire lanes go on dying. */
  readonly closer: Side | "both";
  readonly underFire: boolean;
}

const size = fc.oneof(
  fc.integer({ min: 0, max: 3 }),
  fc.integer({ min: 1000, max: 1200 }),
  fc.integer({ min: 65_530, max: 65_540 }),
  fc.integer({ min: 0, max: 300_000 }),
);
const side = fc.constantFrom(...SIDES);

const plan: fc.Arbitrary<Plan> = fc.record({
  seed: fc.nat(),
  streams: fc.array(
    fc.record({
      opener: side,
      at: fc.integer({ min: 0, max: 300 }),
      there: fc.array(size, { maxLength: 8, size: "max" }),
      back: fc.array(size, { maxLength: 8, size: "max" }),
      rest: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 400 })),
    }),
    { minLength: 1, maxLength: 5, size: "max" },
  ),
  bulk: fc.integer({ min: 0, max: 3 }),
  delay: fc.constantFrom(1, 10, 60),
  faults: fc.array(
    fc.record({
      after: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 300 })),
      kind: fc.constantFrom(...KINDS),
      side,
    }),
    { maxLength: 12, size: "max" },
  ),
  gap: fc.integer({ min: 0, max: 3000 }),
  closer: fc.constantFrom("waiting" as const, "joining" as const, "both" as const),
  underFire: fc.boolean(),
});

// ---- what the streams carry -------------------------------------------------------------------------------------------

/** A prime length: no cut at a round number can hide behind a repetition. */
const NOISE = new Uint8Array(65_521);
const fill = random(1);
for (let i = 0; i < NOISE.length; i++) NOISE[i] = fill() * 256;

/** The bytes of one direction of a stream from an offset on. */
function content(key: number, offset: number, length: number): Uint8Array {
  const out = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const start = (offset + at + key * 7919) % NOISE.length;
    const part = NOISE.subarray(start, Math.min(NOISE.length, start + length - at));
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function sum(sizes: readonly number[]): number {
  return sizes.reduce((total, each) => total + each, 0);
}

// ---- the world --------------------------------------------------------------------------------------------------------

class World {
  readonly sessions: Readonly<Record<Side, Session>> = {
    waiting: new Session("waiting"),
    joining: new Session("joining"),
  };
  readonly lanes = new Set<MemoryLane>();
  readonly plan: Plan;
  readonly chance: () => number;
  peace = false;
  failure: unknown;
  #faults: Fault[];
  #nextId = 0;
  #connecting = false;
  #adding = 0;

  constructor(plan_: Plan) {
    this.plan = plan_;
    this.chance = random(plan_.seed);
    this.#faults = [...plan_.faults];
    for (const each of SIDES) {
      const session = this.sessions[each];
      session.onlane = () => {
        this.#maintain();
      };
      session.onwant = () => {
        this.#maintain();
      };
    }
    this.#connect("control", 0);
  }

  /** Runs a part of the test; what it throws ends the run. */
  start(part: () => Promise<void>): { done: boolean } {
    const state = { done: false };
    part().then(
      () => {
        state.done = true;
      },
      (error: unknown) => {
        this.failure ??= error;
      },
    );
    return state;
  }

  async until(done: () => boolean, what: string): Promise<void> {
    await run(
      () => {
        if (this.failure !== undefined) throw this.failure as Error;
        return done();
      },
      900_000,
      what,
    );
  }

  /** Whether both sides have the same lanes, at least one, and all of them really carry messages. */
  get healthy(): boolean {
    const [ids, others] = SIDES.map((each) => new Set(this.sessions[each].laneStatus.map(({ id }) => id)));
    if (this.#connecting || this.#adding > 0 || !ids || !others) return false;
    if (ids.size === 0 || ids.size !== others.size) return false;
    return [...this.lanes]
      .filter(({ id }) => ids.has(id) || others.has(id))
      .every(
        (lane) =>
          ids.has(lane.id) &&
          others.has(lane.id) &&
          !lane.closed &&
          SIDES.every((each) => !lane.directions[each].dead),
      );
  }

  rest(milliseconds: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, milliseconds));
  }

  /** Does what the layer above a session does: a new control lane when one side has none, bulk lanes as planned. */
  #maintain(): void {
    const down = SIDES.filter((each) => this.sessions[each].state === "down");
    const over = SIDES.some((each) => this.sessions[each].state === "closed");
    if (down.length > 0 && !this.#connecting && !over) {
      this.#connecting = true;
      // When the other side has not noticed, it sometimes gets the new lane beside the old ones, sometimes later.
      const patience = down.length === 2 || this.chance() < 0.5 ? 0 : 12_000;
      setTimeout(
        () => {
          this.#connecting = false;
          if (SIDES.some((each) => this.sessions[each].state === "down")) this.#connect("control", 1000);
        },
        patience + this.plan.gap * this.chance(),
      );
    }
    const bulk = [...this.lanes].filter((lane) => lane.kind === "bulk" && !lane.closed).length;
    if (!over && bulk + this.#adding < this.plan.bulk) {
      this.#adding++;
      setTimeout(
        () => {
          this.#adding--;
          this.#connect("bulk", 1000);
          this.#maintain();
        },
        200 * this.chance() ** 2,
      );
    }
  }

  #connect(kind: "control" | "bulk", spreadMs: number): void {
    const fault = this.#faults.shift();
    const lane = new MemoryLane(this.#nextId++, kind, () => this.plan.delay * this.chance());
    this.lanes.add(lane);
    let count = 0;
    const oneSided = fault?.kind === "absent" || fault?.kind === "late";
    for (const each of SIDES) {
      lane.directions[each].onmessage = () => {
        count++;
        if (fault && !oneSided && count === fault.after && !this.peace) this.#strike(lane, fault);
      };
      let attachMs = spreadMs * this.chance() ** 2;
      if (oneSided && fault.side === each) {
        // The other side finds out some time.
        const noticeMs = (fault.kind === "late" ? 30 : 4000) * this.chance();
        setTimeout(() => {
          lane.notice(otherSide(each));
        }, noticeMs);
        if (fault.kind === "absent") continue;
        attachMs = noticeMs + 3 * this.plan.delay * this.chance();
      }
      setTimeout(() => {
        lane.attach(this.sessions[each], each);
      }, attachMs);
    }
  }

  #strike(lane: MemoryLane, { kind, side: first }: Fault): void {
    if (kind === "cut") {
      lane.ends[first].cut();
      return;
    }
    lane.silence();
    if (kind === "silent") return;
    for (const each of kind === "left" ? [first] : SIDES)
      setTimeout(
        () => {
          lane.notice(each);
        },
        500 * this.chance() ** 3,
      );
  }

  /** The bounds on memory. */
  check(streams: Iterable<Stream>): void {
    let windows = 0;
    for (const stream of streams) {
      const { window, held, pending } = stream.memory;
      expect(held).toBeLessThanOrEqual(window);
      expect(pending).toBeLessThanOrEqual(WRITE_BUFFER + 300_000);
      windows += window - INITIAL_WINDOW;
    }
    expect(windows).toBeLessThanOrEqual(3 * MAX_WINDOW);
  }
}

async function play(plan_: Plan): Promise<void> {
  const world = new World(plan_);
  const live: Record<Side, Set<Stream>> = { waiting: new Set(), joining: new Set() };
  let ended = 0;

  const write = async (at: Side, stream: Stream, key: number, sizes: readonly number[]): Promise<void> => {
    let offset = 0;
    for (const length of sizes) {
      await stream.write(content(key, offset, length));
      offset += length;
      world.check(live[at]);
      if (world.chance() < 0.3) await world.rest(50 * world.chance());
    }
    await stream.end();
    expect(stream.acknowledged).toBe(offset);
    ended++;
  };

  const read = async (at: Side, stream: Stream, key: number, total: number, rest: number): Promise<void> => {
    let offset = 0;
    for (;;) {
      const chunk = await stream.read();
      world.check(live[at]);
      if (!chunk) break;
      if (Buffer.compare(chunk, content(key, offset, chunk.length)) !== 0)
        throw new Error(`stream ${stream.id}: other bytes than were sent, from ${offset} on`);
      offset += chunk.length;
      if (rest > 0 && world.chance() < 0.2) await world.rest(rest * world.chance());
    }
    expect(offset).toBe(total);
    expect(await stream.read()).toBeUndefined();
  };

  const both = async (at: Side, stream: Stream, number: number, opener: boolean): Promise<void> => {
    const scenario = plan_.streams[number];
    if (!scenario) throw new Error(`stream ${number} was never planned`);
    const { there, back, rest } = scenario;
    live[at].add(stream);
    const [out, into] = opener ? [there, back] : [back, there];
    await Promise.all([
      write(at, stream, number * 2 + (opener ? 0 : 1), out),
      read(at, stream, number * 2 + (opener ? 1 : 0), sum(into), rest),
    ]);
    await stream.closed;
    live[at].delete(stream);
  };

  const parts = plan_.streams.map((scenario, number) =>
    world.start(async () => {
      await world.rest(scenario.at);
      const stream = world.sessions[scenario.opener].open(Uint8Array.of(number));
      await both(scenario.opener, stream, number, true);
    }),
  );
  for (const each of SIDES) {
    const expected = plan_.streams.filter(({ opener }) => opener !== each).length;
    parts.push(
      world.start(async () => {
        const taken: Promise<void>[] = [];
        const seen = new Set<number>();
        while (taken.length < expected) {
          const stream = await world.sessions[each].accept();
          const number = stream.header[0] ?? -1;
          expect(seen.has(number)).toBe(false);
          seen.add(number);
          taken.push(both(each, stream, number, false));
        }
        await Promise.all(taken);
      }),
    );
  }
  await world.until(() => parts.every(({ done }) => done), "all streams done");
  expect(ended).toBe(2 * plan_.streams.length);

  const results: (DcpipeError | "clean")[] = [];
  for (const each of SIDES) {
    world.sessions[each].closed.then(
      () => results.push("clean"),
      (error: unknown) => results.push(error as DcpipeError),
    );
  }
  if (!plan_.underFire) {
    world.peace = true;
    await world.until(() => world.healthy, "a lane that carries");
  }
  const over = (each: Side): boolean => world.sessions[each].state === "closed";
  for (const each of SIDES) {
    if (plan_.closer === each || plan_.closer === "both")
      world.start(() => world.sessions[each].close().catch(() => undefined));
  }
  if (plan_.underFire) {
    // One side may be gone before the other one has heard of it: that one gives up, as the layer above does.
    await world.until(() => SIDES.some(over), "one side closed");
    const giveUp = setTimeout(() => {
      for (const each of SIDES) world.sessions[each].fail(new DcpipeError("PEER_GONE", "gave up"));
    }, 60_000);
    await world.until(() => SIDES.every(over), "both sides closed");
    clearTimeout(giveUp);
    await settled();
    expect(results).toContain("clean");
    for (const result of results) if (result !== "clean") expect(result.code).toBe("PEER_GONE");
  } else {
    await world.until(() => SIDES.every(over), "both sides closed");
    await settled();
    expect(results).toEqual(["clean", "clean"]);
  }
  for (const each of SIDES) expect(world.sessions[each].streams).toBe(0);
}

beforeEach(stopTime);
afterEach(startTime);

/** More runs, and those of a failure once more: RUNS=10000 SEED=-12345 npx vitest run test/unit/session.property.test.ts */
const RUNS = Number(process.env.RUNS ?? 100);
const SEED = process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) };

test(
  "streams survive everything that can happen to lanes",
  async () => {
    await fc.assert(
      fc.asyncProperty(plan, async (plan_) => {
        await play(plan_);
        // Deaths that were still to be noticed are nobody's business now.
        vi.clearAllTimers();
      }),
      { numRuns: RUNS, ...SEED },
    );
  },
  // Only a hang takes so long.
  60_000 + RUNS * 1000,
);
