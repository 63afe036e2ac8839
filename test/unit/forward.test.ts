/** Forwards in memory and on virtual time: what comes at one end of a connection is what happened at the other. */
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { ForwardEvent } from "../../src/apps/forward/events.ts";
import type { Question } from "../../src/apps/forward/forwarding.ts";
import { parseForward, parseTarget } from "../../src/apps/forward/spec.ts";
import { DcpipeError, type ErrorCode } from "../../src/errors.ts";
import { INITIAL_WINDOW } from "../../src/session/inbound.ts";
import { WRITE_BUFFER } from "../../src/session/outbound.ts";
import type { Stream } from "../../src/session/stream.ts";
import { World, type Options } from "./forwards.ts";
import { otherSide, pass, random, run, SIDES, startTime, stopTime, within, type Side } from "./network.ts";
import { Program, RECEIVE_BUFFER, SEND_BUFFER, type End, type Service } from "./sockets.ts";

const DB = "localhost:5432";
const DIALLED = "127.0.0.1:5432";

function bytes(length: number, seed = 1): Uint8Array {
  const chance = random(seed);
  return Uint8Array.from({ length }, () => chance() * 256);
}

function text(words: string): Uint8Array {
  return new TextEncoder().encode(words);
}

let world: World;

beforeEach(() => {
  stopTime();
});

afterEach(async () => {
  await world.end();
  startTime();
});

/** The waiting side offers a database, the joining side's port leads there; `side` "waiting": the other way round. */
async function database(side: Side = "joining", options: Partial<Record<Side, Options>> = {}): Promise<void> {
  const offering = otherSide(side);
  world = new World({
    [offering]: { offers: parseTarget("5432"), ...options[offering] },
    [side]: { locals: parseForward("-L", "1000:localhost:5432"), ...options[side] },
  });
  await world.start();
}

/** A client here and the server's end there. */
async function connected(
  options: { readonly client?: boolean; readonly server?: boolean; readonly side?: Side } = {},
): Promise<{ client: Program; server: Program }> {
  const { side = "joining" } = options;
  const served = world.halves[otherSide(side)].machine.serve(DIALLED, { reading: options.server ?? true });
  const client = world.halves[side].machine.connect(1000, { reading: options.client ?? true });
  await run(() => served.length > 0, 10_000, "a connection at the server");
  const [server] = served;
  if (!server) throw new Error("nobody came");
  return { client, server };
}

/** The streams of connections that a side of the session has, in the order of their opening. */
function watchStreams(side: Side): Stream[] {
  const streams: Stream[] = [];
  const session = world.pair[side];
  const open = session.open.bind(session);
  session.open = (header) => {
    const stream = open(header);
    streams.push(stream);
    return stream;
  };
  return streams;
}

function told<T extends ForwardEvent["event"]>(side: Side, event: T): (ForwardEvent & { event: T })[] {
  return world.halves[side].events.filter(
    (each): each is ForwardEvent & { event: T } => each.event === event,
  );
}

const over =
  (...programs: readonly Program[]): (() => boolean) =>
  () =>
    programs.every(({ closed }) => closed !== undefined);

