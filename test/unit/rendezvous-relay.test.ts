/** Section 7.4 of docs/protocol.md over real WebSockets: what goes through a relay, and how it ends; the same for every store. */
import { createClient } from "@redis/client";
import { describe, expect, onTestFinished, test } from "vitest";
import { MemoryStore } from "../../src/server/memory.ts";
import { RedisStore } from "../../src/server/redis-store.ts";
import type { End, Far } from "../../src/server/relays.ts";
import type { Store } from "../../src/server/store.ts";
import { toBase64url } from "../../src/wire/bytes.ts";
import {
  CLOSE,
  encodeClientMessage,
  FIRST_MESSAGE_PREFIX,
  MAX_RELAY_MESSAGE,
  RENDEZVOUS_PROTOCOL,
  type CloseCode,
} from "../../src/wire/rendezvous.ts";
import { redisTest, sharedRedis, startRedis, storeTest, type StoreKind } from "./redis.ts";
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
import { allocate, claim, newKey, serve, type Server } from "./visitor.ts";

const MIB = 2 ** 20;

/** One server, or two that share a store: everything holds between them as well. */
async function servers(
  open: (limits?: Parameters<typeof serve>[0]["limits"]) => Store,
  kind: StoreKind,
  options: Omit<Parameters<typeof serve>[0], "store"> = {},
): Promise<[Server, Server]> {
  const one = await serve({ ...options, store: open(options.limits) });
  return [one, kind === "memory" ? one : await serve({ ...options, store: open(options.limits) })];
}

/** An end that does nothing, and knows what it was told. */
function fakeEnd(): End & { far: Far | undefined; readonly finished: Promise<CloseCode> } {
  let finish: (code: CloseCode) => void = () => undefined;
  const finished = new Promise<CloseCode>((resolve) => (finish = resolve));
  return {
    far: undefined,
    finished,
    pair(far) {
      this.far = far;
    },
    deliver: () => undefined,
    acknowledge: () => undefined,
    finish,
  };
}

function concatenated(...parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(parts);
}

describe("messages", () => {
  storeTest("go to the other end as they are, in order, both ways", async (open, kind) => {
    const { waiting, joining } = await relayPair(...(await servers(open, kind)));
    const sizes = [1, 2, 125, 126, 1160, 4112, 4113, 65_535, 65_536, MAX_RELAY_MESSAGE];
    const messages = sizes.map((size, i) => Buffer.alloc(size, i + 1));
    for (const message of messages) {
      waiting.socket.send(message);
      joining.socket.send(concatenated(message.subarray(1), message.subarray(0, 1)));
    }
    for (const message of messages) {
      expect(Buffer.from(await joining.hearBytes()).equals(message)).toBe(true);
      expect(Buffer.from(await waiting.hearBytes()).equals(message)).toBe(true);
    }
  });

  for (const first of ["waiting", "joining"] as const) {
    storeTest(`the ${first} end comes first, and speaks at once`, async (open, kind) => {
      const [one, two] = await servers(open, kind);
      const name = newKey();
      const early = relay(one, first, { name });
      await early.opened;
      early.socket.send(Buffer.from("early"));
      await introduce(one);
      const late = relay(two, first === "waiting" ? "joining" : "waiting", { name });
      expect(Buffer.from(await late.hearBytes()).toString()).toBe("early");
      await through(late, early);
    });
  }

  storeTest("100 MB each way, equal by their hash", async (open, kind) => {
    const [one, two] = await servers(open, kind);
    const { waiting, joining } = await relayPair(one, two);
    const [w, j] = [new Drain(waiting), new Drain(joining)];
    const sent = [pour(waiting, 100e6, 65_536 + 40), pour(joining, 100e6, 50_000)];
    const got = [j.all(100e6), w.all(100e6)];
    expect(await Promise.all(got)).toEqual(await Promise.all(sent));
  });

  storeTest("small ones by the ten thousand", async (open, kind) => {
    const [one, two] = await servers(open, kind);
    const { waiting, joining } = await relayPair(one, two);
    const drain = new Drain(joining);
    const sent = pour(waiting, 20_000 * 1160, 1160);
    expect(await drain.all(20_000 * 1160)).toBe(await sent);
    expect(drain.messages).toBe(20_000);
  });

  storeTest("many relays at once do not mix", async (open, kind) => {
    const [one, two] = await servers(open, kind);
    const pairs = await Promise.all(
      Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? relayPair(one, two) : relayPair(two, one))),
    );
    const sent = pairs.map(({ waiting }) => pour(waiting, MIB, 10_000));
    const got = pairs.map(({ joining }) => new Drain(joining).all(MIB));
    expect(await Promise.all(got)).toEqual(await Promise.all(sent));
  });

  redisTest("between ends at one process they do not go by way of Redis", async () => {
    const url = (await sharedRedis()).url();
    const server = await serve({ store: new RedisStore(url) });
    const redis = await createClient({ url }).connect();
    onTestFinished(() => {
      redis.destroy();
    });
    const traffic = async (): Promise<number> =>
      Number(/total_net_input_bytes:(\d+)/.exec(await redis.info("stats"))?.[1]);
    const { waiting, joining } = await relayPair(server);
    const before = await traffic();
    const sent = pour(waiting, 8 * MIB, 60_000);
    expect(await new Drain(joining).all(8 * MIB)).toBe(await sent);
    expect((await traffic()) - before).toBeLessThan(MIB);
  });
});

