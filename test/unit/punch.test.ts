/** Punching without NATs, on loopback: who is answered, who is believed, and what is left of it. */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { describe, expect, onTestFinished, test } from "vitest";
import { punch } from "../../src/node/punch.ts";
import { PUNCH_SOCKETS, type Hole, type PunchFromMany, type PunchFromOne } from "../../src/transport/nat.ts";

/** Addresses that nobody else uses: one side calls ports of the other at random. */
const ONE = "127.66.1.1";
const MANY = "127.66.1.2";
const STRANGER = "127.66.1.3";

const tags = (byte: number): { call: Buffer; answer: Buffer } => ({
  call: Buffer.alloc(16, byte),
  answer: Buffer.alloc(16, byte + 1),
});
const [ofOne, ofMany] = [tags(1), tags(3)];

/** A socket of the test's, and what has come there. */
class Peer {
  readonly heard: { readonly bytes: Buffer; readonly address: string; readonly port: number }[] = [];
  readonly #socket: Socket;
  #wake: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("message", (bytes, { address, port }) => {
      this.heard.push({ bytes, address, port });
      this.#wake?.();
    });
  }

  static async open(address: string): Promise<Peer> {
    const socket = createSocket("udp4");
    socket.bind(0, address);
    await once(socket, "listening");
    onTestFinished(() => {
      socket.close();
    });
    return new Peer(socket);
  }

  get port(): number {
    return this.#socket.address().port;
  }

  send(bytes: Uint8Array, address: string, port: number): Promise<void> {
    return new Promise((resolve) => {
      this.#socket.send(bytes, port, address, () => {
        resolve();
      });
    });
  }

  async until(done: () => boolean): Promise<void> {
    while (!done()) await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  count(bytes: Uint8Array): number {
    return this.heard.filter((each) => each.bytes.equals(bytes)).length;
  }
}

async function freePort(address: string): Promise<number> {
  const socket = createSocket("udp4").bind(0, address);
  await once(socket, "listening");
  const { port } = socket.address();
  socket.close();
  await once(socket, "close");
  return port;
}

/** Whether nobody has this port. */
async function isFree(address: string, port: number): Promise<boolean> {
  const socket = createSocket("udp4");
  try {
    await new Promise<void>((resolve, reject) => {
      socket.on("error", reject);
      socket.bind({ port, address, exclusive: true }, resolve);
    });
    return true;
  } catch {
    return false;
  } finally {
    socket.close();
  }
}

function fromOne(local: number, more: Partial<PunchFromOne> = {}): Promise<Hole | undefined> {
  const { signal } = new AbortController();
  const sides = { ours: ofOne, theirs: ofMany, bind: ONE, address: MANY };
  return punch({ from: "one", local, signal, ...sides, ...more });
}

function fromMany(port: number, more: Partial<PunchFromMany> = {}): Promise<Hole | undefined> {
  const { signal } = new AbortController();
  const sides = { ours: ofMany, theirs: ofOne, bind: MANY, address: ONE };
  return punch({ from: "many", port, ports: undefined, signal, ...sides, ...more });
}

test("both sides come to the same pair of ports, and leave them free", async () => {
  const local = await freePort(ONE);
  const [one, many] = await Promise.all([fromOne(local), fromMany(local)]);
  expect(one).toEqual({ local, address: MANY, port: many?.local });
  expect(many).toEqual({ local: one?.port, address: ONE, port: local });
  expect(await isFree(ONE, local)).toBe(true);
  expect(await isFree(MANY, one?.port ?? 0)).toBe(true);
});

test("sides with other keys come to nothing", async () => {
  const local = await freePort(ONE);
  expect(await Promise.all([fromOne(local, { theirs: tags(7) }), fromMany(local)])).toEqual([
    undefined,
    undefined,
  ]);
});

