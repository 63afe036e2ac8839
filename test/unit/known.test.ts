/** Doors and knocks, through a real rendezvous on loopback, over an ether without WebRTC. */
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type { KnownPeer } from "../../src/connect/appointment.ts";
import {
  joinKnown,
  waitKnown,
  type JoiningKnown,
  type KnownMet,
  type KnownOptions,
  type Purposes,
  type WaitKnownOptions,
} from "../../src/connect/known.ts";
import type { CodeEvent, Platform } from "../../src/connect/options.ts";
import { DcpipeError } from "../../src/errors.ts";
import { openSocket } from "../../src/node/websocket.ts";
import { MemoryStore } from "../../src/server/memory.ts";
import { Rendezvous } from "../../src/server/rendezvous.ts";
import { PeerKeys, type DoorKeys } from "../../src/signalling/known.ts";
import { Mailbox } from "../../src/signalling/mailbox.ts";
import { certificateFromSeed } from "../../src/transport/certificate.ts";
import { Ether, Host } from "./ether.ts";

/** A machine under load takes its time. */
const PATIENCE = { timeout: 20_000, interval: 10 };
const SECRET = new Uint8Array(32).fill(7);

let url: string;
let server: Rendezvous;
let a: Host;
let b: Host;
let sessions: KnownMet[];
let closing: { close(): void }[];

beforeEach(async () => {
  server = new Rendezvous({ store: new MemoryStore() });
  const { port } = await server.listen(0, "127.0.0.1");
  url = `http://127.0.0.1:${port}/`;
  const ether = new Ether();
  a = new Host(ether, "192.0.2.1");
  b = new Host(ether, "192.0.2.2");
  sessions = [];
  closing = [];
});

afterEach(async () => {
  for (const each of closing) each.close();
  for (const { session } of sessions) {
    session.closed.catch(() => undefined);
    session.fail(new DcpipeError("ABORTED", "the test is over"));
  }
  await server.close();
});

const certificates = {
  a: certificateFromSeed(new Uint8Array(48).fill(1)),
  b: certificateFromSeed(new Uint8Array(48).fill(2)),
};

/** What that side keeps of the other. */
function peerOf(side: "a" | "b", more: Partial<KnownPeer> = {}): KnownPeer {
  return {
    side,
    secret: SECRET,
    certificate: certificates[side],
    fingerprint: certificates[side === "a" ? "b" : "a"].fingerprint,
    rendezvous: url,
    ...more,
  };
}

function platform(host: Host): Platform {
  return { ...host.platform, openSocket };
}

function waiting(
  more: Partial<WaitKnownOptions> = {},
  peer = peerOf("a"),
): { met: KnownMet[]; events: CodeEvent[]; close: () => void } {
  const met: KnownMet[] = [];
  const events: CodeEvent[] = [];
  const known = waitKnown(platform(a), peer, "receive", {
    lan: false,
    stun: [],
    onsession: (one) => {
      sessions.push(one);
      met.push(one);
    },
    onevent: (event) => events.push(event),
    ...more,
  });
  closing.push(known);
  return {
    met,
    events,
    close: () => {
      known.close();
    },
  };
}

function joining(
  side: "a" | "b" = "b",
  purposes: Purposes = { own: "send", other: "receive" },
  more: Partial<KnownOptions> = {},
  peer = peerOf(side),
): JoiningKnown {
  const joined = joinKnown(platform(side === "a" ? a : b), peer, purposes, {
    lan: false,
    stun: [],
    timeout: 20,
    ...more,
  });
  joined.met.then(
    (met) => sessions.push(met),
    () => undefined,
  );
  closing.push(joined);
  return joined;
}

/** Someone at a door who holds nothing but what was seen there. Resolves with what becomes of its mailbox. */
function post(door: DoorKeys, body: Uint8Array): Promise<string> {
  return new Promise((resolve) => {
    const mailbox = new Mailbox({
      openSocket,
      url,
      place: { type: "open", role: "joining", name: door.name },
      body,
      onbody: () => undefined,
      onrestart: () => {
        mailbox.close();
        resolve("RESTART");
      },
      onclosed: (error) => {
        resolve(error?.code ?? "taken");
      },
    });
    onTestFinished(() => {
      mailbox.close();
    });
  });
}

function nonce(fill: number): Uint8Array {
  return new Uint8Array(16).fill(fill);
}

const DOOR = new PeerKeys(SECRET).door("a", "receive");

