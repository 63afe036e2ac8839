/** Section 7 of docs/protocol.md, message by message, over real WebSockets; the same for every store. */
import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../src/server/memory.ts";
import type { Store } from "../../src/server/store.ts";
import { toBase64url } from "../../src/wire/bytes.ts";
import {
  CLOSE,
  encodeClientMessage,
  FIRST_MESSAGE_PREFIX,
  MAX_BODIES,
  MAX_BODY,
  OUTCOMES,
} from "../../src/wire/rendezvous.ts";
import { storeTest } from "./redis.ts";
import { allocate, body, claim, newKey, serve, type Server, type Visitor } from "./visitor.ts";

/** A waiting and a joining side who have heard of each other, at one server or at two. */
async function meet(
  one: Server,
  other = one,
): Promise<{
  waiting: Visitor;
  joining: Visitor;
  nameplate: number;
  keys: { waiting: Uint8Array; joining: Uint8Array };
}> {
  const { visitor: waiting, nameplate, key } = await allocate(one);
  const joined = await claim(other, nameplate);
  await waiting.hear("SERVERS");
  await waiting.hear("JOINED");
  return { waiting, joining: joined.visitor, nameplate, keys: { waiting: key, joining: joined.key } };
}

/** One server on one store, or two that share it: where there can be two, everything holds between them as well. */
async function twoServers(open: () => Store, kind: string): Promise<[Server, Server]> {
  const one = await serve({ store: open() });
  return [one, kind === "memory" ? one : await serve({ store: open() })];
}

describe("an introduction", () => {
  storeTest("all of it", async (open, kind) => {
    const [one, two] = await twoServers(open, kind);
    const { visitor: waiting, nameplate, link, stored } = await allocate(one);
    expect({ link, stored }).toEqual({ link: "", stored: 0 });
    expect(nameplate).toBeLessThan(10);
    await waiting.say({ type: "POST", index: 0, body: body("hello") });
    const joining = two.visit({ first: { type: "CLAIM", key: newKey(), nameplate } });
    expect(await joining.hear("ATTACHED")).toEqual({ type: "ATTACHED", stored: 0 });
    expect(await joining.hear("SERVERS")).toEqual({ type: "SERVERS", servers: [] });
    expect(await joining.hear("MESSAGE")).toMatchObject({ index: 0, body: body("hello") });
    await waiting.hear("SERVERS");
    await waiting.hear("JOINED");
    await joining.say(
      { type: "POST", index: 0, body: body("answer") },
      { type: "POST", index: 1, body: body("addresses") },
    );
    expect(await waiting.hear("MESSAGE")).toMatchObject({ index: 0, body: body("answer") });
    expect(await waiting.hear("MESSAGE")).toMatchObject({ index: 1, body: body("addresses") });
    await waiting.say({ type: "POST", index: 1, body: body("confirm") });
    expect(await joining.hear("MESSAGE")).toMatchObject({ index: 1, body: body("confirm") });
    await waiting.say({ type: "RELEASE", outcome: "direct" });
    expect(await Promise.all([waiting.closed, joining.closed])).toEqual([CLOSE.RELEASED, CLOSE.RELEASED]);
    expect(waiting.unheard).toEqual([]);
    expect(joining.unheard).toEqual([]);
  });

  storeTest("the first message may come by itself", async (open) => {
    const server = await serve({ store: open(), publicUrl: "https://example.org/meet/" });
    const visitor = server.visit();
    await visitor.say({ type: "ALLOCATE", key: newKey(), nameplate: 0 });
    expect(await visitor.hear("ALLOCATED")).toMatchObject({ link: "https://example.org/meet/" });
    await visitor.hear("ATTACHED");
  });

  storeTest("bodies may follow the first message at once", async (open) => {
    const server = await serve({ store: open() });
    const waiting = server.visit();
    await waiting.say(
      { type: "ALLOCATE", key: newKey(), nameplate: 0 },
      { type: "POST", index: 0, body: body("early") },
    );
    const { nameplate } = await waiting.hear("ALLOCATED");
    const { visitor: joining } = await claim(server, nameplate);
    expect(await joining.hear("MESSAGE")).toMatchObject({ body: body("early") });
  });

  storeTest("bodies of the largest size, as many as there may be", async (open, kind) => {
    const [one, two] = await twoServers(open, kind);
    const { waiting, joining } = await meet(one, two);
    for (let index = 0; index < MAX_BODIES; index++)
      await waiting.say({ type: "POST", index, body: new Uint8Array(MAX_BODY).fill(index) });
    for (let index = 0; index < MAX_BODIES; index++) {
      const heard = await joining.hear("MESSAGE");
      expect(heard.index).toBe(index);
      expect(heard.body).toEqual(new Uint8Array(MAX_BODY).fill(index));
    }
  });

  for (const outcome of OUTCOMES) {
    storeTest(`released with ${outcome}`, async (open, kind) => {
      const [one, two] = await twoServers(open, kind);
      const { waiting, joining } = await meet(one, two);
      await joining.say({ type: "RELEASE", outcome });
      const told = { direct: 4000, turn: 4000, relay: 4000, failed: 4009, wrong: 4005, left: 4009 };
      expect(await joining.closed).toBe(CLOSE.RELEASED);
      expect(await waiting.closed).toBe(told[outcome]);
    });
  }
});