describe("when one end goes, the other one is told", () => {
  storeTest("it closes", async (open, kind) => {
    const { waiting, joining } = await relayPair(...(await servers(open, kind)));
    waiting.socket.close(1000);
    expect(await joining.closed).toBe(CLOSE.LEFT);
  });

  storeTest("it is lost", async (open, kind) => {
    const { waiting, joining } = await relayPair(...(await servers(open, kind)));
    await joining.vanish();
    expect(await waiting.closed).toBe(CLOSE.LEFT);
  });

  storeTest("what it sent before still arrives", async (open, kind) => {
    const { waiting, joining } = await relayPair(...(await servers(open, kind)));
    const drain = new Drain(joining);
    const sent = await pour(waiting, MIB, 10_000);
    waiting.socket.close(1000);
    expect(await joining.closed).toBe(CLOSE.LEFT);
    expect(await drain.all(MIB)).toBe(sent);
  });

  storeTest("both come again, with other keys as well", async (open, kind) => {
    const [one, two] = await servers(open, kind);
    const { waiting, joining, name } = await relayPair(one, two);
    waiting.socket.close(1000);
    await Promise.all([waiting.closed, joining.closed]);
    await relayPair(two, one, name);
  });

  storeTest("it breaks the protocol", async (open, kind) => {
    const [one, two] = await servers(open, kind);
    const wrong: [Buffer | string, CloseCode][] = [
      [Buffer.alloc(0), CLOSE.PROTOCOL],
      ["text", CLOSE.PROTOCOL],
      [Buffer.alloc(MAX_RELAY_MESSAGE + 1), CLOSE.TOO_BIG],
    ];
    for (const [message, code] of wrong) {
      const { waiting, joining } = await relayPair(one, two);
      waiting.socket.send(message);
      expect(await Promise.all([waiting.closed, joining.closed])).toEqual([code, CLOSE.LEFT]);
      expect(joining.unheard).toEqual([]);
    }
  });
});