async function exchange(one: KnownMet, other: KnownMet): Promise<void> {
  const stream = one.session.open(Uint8Array.of(1));
  void stream.write(Uint8Array.of(5));
  expect(await (await other.session.accept()).read()).toEqual(Uint8Array.of(5));
}

describe("one waits, one joins", () => {
  test.each(["first", "last"])("the waiting side comes %s", async (when) => {
    const first = when === "first" ? waiting() : undefined;
    const joined = joining();
    const { met } = first ?? waiting();
    const theirs = await joined.met;
    await vi.waitUntil(() => met.length === 1, PATIENCE);
    expect(theirs.role).toBe("joining");
    expect(met[0]?.verifier).toBe(theirs.verifier);
    if (met[0]) await exchange(theirs, met[0]);
  });

  test("six at the same moment all get in, each with a session of its own", async () => {
    const { met } = waiting();
    const joined = Array.from({ length: 6 }, () => joining());
    const theirs = await Promise.all(joined.map((each) => each.met));
    await vi.waitUntil(() => met.length === 6, PATIENCE);
    expect(new Set(met.map(({ verifier }) => verifier))).toEqual(
      new Set(theirs.map(({ verifier }) => verifier)),
    );
    expect(new Set(met.map(({ attempt }) => attempt)).size).toBe(6);
  });

  test("another purpose is another door", async () => {
    waiting();
    const joined = joining("b", { own: "pipe", other: "forward" }, { timeout: 1 });
    await expect(joined.met).rejects.toMatchObject({ code: "TIMEOUT" });
  });

  test.each([
    ["secret", { secret: new Uint8Array(32).fill(8) }],
    ["certificate", { certificate: certificateFromSeed(new Uint8Array(48).fill(9)) }],
    ["fingerprint", { fingerprint: new Uint8Array(32) }],
  ])("another %s does not get in", async (_, wrong) => {
    const { met } = waiting();
    const joined = joining("b", undefined, { timeout: 2 }, peerOf("b", wrong));
    await expect(joined.met).rejects.toMatchObject({ code: "TIMEOUT" });
    expect(met).toEqual([]);
  });

  test("a closed door", async () => {
    const { met, close } = waiting();
    close();
    await expect(joining("b", undefined, { timeout: 1 }).met).rejects.toMatchObject({ code: "TIMEOUT" });
    expect(met).toEqual([]);
  });

  test("who is not admitted now is admitted later; never closes the door", async () => {
    let answers = 0;
    const { met } = waiting({ admits: () => (++answers === 1 ? "later" : answers === 2 ? "now" : "never") });
    await joining().met;
    await vi.waitUntil(() => met.length === 1, PATIENCE);
    await expect(joining("b", undefined, { timeout: 2 }).met).rejects.toMatchObject({ code: "TIMEOUT" });
    expect(met).toHaveLength(1);
    expect(answers).toBe(3);
  });
});

describe("both join", () => {
  test.each([
    [
      { own: "pipe", other: "pipe" },
      { own: "pipe", other: "pipe" },
    ],
    [
      { own: "send", other: "receive" },
      { own: "receive", other: "send" },
    ],
    [
      { own: "forward", other: "forward" },
      { own: "forward", other: "forward" },
    ],
  ] as const)("%j", async (one, other) => {
    const [first, second] = await Promise.all([joining("a", one).met, joining("b", other).met]);
    expect([first.role, second.role]).toEqual(["waiting", "joining"]);
    await exchange(first, second);
  });

  test("what does not go together does not meet", async () => {
    const both = [
      joining("a", { own: "send", other: "receive" }, { timeout: 1 }),
      joining("b", { own: "pipe", other: "pipe" }, { timeout: 1 }),
    ];
    for (const each of both) await expect(each.met).rejects.toMatchObject({ code: "TIMEOUT" });
  });
});

