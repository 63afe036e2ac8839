import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DcpipeError } from "../../src/errors.ts";
import {
  completeWord,
  DEFAULT_WORDS,
  formatCode,
  formatLink,
  MAX_NAMEPLATE,
  MAX_WORDS,
  MIN_WORDS,
  parseCode,
  parsePeer,
  passwordFrom,
  type Code,
} from "../../src/wire/code.ts";
import { encodeToken } from "../../src/wire/token.ts";
import { WORDS } from "../../src/wire/words.ts";

const RUNS = { numRuns: 1000 };

const nameplate = fc.oneof(fc.integer({ min: 1, max: MAX_NAMEPLATE }), fc.integer({ min: 1, max: 9 }));
const password = fc.uint8Array({ minLength: MIN_WORDS, maxLength: MAX_WORDS }).map(passwordFrom);
const code: fc.Arbitrary<Code> = fc.record({ nameplate, password });
const GUITAR: Code = { nameplate: 7, password: "guitar-sandwich" };

/** Why it is no code; fails when it is one, or when something else than CODE_MALFORMED is thrown. */
function complaint(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(DcpipeError);
    expect(error).toMatchObject({ code: "CODE_MALFORMED" });
    return (error as DcpipeError).message;
  }
  throw new Error("it is one");
}

