/** Sessions that begin on a relay, leave it, and go back to it, over an ether without WebRTC and a rendezvous in memory. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { connectByCode, listenByCode } from "../../src/connect/code.ts";
import { FIRST_RELAY_EPOCH, openRelay } from "../../src/connect/relay.ts";
import type { CodeEvent, CodeOptions } from "../../src/connect/options.ts";
import { DcpipeError } from "../../src/errors.ts";
import type { Session } from "../../src/session/session.ts";
import { fromBase64url, toBase64url } from "../../src/wire/bytes.ts";
import { Keys } from "../../src/signalling/keys.ts";
import type { Role } from "../../src/wire/hello.ts";
import { encodeLane } from "../../src/wire/lane.ts";
import { decodeClientMessage, FIRST_MESSAGE_PREFIX, isRelay } from "../../src/wire/rendezvous.ts";
import { Ether, Host } from "./ether.ts";
import { GoBetween } from "./go-between.ts";
import { pass, run, settled, startTime, stopTime, within } from "./network.ts";

const URL = "http://rendezvous.test/";
let ether: Ether;
let near: Host;
let far: Host;
let server: GoBetween;
let events: { side: Role; at: number; event: CodeEvent }[];
let closing: { close(): void; session: Promise<Session> }[];

beforeEach(() => {
  stopTime();
  ether = new Ether();
  near = new Host(ether, "192.0.2.1");
  far = new Host(ether, "192.0.2.2");
  near.hidden = far.hidden = true;
  server = new GoBetween();
  server.relays = true;
  events = [];
  closing = [];
});

afterEach(async () => {
  for (const each of closing) {
    each.close();
    each.session.then(
      (session) => {
        session.fail(new DcpipeError("ABORTED", "the test is over"));
      },
      () => undefined,
    );
  }
  await pass(3000);
  await settled();
  startTime();
});

function options(side: Role, more: Partial<CodeOptions>): CodeOptions {
  return {
    rendezvous: URL,
    lan: false,
    stun: [],
    onevent: (event) => events.push({ side, at: performance.now(), event }),
    ...more,
  };
}

async function meet(more: Partial<CodeOptions> = {}): Promise<{ a: Session; b: Session }> {
  const listening = await within(
    listenByCode({ ...near.platform, openSocket: server.openSocket }, options("waiting", more)),
  );
  const joined = connectByCode(
    { ...far.platform, openSocket: server.openSocket },
    listening.code,
    options("joining", more),
  );
  closing.push(listening, joined);
  const [a, b] = await within(Promise.all([listening.session, joined.session]));
  return { a, b };
}

/** Sends so many bytes one way, and makes sure of each. */
async function carry(from: Session, to: Session, size: number): Promise<void> {
  const bytes = Uint8Array.from({ length: size }, (_, i) => (i * 31 + (i >> 8)) & 255);
  const mine = from.open(Uint8Array.of(1));
  const sent = (async () => {
    for (let at = 0; at < size; at += 50_000) await mine.write(bytes.subarray(at, at + 50_000));
    await mine.end();
  })();
  const theirs = await to.accept();
  const got: Uint8Array[] = [];
  for (let chunk = await theirs.read(); chunk; chunk = await theirs.read()) got.push(chunk.slice());
  await sent;
  const [, back] = await Promise.all([theirs.end(), mine.read()]);
  expect(back).toBeUndefined();
  expect(Buffer.compare(Buffer.concat(got), bytes)).toBe(0);
}

function paths(side: Role): string[] {
  return events.flatMap(({ side: which, event }) =>
    which === side && (event.event === "connected" || event.event === "path") ? [event.path] : [],
  );
}

function names(side: Role): string[] {
  return events.filter((entry) => entry.side === side).map(({ event }) => event.event);
}

/** What the server was asked for, in order. */
function keysOfRelays(): { name: string; role: Role; key: string }[] {
  return server.seen.flatMap((text) => {
    if (!text.startsWith(FIRST_MESSAGE_PREFIX)) return [];
    const bytes = fromBase64url(text.slice(FIRST_MESSAGE_PREFIX.length));
    if (!isRelay(bytes)) return [];
    const message = decodeClientMessage(bytes);
    if (message.type !== "RELAY") return [];
    const [name, key] = [message.name, message.key].map(toBase64url) as [string, string];
    return [{ name, role: message.role, key }];
  });
}

