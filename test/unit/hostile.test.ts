/** A session whose other side says what it likes: it ends the session with PROTOCOL and says why, and nothing hangs. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { DcpipeError } from "../../src/errors.ts";
import { INITIAL_WINDOW } from "../../src/session/inbound.ts";
import { MAX_STREAMS, Session } from "../../src/session/session.ts";
import type { Stream } from "../../src/session/stream.ts";
import { channelPair, type MemoryChannel } from "../../src/transport/channel.ts";
import { decodeFrames, encodeFrame, MAX_PAYLOAD, MAX_SIGNAL, type Frame } from "../../src/wire/frame.ts";
import { pass, settled, startTime, stopTime, within } from "./network.ts";

/** A session on the waiting side, and the raw end of its control channel. Its own streams are even, ours are odd. */
class Peer {
  readonly session = new Session("waiting");
  readonly raw: MemoryChannel;
  readonly said: Frame[] = [];
  readonly closed: (DcpipeError | undefined)[] = [];
  /** Acknowledge what the session says, as an honest side does. */
  acknowledge = false;
  #heard = 0;

  constructor() {
    this.raw = this.attach(0, "control");
    this.session.onclosed = (error) => this.closed.push(error);
  }

  attach(id: number, kind: "control" | "bulk"): MemoryChannel {
    const [near, far] = channelPair();
    far.onmessage = (message) => {
      const frames = decodeFrames(message);
      this.said.push(...frames);
      this.#heard++;
      if (this.acknowledge && id === 0 && frames.some(({ type }) => type !== "ACK" && type !== "PONG"))
        far.send(encodeFrame({ type: "ACK", channel: 0, count: this.#heard }));
    };
    this.session.attach(near, id, kind);
    return far;
  }

  say(...frames: (Frame | Uint8Array)[]): void {
    const parts = frames.map((frame) => (frame instanceof Uint8Array ? frame : encodeFrame(frame)));
    this.raw.send(new Uint8Array(Buffer.concat(parts)));
  }

  heard<T extends Frame["type"]>(type: T): Extract<Frame, { type: T }>[] {
    return this.said.filter((frame): frame is Extract<Frame, { type: T }> => frame.type === type);
  }
}

const open = (stream: number): Frame => ({ type: "OPEN", stream, header: Uint8Array.of(1) });
const data = (stream: number, offset: number, length: number): Frame => ({
  type: "DATA",
  stream,
  offset,
  payload: new Uint8Array(length),
});
const fin = (stream: number, offset: number): Frame => ({ type: "FIN", stream, offset });
const finAck = (stream: number): Frame => ({ type: "FIN_ACK", stream });
const reset = (stream: number): Frame => ({ type: "RESET", stream, reason: "IO", text: "" });
const window = (stream: number, limit: number): Frame => ({ type: "WINDOW", stream, limit });
const ack = (channel: number, count: number): Frame => ({ type: "ACK", channel, count });
const lost = (channel: number, count: number): Frame => ({ type: "LOST", channel, count });

let peer: Peer;

beforeEach(() => {
  stopTime();
  peer = new Peer();
});

afterEach(async () => {
  peer.session.fail(new DcpipeError("ABORTED", "the test is over"));
  await settled();
  startTime();
});

/** More than any window a stream may have. */
const FAR = 64 * 1024 * 1024;

/** What breaks the protocol, after the session has opened stream 0 and we have opened stream 1. */
const BROKEN: readonly [string, ...(Frame | Uint8Array)[]][] = [
  ["an empty message", new Uint8Array(0)],
  ["noise", Uint8Array.of(0xde, 0xad, 0xbe, 0xef)],
  ["an unknown frame", Uint8Array.of(0x0d, 0)],
  ["a HELLO", Uint8Array.of(0x40, 1, 0, 0, 0)],
  ["a frame that ends early", Uint8Array.of(0x02, 1, 0, 9, 1)],
  ["a trailing byte", Uint8Array.of(0x09, 1, 0)],
  ["a good frame and a bad one", Uint8Array.of(...encodeFrame({ type: "PING", id: 1 }), 0)],
  ["a payload of one byte too many", data(1, 0, MAX_PAYLOAD + 1)],
  ["data without a byte", data(1, 0, 0)],
  ["a signal of one byte too many", { type: "SIGNAL", payload: new Uint8Array(MAX_SIGNAL + 1) }],
  ["data for a stream of ours that was never opened", data(3, 0, 1)],
  ["data for a stream of theirs that was never opened", data(2, 0, 1)],
  ["an end for a stream that was never opened", fin(3, 0)],
  ["a FIN_ACK for a stream that was never opened", finAck(2)],
  ["a reset for a stream that was never opened", reset(3)],
  ["credit for a stream that was never opened", window(4, 1)],
  ["a stream opened out of turn", open(5)],
  ["a stream opened twice", open(1)],
  ["a stream opened under the other side's number", open(2)],
  ["data beyond the credit", data(1, FAR, 1)],
  [
    "data beyond the credit in an honest order",
    ...Array.from({ length: FAR / MAX_PAYLOAD + 1 }, (_, i) => data(1, i * MAX_PAYLOAD, MAX_PAYLOAD)),
  ],
  ["data that overlaps without end", ...Array.from({ length: 500 }, (_, i) => data(1, 1, 60_000 + i))],
  ["data behind the end", fin(1, 5), data(1, 5, 1)],
  ["data across the end", fin(1, 5), data(1, 0, 6)],
  ["data behind an end that was reached", data(1, 0, 5), fin(1, 5), data(1, 5, 1)],
  ["an end before the data", data(1, 0, 5), fin(1, 4)],
  ["an end before data that came early", data(1, 100, 5), fin(1, 104)],
  ["two ends that differ", fin(1, 5), fin(1, 6)],
  ["a FIN_ACK without a FIN", finAck(0)],
  ["an acknowledgement for what was not sent", ack(0, 1000)],
  ["an acknowledgement for a channel that never was", ack(7, 0)],
  ["an acknowledgement with a silly count", ack(0, Number.MAX_SAFE_INTEGER)],
  ["a loss of what was not sent", lost(1, 1000)],
  ["a loss with a silly count", lost(1, Number.MAX_SAFE_INTEGER)],
  ["a loss of messages on a channel that never was", lost(7, 1)],
  [
    "losses of channels that never were, without end",
    ...Array.from({ length: 1500 }, (_, i) => lost(i + 7, 0)),
  ],
  ["an answer to a question that was not asked", { type: "PONG", id: 999 }],
];

describe("what breaks the protocol ends the session", () => {
  test.each(BROKEN)("%s", async (_, ...frames) => {
    // A second channel, so that one may be said to be lost.
    peer.attach(1, "bulk");
    const ours = peer.session.open(Uint8Array.of(1));
    peer.say(open(1));
    await pass(100);
    const theirs = await within(peer.session.accept());
    const errors: string[] = [];
    for (const promise of [
      ours.read(),
      theirs.read().then(() => theirs.closed),
      peer.session.accept(),
      peer.session.closed,
    ])
      promise.catch((error: unknown) =>
        errors.push(error instanceof DcpipeError ? error.code : String(error)),
      );
    for (const frame of frames) peer.say(frame);
    await pass(50);
    // The other side is told before the channel closes.
    expect(peer.heard("GOAWAY")).toMatchObject([{ reason: "PROTOCOL" }]);
    await pass(1000);
    expect(errors).toEqual(["PROTOCOL", "PROTOCOL", "PROTOCOL", "PROTOCOL"]);
    expect(peer.closed).toHaveLength(1);
    expect(peer.closed[0]?.message).toMatch(/^the other side broke the protocol: /);
    expect(peer.raw.closed).toBe(true);
    expect(peer.session.streams).toBe(0);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("FIN_ACK for bytes that never left", async () => {
    const stream = peer.session.open(Uint8Array.of(1));
    void stream.write(new Uint8Array(INITIAL_WINDOW + 1)).catch(() => undefined);
    const end = stream.end();
    end.catch(() => undefined);
    await pass(50);
    expect(peer.heard("FIN")).toMatchObject([{ offset: INITIAL_WINDOW + 1 }]);
    peer.say(finAck(0));
    await pass(1000);
    await expect(end).rejects.toMatchObject({ code: "PROTOCOL" });
  });

  test("a listener that throws breaks nothing else", async () => {
    peer.session.onsignal = () => {
      throw new DcpipeError("PROTOCOL", "a channel number of the wrong side");
    };
    peer.say({ type: "SIGNAL", payload: Uint8Array.of(1) });
    await pass(1000);
    expect(peer.heard("GOAWAY")).toMatchObject([
      { reason: "PROTOCOL", text: "a channel number of the wrong side" },
    ]);
    expect(peer.closed).toMatchObject([{ code: "PROTOCOL" }]);
  });
});

describe("what is odd but allowed changes nothing", () => {
  let ours: Stream;
  let theirs: Stream;

  beforeEach(async () => {
    peer.acknowledge = true;
    ours = peer.session.open(Uint8Array.of(1));
    peer.say(open(1));
    await pass(100);
    theirs = await within(peer.session.accept());
  });

  afterEach(async () => {
    await pass(100);
    expect(peer.closed).toEqual([]);
    expect(peer.session.state).toBe("running");
  });

  test("an end said twice, the same", async () => {
    peer.say(data(1, 0, 5), fin(1, 5), fin(1, 5));
    expect(await within(theirs.read())).toHaveLength(5);
    expect(await within(theirs.read())).toBeUndefined();
    await pass(50);
    expect(peer.heard("FIN_ACK")).toEqual([finAck(1)]);
  });

  test("data that came already", async () => {
    peer.say(data(1, 0, 5), data(1, 0, 5), data(1, 3, 2), fin(1, 5));
    let length = 0;
    for (let chunk = await within(theirs.read()); chunk; chunk = await within(theirs.read()))
      length += chunk.length;
    expect(length).toBe(5);
  });

  test("less credit than before, and all there is", async () => {
    peer.say(window(0, 10), window(0, 0), window(0, Number.MAX_SAFE_INTEGER), window(0, 10));
    await pass(50);
    void ours.write(new Uint8Array(300_000)).catch(() => undefined);
    await pass(5000);
    expect(peer.heard("DATA").reduce((sum, { payload }) => sum + payload.length, 0)).toBe(300_000);
  });

  test("an acknowledgement of less than the last", () => {
    peer.say(ack(0, 0), ack(0, 1), ack(0, 0));
  });

  test("an answer twice", async () => {
    await pass(3000);
    const [question] = peer.heard("PING");
    peer.say({ type: "PONG", id: question?.id ?? 0 }, { type: "PONG", id: question?.id ?? 0 });
  });

  test("frames for streams that are over", async () => {
    peer.say(reset(1));
    ours.reset();
    await pass(50);
    peer.say(
      data(1, 0, 5),
      fin(1, 5),
      finAck(1),
      window(1, 99),
      reset(1),
      data(0, FAR, 5),
      fin(0, 1),
      finAck(0),
      reset(0),
    );
  });

  test("a stream reset by its opener before anybody took it", async () => {
    peer.say(open(3), data(3, 0, 5), reset(3));
    await pass(50);
    const stream = await within(peer.session.accept());
    await expect(stream.read()).rejects.toMatchObject({ code: "INCOMPLETE" });
  });

  test("a channel that stood on their side only: nothing came over it, and that is said", async () => {
    peer.say(lost(7, 0));
    await pass(50);
    peer.say(lost(7, 0));
    await pass(50);
    expect(peer.heard("LOST")).toEqual([lost(7, 0)]);
  });

  test("a signal nobody listens to", () => {
    peer.say({ type: "SIGNAL", payload: new Uint8Array(MAX_SIGNAL) });
  });

  test("questions without end are answered some at a time", async () => {
    const questions = Array.from({ length: 20_000 }, (_, id): Frame => ({ type: "PING", id }));
    peer.say(...questions);
    await pass(100);
    expect(peer.heard("PONG").length).toBeGreaterThan(0);
    expect(peer.heard("PONG").length).toBeLessThanOrEqual(64);
  });

  test("a reader gets what came before a long silence", async () => {
    peer.say(data(1, 0, 5));
    for (let i = 0; i < 30; i++) {
      peer.say({ type: "PING", id: i });
      await pass(1000);
    }
    expect(await within(theirs.read())).toHaveLength(5);
  });
});

describe("a flood of streams", () => {
  function flood(first: number, count: number): void {
    for (let i = first; i < first + count; i += 100)
      peer.say(...Array.from({ length: 100 }, (_, j) => open(2 * (i + j) + 1)));
  }

  test("is refused beyond the limit, one by one", async () => {
    peer.acknowledge = true;
    for (let first = 0; first < 100_000; first += 10_000) {
      flood(first, 10_000);
      await pass(100);
    }
    expect(peer.session.streams).toBe(MAX_STREAMS);
    const refused = peer.heard("RESET");
    expect(refused).toHaveLength(100_000 - MAX_STREAMS);
    expect(new Set(refused.map(({ reason }) => reason))).toEqual(new Set(["LIMIT"]));
    expect(peer.session.state).toBe("running");
  });

  test("from a side that does not listen ends the session: what it must be told has a limit", async () => {
    flood(0, 100_000);
    await pass(2000);
    expect(peer.session.streams).toBe(0);
    expect(peer.closed).toMatchObject([{ code: "LIMIT" }]);
    expect(peer.heard("RESET").length).toBeLessThan(70_000);
  });
});

describe("a side that says nothing", () => {
  test("is dead after six seconds, and the session waits for another channel", async () => {
    const gone: string[] = [];
    peer.session.onlane = (_id, left, reason) => gone.push(`${left} ${reason}`);
    await pass(11_000);
    expect(gone).toEqual(["0 nothing heard for 6 s"]);
    expect(peer.session.state).toBe("down");
    expect(peer.raw.closed).toBe(true);
  });

  test("cannot keep a good-bye waiting for ever", async () => {
    const closed = peer.session.close();
    await within(closed, 11_000);
    await pass(10);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("cannot keep bad news waiting", async () => {
    await within(peer.session.abort("IO", "disk gone"), 1000);
    expect(peer.heard("GOAWAY")).toEqual([{ type: "GOAWAY", reason: "IO", text: "disk gone" }]);
  });
});

describe("a good-bye", () => {
  test("is answered when the streams are done, and the one who heard the last word hangs up", async () => {
    peer.say(open(1));
    const stream = await within(peer.session.accept());
    peer.say({ type: "GOAWAY", reason: "CLOSED", text: "" });
    await pass(5000);
    expect(peer.heard("GOAWAY")).toEqual([]);
    expect(() => peer.session.open(Uint8Array.of(1))).toThrow(
      expect.objectContaining({ code: "CLOSED" }) as Error,
    );
    peer.say(fin(1, 0));
    const end = stream.end();
    expect(await within(stream.read())).toBeUndefined();
    peer.say(finAck(1));
    await within(end);
    await pass(50);
    expect(peer.heard("GOAWAY")).toEqual([{ type: "GOAWAY", reason: "CLOSED", text: "" }]);
    expect(peer.session.state).toBe("closing");
    peer.raw.close();
    await within(peer.session.closed, 100);
    expect(peer.closed).toEqual([undefined]);
  });

  test("whose answer nobody hangs up on is over soon", async () => {
    peer.say({ type: "GOAWAY", reason: "CLOSED", text: "" });
    await within(peer.session.closed, 3000);
  });

  test("while a stream lives, and then no word more: giving up is the end, once", async () => {
    const stream = peer.session.open(Uint8Array.of(1));
    await pass(50);
    peer.say({ type: "GOAWAY", reason: "CLOSED", text: "" });
    await pass(50);
    const error = new DcpipeError("PEER_GONE", "gone");
    peer.session.fail(error);
    await expect(stream.closed).rejects.toBe(error);
    await pass(10_000);
    expect(peer.closed).toEqual([error]);
    expect(peer.session.state).toBe("closed");
    expect(vi.getTimerCount()).toBe(0);
  });

  test("with bad news fails every stream with its reason and its words", async () => {
    const stream = peer.session.open(Uint8Array.of(1));
    const end = stream.end();
    end.catch(() => undefined);
    await pass(50);
    peer.say({ type: "GOAWAY", reason: "NO_SPACE", text: "/dev/sda1" });
    await pass(50);
    await expect(end).rejects.toThrow("the other side's disk is full: /dev/sda1");
    expect(peer.closed).toMatchObject([{ code: "NO_SPACE" }]);
  });
});