/** Damerau and Levenshtein's distance (optimal string alignment), by its recursive definition. */
function distance(a: string, b: string): number {
  const known = new Map<number, number>();
  const between = (i: number, j: number): number => {
    if (i === 0 || j === 0) return i + j;
    const key = i * 100 + j;
    const before = known.get(key);
    if (before !== undefined) return before;
    const changed = between(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
    const swapped =
      i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? between(i - 2, j - 2) + 1 : Infinity;
    const least = Math.min(changed, swapped, between(i - 1, j) + 1, between(i, j - 1) + 1);
    known.set(key, least);
    return least;
  };
  return between(a.length, b.length);
}

describe("the words", () => {
  test("256, a byte each", () => {
    expect(WORDS).toHaveLength(256);
    expect(new Set(WORDS).size).toBe(256);
    expect([...WORDS].sort()).toEqual(WORDS);
  });

  test("five to nine letters, lower case, ASCII", () => {
    expect(WORDS.filter((word) => !/^[a-z]{5,9}$/.test(word))).toEqual([]);
  });

  test("no two begin with the same three letters", () => {
    expect(new Set(WORDS.map((word) => word.slice(0, 3))).size).toBe(256);
  });

  test("no two are within two slips of each other", () => {
    const near = WORDS.flatMap((a, i) =>
      WORDS.slice(i + 1).flatMap((b) => (distance(a, b) < 3 ? [`${a} ${b}`] : [])),
    );
    expect(near).toEqual([]);
  });

  test("none looks like a token, an option, or a number", () => {
    expect(WORDS.filter((word) => /dc\d|^-|\d/.test(word))).toEqual([]);
  });

  test("three letters complete to one word", () => {
    for (const word of WORDS) expect(completeWord(word.slice(0, 3))).toEqual([word]);
    expect(completeWord("GUI")).toEqual(["guitar"]);
    expect(completeWord("xyz")).toEqual([]);
    expect(completeWord("")).toEqual(WORDS);
  });
});

describe("passwords", () => {
  test("a byte, a word; every byte another one", () => {
    expect(passwordFrom(Uint8Array.of(0, 255))).toBe("acorn-zodiac");
    const all = Array.from({ length: 256 }, (_, byte) => passwordFrom(Uint8Array.of(byte)));
    expect(all).toEqual(WORDS);
    expect(passwordFrom(new Uint8Array(DEFAULT_WORDS)).split("-")).toHaveLength(2);
  });
});

describe("codes", () => {
  test("parse(format(x)) = x, and so for whatever PEER may be", () => {
    fc.assert(
      fc.property(code, (value) => {
        expect(parseCode(formatCode(value))).toEqual(value);
        expect(parsePeer(formatCode(value))).toEqual({ kind: "code", code: value });
      }),
      RUNS,
    );
  });

  test("capitals, quotes, blanks and what programs make of hyphens are forgiven", () => {
    const hyphen = fc.constantFrom("-", " ", "  ", "\t", "\n", "\u00a0", " - ", "_", "\u2010", "\u2011");
    const typographic = fc.constantFrom("\u2012", "\u2013", "\u2014", "\u2015", "\u2212", "\uff0d");
    const around = fc.constantFrom(
      ...([
        ["", ""],
        ['"', '"'],
        ["'", "'"],
        ["`", "`"],
        ["“", "”"],
        ["„", "“"],
        ["«", "»"],
        ["<", ">"],
        ["(", ")"],
        ["\u200b", "\ufeff"],
        ["  ", "\r\n"],
        ["", "."],
        ["", "-"],
        ["- ", " ,"],
      ] as const),
    );
    fc.assert(
      fc.property(
        code,
        fc.oneof(hyphen, typographic),
        around,
        fc.nat(0xffff),
        (value, between, marks, capitals) => {
          const typed = Array.from(formatCode(value).replaceAll("-", between))
            .map((letter, i) => ((capitals >> (i % 16)) & 1 ? letter.toUpperCase() : letter))
            .join("");
          const text = marks[0] + typed + marks[1];
          expect(parseCode(text), JSON.stringify(text)).toEqual(value);
          // A hyphen in front of all is an option to any command line.
          if (!marks[0].startsWith("-"))
            expect(parsePeer(text), JSON.stringify(text)).toEqual({ kind: "code", code: value });
        },
      ),
      RUNS,
    );
  });

  test.each([
    ["", "no code given"],
    [' "" ', "no code given"],
    ["---", "no code given"],
    ["guitar-sandwich", "a code starts with a number, as in 7-guitar-sandwich"],
    ["seven-guitar-sandwich", "a code starts with a number, as in 7-guitar-sandwich"],
    ["7a7-guitar-sandwich", "a code starts with a number, as in 7-guitar-sandwich"],
    ["7guitarsandwich", "its hyphens are missing: a code looks like 7-guitar-sandwich"],
    ["7guitar-sandwich", "its hyphens are missing: a code looks like 7-guitar-sandwich"],
    ["7", "the words behind the number are missing"],
    ["7-", "the words behind the number are missing"],
    ["7-guitar", "a word is missing at its end"],
    ["7-guitar-", "a word is missing at its end"],
    ["0-guitar-sandwich", "the number at its front is none that a rendezvous gives"],
    ["07-guitar-sandwich", "the number at its front is none that a rendezvous gives"],
    ["1000000-guitar-sandwich", "the number at its front is none that a rendezvous gives"],
    [`${"9".repeat(400)}-guitar-sandwich`, "the number at its front is none that a rendezvous gives"],
    [`7${"-guitar".repeat(13)}`, "it has more than 12 words"],
    ["7-guitar-sandwhich", '"sandwhich" is no word of a code; did you mean "sandwich"?'],
    ["7-guitar-sandw", '"sandw" is no word of a code; did you mean "sandwich"?'],
    ["7-gui-sandwich", '"gui" is no word of a code; did you mean "guitar"?'],
    ["7-gutiar-sandwich", '"gutiar" is no word of a code; did you mean "guitar"?'],
    ["7-guitarsandwich", '"guitarsandwich" is no word of a code'],
    ["7-guitar-q", '"q" is no word of a code'],
    ["7-guitar-zzzzzz", '"zzzzzz" is no word of a code'],
    ["7-8-guitar-sandwich", '"8" is no word of a code'],
    [`7-guitar-${"x".repeat(100)}`, `"${"x".repeat(40)}" is no word of a code`],
    ["7-guitar-sandwich ".repeat(600), "that is too long for a code"],
  ])("%j: %s", (text, told) => {
    expect(complaint(() => parseCode(text))).toBe(told);
  });

  test("one slip in a word is noticed, and the word that was meant is told", () => {
    const letters = "abcdefghijklmnopqrstuvwxyz";
    const slip = fc.record({
      word: fc.constantFrom(...WORDS),
      at: fc.nat(),
      kind: fc.constantFrom("change", "insert", "delete", "swap"),
      letter: fc.constantFrom(...Array.from(letters)),
    });
    fc.assert(
      fc.property(slip, ({ word, at, kind, letter }) => {
        const i = at % word.length;
        const typed = {
          change: word.slice(0, i) + letter + word.slice(i + 1),
          insert: word.slice(0, i) + letter + word.slice(i),
          delete: word.slice(0, i) + word.slice(i + 1),
          swap: word.slice(0, i) + (word[i + 1] ?? "") + (word[i] ?? "") + word.slice(i + 2),
        }[kind];
        fc.pre(typed !== word);
        expect(WORDS).not.toContain(typed);
        expect(complaint(() => parseCode(`7-guitar-${typed}`))).toBe(
          `"${typed}" is no word of a code; did you mean "${word}"?`,
        );
      }),
      RUNS,
    );
  });

  test("any text gives a code or CODE_MALFORMED, and a code has one form", () => {
    const shaped = fc.string({
      unit: fc.constantFrom("7", "0", "-", " ", "\u2013", "guitar", "sandwich", "g", '"', ".", "#", "İ"),
      maxLength: 30,
    });
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: "binary" }), shaped), (text) => {
        let value: Code;
        try {
          value = parseCode(text);
        } catch (error) {
          expect(error).toMatchObject({ name: "DcpipeError", code: "CODE_MALFORMED" });
          return;
        }
        expect(formatCode(value)).toMatch(/^[1-9]\d{0,5}(-[a-z]{5,9}){2,12}$/);
        expect(parseCode(formatCode(value))).toEqual(value);
      }),
      { numRuns: 5000 },
    );
  });
});

