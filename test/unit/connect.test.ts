/** From a token to a session and through everything that may happen to it, over an ether without WebRTC. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { ConnectionEvent } from "../../src/connect/connection.ts";
import type { ConnectOptions } from "../../src/connect/options.ts";
import { Direct, type DirectOptions } from "../../src/connect/direct.ts";
import { connect, listen, type Joining, type Waiting } from "../../src/connect/token.ts";
import { DcpipeError, type ErrorCode } from "../../src/errors.ts";
import type { Session } from "../../src/session/session.ts";
import type { Stream } from "../../src/session/stream.ts";
import { decodeToken } from "../../src/wire/token.ts";
import { Ether, Host } from "./ether.ts";
import { pass, run, settled, startTime, stopTime, within } from "./network.ts";

let ether: Ether;
let near: Host;
let far: Host;
const open: (Waiting | Joining)[] = [];
const events: { side: string; at: number; event: ConnectionEvent }[] = [];

beforeEach(() => {
  stopTime();
  ether = new Ether();
  near = new Host(ether, "192.0.2.1");
  far = new Host(ether, "192.0.2.2");
  events.length = 0;
});

afterEach(async () => {
  for (const each of open.splice(0)) {
    each.session.then(
      (session) => {
        session.fail(new DcpipeError("ABORTED", "the test is over"));
      },
      () => undefined,
    );
    each.close();
  }
  await settled();
  startTime();
});

function note(side: string, options: ConnectOptions): ConnectOptions {
  return { ...options, stun: [], onevent: (event) => events.push({ side, at: performance.now(), event }) };
}

async function waiting(options: ConnectOptions = {}): Promise<Waiting> {
  const made = await within(listen(near.platform, note("waiting", options)));
  open.push(made);
  made.session.catch(() => undefined);
  return made;
}

function joining(offer: string, options: ConnectOptions = {}): Joining {
  const made = connect(far.platform, offer, note("joining", options));
  open.push(made);
  made.session.catch(() => undefined);
  return made;
}

async function meet(options: ConnectOptions = {}): Promise<{ a: Session; b: Session }> {
  const first = await waiting(options);
  const second = joining(first.offer, options);
  const [a, b] = await within(Promise.all([first.session, second.session]));
  return { a, b };
}

/** A stream from joining to waiting. */
async function stream(a: Session, b: Session): Promise<[mine: Stream, theirs: Stream]> {
  const mine = b.open(Uint8Array.of(1));
  return [mine, await within(a.accept())];
}

function codeOf(promise: Promise<unknown>): Promise<ErrorCode | undefined> {
  return promise.then(
    () => undefined,
    (error: unknown) => (error as DcpipeError).code,
  );
}

function names(side: string): string[] {
  return events
    .filter((entry) => entry.side === side && entry.event.event !== "log")
    .map(({ event }) => event.event);
}