describe.each(SIDES)("the %s side's port leads to the other side", (side) => {
  beforeEach(async () => {
    await database(side);
  });

  test("bytes go both ways, each end of a direction arrives as such, the other direction goes on", async () => {
    const { client, server } = await connected({ side });
    client.end.write(text("question"));
    client.end.end();
    await run(() => server.ended, 10_000);
    expect(server.text).toBe("question");
    expect(client.ended).toBe(false);
    server.end.write(bytes(300_000));
    await run(() => client.received === 300_000, 60_000);
    server.end.write(text("answer"));
    server.end.end();
    await run(over(client, server), 10_000);
    expect(client.bytes.subarray(0, 300_000)).toEqual(bytes(300_000));
    expect([client.closed, server.closed]).toEqual(["well", "well"]);
    await world.empty();
    const [opened] = told(side, "opened");
    expect(opened).toMatchObject({ protocol: "tcp", target: DB });
    expect(opened?.from).toMatch(/^127\.0\.0\.1:/);
    expect(told(side, "closed")).toMatchObject([
      { id: opened?.id, carried: { sent: 8, received: 300_006 }, error: undefined },
    ]);
    expect(told(otherSide(side), "closed")).toMatchObject([
      { target: DB, from: undefined, carried: { sent: 300_006, received: 8 }, error: undefined },
    ]);
  });

  test("the server ends first, and takes what the client still says", async () => {
    const { client, server } = await connected({ side });
    server.end.write(text("banner"));
    server.end.end();
    await run(() => client.ended, 10_000);
    expect(client.text).toBe("banner");
    client.end.write(text("bye"));
    client.end.end();
    await run(over(client, server), 10_000);
    expect(server.text).toBe("bye");
    expect([client.closed, server.closed]).toEqual(["well", "well"]);
    await world.empty();
  });

  test("both end at once, with data before it", async () => {
    const { client, server } = await connected({ side });
    for (const { end } of [client, server]) {
      end.write(bytes(200_000));
      end.end();
    }
    await run(over(client, server), 60_000);
    expect([client.received, server.received]).toEqual([200_000, 200_000]);
    expect([client.closed, server.closed]).toEqual(["well", "well"]);
    await world.empty();
  });

  test("nothing is said, and both leave", async () => {
    const { client, server } = await connected({ side });
    client.end.end();
    server.end.end();
    await run(over(client, server), 10_000);
    expect([client.closed, server.closed]).toEqual(["well", "well"]);
    await world.empty();
  });

  test.each(["client", "server"] as const)(
    "a reset by the %s: what came before it, then a reset",
    async (who) => {
      const { client, server } = await connected({ side });
      const [one, other] = who === "client" ? [client, server] : [server, client];
      one.end.write(bytes(50_000));
      // It has left the machine: a reset drops what has not.
      await pass(10);
      one.end.reset();
      await run(over(client, server), 10_000);
      expect(other.bytes).toEqual(bytes(50_000));
      expect(other.ended).toBe(false);
      expect(other.closed).toBe("CONNECTION_RESET");
      await world.empty();
      expect(told(side, "closed")).toMatchObject([{ error: { code: "CONNECTION_RESET" } }]);
    },
  );

  test.each(["client", "server"] as const)(
    "the %s has ended its direction and then resets: the end, then the reset",
    async (who) => {
      const { client, server } = await connected({ side });
      const [one, other] = who === "client" ? [client, server] : [server, client];
      one.end.write(text("last words"));
      one.end.end();
      await run(() => other.ended, 10_000);
      one.end.reset();
      await run(over(client, server), 10_000);
      expect(other.text).toBe("last words");
      expect(other.closed).toBe("CONNECTION_RESET");
      await world.empty();
    },
  );

  test.each(["client", "server"] as const)("the other side of what the %s has ended resets", async (who) => {
    const { client, server } = await connected({ side });
    const [one, other] = who === "client" ? [client, server] : [server, client];
    one.end.end();
    await run(() => other.ended, 10_000);
    other.end.write(text("half of an ans"));
    await pass(10);
    other.end.reset();
    await run(over(client, server), 10_000);
    expect(one.text).toBe("half of an ans");
    expect(one.closed).toBe("CONNECTION_RESET");
    await world.empty();
  });

  test("both reset at once", async () => {
    const { client, server } = await connected({ side });
    client.end.reset();
    server.end.reset();
    await run(over(client, server), 10_000);
    await world.empty();
  });

  test("one ends, the other resets, at once", async () => {
    const { client, server } = await connected({ side });
    client.end.write(text("x"));
    client.end.end();
    server.end.reset();
    await run(over(client, server), 10_000);
    expect(client.closed).toBe("CONNECTION_RESET");
    await world.empty();
  });

  test("the server closes while the client goes on: the client is reset", async () => {
    const { client, server } = await connected({ side });
    server.end.write(text("enough"));
    server.end.hangUp();
    await run(() => client.ended, 10_000);
    client.end.write(text("more"));
    await run(over(client, server), 10_000);
    expect(client.text).toBe("enough");
    expect(client.closed).toBe("CONNECTION_RESET");
    await world.empty();
  });

  const FAILURES: readonly [Service, ErrorCode][] = [
    ["CONNECTION_REFUSED", "CONNECTION_REFUSED"],
    ["UNREACHABLE", "UNREACHABLE"],
    ["TIMEOUT", "TIMEOUT"],
    ["CONNECTION_RESET", "CONNECTION_RESET"],
    ["LIMIT", "LIMIT"],
  ];
  test.each(FAILURES)(
    "a dial that ends with %s: the client is reset, the event says %s",
    async (service, code) => {
      const { machine } = world.halves[otherSide(side)];
      machine.services.set(DIALLED, service);
      const client = world.halves[side].machine.connect(1000);
      client.end.write(text("early"));
      await run(over(client), 10_000);
      expect(client.closed).toBe("CONNECTION_RESET");
      expect(client.received).toBe(0);
      await world.empty();
      expect(told(side, "closed")).toMatchObject([{ target: DB, error: { code } }]);
      // Nothing was opened there.
      expect(told(otherSide(side), "opened")).toEqual([]);
    },
  );

  test("a name that has gone", async () => {
    world.halves[otherSide(side)].machine.names.set("localhost", "NAME_UNKNOWN");
    const client = world.halves[side].machine.connect(1000);
    await run(over(client), 10_000);
    await world.empty();
    expect(told(side, "closed")).toMatchObject([{ error: { code: "NAME_UNKNOWN" } }]);
  });

  test("the addresses of a name are tried in turn", async () => {
    const { machine } = world.halves[otherSide(side)];
    machine.names.set("localhost", ["127.0.0.7", "127.0.0.8", "127.0.0.1"]);
    machine.services.set("127.0.0.8:5432", "UNREACHABLE");
    await connected({ side });
    expect(machine.dialled).toEqual(["127.0.0.7:5432", "127.0.0.8:5432", DIALLED]);
  });

  test("what the client says before the answer waits; what the server says comes first", async () => {
    const { machine } = world.halves[otherSide(side)];
    const ends: End[] = [];
    machine.services.set(DIALLED, (end) => {
      end.write(text("220 ready"));
      ends.push(end);
    });
    const client = world.halves[side].machine.connect(1000);
    client.end.write(text("HELO"));
    client.end.end();
    await run(() => ends.length > 0, 10_000);
    const server = new Program(ends[0] as End);
    await run(() => server.ended && client.received > 0, 10_000);
    expect(server.text).toBe("HELO");
    expect(client.text).toBe("220 ready");
    server.end.end();
    await world.empty();
  });

  test("the client resets while it is dialled: nothing stays behind when the dial has failed", async () => {
    world.halves[otherSide(side)].machine.services.set(DIALLED, "silent");
    const client = world.halves[side].machine.connect(1000);
    await run(() => world.halves[otherSide(side)].machine.dialling === 1, 10_000);
    client.end.reset();
    await pass(100);
    expect(world.halves[side].forwarding.open).toEqual([]);
    await world.empty();
  });

  test("the session ends while it is dialled: the dial is given up at once", async () => {
    const { machine } = world.halves[otherSide(side)];
    machine.services.set(DIALLED, "silent");
    const client = world.halves[side].machine.connect(1000);
    await run(() => machine.dialling === 1, 10_000);
    await world.lose(0);
    expect(machine.dialling).toBe(0);
    expect(client.closed).toBe("CONNECTION_RESET");
    await world.empty();
  });

  test("the session ends while neither end reads: both are reset", async () => {
    const { client, server } = await connected({ side, client: false, server: false });
    for (const each of [client, server]) each.flood();
    await pass(2000);
    await world.lose(0);
    for (const { end } of [client, server]) end.resume();
    await run(over(client, server), 10_000);
    expect([client.closed, server.closed]).toEqual(["CONNECTION_RESET", "CONNECTION_RESET"]);
    await world.empty();
  });

  test("a keystroke travels at once", async () => {
    const { client, server } = await connected({ side });
    await pass(1000);
    const start = performance.now();
    client.end.write(text("k"));
    await run(() => server.received === 1, 10_000);
    // One way through the session, and a few hops inside of the machines.
    expect(performance.now() - start).toBeLessThan(5 + 10);
  });
});