describe("nameplates", () => {
  storeTest("are short, different, and longer when a third is taken", async (open) => {
    const server = await serve({ store: open() });
    const taken: number[] = [];
    for (let i = 0; i < 12; i++) taken.push((await allocate(server)).nameplate);
    expect(new Set(taken).size).toBe(12);
    expect(taken.slice(0, 3).every((nameplate) => nameplate < 10)).toBe(true);
    expect(taken.slice(3).every((nameplate) => nameplate >= 10 && nameplate < 1000)).toBe(true);
  });

  storeTest("a wish is granted when it is free", async (open) => {
    const server = await serve({ store: open() });
    expect((await allocate(server, { nameplate: 999_999 })).nameplate).toBe(999_999);
    expect((await allocate(server, { nameplate: 999_999 })).nameplate).not.toBe(999_999);
  });

  storeTest("a wish of who has it already attaches again", async (open) => {
    const server = await serve({ store: open() });
    const first = await allocate(server);
    await first.visitor.say({ type: "POST", index: 0, body: body("kept") });
    const { visitor } = await claim(server, first.nameplate);
    await visitor.hear("MESSAGE");
    const again = await allocate(server, { key: first.key, nameplate: first.nameplate });
    expect(again).toMatchObject({ nameplate: first.nameplate, stored: 1 });
    await again.visitor.hear("SERVERS");
    await again.visitor.hear("JOINED");
    expect(await first.visitor.closed).toBe(CLOSE.GOING_AWAY);
  });

  storeTest("unknown ones", async (open) => {
    const server = await serve({ store: open() });
    expect(await server.visit({ first: { type: "CLAIM", key: newKey(), nameplate: 5 } }).closed).toBe(
      CLOSE.UNKNOWN,
    );
  });

  storeTest("the first claim burns one, looking is claiming", async (open, kind) => {
    const [one, two] = await twoServers(open, kind);
    const { visitor: waiting, nameplate } = await allocate(one);
    const prober = two.visit({ first: { type: "CLAIM", key: newKey(), nameplate } });
    await prober.hear("ATTACHED");
    await prober.vanish();
    await waiting.hear("SERVERS");
    await waiting.hear("JOINED");
    const late = one.visit({ first: { type: "CLAIM", key: newKey(), nameplate } });
    expect(await late.closed).toBe(CLOSE.USED);
    await waiting.say({ type: "RELEASE", outcome: "failed" });
    expect(await waiting.closed).toBe(CLOSE.RELEASED);
    const later = two.visit({ first: { type: "CLAIM", key: newKey(), nameplate } });
    expect(await later.closed).toBe(CLOSE.USED);
    // Nor is it given to anybody else.
    expect((await allocate(one, { nameplate })).nameplate).not.toBe(nameplate);
  });

  storeTest("one that nobody claimed is free again when it is released", async (open) => {
    const server = await serve({ store: open() });
    const { visitor, nameplate } = await allocate(server);
    await visitor.say({ type: "RELEASE", outcome: "left" });
    expect(await visitor.closed).toBe(CLOSE.RELEASED);
    expect((await allocate(server, { nameplate })).nameplate).toBe(nameplate);
  });

  storeTest("a used one is free again in time", async (open) => {
    const limits = { usedMs: 1 };
    const server = await serve({ store: open(limits), limits });
    const { waiting, nameplate } = await meet(server);
    await waiting.say({ type: "RELEASE", outcome: "direct" });
    await waiting.closed;
    let got: number;
    do got = (await allocate(server, { nameplate })).nameplate;
    while (got !== nameplate);
  });
});

