/** What ends of relays may use, and what a bad one does not get. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { TokenBucket } from "../../src/server/bucket.ts";
import { LIMITS } from "../../src/server/limits.ts";
import { passCost } from "../../src/server/connection.ts";
import { MemoryStore } from "../../src/server/memory.ts";
import { Metrics } from "../../src/server/metrics.ts";
import { Quota } from "../../src/server/quota.ts";
import { RelayEnd, type RelayOptions } from "../../src/server/relay.ts";
import { MemoryRelays } from "../../src/server/relays.ts";
import { toBase64url } from "../../src/wire/bytes.ts";
import type { Role } from "../../src/wire/hello.ts";
import {
  CLOSE,
  encodeClientMessage,
  FIRST_MESSAGE_PREFIX,
  MAX_RELAY_MESSAGE,
  MAX_RENDEZVOUS_MESSAGE,
} from "../../src/wire/rendezvous.ts";
import { storeTest } from "./redis.ts";
import {
  atStandstill,
  Drain,
  introduce,
  metric,
  pour,
  relay,
  relayMessage,
  relayPair,
  through,
} from "./relays.ts";
import { newKey, serve, type Server, type Visitor } from "./visitor.ts";

const MIB = 2 ** 20;
/** What Node reads from a socket at once. */
const READ = 65_536;

// ---- an end alone ---------------------------------------------------------------------------------------------------

/** A WebSocket that takes what it is sent when the test says so. */
class FakeConnection {
  reading = true;
  code: number | undefined;
  reason: string | undefined;
  readonly queue: Uint8Array[] = [];
  end: RelayEnd | undefined;

  pass(message: Uint8Array): void {
    this.queue.push(message);
  }

  pause(): void {
    this.reading = false;
  }

  resume(): void {
    this.reading = true;
  }

  close(code: number, reason?: string): void {
    this.code ??= code;
    this.reason ??= reason;
  }

  take(): void {
    const message = this.queue.shift();
    if (message) this.end?.taken(passCost(message));
  }

  get bytes(): number {
    return this.queue.reduce((sum, { length }) => sum + length, 0);
  }
}

function ends(options: RelayOptions = {}): Record<Role, { connection: FakeConnection; end: RelayEnd }> {
  const around = {
    relays: new MemoryRelays(),
    limits: LIMITS,
    metrics: new Metrics(),
    quota: new Quota(2, 2),
    options,
    holder: undefined,
  };
  const name = newKey();
  const make = (role: Role): { connection: FakeConnection; end: RelayEnd } => {
    const connection = new FakeConnection();
    const end = new RelayEnd(connection, around, "192.0.2.1");
    connection.end = end;
    onTestFinished(() => {
      end.closed();
    });
    end.receive(encodeClientMessage(relayMessage(role, name)));
    return { connection, end };
  };
  return { waiting: make("waiting"), joining: make("joining") };
}

describe("what is passed on and not taken is bounded", () => {
  test.each([1, 1160, 65_536, MAX_RELAY_MESSAGE])("messages of %i bytes", (size) => {
    const { waiting, joining } = ends();
    expect(waiting.connection.reading).toBe(true);
    const message = new Uint8Array(size);
    const cost = passCost(message);
    const fill = (): void => {
      // One that is never told to wait ends as well.
      for (let i = 0; i < 100_000 && waiting.connection.reading; i++) waiting.end.receive(message);
    };
    fill();
    const most = joining.connection.queue.length * cost;
    expect(most).toBeGreaterThan(LIMITS.relayBufferedBytes);
    expect(most).toBeLessThanOrEqual(LIMITS.relayBufferedBytes + cost);
    // Read on when half of it is taken, not before, and then up to the same bound.
    for (let i = 0; i < 3; i++) {
      while (!waiting.connection.reading) joining.connection.take();
      const left = joining.connection.queue.length * cost;
      expect(left).toBeLessThanOrEqual(LIMITS.relayBufferedBytes / 2);
      expect(left).toBeGreaterThan(LIMITS.relayBufferedBytes / 2 - cost);
      fill();
      expect(joining.connection.queue.length * cost).toBeLessThanOrEqual(LIMITS.relayBufferedBytes + cost);
    }
    // The other direction has nothing to do with it.
    expect(joining.connection.reading).toBe(true);
  });
});

