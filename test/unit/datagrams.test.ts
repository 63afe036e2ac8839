/** Datagrams beside the streams: over channels in memory that lose and reorder, and from asking for a channel to losing it. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ETHERNET_MTU, SAFE_MTU } from "../../src/connect/bulk.ts";
import { connect, listen, type Joining, type Waiting } from "../../src/connect/token.ts";
import { DcpipeError } from "../../src/errors.ts";
import {
  MAX_AHEAD,
  MAX_QUEUE,
  MAX_WAIT_MS,
  MAX_WAITING,
  MAX_WAITING_BYTES,
  MAX_WAITING_STREAM,
} from "../../src/session/datagrams.ts";
import { MAX_STREAMS, type Session } from "../../src/session/session.ts";
import type { Stream } from "../../src/session/stream.ts";
import { decodeFrames, encodeFrame, MAX_DATAGRAM, type Frame } from "../../src/wire/frame.ts";
import { encodeLane } from "../../src/wire/lane.ts";
import { Ether, Host } from "./ether.ts";
import {
  addDatagrams,
  otherSide,
  pass,
  random,
  run,
  sessions,
  SIDES,
  startTime,
  stopTime,
  within,
  type DatagramEnd,
  type Pair,
  type Side,
} from "./network.ts";

const HEADER = Uint8Array.of(6);

/** A datagram that says which one it is, and whose every byte follows from that. */
function datagram(number: number, length: number): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, i) => number * 7 + i * 31 + (i >> 8));
  if (length >= 4) new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

/** Keeps what comes; the bytes are lent. */
function collect(stream: Stream): Uint8Array[] {
  const got: Uint8Array[] = [];
  stream.ondatagram = (payload) => got.push(payload.slice());
  return got;
}

const numbers = (got: readonly Uint8Array[]): (number | undefined)[] => got.map(([first]) => first);

beforeEach(stopTime);

