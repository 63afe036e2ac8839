/** What a rendezvous does not put up with, and that its other clients do not notice. */
import { connect, type Socket } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { addressGroup } from "../../src/server/address.ts";
import { claimDelay, LIMITS } from "../../src/server/limits.ts";
import { MemoryStore } from "../../src/server/memory.ts";
import { CLOSE, MAX_BODIES, MAX_BODY } from "../../src/wire/rendezvous.ts";
import { storeTest } from "./redis.ts";
import { allocate, body, claim, newKey, serve, type Server } from "./visitor.ts";

const UPGRADE =
  "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" +
  "Sec-WebSocket-Protocol: dcpipe-rendezvous.1\r\n\r\n";

/** A bare TCP connection. */
function dial(server: Server): { socket: Socket; ended: Promise<string> } {
  const { hostname, port } = new URL(server.http);
  const socket = connect(Number(port), hostname);
  const ended = new Promise<string>((resolve) => {
    let text = "";
    socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
    socket.on("error", () => undefined);
    socket.on("close", () => {
      resolve(text);
    });
  });
  onTestFinished(() => {
    socket.destroy();
  });
  return { socket, ended };
}

/** An introduction from beginning to end. */
async function introduce(server: Server): Promise<void> {
  const { visitor: waiting, nameplate } = await allocate(server, { from: "127.0.0.9" });
  await waiting.say({ type: "POST", index: 0, body: body("hello") });
  const { visitor: joining } = await claim(server, nameplate, { from: "127.0.0.9" });
  await joining.hear("MESSAGE");
  await waiting.hear("SERVERS");
  await waiting.hear("JOINED");
  await joining.say({ type: "POST", index: 0, body: body("answer") });
  await waiting.hear("MESSAGE");
  await waiting.say({ type: "RELEASE", outcome: "direct" });
  expect(await Promise.all([waiting.closed, joining.closed])).toEqual([CLOSE.RELEASED, CLOSE.RELEASED]);
}

async function metric(server: Server, name: string): Promise<number> {
  const text = await (await fetch(`${server.http}metrics`)).text();
  const line = text.split("\n").find((each) => each.startsWith(`${name} `));
  return Number(line?.split(" ")[1]);
}