describe("a reader that stalls", () => {
  beforeEach(async () => {
    await database();
  });

  /** Bytes between two programs that nobody has read: both kernels' and both ends' buffers, what the session holds, and a window. */
  function most(window: number): number {
    return 2 * (RECEIVE_BUFFER + SEND_BUFFER) + 2 * WRITE_BUFFER + window;
  }

  test.each(["client", "server"] as const)(
    "the %s: its sender stalls too, and memory has its bounds",
    async (who) => {
      const streams = watchStreams("joining");
      const accepted: Stream[] = [];
      const accept = world.pair.waiting.accept.bind(world.pair.waiting);
      world.pair.waiting.accept = async () => {
        const stream = await accept();
        accepted.push(stream);
        return stream;
      };
      const { client, server } = await connected({ client: who !== "client", server: who !== "server" });
      // The acceptor was waiting before it could be watched; the second connection is seen by both.
      const [stalled, sender] = who === "client" ? [client, server] : [server, client];
      const flood = sender.flood();
      await pass(10_000);
      const { written } = flood;
      const [mine] = streams;
      const theirs = [...accepted];
      const window = Math.max(
        INITIAL_WINDOW,
        ...[mine, ...theirs].map((stream) => stream?.memory.window ?? 0),
      );
      expect(written).toBeLessThan(most(window));
      expect(written).toBeGreaterThan(INITIAL_WINDOW);
      await pass(60_000);
      expect(flood.written).toBe(written);
      for (const stream of [mine, ...theirs]) {
        expect(stream?.memory.pending ?? 0).toBeLessThanOrEqual(WRITE_BUFFER + RECEIVE_BUFFER);
        expect(stream?.memory.held ?? 0).toBeLessThanOrEqual(window);
      }
      expect(stalled.end.other.mostQueued).toBeLessThan(SEND_BUFFER + window);
      // It goes on where it was.
      stalled.end.resume();
      await run(() => stalled.received > 2 * written, 60_000);
      sender.end.ondrain = undefined;
      sender.end.end();
      stalled.end.end();
      await world.empty();
      expect(stalled.received).toBe(flood.written);
    },
  );

  test("its neighbours go on, in both directions", async () => {
    const { client: slow, server: sender } = await connected({ client: false });
    const { client: other, server: sink } = await connected({ server: false });
    sender.flood();
    other.flood();
    await pass(5000);
    const served = world.waiting.machine.serve(DIALLED);
    const echo = world.joining.machine.connect(1000);
    await run(() => served.length > 0, 1000);
    const [server] = served;
    if (!server) throw new Error("nobody came");
    server.end.ondata = (chunk) => {
      server.end.write(chunk);
    };
    for (let n = 1; n <= 20; n++) {
      const start = performance.now();
      echo.end.write(bytes(1000, n));
      await run(() => echo.received === n * 1000, 10_000);
      expect(performance.now() - start).toBeLessThan(100);
    }
    for (const each of [echo, server, slow, sender, other, sink]) each.end.reset();
    for (const { end } of [slow, sink]) end.resume();
    await world.empty();
  });

  test.each(["joining", "waiting"] as const)(
    "that never reads again is cut off when the other side resets (%s side)",
    async (side) => {
      const { client, server } = await connected({ client: side !== "joining", server: side !== "waiting" });
      const [stalled, sender] = side === "joining" ? [client, server] : [server, client];
      sender.flood();
      await pass(5000);
      // As the session's end does it, or a peer: not what was written before counts, but that it is over.
      world.pair[otherSide(side)].fail(new DcpipeError("PEER_GONE", "gone"));
      world.pair[side].fail(new DcpipeError("PEER_GONE", "gone"));
      await pass(100);
      expect(stalled.end.other.over).toBe(true);
      expect(world.halves[side].forwarding.open).toEqual([]);
    },
  );

  test.each(SIDES)(
    "that never reads again is reset some time after the other side was (%s side)",
    async (side) => {
      const { client, server } = await connected({ client: side !== "joining", server: side !== "waiting" });
      const [stalled, sender] = side === "joining" ? [client, server] : [server, client];
      // More than the machine of the reader takes, less than stops the sender: that one would not notice its reset.
      sender.end.write(bytes(500_000));
      await pass(5000);
      sender.end.reset();
      await pass(10_000);
      // What came before may be read for a while.
      expect(stalled.end.other.over).toBe(false);
      await pass(60_000);
      expect(stalled.end.other.over).toBe(true);
      stalled.end.resume();
      await world.empty();
    },
  );

  test("many of them: what they hold together is bounded by small windows", async () => {
    const COUNT = 50;
    const streams = watchStreams("joining");
    const served = world.waiting.machine.serve(DIALLED, { reading: false });
    const clients = Array.from({ length: COUNT }, () => world.joining.machine.connect(1000));
    const floods = clients.map((client) => client.flood());
    await pass(5000);
    expect(served.length).toBe(COUNT);
    const written = floods.reduce((sum, flood) => sum + flood.written, 0);
    const each = 2 * (RECEIVE_BUFFER + SEND_BUFFER) + 2 * WRITE_BUFFER + INITIAL_WINDOW;
    expect(written).toBeLessThan(COUNT * each + 48 * 1024 * 1024);
    expect(streams.length).toBe(COUNT);
    for (const client of clients) client.end.reset();
    for (const server of served) server.end.resume();
    await world.empty();
  });
});