describe("the side with one socket", () => {
  test.each(["call", "answer"] as const)("takes the way that a %s shows", async (what) => {
    const [local, peer] = [await freePort(ONE), await Peer.open(MANY)];
    const done = fromOne(local);
    // It may not listen yet.
    const again = setInterval(() => void peer.send(ofMany[what], ONE, local), 20);
    onTestFinished(() => {
      clearInterval(again);
    });
    expect(await done).toEqual({ local, address: MANY, port: peer.port });
    await peer.until(() => peer.count(ofOne.answer) === 3);
  });

  test("waits for its port to be given back", async () => {
    const former = createSocket("udp4").bind(0, ONE);
    await once(former, "listening");
    const local = former.address().port;
    const peer = await Peer.open(MANY);
    const done = fromOne(local);
    expect(await isFree(ONE, local)).toBe(false);
    former.close();
    const again = setInterval(() => void peer.send(ofMany.call, ONE, local), 20);
    onTestFinished(() => {
      clearInterval(again);
    });
    expect(await done).toMatchObject({ local });
  });

  test("believes nobody else, and calls no port twice", async () => {
    const local = await freePort(ONE);
    const [peer, stranger] = [await Peer.open(MANY), await Peer.open(STRANGER)];
    const ears = await Promise.all(Array.from({ length: 200 }, () => Peer.open(MANY)));
    const again = setInterval(() => {
      void stranger.send(ofMany.call, ONE, local);
      for (const lie of [
        ofOne.call,
        ofOne.answer,
        ofMany.call.subarray(1),
        Buffer.alloc(17, 3),
        Buffer.alloc(0),
      ])
        void peer.send(lie, ONE, local);
    }, 20);
    onTestFinished(() => {
      clearInterval(again);
    });
    expect(await fromOne(local)).toBeUndefined();
    expect(stranger.heard).toEqual([]);
    for (const each of [peer, ...ears]) {
      expect(each.count(ofOne.answer)).toBe(0);
      expect(each.heard.length).toBeLessThanOrEqual(1);
    }
  });
});

describe("the side with many sockets", () => {
  test("calls from as many ports once each, answers calls, and takes the way that it is told", async () => {
    const peer = await Peer.open(ONE);
    const [other, stranger] = [await Peer.open(ONE), await Peer.open(STRANGER)];
    const done = fromMany(peer.port);
    await peer.until(() => peer.heard.length === PUNCH_SOCKETS);
    const ports = peer.heard.map(({ port }) => port);
    expect(new Set(ports).size).toBe(PUNCH_SOCKETS);
    expect(peer.count(ofMany.call)).toBe(PUNCH_SOCKETS);
    const [met = 0] = ports;
    // Not from there, and not that.
    for (const each of [other, stranger])
      for (const lie of [ofOne.call, ofOne.answer]) await each.send(lie, MANY, met);
    for (const lie of [ofMany.call, ofMany.answer, ofOne.call.subarray(1)]) await peer.send(lie, MANY, met);
    for (let i = 0; i < 10; i++) await peer.send(ofOne.call, MANY, met);
    await peer.until(() => peer.count(ofMany.answer) === 3);
    await peer.send(ofOne.answer, MANY, met);
    expect(await done).toEqual({ local: met, address: ONE, port: peer.port });
    expect(peer.heard).toHaveLength(PUNCH_SOCKETS + 3);
    expect([...other.heard, ...stranger.heard]).toEqual([]);
    expect(await Promise.all(ports.slice(0, 20).map((port) => isFree(MANY, port)))).not.toContain(false);
  });

  test("keeps to its ports", async () => {
    const peer = await Peer.open(ONE);
    const stop = new AbortController();
    const done = fromMany(peer.port, { ports: [42_000, 42_400], signal: stop.signal });
    await peer.until(() => peer.heard.length === PUNCH_SOCKETS);
    for (const { port } of peer.heard) {
      expect(port).toBeGreaterThanOrEqual(42_000);
      expect(port).toBeLessThanOrEqual(42_400);
    }
    stop.abort();
    expect(await done).toBeUndefined();
  });

  test("does not try with a few", async () => {
    const peer = await Peer.open(ONE);
    expect(await fromMany(peer.port, { ports: [42_500, 42_520] })).toBeUndefined();
  });
});

test("ends at once when it is told to", async () => {
  const [local, peer] = [await freePort(ONE), await Peer.open(ONE)];
  const stop = new AbortController();
  const both = Promise.all([
    fromOne(local, { signal: stop.signal }),
    fromMany(peer.port, { signal: stop.signal }),
  ]);
  await peer.until(() => peer.heard.length >= 5);
  stop.abort();
  expect(await both).toEqual([undefined, undefined]);
  expect(await fromOne(local, { signal: stop.signal })).toBeUndefined();
  expect(await isFree(ONE, local)).toBe(true);
});
