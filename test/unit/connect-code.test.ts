/** From a code to a session through a rendezvous in memory, honest or not, over an ether without WebRTC. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { connectByCode, listenByCode } from "../../src/connect/code.ts";
import type { CodeEvent, CodeOptions } from "../../src/connect/options.ts";
import { DcpipeError, type ErrorCode } from "../../src/errors.ts";
import { formatCode, type Code } from "../../src/wire/code.ts";
import type { Role } from "../../src/wire/hello.ts";
import { Ether, Host } from "./ether.ts";
import { GoBetween, type Tamper } from "./go-between.ts";
import { pass, settled, startTime, stopTime, within } from "./network.ts";

const URL = "http://rendezvous.test/";
let ether: Ether;
let near: Host;
let far: Host;
let server: GoBetween;
let events: { side: Role; event: CodeEvent }[];
let closing: { close(): void; session: Promise<unknown> }[];

function options(side: Role, more: Partial<CodeOptions> = {}): CodeOptions {
  return {
    rendezvous: URL,
    lan: false,
    stun: [],
    onevent: (event) => events.push({ side, event }),
    ...more,
  };
}

async function waiting(more?: Partial<CodeOptions> & { words?: number }) {
  const platform = { ...near.platform, openSocket: server.openSocket };
  const listening = await within(listenByCode(platform, { ...options("waiting", more), words: more?.words }));
  closing.push(listening);
  return listening;
}

function joining(code: Code, more?: Partial<CodeOptions>) {
  const joined = connectByCode(
    { ...far.platform, openSocket: server.openSocket },
    code,
    options("joining", more),
  );
  closing.push(joined);
  return joined;
}

function codeOf(promise: Promise<unknown>): Promise<ErrorCode | "met"> {
  return promise.then(
    () => "met" as const,
    (error: unknown) => (error as DcpipeError).code,
  );
}

/** What becomes of both sides. */
function both(a: Promise<unknown>, b: Promise<unknown>): Promise<(ErrorCode | "met")[]> {
  return within(Promise.all([codeOf(a), codeOf(b)]));
}

beforeEach(() => {
  stopTime();
  ether = new Ether();
  near = new Host(ether, "192.0.2.1");
  far = new Host(ether, "192.0.2.2");
  server = new GoBetween();
  events = [];
  closing = [];
});

afterEach(async () => {
  for (const each of closing) {
    each.close();
    each.session.catch(() => undefined);
  }
  await pass(3000);
  await settled();
  startTime();
});

