/** Two forwards over two sessions in memory, each on a machine of its own. */
import type { ForwardEvent } from "../../src/apps/forward/events.ts";
import { Forwarding, type ForwardingOptions } from "../../src/apps/forward/forwarding.ts";
import { DcpipeError } from "../../src/errors.ts";
import type { Session } from "../../src/session/session.ts";
import {
  addBulk,
  addDatagrams,
  pass,
  run,
  sessions,
  settled,
  SIDES,
  type Pair,
  type Side,
} from "./network.ts";
import { Machine } from "./sockets.ts";

export type Options = Omit<ForwardingOptions, "network" | "onevent">;

/** One side of it. */
export interface Half {
  readonly machine: Machine;
  readonly forwarding: Forwarding;
  readonly events: ForwardEvent[];
  /** Of the last session. */
  ready: Promise<void>;
  done: Promise<void>;
}

export function half(options: Options = {}, machine = new Machine()): Half {
  const events: ForwardEvent[] = [];
  const forwarding = new Forwarding({
    ...options,
    network: machine,
    onevent: (event) => events.push(event),
  });
  const never = new Promise<void>(() => undefined);
  return { machine, forwarding, events, ready: never, done: never };
}

export class World {
  readonly halves: Readonly<Record<Side, Half>>;
  pair: Pair;
  readonly #sessions: Session[] = [];

  constructor(options: Partial<Record<Side, Options>> = {}) {
    this.halves = { waiting: half(options.waiting), joining: half(options.joining) };
    this.pair = this.#pair();
  }

  get waiting(): Half {
    return this.halves.waiting;
  }

  get joining(): Half {
    return this.halves.joining;
  }

  /** Both bind their ports and go over the session. Resolves when they have told each other what they have to. */
  async start(): Promise<this> {
    for (const side of SIDES) await this.halves[side].forwarding.start();
    await this.go();
    return this;
  }

  /** The session is lost, and after a while there is another one. `meanwhile` is called in the middle of it. */
  async lose(gapMs: number, meanwhile?: () => void): Promise<void> {
    for (const side of SIDES) this.pair[side].fail(new DcpipeError("PEER_GONE", "the other side is gone"));
    // Not from two places: two that move time would skip what the first one has just made happen.
    await pass(gapMs / 2);
    meanwhile?.();
    await pass(gapMs / 2);
    this.pair = this.#pair();
    await this.go();
  }

  /** The port at which a side listens for this target. */
  port(side: Side, target: string): number {
    for (const event of this.halves[side].events)
      if (event.event === "listening" && event.of === "us" && event.target === target)
        if (event.place.type === "host") return event.place.port;
    throw new Error(`${side} does not listen for ${target}`);
  }

  /** Moves time until nothing is left on either side: streams, connections, dials. Throws when something stays. */
  async empty(limitMs = 60_000): Promise<void> {
    await run(() => this.#left().length === 0, limitMs, `the end of all connections`).catch(
      (cause: unknown) => {
        throw new Error(`left: ${this.#left().join(", ")}`, { cause });
      },
    );
  }

  async end(): Promise<void> {
    for (const side of SIDES) await this.halves[side].forwarding.close();
    for (const session of this.#sessions) session.fail(new DcpipeError("ABORTED", "the test is over"));
    await settled();
  }

  #left(): string[] {
    return SIDES.flatMap((side) => {
      const { machine, forwarding } = this.halves[side];
      // The control stream stays.
      const counts = {
        streams: this.pair[side].streams - 1,
        open: forwarding.open.length,
        ends: machine.ends.size,
        dialling: machine.dialling,
        sockets: machine.datagramSockets,
      };
      return Object.entries(counts)
        .filter(([, count]) => count !== 0)
        .map(([what, count]) => `${side} ${what} ${count}`);
    });
  }

  #pair(): Pair {
    const pair = sessions();
    addBulk(pair, 1);
    for (const side of SIDES) this.#sessions.push(pair[side]);
    return pair;
  }

  /** Both go over the session. */
  async go(): Promise<void> {
    for (const side of SIDES) {
      const { ready, done } = this.halves[side].forwarding.add(this.pair[side], side);
      for (const promise of [ready, done]) promise.catch(() => undefined);
      Object.assign(this.halves[side], { ready, done });
    }
    if (SIDES.some((side) => this.pair[side].datagramsWanted)) addDatagrams(this.pair, 100);
    await pass(100);
  }
}
