/** A forward whose other side says what it likes: limits hold, what it may not have it does not get, and the others go on. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { ForwardEvent } from "../../src/apps/forward/events.ts";
import { parseRule } from "../../src/apps/forward/access.ts";
import { parseForward, parseTarget } from "../../src/apps/forward/spec.ts";
import { ForwardReport } from "../../src/cli/forward-report.ts";
import { Ui } from "../../src/cli/ui.ts";
import { DcpipeError } from "../../src/errors.ts";
import { MAX_STREAMS, Session } from "../../src/session/session.ts";
import { channelPair, type MemoryChannel } from "../../src/transport/channel.ts";
import { encodeForwardRecord, MAX_OFFERS, type ForwardRecord, type Place } from "../../src/wire/forward.ts";
import { decodeFrames, encodeFrame, type Frame } from "../../src/wire/frame.ts";
import { encodeHeader, type StreamHeader, type Target } from "../../src/wire/header.ts";
import type { Role } from "../../src/wire/hello.ts";
import { half, World, type Half, type Options } from "./forwards.ts";
import { pass, run, settled, startTime, stopTime, within } from "./network.ts";
import { Program } from "./sockets.ts";

const CONNECTED = Uint8Array.of(1);

/** The raw end of a session that goes over a forward. */
class Peer {
  readonly session: Session;
  readonly raw: MemoryChannel;
  readonly half: Half;
  readonly done: Promise<string>;
  /** What the forward says: the last frames, and how many of each kind. */
  said: Frame[] = [];
  readonly counts = new Map<string, number>();
  readonly resets = new Map<string, number>();
  acknowledge = true;
  #heard = 0;
  #next: number;
  /** Bytes said on each stream. */
  readonly #offsets = new Map<number, number>();

  constructor(forward: Half, role: Role = "waiting") {
    this.half = forward;
    this.session = new Session(role);
    this.#next = role === "waiting" ? 1 : 0;
    const [near, far] = channelPair();
    this.raw = far;
    far.onmessage = (message) => {
      this.#hear(decodeFrames(message));
    };
    this.session.attach(near, 0, "control");
    const { ready, done } = forward.forwarding.add(this.session, role);
    ready.catch(() => undefined);
    this.done = done.then(
      () => "resolved",
      (error: unknown) => (error instanceof DcpipeError ? error.code : String(error)),
    );
  }

  say(...frames: readonly (Frame | Uint8Array)[]): void {
    const parts = frames.map((frame) => (frame instanceof Uint8Array ? frame : encodeFrame(frame)));
    this.raw.send(new Uint8Array(Buffer.concat(parts)));
  }

  /** Opens a stream; returns its number. */
  open(header: StreamHeader | Uint8Array): number {
    return this.openMany(header, 1);
  }

  /** Opens so many in one message; returns the first one's number. */
  openMany(given: StreamHeader | Uint8Array, count: number): number {
    const first = this.#next;
    this.#next += 2 * count;
    const header = given instanceof Uint8Array ? given : encodeHeader(given);
    this.say(
      ...Array.from({ length: count }, (_, i) => ({ type: "OPEN", stream: first + 2 * i, header }) as const),
    );
    return first;
  }

  connect(target: Target, kind: "connect" | "flow" = "connect"): number {
    return this.open({ kind, target });
  }

  write(stream: number, payload: Uint8Array): void {
    const offset = this.#offsets.get(stream) ?? 0;
    this.#offsets.set(stream, offset + payload.length);
    this.say({ type: "DATA", stream, offset, payload });
  }

