/** Sessions over in-memory lanes on virtual time: what they promise when the other side is honest. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { DcpipeError, type ErrorCode } from "../../src/errors.ts";
import { INITIAL_WINDOW, MAX_WINDOW } from "../../src/session/inbound.ts";
import { WRITE_BUFFER } from "../../src/session/outbound.ts";
import { DEAD_MS, HEARTBEAT_MS, Pulse, TICK_MS } from "../../src/session/pulse.ts";
import { MAX_STREAMS } from "../../src/session/session.ts";
import type { Stream } from "../../src/session/stream.ts";
import {
  decodeFrames,
  MAX_CONTROL_MESSAGE,
  MAX_HEADER,
  REASONS,
  type Frame,
  type Reason,
} from "../../src/wire/frame.ts";
import {
  addBulk,
  MemoryLane,
  otherSide,
  pass,
  run,
  sessions,
  settled,
  SIDES,
  startTime,
  stopTime,
  within,
  type Pair,
  type Side,
} from "./network.ts";

const HEADER = Uint8Array.of(1);

function bytes(length: number, from = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (from + i) * 31 + ((from + i) >> 8));
}

async function open(pair: Pair, opener: Side = "joining"): Promise<[mine: Stream, theirs: Stream]> {
  const mine = pair[opener].open(HEADER);
  return [mine, await within(pair[otherSide(opener)].accept())];
}

async function readAll(stream: Stream): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for (let chunk = await stream.read(); chunk; chunk = await stream.read()) chunks.push(chunk.slice());
  return new Uint8Array(Buffer.concat(chunks));
}

/** What becomes of a promise, to be looked at later. */
function watch(promise: Promise<unknown>): { state: "pending" | "resolved" | ErrorCode } {
  const seen: { state: "pending" | "resolved" | ErrorCode } = { state: "pending" };
  promise.then(
    () => {
      seen.state = "resolved";
    },
    (error: unknown) => {
      seen.state = error instanceof DcpipeError ? error.code : "PROTOCOL";
    },
  );
  return seen;
}

/** Notes every message a side sends on a lane. */
function listenTo(lane: MemoryLane, side: Side): { at: number; size: number; frames: Frame[] }[] {
  const log: { at: number; size: number; frames: Frame[] }[] = [];
  const end = lane.ends[side];
  const send = end.send.bind(end);
  end.send = (message) => {
    log.push({ at: performance.now(), size: message.length, frames: decodeFrames(message.slice()) });
    return send(message);
  };
  return log;
}

/** Writes without end until the session is over. Counts what was written. */
function flood(stream: Stream, chunk = new Uint8Array(64 * 1024)): { written: number } {
  const count = { written: 0 };
  const go = async (): Promise<void> => {
    for (;;) {
      await stream.write(chunk);
      count.written += chunk.length;
    }
  };
  go().catch(() => undefined);
  return count;
}

/** Reads without end; counts. */
function drain(stream: Stream): { read: number } {
  const count = { read: 0 };
  const go = async (): Promise<void> => {
    for (let chunk = await stream.read(); chunk; chunk = await stream.read()) count.read += chunk.length;
  };
  go().catch(() => undefined);
  return count;
}

let pair: Pair;

beforeEach(() => {
  stopTime();
  pair = sessions();
});

afterEach(async () => {
  for (const side of SIDES) pair[side].fail(new DcpipeError("ABORTED", "the test is over"));
  await settled();
  startTime();
});