describe("an honest rendezvous", () => {
  test("brings together who has the same code", async () => {
    const first = await waiting();
    expect(formatCode(first.code)).toMatch(/^7-[a-z]{5,9}-[a-z]{5,9}$/);
    const second = joining(first.code);
    const [a, b] = await within(Promise.all([first.session, second.session]));
    const stream = b.open(Uint8Array.of(1));
    void stream.write(Uint8Array.of(1, 2, 3));
    const theirs = await within(a.accept());
    expect(await within(theirs.read())).toEqual(Uint8Array.of(1, 2, 3));
    expect(await first.verifier).toBe(await second.verifier);
    expect(await first.verifier).toMatch(/^([a-z]{5,9}-){7}[a-z]{5,9}$/);
    await pass(2000);
    expect(server.mailboxes.size).toBe(0);
    expect(server.outcomes[0]).toBe("direct");
  });

  test("works whichever side can be reached", async () => {
    for (const hidden of [near, far]) {
      hidden.hidden = true;
      const first = await waiting();
      const second = joining(first.code);
      expect(await both(first.session, second.session)).toEqual(["met", "met"]);
      hidden.hidden = false;
    }
  });

  test("works where one side is told nothing of its own addresses", async () => {
    for (const discreet of [near, far]) {
      discreet.discreet = discreet.hidden = true;
      const first = await waiting();
      const second = joining(first.code);
      expect(
        await within(
          Promise.all([first.session, second.session]).then(() => "met"),
          3000,
        ),
      ).toBe("met");
      discreet.discreet = discreet.hidden = false;
    }
  });

  test("works with addresses that come while a connection is made", async () => {
    // The joining side's only hope: it is not found.
    far.hidden = true;
    far.slowness = 500;
    const first = await waiting();
    const second = joining(first.code);
    expect(
      await within(
        Promise.all([first.session, second.session]).then(() => "met"),
        3000,
      ),
    ).toBe("met");
  });

  test("sees neither the words nor an address", async () => {
    const first = await waiting();
    const second = joining(first.code);
    expect(await both(first.session, second.session)).toEqual(["met", "met"]);
    const seen = server.seen.join("\n");
    expect(seen.length).toBeGreaterThan(300);
    for (const word of first.code.password.split("-")) expect(seen).not.toContain(word);
    for (const address of [
      [192, 0, 2, 1],
      [192, 0, 2, 2],
    ])
      expect(seen).not.toContain(Buffer.from(address).toString("latin1"));
  });

  test("a wrong word burns the code, and both sides know at once", async () => {
    const first = await waiting();
    const second = joining({ ...first.code, password: "acorn-acorn" });
    expect(await both(first.session, second.session)).toEqual(["CODE_WRONG", "CODE_WRONG"]);
    expect(server.mailboxes.size).toBe(0);
    expect(server.outcomes).toContain("wrong");
    // And the right one comes too late.
    expect(await within(codeOf(joining(first.code).session))).toBe("CODE_UNKNOWN");
  });

  test("an unknown nameplate", async () => {
    expect(await within(codeOf(joining({ nameplate: 99, password: "acorn-album" }).session))).toBe(
      "CODE_UNKNOWN",
    );
  });

  test("a third party is refused", async () => {
    const first = await waiting();
    const second = joining(first.code);
    await pass(12);
    const third = joining(first.code);
    expect(await within(codeOf(third.session))).toBe("CODE_USED");
    expect(await both(first.session, second.session)).toEqual(["met", "met"]);
  });

  test("who claims and says nothing burns the code", async () => {
    const first = await waiting();
    server.tamper = (from, _index, body) => (from === "joining" ? [] : [{ to: "joining", body }]);
    const second = joining(first.code);
    expect(await both(first.session, second.session)).toEqual(["CODE_WRONG", "CODE_WRONG"]);
  });

  test("who leaves tells the other side", async () => {
    near.hidden = far.hidden = true;
    const first = await waiting();
    const second = joining(first.code);
    await pass(1000);
    second.close();
    expect(await both(first.session, second.session)).toEqual(["INTERRUPTED", "ABORTED"]);
  });

  test("without a path both fail with a reason", async () => {
    near.hidden = far.hidden = true;
    const first = await waiting();
    const second = joining(first.code);
    for (const code of await both(first.session, second.session))
      expect(["TIMEOUT", "ICE_FAILED", "INTERRUPTED"]).toContain(code);
    expect(server.outcomes).toContain("failed");
  });

  test("lends its TURN servers", async () => {
    server.servers = [
      { url: "turn:192.0.2.9:3478", username: "1:dcpipe", credential: "secret" },
      { url: "turns:192.0.2.9:443", username: "1:dcpipe", credential: "secret" },
    ];
    const first = await waiting();
    const second = joining(first.code);
    expect(await both(first.session, second.session)).toEqual(["met", "met"]);
    for (const host of [near, far])
      expect([...ether.peers].find((peer) => peer.host === host)?.config.turn).toEqual([
        { host: "192.0.2.9", port: 3478, transport: "udp", username: "1:dcpipe", password: "secret" },
        { host: "192.0.2.9", port: 443, transport: "tls", username: "1:dcpipe", password: "secret" },
      ]);
  });

  test("codes of the length asked for", async () => {
    expect((await waiting({ words: 5 })).code.password.split("-")).toHaveLength(5);
    await expect(waiting({ words: 1 })).rejects.toMatchObject({ code: "USAGE" });
    await expect(waiting({ words: 13 })).rejects.toMatchObject({ code: "USAGE" });
  });
});