describe("coming back", () => {
  storeTest("with RESUME: nothing is missed, nothing comes twice", async (open, kind) => {
    const [one, two] = await twoServers(open, kind);
    const { waiting, joining, nameplate, keys } = await meet(one, two);
    await waiting.say({ type: "POST", index: 0, body: body("w0") });
    await joining.hear("MESSAGE");
    await joining.vanish();
    await waiting.say(
      { type: "POST", index: 1, body: body("w1") },
      { type: "POST", index: 2, body: body("w2") },
    );
    const back = one.visit({
      first: { type: "RESUME", key: keys.joining, role: "joining", nameplate, received: 1 },
    });
    expect(await back.hear("ATTACHED")).toMatchObject({ stored: 0 });
    await back.hear("SERVERS");
    expect(await back.hear("MESSAGE")).toMatchObject({ index: 1, body: body("w1") });
    expect(await back.hear("MESSAGE")).toMatchObject({ index: 2, body: body("w2") });
    await back.say({ type: "POST", index: 0, body: body("j0") });
    expect(await waiting.hear("MESSAGE")).toMatchObject({ index: 0 });
    await waiting.vanish();
    await back.say({ type: "POST", index: 1, body: body("j1") });
    const again = two.visit({
      first: { type: "RESUME", key: keys.waiting, role: "waiting", nameplate, received: 0 },
    });
    expect(await again.hear("ATTACHED")).toMatchObject({ stored: 3 });
    await again.hear("SERVERS");
    await again.hear("JOINED");
    expect(await again.hear("MESSAGE")).toMatchObject({ index: 0 });
    expect(await again.hear("MESSAGE")).toMatchObject({ index: 1 });
    await again.say({ type: "POST", index: 3, body: body("w3") });
    expect(await back.hear("MESSAGE")).toMatchObject({ index: 3 });
    expect(back.unheard).toEqual([]);
  });

  storeTest("a waiting side hears of a claim that it missed", async (open) => {
    const server = await serve({ store: open() });
    const { visitor, nameplate, key } = await allocate(server);
    await visitor.vanish();
    const { visitor: joining } = await claim(server, nameplate);
    const back = server.visit({ first: { type: "RESUME", key, role: "waiting", nameplate, received: 0 } });
    await back.hear("ATTACHED");
    await back.hear("SERVERS");
    await back.hear("JOINED");
    await back.say({ type: "POST", index: 0, body: body("hello") });
    await joining.hear("MESSAGE");
  });

  storeTest("with CLAIM and the same key", async (open) => {
    const server = await serve({ store: open() });
    const { nameplate } = await allocate(server);
    const { visitor, key } = await claim(server, nameplate);
    await visitor.vanish();
    await claim(server, nameplate, { key });
  });

  storeTest("twice: the later connection counts", async (open, kind) => {
    const [one, two] = await twoServers(open, kind);
    const { waiting, joining, nameplate, keys } = await meet(one, two);
    const again = two.visit({
      first: { type: "RESUME", key: keys.waiting, role: "waiting", nameplate, received: 0 },
    });
    await again.hear("ATTACHED");
    await again.hear("SERVERS");
    await again.hear("JOINED");
    expect(await waiting.closed).toBe(CLOSE.GOING_AWAY);
    await joining.say({ type: "POST", index: 0, body: body("here") });
    await again.hear("MESSAGE");
  });

  storeTest("where nothing is", async (open) => {
    const server = await serve({ store: open() });
    const { nameplate } = await allocate(server);
    for (const message of [
      { type: "RESUME", key: newKey(), role: "waiting", nameplate, received: 0 },
      { type: "RESUME", key: newKey(), role: "joining", nameplate, received: 0 },
      { type: "RESUME", key: newKey(), role: "waiting", nameplate: 777, received: 0 },
    ] as const)
      expect(await server.visit({ first: message }).closed).toBe(CLOSE.UNKNOWN);
    // None of that has burned it.
    await claim(server, nameplate);
  });

  storeTest("with more than there was", async (open) => {
    const server = await serve({ store: open() });
    const { nameplate, key } = await allocate(server);
    const first = { type: "RESUME", key, role: "waiting", nameplate, received: 1 } as const;
    expect(await server.visit({ first }).closed).toBe(CLOSE.UNKNOWN);
  });
});