describe("a stream", () => {
  test("carries its header, and bytes both ways", async () => {
    const header = bytes(MAX_HEADER);
    const mine = pair.joining.open(header);
    const theirs = await within(pair.waiting.accept());
    expect(theirs.header).toEqual(header);
    expect(theirs.id).toBe(mine.id);
    await mine.write(bytes(5000));
    await theirs.write(bytes(3000, 7));
    const ends = Promise.all([mine.end(), theirs.end()]);
    expect(await within(readAll(theirs))).toEqual(bytes(5000));
    expect(await within(readAll(mine))).toEqual(bytes(3000, 7));
    await within(ends);
    await within(Promise.all([mine.closed, theirs.closed]));
    expect(pair.waiting.streams + pair.joining.streams).toBe(0);
  });

  test("may be opened by either side, many at once, and they keep apart", async () => {
    const opened = SIDES.flatMap((side) =>
      [1, 2, 3].map((n) => ({ side, n, stream: pair[side].open(Uint8Array.of(n)) })),
    );
    expect(new Set(opened.map(({ stream }) => stream.id)).size).toBe(6);
    for (const { side, n, stream } of opened) {
      await stream.write(Uint8Array.of(n, side === "waiting" ? 1 : 2));
      const theirs = await within(pair[otherSide(side)].accept());
      expect(theirs.header).toEqual(Uint8Array.of(n));
      expect(await within(theirs.read())).toEqual(Uint8Array.of(n, side === "waiting" ? 1 : 2));
    }
  });

  test("may carry data before it is accepted", async () => {
    const mine = pair.joining.open(HEADER);
    await mine.write(bytes(100));
    const end = mine.end();
    await pass(1000);
    const theirs = await within(pair.waiting.accept());
    expect(await within(readAll(theirs))).toEqual(bytes(100));
    await within(end);
  });

  test("ends each way on its own", async () => {
    const [mine, theirs] = await open(pair);
    const end = mine.end();
    expect(await within(theirs.read())).toBeUndefined();
    await within(end);
    const closed = watch(mine.closed);
    for (let i = 0; i < 20; i++) {
      await theirs.write(bytes(100_000, i));
      const got: Uint8Array[] = [];
      for (let length = 0; length < 100_000; length += got.at(-1)?.length ?? 0)
        got.push((await within(mine.read())) ?? new Uint8Array(0));
      expect(Buffer.compare(Buffer.concat(got), bytes(100_000, i))).toBe(0);
    }
    expect(closed.state).toBe("pending");
    await expect(mine.write(bytes(1))).rejects.toMatchObject({ code: "CLOSED" });
    const otherEnd = theirs.end();
    expect(await within(mine.read())).toBeUndefined();
    await within(otherEnd);
    await within(mine.closed);
  });

  test("ends when the other side's reader has consumed everything, not before", async () => {
    const [mine, theirs] = await open(pair);
    await mine.write(bytes(10));
    const end = watch(mine.end());
    await pass(30_000);
    expect(end.state).toBe("pending");
    expect(await within(theirs.read())).toEqual(bytes(10));
    // The reader holds the last chunk; nothing says yet that it is done with it.
    await pass(30_000);
    expect(end.state).toBe("pending");
    expect(await within(theirs.read())).toBeUndefined();
    await pass(100);
    expect(end.state).toBe("resolved");
    expect(mine.acknowledged).toBe(10);
  });

  test("may be empty", async () => {
    const [mine, theirs] = await open(pair);
    const ends = Promise.all([mine.end(), theirs.end()]);
    expect(await within(theirs.read())).toBeUndefined();
    expect(await within(mine.read())).toBeUndefined();
    await within(ends);
    await within(mine.closed);
    expect(mine.acknowledged).toBe(0);
  });

  test("takes a copy: the writer's buffer is its own again", async () => {
    const [mine, theirs] = await open(pair);
    const buffer = bytes(200_000);
    const written = mine.write(buffer);
    buffer.fill(0);
    void mine.end().catch(() => undefined);
    expect(Buffer.compare(await within(readAll(theirs)), bytes(200_000))).toBe(0);
    await within(written);
  });

  test("that ends with more to send than its credit arrives whole", async () => {
    const [mine, theirs] = await open(pair);
    void mine.write(bytes(400_000));
    const end = mine.end();
    expect(Buffer.compare(await within(readAll(theirs)), bytes(400_000))).toBe(0);
    await within(end);
  });

  test.each(["joining", "waiting"] as const)(
    "opened by the %s side can be reset by either, with a reason",
    async (opener) => {
      for (const resetter of [0, 1] as const) {
        const ends = await open(pair, opener);
        const [mine, theirs] = resetter === 0 ? ends : [ends[1], ends[0]];
        flood(mine);
        const all = [theirs.write(new Uint8Array(MAX_WINDOW / 2)), theirs.closed];
        const own = [mine.write(new Uint8Array(MAX_WINDOW / 2)), mine.closed];
        const states = [...all, ...own].map(watch);
        await pass(50);
        expect(states.map(({ state }) => state)).toEqual(states.map(() => "pending"));
        mine.reset("NO_SPACE", "disk full");
        await pass(50);
        expect(states.map(({ state }) => state)).toEqual([
          ...all.map(() => "NO_SPACE"),
          ...own.map(() => "NO_SPACE"),
        ]);
        await expect(theirs.end()).rejects.toMatchObject({ code: "NO_SPACE" });
        await expect(theirs.read()).rejects.toThrow("the other side's disk is full: disk full");
        await expect(theirs.write(bytes(1))).rejects.toMatchObject({ code: "NO_SPACE" });
        await expect(mine.read()).rejects.toThrow("disk full");
        expect(pair.waiting.streams + pair.joining.streams).toBe(0);
      }
    },
  );

  test.each(REASONS)("reset with %s means something on the other side", async (reason) => {
    const [mine, theirs] = await open(pair);
    const closed = watch(theirs.closed);
    mine.reset(reason);
    await pass(50);
    const means: Partial<Record<Reason, ErrorCode>> = {
      REFUSED: "REFUSED",
      INTERRUPTED: "INTERRUPTED",
      PROTOCOL: "PROTOCOL",
      LIMIT: "LIMIT",
      EXISTS: "REFUSED",
      CHECKSUM: "CHECKSUM",
      NO_SPACE: "NO_SPACE",
      CONNECTION_REFUSED: "CONNECTION_REFUSED",
      CONNECTION_RESET: "CONNECTION_RESET",
      UNREACHABLE: "UNREACHABLE",
      NAME_UNKNOWN: "NAME_UNKNOWN",
      TIMEOUT: "TIMEOUT",
    };
    expect(closed.state).toBe(means[reason] ?? "INCOMPLETE");
  });

  test("broken off: what was written before comes, then the reason", async () => {
    const [mine, theirs] = await open(pair);
    void mine.write(bytes(100_000));
    mine.breakOff("CONNECTION_RESET", "by its other end");
    await expect(mine.read()).rejects.toMatchObject({ code: "CONNECTION_RESET" });
    let got = 0;
    const reading = (async () => {
      for (let chunk = await theirs.read(); chunk; chunk = await theirs.read()) got += chunk.length;
    })();
    await expect(within(reading)).rejects.toThrow("connection reset there: by its other end");
    expect(got).toBe(100_000);
    await pass(50);
    expect(pair.waiting.streams + pair.joining.streams).toBe(0);
  });

  test("broken off after its end: the reader still gets everything, then the reason", async () => {
    const [mine, theirs] = await open(pair);
    await mine.write(bytes(70_000));
    mine.end().catch(() => undefined);
    mine.breakOff("CONNECTION_RESET");
    let got = 0;
    const reading = (async () => {
      for (let chunk = await theirs.read(); chunk; chunk = await theirs.read()) got += chunk.length;
    })();
    await expect(within(reading)).rejects.toMatchObject({ code: "CONNECTION_RESET" });
    expect(got).toBe(70_000);
    await pass(50);
    expect(pair.waiting.streams + pair.joining.streams).toBe(0);
  });

  test("broken off when all it wrote is consumed: the other direction ends too", async () => {
    const [mine, theirs] = await open(pair);
    const ended = mine.end();
    expect(await within(theirs.read())).toBeUndefined();
    await within(ended);
    mine.breakOff("CONNECTION_RESET");
    await expect(within(theirs.closed)).rejects.toMatchObject({ code: "CONNECTION_RESET" });
    await pass(50);
    expect(pair.waiting.streams + pair.joining.streams).toBe(0);
  });

  test("broken off while the acknowledgement of its end is under way: the other side hears of it all the same", async () => {
    const [mine, theirs] = await open(pair);
    void mine.write(bytes(10));
    mine.end().catch(() => undefined);
    expect(await within(theirs.read())).toEqual(bytes(10));
    expect(await within(theirs.read())).toBeUndefined();
    mine.breakOff("CONNECTION_RESET");
    await expect(within(theirs.closed)).rejects.toMatchObject({ code: "CONNECTION_RESET" });
    await pass(50);
    expect(pair.waiting.streams + pair.joining.streams).toBe(0);
  });

  test("broken off by both sides at once: nothing of it stays", async () => {
    const [mine, theirs] = await open(pair);
    void mine.write(bytes(100_000));
    mine.breakOff("CONNECTION_RESET");
    theirs.breakOff("TIMEOUT");
    await expect(within(mine.closed)).rejects.toMatchObject({ code: "TIMEOUT" });
    await expect(within(theirs.closed)).rejects.toMatchObject({ code: "CONNECTION_RESET" });
    await pass(50);
    expect(pair.waiting.streams + pair.joining.streams).toBe(0);
  });

  test("reset before it was accepted is seen by who accepts it", async () => {
    const mine = pair.joining.open(HEADER);
    mine.reset("INTERRUPTED");
    await pass(50);
    const theirs = await within(pair.waiting.accept());
    await expect(theirs.read()).rejects.toMatchObject({ code: "INTERRUPTED" });
  });

  test("reset after both directions are done changes nothing", async () => {
    const [mine, theirs] = await open(pair);
    const ends = Promise.all([mine.end(), theirs.end(), mine.read(), theirs.read()]);
    await within(ends);
    mine.reset("IO");
    await pass(50);
    await within(theirs.closed);
    await within(mine.closed);
  });

  test("a header that is too long is a mistake", () => {
    expect(() => pair.joining.open(new Uint8Array(MAX_HEADER + 1))).toThrow(
      expect.objectContaining({ code: "USAGE" }) as Error,
    );
  });
});