describe("offers and listeners", () => {
  test("what is offered is listened for at the same port, by the side that asks for nothing else", async () => {
    world = await new World({
      waiting: { offers: [...parseTarget("5432"), ...parseTarget("db.lan:6379")] },
      joining: { takeOffers: true },
    }).start();
    expect(told("joining", "listening")).toMatchObject([
      { of: "us", protocol: "tcp", place: { address: "127.0.0.1", port: 5432 }, target: DB },
      { of: "us", place: { port: 6379 }, target: "db.lan:6379" },
    ]);
    world.waiting.machine.names.set("db.lan", ["10.0.0.9"]);
    const served = world.waiting.machine.serve("10.0.0.9:6379");
    world.joining.machine.connect(6379).end.end();
    await run(() => served[0]?.ended === true, 10_000);
    served[0]?.end.end();
    await world.empty();
  });

  test("a port that is taken: another one, and it is said why", async () => {
    world = new World({ waiting: { offers: parseTarget("5432") }, joining: { takeOffers: true } });
    world.joining.machine.busy.add(5432);
    await world.start();
    const [event] = told("joining", "listening");
    expect(event?.instead).toMatch(/5432 is taken/);
    const served = world.waiting.machine.serve(DIALLED);
    world.joining.machine.connect(world.port("joining", DB)).end.end();
    await run(() => served.length > 0, 10_000);
  });

  test("a unix socket that is offered gets a port; so does each of a range", async () => {
    world = await new World({
      joining: { offers: [...parseTarget("unix:/run/app.sock"), ...parseTarget("8000-8009")] },
      waiting: { takeOffers: true },
    }).start();
    expect(told("waiting", "listening")).toHaveLength(11);
    const served = world.joining.machine.serve("/run/app.sock");
    world.waiting.machine.connect(world.port("waiting", "unix:/run/app.sock"));
    await run(() => served.length > 0, 10_000);
  });

  test("more than the other side takes are not offered", async () => {
    world = new World({ waiting: { offers: [...parseTarget("1-1024"), ...parseTarget("2000")] } });
    await expect(world.waiting.forwarding.start()).rejects.toMatchObject({ code: "USAGE" });
  });

  test("who does not take offers listens for none", async () => {
    world = await new World({ waiting: { offers: parseTarget("5432") } }).start();
    expect(world.joining.machine.places).toEqual([]);
  });

  test.each(SIDES)("the other side listens for the %s side (-R), and leads here", async (side) => {
    world = await new World({ [side]: { remotes: parseForward("-R", "0:localhost:22") } }).start();
    await within(world.halves[side].ready);
    const [listening] = told(side, "listening");
    expect(listening).toMatchObject({ of: "them", protocol: "tcp", target: "localhost:22" });
    expect(told(otherSide(side), "listening")).toMatchObject([{ of: "us", target: "localhost:22" }]);
    const served = world.halves[side].machine.serve("127.0.0.1:22");
    const client = world.halves[otherSide(side)].machine.connect(world.port(otherSide(side), "localhost:22"));
    client.end.write(text("SSH-2.0"));
    await run(() => served[0]?.text === "SSH-2.0", 10_000);
    client.end.reset();
    await world.empty();
    // They go with the session.
    await world.end();
    expect(world.halves[otherSide(side)].machine.listeners.size).toBe(0);
  });

  test.each(["*:0", "0.0.0.0:0", "192.168.1.1:0", "[::]:0", "[::ffff:127.0.0.1]:0", "example.com:0"])(
    "it listens on loopback only, not at %s",
    async (place) => {
      world = await new World({ joining: { remotes: parseForward("-R", `${place}:localhost:22`) } }).start();
      await expect(within(world.joining.ready)).rejects.toMatchObject({ code: "REFUSED" });
      expect(told("joining", "unheard")).toMatchObject([{ error: { code: "REFUSED" } }]);
      expect(world.waiting.machine.places).toEqual([]);
    },
  );

  test("unless it was told to let others in", async () => {
    world = await new World({
      joining: { remotes: parseForward("-R", "*:0:localhost:22") },
      waiting: { gateway: true },
    }).start();
    await within(world.joining.ready);
    expect(world.waiting.machine.places).toMatchObject([{ address: "*" }]);
  });

  test("nor at the path of a unix socket", async () => {
    world = await new World({
      joining: { remotes: parseForward("-R", "/tmp/x.sock:localhost:22") },
    }).start();
    await expect(within(world.joining.ready)).rejects.toMatchObject({ code: "REFUSED" });
    expect(world.waiting.machine.places).toEqual([]);
  });

  test("a port there that is taken", async () => {
    world = new World({ joining: { remotes: parseForward("-R", "80:localhost:22") } });
    world.waiting.machine.busy.add(80);
    await world.start();
    await expect(within(world.joining.ready)).rejects.toThrow(/does not listen at localhost:80: 80 is taken/);
    expect(told("joining", "unheard")).toMatchObject([{ place: "localhost:80" }]);
  });

  test("a port here that is taken", async () => {
    world = new World({ joining: { locals: parseForward("-L", "80:localhost:22") } });
    world.joining.machine.busy.add(80);
    await expect(world.joining.forwarding.start()).rejects.toMatchObject({ code: "USAGE" });
  });
});