describe("bodies", () => {
  storeTest("one that is kept already is passed over", async (open) => {
    const server = await serve({ store: open() });
    const { waiting, joining } = await meet(server);
    await waiting.say({ type: "POST", index: 0, body: body("first") });
    await waiting.say({ type: "POST", index: 0, body: body("again") });
    await waiting.say({ type: "POST", index: 1, body: body("second") });
    expect(await joining.hear("MESSAGE")).toMatchObject({ index: 0, body: body("first") });
    expect(await joining.hear("MESSAGE")).toMatchObject({ index: 1, body: body("second") });
  });

  storeTest("a gap breaks the protocol", async (open) => {
    const server = await serve({ store: open() });
    const { waiting } = await meet(server);
    await waiting.say({ type: "POST", index: 1, body: body("too soon") });
    expect(await waiting.closed).toBe(CLOSE.PROTOCOL);
  });

  storeTest("too many", async (open) => {
    const server = await serve({ store: open() });
    const { visitor } = await allocate(server);
    for (let index = 0; index < MAX_BODIES; index++)
      await visitor.say({ type: "POST", index, body: body("x") });
    await visitor.opened;
    // What the codec would not write: POST, index 64 as a varint, a body.
    visitor.socket.send(Uint8Array.of(0x05, 0x40, 0x40, 0));
    expect(await visitor.closed).toBe(CLOSE.LIMIT);
  });
});