describe("a stream as Web Streams", () => {
  test("is read and written to the end", async () => {
    const [mine, theirs] = await open(pair);
    const source = new ReadableStream<Uint8Array>({
      start: (controller) => {
        for (let i = 0; i < 10; i++) controller.enqueue(bytes(30_000, i * 30_000));
        controller.close();
      },
    });
    const piped = watch(source.pipeTo(mine.writable));
    const chunks: Uint8Array[] = [];
    const reader = theirs.readable.getReader();
    for (let next = await within(reader.read()); !next.done; next = await within(reader.read()))
      chunks.push(next.value);
    expect(Buffer.compare(Buffer.concat(chunks), bytes(300_000))).toBe(0);
    await pass(50);
    expect(piped.state).toBe("resolved");
  });

  test("cancelling the reader resets the stream", async () => {
    const [mine, theirs] = await open(pair);
    const count = flood(mine);
    const closed = watch(mine.closed);
    await pass(50);
    await theirs.readable.cancel();
    await pass(50);
    expect(closed.state).toBe("INCOMPLETE");
    const { written } = count;
    await pass(1000);
    expect(count.written).toBe(written);
  });

  test("aborting the writer resets the stream", async () => {
    const [mine, theirs] = await open(pair);
    const reading = watch(theirs.readable.getReader().read());
    await mine.writable.abort(new Error("no more"));
    await pass(50);
    expect(reading.state).toBe("INCOMPLETE");
  });

  test("a reset from the other side is an error of both", async () => {
    const [mine, theirs] = await open(pair);
    const writer = mine.writable.getWriter();
    const written = watch(writer.closed);
    const reading = watch(mine.readable.getReader().read());
    theirs.reset("CHECKSUM");
    await pass(50);
    expect([written.state, reading.state]).toEqual(["CHECKSUM", "CHECKSUM"]);
  });
});

