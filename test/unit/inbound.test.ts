import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { DcpipeError, type ErrorCode } from "../../src/errors.ts";
import { Inbound, INITIAL_WINDOW, MAX_WINDOW } from "../../src/session/inbound.ts";
import { settled, startTime, stopTime } from "./network.ts";

/** An Inbound and what it said to its owner. */
function inbound({ budget = Infinity, rtt = 10 } = {}): {
  half: Inbound;
  grants: number[];
  consumedAll: () => boolean;
} {
  const grants: number[] = [];
  let left = budget;
  let all = false;
  const half = new Inbound({
    grant: (limit) => grants.push(limit),
    consumedAll: () => {
      all = true;
    },
    brokenOff: (error) => {
      half.fail(error);
    },
    budget: (wanted) => {
      const grant = Math.min(wanted, left);
      left -= grant;
      return grant;
    },
    rtt: () => rtt,
  });
  return { half, grants, consumedAll: () => all };
}

function bytes(length: number, from = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (from + i) * 31);
}

async function readAll(half: Inbound): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for (;;) {
    const chunk = await half.read();
    if (!chunk) return new Uint8Array(Buffer.concat(chunks));
    chunks.push(chunk);
  }
}

function codeOf(run: () => unknown): ErrorCode | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(DcpipeError);
    return (error as DcpipeError).code;
  }
}

beforeEach(stopTime);
afterEach(startTime);

describe("order", () => {
  test("segments in any order, some of them twice, make the same bytes", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 40, size: "max" }),
        fc.infiniteStream(fc.nat()),
        async (lengths, numbers) => {
          const { half, consumedAll } = inbound();
          const whole = bytes(lengths.reduce((sum, length) => sum + length, 0));
          let at = 0;
          const segments = lengths.map((length) => {
            const segment = { offset: at, payload: whole.slice(at, at + length) };
            at += length;
            return segment;
          });
          const nat = (): number => (numbers.next().value as number | undefined) ?? 0;
          const seen = new Set<number>();
          const order = [...segments, ...segments.filter(() => nat() % 4 === 0)];
          for (let i = order.length - 1; i > 0; i--) {
            const j = nat() % (i + 1);
            const [a, b] = [order[i], order[j]];
            if (a && b) [order[i], order[j]] = [b, a];
          }
          half.finish(whole.length);
          const reading = readAll(half);
          for (const { offset, payload } of order) {
            half.receive(offset, payload);
            await settled();
            // The reader takes everything that is next: what waits is what came too early, each byte once.
            seen.add(offset);
            let next = 0;
            for (const segment of segments) {
              if (segment.offset !== next || !seen.has(segment.offset)) break;
              next += segment.payload.length;
            }
            const early = segments.filter((segment) => segment.offset > next && seen.has(segment.offset));
            expect(half.held).toBe(early.reduce((sum, segment) => sum + segment.payload.length, 0));
          }
          expect(Buffer.compare(await reading, whole)).toBe(0);
          expect(consumedAll()).toBe(true);
          expect(half.held).toBe(0);
        },
      ),
      { numRuns: 100 },
    );
  });

  test("what waits is counted, early segments included", async () => {
    const { half } = inbound();
    half.receive(10_000, bytes(5000));
    half.receive(20_000, bytes(5000));
    expect(half.held).toBe(10_000);
    half.receive(0, bytes(10_000));
    expect(half.held).toBe(20_000);
    expect(await half.read()).toHaveLength(10_000);
    expect(await half.read()).toHaveLength(5000);
    expect(half.held).toBe(5000);
    half.receive(15_000, bytes(5000));
    expect(half.held).toBe(10_000);
  });

  test("a reader that waits gets the next bytes at once, and only those that are next", async () => {
    const { half } = inbound();
    const reading = half.read();
    half.receive(3, bytes(2, 3));
    let got: Uint8Array | undefined;
    void reading.then((chunk) => (got = chunk));
    await settled();
    expect(got).toBeUndefined();
    half.receive(0, bytes(3));
    expect(await reading).toEqual(bytes(5));
  });

  test("many small frames that nobody reads become few chunks", async () => {
    const { half } = inbound();
    for (let i = 0; i < 20_000; i++) half.receive(i, Uint8Array.of(i));
    half.finish(20_000);
    let chunks = 0;
    let total = 0;
    for (let chunk = await half.read(); chunk; chunk = await half.read()) {
      chunks++;
      total += chunk.length;
    }
    expect(total).toBe(20_000);
    expect(chunks).toBeLessThanOrEqual(10);
  });

  test("a few bytes do not keep a large message alive", async () => {
    const { half } = inbound();
    const message = new Uint8Array(64 * 1024);
    for (const offset of [0, 30, 20, 10]) {
      half.receive(offset, message.subarray(offset + 21, offset + 31));
      if (offset === 0) expect((await half.read())?.buffer).not.toBe(message.buffer);
    }
    expect((await half.read())?.buffer).not.toBe(message.buffer);
    // Neither does a larger part of one that came too early.
    half.receive(50_000, message.subarray(0, 10_000));
    half.receive(40, new Uint8Array(50_000 - 40));
    await half.read();
    expect((await half.read())?.buffer.byteLength).toBe(10_000);
  });

  test("the payload of a whole message is not copied", async () => {
    const { half } = inbound();
    const message = new Uint8Array(64 * 1024);
    half.receive(0, message.subarray(21));
    expect((await half.read())?.buffer).toBe(message.buffer);
  });
});