describe("where no packet finds a way", () => {
  test("the session goes by the relay, and says so after a while", async () => {
    const { a, b } = await meet();
    await pass(1000);
    expect(paths("joining")).toEqual([]);
    await pass(1000);
    await within(carry(b, a, 1000));
    expect(paths("waiting")).toEqual(["relay"]);
    expect(paths("joining")).toEqual(["relay"]);
    expect(events.find(({ event }) => event.event === "connected")?.event).toMatchObject({
      remote: { address: "rendezvous.test", port: 80, type: "relay" },
    });
  });

  test("much goes over a second connection, both ways, and the server sees none of it", async () => {
    const { a, b } = await meet();
    const seen: Uint8Array[] = [];
    server.bend = (bytes) => {
      seen.push(bytes.slice());
      return bytes;
    };
    await pass(2000);
    await within(Promise.all([carry(a, b, 2_000_000), carry(b, a, 2_000_000)]));
    // One that each side asked for, at most.
    expect([1, 2]).toContain(a.lanes.bulk);
    expect([1, 2]).toContain(b.lanes.bulk);
    const text = Buffer.concat(seen);
    const clear = Buffer.from(Uint8Array.from({ length: 64 }, (_, i) => (i * 31) & 255));
    expect(text.length).toBeGreaterThan(4_000_000);
    expect(text.includes(clear)).toBe(false);
  });

  test("a session that is done is done on both sides", async () => {
    const { a, b } = await meet();
    await within(carry(a, b, 100_000));
    await within(Promise.all([a.close(), b.close()]));
    expect(paths("waiting")).toEqual(["relay"]);
  });

  test("without the relay it is as it was: no path", async () => {
    await expect(meet({ relay: "off" })).rejects.toMatchObject({ code: /TIMEOUT|ICE_FAILED|INTERRUPTED/ });
    expect(events.filter(({ event }) => event.event === "tried").map(({ event }) => event)).toContainEqual(
      expect.objectContaining({ stun: "off", relay: "off", signalling: "code" }),
    );
  });

  test("a server that does not relay is asked once", async () => {
    server.relays = false;
    await expect(meet()).rejects.toMatchObject({ code: /TIMEOUT|ICE_FAILED|INTERRUPTED/ });
    expect(events.find(({ event }) => event.event === "tried")?.event).toMatchObject({
      relay: "unavailable",
    });
  });

  test("a relay that is lost is opened again, and nothing is", async () => {
    const { a, b } = await meet();
    await pass(2000);
    const done = carry(b, a, 3_000_000);
    await pass(40);
    for (const seat of server.seats) if (seat.mate) seat.end(1006);
    await within(done);
    expect(names("joining")).toContain("reconnecting");
    await pass(2000);
    expect(paths("joining")).toEqual(["relay", "relay"]);
  });

  test("who comes again has the key that it had: nobody may have missed it yet", async () => {
    await meet({ relay: "only" });
    const control = keysOfRelays()[0]?.name;
    for (let i = 0; i < 3; i++) {
      for (const seat of server.seats) if (seat.mate) seat.end(1006);
      await pass(5000);
    }
    for (const side of ["waiting", "joining"] as const) {
      const asked = keysOfRelays().filter(({ name, role }) => name === control && role === side);
      expect(asked.length).toBeGreaterThanOrEqual(4);
      expect(new Set(asked.map(({ key }) => key)).size).toBe(1);
    }
  });

  test("a relay that is lost before anybody was told of it is not told of", async () => {
    const { a, b } = await meet();
    await pass(500);
    for (const seat of server.seats) if (seat.mate) seat.end(1006);
    await pass(3000);
    await within(carry(b, a, 1000));
    for (const side of ["waiting", "joining"] as const) {
      expect(names(side)).not.toContain("reconnecting");
      expect(paths(side)).toEqual(["relay"]);
    }
  });

  test("a relay that serves no more for a while is asked again", async () => {
    const { a, b } = await meet({ relay: "only" });
    await pass(2000);
    server.relays = false;
    for (const seat of server.seats) if (seat.mate) seat.end(1006);
    await pass(30_000);
    expect([a.state, b.state]).toEqual(["down", "down"]);
    server.relays = true;
    await within(carry(b, a, 1000), 60_000);
  });

  test("a session that ends when its streams do finds the relay again until then", async () => {
    const { a, b } = await meet({ relay: "only" });
    await pass(2000);
    const done = carry(b, a, 3_000_000);
    await pass(40);
    const ends = Promise.all([a.closed, b.closed]);
    await pass(1);
    void b.close();
    for (const seat of server.seats) if (seat.mate) seat.end(1006);
    await within(done, 60_000);
    void a.close();
    await within(ends, 60_000);
  });

  test("the other side cannot make us open connections without end", async () => {
    const { b } = await meet();
    await pass(2000);
    const before = server.seats.size;
    for (let i = 0; i < 100; i++)
      b.signal(
        encodeLane({
          type: "ADD",
          epoch: FIRST_RELAY_EPOCH,
          index: 1001 + 2 * i,
          kind: "bulk",
          mtu: 1280,
          candidates: [],
        }),
      );
    await pass(2000);
    expect(server.seats.size - before).toBeLessThanOrEqual(8);
    expect(server.seats.size - before).toBeGreaterThan(0);
  });

  test("a relay that alters messages is closed, and nothing altered gets in", async () => {
    const { a, b } = await meet();
    await pass(2000);
    let count = 0;
    server.bend = (bytes) => {
      const copy = bytes.slice();
      if (++count % 40 === 0) copy[copy.length >> 1] = (copy[copy.length >> 1] ?? 0) ^ 1;
      return copy;
    };
    await within(carry(b, a, 500_000));
    expect(names("waiting")).toContain("reconnecting");
  });

  test("a relay that plays back an old connection gets nowhere", async () => {
    const { a, b } = await meet();
    const old: Uint8Array[] = [];
    server.bend = (bytes) => {
      old.push(bytes.slice());
      return bytes;
    };
    await within(carry(b, a, 200_000));
    // From now on: what was said in the old connection, in place of what is said.
    let at = 0;
    server.bend = () => old[at++];
    for (const seat of server.seats) if (seat.mate) seat.end(1006);
    await pass(20_000);
    expect(a.state).toBe("down");
    expect(b.state).toBe("down");
    server.bend = (bytes) => bytes;
    await within(carry(a, b, 1000));
  });
});

