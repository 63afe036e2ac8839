/** When two sides on a relay punch, from where and to where; without packets, on virtual time. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { isPublic, Punching } from "../../src/connect/punching.ts";
import { Keys } from "../../src/signalling/keys.ts";
import type { Hole, NatMapping, PunchFromMany, PunchFromOne } from "../../src/transport/nat.ts";
import type { Candidate } from "../../src/wire/candidate.ts";
import type { Role } from "../../src/wire/hello.ts";
import { decodeLane, encodeLane, type NatMessage } from "../../src/wire/lane.ts";
import { pass, settled, startTime, stopTime } from "./network.ts";

const DELAY_MS = 40;
const KEYS = new Keys(new Uint8Array(16).fill(5));

/** One side, in place of the tries for a direct path. */
class Side {
  mapping: NatMapping = "independent";
  outer: Candidate | undefined;
  port: number | undefined = 5000;
  nextEpoch = 0;
  readonly punching: Punching;
  readonly attempts: { readonly at: number; readonly options: PunchFromMany | PunchFromOne }[] = [];
  readonly epochs: number[] = [];
  readonly holes: (Hole | undefined)[] = [];
  readonly told: NatMessage[] = [];
  readonly log: string[] = [];
  other: Side | undefined;
  /** What an attempt finds. */
  hole: Hole | undefined;

  constructor(role: Role, address: string, ports?: readonly [number, number]) {
    this.outer = outside(address);
    this.punching = new Punching({
      context: { role, keys: KEYS, bind: undefined },
      ports,
      punch: (options) => {
        this.attempts.push({ at: performance.now(), options });
        return Promise.resolve(this.hole);
      },
      direct: this,
      tell: (message) => {
        this.told.push(message);
        setTimeout(
          () => this.other?.punching.receive(decodeLane(encodeLane(message)) as NatMessage),
          DELAY_MS,
        );
      },
      log: (text) => this.log.push(text),
    });
  }

  detour(epoch: number, find: (port: number | undefined) => Promise<Hole | undefined>): void {
    this.epochs.push(epoch);
    void find(this.port).then((hole) => this.holes.push(hole));
  }
}

function outside(address: string, port = 6000): Candidate {
  return { type: "srflx", address, port };
}

let hard: Side;
let easy: Side;

function meet(one: Side, two: Side): void {
  [one.other, two.other] = [two, one];
}

beforeEach(() => {
  stopTime();
  hard = new Side("waiting", "203.0.113.1");
  easy = new Side("joining", "203.0.113.2");
  hard.mapping = "dependent";
  meet(hard, easy);
});

afterEach(() => {
  for (const side of [hard, easy]) side.punching.end();
  startTime();
});

function begin(): void {
  hard.punching.begin();
  easy.punching.begin();
}

describe("a NAT whose mapping depends on the destination, and one whose does not", () => {
  test("both sides punch at the same moment, when the tries have had theirs", async () => {
    begin();
    await pass(2400);
    expect([...hard.told, ...easy.told]).toEqual([]);
    await pass(200);
    const [[many], [one]] = [hard.attempts, easy.attempts];
    expect(many?.options).toMatchObject({ from: "many", address: "203.0.113.2", port: 6000 });
    expect(one?.options).toMatchObject({ from: "one", address: "203.0.113.1", local: 5000 });
    expect(Math.abs((many?.at ?? 0) - (one?.at ?? 0))).toBeLessThanOrEqual(DELAY_MS);
    expect(many?.options.ours).toEqual(one?.options.theirs);
    expect(many?.options.theirs).toEqual(one?.options.ours);
    expect(many?.options.ours).not.toEqual(many?.options.theirs);
  });

  test("one that stands on the relay later is waited for", async () => {
    hard.punching.begin();
    await pass(10_000);
    expect(hard.attempts).toEqual([]);
    easy.punching.begin();
    await pass(3000);
    expect([hard.attempts.length, easy.attempts.length]).toEqual([1, 1]);
    expect(Math.abs((hard.attempts[0]?.at ?? 0) - (easy.attempts[0]?.at ?? 0))).toBeLessThanOrEqual(DELAY_MS);
  });

  test("both go on in the later of their epochs, with tags of its own", async () => {
    hard.nextEpoch = 3;
    easy.nextEpoch = 5;
    begin();
    await pass(3000);
    expect([hard.epochs, easy.epochs]).toEqual([[5], [5]]);
    expect(hard.attempts[0]?.options.ours).toEqual(KEYS.punchTags("waiting", 5));
    expect(KEYS.punchTags("waiting", 5)).not.toEqual(KEYS.punchTags("waiting", 3));
  });

  test("the other one need not be known", async () => {
    easy.mapping = "unknown";
    begin();
    await pass(3000);
    expect([hard.attempts.length, easy.attempts.length]).toEqual([1, 1]);
  });

  test("the hole is handed on", async () => {
    hard.hole = { local: 7, address: "203.0.113.2", port: 6000 };
    begin();
    await pass(3000);
    expect(hard.holes).toEqual([hard.hole]);
  });

  test("what is in vain is tried once more, and then no more, whatever the other side says", async () => {
    begin();
    await pass(8000);
    expect(hard.attempts).toHaveLength(1);
    await pass(60_000);
    expect([hard.attempts.length, easy.attempts.length]).toEqual([2, 2]);
    for (let i = 0; i < 100; i++) hard.punching.receive(easy.told[0] as NatMessage);
    begin();
    await pass(600_000);
    expect([hard.attempts.length, easy.attempts.length]).toEqual([2, 2]);
  });

  test("a session that has found a path, or is over, punches no more", async () => {
    begin();
    await pass(2600);
    hard.punching.end();
    easy.punching.end();
    expect(hard.attempts[0]?.options.signal.aborted).toBe(true);
    await pass(60_000);
    expect([hard.attempts.length, easy.attempts.length]).toEqual([1, 1]);
    hard.punching.receive(easy.told[0] as NatMessage);
    await settled();
    expect(hard.attempts).toHaveLength(1);
  });

  test("an address that is found later is told later", async () => {
    easy.outer = undefined;
    begin();
    await pass(5000);
    expect(easy.told).toEqual([]);
    easy.outer = outside("203.0.113.2");
    await pass(10_000);
    expect([hard.attempts.length, easy.attempts.length]).toEqual([1, 1]);
  });
});