describe("between two sessions", () => {
  let pair: Pair;

  beforeEach(() => {
    pair = sessions();
  });

  afterEach(async () => {
    for (const side of SIDES) pair[side].fail(new DcpipeError("ABORTED", "the test is over"));
    // What is on its way, and the news that channels are closed.
    await pass(2000);
    expect(vi.getTimerCount()).toBe(0);
    startTime();
  });

  async function open(opener: Side = "joining"): Promise<[mine: Stream, theirs: Stream]> {
    const mine = pair[opener].open(HEADER);
    return [mine, await within(pair[otherSide(opener)].accept())];
  }

  test("arrive both ways, whole, each alone in its message", async () => {
    const ends = addDatagrams(pair, 2);
    const messages: Uint8Array[] = [];
    const send = ends.joining.send.bind(ends.joining);
    ends.joining.send = (message) => {
      messages.push(message.slice());
      return send(message);
    };
    const [mine, theirs] = await open();
    const [here, there] = [collect(mine), collect(theirs)];
    const lengths = [0, 1, 3, 63, 64, 1100, 1500, 9000, 16_384, MAX_DATAGRAM];
    for (const [i, length] of lengths.entries()) {
      // The sender's bytes are its own again at once.
      const payload = datagram(i, length);
      expect(mine.sendDatagram(payload)).toBe(true);
      payload.fill(0xff);
      expect(theirs.sendDatagram(datagram(100 + i, length))).toBe(true);
    }
    await pass(100);
    expect(there).toEqual(lengths.map((length, i) => datagram(i, length)));
    expect(here).toEqual(lengths.map((length, i) => datagram(100 + i, length)));
    expect(messages.map((message) => decodeFrames(message).map(({ type }) => type))).toEqual(
      lengths.map(() => ["DATAGRAM"]),
    );
  });

  test("are lost and overtake each other without holding anything up", async () => {
    const roll = random(5);
    let lost = 0;
    addDatagrams(pair, 2, () => {
      if (roll() >= 0.3) return 1 + 50 * roll();
      lost++;
      return undefined;
    });
    const [mine, theirs] = await open();
    const got = collect(theirs);
    const content = datagram(1, 300_000);
    const written = mine.write(content);
    for (let i = 0; i < 500; i++) {
      expect(mine.sendDatagram(datagram(i, 4 + (i % 50)))).toBe(true);
      await pass(2);
    }
    await pass(100);
    const came = got.map((payload) => new DataView(payload.buffer).getUint32(0));
    expect(lost).toBeGreaterThan(100);
    expect(came).toHaveLength(500 - lost);
    expect(new Set(came).size).toBe(came.length);
    expect(came).not.toEqual(came.toSorted((a, b) => a - b));
    expect(got).toEqual(came.map((number) => datagram(number, 4 + (number % 50))));
    let read = 0;
    while (read < content.length) {
      const chunk = await within(theirs.read());
      expect(chunk).toEqual(content.subarray(read, read + (chunk?.length ?? 0)));
      read += chunk?.length ?? 0;
    }
    await within(written);
  });

  test("do not go where they cannot", async () => {
    const [mine] = await open();
    expect(mine.sendDatagram(Uint8Array.of(1))).toBe(false);
    expect(pair.joining.datagramsReady).toBe(false);
    addDatagrams(pair, 2);
    expect(pair.joining.datagramsReady).toBe(true);
    expect(mine.sendDatagram(new Uint8Array(MAX_DATAGRAM + 1))).toBe(false);
    expect(mine.sendDatagram(Uint8Array.of(1))).toBe(true);
    mine.reset();
    expect(mine.sendDatagram(Uint8Array.of(1))).toBe(false);
  });

  test("do not go when the stream has ended well", async () => {
    addDatagrams(pair, 2);
    const [mine, theirs] = await open();
    await within(Promise.all([mine.end(), theirs.end(), mine.read(), theirs.read()]));
    await within(Promise.all([mine.closed, theirs.closed]));
    expect(mine.sendDatagram(Uint8Array.of(1))).toBe(false);
  });

  test("are lost, not late, when the channel's queue is long", async () => {
    const ends = addDatagrams(pair, 2, () => 1000);
    const [mine, theirs] = await open();
    const got = collect(theirs);
    for (let i = 0; i < 100; i++) expect(mine.sendDatagram(datagram(i, 10_000))).toBe(true);
    expect(ends.joining.bufferedAmount).toBeGreaterThan(MAX_QUEUE);
    expect(ends.joining.bufferedAmount).toBeLessThanOrEqual(MAX_QUEUE + 10_010);
    await pass(2000);
    expect(got.length).toBe(Math.ceil((MAX_QUEUE + 1) / 10_004));
    mine.sendDatagram(datagram(7, 10));
    await pass(2000);
    expect(got.at(-1)).toEqual(datagram(7, 10));
  });

  test("wait for the OPEN of their stream, and for somebody who listens", async () => {
    pair.control.directions.joining.delay = () => 1000;
    addDatagrams(pair, 2);
    const mine = pair.joining.open(HEADER);
    for (let i = 0; i < 5; i++) mine.sendDatagram(Uint8Array.of(i));
    await pass(500);
    expect(pair.waiting.streams).toBe(0);
    const theirs = await within(pair.waiting.accept());
    // Longer than a stream that never comes is waited for.
    await pass(2 * MAX_WAIT_MS);
    mine.sendDatagram(Uint8Array.of(5));
    await pass(50);
    const got = collect(theirs);
    mine.sendDatagram(Uint8Array.of(6));
    await pass(50);
    expect(numbers(got)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    theirs.ondatagram = undefined;
    mine.sendDatagram(Uint8Array.of(7));
    await pass(50);
    expect(numbers(collect(theirs))).toEqual([]);
  });

  test("for a stream of the one that receives wait for somebody who listens, too", async () => {
    addDatagrams(pair, 2);
    const [mine, theirs] = await open();
    for (let i = 0; i < MAX_WAITING_STREAM + 10; i++) theirs.sendDatagram(Uint8Array.of(i));
    await pass(50);
    expect(numbers(collect(mine))).toEqual(Array.from({ length: MAX_WAITING_STREAM }, (_, i) => i));
  });

  test("are gone with their stream", async () => {
    addDatagrams(pair, 2);
    const [mine, theirs] = await open();
    for (let i = 0; i < MAX_WAITING; i++) mine.sendDatagram(Uint8Array.of(i));
    await pass(50);
    theirs.reset();
    await pass(50);
    const got = collect(theirs);
    expect(mine.sendDatagram(Uint8Array.of(1))).toBe(false);
    expect(got).toEqual([]);
    expect(pair.waiting.state).toBe("running");
  });

  test("go by the newest channel and come by any", async () => {
    const first = addDatagrams(pair, 2);
    const [mine, theirs] = await open();
    const got = collect(theirs);
    const second = addDatagrams(pair, 5);
    const sent: string[] = [];
    for (const [name, end] of Object.entries({ first: first.joining, second: second.joining })) {
      const send = end.send.bind(end);
      end.send = (message) => {
        sent.push(name);
        return send(message);
      };
    }
    mine.sendDatagram(Uint8Array.of(1));
    await pass(50);
    first.joining.send(encodeFrame({ type: "DATAGRAM", stream: 1, payload: Uint8Array.of(2) }));
    await pass(50);
    expect(numbers(got)).toEqual([1, 2]);
    second.waiting.close();
    await pass(50);
    mine.sendDatagram(Uint8Array.of(3));
    await pass(50);
    expect(numbers(got)).toEqual([1, 2, 3]);
    expect(sent).toEqual(["second", "first", "first"]);
    // A third one is the end of the oldest.
    addDatagrams(pair, 7);
    expect(first.joining.closed).toBe(false);
    addDatagrams(pair, 9);
    expect(first.joining.closed).toBe(true);
    expect(pair.joining.datagramsReady).toBe(true);
  });

  test("a number is used once", () => {
    const first = addDatagrams(pair, 2);
    const second = addDatagrams(pair, 2);
    expect([first.joining.closed, second.joining.closed]).toEqual([false, true]);
  });

  test("a lost channel is wanted again by who wanted it, and no news for the lanes", async () => {
    const asked = { waiting: 0, joining: 0 };
    const lanes: number[] = [];
    for (const side of SIDES) {
      pair[side].onwantdatagrams = () => asked[side]++;
      pair[side].onlane = (id) => lanes.push(id);
    }
    pair.joining.wantDatagrams();
    pair.joining.wantDatagrams();
    expect(asked).toEqual({ waiting: 0, joining: 2 });
    const first = addDatagrams(pair, 2);
    pair.joining.wantDatagrams();
    expect(asked).toEqual({ waiting: 0, joining: 2 });
    const second = addDatagrams(pair, 4);
    first.waiting.close();
    await pass(50);
    expect(asked).toEqual({ waiting: 0, joining: 2 });
    second.waiting.close();
    await pass(50);
    expect(asked).toEqual({ waiting: 0, joining: 3 });
    expect(pair.joining.datagramsReady).toBe(false);
    // One that is dead when it comes is lost like any other.
    const [dead] = [addDatagrams(pair, 6).joining];
    dead.close();
    pair.joining.attachDatagrams(dead, 8);
    await pass(50);
    expect(asked.joining).toBeGreaterThan(3);
    expect(pair.joining.datagramsReady).toBe(false);
    expect(lanes).toEqual([]);
    expect([pair.waiting.state, pair.joining.state]).toEqual(["running", "running"]);
  });

  test("are no lane to live on: when the lanes are lost, their channel goes too", async () => {
    const asked: string[] = [];
    pair.joining.onwantdatagrams = () => asked.push("joining");
    const ends = addDatagrams(pair, 2);
    pair.joining.wantDatagrams();
    pair.control.silence();
    await run(() => pair.joining.state === "down", 20_000, "the silence noticed");
    expect(ends.joining.closed).toBe(true);
    expect(pair.joining.datagramsReady).toBe(false);
    // Nobody can be asked now.
    expect(asked).toEqual([]);
  });

  test("the session's end is theirs", async () => {
    const asked: string[] = [];
    for (const side of SIDES) {
      pair[side].onwantdatagrams = () => asked.push(side);
    }
    const ends = addDatagrams(pair, 2);
    for (const side of SIDES) pair[side].wantDatagrams();
    await within(Promise.all(SIDES.map((side) => pair[side].close())));
    expect([ends.waiting.closed, ends.joining.closed]).toEqual([true, true]);
    for (const side of SIDES) pair[side].wantDatagrams();
    expect(asked).toEqual([]);
    const late = addDatagrams(pair, 4);
    expect([late.waiting.closed, late.joining.closed]).toEqual([true, true]);
    expect(pair.joining.datagramsReady).toBe(false);
  });

  describe("from a side that says what it likes", () => {
    let raw: DatagramEnd;
    let ours: Stream;
    const say = (stream: number, payload: Uint8Array): boolean =>
      raw.send(encodeFrame({ type: "DATAGRAM", stream, payload }));

    /** The session under test waits: its own streams are even. */
    beforeEach(async () => {
      raw = addDatagrams(pair, 1, () => 0).joining;
      [ours] = await open("waiting");
    });

    /** Opens the other side's stream with this number, and those before it. */
    async function openUpTo(id: number): Promise<Stream[]> {
      const opened: Stream[] = [];
      for (let next = 1; next <= id; next += 2) pair.joining.open(HEADER);
      for (let next = 1; next <= id; next += 2) opened.push(await within(pair.waiting.accept()));
      return opened;
    }

    const ping: Frame = { type: "PING", id: 1 };
    const datagram0: Frame = { type: "DATAGRAM", stream: 0, payload: Uint8Array.of(1) };
    const joined = (...frames: Frame[]): Uint8Array =>
      new Uint8Array(Buffer.concat(frames.map((frame) => encodeFrame(frame))));

    const BROKEN: readonly [string, Uint8Array][] = [
      ["an empty message", new Uint8Array(0)],
      ["noise", Uint8Array.of(0xde, 0xad, 0xbe, 0xef)],
      ["a HELLO", Uint8Array.of(0x40, 1, 0, 0, 0)],
      ["a datagram that ends early", joined(datagram0).subarray(0, -1)],
      ["a datagram with a byte behind it", Uint8Array.of(...joined(datagram0), 0)],
      ["two datagrams", joined(datagram0, datagram0)],
      ["a datagram behind another frame", joined(ping, datagram0)],
      ["another frame", joined(ping)],
      ["an acknowledgement", joined({ type: "ACK", channel: 0, count: 0 })],
      ["data", joined({ type: "DATA", stream: 0, offset: 0, payload: Uint8Array.of(1) })],
      ["a stream", joined({ type: "OPEN", stream: 1, header: HEADER })],
      [
        "a datagram of one byte too many",
        joined({ type: "DATAGRAM", stream: 0, payload: new Uint8Array(MAX_DATAGRAM + 1) }),
      ],
      [
        "a datagram for a stream of the other side's that was never opened",
        joined({ type: "DATAGRAM", stream: 2, payload: Uint8Array.of(1) }),
      ],
    ];

    test.each(BROKEN)("%s breaks the protocol", async (_, message) => {
      collect(ours);
      raw.send(message);
      await pass(50);
      await expect(pair.waiting.closed).rejects.toMatchObject({
        code: "PROTOCOL",
        message: expect.stringMatching(/^the other side broke the protocol: /) as string,
      });
      await expect(pair.joining.closed).rejects.toMatchObject({ code: "PROTOCOL" });
      expect(raw.closed).toBe(true);
    });

    test("a datagram on the control channel breaks the protocol", async () => {
      pair.control.ends.joining.send(joined(datagram0));
      await pass(50);
      await expect(pair.waiting.closed).rejects.toMatchObject({ code: "PROTOCOL" });
    });

    test("for streams that are over are passed over", async () => {
      const [theirs] = await openUpTo(1);
      theirs?.reset();
      ours.reset();
      await pass(50);
      say(0, Uint8Array.of(1));
      say(1, Uint8Array.of(1));
      await pass(50);
      expect(pair.waiting.state).toBe("running");
    });

    test("a stream that is not open yet keeps a few", async () => {
      for (let i = 0; i < 3 * MAX_WAITING_STREAM; i++) say(1, Uint8Array.of(i));
      await pass(10);
      const [theirs] = await openUpTo(1);
      expect(theirs && numbers(collect(theirs))).toEqual(
        Array.from({ length: MAX_WAITING_STREAM }, (_, i) => i),
      );
    });

    test("all streams that are not open yet keep so many", async () => {
      for (let i = 0; i < 40; i++) for (let id = 1; id < 40; id += 2) say(id, Uint8Array.of(id));
      await pass(10);
      const streams = await openUpTo(39);
      expect(streams.flatMap((stream) => numbers(collect(stream)))).toHaveLength(MAX_WAITING);
      // The room is free again.
      say(41, Uint8Array.of(1));
      await pass(10);
      const stream = (await openUpTo(1))[0];
      expect(stream && numbers(collect(stream))).toEqual([1]);
    });

    test("and so many bytes", async () => {
      for (let i = 0; i < 40; i++) say(1, new Uint8Array(10_000));
      await pass(10);
      const [theirs] = await openUpTo(1);
      expect(theirs && collect(theirs).length).toBe(Math.floor(MAX_WAITING_BYTES / 10_000));
    });

    test("for a stream that is too far away are lost", async () => {
      const horizon = -1;
      say(horizon + MAX_AHEAD, Uint8Array.of(1));
      say(horizon + MAX_AHEAD + 2, Uint8Array.of(2));
      await pass(10);
      const streams = await openUpTo(horizon + MAX_AHEAD + 2);
      expect(streams.at(-2)).toMatchObject({ id: horizon + MAX_AHEAD });
      expect(numbers(collect(streams.at(-2) ?? ours))).toEqual([1]);
      expect(numbers(collect(streams.at(-1) ?? ours))).toEqual([]);
    });

    test("for a stream that does not come are lost in time, each in its own", async () => {
      say(1, Uint8Array.of(1));
      await pass(MAX_WAIT_MS / 2);
      say(1, Uint8Array.of(2));
      await pass(MAX_WAIT_MS / 2 + 10);
      const [theirs] = await openUpTo(1);
      expect(theirs && numbers(collect(theirs))).toEqual([2]);
    });

    test("for streams that are refused leave their room in time", async () => {
      for (let i = 0; i < MAX_STREAMS; i++) pair.joining.open(HEADER);
      await run(() => pair.waiting.streams > MAX_STREAMS, 60_000, "all streams open");
      const refused = 2 * MAX_STREAMS + 1;
      for (let i = 0; i < MAX_WAITING; i++) {
        // Some come when others have waited for a while.
        if (i === MAX_WAITING / 2) await pass(MAX_WAIT_MS / 2);
        say(refused + 2 * (i % 8), Uint8Array.of(i));
      }
      await pass(10);
      for (let i = 0; i < 8; i++) pair.joining.open(HEADER);
      await pass(MAX_WAIT_MS + 100);
      const streams = [await within(pair.waiting.accept()), await within(pair.waiting.accept())];
      expect(streams.map(({ id }) => id)).toEqual([1, 3]);
      for (const { id } of streams) for (let i = 0; i < MAX_WAITING_STREAM; i++) say(id, Uint8Array.of(i));
      const third = await within(pair.waiting.accept());
      for (let i = 0; i < MAX_WAITING_STREAM; i++) say(third.id, Uint8Array.of(i));
      await pass(10);
      // More than the half that came first has left.
      expect([...streams, third].flatMap((stream) => collect(stream))).toHaveLength(3 * MAX_WAITING_STREAM);
    });
  });
});

describe("a channel for them", () => {
  let ether: Ether;
  let near: Host;
  let far: Host;
  const made: (Waiting | Joining)[] = [];

  beforeEach(() => {
    ether = new Ether();
    near = new Host(ether, "192.0.2.1");
    far = new Host(ether, "192.0.2.2");
  });

  afterEach(async () => {
    for (const each of made.splice(0)) {
      (await each.session).fail(new DcpipeError("ABORTED", "the test is over"));
      each.close();
    }
    await pass(100);
    expect([near.alive, far.alive]).toEqual([0, 0]);
    expect(vi.getTimerCount()).toBe(0);
    startTime();
  });

  /** The waiting side and the joining side. */
  async function meet(): Promise<[Session, Session]> {
    const waiting = await within(listen(near.platform, { stun: [] }));
    const joining = connect(far.platform, waiting.offer, { stun: [] });
    made.push(waiting, joining);
    return within(Promise.all([waiting.session, joining.session]));
  }

  const channels = (host: Host): { close(): void }[] =>
    [...ether.peers].filter((peer) => peer.host === host && peer.config.datagrams && peer.state === "open");

  const ready = (...sides: Session[]): Promise<void> =>
    run(() => sides.every(({ datagramsReady }) => datagramsReady), 60_000, "a datagram channel");

  async function exchange(a: Session, b: Session): Promise<void> {
    const mine = a.open(HEADER);
    const theirs = await within(b.accept());
    const [here, there] = [collect(mine), collect(theirs)];
    mine.sendDatagram(Uint8Array.of(1));
    theirs.sendDatagram(Uint8Array.of(2));
    await pass(50);
    expect([numbers(there), numbers(here)]).toEqual([[1], [2]]);
    mine.reset();
  }

  test.each([
    ["the waiting side", [true, false]],
    ["the joining side", [false, true]],
    ["both sides at the same moment", [true, true]],
  ] as const)("is made when %s asks: one, and both use it", async (_, [first, second]) => {
    const [a, b] = await meet();
    await pass(100);
    if (first) a.wantDatagrams();
    if (second) b.wantDatagrams();
    await ready(a, b);
    await exchange(a, b);
    await pass(30_000);
    expect([near.alive, far.alive]).toEqual([2, 2]);
    expect([channels(near).length, channels(far).length]).toEqual([1, 1]);
    expect(a.lanes.bulk + b.lanes.bulk).toBe(0);
  });

  test("is not made when nobody asks", async () => {
    const [a, b] = await meet();
    await pass(10_000);
    expect([near.created, far.created]).toEqual([1, 1]);
    expect([a.datagramsReady, b.datagramsReady]).toEqual([false, false]);
  });

  test("is made again when it was lost: at once if it lasted, else later and later", async () => {
    const [a, b] = await meet();
    b.wantDatagrams();
    await ready(a, b);
    await pass(15_000);
    const pauses: number[] = [];
    for (let i = 0; i < 4; i++) {
      channels(i % 2 === 0 ? near : far)[0]?.close();
      await run(() => !a.datagramsReady && !b.datagramsReady, 1000, "the loss noticed");
      const lost = performance.now();
      await ready(a, b);
      pauses.push(performance.now() - lost);
    }
    const [first = 0, second = 0, third = 0, fourth = 0] = pauses;
    expect(first).toBeLessThan(200);
    expect(second).toBeGreaterThanOrEqual(1000);
    expect(third).toBeGreaterThanOrEqual(2000);
    expect(fourth).toBeGreaterThanOrEqual(4000);
    expect(fourth).toBeLessThan(5000);
    await exchange(a, b);
    expect([a.state, b.state]).toEqual(["running", "running"]);
  });

  test("is made again in the next epoch when the network was gone", async () => {
    const [a, b] = await meet();
    a.wantDatagrams();
    b.wantDatagrams();
    await ready(a, b);
    ether.up = false;
    await run(() => a.state === "down" && b.state === "down", 20_000, "the silence noticed");
    expect([a.datagramsReady, b.datagramsReady]).toEqual([false, false]);
    await pass(5000);
    ether.up = true;
    await run(() => a.state === "running" && b.state === "running", 60_000, "both back");
    await ready(a, b);
    await exchange(b, a);
    await pass(30_000);
    expect([channels(near).length, channels(far).length]).toEqual([1, 1]);
  });

  test("is made with smaller packets where large ones do not pass", async () => {
    const mtus: number[] = [];
    const [a, b] = await meet();
    ether.largest = SAFE_MTU;
    b.wantDatagrams();
    await run(
      () => {
        for (const { config } of ether.peers) if (config.datagrams) mtus.push(config.mtu);
        return a.datagramsReady && b.datagramsReady;
      },
      10_000,
      "a datagram channel",
    );
    expect([...new Set(mtus)]).toEqual([ETHERNET_MTU, SAFE_MTU]);
    await exchange(a, b);
  });

  test("on whose other channel somebody speaks is closed", async () => {
    const [a, b] = await meet();
    a.wantDatagrams();
    await ready(a, b);
    const [peer] = [...ether.peers].filter(({ host, config }) => host === near && config.datagrams);
    peer?.channel?.send(encodeFrame({ type: "PING", id: 1 }));
    await run(() => !b.datagramsReady, 1000, "the channel closed");
    expect([a.state, b.state]).toEqual(["running", "running"]);
  });

  test("that is asked for again and again is made once at a time", async () => {
    const [a, b] = await meet();
    await pass(100);
    // What the waiting side might ask for.
    for (let index = 2; index < 2002; index += 2)
      a.signal(encodeLane({ type: "ADD", epoch: 0, index, kind: "datagrams", mtu: 1500, candidates: [] }));
    let most = 0;
    await run(
      () => {
        most = Math.max(most, far.alive);
        return far.alive === 1 && performance.now() > 20_000;
      },
      60_000,
      "all given up",
    );
    expect(most).toBeLessThanOrEqual(3);
    expect(far.created).toBeLessThan(50);
    expect(b.state).toBe("running");
  });
});
