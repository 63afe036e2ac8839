/**
 * Two sessions and the lanes between them, in memory and on virtual time: a run takes milliseconds, and the same seed gives
 * the same run. Lanes delay, lose and die as networks do; a message is never changed and never overtakes another of its lane.
 */
import { vi } from "vitest";
import { Session } from "../../src/session/session.ts";
import { MemoryChannel } from "../../src/transport/channel.ts";

/** Timers and performance.now() stand still from here on until `run` moves them. */
export function stopTime(): void {
  vi.useFakeTimers({
    toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance"],
    now: 0,
  });
}

export function startTime(): void {
  vi.useRealTimers();
}

/** Lets everything happen that needs no time. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Moves virtual time from timer to timer until `done` says so. Throws when nothing more can happen, or after `limitMs`. */
export async function run(done: () => boolean, limitMs = 600_000, what = "the end"): Promise<void> {
  const start = performance.now();
  for (;;) {
    await settled();
    if (done()) return;
    if (vi.getTimerCount() === 0) throw new Error(`nothing more will happen, and not ${what}`);
    if (performance.now() - start > limitMs) throw new Error(`${limitMs} ms went by without ${what}`);
    vi.advanceTimersToNextTimer();
  }
}

/** Moves virtual time by so many milliseconds. */
export async function pass(milliseconds: number): Promise<void> {
  let over = false;
  setTimeout(() => {
    over = true;
  }, milliseconds);
  await run(() => over, Infinity, "the time passed");
}

/** Moves virtual time until the promise is settled, and returns what it gives. */
export async function within<T>(promise: Promise<T>, limitMs = 600_000): Promise<T> {
  let over = false;
  const end = (): void => {
    over = true;
  };
  promise.then(end, end);
  await run(() => over, limitMs, "the promise settled");
  return promise;
}

/** A small generator of random numbers in [0, 1) (mulberry32): seeded, so that a failed run can be had again. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export type Side = "waiting" | "joining";
export const SIDES: readonly Side[] = ["waiting", "joining"];

export function otherSide(side: Side): Side {
  return side === "waiting" ? "joining" : "waiting";
}

/** One direction of a lane: keeps order, delays each message, holds what comes before anybody listens. */
export class Direction {
  /** Milliseconds for the next message. */
  delay: () => number;
  /** What comes now is gone without a word. */
  dead = false;
  /** Runs before each message is accepted. */
  onmessage: (() => void) | undefined;
  #to: MemoryChannel | undefined;
  #due = 0;
  #flying: (() => void)[] = [];
  #held: (() => void)[] = [];

  constructor(delay: () => number) {
    this.delay = delay;
  }

  /** Where the messages go. */
  lead(to: MemoryChannel): void {
    this.#to = to;
  }

  schedule(deliver: () => void): void {
    this.onmessage?.();
    const now = performance.now();
    this.#due = Math.max(this.#due, now + this.delay());
    this.#flying.push(deliver);
    setTimeout(() => {
      // Of two timers due within the same millisecond, virtual time may run the later one first.
      const next = this.#flying.shift();
      if (this.dead || !next) return;
      this.#held.push(next);
      this.listen();
    }, this.#due - now);
  }

  /** Delivers what was held, if somebody listens. */
  listen(): void {
    const to = this.#to;
    while (this.#held.length > 0 && (to?.onmessage !== undefined || to?.closed === true))
      this.#held.shift()?.();
  }
}

/** One end of a lane: closing it is news that travels, and is lost where messages are lost. */
class LaneEnd extends MemoryChannel {
  readonly #direction: Direction;

  constructor(direction: Direction) {
    super(direction);
    this.#direction = direction;
  }

  override close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#direction.schedule(() => {
      if (this.other.closed) return;
      this.other.closed = true;
      this.other.onclose?.();
    });
  }
}

export class MemoryLane {
  readonly id: number;
  readonly kind: "control" | "bulk";
  readonly ends: Readonly<Record<Side, MemoryChannel>>;
  /** By the side that sends. */
  readonly directions: Readonly<Record<Side, Direction>>;

  constructor(id: number, kind: "control" | "bulk", delay: () => number) {
    this.id = id;
    this.kind = kind;
    this.directions = { waiting: new Direction(delay), joining: new Direction(delay) };
    const ends = {
      waiting: new LaneEnd(this.directions.waiting),
      joining: new LaneEnd(this.directions.joining),
    };
    ends.waiting.other = ends.joining;
    ends.joining.other = ends.waiting;
    this.directions.waiting.lead(ends.joining);
    this.directions.joining.lead(ends.waiting);
    this.ends = ends;
  }

  get closed(): boolean {
    return this.ends.waiting.closed || this.ends.joining.closed;
  }

  attach(session: Session, side: Side): void {
    session.attach(this.ends[side], this.id, this.kind);
    this.directions[otherSide(side)].listen();
  }

  /** From now on nothing arrives, and nobody is told. */
  silence(): void {
    for (const side of SIDES) this.directions[side].dead = true;
  }

  /** One end finds that the lane is dead; the other one does not hear of it. */
  notice(side: Side): void {
    const end = this.ends[side];
    if (end.closed) return;
    this.silence();
    end.closed = true;
    end.onclose?.();
  }
}

/** One end of a datagram channel: what it sends takes so many milliseconds, each message its own, undefined for a lost one. */
export class DatagramEnd extends MemoryChannel {
  delay: () => number | undefined;

  constructor(delay: () => number | undefined) {
    super({
      schedule: (deliver) => {
        setTimeout(deliver, this.#next);
      },
    });
    this.delay = delay;
  }

  #next = 0;

  override send(message: Uint8Array): boolean {
    const delay = this.delay();
    if (this.closed || delay === undefined) return !this.closed;
    this.#next = delay;
    return super.send(message);
  }

  override close(): void {
    this.#next = 0;
    super.close();
  }
}

/** A channel that loses and reorders, attached to both sessions. Its ends are those of the side that sends. */
export function addDatagrams(
  pair: Pair,
  id: number,
  delay: () => number | undefined = () => 5,
): Readonly<Record<Side, DatagramEnd>> {
  const ends = { waiting: new DatagramEnd(delay), joining: new DatagramEnd(delay) };
  ends.waiting.other = ends.joining;
  ends.joining.other = ends.waiting;
  for (const side of SIDES) pair[side].attachDatagrams(ends[side], id);
  return ends;
}

/** Two sessions with a control lane between them. */
export interface Pair {
  readonly waiting: Session;
  readonly joining: Session;
  readonly control: MemoryLane;
}

export function sessions(delayMs = 5): Pair {
  const waiting = new Session("waiting");
  const joining = new Session("joining");
  const control = new MemoryLane(0, "control", () => delayMs);
  control.attach(waiting, "waiting");
  control.attach(joining, "joining");
  return { waiting, joining, control };
}

export function addBulk(pair: Pair, id: number, delayMs = 5): MemoryLane {
  const lane = new MemoryLane(id, "bulk", () => delayMs);
  lane.attach(pair.waiting, "waiting");
  lane.attach(pair.joining, "joining");
  return lane;
}