describe("nobody punches", () => {
  test.each<[NatMapping, NatMapping, RegExp]>([
    ["dependent", "dependent", /both NATs/],
    ["independent", "independent", /neither NAT/],
    ["unknown", "independent", /neither NAT/],
    ["unknown", "unknown", /neither NAT/],
  ])("with NATs that are %s and %s", async (one, two, why) => {
    [hard.mapping, easy.mapping] = [one, two];
    begin();
    await pass(60_000);
    expect([...hard.attempts, ...easy.attempts]).toEqual([]);
    for (const side of [hard, easy]) expect(side.log.join()).toMatch(why);
  });

  test.each([
    "127.0.0.1",
    "10.0.0.1",
    "192.168.1.1",
    "172.16.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "224.0.0.251",
    "255.255.255.255",
    "0.0.0.0",
    "2001:db8::1",
    "::1",
    // Our own.
    "203.0.113.1",
  ])("at %s, though a peer says that it is there", async (address) => {
    hard.punching.begin();
    await pass(3000);
    hard.punching.receive({ type: "NAT", epoch: 0, mapping: "independent", candidate: outside(address) });
    await pass(60_000);
    expect(hard.attempts).toEqual([]);
    expect(hard.log.join()).toMatch(/no hole punching/);
  });

  test("with an outer address that is none", async () => {
    easy.outer = { type: "host", address: "192.168.1.7", port: 5000 };
    begin();
    await pass(60_000);
    expect(easy.told).toEqual([]);
  });

  test("where there are too few ports to choose from", async () => {
    const few = new Side("waiting", "203.0.113.1", [4000, 4254]);
    few.mapping = "dependent";
    meet(few, easy);
    few.punching.begin();
    easy.punching.begin();
    await pass(60_000);
    expect([...few.told, ...few.attempts, ...easy.attempts]).toEqual([]);
    few.punching.end();
  });

  test("with one socket whose port is not fixed", async () => {
    easy.port = undefined;
    begin();
    await pass(60_000);
    expect([...easy.told, ...hard.attempts]).toEqual([]);
  });
});

test("as many ports as there are sockets are enough", async () => {
  const just = new Side("waiting", "203.0.113.1", [4000, 4255]);
  just.mapping = "dependent";
  meet(just, easy);
  just.punching.begin();
  easy.punching.begin();
  await pass(3000);
  expect(just.attempts[0]?.options).toMatchObject({ ports: [4000, 4255] });
  just.punching.end();
});

test.each([
  ["8.8.8.8", true],
  ["100.63.255.255", true],
  ["100.128.0.0", true],
  ["172.15.255.255", true],
  ["172.32.0.0", true],
  ["192.167.0.1", true],
  ["223.255.255.255", true],
  ["172.31.255.255", false],
  ["100.127.255.255", false],
  ["240.0.0.1", false],
  ["example.org", false],
  ["", false],
])("%s is a public address: %s", (address, expected) => {
  expect(isPublic(address)).toBe(expected);
});