test("what the other end says before this one knows of it is kept", () => {
  const around = {
    // As from Redis: the answer is under way when the other end speaks already.
    relays: { enter: () => new Promise<undefined>(() => undefined), leave: () => undefined },
    limits: LIMITS,
    metrics: new Metrics(),
    quota: new Quota(1, 1),
    options: {},
    holder: undefined,
  };
  const connection = new FakeConnection();
  const end = new RelayEnd(connection, around, "192.0.2.1");
  connection.end = end;
  onTestFinished(() => {
    end.closed();
  });
  end.receive(encodeClientMessage(relayMessage("waiting", newKey())));
  end.deliver(Uint8Array.of(1));
  end.deliver(Uint8Array.of(2));
  expect(connection.queue).toEqual([]);
  const acknowledged: number[] = [];
  end.pair({
    deliver: () => undefined,
    acknowledge: (cost) => acknowledged.push(cost),
    finish: () => undefined,
  });
  end.deliver(Uint8Array.of(3));
  expect(connection.queue).toEqual([1, 2, 3].map((byte) => Uint8Array.of(byte)));
  while (connection.queue.length > 0) connection.take();
  expect(acknowledged).toEqual(Array(3).fill(passCost(Uint8Array.of(1))));
});

describe("volume", () => {
  test("ends the relay before more goes through, both directions together", () => {
    const { waiting, joining } = ends({ volume: 1000 });
    waiting.end.receive(new Uint8Array(400));
    joining.end.receive(new Uint8Array(600));
    expect([waiting.connection.code, joining.connection.code]).toEqual([undefined, undefined]);
    joining.end.receive(new Uint8Array(1));
    expect([waiting.connection.bytes, joining.connection.bytes]).toEqual([600, 400]);
    for (const { connection } of [waiting, joining])
      expect([connection.code, connection.reason]).toEqual([CLOSE.LIMIT, "relay volume used up"]);
  });

  storeTest("wherever the ends are", async (open, kind) => {
    const options = { relay: { volume: MIB } };
    const one = await serve({ ...options, store: open() });
    const two = kind === "memory" ? one : await serve({ ...options, store: open() });
    // Half of it in small messages one way, the rest the other way.
    const { waiting, joining } = await relayPair(one, two);
    const [w, j] = [new Drain(waiting), new Drain(joining)];
    await pour(waiting, MIB / 2, 1000);
    await pour(joining, MIB, 1000);
    expect(await Promise.all([waiting.closed, joining.closed])).toEqual([CLOSE.LIMIT, CLOSE.LIMIT]);
    expect([waiting.reason, joining.reason]).toEqual(Array(2).fill("relay volume used up"));
    expect(w.bytes + j.bytes).toBeLessThanOrEqual(MIB);
    expect(w.bytes + j.bytes).toBeGreaterThan(MIB / 2);
    // A new one has its own.
    await relayPair(one, two);
  });
});

describe("rate", () => {
  test("a bucket holds a second's worth, and goes into debt", () => {
    let now = 5000;
    const bucket = new TokenBucket(1000, () => now);
    bucket.take(1000);
    expect(bucket.wait).toBe(0);
    bucket.take(500);
    expect(bucket.wait).toBe(500);
    now += 499;
    expect(bucket.wait).toBe(1);
    now += 1;
    expect(bucket.wait).toBe(0);
    now += 60_000;
    bucket.take(1000);
    expect(bucket.wait).toBe(0);
    bucket.take(1);
    expect(bucket.wait).toBe(1);
  });

  storeTest("both directions together get no more", async (open, kind) => {
    const rate = MIB / 2;
    const options = { relay: { rate } };
    const one = await serve({ ...options, store: open() });
    const two = kind === "memory" ? one : await serve({ ...options, store: open() });
    const begun = performance.now();
    const { waiting, joining } = await relayPair(one, two);
    let bytes = 0;
    // A second's worth at first; and at either end what was read when the tokens ran out.
    const slack = rate + 2 * (READ + MAX_RELAY_MESSAGE);
    const beyond: number[] = [];
    const enough = new Promise<void>((resolve) => {
      for (const { socket } of [waiting, joining])
        socket.on("message", (data: Buffer) => {
          bytes += data.length;
          const allowed = slack + (rate * (performance.now() - begun)) / 1000;
          if (bytes > allowed) beyond.push(bytes - allowed);
          if (bytes > 4 * rate) resolve();
        });
    });
    void pour(waiting, 8 * rate, 10_000);
    void pour(joining, 8 * rate, 60_000);
    await enough;
    expect(beyond).toEqual([]);
    // Whoever waits for tokens does not hold up the others.
    await introduce(one);
  });
});