describe("knocks of strangers", () => {
  test("one that is played back is not taken again, and costs no connection", async () => {
    const { met } = waiting();
    const body = DOOR.sealKnock(nonce(1));
    expect(await post(DOOR, body)).toBe("taken");
    await vi.waitUntil(() => a.created === 1, PATIENCE);
    // The session is still being made: a knock that was disturbed comes again like this.
    expect(await post(DOOR, body)).toBe("taken");
    await joining().met;
    await vi.waitUntil(() => met.length === 1, PATIENCE);
    expect(a.created).toBe(2);
  });

  test("after its session it is not taken at all", async () => {
    const seen: Uint8Array[] = [];
    const spying: Platform = {
      ...platform(b),
      openSocket: async (where, options) => {
        for (const text of options.protocols)
          if (text.startsWith("dcpipe-first.")) seen.push(Buffer.from(text.slice(13), "base64url"));
        return openSocket(where, options);
      },
    };
    const { met } = waiting();
    const joined = joinKnown(
      spying,
      peerOf("b"),
      { own: "send", other: "receive" },
      { lan: false, stun: [] },
    );
    closing.push(joined);
    sessions.push(await joined.met);
    await vi.waitUntil(() => met.length === 1, PATIENCE);
    // POST, index 0, and the sealed knock.
    const knock = seen.find((message) => message[0] === 5)?.subarray(2);
    expect(knock).toBeDefined();
    if (knock) expect(await post(DOOR, knock)).toBe("INTERRUPTED");
    expect(a.created).toBe(1);
  });

  test("eight sessions at most are being made", async () => {
    waiting();
    for (let i = 0; i < 8; i++) expect(await post(DOOR, DOOR.sealKnock(nonce(i)))).toBe("taken");
    expect(await post(DOOR, DOOR.sealKnock(nonce(8)))).toBe("INTERRUPTED");
    expect(a.created).toBe(8);
  });

  test("what is no knock is passed over", async () => {
    const { met } = waiting();
    for (const body of [
      Uint8Array.of(9),
      new PeerKeys(new Uint8Array(32)).door("a", "receive").sealKnock(nonce(1)),
    ])
      expect(await post(DOOR, body)).toBe("INTERRUPTED");
    await joining().met;
    await vi.waitUntil(() => met.length === 1, PATIENCE);
  });
});

test("who gives up in the middle of it is not waited for", async () => {
  // By the relay it would be over soon.
  const { met } = waiting({ relay: "off", admits: () => (known.busy ? "later" : "now") });
  const known = closing[0] as unknown as { busy: boolean };
  // Addresses never come through, so that it stays in the middle.
  b.ether.up = false;
  const joined = joining("b", undefined, { relay: "off" });
  // The other one's address has come, so it was there.
  const told = (): boolean => [...a.ether.peers].some((peer) => peer.host === a && peer.known.length > 0);
  await vi.waitUntil(told, PATIENCE);
  expect(known.busy).toBe(true);
  joined.close();
  await vi.waitUntil(() => !known.busy, { timeout: 10_000, interval: 10 });
  b.ether.up = true;
  await joining().met;
  await vi.waitUntil(() => met.length === 1, PATIENCE);
});

test("two that wait at the same door do not fight", async () => {
  const one = waiting();
  await post(DOOR, Uint8Array.of(9));
  const other = waiting();
  const warnings = (events: CodeEvent[]): number => events.filter(({ event }) => event === "warning").length;
  await vi.waitUntil(() => warnings(one.events) + warnings(other.events) === 1, PATIENCE);
  await joining().met;
  await vi.waitUntil(() => one.met.length + other.met.length === 1, PATIENCE);
  // Whoever gave way is still away.
  expect(warnings(one.events) + warnings(other.events)).toBe(1);
});

test("a rendezvous that is not there, or is none", async () => {
  const joined = joining("b", undefined, { rendezvous: "http://127.0.0.1:1/", timeout: 2 });
  await expect(joined.met).rejects.toThrow(/within 2 s \(.*127\.0\.0\.1/);
  await expect(joining("b", undefined, { rendezvous: "ftp://nowhere/" }).met).rejects.toMatchObject({
    code: "USAGE",
  });
});

test("nowhere to meet", () => {
  expect(() => joining("b", undefined, { rendezvous: false })).toThrow(/no rendezvous is known/);
  expect(() => waiting({}, peerOf("a", { rendezvous: null }))).toThrow(/no rendezvous is known/);
});

test("options that no session can be made with are told at once", () => {
  expect(() => joining("b", undefined, { stun: ["https://x"] })).toThrow(/no STUN server/);
  expect(() => waiting({ reconnect: -1 })).toThrow(/reconnect/);
});

test("a signal that stays is left alone when the waiting ends", () => {
  const { signal } = new AbortController();
  const remove = vi.spyOn(signal, "removeEventListener");
  const add = vi.spyOn(signal, "addEventListener");
  waiting({ signal }).close();
  expect(remove.mock.calls.map(([, listener]) => listener)).toEqual(
    add.mock.calls.map(([, listener]) => listener),
  );
  expect(add).toHaveBeenCalled();
});
