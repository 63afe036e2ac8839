/** Sessions that leave a relay for a direct path, which one side may have before the other, or alone. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { DcpipeError } from "../../src/errors.ts";
import { Session } from "../../src/session/session.ts";
import type { Stream } from "../../src/session/stream.ts";
import { MemoryLane, otherSide, pass, run, settled, SIDES, startTime, stopTime, within } from "./network.ts";
import type { Side } from "./network.ts";

const RELAY = 16_384 * 65_536;
let pair: Record<Side, Session>;
let relay: MemoryLane;

function attach(lane: MemoryLane, side: Side, relayed: boolean): void {
  pair[side].attach(lane.ends[side], lane.id, lane.kind, relayed);
  lane.directions[otherSide(side)].listen();
}

beforeEach(() => {
  stopTime();
  pair = { waiting: new Session("waiting"), joining: new Session("joining") };
  relay = new MemoryLane(RELAY, "control", () => 50);
  for (const side of SIDES) attach(relay, side, true);
});

afterEach(async () => {
  for (const side of SIDES) pair[side].fail(new DcpipeError("ABORTED", "the test is over"));
  await settled();
  startTime();
});

/** Sends without end until it is stopped; counts what comes. */
async function flow(from: Side): Promise<{ read: number; stop: () => void; ended: Promise<void> }> {
  const mine: Stream = pair[from].open(Uint8Array.of(1));
  const theirs = await within(pair[otherSide(from)].accept());
  const count = { read: 0, stopped: false };
  const writing = (async () => {
    while (!count.stopped) await mine.write(new Uint8Array(50_000));
    await mine.end();
  })();
  writing.catch(() => undefined);
  const reading = (async () => {
    for (let part = await theirs.read(); part; part = await theirs.read()) count.read += part.length;
  })();
  reading.catch(() => undefined);
  return {
    get read() {
      return count.read;
    },
    stop: () => {
      count.stopped = true;
    },
    ended: Promise.all([writing, reading]).then(() => undefined),
  };
}

test("a direct path that only one side has costs the relay nothing, and nothing is lost with it", async () => {
  const going = await flow("joining");
  await pass(100);
  const direct = new MemoryLane(0, "control", () => 20);
  attach(direct, "waiting", false);
  await pass(3000);
  expect(pair.joining.state).toBe("running");
  direct.ends.joining.close();
  await pass(100);
  expect([pair.waiting.relayed, pair.joining.relayed]).toEqual([true, true]);
  const { read } = going;
  await run(() => going.read > read + 1_000_000, 10_000, "more of it");
  going.stop();
  await within(going.ended, 10_000);
});

test("the relay is left as soon as both have the direct path, however much goes both ways", async () => {
  const bulk = new MemoryLane(RELAY + 1, "bulk", () => 300);
  for (const side of SIDES) attach(bulk, side, true);
  const both = [await flow("joining"), await flow("waiting")];
  await pass(600);
  const direct = new MemoryLane(0, "control", () => 100);
  for (const side of SIDES) attach(direct, side, false);
  await pass(1500);
  expect([relay.closed, bulk.closed]).toEqual([true, true]);
  for (const each of both) each.stop();
  await within(Promise.all(both.map(({ ended }) => ended)), 10_000);
});