describe("what may be reached", () => {
  test("what is not offered is refused, and both sides say so", async () => {
    world = await new World({
      joining: { locals: parseForward("-L", "1000:localhost:22") },
      waiting: { offers: parseTarget("5432") },
    }).start();
    const client = world.joining.machine.connect(1000);
    await run(over(client), 10_000);
    expect(client.closed).toBe("CONNECTION_RESET");
    expect(world.waiting.machine.dialled).toEqual([]);
    expect(told("waiting", "refused")).toMatchObject([{ by: "us", target: "localhost:22" }]);
    expect(told("joining", "refused")).toMatchObject([{ by: "them", target: "localhost:22" }]);
    expect(told("joining", "closed")).toMatchObject([{ error: { code: "REFUSED" } }]);
    await world.empty();
  });

  /** One side answers questions, the other one tries twice at each of its two ports. */
  async function asking(answer: (question: Question) => Promise<boolean>): Promise<Question[]> {
    const asked: Question[] = [];
    world = await new World({
      joining: {
        locals: [...parseForward("-L", "1000:localhost:5432"), ...parseForward("-L", "1001:localhost:22")],
      },
      waiting: {
        offers: parseTarget("5432"),
        ask: (question) => {
          asked.push(question);
          return answer(question);
        },
      },
    }).start();
    return asked;
  }

  test("asked and allowed: once for each kind, whether a rule would allow it or not", async () => {
    const asked = await asking(() => Promise.resolve(true));
    const [db, ssh] = [world.waiting.machine.serve(DIALLED), world.waiting.machine.serve("127.0.0.1:22")];
    for (const port of [1000, 1000, 1001, 1001]) world.joining.machine.connect(port);
    await run(() => db.length === 2 && ssh.length === 2, 10_000);
    expect(asked).toEqual([
      { kind: "reach", protocol: "tcp", what: DB, allowed: true },
      { kind: "reach", protocol: "tcp", what: "localhost:22", allowed: false },
    ]);
  });

  test("asked and refused: once, and it stays so", async () => {
    const asked = await asking(() => Promise.resolve(false));
    for (let i = 0; i < 3; i++) {
      const client = world.joining.machine.connect(1000);
      await run(over(client), 10_000);
    }
    expect(asked).toHaveLength(1);
    expect(world.waiting.machine.dialled).toEqual([]);
    expect(told("joining", "closed").map(({ error }) => error?.code)).toEqual([
      "REFUSED",
      "REFUSED",
      "REFUSED",
    ]);
    await world.empty();
  });

  test("a question that nobody answers holds up nothing else", async () => {
    let answer!: (yes: boolean) => void;
    await asking(({ what }) =>
      what === DB ? Promise.resolve(true) : new Promise((resolve) => (answer = resolve)),
    );
    const [db, ssh] = [world.waiting.machine.serve(DIALLED), world.waiting.machine.serve("127.0.0.1:22")];
    const waits = world.joining.machine.connect(1001);
    waits.end.write(text("early"));
    await pass(5000);
    world.joining.machine.connect(1000);
    await run(() => db.length === 1, 10_000);
    expect(ssh).toEqual([]);
    answer(true);
    await run(() => ssh[0]?.text === "early", 10_000);
  });

  test("a new session asks anew", async () => {
    const asked = await asking(() => Promise.resolve(true));
    world.waiting.machine.serve(DIALLED);
    for (let i = 0; i < 2; i++) {
      world.joining.machine.connect(1000);
      await pass(100);
      if (i === 0) await world.lose(0);
    }
    expect(asked).toHaveLength(2);
  });

  test("listening is asked for as well", async () => {
    const asked: Question[] = [];
    world = await new World({
      joining: { remotes: parseForward("-R", "8080:localhost:80") },
      waiting: {
        ask: (question) => {
          asked.push(question);
          return Promise.resolve(false);
        },
      },
    }).start();
    await expect(within(world.joining.ready)).rejects.toMatchObject({ code: "REFUSED" });
    expect(asked).toEqual([{ kind: "listen", protocol: "tcp", what: "localhost:8080", allowed: true }]);
  });
});