  end(stream: number): void {
    this.say({ type: "FIN", stream, offset: this.#offsets.get(stream) ?? 0 });
  }

  record(stream: number, ...records: readonly ForwardRecord[]): void {
    for (const record of records) this.write(stream, encodeForwardRecord(record));
  }

  heard<T extends Frame["type"]>(type: T): Extract<Frame, { type: T }>[] {
    return this.said.filter((frame): frame is Extract<Frame, { type: T }> => frame.type === type);
  }

  /** Bytes that came on a stream. */
  received(stream: number): Buffer {
    return Buffer.concat(
      this.heard("DATA")
        .filter((frame) => frame.stream === stream)
        .map(({ payload }) => payload),
    );
  }

  #hear(frames: readonly Frame[]): void {
    this.#heard++;
    for (const frame of frames) {
      this.counts.set(frame.type, (this.counts.get(frame.type) ?? 0) + 1);
      if (frame.type === "RESET") this.resets.set(frame.reason, (this.resets.get(frame.reason) ?? 0) + 1);
    }
    for (const frame of frames) if (frame.type === "PING") this.say({ type: "PONG", id: frame.id });
    this.said.push(...frames);
    if (this.said.length > 20_000) this.said = this.said.slice(-10_000);
    if (this.acknowledge && frames.some(({ type }) => type !== "ACK" && type !== "PONG"))
      this.raw.send(encodeFrame({ type: "ACK", channel: 0, count: this.#heard }));
  }
}

function host(name: string, port: number): Target {
  return { type: "host", host: name, port };
}

let forward: Half;
const peers: Peer[] = [];
let world: World | undefined;

beforeEach(() => {
  stopTime();
});

afterEach(async () => {
  for (const { session } of peers.splice(0)) session.fail(new DcpipeError("ABORTED", "the test is over"));
  await world?.end();
  world = undefined;
  await settled();
  startTime();
});

function against(options: Options, role?: Role): Peer {
  forward = half(options);
  const peer = new Peer(forward, role);
  peers.push(peer);
  return peer;
}

function told<T extends ForwardEvent["event"]>(event: T): (ForwardEvent & { event: T })[] {
  return forward.events.filter((each): each is ForwardEvent & { event: T } => each.event === event);
}

/** The session goes on: what is asked for and may be had is had. */
async function expectAlive(peer: Peer): Promise<void> {
  const served = forward.machine.serve("127.0.0.1:5432");
  const before = served.length;
  const stream = peer.connect(host("localhost", 5432));
  await pass(200);
  expect(served.length).toBe(before + 1);
  served.at(-1)?.end.write(Uint8Array.of(7));
  peer.write(stream, Uint8Array.of(1, 2, 3));
  await pass(200);
  expect([...peer.received(stream)]).toEqual([1, 7]);
  expect([...(served.at(-1)?.bytes ?? [])]).toEqual([1, 2, 3]);
  expect(peer.session.state).toBe("running");
}

/** The session ends, and the other side is told that it broke the protocol. */
async function expectBroken(peer: Peer): Promise<void> {
  expect(await within(peer.done, 10_000)).toBe("PROTOCOL");
  expect(peer.heard("GOAWAY")).toMatchObject([{ reason: "PROTOCOL" }]);
  expect(peer.session.streams).toBe(0);
}

describe("a hundred thousand streams", () => {
  const COUNT = 100_000;
  const BATCH = 1000;

  /** An honest pair, and beside it a peer at the same forward. */
  async function beside(): Promise<{ peer: Peer; echo: () => Promise<number> }> {
    world = await new World({
      waiting: { offers: parseTarget("5432"), allow: [parseRule("localhost:9")] },
      joining: { locals: parseForward("-L", "1000:localhost:5432") },
    }).start();
    forward = world.waiting;
    forward.machine.services.set("127.0.0.1:5432", (end) => {
      const program = new Program(end);
      end.ondata = (chunk) => {
        program.received += chunk.length;
        end.write(chunk);
      };
    });
    forward.machine.services.set("127.0.0.1:9", "endless");
    const client = world.joining.machine.connect(1000);
    const echo = async (): Promise<number> => {
      const start = performance.now();
      const wanted = client.received + 1000;
      client.end.write(new Uint8Array(1000));
      await run(() => client.received >= wanted, 10_000, "the echo");
      return performance.now() - start;
    };
    const peer = new Peer(forward);
    peers.push(peer);
    await echo();
    return { peer, echo };
  }

  test("no more live than may, the others are told so, and the honest connection beside goes on", async () => {
    const { peer, echo } = await beside();
    const before = process.memoryUsage();
    let most = 0;
    for (let n = 0; n < COUNT; n += BATCH) {
      peer.openMany({ kind: "connect", target: host("localhost", 9) }, BATCH);
      expect(await echo()).toBeLessThan(200);
      most = Math.max(most, peer.session.streams, forward.machine.dialling);
    }
    await pass(1000);
    expect(most).toBe(MAX_STREAMS);
    expect(peer.resets.get("LIMIT")).toBe(COUNT - MAX_STREAMS);
    expect(peer.session.state).toBe("running");
    const after = process.memoryUsage();
    expect(after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers).toBeLessThan(
      256 * 1024 * 1024,
    );
    // When it lets go of them there is room again.
    for (let n = 0; n < MAX_STREAMS; n++)
      peer.say({ type: "RESET", stream: 1 + 2 * n, reason: "CLOSED", text: "" });
    await pass(1000);
    expect(peer.session.streams).toBe(0);
    expect(forward.machine.dialling).toBe(0);
    peer.connect(host("localhost", 5432));
    await pass(200);
    expect(forward.forwarding.open).toHaveLength(2);
  }, 120_000);

  test("who does not listen to the answers is cut off", async () => {
    const { peer, echo } = await beside();
    peer.acknowledge = false;
    for (let n = 0; n < COUNT && peer.session.state === "running"; n += BATCH) {
      peer.openMany({ kind: "connect", target: host("localhost", 22) }, BATCH);
      await echo();
    }
    expect(await within(peer.done, 60_000)).toBe("LIMIT");
    expect(peer.session.streams).toBe(0);
    expect(await echo()).toBeLessThan(200);
  }, 120_000);
});

describe("targets that it may not have", () => {
  test.each([
    ["another port", host("localhost", 22)],
    ["another host", host("10.0.0.1", 5432)],
    ["the same host by a name that is not its own", host("localhost.example.com", 5432)],
    ["an address that wraps another", host("::ffff:10.0.0.1", 5432)],
    ["a unix socket", { type: "unix", path: "/var/run/docker.sock" }],
    ["what is no name", host("a b\r\nc", 80)],
    ["a name with an escape sequence", host("\u001b]0;owned\u0007", 80)],
  ] as [string, Target][])("%s: refused, nothing is dialled, and both know", async (_, target) => {
    const peer = against({ offers: parseTarget("5432") });
    const stream = peer.connect(target);
    await pass(200);
    expect(peer.heard("RESET")).toMatchObject([{ stream, reason: "REFUSED" }]);
    expect(forward.machine.dialled).toEqual([]);
    expect(told("refused")).toHaveLength(1);
    expect(told("opened")).toEqual([]);
    await expectAlive(peer);
  });

  test("a thousand times: each is refused, at most ten a second are told", async () => {
    const peer = against({ offers: parseTarget("5432") });
    for (let second = 0; second < 3; second++) {
      for (let n = 0; n < 1000; n++) peer.connect(host("localhost", 1 + n));
      await pass(1000);
    }
    expect(peer.resets.get("REFUSED")).toBe(3000);
    expect(told("refused").length).toBeLessThanOrEqual(40);
    expect(told("refused").length).toBeGreaterThanOrEqual(10);
    await expectAlive(peer);
  });

  test("a listener that was never asked for", async () => {
    const peer = against({ offers: parseTarget("5432") });
    for (const kind of ["connect", "flow"] as const) peer.connect({ type: "listener", id: 0 }, kind);
    peer.connect({ type: "listener", id: Number.MAX_SAFE_INTEGER });
    await pass(200);
    expect(peer.resets.get("PROTOCOL")).toBe(3);
    expect(forward.machine.dialled).toEqual([]);
    await expectAlive(peer);
  });

  test("another listener than the one that was asked for, or the right one for another protocol", async () => {
    const peer = against({ offers: parseTarget("5432"), remotes: parseForward("-R", "8080:localhost:80") });
    peer.open({ kind: "forward" });
    await pass(200);
    const served = forward.machine.serve("127.0.0.1:80");
    peer.connect({ type: "listener", id: 1 });
    peer.connect({ type: "listener", id: 0 }, "flow");
    await pass(200);
    expect(peer.resets.get("PROTOCOL")).toBe(2);
    expect(served).toEqual([]);
    expect(forward.machine.datagramSockets).toBe(0);
    peer.connect({ type: "listener", id: 0 });
    await pass(200);
    expect(served).toHaveLength(1);
    await expectAlive(peer);
  });

  test("a person is not asked without end", async () => {
    let asked = 0;
    const peer = against({
      offers: parseTarget("5432"),
      ask: ({ allowed }) => {
        asked++;
        return Promise.resolve(allowed);
      },
    });
    await expectAlive(peer);
    for (let n = 0; n < 2000; n++) peer.connect(host(`h${n}.example.com`, 80));
    await pass(1000);
    expect(asked).toBeLessThanOrEqual(100);
    expect(forward.machine.dialled).toEqual(["127.0.0.1:5432"]);
    await expectAlive(peer);
  });
});

describe("listeners", () => {
  const listen = (id: number, place: Place): ForwardRecord => ({
    type: "LISTEN",
    id,
    protocol: "tcp",
    place,
    target: "there",
  });
  const at = (address: string, port = 0): Place => ({ type: "host", address, port });

  test("as many as may be asked for, and they go with the session", async () => {
    const peer = against({ offers: parseTarget("5432") });
    const control = peer.open({ kind: "forward" });
    for (let id = 0; id < MAX_OFFERS; id++) peer.record(control, listen(id, at("")));
    await pass(1000);
    expect(forward.machine.listeners.size).toBe(MAX_OFFERS);
    await expectAlive(peer);
    peer.record(control, listen(MAX_OFFERS, at("")));
    await expectBroken(peer);
    await pass(100);
    expect(forward.machine.listeners.size).toBe(0);
  });

  test.each([
    "0.0.0.0",
    "*",
    "::",
    "10.0.0.1",
    "::ffff:127.0.0.1",
    "127.0.0.1.example.com",
    "localhost.example.com",
    "127.1",
    "2130706433",
    "0x7f000001",
    "127.0.0.1\n",
    " localhost",
  ])("not at %j", async (address) => {
    const peer = against({ offers: parseTarget("5432") });
    const control = peer.open({ kind: "forward" });
    peer.record(control, listen(5, at(address, 8080)));
    await pass(200);
    expect(forward.machine.places).toEqual([]);
    // FAILED, id 5, REFUSED
    expect(
      peer
        .received(control)
        .subarray(0, -1)
        .includes(Buffer.of(5, 5, 1)),
    ).toBe(true);
    await expectAlive(peer);
  });

  test("not at a path", async () => {
    const peer = against({ offers: parseTarget("5432") });
    const control = peer.open({ kind: "forward" });
    peer.record(control, listen(0, { type: "unix", path: "/etc/cron.d/x" }));
    await pass(200);
    expect(forward.machine.places).toEqual([]);
    await expectAlive(peer);
  });

  test("not while the session ends: what was being bound is let go of", async () => {
    const peer = against({
      offers: parseTarget("5432"),
      ask: () => new Promise((resolve) => (answer = resolve)),
    });
    let answer!: (yes: boolean) => void;
    const control = peer.open({ kind: "forward" });
    peer.record(control, listen(0, at("")));
    await pass(200);
    peer.session.fail(new DcpipeError("PEER_GONE", "gone"));
    await pass(10);
    answer(true);
    await pass(100);
    expect(forward.machine.listeners.size).toBe(0);
  });
});

describe("offers", () => {
  const offer = (port: number, name = "localhost"): ForwardRecord => ({
    type: "OFFER",
    protocol: "tcp",
    target: host(name, port),
  });

  test("as many as there may be; one more breaks the protocol", async () => {
    const peer = against({ offers: parseTarget("5432"), takeOffers: true });
    const control = peer.open({ kind: "forward" });
    for (let n = 0; n < MAX_OFFERS; n++) peer.record(control, offer(10_000 + n));
    peer.record(control, { type: "OFFERED" });
    await pass(1000);
    expect(forward.machine.listeners.size).toBe(MAX_OFFERS);
    await expectAlive(peer);
    peer.record(control, offer(20_000));
    await expectBroken(peer);
  });

  test("the same one again and again is listened for once", async () => {
    const peer = against({ offers: parseTarget("5432"), takeOffers: true });
    const control = peer.open({ kind: "forward" });
    for (let n = 0; n < 100; n++) peer.record(control, offer(10_000), { type: "OFFERED" });
    await pass(1000);
    expect(forward.machine.places).toHaveLength(1);
    await expectAlive(peer);
  });
});

describe("what breaks the protocol ends the session", () => {
  const control = (peer: Peer): number => peer.open({ kind: "forward" });
  const block = (...bytes: number[]): Uint8Array => Uint8Array.of(bytes.length, ...bytes);
  const CASES: readonly [string, (peer: Peer) => void][] = [
    ["a stream of an unknown kind", (peer) => peer.open(Uint8Array.of(255))],
    ["a stream without a kind", (peer) => peer.open(new Uint8Array(0))],
    ["a target that is cut", (peer) => peer.open(Uint8Array.of(5, 0, 9, 65))],
    ["a target with something behind it", (peer) => peer.open(Uint8Array.of(5, 0, 1, 65, 0, 80, 0))],
    ["a target with port 0", (peer) => peer.open(Uint8Array.of(5, 0, 1, 65, 0, 0))],
    ["a target without a host", (peer) => peer.open(Uint8Array.of(5, 0, 0, 0, 80))],
    ["a path with a zero in it", (peer) => peer.open(Uint8Array.of(5, 1, 3, 47, 0, 65))],
    ["a host that is no UTF-8", (peer) => peer.open(Uint8Array.of(5, 0, 2, 0xc3, 0x28, 0, 80))],
    ["a second control stream", (peer) => (control(peer), control(peer))],
    [
      "an unknown record",
      (peer) => {
        peer.write(control(peer), block(9));
      },
    ],
    [
      "an empty record",
      (peer) => {
        peer.write(control(peer), block());
      },
    ],
    [
      "a record with something behind it",
      (peer) => {
        peer.write(control(peer), block(2, 0));
      },
    ],
    [
      "a record that is cut",
      (peer) => {
        peer.write(control(peer), block(3, 0, 0, 0));
      },
    ],
    [
      "a record that is too long",
      (peer) => {
        peer.write(control(peer), Uint8Array.of(0x43, 0xe9, 1));
      },
    ],
    [
      "an unknown protocol",
      (peer) => {
        peer.write(control(peer), block(1, 2, 0, 1, 65, 0, 80));
      },
    ],
    [
      "an offer of a listener",
      (peer) => {
        peer.write(control(peer), block(1, 0, 2, 0));
      },
    ],
    [
      "an answer to nothing that was asked",
      (peer) => {
        peer.write(control(peer), block(4, 0, 0, 0, 0, 80));
      },
    ],
    [
      "a failure of nothing that was asked",
      (peer) => {
        peer.write(control(peer), block(5, 0, 0, 0));
      },
    ],
    [
      "half of a record at the end",
      (peer) => {
        const stream = control(peer);
        peer.write(stream, Uint8Array.of(5, 1));
        peer.end(stream);
      },
    ],
  ];
  test.each(CASES)("%s", async (_, act) => {
    const peer = against({ offers: parseTarget("5432") });
    act(peer);
    await expectBroken(peer);
  });

  test("two answers to one question", async () => {
    const peer = against({ remotes: [...parseForward("-R", "81:a:1"), ...parseForward("-R", "82:a:2")] });
    const stream = control(peer);
    await pass(100);
    const place: Place = { type: "host", address: "127.0.0.1", port: 81 };
    peer.record(stream, { type: "LISTENING", id: 0, place }, { type: "LISTENING", id: 0, place });
    await expectBroken(peer);
  });

  test("a control stream from the side that must not open it", async () => {
    const peer = against({ offers: parseTarget("5432") }, "joining");
    control(peer);
    await expectBroken(peer);
  });

  test.each(["pipe", "send", "receive"] as const)(
    "a stream of dcpipe %s: no break, but the end, in words",
    async (kind) => {
      const peer = against({ offers: parseTarget("5432") });
      peer.open({ kind });
      expect(await within(peer.done, 10_000)).toBe("REFUSED");
      expect(peer.heard("GOAWAY")[0]?.text).toContain(`does not go with "dcpipe ${kind}"`);
    },
  );
});

describe("answers to our connections", () => {
  async function dialling(): Promise<{ peer: Peer; client: Program; stream: number }> {
    const peer = against({ locals: parseForward("-L", "1000:localhost:80"), offers: parseTarget("5432") });
    await forward.forwarding.start();
    const client = forward.machine.connect(1000);
    client.end.write(Uint8Array.of(1, 2, 3));
    await pass(200);
    const [open] = peer.heard("OPEN");
    return { peer, client, stream: Number(open?.stream) };
  }

  test.each([
    [
      "a wrong first byte",
      (peer: Peer, stream: number) => {
        peer.write(stream, Uint8Array.of(2));
      },
    ],
    [
      "no byte, but an end",
      (peer: Peer, stream: number) => {
        peer.end(stream);
      },
    ],
  ])("%s: the client is reset, and it is over", async (_, answer) => {
    const { peer, client, stream } = await dialling();
    answer(peer, stream);
    await run(() => client.closed !== undefined, 10_000);
    expect(client.closed).toBe("CONNECTION_RESET");
    expect(peer.heard("RESET")).toMatchObject([{ stream, reason: "PROTOCOL" }]);
    expect(told("closed")).toMatchObject([{ error: { code: "PROTOCOL" } }]);
    await expectAlive(peer);
  });

  test.each(["REFUSED", "CONNECTION_REFUSED", "UNREACHABLE", "NAME_UNKNOWN", "TIMEOUT", "LIMIT"] as const)(
    "the reason %s with a hostile text is passed on as it is meant",
    async (reason) => {
      const { peer, client, stream } = await dialling();
      peer.say({ type: "RESET", stream, reason, text: "\u001b[2J\u202e" });
      await run(() => client.closed !== undefined, 10_000);
      expect(told("closed")).toMatchObject([{ error: { code: reason } }]);
      await expectAlive(peer);
    },
  );

  test("no answer: the client waits as long as it likes; when it has left, nothing stays for ever", async () => {
    const { peer, client } = await dialling();
    await pass(600_000);
    expect(client.closed).toBeUndefined();
    client.end.reset();
    await pass(120_000);
    expect(forward.forwarding.open).toEqual([]);
    expect(forward.machine.ends.size).toBe(0);
    expect(peer.session.streams).toBe(0);
    await expectAlive(peer);
  });
});

describe("datagrams", () => {
  function attach(peer: Peer): MemoryChannel {
    const [near, far] = channelPair({
      schedule: (deliver) => {
        deliver();
      },
    });
    peer.session.attachDatagrams(near, 100);
    return far;
  }
  const datagram = (stream: number, length = 10): Uint8Array =>
    encodeFrame({ type: "DATAGRAM", stream, payload: new Uint8Array(length) });

  test("for a stream of ours that never was", async () => {
    const peer = against({ offers: parseTarget("5432") });
    attach(peer).send(datagram(0));
    await expectBroken(peer);
  });

  test("for streams that are none of flows, that are not opened, that are over: they go nowhere", async () => {
    const peer = against({ offers: [...parseTarget("5432"), ...parseTarget("53/udp")] });
    const channel = attach(peer);
    await expectAlive(peer);
    const refused = peer.connect(host("localhost", 22));
    await pass(100);
    const connection = peer.connect(host("localhost", 5432));
    await pass(100);
    for (let n = 0; n < 10_000; n++)
      for (const stream of [connection, refused, connection + 2 + 2 * (n % 100), connection + 100_000])
        channel.send(datagram(stream, 1000));
    await pass(10_000);
    expect(forward.machine.datagramSockets).toBe(0);
    await expectAlive(peer);
  });

  test("flows that are opened and never used are over some time", async () => {
    const peer = against({ offers: [...parseTarget("5432"), ...parseTarget("53/udp")] });
    peer.openMany({ kind: "flow", target: host("localhost", 53) }, 200);
    await pass(1000);
    expect(forward.machine.datagramSockets).toBe(200);
    await pass(600_000);
    expect(forward.machine.datagramSockets).toBe(0);
    expect(peer.resets.get("TIMEOUT")).toBe(200);
    await expectAlive(peer);
  });

  test("a block on a flow's stream that is longer than a datagram can be", async () => {
    const peer = against({ offers: [...parseTarget("5432"), ...parseTarget("53/udp")] });
    const flow = peer.connect(host("localhost", 53), "flow");
    peer.write(flow, Uint8Array.of(0x80, 0x01, 0x00, 0x00, 1));
    await pass(200);
    expect(peer.heard("RESET")).toMatchObject([{ stream: flow, reason: "PROTOCOL" }]);
    expect(forward.machine.datagramSockets).toBe(0);
    await expectAlive(peer);
  });
});

describe("what people see", () => {
  const EVIL = "\u001b]0;owned\u0007\u001b[2J\u009b31m\u202ehost\r\n\u2028";

  /** What moves a cursor, or cannot be seen; lines end. */
  const UNSEEN = /[^\P{Cc}\n]|[\p{Cf}\p{Zl}\p{Zp}]/u;

  /** All that a forward says in text, of every event that has something from the other side in it. */
  function shown(verbose: boolean, events: readonly ForwardEvent[], target = EVIL): string {
    let text = "";
    const write = vi.spyOn(process.stderr, "write").mockImplementation((chunk) => {
      text += String(chunk);
      return true;
    });
    try {
      const ui = new Ui({ json: false, quiet: false, verbose, color: false });
      const carried = { sent: 1, received: 2 };
      const open = [
        { id: 1, protocol: "tcp" as const, target, from: undefined, carried, since: performance.now() },
      ];
      const report = new ForwardReport(ui, { open } as unknown as ConstructorParameters<
        typeof ForwardReport
      >[1]);
      for (const event of events) report.take(event);
      report.status();
    } finally {
      write.mockRestore();
    }
    return text;
  }

  test.each([false, true])("texts of the other side are escaped (verbose: %s)", (verbose) => {
    const place: Place = { type: "host", address: "127.0.0.1", port: 80 };
    const carried = { sent: 0, received: 0 };
    const opened = { id: 1, protocol: "tcp", target: EVIL, from: undefined, carried } as const;
    const error = new DcpipeError("TIMEOUT", EVIL);
    const text = shown(verbose, [
      { event: "listening", of: "us", protocol: "tcp", place, target: EVIL, instead: EVIL },
      { event: "listening", of: "them", protocol: "tcp", place: { ...place, address: EVIL }, target: EVIL },
      { event: "listening", of: "them", protocol: "tcp", place: { type: "unix", path: EVIL }, target: EVIL },
      { event: "unheard", place: EVIL, error },
      { event: "opened", ...opened },
      { event: "closed", ...opened, seconds: 1, error },
      { event: "closed", ...opened, seconds: 1, error: new DcpipeError("CONNECTION_RESET", EVIL) },
      { event: "refused", by: "us", target: EVIL, text: EVIL },
      { event: "refused", by: "them", target: EVIL, text: EVIL },
    ]);
    expect(text).toContain("owned");
    expect(text).not.toMatch(UNSEEN);
    // One line for each thing, whatever the other side says.
    for (const line of text.split("\n")) expect(line.startsWith("host")).toBe(false);
  });

  test("an offer with such a name gets a port, and its name is shown escaped", async () => {
    const peer = against({ offers: parseTarget("5432"), takeOffers: true });
    const control = peer.open({ kind: "forward" });
    peer.record(
      control,
      { type: "OFFER", protocol: "tcp", target: host(EVIL, 8080) },
      { type: "OFFER", protocol: "tcp", target: { type: "unix", path: `/${EVIL}` } },
      { type: "OFFERED" },
    );
    await pass(200);
    expect(told("listening")).toHaveLength(2);
    expect(shown(true, forward.events)).not.toMatch(UNSEEN);
    await expectAlive(peer);
  });
});

test("an honest answer stands", async () => {
  // The control: what the tests above send by hand is what an honest side sends.
  const peer = against({ locals: parseForward("-L", "1000:localhost:80") });
  await forward.forwarding.start();
  const client = forward.machine.connect(1000);
  client.end.write(Uint8Array.of(9));
  await pass(200);
  const stream = Number(peer.heard("OPEN")[0]?.stream);
  peer.write(stream, CONNECTED);
  peer.write(stream, Uint8Array.of(4, 5));
  await run(() => client.received === 2, 10_000);
  expect([...peer.received(stream)]).toEqual([9]);
});