describe("a second WebSocket for an end", () => {
  for (const again of ["waiting", "joining"] as const) {
    const other = again === "waiting" ? "joining" : "waiting";

    storeTest(`${again}, same key: takes its place, and both begin anew`, async (open, kind) => {
      const [one, two] = await servers(open, kind);
      const pair = await relayPair(one, two);
      const { name, keys } = pair;
      const back = relay(two, again, { name, key: keys[again] });
      const codes = await Promise.all([pair[again].closed, pair[other].closed]);
      expect(codes).toEqual([CLOSE.GOING_AWAY, CLOSE.RESTART]);
      const otherBack = relay(one, other, { name, key: keys[other] });
      await through(back, otherBack);
      await through(otherBack, back);
    });
  }

  storeTest("same key, before the other end is there", async (open, kind) => {
    const [one, two] = await servers(open, kind);
    const [name, key] = [newKey(), newKey()];
    const first = relay(one, "waiting", { name, key });
    await first.opened;
    await introduce(one);
    const second = relay(two, "waiting", { name, key });
    expect(await first.closed).toBe(CLOSE.GOING_AWAY);
    const joining = relay(one, "joining", { name });
    await through(second, joining);
  });

  storeTest("another key: refused, and nobody is disturbed", async (open, kind) => {
    const [one, two] = await servers(open, kind);
    const { waiting, joining, name } = await relayPair(one, two);
    for (const server of [one, two]) {
      expect(await relay(server, "waiting", { name }).closed).toBe(CLOSE.USED);
      expect(await relay(server, "joining", { name }).closed).toBe(CLOSE.USED);
    }
    await through(waiting, joining);
    await through(joining, waiting);
    const lonely = newKey();
    const early = relay(one, "joining", { name: lonely });
    await early.opened;
    await introduce(one);
    expect(await relay(two, "joining", { name: lonely }).closed).toBe(CLOSE.USED);
  });

  storeTest("again and again", async (open, kind) => {
    const [one, two] = await servers(open, kind);
    const { name, keys } = await relayPair(one, two);
    for (let i = 0; i < 20; i++) {
      const [w, j] = i % 2 === 0 ? [one, two] : [two, one];
      const waiting = relay(w, "waiting", { name, key: keys.waiting });
      const joining = relay(j, "joining", { name, key: keys.joining });
      // Whichever is first ends the older pair, and the next one finds it.
      await through(waiting, joining);
      await through(joining, waiting);
    }
  });
});

test("an end whose other end does not come expires", async () => {
  const server = await serve({ store: new MemoryStore(), limits: { relayUnpairedMs: 2000 } });
  const { waiting, joining } = await relayPair(server);
  const lonely = relay(server, "waiting", { name: newKey() });
  expect(await lonely.closed).toBe(CLOSE.EXPIRED);
  // Those that have met stay.
  await through(waiting, joining);
});