describe("wrong guesses", () => {
  test("the delays", () => {
    const delays = Array.from({ length: 12 }, (_, guesses) => claimDelay(guesses, LIMITS) / 1000);
    expect(delays).toEqual([0, 0, 0, 1, 2, 4, 8, 16, 30, 30, 30, 30]);
  });

  storeTest("three are free, then claims of that address wait in a row, longer each time", async (open) => {
    const store = open();
    onTestFinished(() => store.close());
    await store.start({ notice: () => undefined, lost: () => undefined, relaysLost: () => undefined });
    let seat = 0;
    const guess = (waited = false, address = "192.0.2.1"): ReturnType<typeof store.claim> =>
      store.claim({ seat: ++seat, address, key: newKey() }, 555, waited);
    for (let i = 0; i < 3; i++) expect(await guess()).toEqual({ refused: CLOSE.UNKNOWN });
    const first = await guess();
    expect(first).toEqual({ wait: 1000 });
    // The next one's turn comes after that.
    const second = (await guess()) as { wait: number };
    expect(second.wait).toBeGreaterThanOrEqual(1000);
    expect(second.wait).toBeLessThanOrEqual(2000);
    expect(await guess(true)).toEqual({ refused: CLOSE.UNKNOWN });
    const third = (await guess()) as { wait: number };
    expect(third.wait).toBeGreaterThanOrEqual(2000);
    expect(third.wait).toBeLessThanOrEqual(4000);
    // Others are not concerned.
    expect(await guess(false, "192.0.2.2")).toEqual({ refused: CLOSE.UNKNOWN });
    // And there is an end to the row.
    for (;;) {
      const next = await guess();
      if ("wait" in next) continue;
      expect(next).toEqual({ refused: CLOSE.LIMIT });
      break;
    }
  });

  storeTest("are forgotten in time", async (open) => {
    const store = open({ freeGuesses: 0, firstDelayMs: 1, guessMemoryMs: 20 });
    onTestFinished(() => store.close());
    await store.start({ notice: () => undefined, lost: () => undefined, relaysLost: () => undefined });
    const visitor = { seat: 1, address: "192.0.2.1", key: newKey() };
    expect(await store.claim(visitor, 555, true)).toEqual({ refused: CLOSE.UNKNOWN });
    expect(await store.claim(visitor, 555, false)).toHaveProperty("wait");
    while ("wait" in (await store.claim(visitor, 555, false)));
  });

  storeTest("a right claim is delayed, too, and then gets through", async (open) => {
    const limits = { firstDelayMs: 5, maxDelayMs: 20 };
    const server = await serve({ store: open(limits), limits });
    const { nameplate } = await allocate(server);
    for (let i = 0; i < 5; i++) {
      const guess = server.visit({ first: { type: "CLAIM", key: newKey(), nameplate: 555 } });
      expect(await guess.closed).toBe(CLOSE.UNKNOWN);
    }
    await claim(server, nameplate);
  });

  storeTest("who waits for its turn holds nobody up, and too many are refused", async (open) => {
    const limits = { freeGuesses: 0, firstDelayMs: 100_000, maxDelayMs: 100_000, maxWaitMs: 150_000 };
    const server = await serve({ store: open(limits), limits });
    const guess = (): ReturnType<Server["visit"]> =>
      server.visit({ first: { type: "CLAIM", key: newKey(), nameplate: 555 }, from: "127.0.0.8" });
    expect(await guess().closed).toBe(CLOSE.UNKNOWN);
    const waits = guess();
    await waits.opened;
    const next = guess();
    expect(await Promise.race([waits.closed, next.closed])).toBe(CLOSE.LIMIT);
    expect(await metric(server, "dcpipe_claims_delayed")).toBe(1);
    const { nameplate } = await allocate(server);
    expect(nameplate).toBeGreaterThan(0);
    await waits.vanish();
    while ((await metric(server, "dcpipe_claims_delayed")) !== 0);
  });

  storeTest("a wrong password counts against the side that joined", async (open) => {
    const limits = { freeGuesses: 1, firstDelayMs: 100_000, maxDelayMs: 100_000, maxWaitMs: 1 };
    const server = await serve({ store: open(limits), limits });
    const [one, two] = [await allocate(server), await allocate(server)];
    await claim(server, one.nameplate, { from: "127.0.0.7" });
    await one.visitor.hear("SERVERS");
    await one.visitor.hear("JOINED");
    await one.visitor.say({ type: "RELEASE", outcome: "wrong" });
    await one.visitor.closed;
    const again = server.visit({
      first: { type: "CLAIM", key: newKey(), nameplate: two.nameplate },
      from: "127.0.0.7",
    });
    expect(await again.closed).toBe(CLOSE.LIMIT);
    expect(again.reason).toMatch(/wrong codes/);
    await claim(server, two.nameplate, { from: "127.0.0.6" });
  });

  storeTest("a wish for a taken nameplate is one, a wish for a free one is none", async (open) => {
    const limits = { freeGuesses: 1, firstDelayMs: 100_000, maxDelayMs: 100_000, maxWaitMs: 1 };
    const server = await serve({ store: open(limits), limits });
    const { nameplate } = await allocate(server);
    await allocate(server, { nameplate: 777, from: "127.0.0.6" });
    await claim(server, 777, { from: "127.0.0.6" });
    await allocate(server, { nameplate, from: "127.0.0.7" });
    const first = { type: "CLAIM", key: newKey(), nameplate } as const;
    expect(await server.visit({ first, from: "127.0.0.7" }).closed).toBe(CLOSE.LIMIT);
  });
});