describe("an end that reads nothing", () => {
  storeTest("stops the other one, costs little, and loses nothing", async (open, kind) => {
    const one = await serve({ store: open() });
    const two = kind === "memory" ? one : await serve({ store: open() });
    const { waiting, joining } = await relayPair(one, two);
    const drain = new Drain(joining);
    joining.socket.pause();
    const total = 96 * MIB;
    const sent = pour(waiting, total, 60_000);
    const relayed = await atStandstill(one, () => metric(one, "dcpipe_relayed_bytes_total"));
    // Most of it lies in the kernel's buffers for the one that does not read; the sender still has the rest.
    expect(relayed).toBeLessThan(total / 2);
    joining.socket.resume();
    expect(await drain.all(total)).toBe(await sent);
  });

  test("is cut off when it takes nothing of what is there for it, and the other one is told", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { pingMs: 300 } });
    const { waiting, joining } = await relayPair(server);
    joining.socket.pause();
    void pour(waiting, 96 * MIB, 60_000);
    expect(await waiting.closed).toBe(CLOSE.LEFT);
    await expect.poll(() => metric(server, 'dcpipe_relay_ends_closed_total{reason="slow"}')).toBe(1);
  });

  test("is not cut off while it takes some", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { pingMs: 2000 } });
    const { waiting, joining } = await relayPair(server);
    const drain = new Drain(joining);
    joining.socket.pause();
    void pour(waiting, 256 * MIB, 60_000);
    let answered = 0;
    joining.socket.on("ping", () => answered++);
    // Its own pings lie behind more than it takes from one to the next.
    for (let pings = 0; pings < 4; pings++) {
      await Promise.race([once(waiting.socket, "ping"), waiting.closed]);
      joining.socket.resume();
      await drain.until(drain.bytes + 4 * MIB);
      joining.socket.pause();
    }
    expect(answered).toBeLessThan(4);
    joining.socket.send(Buffer.from("still here"));
    expect(Buffer.from(await waiting.hearBytes()).toString()).toBe("still here");
  });
});

// ---- bad ends -------------------------------------------------------------------------------------------------------

/** An end of a relay that is a bare TCP connection, and does nothing by itself. */
async function bareEnd(
  server: Server,
  role: Role,
  name: Uint8Array,
  from = "127.0.0.1",
): Promise<{ socket: Socket; ended: Promise<void> }> {
  const { hostname, port } = new URL(server.http);
  const socket = connect({ port: Number(port), host: hostname, localAddress: from });
  onTestFinished(() => {
    socket.destroy();
  });
  const ended = new Promise<void>((resolve) => {
    socket.on("error", () => undefined);
    socket.on("close", () => {
      resolve();
    });
  });
  const first = FIRST_MESSAGE_PREFIX + toBase64url(encodeClientMessage(relayMessage(role, name)));
  socket.write(
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" +
      `Sec-WebSocket-Protocol: dcpipe-rendezvous.1, ${first}\r\n\r\n`,
  );
  await new Promise((resolve) => socket.once("data", resolve));
  return { socket, ended };
}

/** A binary frame, masked with zeros. */
function frame(payload: Uint8Array, { opcode = 2, fin = true } = {}): Buffer {
  const { length } = payload;
  const size = length < 126 ? [0x80 | length] : [0xfe, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.of((fin ? 0x80 : 0) | opcode, ...size, 0, 0, 0, 0), payload]);
}