describe("the end of a session", () => {
  test.each(["joining", "waiting"] as const)(
    "is clean on both sides when the %s side closes",
    async (closer) => {
      const accepting = SIDES.map((side) => watch(pair[side].accept()));
      const closed: (DcpipeError | undefined)[] = [];
      for (const side of SIDES) pair[side].onclosed = (error) => closed.push(error);
      await pass(100);
      const closing = pair[closer].close();
      expect(pair[closer].close()).toBe(closing);
      await within(closing);
      await within(pair[otherSide(closer)].closed, 1000);
      expect(closed).toEqual([undefined, undefined]);
      expect(accepting.map(({ state }) => state)).toEqual(["CLOSED", "CLOSED"]);
      for (const side of SIDES) {
        expect(pair[side].state).toBe("closed");
        expect(() => pair[side].open(HEADER)).toThrow(expect.objectContaining({ code: "CLOSED" }) as Error);
        await expect(pair[side].accept()).rejects.toMatchObject({ code: "CLOSED" });
        await pair[side].close();
        expect(pair.control.ends[side].closed).toBe(true);
      }
      await pass(10);
      expect(vi.getTimerCount()).toBe(0);
    },
  );

  test("is clean when both close at once", async () => {
    await pass(100);
    await within(Promise.all([pair.waiting.close(), pair.joining.close()]), 1000);
    await pass(10);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("waits for the streams that live, and takes no new ones", async () => {
    const [mine, theirs] = await open(pair);
    const closing = watch(pair.joining.close());
    expect(() => pair.joining.open(HEADER)).toThrow(expect.objectContaining({ code: "CLOSED" }) as Error);
    const late = pair.waiting.open(HEADER);
    await expect(within(late.closed)).rejects.toMatchObject({ code: "REFUSED" });
    await mine.write(bytes(100_000));
    const ends = Promise.all([mine.end(), theirs.end()]);
    await pass(60_000);
    expect(closing.state).toBe("pending");
    expect(Buffer.compare(await within(readAll(theirs)), bytes(100_000))).toBe(0);
    expect(closing.state).toBe("pending");
    expect(await within(mine.read())).toBeUndefined();
    await within(ends);
    await within(pair.waiting.closed);
    expect(closing.state).toBe("resolved");
  });

  test("after a good-bye the other side finishes its streams and opens none", async () => {
    const [mine, theirs] = await open(pair, "waiting");
    await pass(10);
    const closed = pair.joining.close();
    const end = mine.end();
    expect(await within(theirs.read())).toBeUndefined();
    await within(end);
    const other = theirs.end();
    expect(await within(mine.read())).toBeUndefined();
    await within(other);
    await within(closed);
    await within(pair.waiting.closed);
  });

  test("with bad news tells the other side why", async () => {
    const [mine, theirs] = await open(pair);
    const states = [mine.closed, theirs.closed, mine.read(), theirs.end(), pair.waiting.accept()].map(watch);
    await within(pair.joining.abort("INTERRUPTED", "ctrl-c"), 1000);
    await pass(50);
    expect(states.map(({ state }) => state)).toEqual(states.map(() => "INTERRUPTED"));
    await expect(pair.waiting.closed).rejects.toThrow("the other side was interrupted: ctrl-c");
    await expect(pair.joining.closed).rejects.toMatchObject({ code: "INTERRUPTED" });
    expect(() => pair.waiting.open(HEADER)).toThrow(
      expect.objectContaining({ code: "INTERRUPTED" }) as Error,
    );
    await pass(10);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("with bad news does not wait long for a side that does not answer", async () => {
    await pass(100);
    pair.control.silence();
    await within(pair.joining.abort("IO", "disk gone"), 1000);
    await expect(pair.joining.closed).rejects.toMatchObject({ code: "IO" });
  });

  test("with bad news and without a channel is over at once", async () => {
    pair.control.notice("joining");
    await pair.joining.abort("IO", "disk gone");
    expect(pair.joining.state).toBe("closed");
    await expect(pair.joining.closed).rejects.toMatchObject({ code: "IO" });
  });

  test("by giving up fails everything, once", async () => {
    const [mine] = await open(pair);
    const errors: unknown[] = [];
    pair.joining.onclosed = (error) => errors.push(error);
    const states = [mine.read(), mine.end(), mine.closed, pair.joining.accept()].map(watch);
    const error = new DcpipeError("PEER_GONE", "gone");
    pair.joining.fail(error);
    pair.joining.fail(new DcpipeError("IO", "later"));
    await settled();
    expect(states.map(({ state }) => state)).toEqual(states.map(() => "PEER_GONE"));
    await expect(pair.joining.closed).rejects.toBe(error);
    expect(errors).toEqual([error]);
  });

  test("a channel that comes after the end is closed", async () => {
    await within(Promise.all([pair.waiting.close(), pair.joining.close()]));
    const lane = new MemoryLane(9, "control", () => 1);
    lane.attach(pair.waiting, "waiting");
    expect(lane.ends.waiting.closed).toBe(true);
  });

  test("accepting can be stopped by a signal, before and after it began", async () => {
    const stopped = new AbortController();
    const accepting = watch(pair.waiting.accept({ signal: stopped.signal }));
    stopped.abort();
    await settled();
    expect(accepting.state).toBe("ABORTED");
    await expect(pair.waiting.accept({ signal: stopped.signal })).rejects.toMatchObject({ code: "ABORTED" });
    // The stream that comes is for the next who asks.
    const mine = pair.joining.open(HEADER);
    expect((await within(pair.waiting.accept())).id).toBe(mine.id);
  });
});

describe("limits", () => {
  test("so many streams at once, and no more", async () => {
    const streams = Array.from({ length: MAX_STREAMS + 3 }, () => pair.joining.open(HEADER));
    const states = streams.map((stream) => watch(stream.closed));
    await pass(2000);
    expect(states.slice(0, MAX_STREAMS).every(({ state }) => state === "pending")).toBe(true);
    expect(states.slice(MAX_STREAMS).map(({ state }) => state)).toEqual(["LIMIT", "LIMIT", "LIMIT"]);
    expect(pair.waiting.streams).toBe(MAX_STREAMS);
    // The other side's own are counted apart, and one that ends makes room.
    const theirs = await open(pair, "waiting");
    expect(theirs[1].id).toBe(theirs[0].id);
    streams[7]?.reset();
    const again = watch(pair.joining.open(HEADER).closed);
    await pass(200);
    expect(again.state).toBe("pending");
    expect(pair.waiting.streams).toBe(MAX_STREAMS + 1);
  });

  test("a reader that never reads stops the sender at the window", async () => {
    const [mine, theirs] = await open(pair);
    const bulk = addBulk(pair, 1);
    const sent = [listenTo(pair.control, "joining"), listenTo(bulk, "joining")];
    const count = flood(mine);
    await pass(60_000);
    const carried = sent.flat().flatMap(({ frames }) => frames);
    const payload = carried.reduce(
      (sum, frame) => sum + (frame.type === "DATA" ? frame.payload.length : 0),
      0,
    );
    const { window, held } = theirs.memory;
    expect(payload).toBe(window);
    expect(held).toBe(window);
    expect(window).toBeLessThanOrEqual(MAX_WINDOW / 2);
    expect(mine.memory.pending).toBeLessThanOrEqual(WRITE_BUFFER + 64 * 1024);
    expect(count.written).toBeLessThanOrEqual(window + WRITE_BUFFER + 64 * 1024);
  });

  test("a reader that stops for good after a fast start holds one window at most", async () => {
    const [mine, theirs] = await open(pair);
    addBulk(pair, 1);
    const count = flood(mine);
    for (let read = 0; read < 40 * 1024 * 1024; read += (await within(theirs.read()))?.length ?? 0);
    await pass(60_000);
    const { window, held } = theirs.memory;
    expect(window).toBeGreaterThan(INITIAL_WINDOW);
    expect(window).toBeLessThanOrEqual(MAX_WINDOW);
    expect(held).toBeLessThanOrEqual(window);
    expect(mine.memory.pending).toBeLessThanOrEqual(WRITE_BUFFER + 64 * 1024);
    const { written } = count;
    await pass(60_000);
    expect(count.written).toBe(written);
  });

  test("all windows together stay within their budget", async () => {
    addBulk(pair, 1);
    const streams: Stream[] = [];
    for (let i = 0; i < 8; i++) {
      const [mine, theirs] = await open(pair);
      flood(mine);
      drain(theirs);
      streams.push(theirs);
    }
    let windows = 0;
    for (let i = 0; i < 30; i++) {
      await pass(100);
      windows = streams.reduce((sum, stream) => sum + stream.memory.window, 0);
      expect(windows).toBeLessThanOrEqual(3 * MAX_WINDOW + 8 * INITIAL_WINDOW);
    }
    expect(windows).toBeGreaterThan(MAX_WINDOW);
  });
});

describe("neighbours", () => {
  for (const lanes of [0, 1, 2]) {
    test(`a stalled stream does not stop the next one, with ${lanes} bulk lanes`, async () => {
      const [stalled] = await open(pair);
      const [busy, reader] = await open(pair);
      for (let id = 1; id <= lanes; id++) addBulk(pair, id);
      flood(stalled);
      flood(busy);
      const count = drain(reader);
      await run(() => count.read > 8 * 1024 * 1024, 120_000, "8 MiB read");
    });

    test(`busy streams share, with ${lanes} bulk lanes`, async () => {
      const counts: { read: number }[] = [];
      for (let i = 0; i < 3; i++) {
        const [mine, theirs] = await open(pair);
        flood(mine);
        counts.push(drain(theirs));
      }
      for (let id = 1; id <= lanes; id++) addBulk(pair, id);
      await run(() => counts.some(({ read }) => read > 8 * 1024 * 1024), 120_000, "8 MiB read");
      const [least = 0, , most = 0] = counts.map(({ read }) => read).sort((a, b) => a - b);
      expect(least).toBeGreaterThan(most / 3);
    });
  }

  test("what is interactive goes on the control lane, at once, in single packets, while bulk fills its own", async () => {
    const [mine, theirs] = await open(pair);
    const [keys, echo] = await open(pair);
    const bulk = addBulk(pair, 1, 400);
    flood(mine);
    drain(theirs);
    await pass(5000);
    const control = listenTo(pair.control, "joining");
    const other = listenTo(bulk, "joining");
    for (let i = 0; i < 20; i++) {
      await keys.write(Uint8Array.of(i));
      const start = performance.now();
      expect(await within(echo.read())).toEqual(Uint8Array.of(i));
      // One way over the control lane; the bulk lane takes 400 ms.
      expect(performance.now() - start).toBeLessThanOrEqual(6);
      await pass(37);
    }
    const of = (log: typeof control, stream: Stream): Frame[] =>
      log
        .flatMap(({ frames }) => frames)
        .filter((frame) => frame.type === "DATA" && frame.stream === stream.id);
    expect(of(control, keys)).toHaveLength(20);
    expect(of(other, keys)).toHaveLength(0);
    expect(of(other, mine).length).toBeGreaterThan(0);
  });

  test("every message on the control lane fits one packet, whatever there is to say", async () => {
    const log = SIDES.map((side) => listenTo(pair.control, side));
    const streams: [Stream, Stream][] = [];
    for (let i = 0; i < 30; i++) {
      const mine = pair.joining.open(bytes(i * 33));
      streams.push([mine, await within(pair.waiting.accept())]);
    }
    pair.joining.signal(bytes(1000));
    pair.waiting.signal(bytes(1000));
    for (const [mine, theirs] of streams) {
      void mine.write(bytes(70_000)).catch(() => undefined);
      void theirs.write(bytes(3000)).catch(() => undefined);
      drain(mine);
      drain(theirs);
    }
    for (let id = 1; id < 200; id++) addBulk(pair, id + 2 ** 30);
    await pass(3000);
    for (const [i, [mine, theirs]] of streams.entries()) {
      if (i % 3 === 0) mine.reset("IO", "€".repeat(500));
      else void Promise.all([mine.end(), theirs.end()]);
    }
    await pass(3000);
    const messages = log.flat();
    expect(messages.length).toBeGreaterThan(100);
    expect(Math.max(...messages.map(({ size }) => size))).toBeLessThanOrEqual(MAX_CONTROL_MESSAGE);
  });
});

describe("bulk lanes", () => {
  test("are asked for when there is much to send, and carry it", async () => {
    pair = sessions(10);
    const wanted: number[] = [];
    pair.joining.onwant = (lanes) => wanted.push(lanes);
    const [mine, theirs] = await open(pair);
    await mine.write(bytes(1000));
    await pass(3000);
    expect(wanted).toEqual([]);
    const count = drain(theirs);
    flood(mine);
    await run(() => wanted.length > 0, 1000, "a wish for lanes");
    // 20 ms there and back.
    expect(wanted[0]).toBe(4);
    expect(pair.joining.lanes).toEqual({ bulk: 0, wanted: 4 });
    const bulk = [1, 2, 3, 4].map((id) => addBulk(pair, id));
    const logs = bulk.map((lane) => listenTo(lane, "joining"));
    const before = count.read;
    await pass(2000);
    expect(count.read).toBeGreaterThan(before + 8 * 1024 * 1024);
    for (const log of logs) expect(log.length).toBeGreaterThan(10);
    expect(pair.joining.lanes.bulk).toBe(4);
  });

  test("that are not needed any more empty themselves and are closed by who asked for them", async () => {
    const [mine, theirs] = await open(pair);
    const gone: Record<Side, number[]> = { waiting: [], joining: [] };
    for (const side of SIDES) {
      pair[side].onlane = (id, _left, reason) => {
        if (reason === "not needed any more") gone[side].push(id);
      };
    }
    const count = drain(theirs);
    flood(mine);
    await run(() => pair.joining.lanes.wanted > 0, 1000, "a wish for lanes");
    const { wanted } = pair.joining.lanes;
    expect(wanted).toBeLessThan(5);
    for (const id of [1, 3, 5, 7, 9]) addBulk(pair, id);
    await pass(1000);
    expect(gone.joining.length).toBeGreaterThan(0);
    expect(gone.waiting).toEqual([]);
    const { read } = count;
    await pass(1000);
    expect(count.read).toBeGreaterThan(read + 1024 * 1024);
  });

  test("that the other side asked for stay, though this one needs fewer", async () => {
    const [mine, theirs] = await open(pair);
    // The waiting side has had much to send, so it has an opinion of its own.
    const [yours, ours] = await open(pair, "waiting");
    for (const stream of [theirs, ours]) drain(stream);
    void yours.write(new Uint8Array(3_000_000)).catch(() => undefined);
    await run(() => pair.waiting.lanes.wanted > 0, 1000, "a wish for lanes");
    const { wanted } = pair.waiting.lanes;
    const lanes = Array.from({ length: wanted + 4 }, (_, i) => addBulk(pair, 2 * i + 1));
    await pass(5000);
    expect(lanes.filter(({ closed }) => closed)).toEqual([]);
    flood(mine);
    const logs = lanes.map((lane) => listenTo(lane, "joining"));
    await run(() => pair.joining.lanes.wanted > 0, 1000, "a wish for lanes");
    expect(logs.filter((log) => log.length > 0).length).toBeGreaterThan(0);
  });

  test("with nothing to send every lane falls silent but for the heartbeat, and nothing stays unacknowledged", async () => {
    const [mine, theirs] = await open(pair);
    const bulk = addBulk(pair, 1);
    drain(theirs);
    await within(mine.write(bytes(2_000_000)));
    await pass(3000);
    const logs = SIDES.flatMap((side) => [listenTo(pair.control, side), listenTo(bulk, side)]);
    expect(mine.acknowledged).toBe(2_000_000);
    await pass(20_000);
    for (const { frames } of logs.flat())
      for (const { type } of frames) expect(["PING", "PONG", "ACK"]).toContain(type);
    expect(logs.flat().length).toBeLessThan(60);
  });
});

describe("lanes that die", () => {
  test("the session is down without any, and goes on with the next", async () => {
    const [mine, theirs] = await open(pair);
    const events: string[] = [];
    for (const side of SIDES)
      pair[side].onlane = (id, left, reason) => events.push(`${side} ${id} ${left} ${reason}`);
    await mine.write(bytes(500));
    pair.control.ends.waiting.cut();
    await pass(100);
    expect(events.sort()).toEqual(["joining 0 0 the channel closed", "waiting 0 0 the channel closed"]);
    expect([pair.waiting.state, pair.joining.state]).toEqual(["down", "down"]);
    await mine.write(bytes(500, 500));
    const end = mine.end();
    const late = pair.waiting.open(HEADER);
    await pass(50_000);
    const next = new MemoryLane(65536, "control", () => 5);
    for (const side of SIDES) next.attach(pair[side], side);
    expect([pair.waiting.state, pair.joining.state]).toEqual(["running", "running"]);
    expect(await within(readAll(theirs))).toEqual(bytes(1000));
    await within(end);
    expect((await within(pair.joining.accept())).id).toBe(late.id);
  });

  test("a signal arrives once, in its order, whatever dies", async () => {
    const got: number[] = [];
    pair.waiting.onsignal = (payload) => got.push(payload[0] ?? -1);
    let lane = pair.control;
    for (let i = 0; i < 20; i++) {
      pair.joining.signal(Uint8Array.of(i));
      await pass(i % 7);
      if (i % 3 !== 0) continue;
      lane.ends.joining.cut();
      lane = new MemoryLane(i + 1, "control", () => 5);
      for (const side of SIDES) lane.attach(pair[side], side);
    }
    await pass(1000);
    expect(got).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });

  test("a bulk lane takes over from the last control lane, in single packets", async () => {
    const [mine, theirs] = await open(pair);
    const bulk = addBulk(pair, 1);
    await pass(50);
    const log = listenTo(bulk, "joining");
    pair.control.ends.joining.cut();
    await mine.write(bytes(5000));
    const end = mine.end();
    expect(await within(readAll(theirs))).toEqual(bytes(5000));
    await within(end);
    expect(Math.max(...log.map(({ size }) => size))).toBeLessThanOrEqual(MAX_CONTROL_MESSAGE);
    // A new control lane takes it back.
    const next = new MemoryLane(2, "control", () => 5);
    for (const side of SIDES) next.attach(pair[side], side);
    const control = listenTo(next, "joining");
    await pass(100);
    const [keys] = await open(pair);
    await keys.write(bytes(10));
    await pass(100);
    expect(control.flatMap(({ frames }) => frames).map(({ type }) => type)).toEqual(
      expect.arrayContaining(["OPEN", "DATA"]),
    );
  });

  test("a lane that one side lost before the other one had it takes nothing with it", async () => {
    const [mine, theirs] = await open(pair);
    const bulk = new MemoryLane(1, "bulk", () => 5);
    bulk.attach(pair.joining, "joining");
    void mine.write(bytes(60_000));
    await pass(1);
    bulk.notice("joining");
    await pass(100);
    // Too late, and nothing says so on this end.
    const gone: string[] = [];
    pair.waiting.onlane = (id, left, reason) => gone.push(`${id} ${left} ${reason}`);
    bulk.attach(pair.waiting, "waiting");
    expect(bulk.ends.waiting.closed).toBe(true);
    expect(gone).toEqual(["1 1 the other side lost the channel"]);
    await theirs.write(bytes(60_000));
    const ends = Promise.all([mine.end(), theirs.end()]);
    expect(Buffer.compare(await within(readAll(theirs)), bytes(60_000))).toBe(0);
    expect(Buffer.compare(await within(readAll(mine)), bytes(60_000))).toBe(0);
    await within(ends);
  });

  test("a lane that makes no progress while others live is given up", async () => {
    // So far apart that two lanes are wanted.
    pair = sessions(10);
    const [mine, theirs] = await open(pair);
    const bulk = [addBulk(pair, 1), addBulk(pair, 2)];
    const gone: string[] = [];
    pair.joining.onlane = (id, _left, reason) => gone.push(`${id} ${reason}`);
    flood(mine);
    const count = drain(theirs);
    await pass(500);
    bulk[1]?.silence();
    const { read } = count;
    await pass(12_000);
    expect(gone).toContain("2 the channel stalled");
    expect(count.read).toBeGreaterThan(read + 1024 * 1024);
  });
});

describe("heartbeat", () => {
  test("asks every two seconds at the latest, and knows the round-trip time", async () => {
    const log = listenTo(pair.control, "joining");
    let first = 0;
    pair.joining.onrtt = () => {
      first = performance.now();
    };
    await pass(60_000);
    const pings = log.filter(({ frames }) => frames.some(({ type }) => type === "PING")).map(({ at }) => at);
    const gaps = pings.slice(1).map((at, i) => at - (pings[i] ?? 0));
    expect(pings.length).toBeGreaterThanOrEqual(23);
    // A quarter of a second is the clock's own step.
    expect(Math.max(...gaps)).toBeLessThanOrEqual(HEARTBEAT_MS + 250);
    expect(pair.joining.rtt).toBe(10);
    expect(first).toBe(10);
    expect(pair.joining.state).toBe("running");
  });

  test("six seconds of silence are death for every lane", async () => {
    const bulk = addBulk(pair, 1);
    const gone: { id: number; left: number; reason: string; at: number }[] = [];
    pair.joining.onlane = (id, left, reason) => gone.push({ id, left, reason, at: performance.now() });
    await pass(3000);
    const start = performance.now();
    pair.control.silence();
    bulk.silence();
    await pass(20_000);
    expect(gone.map(({ id, left }) => [id, left])).toEqual([
      [0, 1],
      [1, 0],
    ]);
    for (const { reason, at } of gone) {
      expect(reason).toBe("nothing heard for 6 s");
      expect(at - start).toBeGreaterThan(DEAD_MS - HEARTBEAT_MS);
      expect(at - start).toBeLessThanOrEqual(DEAD_MS + 300);
    }
    expect(pair.joining.state).toBe("down");
    expect(pair.control.ends.joining.closed).toBe(true);
  });

  test("any message is a sign of life, on any lane", async () => {
    const bulk = addBulk(pair, 1);
    const [mine, theirs] = await open(pair);
    await pass(1000);
    // The control lane is dead one way; the other side's data still comes over the bulk lane.
    pair.control.directions.waiting.dead = true;
    flood(theirs);
    drain(mine);
    const gone: number[] = [];
    pair.joining.onlane = (id) => gone.push(id);
    expect(bulk.closed).toBe(false);
    await pass(8000);
    expect(gone).toEqual([]);
  });

  test("questions that are never answered do not make a living path suspicious", async () => {
    const asked: number[] = [];
    const pulse = new Pulse((id) => asked.push(id));
    // More than are remembered: they died with a lane.
    for (let i = 0; i < 100; i++) pulse.ping();
    for (let i = 0; i < 40; i++) {
      await pass(TICK_MS);
      for (const id of asked.splice(0).slice(-1)) pulse.pong(id);
      pulse.heard();
      pulse.tick(true);
      expect(pulse.suspicious).toBe(false);
    }
    expect(pulse.rtt).toBeGreaterThan(0);
  });

  test("a process that was stopped does not blame the other side", async () => {
    await pass(3000);
    // The machine slept for an hour: the clock jumps, and nothing was heard because nobody listened.
    const now = performance.now.bind(performance);
    const sleep = vi.spyOn(performance, "now").mockImplementation(() => now() + 3_600_000);
    await pass(5000);
    sleep.mockRestore();
    expect(pair.joining.state).toBe("running");
    expect(pair.waiting.state).toBe("running");
  });
});