describe("only relays", () => {
  test("nothing but the relay is used where a direct path would stand", async () => {
    near.hidden = far.hidden = false;
    const { a, b } = await meet({ relay: "only" });
    await within(carry(a, b, 1000));
    await pass(2000);
    expect(paths("waiting")).toEqual(["relay"]);
    expect([near.created, far.created]).toEqual([0, 0]);
  });

  test("and where the server has none, that is the end", async () => {
    server.relays = false;
    await expect(meet({ relay: "only" })).rejects.toMatchObject({ code: /LIMIT|INTERRUPTED/ });
  });
});

describe("a direct path", () => {
  test("is used from the start where it stands in time, and the relay is left alone", async () => {
    near.hidden = far.hidden = false;
    const { a, b } = await meet();
    await within(carry(a, b, 100_000));
    await pass(3000);
    expect(paths("waiting")).toEqual(["direct"]);
    expect(server.relayedBytes).toBe(0);
    expect([...server.seats].every(({ closed }) => closed)).toBe(true);
  });

  test("that comes late takes over while data flow, and the relay is closed", async () => {
    const { a, b } = await meet();
    await pass(2000);
    const done = Promise.all([carry(a, b, 4_000_000), carry(b, a, 4_000_000)]);
    await pass(100);
    near.hidden = far.hidden = false;
    ether.look();
    await run(() => paths("waiting").length === 2 && paths("joining").length === 2, 60_000, "a direct path");
    expect(paths("waiting")).toEqual(["relay", "direct"]);
    expect(paths("joining")).toEqual(["relay", "direct"]);
    await within(done);
    await pass(3000);
    expect([...server.seats].every(({ closed }) => closed)).toBe(true);
    expect(names("waiting")).not.toContain("reconnecting");
    await within(carry(a, b, 1_000_000));
  });

  test("takes over the datagrams, too", async () => {
    const { a, b } = await meet();
    b.wantDatagrams();
    await pass(3000);
    expect(b.datagramsReady).toBe(true);
    near.hidden = far.hidden = false;
    ether.look();
    await run(() => paths("waiting").length === 2 && paths("joining").length === 2, 60_000, "a direct path");
    await pass(3000);
    expect([a.datagramsReady, b.datagramsReady]).toEqual([true, true]);
    expect([...server.seats].every(({ closed }) => closed)).toBe(true);
  });

  test("that stands a moment after the relay is told as the only one", async () => {
    const { a, b } = await meet();
    await pass(500);
    near.hidden = far.hidden = false;
    ether.look();
    await run(() => paths("waiting").length > 0 && paths("joining").length > 0, 20_000, "a path");
    await pass(3000);
    expect(paths("waiting")).toEqual(["direct"]);
    expect(paths("joining")).toEqual(["direct"]);
    await within(carry(a, b, 1000));
  });

  test("that is lost gives way to the relay, and comes back", async () => {
    near.hidden = far.hidden = false;
    const { a, b } = await meet();
    await pass(1000);
    const done = Promise.all([carry(a, b, 6_000_000), carry(b, a, 6_000_000)]);
    await pass(20);
    ether.up = false;
    await within(done);
    await run(
      () => paths("waiting").includes("relay") && paths("joining").includes("relay"),
      60_000,
      "the relay",
    );
    ether.up = true;
    await run(
      () => paths("waiting").at(-1) === "direct" && paths("joining").at(-1) === "direct",
      300_000,
      "the path",
    );
    await within(carry(a, b, 1_000_000));
    expect(names("waiting").filter((name) => name === "reconnecting")).toHaveLength(1);
  });
});