describe("mailboxes with a name", () => {
  const name = newKey();
  const opening = (role: "waiting" | "joining", key: Uint8Array, received = 0) =>
    ({ type: "OPEN", key, role, name, received }) as const;

  for (const first of ["waiting", "joining"] as const) {
    storeTest(`both come, first the ${first} one`, async (open, kind) => {
      const [one, two] = await twoServers(open, kind);
      const second = first === "waiting" ? "joining" : "waiting";
      const early = one.visit({ first: opening(first, newKey()) });
      await early.hear("ATTACHED");
      await early.say({ type: "POST", index: 0, body: body("addresses") });
      const late = two.visit({ first: opening(second, newKey()) });
      await late.hear("ATTACHED");
      await late.hear("SERVERS");
      if (second === "waiting") await late.hear("JOINED");
      await early.hear("SERVERS");
      if (first === "waiting") await early.hear("JOINED");
      expect(await late.hear("MESSAGE")).toMatchObject({ index: 0 });
      await late.say({ type: "POST", index: 0, body: body("mine") });
      expect(await early.hear("MESSAGE")).toMatchObject({ index: 0 });
      await early.say({ type: "RELEASE", outcome: "direct" });
      expect(await late.closed).toBe(CLOSE.RELEASED);
    });
  }

  storeTest("the same key comes back to it", async (open, kind) => {
    const [one, two] = await twoServers(open, kind);
    const [key, other] = [newKey(), newKey()];
    const waiting = one.visit({ first: opening("waiting", key) });
    await waiting.hear("ATTACHED");
    await waiting.say({ type: "POST", index: 0, body: body("0") });
    const joining = two.visit({ first: opening("joining", other) });
    await joining.hear("ATTACHED");
    await joining.hear("SERVERS");
    await joining.hear("MESSAGE");
    await joining.vanish();
    const back = one.visit({ first: opening("joining", other, 1) });
    await back.hear("ATTACHED");
    await back.hear("SERVERS");
    await waiting.say({ type: "POST", index: 1, body: body("1") });
    expect(await back.hear("MESSAGE")).toMatchObject({ index: 1 });
  });

  storeTest("another key begins it anew", async (open, kind) => {
    const [one, two] = await twoServers(open, kind);
    const waiting = one.visit({ first: opening("waiting", newKey()) });
    await waiting.hear("ATTACHED");
    const joining = two.visit({ first: opening("joining", newKey()) });
    await joining.hear("ATTACHED");
    const fresh = two.visit({ first: opening("waiting", newKey()) });
    expect(await fresh.hear("ATTACHED")).toMatchObject({ stored: 0 });
    expect(await Promise.all([waiting.closed, joining.closed])).toEqual([CLOSE.RESTART, CLOSE.RESTART]);
    const next = one.visit({ first: opening("joining", newKey()) });
    await next.hear("ATTACHED");
    await fresh.hear("SERVERS");
    await fresh.hear("JOINED");
  });

  storeTest("who speaks of an older one begins anew", async (open) => {
    const server = await serve({ store: open() });
    const visitor = server.visit({ first: opening("joining", newKey(), 1) });
    expect(await visitor.closed).toBe(CLOSE.RESTART);
  });
});