describe("sessions come and go", () => {
  test("ports stay; a client that comes meanwhile waits for the next session", async () => {
    await database();
    const { client } = await connected();
    client.end.write(text("x"));
    const places = [...world.joining.machine.places];
    const served = world.waiting.machine.serve(DIALLED);
    let next!: Program;
    await world.lose(5000, () => {
      expect(client.closed).toBe("CONNECTION_RESET");
      next = world.joining.machine.connect(1000);
      next.end.write(text("patient"));
    });
    await run(() => served[0]?.text === "patient", 10_000);
    expect(world.joining.machine.places).toEqual(places);
    served[0]?.end.end();
    next.end.end();
    await world.empty();
  });

  test("a client for whom no session comes in time is reset", async () => {
    world = new World({ joining: { locals: parseForward("-L", "1000:localhost:5432") } });
    await world.joining.forwarding.start();
    const client = world.joining.machine.connect(1000);
    const start = performance.now();
    await run(over(client), 120_000);
    expect(performance.now() - start).toBeGreaterThan(25_000);
    expect(client.closed).toBe("CONNECTION_RESET");
    expect(world.joining.machine.ends.size).toBe(0);
  });

  test("a proxy's client that comes when the other side takes no more streams is told, and then cut off", async () => {
    world = new World({ joining: { dynamics: [{ type: "host", address: "", port: 1080 }] } });
    await world.start();
    world.pair.joining.open = () => {
      throw new DcpipeError("CLOSED", "the other side takes no more streams");
    };
    const [left, stays] = [1, 2].map(() => world.joining.machine.connect(1080));
    for (const client of [left, stays]) client?.end.write(text("CONNECT x:80 HTTP/1.1\r\n\r\n"));
    await pass(1000);
    left?.end.end();
    await pass(1000);
    expect(left?.text).toContain("502 Bad Gateway");
    expect(left?.closed).toBe("well");
    await pass(10_000);
    expect(stays?.closed).toBe("CONNECTION_RESET");
    expect(world.joining.machine.ends.size).toBe(0);
  });

  test("a port for an offer that was on its way when all was closed is given back", async () => {
    world = new World({ joining: { takeOffers: true }, waiting: { offers: parseTarget("5432") } });
    const { machine, forwarding } = world.joining;
    const listen = machine.listen.bind(machine);
    const bound: (() => void)[] = [];
    machine.listen = async (...given) => {
      await new Promise<void>((resolve) => bound.push(resolve));
      return listen(...given);
    };
    await world.start();
    await run(() => bound.length > 0, 1000, "the binding of a port");
    await forwarding.close();
    for (const go of bound) go();
    await pass(100);
    expect(machine.listeners.size).toBe(0);
    expect(told("joining", "listening")).toEqual([]);
  });

  test("a remembered peer takes its ports from its earlier sessions, and not from itself", async () => {
    world = new World({
      joining: {
        remotes: [...parseForward("-R", "1000:localhost:1"), ...parseForward("-R", "1000:localhost:2")],
      },
    });
    for (const side of SIDES) {
      const { ready, done } = world.halves[side].forwarding.add(world.pair[side], side, "laptop");
      done.catch(() => undefined);
      ready.catch(() => undefined);
    }
    await pass(1000);
    expect(told("joining", "listening").map(({ target }) => target)).toEqual(["localhost:1"]);
    expect(told("joining", "unheard")).toHaveLength(1);
    expect(world.waiting.machine.listeners.size).toBe(1);
  });

  test("a client that has left while it waited leaves nothing behind", async () => {
    world = new World({
      joining: { locals: parseForward("-L", "1000:localhost:5432") },
      waiting: { offers: parseTarget("5432") },
    });
    await world.joining.forwarding.start();
    world.waiting.machine.serve(DIALLED);
    const client = world.joining.machine.connect(1000);
    client.end.write(text("x"));
    client.end.reset();
    await pass(5000);
    await world.go();
    await world.empty();
  });

  test("what was offered is listened for once, however many sessions offer it", async () => {
    world = await new World({
      waiting: { offers: parseTarget("5432") },
      joining: { takeOffers: true },
    }).start();
    await world.lose(1000);
    await world.lose(1000);
    expect(world.joining.machine.places).toHaveLength(1);
    const served = world.waiting.machine.serve(DIALLED);
    world.joining.machine.connect(5432);
    await run(() => served.length === 1, 10_000);
  });

  test("several joiners at one forward: each its own session, each is served", async () => {
    await database();
    const { client, server } = await connected();
    const other = new World({ joining: { locals: parseForward("-L", "1000:localhost:5432") } });
    await other.joining.forwarding.start();
    world.waiting.forwarding.add(other.pair.waiting, "waiting").done.catch(() => undefined);
    other.joining.forwarding.add(other.pair.joining, "joining").done.catch(() => undefined);
    const served = world.waiting.machine.serve(DIALLED);
    const second = other.joining.machine.connect(1000);
    second.end.write(text("second"));
    await run(() => served[0]?.text === "second", 10_000);
    expect(world.waiting.forwarding.open).toHaveLength(2);
    // The end of the one is none of the other's business.
    await other.end();
    await run(() => served[0]?.closed !== undefined, 10_000);
    expect(second.closed).toBe("CONNECTION_RESET");
    client.end.write(text("still here"));
    await run(() => server.text === "still here", 10_000);
    for (const { end } of [client, server]) end.end();
    await world.empty();
  });

  test("the other side has left in good order: connections go on to their end, then it is over", async () => {
    await database();
    const { client, server } = await connected();
    const done = world.joining.done.then(
      () => "resolved",
      (error: unknown) => (error instanceof DcpipeError ? error.code : String(error)),
    );
    await world.waiting.forwarding.close();
    void world.pair.waiting.close();
    await pass(100);
    const late = world.joining.machine.connect(1000);
    await run(over(late), 10_000);
    expect(late.closed).toBe("CONNECTION_RESET");
    client.end.write(text("to the end"));
    for (const { end } of [client, server]) end.end();
    await run(over(client, server), 10_000);
    expect(server.text).toBe("to the end");
    expect(["resolved", "CLOSED"]).toContain(await within(done));
    expect(world.pair.joining.streams).toBe(0);
  });
});

