/** The program over a plain data channel, with a channel that a test holds both ends of. Time is virtual. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { pipeRaw, RAW_MESSAGE_SIZE } from "../../src/apps/raw.ts";
import type { RawChannel } from "../../src/transport/channel.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance", "setTimeout", "clearTimeout"] });
});
afterEach(() => {
  vi.useRealTimers();
});

class TestChannel implements RawChannel {
  bufferedAmount = 0;
  closed = false;
  silent = false;
  maxMessageSize = 262_144;
  onmessage: ((message: Uint8Array) => void) | undefined;
  ondrain: (() => void) | undefined;
  onclose: (() => void) | undefined;
  onoversize: (() => void) | undefined;
  readonly sent: Uint8Array[] = [];
  /** When `finish` was called, in virtual ms. */
  finishedAt: number | undefined;
  /** What comes between our close and the other side's. */
  last: Uint8Array | undefined;
  acknowledges = true;

  send(message: Uint8Array): boolean {
    if (this.closed) return false;
    this.sent.push(message.slice());
    return true;
  }

  finish(): Promise<boolean> {
    this.finishedAt = performance.now();
    if (this.last) this.onmessage?.(this.last);
    this.end();
    return Promise.resolve(this.acknowledges);
  }

  end(): void {
    if (this.closed) return;
    this.closed = true;
    this.onclose?.();
  }
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Runs a pipe. Without `chunks` the source stays open. */
function run(channel: TestChannel, chunks: Uint8Array[] | undefined, write?: () => Promise<void>) {
  const written: Uint8Array[] = [];
  let [ended, cancelled] = [false, false];
  const done = pipeRaw(channel, {
    source: {
      read: () => (chunks ? Promise.resolve(chunks.shift()) : new Promise(() => undefined)),
      cancel: () => (cancelled = true),
    },
    sink: {
      write: (chunk) => {
        written.push(chunk.slice());
        return write?.() ?? Promise.resolve();
      },
      end: () => {
        ended = true;
        return Promise.resolve();
      },
    },
  });
  done.catch(() => undefined);
  return {
    done,
    text: () => Buffer.concat(written).toString(),
    state: () => ({ ended, cancelled }),
  };
}

test("three quiet seconds after the end of the source close the channel, and what comes last is written", async () => {
  const channel = new TestChannel();
  channel.last = bytes("!");
  const pipe = run(channel, [bytes("question")]);
  await vi.advanceTimersByTimeAsync(2000);
  channel.onmessage?.(bytes("answer"));
  await vi.advanceTimersByTimeAsync(2900);
  expect(channel.finishedAt).toBeUndefined();
  await vi.advanceTimersByTimeAsync(200);
  expect(await pipe.done).toEqual({ sent: 8, received: 7 });
  expect(pipe.text()).toBe("answer!");
  expect(pipe.state()).toEqual({ ended: true, cancelled: true });
});

test("a source without a byte only listens, for as long as it takes", async () => {
  const channel = new TestChannel();
  const pipe = run(channel, []);
  await vi.advanceTimersByTimeAsync(3_600_000);
  expect(channel.finishedAt).toBeUndefined();
  channel.onmessage?.(bytes("late"));
  channel.end();
  expect(await pipe.done).toEqual({ sent: 0, received: 4 });
});

test("messages are as long as every WebRTC takes them, or as the other side says", async () => {
  for (const [limit, longest] of [
    [262_144, RAW_MESSAGE_SIZE],
    [1000, 1000],
    [0, RAW_MESSAGE_SIZE],
  ] as const) {
    const channel = new TestChannel();
    channel.maxMessageSize = limit;
    const chunk = new Uint8Array(40_001).map((_, i) => i);
    const pipe = run(channel, [chunk.slice()]);
    await vi.advanceTimersByTimeAsync(5000);
    await pipe.done;
    expect(Math.max(...channel.sent.map(({ length }) => length))).toBe(longest);
    expect(Buffer.concat(channel.sent).equals(chunk)).toBe(true);
  }
});

test("no answer to our close is INCOMPLETE, and so is the other side's close while something is left", async () => {
  const channel = new TestChannel();
  channel.acknowledges = false;
  const pipe = run(channel, [bytes("x")]);
  await vi.advanceTimersByTimeAsync(5000);
  await expect(pipe.done).rejects.toMatchObject({ code: "INCOMPLETE" });

  const left = new TestChannel();
  const cut = run(left, [bytes("x")]);
  left.bufferedAmount = 1;
  await vi.advanceTimersByTimeAsync(100);
  left.end();
  await expect(cut.done).rejects.toMatchObject({ code: "INCOMPLETE" });
});

test("a side that has fallen silent is PEER_GONE, after what has come is written", async () => {
  const channel = new TestChannel();
  const pipe = run(channel, undefined);
  channel.onmessage?.(bytes("half"));
  channel.silent = true;
  channel.end();
  await expect(pipe.done).rejects.toMatchObject({ code: "PEER_GONE" });
  expect(pipe.text()).toBe("half");
  expect(pipe.state()).toEqual({ ended: true, cancelled: true });
});

test("a sink that takes nothing is LIMIT after 64 MiB, and empty messages are not free", async () => {
  const mib = new Uint8Array(1024 * 1024);
  for (const [message, count] of [
    [mib, 66],
    [new Uint8Array(0), 140_000],
  ] as const) {
    const channel = new TestChannel();
    const pipe = run(channel, undefined, () => new Promise(() => undefined));
    for (let i = 0; i < count; i++) channel.onmessage?.(message);
    await expect(pipe.done).rejects.toMatchObject({ code: "LIMIT" });
    expect(pipe.state().cancelled).toBe(true);
  }
});

test("a message above the limit is PROTOCOL", async () => {
  const channel = new TestChannel();
  const pipe = run(channel, undefined);
  channel.onoversize?.();
  await expect(pipe.done).rejects.toMatchObject({ code: "PROTOCOL" });
});