describe("links", () => {
  const base = fc.constantFrom(
    "https://example.org/",
    "https://example.org",
    "HTTPS://Example.org/path/?a=b",
    "http://192.168.1.5:8080/",
    "http://[fd00::1]:8080/",
    "ws://localhost:1/",
    "wss://example.org/rendezvous",
  );

  test("parse(format(x)) = x", () => {
    fc.assert(
      fc.property(base, code, (rendezvous, value) => {
        expect(parsePeer(formatLink(rendezvous, value))).toEqual({ kind: "link", code: value, rendezvous });
      }),
      RUNS,
    );
  });

  test.each([
    ["example.org#7-guitar-sandwich", "https://example.org"],
    ["example.org:8080/x#7-guitar-sandwich", "https://example.org:8080/x"],
    ["<https://example.org/#7-guitar-sandwich>", "https://example.org/"],
    ['"https://example.org/#7-guitar-sandwich"', "https://example.org/"],
    ["“https://example.org/#7-guitar-sandwich”", "https://example.org/"],
    [" https://example.org/#7-guitar-sandwich.\n", "https://example.org/"],
    ["https://example.org/#7%2Dguitar%2dsandwich", "https://example.org/"],
    ["https://example.org/#7%20guitar%20sandwich", "https://example.org/"],
    ["https://example.org/#7%E2%80%93guitar%E2%80%93sandwich", "https://example.org/"],
    ["https://example.org/#7-Guitar-Sandwich", "https://example.org/"],
    // Looks like the beginning of a token.
    ["https://dc1-frankfurt.example/#7-guitar-sandwich", "https://dc1-frankfurt.example/"],
    ["dc2-frankfurt.example#7-guitar-sandwich", "https://dc2-frankfurt.example"],
  ])("%j is one", (text, rendezvous) => {
    expect(parsePeer(text)).toEqual({ kind: "link", code: GUITAR, rendezvous });
  });

  test.each([
    ["https://example.org/", "the link has no code: what stands behind its # is missing"],
    ["https://example.org/#", "the link has no code: what stands behind its # is missing"],
    ["wss://example.org", "the link has no code: what stands behind its # is missing"],
    ["https://example.org/#about", "a code starts with a number, as in 7-guitar-sandwich"],
    ["https://example.org/#7-guitar", "a word is missing at its end"],
    ["https://example.org/#7-guitar-%", "the link has a broken percent-encoding"],
    ["https://example.org/#7-guitar-%ff", "the link has a broken percent-encoding"],
    [
      "https://example.org/#7-guitar-sandwich#8",
      '"sandwich#8" is no word of a code; did you mean "sandwich"?',
    ],
    [`https://example.org/#7${"-guitar".repeat(1000)}`, "that is too long for a code"],
  ])("%j is none", (text, told) => {
    expect(complaint(() => parsePeer(text))).toBe(told);
  });
});

describe("what PEER may be", () => {
  const token = encodeToken({
    kind: "offer",
    secret: new Uint8Array(16).fill(3),
    fingerprint: new Uint8Array(32).fill(4),
    candidates: [],
  });

  test.each([
    token,
    ` "${token}" `,
    `https://example.org/#${token}`,
    `dcpipe receive ${token}`,
    "something",
    "dc1",
    "",
    "guitar.txt",
    "x".repeat(10_000),
    "'".repeat(1_000_000) + "x",
  ])("a token, or what will be told that it is none: %.20s", (text) => {
    expect(parsePeer(text)).toEqual({ kind: "token", token: text });
  });

  test("words without a number are a code without a number", () => {
    expect(complaint(() => parsePeer("guitar-sandwich"))).toMatch(/starts with a number/);
    expect(complaint(() => parsePeer("Guitar Sandwich"))).toMatch(/starts with a number/);
    expect(complaint(() => parsePeer("guitar–sandwich"))).toMatch(/starts with a number/);
  });

  test.each(["7".repeat(10_000), "7-".repeat(5_000), `7${"-guitar".repeat(1_400)}`, "ocean ".repeat(2_000)])(
    "10 kB of it: %.20s",
    (text) => {
      expect(complaint(() => parsePeer(text))).toBe("that is too long for a code");
    },
  );

  test("any text is something or CODE_MALFORMED", () => {
    const shaped = fc.string({
      unit: fc.constantFrom("7", "-", " ", "guitar", "#", "%", "http", "://", "dc1", ".", '"', "é"),
      maxLength: 20,
    });
    const long = fc.string({ unit: "binary", minLength: 10_000, maxLength: 10_000 });
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: "binary" }), shaped), (text) => {
        try {
          expect(["token", "code", "link"]).toContain(parsePeer(text).kind);
        } catch (error) {
          expect(error).toMatchObject({ name: "DcpipeError", code: "CODE_MALFORMED" });
        }
      }),
      { numRuns: 5000 },
    );
    fc.assert(
      fc.property(long, (text) => {
        try {
          expect(parsePeer(text).kind).toBe("token");
        } catch (error) {
          expect(error).toMatchObject({ code: "CODE_MALFORMED" });
        }
      }),
      { numRuns: 20 },
    );
  });
});
