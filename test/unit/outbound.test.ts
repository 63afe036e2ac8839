import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DcpipeError } from "../../src/errors.ts";
import { INITIAL_WINDOW } from "../../src/session/inbound.ts";
import { Outbound, WRITE_BUFFER, type Segment } from "../../src/session/outbound.ts";
import { settled } from "./network.ts";

function bytes(length: number, from = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (from + i) * 31);
}

function join(segment: Segment): Uint8Array {
  const parts = segment.pieces.map(({ buffer, start, end }) => buffer.bytes.subarray(start, end));
  return new Uint8Array(Buffer.concat(parts));
}

/** Whether the promise is settled already. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  const end = (): void => {
    done = true;
  };
  promise.then(end, end);
  await settled();
  return done;
}

describe("bytes", () => {
  test("leave in order and once, whatever the writes, the cuts and the losses", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 2000, max: 5000 })), {
          maxLength: 20,
          size: "max",
        }),
        fc.array(
          fc.record({
            action: fc.constantFrom("write", "take", "take", "lose", "grant"),
            number: fc.integer({ min: 1, max: 5000 }),
          }),
          { maxLength: 100, size: "max" },
        ),
        (writes, actions) => {
          const half = new Outbound();
          const total = writes.reduce((sum, length) => sum + length, 0);
          const whole = bytes(total);
          const arrived = new Uint8Array(total);
          const seen = new Uint8Array(total);
          let written = 0;
          const queue = [...writes];
          const flight: Segment[] = [];
          const write = (): void => {
            const length = queue.shift();
            if (length === undefined) return;
            const chunk = whole.slice(written, written + length);
            void half.write(chunk);
            // The writer may use its buffer again at once.
            chunk.fill(0xee);
            written += length;
          };
          const take = (max: number): boolean => {
            const before = half.sendable;
            const segment = half.take(max);
            expect(segment === undefined).toBe(before === 0);
            if (!segment) return false;
            expect(segment.length).toBeLessThanOrEqual(max);
            expect(segment.length).toBeGreaterThan(0);
            expect(join(segment)).toHaveLength(segment.length);
            expect(half.sendable).toBe(before - segment.length);
            expect(segment.offset + segment.length).toBeLessThanOrEqual(half.limit);
            flight.push(segment);
            return true;
          };
          const deliver = (segment: Segment): void => {
            arrived.set(join(segment), segment.offset);
            for (let at = segment.offset; at < segment.offset + segment.length; at++)
              seen[at] = (seen[at] ?? 0) + 1;
            half.delivered(segment);
          };
          for (const { action, number } of actions) {
            if (action === "write") write();
            else if (action === "take") take(number);
            else if (action === "grant") half.limit += number;
            else {
              // Some of what is in flight arrived, the rest comes back: in any order.
              const at = number % (flight.length + 1);
              for (const segment of flight.splice(0, at)) deliver(segment);
              for (const segment of flight.splice(0).reverse()) half.takeBack(segment);
            }
          }
          while (queue.length > 0) write();
          expect(half.end()).toBe(total);
          half.limit = Math.max(half.limit, total);
          while (take(1 + (total % 3000)));
          for (const segment of flight) deliver(segment);
          expect(half).toMatchObject({ pending: 0, flight: 0, acknowledged: total });
          expect(Buffer.compare(arrived, whole)).toBe(0);
          expect(seen.every((count) => count === 1)).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });

  test("of several streams do not get mixed up in buffers that come back", () => {
    const halves = [new Outbound(), new Outbound(), new Outbound()];
    const flight: { half: Outbound; segment: Segment; content: Uint8Array }[] = [];
    const noise = bytes(100_000);
    for (let round = 0; round < 300; round++) {
      for (const [number, half] of halves.entries()) {
        half.limit = Infinity;
        const start = number * 101 + round;
        const content = noise.subarray(start, start + 500 + ((round * 997) % 70_000));
        void half.write(content);
        let at = 0;
        for (let segment = half.take(30_000); segment; segment = half.take(30_000)) {
          flight.push({ half, segment, content: content.subarray(at, at + segment.length) });
          at += segment.length;
        }
        expect(at).toBe(content.length);
      }
      while (flight.length > 20) {
        const [entry] = flight.splice((round * 7) % flight.length, 1);
        if (!entry) break;
        expect(Buffer.compare(join(entry.segment), entry.content)).toBe(0);
        entry.half.delivered(entry.segment);
      }
    }
  });

  test("many small writes make few pieces", async () => {
    const half = new Outbound();
    for (let i = 0; i < 50_000; i++) await half.write(bytes(1, i));
    const segment = half.take(50_000);
    expect(segment?.pieces.length).toBeLessThanOrEqual(4);
    expect(segment && Buffer.compare(join(segment), bytes(50_000))).toBe(0);
  });

  test("small writes that leave at once share buffers", async () => {
    const half = new Outbound();
    const buffers = new Set<Uint8Array>();
    for (let i = 0; i < 10_000; i++) {
      await half.write(bytes(1, i));
      const segment = half.take(1000);
      expect(segment && join(segment)).toEqual(bytes(1, i));
      for (const piece of segment?.pieces ?? []) buffers.add(piece.buffer.bytes);
    }
    const held = [...buffers].reduce((sum, buffer) => sum + buffer.length, 0);
    expect(held).toBeLessThan(4 * 10_000);
  });
});

describe("credit", () => {
  test("no byte leaves beyond it", async () => {
    const half = new Outbound();
    await half.write(new Uint8Array(INITIAL_WINDOW + 1));
    expect(half.sendable).toBe(INITIAL_WINDOW);
    expect(half.take(INITIAL_WINDOW + 1)?.length).toBe(INITIAL_WINDOW);
    expect(half.take(1)).toBeUndefined();
    expect(half.pending).toBe(1);
    half.limit++;
    expect(half.take(10)?.length).toBe(1);
  });

  test("what comes back has its credit already, and goes first", async () => {
    const half = new Outbound();
    await half.write(bytes(INITIAL_WINDOW + 100));
    const first = half.take(INITIAL_WINDOW / 2);
    const second = half.take(INITIAL_WINDOW / 2);
    if (!first || !second) throw new Error("nothing taken");
    half.takeBack(second);
    half.takeBack(first);
    expect(half.sendable).toBe(INITIAL_WINDOW);
    expect(half.take(10)?.offset).toBe(0);
    expect(half.take(INITIAL_WINDOW)).toMatchObject({ offset: 10, length: INITIAL_WINDOW / 2 - 10 });
    expect(half.take(INITIAL_WINDOW)?.offset).toBe(INITIAL_WINDOW / 2);
    expect(half.take(1)).toBeUndefined();
  });
});

describe("a writer", () => {
  test("waits when much has not left, and goes on when half of it has", async () => {
    const half = new Outbound();
    half.limit = Infinity;
    expect(await isSettled(half.write(new Uint8Array(WRITE_BUFFER - 1)))).toBe(true);
    const waiting = half.write(new Uint8Array(1));
    expect(await isSettled(waiting)).toBe(false);
    half.take(WRITE_BUFFER / 2);
    expect(await isSettled(waiting)).toBe(false);
    half.take(1);
    expect(await isSettled(waiting)).toBe(true);
  });

  test("that waits is told of a failure", async () => {
    const half = new Outbound();
    const waiting = half.write(new Uint8Array(WRITE_BUFFER));
    const error = new DcpipeError("IO", "gone");
    half.fail(error);
    await expect(waiting).rejects.toBe(error);
    await expect(half.write(bytes(1))).rejects.toBe(error);
    expect(half.pending).toBe(0);
    expect(half.sendable).toBe(0);
  });

  test("cannot write behind the end", async () => {
    const half = new Outbound();
    await half.write(bytes(3));
    expect(half.end()).toBe(3);
    expect(half.end()).toBe(3);
    await expect(half.write(bytes(1))).rejects.toMatchObject({ code: "CLOSED" });
    expect(half.final).toBe(3);
    expect(half.pending).toBe(3);
  });

  test("writes nothing at all: an empty stream ends at 0", async () => {
    const half = new Outbound();
    await half.write(new Uint8Array(0));
    expect(half.end()).toBe(0);
    expect(half.take(100)).toBeUndefined();
  });

  test("a failure takes back nothing", async () => {
    const half = new Outbound();
    await half.write(bytes(100));
    const segment = half.take(50);
    half.fail(new DcpipeError("IO", "gone"));
    if (segment) half.takeBack(segment);
    expect(half.sendable).toBe(0);
    expect(half.take(10)).toBeUndefined();
  });
});