describe("the end", () => {
  test("is seen after the last byte, and not before", async () => {
    const { half, consumedAll } = inbound();
    half.receive(0, bytes(5));
    half.finish(5);
    expect(await half.read()).toEqual(bytes(5));
    // The last chunk is in the reader's hands, but nothing says that it is done with it.
    expect(consumedAll()).toBe(false);
    expect(half.ended).toBe(false);
    expect(await half.read()).toBeUndefined();
    expect(consumedAll()).toBe(true);
    expect(half.ended).toBe(true);
    expect(await half.read()).toBeUndefined();
  });

  test("may come before the data", async () => {
    const { half } = inbound();
    half.finish(4);
    const reading = readAll(half);
    half.receive(2, bytes(2, 2));
    half.receive(0, bytes(2));
    expect(await reading).toEqual(bytes(4));
  });

  test("of an empty stream", async () => {
    const { half, consumedAll } = inbound();
    const reading = half.read();
    half.finish(0);
    expect(await reading).toBeUndefined();
    expect(consumedAll()).toBe(true);
  });

  test("said twice is the same as once", () => {
    const { half } = inbound();
    half.finish(9);
    expect(
      codeOf(() => {
        half.finish(9);
      }),
    ).toBeUndefined();
  });

  test.each([
    [
      "before the data that came",
      (half: Inbound) => {
        half.receive(0, bytes(5));
        half.finish(4);
      },
    ],
    [
      "before the data that came early",
      (half: Inbound) => {
        half.receive(100, bytes(5));
        half.finish(104);
      },
    ],
    [
      "at another place than before",
      (half: Inbound) => {
        half.finish(5);
        half.finish(6);
      },
    ],
    [
      "and data beyond",
      (half: Inbound) => {
        half.finish(5);
        half.receive(3, bytes(3));
      },
    ],
    [
      "and data behind, though all had come",
      (half: Inbound) => {
        half.receive(0, bytes(5));
        half.finish(5);
        half.receive(5, bytes(1));
      },
    ],
  ])("is broken: %s", (_, run) => {
    const { half } = inbound();
    expect(
      codeOf(() => {
        run(half);
      }),
    ).toBe("PROTOCOL");
  });
});

