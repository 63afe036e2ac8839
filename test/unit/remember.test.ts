/** Pairing over two sessions in memory. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { pair, type OwnPart, type Pairing, type PairingOptions } from "../../src/apps/remember.ts";
import { DcpipeError } from "../../src/errors.ts";
import type { Stream } from "../../src/session/stream.ts";
import { decodeHeader, encodeHeader } from "../../src/wire/header.ts";
import { encodeRememberRecord } from "../../src/wire/remember.ts";
import { pass, sessions, settled, startTime, stopTime, within, type Pair, type Side } from "./network.ts";

let link: Pair;
let stored: Partial<Record<Side, Pairing>>;
let questions: string[];

beforeEach(() => {
  stopTime();
  link = sessions();
  stored = {};
  questions = [];
});

afterEach(async () => {
  for (const session of [link.waiting, link.joining])
    void session.abort("ABORTED", "").catch(() => undefined);
  await pass(3000);
  await settled();
  startTime();
});

function own(side: Side): OwnPart {
  return { name: `by ${side}`, fingerprint: new Uint8Array(32).fill(side === "waiting" ? 1 : 2) };
}

function run(
  side: Side,
  asks: boolean,
  more: Partial<PairingOptions> = {},
): ReturnType<typeof pair>["asked"] {
  const { asked } = pair(link[side], {
    role: side,
    host: `host of ${side}`,
    context: "acorn-album",
    own: asks ? own(side) : undefined,
    decide: ({ host, calledHere }) => {
      questions.push(`${host}, ${calledHere}`);
      return Promise.resolve(undefined);
    },
    store: (pairing) => {
      stored[side] = pairing;
      return Promise.resolve();
    },
    ...more,
  });
  return asked;
}

function expectSame(): void {
  const { waiting, joining } = stored;
  expect(waiting?.secret).toHaveLength(32);
  expect(waiting?.secret).toEqual(joining?.secret);
  expect([waiting?.side, joining?.side]).toEqual(["a", "b"]);
  expect([waiting?.host, joining?.host]).toEqual(["host of joining", "host of waiting"]);
  expect([waiting?.calledHere, joining?.calledHere]).toEqual(["by joining", "by waiting"]);
  expect(waiting?.fingerprint).toEqual(own("joining").fingerprint);
  expect(joining?.fingerprint).toEqual(own("waiting").fingerprint);
}

function codeOf(error: unknown): unknown {
  return (error as DcpipeError).code;
}

test("both ask", async () => {
  const asked = [run("waiting", true), run("joining", true)];
  const outcomes = await within(Promise.all(asked));
  expect(outcomes.map((outcome) => outcome?.confirmed)).toEqual([true, true]);
  expectSame();
  expect(questions).toEqual([]);
});

test("both ask, the joining one a good while later", async () => {
  const first = run("waiting", true);
  await pass(5000);
  const second = run("joining", true);
  expect((await within(Promise.all([first, second]))).map((outcome) => outcome?.confirmed)).toEqual([
    true,
    true,
  ]);
  expectSame();
});

test("both ask, and the joining side then says nothing", async () => {
  const asked = run("waiting", true).catch(codeOf);
  const theirs = await within(link.joining.accept());
  link.joining.open(encodeHeader({ kind: "remember" }));
  theirs.reset("CLOSED", "this side asks, too");
  expect(await within(asked, 150_000)).toBe("ABORTED");
  expect(stored).toEqual({});
});

describe.each(["waiting", "joining"] as const)("only the %s side asks", (side) => {
  const other = side === "waiting" ? "joining" : "waiting";

  test("and the other one wants it", async () => {
    const asked = run(side, true);
    void run(other, false, { decide: () => Promise.resolve(own(other)) });
    expect((await within(asked))?.confirmed).toBe(true);
    expectSame();
  });

  test("and the other one does not", async () => {
    const asked = run(side, true).catch(codeOf);
    void run(other, false);
    expect(await within(asked)).toBe("REFUSED");
    expect(stored).toEqual({});
    expect(questions).toEqual([`host of ${side}, by ${side}`]);
  });

  test("and nobody answers", async () => {
    const asked = run(side, true).catch(codeOf);
    let gone = false;
    void run(other, false, {
      decide: (_, over) => {
        const end = (): undefined => {
          gone = true;
          return undefined;
        };
        return over.then(end, end);
      },
    });
    expect(await within(asked, 70_000)).toBe("ABORTED");
    await pass(100);
    expect(gone).toBe(true);
    expect(stored).toEqual({});
  });

  test("and the session ends", async () => {
    const asked = run(side, true).catch(codeOf);
    void link[other].abort("INTERRUPTED", "").catch(() => undefined);
    expect(await within(asked)).toBe("INTERRUPTED");
  });

  test("and the other one cannot store it: it is told, and not why", async () => {
    const asked = run(side, true);
    void run(other, false, {
      decide: () => Promise.resolve(own(other)),
      store: () => Promise.reject(new DcpipeError("IO", "/home/ann is full")),
    });
    const outcome = await within(asked.catch((error: unknown) => error));
    // What it has stored by then is harmless.
    if (outcome instanceof DcpipeError) {
      expect(outcome.code).toBe("INCOMPLETE");
      expect(outcome.message).not.toContain("/home");
    } else expect(outcome).toMatchObject({ confirmed: false });
  });
});

test("other streams are not touched, and come in their order", async () => {
  void run("joining", true);
  const open = link.joining.open(encodeHeader({ kind: "pipe" }));
  await pass(50);
  void run("waiting", true);
  const stream = await within(link.waiting.accept());
  expect(decodeHeader(stream.header)).toEqual({ kind: "pipe" });
  open.reset();
});

test("the secret depends on the session", async () => {
  const secrets = new Set<string>();
  for (let i = 0; i < 2; i++) {
    link = sessions();
    await within(Promise.all([run("waiting", true), run("joining", true)]));
    secrets.add(String(stored.waiting?.secret));
  }
  expect(secrets.size).toBe(2);
  link = sessions();
  await within(Promise.all([run("waiting", true), run("joining", true, { context: "acorn-badger" })]));
  expect(stored.waiting?.secret).not.toEqual(stored.joining?.secret);
});

describe("a hostile side", () => {
  const remember = encodeRememberRecord({
    type: "REMEMBER",
    host: "x",
    name: "y",
    fingerprint: new Uint8Array(32),
    random: new Uint8Array(32),
  });

  function ask(...parts: Uint8Array[]): Stream {
    const stream = link.joining.open(encodeHeader({ kind: "remember" }));
    stream.closed.catch(() => undefined);
    for (const part of parts) stream.write(part).catch(() => undefined);
    return stream;
  }

  test.each([
    ["something else first", encodeRememberRecord({ type: "STORED" })],
    ["an unknown record", Uint8Array.of(1, 9)],
    ["an empty record", Uint8Array.of(0)],
    ["a record that is too long", Uint8Array.of(0x7f, 0xff)],
    ["a record with more behind it", Uint8Array.of(2, 2, 0)],
  ])("%s", async (_, bytes) => {
    void run("waiting", false, { decide: () => Promise.resolve(own("waiting")) });
    const stream = ask(bytes);
    expect(await within(stream.closed.catch(codeOf))).toBe("PROTOCOL");
    expect(stored).toEqual({});
  });

  test("asks twice", async () => {
    void run("waiting", false, { decide: () => Promise.resolve(own("waiting")) });
    ask(remember);
    const second = ask(remember);
    expect(await within(second.closed.catch(codeOf))).toBe("REFUSED");
  });

  test("byte by byte is as good as at once", async () => {
    void run("waiting", false, { decide: () => Promise.resolve(own("waiting")) });
    ask(...Array.from(remember, (byte) => Uint8Array.of(byte)));
    await pass(2000);
    expect(stored.waiting?.host).toBe("x");
  });
});