describe("flows of datagrams", () => {
  const DNS = "127.0.0.1:53";

  beforeEach(async () => {
    world = await new World({
      waiting: { offers: parseTarget("53/udp") },
      joining: { locals: parseForward("-L", "1053:localhost:53/udp") },
    }).start();
    // Each datagram comes back twice.
    world.waiting.machine.echoes.set(DNS, (payload) => [payload, payload]);
  });

  test("each client gets its own answers; nothing is left when they have been idle", async () => {
    const { machine } = world.joining;
    for (const from of ["a", "b", "c"]) machine.datagram(1053, text(`question of ${from}`), from);
    await run(() => machine.answers.length === 6, 10_000);
    for (const from of ["a", "b", "c"])
      expect(
        machine.answers
          .filter((answer) => answer.from === from)
          .map(({ payload }) => Buffer.from(payload).toString()),
      ).toEqual([`question of ${from}`, `question of ${from}`]);
    expect(world.waiting.machine.datagramSockets).toBe(3);
    expect(world.joining.forwarding.open).toHaveLength(3);
    await world.empty(300_000);
    expect(told("joining", "closed")).toHaveLength(3);
  });

  test("a client for each of so many: the one that was silent longest makes room", async () => {
    const { machine } = world.joining;
    for (let n = 0; n < 1100; n++) {
      machine.datagram(1053, text("x"), `client ${n}`);
      if (n % 100 === 99) await pass(100);
    }
    await pass(1000);
    expect(world.joining.forwarding.open.length).toBeLessThanOrEqual(1024);
    expect(world.waiting.machine.datagramSockets).toBeLessThanOrEqual(1024);
    await world.empty(300_000);
  });

  test("without a session datagrams are dropped, and go again over the next one", async () => {
    const { machine } = world.joining;
    machine.datagram(1053, text("before"), "a");
    await run(() => machine.answers.length === 2, 10_000);
    const lost = world.lose(5000);
    await pass(1000);
    expect(world.waiting.machine.datagramSockets).toBe(0);
    machine.datagram(1053, text("lost"), "a");
    await within(lost);
    machine.datagram(1053, text("after"), "a");
    await run(() => machine.answers.length === 4, 10_000);
    await world.empty(300_000);
  });

  test("what is not offered is refused, and asked for no more often than datagrams come", async () => {
    await world.end();
    world = await new World({ joining: { locals: parseForward("-L", "1053:localhost:53/udp") } }).start();
    world.joining.machine.datagram(1053, text("x"), "a");
    await pass(1000);
    expect(told("waiting", "refused")).toMatchObject([{ by: "us", target: "localhost:53/udp" }]);
    expect(told("joining", "refused")).toMatchObject([{ by: "them" }]);
    await world.empty();
  });
});

test("a rate: connections of a session share it, and FIN stays behind the data", async () => {
  world = await new World({
    waiting: { offers: parseTarget("5432") },
    joining: {
      locals: parseForward("-L", "1000:localhost:5432"),
      remotes: parseForward("-R", "0:localhost:5432"),
      bytesPerSecond: 100_000,
    },
  }).start();
  const clients = [1, 2].map(() => world.joining.machine.connect(1000));
  const served = world.waiting.machine.serve(DIALLED);
  const start = performance.now();
  for (const { end } of clients) {
    end.write(bytes(300_000));
    end.end();
  }
  await run(() => served.length === 2 && served.every(({ ended }) => ended), 60_000);
  const seconds = (performance.now() - start) / 1000;
  expect(served.map(({ received }) => received)).toEqual([300_000, 300_000]);
  expect(seconds).toBeGreaterThan(4.5);
  expect(seconds).toBeLessThan(8);
  for (const { end } of served) end.end();
  await world.empty();
});