describe("meeting", () => {
  test("one paste is enough where the waiting side can be reached", async () => {
    const first = await waiting();
    expect(decodeToken(first.offer, "offer").candidates).toEqual([
      { type: "host", address: "192.0.2.1", port: 5000 },
    ]);
    far.hidden = true;
    const second = joining(first.offer);
    const [a, b] = await within(Promise.all([first.session, second.session]), 1000);
    const [mine, theirs] = await stream(a, b);
    await mine.write(Uint8Array.of(1, 2, 3));
    expect(await within(theirs.read())).toEqual(Uint8Array.of(1, 2, 3));
    expect(names("waiting")).toEqual(["connected"]);
    expect(names("joining")).toEqual(["connected"]);
    expect(
      events.find(({ side, event }) => side === "joining" && event.event === "connected")?.event,
    ).toMatchObject({
      path: "direct",
      local: { address: "192.0.2.2" },
      remote: { address: "192.0.2.1" },
      rttMs: 10,
    });
  });

  test("the answer brings them together where it cannot", async () => {
    near.hidden = true;
    const first = await waiting();
    const second = joining(first.offer);
    const answer = await within(second.answer);
    expect(decodeToken(answer, "answer").candidates).toEqual([
      { type: "host", address: "192.0.2.2", port: 5000 },
    ]);
    await pass(30_000);
    expect(names("waiting")).toEqual([]);
    first.answer(`  "${answer}"\n`);
    await within(Promise.all([first.session, second.session]), 13_000);
  });

  test("not where keys cannot be brought along, as in a browser", async () => {
    const { offer } = await waiting();
    const platform = { ...far.platform, certificateFromSeed: undefined };
    expect(() => connect(platform, offer)).toThrow(expect.objectContaining({ code: "USAGE" }) as Error);
  });

  test("and never, where neither can be", async () => {
    near.hidden = far.hidden = true;
    const first = await waiting({ timeout: 100 });
    const second = joining(first.offer);
    first.answer(await within(second.answer));
    expect(await within(codeOf(second.session))).toBe("TIMEOUT");
    expect(performance.now()).toBeGreaterThanOrEqual(60_000);
    expect(performance.now()).toBeLessThan(61_000);
    expect(await within(codeOf(first.session))).toBe("TIMEOUT");
    await pass(100);
    expect([near.alive, far.alive]).toEqual([0, 0]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("a token is good for as long as its side waits", async () => {
    const first = await waiting();
    await pass(3_600_000);
    const second = joining(first.offer);
    await within(Promise.all([first.session, second.session]), 1000);
    expect(near.alive).toBe(1);
  });

  test("an answer is good for as long as both wait", async () => {
    near.hidden = true;
    const first = await waiting();
    const second = joining(first.offer, { timeout: 0 });
    const answer = await within(second.answer);
    await pass(3_600_000);
    first.answer(answer);
    await within(Promise.all([first.session, second.session]), 13_000);
  });

  test("the other's answer, an offer, a cut one: each told by its own error, and the wait goes on", async () => {
    near.hidden = true;
    const first = await waiting();
    const other = await waiting();
    const second = joining(first.offer);
    const answer = await within(second.answer);
    const codes = [
      () => {
        other.answer(answer);
      },
      () => {
        first.answer(first.offer);
      },
      () => {
        first.answer(answer.slice(0, -3));
      },
      () => {
        first.answer("hello");
      },
      () => joining(answer),
      () => joining(first.offer.replace("dc1", "dc2")),
    ].map((act) => {
      try {
        act();
        return "accepted";
      } catch (error) {
        return (error as DcpipeError).code;
      }
    });
    expect(codes).toEqual([
      "TOKEN_FOREIGN",
      "TOKEN_KIND",
      "TOKEN_CUT",
      "TOKEN_MALFORMED",
      "TOKEN_KIND",
      "TOKEN_VERSION",
    ]);
    first.answer(answer);
    await within(Promise.all([first.session, second.session]), 13_000);
  });

  test.each([
    ["an unknown relay", { relay: "only" }],
    ["no number of seconds", { timeout: -1 }],
    ["no STUN server", { stun: ["http://example.org"] }],
    ["no TURN server", { turn: ["turn:example.org"] }],
  ] as const)("wrong usage is told at once: %s", async (_, options) => {
    expect(await codeOf(listen(near.platform, options as ConnectOptions))).toBe("USAGE");
    expect(near.created).toBe(0);
  });
});

describe("stopping", () => {
  test.each(["before", "after"] as const)("%s the other side came, by a signal", async (when) => {
    const stop = new AbortController();
    const first = await waiting({ signal: stop.signal });
    const second = joining(first.offer, { timeout: 5, reconnect: 5 });
    if (when === "after") await within(Promise.all([first.session, second.session]));
    stop.abort();
    if (when === "before") {
      expect(await within(codeOf(first.session))).toBe("ABORTED");
      expect(await within(codeOf(second.session))).toBe("TIMEOUT");
    } else {
      expect(await within(first.session.then((session) => codeOf(session.closed)))).toBe("ABORTED");
      expect(await within(second.session.then((session) => codeOf(session.closed)))).toBe("INCOMPLETE");
    }
    await pass(1000);
    expect([near.alive, far.alive]).toEqual([0, 0]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("by a signal given too early", async () => {
    const signal = AbortSignal.abort();
    expect(await within(codeOf(listen(near.platform, { signal, stun: [] })))).toBe("ABORTED");
    await pass(100);
    expect(near.alive).toBe(0);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("while it waits, by close", async () => {
    const first = await waiting();
    first.close();
    expect(await within(codeOf(first.session))).toBe("ABORTED");
    await pass(100);
    expect(near.alive).toBe(0);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("well: both sides clean, nothing left", async () => {
    const { a, b } = await meet();
    await pass(3000);
    await within(Promise.all([a.close(), b.close()]), 3000);
    await pass(1000);
    expect([near.alive, far.alive]).toEqual([0, 0]);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("a link that does not come up", () => {
  test("because DTLS stalls is tried again", async () => {
    ether.reach = "connected";
    const first = await waiting();
    const second = joining(first.offer);
    await pass(2000);
    ether.reach = "open";
    await within(Promise.all([first.session, second.session]), 6000);
  });

  test("because nothing is said is tried again", async () => {
    ether.largest = 0;
    const first = await waiting();
    const second = joining(first.offer);
    await pass(4000);
    ether.largest = Infinity;
    await within(Promise.all([first.session, second.session]), 20_000);
  });
});

describe("bulk channels", () => {
  async function saturate(): Promise<{ a: Session; b: Session; count: { read: number } }> {
    const { a, b } = await meet();
    const [mine, theirs] = await stream(a, b);
    const count = { read: 0 };
    const write = async (): Promise<void> => {
      for (;;) await mine.write(new Uint8Array(64 * 1024));
    };
    const read = async (): Promise<void> => {
      for (let chunk = await theirs.read(); chunk; chunk = await theirs.read()) count.read += chunk.length;
    };
    write().catch(() => undefined);
    read().catch(() => undefined);
    return { a, b, count };
  }

  test("come when there is much to send", async () => {
    ether.delayMs = 20;
    const { a, b, count } = await saturate();
    await run(() => b.lanes.bulk >= 2 && a.lanes.bulk >= 2, 5000, "two bulk channels");
    expect(b.lanes.bulk).toBeGreaterThanOrEqual(b.lanes.wanted);
    await run(() => count.read > 4 * 1024 * 1024, 10_000, "4 MiB");
  });

  test("come with smaller packets where the large ones are lost", async () => {
    ether.delayMs = 100;
    ether.largest = 1200;
    const { b } = await saturate();
    await pass(6000);
    ether.largest = Infinity;
    expect(b.lanes.bulk).toBeGreaterThanOrEqual(2);
    expect(events.some(({ event }) => event.event === "log" && event.text.startsWith("bulk channel"))).toBe(
      true,
    );
  });

  test("that cannot be made are not asked for without end", async () => {
    ether.delayMs = 200;
    const { count } = await saturate();
    near.hidden = far.hidden = true;
    await pass(100);
    const { created } = far;
    await pass(15_000);
    expect(far.created - created).toBeLessThan(20);
    expect(count.read).toBeGreaterThan(1024 * 1024);
  });
});

describe("a cut link", () => {
  for (const seconds of [5, 20, 60]) {
    test(`of ${seconds} s is mended, and every byte arrives`, async () => {
      ether.delayMs = 20;
      const { a, b } = await meet();
      const [mine, theirs] = await stream(a, b);
      const total = 40 * 1024 * 1024;
      let read = 0;
      let wrong = 0;
      const writing = (async () => {
        const chunk = new Uint8Array(64 * 1024);
        const numbers = new DataView(chunk.buffer);
        for (let at = 0; at < total; at += chunk.length) {
          numbers.setUint32(0, at);
          await mine.write(chunk);
        }
        await mine.end();
      })();
      const reading = (async () => {
        let block: Uint8Array[] = [];
        let size = 0;
        for (let part = await theirs.read(); part; part = await theirs.read()) {
          // Every 64 KiB begins with its place.
          for (let at = 0; at < part.length;) {
            const take = Math.min(part.length - at, 64 * 1024 - size);
            block.push(part.slice(at, at + take));
            size += take;
            at += take;
            if (size < 64 * 1024) continue;
            const whole = Buffer.concat(block);
            if (whole.readUInt32BE(0) !== read) wrong++;
            read += size;
            block = [];
            size = 0;
          }
        }
      })();
      await run(() => read > 8 * 1024 * 1024, 60_000, "8 MiB");
      ether.up = false;
      const cut = performance.now();
      await pass(seconds * 1000);
      ether.up = true;
      await within(Promise.all([writing, reading, theirs.end(), mine.read()]), 90_000);
      expect([read, wrong]).toEqual([total, 0]);
      if (seconds > 10) {
        for (const side of ["waiting", "joining"]) {
          expect(names(side)).toEqual(["connected", "reconnecting", "path"]);
          const [noticed = 0] = events
            .filter((entry) => entry.side === side && entry.event.event === "reconnecting")
            .map(({ at }) => at - cut);
          expect(noticed).toBeLessThanOrEqual(12_000);
        }
      }
      await within(Promise.all([a.close(), b.close()]), 10_000);
    });
  }

  test("is mended again and again", async () => {
    const { a, b } = await meet();
    const [mine, theirs] = await stream(a, b);
    for (let i = 0; i < 8; i++) {
      await mine.write(Uint8Array.of(i));
      expect(await within(theirs.read(), 120_000)).toEqual(Uint8Array.of(i));
      ether.up = false;
      await pass(11_000 + 3000 * i);
      ether.up = true;
    }
    expect(names("joining").filter((name) => name === "reconnecting")).toHaveLength(8);
  });

  test.each([
    ["waiting", 20],
    ["joining", 20],
    ["waiting", 60],
    ["joining", 60],
  ])("of the %s side's voice alone, for %i s: whoever meets nobody keeps up", async (side, length) => {
    const { a, b } = await meet();
    const [mine, theirs] = await stream(a, b);
    const host = side === "waiting" ? near : far;
    host.mute = true;
    await pass(length * 1000);
    host.mute = false;
    await mine.write(Uint8Array.of(7));
    expect(await within(theirs.read(), 45_000)).toEqual(Uint8Array.of(7));
  });

  test("is mended when the address comes back that was lost with it", async () => {
    const { a, b } = await meet();
    const [mine, theirs] = await stream(a, b);
    far.unbindable = true;
    ether.up = false;
    await pass(20_000);
    ether.up = true;
    await pass(10_000);
    far.unbindable = false;
    await mine.write(Uint8Array.of(7));
    expect(await within(theirs.read(), 30_000)).toEqual(Uint8Array.of(7));
  });

  test("that stays is given up after the time it was given, on both sides", async () => {
    const { a, b } = await meet({ reconnect: 30 });
    await pass(3000);
    ether.up = false;
    const cut = performance.now();
    const codes = await within(Promise.all([codeOf(a.closed), codeOf(b.closed)]));
    expect(codes).toEqual(["PEER_GONE", "PEER_GONE"]);
    expect(performance.now() - cut).toBeGreaterThanOrEqual(33_000);
    expect(performance.now() - cut).toBeLessThan(43_000);
    await pass(100);
    expect([near.alive, far.alive]).toEqual([0, 0]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("and a session stopped meanwhile ends at once", async () => {
    const { a, b } = await meet();
    ether.up = false;
    await run(() => b.state === "down", 12_000, "the silence noticed");
    await within(b.abort("INTERRUPTED", "ctrl-c"), 100);
    expect(await codeOf(b.closed)).toBe("INTERRUPTED");
    await pass(100);
    expect(far.alive).toBe(0);
    expect(await within(codeOf(a.closed), 110_000)).toBe("PEER_GONE");
  });
});

describe("a network that changes", () => {
  type Change = (addresses: ReadonlySet<string>) => void;

  /** A waiting side behind a router that opens a port when the test says so. */
  function mapped(): {
    made: ReturnType<typeof listen>;
    change: Change;
    asked: { grant: (port: number) => void }[];
    released: number[];
  } {
    let change: Change | undefined;
    const asked: { grant: (port: number) => void }[] = [];
    const released: number[] = [];
    const made = listen(
      {
        ...near.platform,
        findStunServer: () => Promise.resolve({ host: "192.0.2.99", port: 3478 }),
        watchNetwork: (onchange) => {
          change = onchange;
          return () => undefined;
        },
        mapPort: () =>
          new Promise((resolve) => {
            asked.push({
              grant: (port) => {
                const release = (): Promise<void> => {
                  released.push(port);
                  return Promise.resolve();
                };
                resolve({ protocol: "pcp", port, address: "198.51.100.1", release });
              },
            });
          }),
      },
      {},
    );
    return { made, change: (addresses) => change?.(addresses), asked, released };
  }

  test("while the router is asked for a port: the port of the new one is kept, the other one given back", async () => {
    const { made, change, asked, released } = mapped();
    await run(() => asked.length === 1, 1000, "the first router asked");
    change(new Set(["192.0.2.1"]));
    await run(() => asked.length === 2, 1000, "the second router asked");
    asked[0]?.grant(1111);
    await pass(1);
    asked[1]?.grant(2222);
    const first = await within(made);
    first.session.catch(() => undefined);
    expect(released).toEqual([1111]);
    first.close();
    await pass(1);
    expect(released).toEqual([1111, 2222]);
  });

  test("beside the address that the router's port leads to: the port stays; without it: another one", async () => {
    const { made, change, asked, released } = mapped();
    await run(() => asked.length === 1, 1000, "the router asked");
    asked[0]?.grant(1111);
    const first = await within(made);
    first.session.catch(() => undefined);
    change(new Set(["192.0.2.1", "192.0.2.7"]));
    await pass(1000);
    expect([asked.length, released]).toEqual([1, []]);
    change(new Set(["192.0.2.7"]));
    await run(() => asked.length === 2, 1000, "the router asked again");
    expect(released).toEqual([1111]);
    first.close();
  });

  test("leaves a session within this machine alone", async () => {
    let change: Change | undefined;
    near = new Host(ether, "127.0.0.1");
    const { platform } = near;
    const watchNetwork = (onchange: Change): (() => void) => {
      change = onchange;
      return () => undefined;
    };
    Object.defineProperty(near, "platform", { value: { ...platform, watchNetwork } });
    const { a } = await meet();
    change?.(new Set(["192.0.2.77"]));
    await pass(3000);
    expect(a.state).toBe("running");
    expect(names("waiting")).toEqual(["connected"]);
  });
});

test("of the other side's many addresses the latest are tried, and no more than the library takes", () => {
  const direct = new Direct({
    stun: new Promise(() => undefined),
    stunWaitMs: Infinity,
    candidates: [],
  } as unknown as DirectOptions);
  for (let i = 0; i < 100; i++) direct.learn([{ type: "host", address: "192.0.2.1", port: 1000 + i }]);
  expect(direct.remote.length).toBeLessThan(30);
  expect(direct.remote.at(-1)?.port).toBe(1099);
  expect(direct.remote.at(-2)?.port).toBe(1098);
});