describe("addresses", () => {
  test.each([
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:DB8:1:2::7", "2001:db8:1:2::/64"],
    ["2001:db8::1", "2001:db8:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["::", "0:0:0:0::/64"],
    ["1::2:3:4:5:6:7", "1:0:2:3::/64"],
    ["64:ff9b::192.0.2.1", "64:ff9b:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["", ""],
  ])("%s counts as %s", (address, group) => {
    expect(addressGroup(address)).toBe(group);
  });

  storeTest("mailboxes of one", async (open) => {
    const limits = { mailboxesPerAddress: 2 };
    const server = await serve({ store: open(limits), limits });
    const [one] = [await allocate(server), await allocate(server)];
    const first = { type: "ALLOCATE", key: newKey(), nameplate: 0 } as const;
    expect(await server.visit({ first }).closed).toBe(CLOSE.LIMIT);
    const opening = { type: "OPEN", key: newKey(), role: "waiting", name: newKey(), received: 0 } as const;
    expect(await server.visit({ first: opening }).closed).toBe(CLOSE.LIMIT);
    await allocate(server, { from: "127.0.0.5" });
    await one.visitor.say({ type: "RELEASE", outcome: "left" });
    await one.visitor.closed;
    await allocate(server);
  });

  test("connections of one", async () => {
    const limits = { connectionsPerAddress: 2 };
    const server = await serve({ store: new MemoryStore(), limits });
    const [one] = [await allocate(server), await allocate(server)];
    const third = server.visit();
    expect(await third.closed).toBe(CLOSE.LIMIT);
    expect(third.reason).toBe("too many connections from this address");
    await allocate(server, { from: "127.0.0.5" });
    await one.visitor.vanish();
    while ((await metric(server, "dcpipe_connections")) !== 2);
    await allocate(server);
  });

  test("X-Forwarded-For counts only where a proxy is trusted, and only its last entry", async () => {
    const limits = { connectionsPerAddress: 1 };
    const headers = (value: string): { headers: Record<string, string> } => ({
      headers: { "X-Forwarded-For": value },
    });
    const trusting = await serve({ store: new MemoryStore(), trustProxy: true, limits });
    await allocate(trusting, headers("192.0.2.1"));
    await allocate(trusting, headers("192.0.2.1, 192.0.2.2"));
    await allocate(trusting, headers("[2001:db8::1]:443"));
    for (const seen of ["192.0.2.3, 192.0.2.1", "::ffff:192.0.2.2", "2001:db8::2"])
      expect(await trusting.visit(headers(seen)).closed, seen).toBe(CLOSE.LIMIT);
    // What is no address does not hide the proxy's own.
    await allocate(trusting, headers("unknown"));
    expect(await trusting.visit(headers("192.0.2.9, unknown")).closed).toBe(CLOSE.LIMIT);
    const wary = await serve({ store: new MemoryStore(), limits });
    await allocate(wary, headers("192.0.2.1"));
    expect(await wary.visit(headers("192.0.2.2")).closed).toBe(CLOSE.LIMIT);
  });
});

describe("time", () => {
  storeTest("an unclaimed mailbox expires, a renewed one later", async (open) => {
    const limits = { unclaimedMs: 2000 };
    const server = await serve({ store: open(limits), limits });
    const [renewed, other] = [await allocate(server), await allocate(server)];
    const renewing = setInterval(() => void renewed.visitor.say({ type: "RENEW" }), 50);
    expect(await other.visitor.closed).toBe(CLOSE.EXPIRED);
    clearInterval(renewing);
    await claim(server, renewed.nameplate);
    const back = {
      type: "RESUME",
      key: other.key,
      role: "waiting",
      nameplate: other.nameplate,
      received: 0,
    } as const;
    expect(await server.visit({ first: back }).closed).toBe(CLOSE.UNKNOWN);
    expect((await allocate(server, { nameplate: other.nameplate })).nameplate).toBe(other.nameplate);
  });

  storeTest("a claimed one expires for both, renewed or not", async (open) => {
    const limits = { claimedMs: 200 };
    const server = await serve({ store: open(limits), limits });
    const { visitor: waiting, nameplate } = await allocate(server);
    const { visitor: joining } = await claim(server, nameplate);
    await waiting.say({ type: "RENEW" });
    expect(await Promise.all([waiting.closed, joining.closed])).toEqual([CLOSE.EXPIRED, CLOSE.EXPIRED]);
    const late = server.visit({ first: { type: "CLAIM", key: newKey(), nameplate } });
    expect(await late.closed).toBe(CLOSE.USED);
  });

  storeTest("one that nobody comes back to expires sooner", async (open) => {
    const limits = { detachedMs: 1 };
    const server = await serve({ store: open(limits), limits });
    const { visitor, nameplate, key } = await allocate(server);
    await visitor.vanish();
    // Free again: whoever asks for it next has it.
    let got: number;
    do got = (await allocate(server, { nameplate, key: newKey() })).nameplate;
    while (got !== nameplate);
    const back = server.visit({ first: { type: "RESUME", key, role: "waiting", nameplate, received: 0 } });
    expect(await back.closed).toBe(CLOSE.UNKNOWN);
  });

  test("a client that says nothing is sent away", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { firstMessageMs: 50 } });
    expect(await server.visit().closed).toBe(CLOSE.SLOW);
  });

  test("a client that answers no ping is cut off, one that does is not", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { pingMs: 100 } });
    const { visitor } = await allocate(server);
    const { socket, ended } = dial(server);
    socket.write(UPGRADE);
    expect(await ended).toMatch(/^HTTP\/1.1 101 /);
    expect(visitor.socket.readyState).toBe(visitor.socket.OPEN);
  });

  test("one whose TCP is only half there is cut off", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { pingMs: 100 } });
    const { socket, ended } = dial(server);
    socket.end(UPGRADE);
    await ended;
  });
});