// ---- any schedule -------------------------------------------------------------------------------------------------------

/** What a program does with its end of a connection, and after how many milliseconds. */
interface Step {
  readonly wait: number;
  readonly what: "write" | "end" | "reset" | "hang up" | "pause" | "resume";
  readonly size: number;
}

interface Plan {
  readonly opener: Side;
  readonly at: number;
  readonly client: readonly Step[];
  readonly server: readonly Step[];
}

const step = fc.record({
  wait: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 80 })),
  what: fc.oneof(
    { weight: 8, arbitrary: fc.constant("write" as const) },
    { weight: 2, arbitrary: fc.constant("end" as const) },
    { weight: 1, arbitrary: fc.constant("reset" as const) },
    { weight: 1, arbitrary: fc.constant("hang up" as const) },
    { weight: 1, arbitrary: fc.constant("pause" as const) },
    { weight: 1, arbitrary: fc.constant("resume" as const) },
  ),
  size: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 200_000 })),
});

const plan: fc.Arbitrary<Plan> = fc.record({
  opener: fc.constantFrom(...SIDES),
  at: fc.integer({ min: 0, max: 50 }),
  client: fc.array(step, { maxLength: 8 }),
  server: fc.array(step, { maxLength: 8 }),
});

/** One end of a connection that follows its plan, and afterwards reads and ends. */
class Actor {
  readonly program: Program;
  readonly sent: Uint8Array[] = [];
  /** It has ended its direction, and neither closed nor reset it. */
  ended = false;
  broke = false;
  done = false;

  constructor(program: Program, steps: readonly Step[], seed: number) {
    this.program = program;
    void this.#act(steps, seed);
  }

  async #act(steps: readonly Step[], seed: number): Promise<void> {
    const { end } = this.program;
    for (const [i, { wait, what, size }] of [
      ...steps,
      { wait: 200, what: "resume", size: 0 } as const,
    ].entries()) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (end.over) break;
      if (what === "write" && !this.ended && !this.broke) {
        const chunk = bytes(size, seed + i);
        this.sent.push(chunk);
        end.write(chunk);
      } else if (what === "end") {
        this.ended = true;
        end.end();
      } else if (what === "reset") {
        this.broke = true;
        end.reset();
      } else if (what === "hang up") {
        this.broke = true;
        end.hangUp();
      } else if (what === "pause" && !this.broke) end.pause();
      else if (what === "resume") end.resume();
    }
    if (!this.broke) this.ended = true;
    end.end();
    this.done = true;
  }
}

test("whatever both ends do: what arrives is what was sent, whole or up to a reset, and nothing is left", async () => {
  world = new World();
  await fc.assert(
    fc.asyncProperty(fc.array(plan, { minLength: 1, maxLength: 6 }), async (plans) => {
      await world.end();
      const each = (port: string, target: number): Options => ({
        offers: parseTarget(String(target)),
        locals: parseForward("-L", port),
      });
      world = await new World({
        waiting: each("1000:localhost:1", 2),
        joining: each("1000:localhost:2", 1),
      }).start();
      const pairs: { client: Actor; server: Actor | undefined }[] = [];
      for (const [i, { opener, at, client, server }] of plans.entries()) {
        await pass(at);
        const pair: { client: Actor; server: Actor | undefined } = {
          client: new Actor(world.halves[opener].machine.connect(1000), client, 1000 * i),
          server: undefined,
        };
        pairs.push(pair);
        const { services } = world.halves[otherSide(opener)].machine;
        const where = `127.0.0.1:${opener === "waiting" ? 1 : 2}`;
        services.set(where, (end) => {
          pair.server = new Actor(new Program(end), server, 1000 * i + 500);
        });
        // The one who comes is the one who was sent, or nobody comes any more.
        await run(() => pair.server !== undefined, 1000).catch(() => undefined);
      }
      await run(() => pairs.every(({ client, server }) => client.done && (server?.done ?? true)), 60_000);
      await world.empty();
      // The ticker of each session, and no other.
      await run(() => vi.getTimerCount() === SIDES.length, 10_000, "timers that are left");
      for (const { client, server } of pairs) {
        if (!server) continue;
        for (const [from, to] of [
          [client, server],
          [server, client],
        ] as const) {
          const sent = Buffer.concat(from.sent);
          const got = Buffer.from(to.program.bytes);
          expect(sent.subarray(0, got.length).equals(got)).toBe(true);
          // One end broke it: then the other end cannot have seen a good end of both directions, unless it was over before.
          if (from.broke || to.broke) continue;
          expect(got.length).toBe(sent.length);
          expect(to.program.ended).toBe(true);
          expect(to.program.closed).toBe("well");
        }
      }
      for (const side of SIDES) expect(world.halves[side].forwarding.open).toEqual([]);
    }),
    { numRuns: 100, interruptAfterTimeLimit: 60_000 },
  );
});