describe("RELAY", () => {
  const encoded = (...messages: Parameters<typeof encodeClientMessage>[0][]): string[] => [
    RENDEZVOUS_PROTOCOL,
    ...messages.map((message) => FIRST_MESSAGE_PREFIX + toBase64url(encodeClientMessage(message))),
  ];

  test("is refused where nothing is relayed", async () => {
    const server = await serve({ store: new MemoryStore(), relay: false });
    const visitor = relay(server, "waiting", { name: newKey() });
    expect(await visitor.closed).toBe(CLOSE.NO_RELAY);
    expect(visitor.reason).toBe("this server relays nothing");
    await introduce(server);
  });

  test("travels in the request, and never later", async () => {
    const server = await serve({ store: new MemoryStore() });
    const late = server.visit();
    await late.say(relayMessage("waiting", newKey()));
    expect(await late.closed).toBe(CLOSE.PROTOCOL);
    const { visitor } = await allocate(server);
    await visitor.say(relayMessage("waiting", newKey()));
    expect(await visitor.closed).toBe(CLOSE.PROTOCOL);
    const protocols = encoded(
      { type: "ALLOCATE", key: newKey(), nameplate: 0 },
      relayMessage("waiting", newKey()),
    );
    expect(await server.visit({ protocols }).closed).toBe(CLOSE.PROTOCOL);
  });

  test("and one message for the other end are all that the request may say", async () => {
    const server = await serve({ store: new MemoryStore() });
    const [name, key] = [newKey(), newKey()];
    const one = relayMessage("waiting", name, key);
    const more = { type: "RENEW" } as const;
    expect(
      await server.visit({ protocols: encoded(one, more, { type: "RELEASE", outcome: "left" }) }).closed,
    ).toBe(CLOSE.PROTOCOL);
    // And none of them is left behind.
    await relayPair(server, server, name);
  });

  test("what came with the request goes to the other end, before all else", async () => {
    const server = await serve({ store: new MemoryStore() });
    const [name, more] = [newKey(), { type: "RENEW" } as const];
    const waiting = server.visit({ protocols: encoded(relayMessage("waiting", name), more) });
    const joining = server.visit({ protocols: encoded(relayMessage("joining", name)) });
    expect(Buffer.from(await joining.hearBytes())).toEqual(Buffer.from(encodeClientMessage(more)));
    await through(waiting, joining);
    await through(joining, waiting);
  });

  test("RELAY as a relayed message is one like any other", async () => {
    const server = await serve({ store: new MemoryStore() });
    const { waiting, joining } = await relayPair(server);
    await through(waiting, joining, Buffer.from(encodeClientMessage(relayMessage("waiting", newKey()))));
    await through(joining, waiting);
  });

  test.each([
    ["cut", Uint8Array.of(0x08, 1, 2, 3)],
    ["of an unknown role", Uint8Array.of(0x08, ...newKey(), 2, ...newKey())],
    ["with something behind it", Uint8Array.of(0x08, ...newKey(), 0, ...newKey(), 0)],
  ])("%s", async (_, message) => {
    const server = await serve({ store: new MemoryStore() });
    const protocols = [RENDEZVOUS_PROTOCOL, FIRST_MESSAGE_PREFIX + toBase64url(message)];
    expect(await server.visit({ protocols }).closed).toBe(CLOSE.PROTOCOL);
  });

  test("of a version that is not spoken here", async () => {
    const server = await serve({ store: new MemoryStore() });
    const [, first = ""] = encoded(relayMessage("waiting", newKey()));
    const visitor = server.visit({ protocols: ["dcpipe-rendezvous.2", first] });
    expect(await visitor.closed).toBe(CLOSE.VERSION);
  });

  test("a mailbox is none, and a relay is no mailbox", async () => {
    const server = await serve({ store: new MemoryStore() });
    const name = newKey();
    const mailbox = server.visit({
      first: { type: "OPEN", key: newKey(), role: "waiting", name, received: 0 },
    });
    await mailbox.hear("ATTACHED");
    const { waiting } = await relayPair(server, server, name);
    waiting.socket.send(Buffer.from(encodeClientMessage({ type: "RELEASE", outcome: "direct" })));
    await introduce(server);
    expect(mailbox.socket.readyState).toBe(mailbox.socket.OPEN);
    expect(waiting.socket.readyState).toBe(waiting.socket.OPEN);
  });
});

test("a rendezvous for one key: others come to relays where it has been", async () => {
  const onlyKey = newKey();
  const server = await serve({ store: new MemoryStore(), onlyKey });
  const name = newKey();
  expect(await relay(server, "waiting", { name }).closed).toBe(CLOSE.UNKNOWN);
  expect(await relay(server, "joining", { name }).closed).toBe(CLOSE.UNKNOWN);
  // The name of a mailbox is not enough.
  const mailbox = server.visit({ first: { type: "OPEN", key: onlyKey, role: "waiting", name, received: 0 } });
  await mailbox.hear("ATTACHED");
  expect(await relay(server, "joining", { name }).closed).toBe(CLOSE.UNKNOWN);
  // Who comes a moment before it waits for it.
  const early = relay(server, "joining", { name });
  await early.opened;
  const holder = relay(server, "waiting", { name, key: onlyKey });
  await through(early, holder);
  await through(holder, early);
});