describe("a rendezvous that goes away", () => {
  test("before the other side comes: its mailbox is found again", async () => {
    const first = await waiting();
    server.down = true;
    server.kill(false);
    await pass(5000);
    expect(events.map(({ event }) => event.event)).toContain("rendezvous");
    server.down = false;
    await pass(20_000);
    const second = joining(first.code);
    expect(await both(first.session, second.session)).toEqual(["met", "met"]);
    const said = events.filter(({ event }) => event.event === "rendezvous");
    expect(said.map(({ event }) => event.event === "rendezvous" && event.trouble)).toEqual([
      expect.any(String),
      undefined,
    ]);
  });

  test("and forgets: the code stays as it is", async () => {
    const first = await waiting();
    server.kill(true);
    await pass(5000);
    expect(events.filter(({ event }) => event.event === "code").map(({ event }) => event)).toEqual([
      { event: "code", code: first.code, rendezvous: URL },
    ]);
    const second = joining(first.code);
    expect(await both(first.session, second.session)).toEqual(["met", "met"]);
  });

  test("and forgets, and somebody else has the nameplate now: there is a new code", async () => {
    const first = await waiting();
    server.kill(true);
    server.mailboxes.set(7, {
      nameplate: 7,
      sides: {
        waiting: { key: "theirs", bodies: [], delivered: 0, seat: undefined },
        joining: { key: "", bodies: [], delivered: 0, seat: undefined },
      },
    });
    await pass(5000);
    const last = events.filter(({ event }) => event.event === "code").at(-1)?.event;
    const code = last?.event === "code" ? last.code : first.code;
    expect(code).toEqual({ nameplate: 8, password: first.code.password });
    const second = joining(code);
    expect(await both(first.session, second.session)).toEqual(["met", "met"]);
  });

  test("after the introduction: nothing notices", async () => {
    const first = await waiting();
    const second = joining(first.code);
    const [a, b] = await within(Promise.all([first.session, second.session]));
    server.down = true;
    server.kill(true);
    await pass(60_000);
    const stream = b.open(Uint8Array.of(1));
    void stream.write(Uint8Array.of(9));
    expect(await within((await within(a.accept())).read())).toEqual(Uint8Array.of(9));
    expect(events.filter(({ event }) => event.event === "rendezvous")).toEqual([]);
  });

  test("a rendezvous that was never there is given up", async () => {
    server.down = true;
    expect(await codeOf(waiting())).toBe("SIGNALLING");
    expect(await within(codeOf(joining({ nameplate: 7, password: "acorn-album" }).session))).toBe(
      "SIGNALLING",
    );
  });

  test("--timeout counts from the start", async () => {
    const first = await waiting({ timeout: 5 });
    expect(await within(codeOf(first.session))).toBe("TIMEOUT");
    server.down = true;
    expect(
      await within(codeOf(joining({ nameplate: 7, password: "acorn-album" }, { timeout: 3 }).session)),
    ).toBe("TIMEOUT");
  });
});

