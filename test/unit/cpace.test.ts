import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { codeContext, createShare, generator, lvCat, sharedSecret } from "../../src/signalling/cpace.ts";

const NONE = new Uint8Array();
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

interface Side {
  readonly password?: string;
  readonly nameplate?: number;
  readonly sid?: Uint8Array;
}

/** Both sides of a run; `seen` is what the responder believes to have got from the initiator. */
function run(a: Side, b: Side, ada = utf8("A"), adb = utf8("B"), seen = ada): [string, string] {
  const share = ({ password = "guitar-sandwich", nameplate = 7, sid = NONE }: Side) =>
    createShare(generator(utf8(password), codeContext(nameplate), sid));
  const mine = share(a);
  const theirs = share(b);
  const responder = { point: theirs.point, data: adb };
  const keyA = sharedSecret({
    secret: mine.secret,
    theirs: theirs.point,
    sid: a.sid ?? NONE,
    initiator: { point: mine.point, data: ada },
    responder,
  });
  const keyB = sharedSecret({
    secret: theirs.secret,
    theirs: mine.point,
    sid: b.sid ?? NONE,
    initiator: { point: mine.point, data: seen },
    responder,
  });
  return [hex(keyA), hex(keyB)];
}

describe("CPace", () => {
  test("the same code gives the same key, each time another one", () => {
    const [a, b] = run({}, {});
    expect(a).toHaveLength(128);
    expect(b).toBe(a);
    expect(run({}, {})[0]).not.toBe(a);
  });

  test.each([
    ["password", { password: "guitar-sardine" }],
    ["nameplate", { nameplate: 8 }],
    ["session id", { sid: Uint8Array.of(1) }],
  ])("another %s gives another key", (_what, other) => {
    const [a, b] = run({}, other);
    expect(b).not.toBe(a);
  });

  test("data that was altered on its way gives another key", () => {
    const [a, b] = run({}, {}, utf8("A"), utf8("B"), utf8("C"));
    expect(b).not.toBe(a);
  });

  test("the sides are not interchangeable", () => {
    const g = generator(utf8("guitar-sandwich"), codeContext(7), NONE);
    const a = createShare(g);
    const b = createShare(g);
    const key = (initiator: Uint8Array, responder: Uint8Array): string =>
      hex(
        sharedSecret({
          secret: a.secret,
          theirs: b.point,
          sid: NONE,
          initiator: { point: initiator, data: NONE },
          responder: { point: responder, data: NONE },
        }),
      );
    expect(key(a.point, b.point)).not.toBe(key(b.point, a.point));
  });

  test("secrets are fresh, below 2^252", () => {
    const g = generator(utf8("guitar-sandwich"), codeContext(7), NONE);
    const shares = Array.from({ length: 20 }, () => createShare(g));
    expect(new Set(shares.map(({ secret }) => hex(secret))).size).toBe(shares.length);
    expect(shares.every(({ secret }) => secret.length === 32 && (secret[31] ?? 0xff) < 16)).toBe(true);
    // The top byte is not always the same: the mask takes four bits, not eight.
    expect(new Set(shares.map(({ secret }) => secret[31])).size).toBeGreaterThan(1);
  });

  test("the context of a code", () => {
    expect(Buffer.from(codeContext(123)).toString("latin1")).toBe(
      "\x13dcpipe-rendezvous.1\x07waiting\x07joining\x03123",
    );
  });
});

describe("lv_cat", () => {
  // The draft's own vectors, appendix "Definition and test vectors for string utility functions".
  test.each([
    [[""], "00"],
    [["1234"], "0431323334"],
    [["1234", "5", "", "678"], "043132333401350003363738"],
    [["x".repeat(127)], `7f${"78".repeat(127)}`],
    [["x".repeat(128)], `8001${"78".repeat(128)}`],
    [["x".repeat(16_384)], `808001${"78".repeat(16_384)}`],
  ])("%#", (parts, expected) => {
    expect(hex(lvCat(...parts.map(utf8)))).toBe(expected);
  });

  test("no two lists of parts give the same bytes", () => {
    const parts = fc.array(fc.uint8Array({ maxLength: 3 }), { maxLength: 4 });
    fc.assert(
      fc.property(parts, parts, (a, b) => {
        const same = JSON.stringify(a.map(hex)) === JSON.stringify(b.map(hex));
        expect(hex(lvCat(...a)) === hex(lvCat(...b))).toBe(same);
      }),
      { numRuns: 1000 },
    );
  });
});