describe("one bad client", () => {
  const hasty = { requestMs: 1000 };

  test("sends its request a byte at a time, or nothing", async () => {
    const server = await serve({ store: new MemoryStore(), limits: hasty });
    const bad = [dial(server), dial(server), dial(server)];
    bad[1]?.socket.write("GET / HTTP/1.1\r\n");
    const drip = setInterval(() => bad[2]?.socket.write("x"), 20);
    bad[2]?.socket.write("GET / HTTP/1.1\r\nX: ");
    await introduce(server);
    await Promise.all(bad.map(({ ended }) => ended));
    clearInterval(drip);
  });

  test("sends a head without end", async () => {
    const server = await serve({ store: new MemoryStore() });
    const { socket, ended } = dial(server);
    socket.write(`GET / HTTP/1.1\r\nX: ${"x".repeat(100_000)}`);
    await introduce(server);
    expect(await ended).toMatch(/^HTTP\/1.1 431 /);
  });

  test("sends garbage, many times over", async () => {
    const server = await serve({ store: new MemoryStore() });
    const bad = Array.from({ length: 100 }, (_, i) => {
      const each = dial(server);
      each.socket.write(i % 2 === 0 ? "\0\x01\x02garbage\r\n\r\n" : `${UPGRADE}garbage that is no frame`);
      return each;
    });
    await introduce(server);
    await Promise.all(bad.map(({ ended }) => ended));
    await introduce(server);
  });

  test("talks without end", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { messagesPerPing: 20 } });
    const { visitor } = await allocate(server);
    for (let i = 0; i < 50; i++) await visitor.say({ type: "RENEW" });
    expect(await visitor.closed).toBe(CLOSE.LIMIT);
    const { visitor: pinging } = await allocate(server);
    for (let i = 0; i < 50; i++) pinging.socket.ping();
    expect(await pinging.closed).toBe(CLOSE.LIMIT);
  });

  storeTest("does not wait for its admission", async (open) => {
    const limits = { freeGuesses: 0, firstDelayMs: 10_000, earlyMessages: 3 };
    const server = await serve({ store: open(limits), limits });
    await server.visit({ first: { type: "CLAIM", key: newKey(), nameplate: 555 } }).closed;
    const visitor = server.visit();
    await visitor.say({ type: "CLAIM", key: newKey(), nameplate: 555 });
    for (let i = 0; i < 10; i++) await visitor.say({ type: "RENEW" });
    expect(await visitor.closed).toBe(CLOSE.LIMIT);
  });

  test("does not take what it is sent", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { bufferedBytes: 100_000 } });
    const { visitor, nameplate } = await allocate(server);
    const { key, visitor: joining } = await claim(server, nameplate);
    for (let index = 0; index < MAX_BODIES; index++)
      await visitor.say({ type: "POST", index, body: new Uint8Array(MAX_BODY) });
    for (let index = 0; index < MAX_BODIES; index++) await joining.hear("MESSAGE");
    const back = server.visit({
      first: { type: "RESUME", key, role: "joining", nameplate, received: 0 },
    });
    expect(await back.closed).toBe(CLOSE.SLOW);
  });

  test("reads none of its answers", async () => {
    const server = await serve({
      store: new MemoryStore(),
      limits: { messagesPerPing: 1e9, bufferedBytes: 100_000, closeMs: 100 },
    });
    const { socket, ended } = dial(server);
    socket.pause();
    socket.write(UPGRADE);
    // Masked pings of 125 bytes, whose answers nobody reads.
    const pings = Buffer.concat(
      Array.from({ length: 1000 }, () => Buffer.concat([Buffer.of(0x89, 0xfd), Buffer.alloc(129)])),
    );
    const gone = new Promise<void>((resolve) => {
      socket.on("error", () => {
        resolve();
      });
    });
    const fill = (error?: Error | null): void => {
      if (!error) socket.write(pings, fill);
    };
    fill();
    await introduce(server);
    await gone;
    await ended;
    await introduce(server);
  });

  test("fills the memory", async () => {
    const limits = { storeBytes: 50_000 };
    const server = await serve({ store: new MemoryStore(limits), limits });
    const { visitor } = await allocate(server);
    for (let index = 0; index < 20; index++)
      await visitor.say({ type: "POST", index, body: new Uint8Array(MAX_BODY) });
    expect(await visitor.closed).toBe(CLOSE.TRY_AGAIN);
    await introduce(server);
  });
});

test("what a store of memory holds is counted right", async () => {
  const limits = { storeBytes: 4 * MAX_BODY, usedMs: 0 };
  const server = await serve({ store: new MemoryStore(limits), limits });
  // Any byte not given back would stop this sooner or later.
  for (let i = 0; i < 50; i++) await introduce(server);
});