describe("a server that goes", () => {
  test("sends both ends away", async () => {
    const server = await serve({ store: new MemoryStore(), limits: { drainMs: 100 } });
    const pairs = await Promise.all(Array.from({ length: 5 }, () => relayPair(server)));
    const lonely = relay(server, "waiting", { name: newKey() });
    await lonely.opened;
    const drained = server.rendezvous.drain();
    const ends = [...pairs.flatMap(({ waiting, joining }) => [waiting, joining]), lonely];
    const codes = await Promise.all(ends.map(({ closed }) => closed));
    expect(new Set(codes)).toEqual(new Set([CLOSE.GOING_AWAY]));
    await drained;
  });

  redisTest("an end at another one begins anew", async () => {
    const url = (await sharedRedis()).url();
    const [one, two] = [
      await serve({ store: new RedisStore(url), limits: { drainMs: 1 } }),
      await serve({ store: new RedisStore(url) }),
    ];
    const { waiting, joining, name, keys } = await relayPair(one, two);
    await Promise.all([one.rendezvous.drain(), waiting.closed, joining.closed]);
    expect(await Promise.all([waiting.closed, joining.closed])).toEqual([CLOSE.GOING_AWAY, CLOSE.RESTART]);
    const back = relay(two, "waiting", { name, key: keys.waiting });
    await through(back, relay(two, "joining", { name, key: keys.joining }));
  });

  redisTest("with its Redis: both ends are told to come back later, wherever they are", async () => {
    const redis = await startRedis();
    const url = redis.url();
    const [one, two] = [
      await serve({ store: new RedisStore(url) }),
      await serve({ store: new RedisStore(url) }),
    ];
    const pairs = [await relayPair(one, two), await relayPair(one)];
    await redis.stop();
    const codes = await Promise.all(
      pairs.flatMap(({ waiting, joining }) => [waiting.closed, joining.closed]),
    );
    expect(new Set(codes)).toEqual(new Set([CLOSE.TRY_AGAIN]));
    expect(await relay(one, "waiting", { name: newKey() }).closed).toBe(CLOSE.TRY_AGAIN);
    await startRedis(redis.port);
    const healthy = async (): Promise<boolean> =>
      (await Promise.all([one, two].map(({ http }) => fetch(`${http}healthz`)))).every(({ ok }) => ok);
    while (!(await healthy()));
    // Relays have connections of their own to Redis, which are back at another moment.
    for (let met = false; !met;) {
      const name = newKey();
      const [waiting, joining] = [relay(one, "waiting", { name }), relay(two, "joining", { name })];
      met = await Promise.race([
        through(waiting, joining).then(() => true),
        waiting.closed.then(() => false),
        joining.closed.then(() => false),
      ]);
      await Promise.all([waiting.vanish(), joining.vanish()]);
    }
  });

  redisTest("with its connection for relays alone: no mailbox is concerned", async () => {
    const redis = await startRedis();
    const url = redis.url();
    const [one, two] = [
      await serve({ store: new RedisStore(url) }),
      await serve({ store: new RedisStore(url) }),
    ];
    const { visitor, nameplate } = await allocate(one);
    const { waiting, joining } = await relayPair(one, two);
    const commands = await createClient({ url }).connect();
    onTestFinished(() => {
      commands.destroy();
    });
    const list = await commands.sendCommand<string>(["CLIENT", "LIST", "TYPE", "pubsub"]);
    const ids = [...list.matchAll(/^id=(\d+) /gm)].map(([, id]) => Number(id)).sort((a, b) => a - b);
    // For mailboxes and for relays of the one, then of the other.
    expect(ids).toHaveLength(4);
    await commands.sendCommand(["CLIENT", "KILL", "ID", `${ids[1]}`]);
    expect(await Promise.all([waiting.closed, joining.closed])).toEqual([CLOSE.TRY_AGAIN, CLOSE.TRY_AGAIN]);
    await claim(two, nameplate);
    await visitor.hear("SERVERS");
    await visitor.hear("JOINED");
  });

  redisTest("while the other end comes: that one does not wait for it", async () => {
    const url = (await sharedRedis()).url();
    const [one, two] = [new RedisStore(url), new RedisStore(url)];
    for (const store of [one, two]) {
      await store.start({ notice: () => undefined, lost: () => undefined, relaysLost: () => undefined });
      onTestFinished(() => store.close());
    }
    let met = 0;
    for (let i = 0; i < 100; i++) {
      const name = newKey();
      const early = fakeEnd();
      await one.relays.enter(early, { role: "waiting", name, key: newKey() });
      const late = fakeEnd();
      // Nobody knows which of these is first, nor who hears of it when.
      const entered = two.relays.enter(late, { role: "joining", name, key: newKey() });
      if (i % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
      one.relays.leave(early);
      expect(await entered).toBeUndefined();
      if (late.far) {
        met++;
        expect(await late.finished).toBe(CLOSE.LEFT);
      }
      two.relays.leave(late);
    }
    expect(met).toBeGreaterThan(0);
  });

  redisTest("without a word: its ends count as gone in time", async () => {
    const url = (await sharedRedis()).url();
    const limits = { relayKeepMs: 600 };
    const dead = new RedisStore(url, limits);
    await dead.start({ notice: () => undefined, lost: () => undefined, relaysLost: () => undefined });
    const server = await serve({ store: new RedisStore(url, limits), limits });
    const seat = (name: Uint8Array): Promise<CloseCode | undefined> =>
      dead.relays.enter(fakeEnd(), { role: "waiting", name, key: newKey() });
    const [paired, lonely] = [newKey(), newKey()];
    expect(await Promise.all([seat(paired), seat(lonely)])).toEqual([undefined, undefined]);
    const joining = relay(server, "joining", { name: paired });
    while ((await metric(server, "dcpipe_relay_ends")) !== 1);
    expect(await relay(server, "waiting", { name: lonely }).closed).toBe(CLOSE.USED);
    await dead.close();
    expect(await joining.closed).toBe(CLOSE.RESTART);
    // Whoever else wants its place has it then.
    for (;;) {
      const waiting = relay(server, "waiting", { name: lonely });
      const joined = relay(server, "joining", { name: lonely });
      const met = await through(joined, waiting).then(
        () => true,
        () => false,
      );
      if (met) break;
      expect(await waiting.closed).toBe(CLOSE.USED);
      await joined.vanish();
    }
  });
});

test("metrics", async () => {
  const server = await serve({ store: new MemoryStore() });
  const { waiting, joining } = await relayPair(server);
  const lonely = relay(server, "waiting", { name: newKey() });
  await lonely.opened;
  await through(waiting, joining, Buffer.alloc(1000, 1));
  const now = async (): Promise<number[]> =>
    Promise.all(
      [
        "dcpipe_relays",
        "dcpipe_relay_ends",
        "dcpipe_relayed_bytes_total",
        "dcpipe_messages_total",
        'dcpipe_relay_ends_closed_total{reason="left"}',
        'dcpipe_relay_ends_closed_total{reason="lost"}',
        'dcpipe_relay_ends_closed_total{reason="used"}',
        'dcpipe_refused_total{reason="left"}',
      ].map((name) => metric(server, name)),
    );
  // relayPair sends 16 bytes each way.
  expect(await now()).toEqual([1, 3, 1032, 0, 0, 0, 0, 0]);
  await joining.vanish();
  await waiting.closed;
  await lonely.vanish();
  const settled = [0, 0, 1032, 0, 1, 2, 0, 0];
  await expect.poll(now).toEqual(settled);
});

storeTest("nothing is left of relays that have been", async (open, kind) => {
  const limits = { relaysPerAddress: 2, relays: 2 };
  const [one, two] = await servers(open, kind, { limits });
  for (let i = 0; i < 5; i++) {
    const { waiting, joining } = await relayPair(one, two);
    waiting.socket.close(1000);
    await Promise.all([waiting.closed, joining.closed]);
    for (const server of [one, two]) while ((await metric(server, "dcpipe_relay_ends")) !== 0);
  }
  expect(await atStandstill(one, () => metric(one, "dcpipe_connections"))).toBe(0);
});