describe("a mailbox to meet again", () => {
  test("is opened anew when the machine was offline for longer than it lives", async () => {
    near.hidden = far.hidden = false;
    await meet({ relay: "off", reconnect: 600 });
    await pass(1000);
    server.down = true;
    ether.up = false;
    await pass(60_000);
    const before = server.seen.length;
    server.down = false;
    await pass(30_000);
    const opened = server.seen
      .slice(before)
      .filter((text) => text.startsWith(FIRST_MESSAGE_PREFIX))
      .map((text) => decodeClientMessage(fromBase64url(text.slice(FIRST_MESSAGE_PREFIX.length))));
    expect(opened.flatMap((message) => (message.type === "OPEN" ? [message.role] : [])).sort()).toEqual([
      "joining",
      "waiting",
    ]);
  });
});

describe("an end of a relay", () => {
  test.each([0, 5, 16, 20, 40])("believes nobody whose HELLO is altered at byte %i", async (at) => {
    server.bend = (bytes) => {
      const copy = bytes.slice();
      copy[at] = (copy[at] ?? 0) ^ 1;
      return copy;
    };
    const keys = new Keys(new Uint8Array(16));
    const fingerprints = { waiting: new Uint8Array(32), joining: new Uint8Array(32).fill(1) };
    const place = { openSocket: server.openSocket, url: URL };
    const { signal } = new AbortController();
    const ends = (["waiting", "joining"] as const).map((role) =>
      openRelay(place, { role, keys, fingerprints }, { epoch: 16_384, index: 0 }, signal).then(
        () => "met",
        (error: unknown) => (error as DcpipeError).code,
      ),
    );
    for (const end of await within(Promise.all(ends))) expect(["AUTH_FAILED", "SIGNALLING"]).toContain(end);
  });

  test("believes nobody with other keys, or other certificates", async () => {
    for (const [secret, fingerprint] of [
      [1, 1],
      [0, 2],
    ]) {
      const place = { openSocket: server.openSocket, url: URL };
      const { signal } = new AbortController();
      const honest = {
        role: "waiting" as const,
        keys: new Keys(new Uint8Array(16)),
        fingerprints: { waiting: new Uint8Array(32), joining: new Uint8Array(32).fill(1) },
      };
      const other = {
        role: "joining" as const,
        keys: new Keys(new Uint8Array(16).fill(secret ?? 0)),
        fingerprints: { waiting: new Uint8Array(32), joining: new Uint8Array(32).fill(fingerprint ?? 0) },
      };
      // They would not even find each other: the server is crooked.
      Object.defineProperty(other.keys, "relayName", { value: () => honest.keys.relayName(0, 0) });
      const ends = [honest, other].map((context) =>
        openRelay(place, context, { epoch: 16_384, index: 0 }, signal).then(
          () => "met",
          (error: unknown) => (error as DcpipeError).code,
        ),
      );
      for (const end of await within(Promise.all(ends))) expect(["AUTH_FAILED", "SIGNALLING"]).toContain(end);
    }
  });

  test("both take the later epoch", async () => {
    const keys = new Keys(new Uint8Array(16));
    const fingerprints = { waiting: new Uint8Array(32), joining: new Uint8Array(32) };
    const place = { openSocket: server.openSocket, url: URL };
    const { signal } = new AbortController();
    const ends = await within(
      Promise.all([
        openRelay(place, { role: "waiting", keys, fingerprints }, { epoch: 16_384, index: 0 }, signal),
        openRelay(place, { role: "joining", keys, fingerprints }, { epoch: 16_390, index: 0 }, signal),
      ]),
    );
    expect(ends.map(({ epoch }) => epoch)).toEqual([16_390, 16_390]);
  });
});