describe("credit", () => {
  test("no byte beyond it", () => {
    const { half } = inbound();
    expect(
      codeOf(() => {
        half.receive(INITIAL_WINDOW - 1, bytes(1));
      }),
    ).toBeUndefined();
    expect(
      codeOf(() => {
        half.receive(INITIAL_WINDOW, bytes(1));
      }),
    ).toBe("PROTOCOL");
    expect(
      codeOf(() => {
        half.receive(INITIAL_WINDOW - 1, bytes(2));
      }),
    ).toBe("PROTOCOL");
  });

  test("comes with reading, not with arrival", async () => {
    const { half, grants } = inbound();
    vi.advanceTimersByTime(10_000);
    for (let at = 0; at < INITIAL_WINDOW; at += 1024) half.receive(at, bytes(1024));
    let read = 0;
    while (grants.length === 0) {
      // Half a window is worth a message, less is not.
      expect(read).toBeLessThan(INITIAL_WINDOW / 2);
      read += (await half.read())?.length ?? 0;
    }
    expect(read).toBeGreaterThanOrEqual(INITIAL_WINDOW / 2);
    expect(grants).toEqual([INITIAL_WINDOW + read]);
    expect(half.limit).toBe(INITIAL_WINDOW + read);
  });

  test("goes on after an early end, up to the end, and no further", async () => {
    const { half, grants } = inbound();
    const total = 5 * INITIAL_WINDOW + 1;
    half.finish(total);
    let sent = 0;
    let read = 0;
    while (read < total) {
      const length = Math.min(1000, half.limit - sent, total - sent);
      if (length > 0) half.receive(sent, bytes(length));
      sent += length;
      read += (await half.read())?.length ?? 0;
    }
    expect(await half.read()).toBeUndefined();
    const last = grants.at(-1) ?? 0;
    expect(last).toBeGreaterThanOrEqual(total);
    // The one before did not reach the end, or the last one had not been sent.
    expect(grants.at(-2)).toBeLessThan(total);
  });

  /** Reads window after window, each in `milliseconds`. */
  async function windows(half: Inbound, count: number, milliseconds: number): Promise<void> {
    let sent = 0;
    for (let i = 0; i < count; i++) {
      const until = half.limit;
      while (sent < until) {
        const length = Math.min(32 * 1024, until - sent);
        half.receive(sent, new Uint8Array(length));
        sent += length;
      }
      while (half.held > 0) await half.read();
      vi.advanceTimersByTime(milliseconds);
    }
  }

  test("grows for a reader that empties it quickly, up to a bound", async () => {
    const { half } = inbound();
    await windows(half, 40, 50);
    expect(half.window).toBe(MAX_WINDOW);
  });

  test("does not grow for one that does not", async () => {
    const { half } = inbound();
    vi.advanceTimersByTime(5000);
    await windows(half, 8, 5000);
    expect(half.window).toBe(INITIAL_WINDOW);
  });

  test("a long round trip is no slow reader", async () => {
    const { half } = inbound({ rtt: 1000 });
    vi.advanceTimersByTime(3000);
    await windows(half, 4, 3000);
    expect(half.window).toBeGreaterThan(INITIAL_WINDOW);
  });

  test("the session's budget bounds it", async () => {
    const { half } = inbound({ budget: INITIAL_WINDOW });
    await windows(half, 10, 50);
    expect(half.window).toBe(2 * INITIAL_WINDOW);
  });
});

describe("a hostile sender", () => {
  test("cannot make us hold more than the window by overlaps", () => {
    const { half } = inbound();
    expect(
      codeOf(() => {
        for (let length = 1; length < 60_000; length++) {
          half.receive(1, new Uint8Array(length));
          expect(half.held).toBeLessThanOrEqual(half.window);
        }
      }),
    ).toBe("PROTOCOL");
  });

  test("cannot make us hold more than the window by segments inside segments", () => {
    const { half } = inbound();
    half.receive(1, new Uint8Array(60_000));
    expect(
      codeOf(() => {
        for (let offset = 2; offset < 60_000; offset++) half.receive(offset, new Uint8Array(60_000 - offset));
      }),
    ).toBe("PROTOCOL");
  });

  test("cannot send the same bytes twice to be read twice", async () => {
    const { half } = inbound();
    half.receive(0, bytes(10));
    half.receive(0, bytes(10));
    half.receive(5, bytes(10, 5));
    half.finish(15);
    expect(await readAll(half)).toEqual(bytes(15));
  });
});

describe("failure", () => {
  test("rejects the read that waits and all that follow, and frees what was held", async () => {
    const { half, consumedAll } = inbound();
    const reading = half.read();
    half.receive(10, bytes(5));
    const error = new DcpipeError("IO", "gone");
    half.fail(error);
    await expect(reading).rejects.toBe(error);
    await expect(half.read()).rejects.toBe(error);
    expect(half.held).toBe(0);
    half.receive(0, bytes(5));
    expect(half.held).toBe(0);
    expect(consumedAll()).toBe(false);
  });

  test("after the end changes nothing", async () => {
    const { half } = inbound();
    half.finish(0);
    expect(await half.read()).toBeUndefined();
    half.fail(new DcpipeError("IO", "gone"));
    expect(await half.read()).toBeUndefined();
  });

  test("two reads at once are a mistake", async () => {
    const { half } = inbound();
    const first = half.read();
    await expect(half.read()).rejects.toMatchObject({ code: "USAGE" });
    half.receive(0, bytes(1));
    expect(await first).toEqual(bytes(1));
  });
});