describe("a crooked rendezvous never connects anybody", () => {
  const other = (role: Role): Role => (role === "waiting" ? "joining" : "waiting");
  const pass1: Tamper = (from, _index, body) => [{ to: other(from), body }];
  const flip = (body: Uint8Array, at: number): Uint8Array => {
    const copy = body.slice();
    copy[at] = (copy[at] ?? 0) ^ 1;
    return copy;
  };

  // Every byte of each message of the key exchange, and samples of what is sealed.
  const altered: [string, Role, number, number][] = [
    ...[1, 5, 32, 33, 64].map((at): [string, Role, number, number] => ["HELLO", "joining", 0, at]),
    ...[1, 7, 32, 33, 64, 65, 96].map((at): [string, Role, number, number] => ["ANSWER", "waiting", 0, at]),
    ...[1, 32].map((at): [string, Role, number, number] => ["CONFIRM", "joining", 1, at]),
  ];
  test.each(altered)("that alters %s (%s %i) at byte %i", async (_name, role, index, at) => {
    server.tamper = (from, number, body, mailbox) =>
      pass1(from, number, from === role && number === index ? flip(body, at) : body, mailbox);
    const first = await waiting();
    const second = joining(first.code);
    const ends = await both(first.session, second.session);
    expect(ends).not.toContain("met");
  });

  test.each([1, 2, 25, 40])("that alters sealed addresses at byte %i", async (at) => {
    server.tamper = (from, number, body, mailbox) =>
      pass1(from, number, body[0] === 4 ? flip(body, at) : body, mailbox);
    near.hidden = far.hidden = true;
    const first = await waiting();
    const second = joining(first.code);
    expect(await both(first.session, second.session)).not.toContain("met");
  });

  test.each<[string, Tamper]>([
    ["reflects", (from, _index, body) => [{ to: from, body }]],
    [
      "reflects as well",
      (from, _index, body) => [
        { to: other(from), body },
        { to: from, body },
      ],
    ],
    [
      "sends everything twice",
      (from, _index, body) => [
        { to: other(from), body },
        { to: other(from), body },
      ],
    ],
    [
      "drops all from the waiting side",
      (from, i, body, m) => (from === "waiting" ? [] : pass1(from, i, body, m)),
    ],
    ["drops what is sealed", (from, i, body, m) => (body[0] === 4 ? [] : pass1(from, i, body, m))],
    ["drops CONFIRM", (from, i, body, m) => (body[0] === 3 ? [] : pass1(from, i, body, m))],
    ["cuts", (from, i, body, m) => pass1(from, i, body.subarray(0, body.length - 1), m)],
    ["sends nothing but noise", (from) => [{ to: other(from), body: Uint8Array.of(9, 9, 9) }]],
  ])("that %s", async (_name, tamper) => {
    server.tamper = tamper;
    // Where anybody could be called without an address, dropping one would be no matter.
    near.hidden = far.hidden = true;
    const first = await waiting();
    const second = joining(first.code);
    expect(await both(first.session, second.session)).not.toContain("met");
  });

  test("that reorders", async () => {
    let held: { to: Role; body: Uint8Array } | undefined;
    server.tamper = (from, index, body, mailbox) => {
      if (from === "waiting" && index === 1) {
        held = { to: "joining", body };
        return [];
      }
      const now = pass1(from, index, body, mailbox);
      if (from === "waiting" && held) {
        now.push(held);
        held = undefined;
      }
      return now;
    };
    near.hidden = far.hidden = true;
    const first = await waiting();
    const second = joining(first.code);
    expect(await both(first.session, second.session)).not.toContain("met");
  });

  test("that replays another introduction", async () => {
    const recorded: { from: Role; body: Uint8Array }[] = [];
    server.tamper = (from, index, body, mailbox) => {
      recorded.push({ from, body });
      return pass1(from, index, body, mailbox);
    };
    const first = await waiting();
    const second = joining(first.code);
    expect(await both(first.session, second.session)).toEqual(["met", "met"]);
    const replay = (role: Role): Uint8Array[] =>
      recorded.filter(({ from }) => from === role).map(({ body }) => body);
    for (const victim of ["waiting", "joining"] as const) {
      const script = replay(other(victim));
      server.tamper = (from, index) => {
        const body = script[index];
        return from === victim && body ? [{ to: victim, body }] : [];
      };
      server.next = first.code.nameplate;
      server.mailboxes.clear();
      const again = await waiting();
      const joined = joining(again.code);
      expect(await both(again.session, joined.session)).not.toContain("met");
    }
  });

  test("that joins two pairs crosswise", async () => {
    const first = await waiting();
    const second = await waiting();
    expect(second.code.nameplate).not.toBe(first.code.nameplate);
    const [one, two] = [...server.mailboxes.values()];
    server.tamper = (from, _index, body, mailbox) => {
      const across = mailbox === one ? two : one;
      if (!across) return [];
      server.deliver(across, other(from), body);
      return [];
    };
    const ends = await within(
      Promise.all(
        [first.session, second.session, joining(first.code).session, joining(second.code).session].map(
          codeOf,
        ),
      ),
    );
    expect(ends).not.toContain("met");
  });

  test("that plays both sides with guesses of its own", async () => {
    // It runs the protocol properly, with other words, against each of them.
    const first = await waiting();
    const mallory = joining({ ...first.code, password: "banjo-banjo" });
    expect(await both(first.session, mallory.session)).not.toContain("met");
    const decoy = await waiting();
    const victim = joining({ ...decoy.code, password: first.code.password });
    expect(await both(decoy.session, victim.session)).not.toContain("met");
  });
});
