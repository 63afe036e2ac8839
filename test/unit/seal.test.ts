import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DcpipeError } from "../../src/errors.ts";
import { Seal, type Sealed } from "../../src/signalling/seal.ts";
import { NONCE_SIZE } from "../../src/wire/introduction.ts";

const keys = { waiting: new Uint8Array(32).fill(1), joining: new Uint8Array(32).fill(2) };
const waiting = new Seal({ mine: keys.waiting, theirs: keys.joining });
const joining = new Seal({ mine: keys.joining, theirs: keys.waiting });

const index = fc.integer({ min: 0, max: 255 });
const plaintext = fc.uint8Array({ maxLength: 400, size: "max" });
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** Not opened, and said so in the one way there is. */
function closed(run: () => Uint8Array): void {
  let outcome: unknown;
  try {
    outcome = run();
  } catch (error) {
    outcome = error;
  }
  expect(outcome).toBeInstanceOf(DcpipeError);
  expect(outcome).toMatchObject({
    code: "AUTH_FAILED",
    message: "a sealed message was altered on its way",
  });
}

/** What is opened after `change`. */
function after(sealed: Sealed, change: (nonce: Uint8Array, ciphertext: Uint8Array) => void): Sealed {
  const copy = { nonce: sealed.nonce.slice(), ciphertext: sealed.ciphertext.slice() };
  change(copy.nonce, copy.ciphertext);
  return copy;
}

describe("sealing", () => {
  test("open(seal(x)) = x, both ways", () => {
    fc.assert(
      fc.property(index, plaintext, fc.boolean(), (i, text, forth) => {
        const [from, to] = forth ? [waiting, joining] : [joining, waiting];
        const before = text.slice();
        const { nonce, ciphertext } = from.seal(i, text);
        expect(nonce).toHaveLength(NONCE_SIZE);
        expect(ciphertext).toHaveLength(text.length + 16);
        expect(to.open(i, nonce, ciphertext)).toEqual(before);
        expect(text).toEqual(before);
      }),
      { numRuns: 300 },
    );
  });

  test("the same text is never sealed the same", () => {
    const text = new Uint8Array(40);
    const all = Array.from({ length: 50 }, () => waiting.seal(0, text));
    expect(new Set(all.map(({ nonce }) => hex(nonce))).size).toBe(50);
    expect(new Set(all.map(({ ciphertext }) => hex(ciphertext))).size).toBe(50);
  });

  test("any changed bit of nonce or ciphertext is noticed", () => {
    const sealed = waiting.seal(3, Uint8Array.of(1, 2, 3));
    for (const part of ["nonce", "ciphertext"] as const) {
      for (let bit = 0; bit < sealed[part].length * 8; bit++) {
        const { nonce, ciphertext } = after(sealed, (n, c) => {
          const bytes = part === "nonce" ? n : c;
          bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        });
        closed(() => joining.open(3, nonce, ciphertext));
      }
    }
  });

  test("every cut, and every addition, is noticed", () => {
    const { nonce, ciphertext } = waiting.seal(3, Uint8Array.of(1, 2, 3));
    for (let length = 0; length < ciphertext.length; length++)
      closed(() => joining.open(3, nonce, ciphertext.subarray(0, length)));
    closed(() => joining.open(3, nonce, Uint8Array.of(...ciphertext, 0)));
    closed(() => joining.open(3, nonce.subarray(1), ciphertext));
  });

  test("a body under another number is none", () => {
    fc.assert(
      fc.property(index, index, plaintext, (i, j, text) => {
        fc.pre(i !== j);
        const { nonce, ciphertext } = joining.seal(i, text);
        closed(() => waiting.open(j, nonce, ciphertext));
      }),
      { numRuns: 100 },
    );
  });

  test("a body that comes back is none", () => {
    const { nonce, ciphertext } = waiting.seal(2, Uint8Array.of(1));
    closed(() => waiting.open(2, nonce, ciphertext));
  });

  test("a body of another exchange is none", () => {
    const { nonce, ciphertext } = waiting.seal(2, Uint8Array.of(1));
    const other = new Seal({ mine: new Uint8Array(32).fill(3), theirs: new Uint8Array(32).fill(4) });
    closed(() => other.open(2, nonce, ciphertext));
  });

  test.each([-1, 256, 0.5, NaN])("numbers are one byte: %d is none", (i) => {
    expect(() => waiting.seal(i, new Uint8Array(1))).toThrow(RangeError);
  });
});