describe("one bad end", () => {
  storeTest("says one small thing before the other one is there, and no more", async (open) => {
    const server = await serve({ store: open() });
    const name = newKey();
    const [patient, loud, long] = [name, newKey(), newKey()].map((each) =>
      relay(server, "waiting", { name: each }),
    ) as [Visitor, Visitor, Visitor];
    for (const { opened } of [patient, loud, long]) await opened;
    for (const text of ["one", "two"]) loud.socket.send(Buffer.from(text));
    long.socket.send(Buffer.alloc(MAX_RENDEZVOUS_MESSAGE + 1));
    expect([await loud.closed, await long.closed]).toEqual([CLOSE.PROTOCOL, CLOSE.PROTOCOL]);
    const message = Buffer.alloc(MAX_RENDEZVOUS_MESSAGE, 7);
    patient.socket.send(message);
    expect(await metric(server, "dcpipe_relayed_bytes_total")).toBe(0);
    const joining = relay(server, "joining", { name });
    expect(Buffer.from(await joining.hearBytes()).equals(message)).toBe(true);
  });

  storeTest("leaves before the other one is there: its place is free", async (open) => {
    const server = await serve({ store: open() });
    const name = newKey();
    const [polite, lost] = [relay(server, "waiting", { name }), relay(server, "joining", { name: newKey() })];
    for (const { opened } of [polite, lost]) await opened;
    polite.socket.close();
    lost.socket.terminate();
    while ((await metric(server, "dcpipe_relay_ends")) > 0);
    const waiting = relay(server, "waiting", { name });
    await through(waiting, relay(server, "joining", { name }));
  });

  test("answers no ping", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { pingMs: 200 } });
    const name = newKey();
    const joining = relay(server, "joining", { name });
    const { ended, socket } = await bareEnd(server, "waiting", name);
    socket.resume();
    expect(await joining.closed).toBe(CLOSE.LEFT);
    await ended;
  });

  test("answers none, but is said to be alive by what it sends", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { pingMs: 200 } });
    const name = newKey();
    const joining = relay(server, "joining", { name });
    const { socket } = await bareEnd(server, "waiting", name);
    socket.resume();
    const talk = setInterval(() => socket.write(frame(Buffer.from("alive"))), 20);
    onTestFinished(() => {
      clearInterval(talk);
    });
    // Several pings long.
    for (let i = 0; i < 60; i++) expect(Buffer.from(await joining.hearBytes()).toString()).toBe("alive");
  });

  test("pings without end", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { messagesPerPing: 20 } });
    const { waiting, joining } = await relayPair(server);
    for (let i = 0; i < 50; i++) await through(waiting, joining);
    for (let i = 0; i < 50; i++) waiting.socket.ping();
    expect(await Promise.all([waiting.closed, joining.closed])).toEqual([CLOSE.LIMIT, CLOSE.LEFT]);
  });

  test("sends a message in crumbs, or without end", async () => {
    const server = await serve({ store: new MemoryStore() });
    const crumbs: Record<string, Buffer[]> = {
      fragments: [
        frame(Buffer.of(1), { fin: false }),
        ...Array<Buffer>(80).fill(frame(Buffer.of(1), { opcode: 0, fin: false })),
      ],
      empty: [
        frame(Buffer.of(1), { fin: false }),
        ...Array<Buffer>(80).fill(frame(Buffer.alloc(0), { opcode: 0, fin: false })),
      ],
      large: Array.from({ length: 8 }, (_, i) =>
        frame(Buffer.alloc(10_000), { opcode: i === 0 ? 2 : 0, fin: false }),
      ),
      text: [frame(Buffer.from("text"), { opcode: 1 })],
      garbage: [randomBytes(100).fill(0xff, 0, 1)],
    };
    for (const [what, frames] of Object.entries(crumbs)) {
      const name = newKey();
      const joining = relay(server, "joining", { name });
      const { socket } = await bareEnd(server, "waiting", name);
      socket.write(Buffer.concat(frames));
      expect([what, await joining.closed]).toEqual([what, CLOSE.LEFT]);
      expect(joining.unheard).toEqual([]);
    }
  });

  test("does not say good-bye properly", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { closeMs: 100 } });
    const name = newKey();
    const joining = relay(server, "joining", { name });
    const { socket, ended } = await bareEnd(server, "waiting", name);
    socket.write(frame(Buffer.from("hello")));
    expect(Buffer.from(await joining.hearBytes()).toString()).toBe("hello");
    joining.socket.close(1000);
    // It is closed with LEFT, reads it, and answers nothing.
    socket.resume();
    await ended;
  });
});

describe("as many as there may be", () => {
  test("of one address", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { relaysPerAddress: 2 } });
    const { waiting, joining } = await relayPair(server);
    const third = relay(server, "waiting", { name: newKey() });
    expect(await third.closed).toBe(CLOSE.LIMIT);
    expect(third.reason).toBe("too many relays from this address");
    const other = relay(server, "waiting", { name: newKey(), from: "127.0.0.5" });
    await other.opened;
    await through(waiting, joining);
    waiting.socket.close(1000);
    await joining.closed;
    await expect.poll(() => metric(server, "dcpipe_relay_ends")).toBe(1);
    await relayPair(server);
  });

  test("of all", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { relays: 2 } });
    const { waiting, joining } = await relayPair(server);
    const third = relay(server, "waiting", { name: newKey(), from: "127.0.0.5" });
    expect(await third.closed).toBe(CLOSE.TRY_AGAIN);
    expect(third.reason).toBe("too many relays");
    await introduce(server);
    await through(waiting, joining);
  });

  storeTest(
    "thousands that wait for nobody: those too many are refused, and nobody else notices",
    async (open) => {
      const server = await serve({ store: open(), limits: { connectionsPerAddress: 1e6 } });
      const { waiting, joining } = await relayPair(server);
      const refused: (number | string)[] = [];
      let lonely = 0;
      for (let i = 0; i < 2000; i += 100) {
        const visitors = Array.from({ length: 100 }, () =>
          relay(server, "waiting", { name: newKey(), from: "127.0.0.7" }),
        );
        await Promise.all(visitors.map(({ opened }) => opened));
        lonely += visitors.length;
        for (const { closed } of visitors) void closed.then((code) => refused.push(code));
        await through(waiting, joining);
      }
      while (refused.length < lonely - LIMITS.relaysPerAddress) await introduce(server);
      expect(new Set(refused)).toEqual(new Set([CLOSE.LIMIT]));
      expect(await metric(server, "dcpipe_relay_ends")).toBe(LIMITS.relaysPerAddress + 2);
      await through(joining, waiting);
    },
  );
});