describe("what is not allowed", () => {
  test.each<[string, Uint8Array | string, number]>([
    ["an unknown message", Uint8Array.of(0x77), CLOSE.PROTOCOL],
    ["an empty message", Uint8Array.of(), CLOSE.PROTOCOL],
    ["a cut message", Uint8Array.of(0x01, 1, 2), CLOSE.PROTOCOL],
    ["a text message", "hello", CLOSE.PROTOCOL],
    ["a message that is too big", new Uint8Array(5000), CLOSE.TOO_BIG],
    ["POST before anything", Uint8Array.of(0x05, 0, 1), CLOSE.PROTOCOL],
    ["RENEW before anything", Uint8Array.of(0x06), CLOSE.PROTOCOL],
    ["RELEASE before anything", Uint8Array.of(0x07, 5), CLOSE.PROTOCOL],
  ])("%s", async (_, message, code) => {
    const server = await serve({ store: new MemoryStore() });
    const visitor = server.visit();
    await visitor.opened;
    visitor.socket.send(message);
    expect(await visitor.closed).toBe(code);
  });

  test("a second first message", async () => {
    const server = await serve({ store: new MemoryStore() });
    const { visitor } = await allocate(server);
    await visitor.say({ type: "ALLOCATE", key: newKey(), nameplate: 0 });
    expect(await visitor.closed).toBe(CLOSE.PROTOCOL);
  });

  test.each([
    ["only a later version", ["dcpipe-rendezvous.2"], CLOSE.VERSION],
    ["a first message that is none", ["dcpipe-rendezvous.1", "dcpipe-first.AA"], CLOSE.PROTOCOL],
    ["a first message that is no base64url", ["dcpipe-rendezvous.1", "dcpipe-first.A"], CLOSE.PROTOCOL],
    ["an empty first message", ["dcpipe-rendezvous.1", "dcpipe-first."], CLOSE.PROTOCOL],
  ])("offered: %s", async (_, protocols, code) => {
    const server = await serve({ store: new MemoryStore() });
    const visitor = server.visit({ protocols });
    await visitor.opened;
    expect(await visitor.closed).toBe(code);
  });

  test("several first messages are taken in their order", async () => {
    const server = await serve({ store: new MemoryStore() });
    const messages = [
      { type: "ALLOCATE", key: newKey(), nameplate: 0 },
      { type: "POST", index: 0, body: body("with it") },
      { type: "POST", index: 1, body: body("and this") },
    ] as const;
    const texts = messages.map((message) => FIRST_MESSAGE_PREFIX + toBase64url(encodeClientMessage(message)));
    const waiting = server.visit({ protocols: ["dcpipe-rendezvous.1", ...texts] });
    const { nameplate } = await waiting.hear("ALLOCATED");
    const { visitor: joining } = await claim(server, nameplate);
    expect(await joining.hear("MESSAGE")).toMatchObject({ body: body("with it") });
    expect(await joining.hear("MESSAGE")).toMatchObject({ body: body("and this") });
  });

  test("a later version beside ours is passed over", async () => {
    const server = await serve({ store: new MemoryStore() });
    const visitor = server.visit({ protocols: ["dcpipe-rendezvous.2", "dcpipe-rendezvous.1"] });
    await visitor.opened;
    expect(visitor.socket.protocol).toBe("dcpipe-rendezvous.1");
    expect(visitor.socket.extensions).toBe("");
  });

  test("a rendezvous for one key", async () => {
    const onlyKey = newKey();
    const server = await serve({ store: new MemoryStore(), onlyKey });
    const { nameplate } = await allocate(server, { key: onlyKey });
    const stranger = server.visit({ first: { type: "ALLOCATE", key: newKey(), nameplate: 0 } });
    expect(await stranger.closed).toBe(CLOSE.LIMIT);
    await claim(server, nameplate);
  });

  test("a rendezvous for one key: others open what it has opened", async () => {
    const onlyKey = newKey();
    const server = await serve({ store: new MemoryStore(), onlyKey });
    const open = (key: Uint8Array, role: "waiting" | "joining", name: Uint8Array) =>
      server.visit({ first: { type: "OPEN", key, role, name, received: 0 } });
    const name = newKey();
    expect(await open(newKey(), "waiting", name).closed).toBe(CLOSE.UNKNOWN);
    expect(await open(newKey(), "joining", name).closed).toBe(CLOSE.UNKNOWN);
    // Who comes a moment before it waits for it.
    const early = open(newKey(), "joining", name);
    await early.opened;
    const holder = open(onlyKey, "waiting", name);
    await holder.hear("ATTACHED");
    await early.hear("ATTACHED");
    await holder.hear("SERVERS");
    await holder.hear("JOINED");
    // Between two of its mailboxes of that name, too.
    await holder.say({ type: "RELEASE", outcome: "direct" });
    expect(await early.closed).toBe(CLOSE.RELEASED);
    await open(newKey(), "joining", name).hear("ATTACHED");
    // The oldest of many is forgotten.
    for (let i = 0; i < 64; i++) await open(onlyKey, "waiting", newKey()).hear("ATTACHED");
    expect(await open(newKey(), "joining", name).closed).toBe(CLOSE.UNKNOWN);
  });
});

describe("TURN servers", () => {
  test("both sides get credentials when both have come", async () => {
    const server = await serve({
      store: new MemoryStore(),
      turn: { urls: ["turn:a.example:3478", "turns:b.example:443?transport=tcp"], secret: "north" },
    });
    const { visitor: waiting, nameplate } = await allocate(server);
    const joining = server.visit({ first: { type: "CLAIM", key: newKey(), nameplate } });
    await joining.hear("ATTACHED");
    const { servers } = await joining.hear("SERVERS");
    expect(servers.map(({ url }) => url)).toEqual([
      "turn:a.example:3478",
      "turns:b.example:443?transport=tcp",
    ]);
    expect(servers[0]?.username).toMatch(/^\d{10}:dcpipe$/);
    expect(Number(servers[0]?.username.split(":")[0])).toBeGreaterThan(Date.now() / 1000 + 23 * 3600);
    expect(await waiting.hear("SERVERS")).toMatchObject({ servers: [{ url: "turn:a.example:3478" }, {}] });
    await waiting.hear("JOINED");
  });
});
