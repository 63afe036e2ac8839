import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkName, escapeText } from "../../src/apps/names.ts";
import { DcpipeError } from "../../src/errors.ts";

function refused(name: string, windows = false): boolean {
  try {
    checkName(name, windows);
    return false;
  } catch (error) {
    expect(error).toMatchObject({ code: "REFUSED" });
    return true;
  }
}

describe("names of files", () => {
  test.each([
    "a",
    "report.pdf",
    "über größe.txt",
    "日本.txt",
    "...",
    ".profile",
    "a b",
    "-rf",
    "💾",
    "x".repeat(255),
  ])("are taken: %s", (name) => {
    expect(refused(name)).toBe(false);
  });

  test.each([
    "",
    ".",
    "..",
    "/etc/passwd",
    "../x",
    "a/b",
    "a\\b",
    "a\0b",
    "a\nb",
    "\u001b[31mred",
    "a\u0085b",
    "a\u202egnp.exe",
    "a\u200bb",
    "a\u2028b",
    "a\ufeffb",
    "a\ud800b",
    "x".repeat(256),
    "é".repeat(128),
  ])("are refused: %j", (name) => {
    expect(refused(name)).toBe(true);
  });

  test.each(["con", "NUL.txt", "com1", "lpt9.log", "ab:c", "what?", "a.", "a ", "a*", 'a"b', "a|b", "<a>"])(
    "are refused on Windows: %j",
    (name) => {
      expect(refused(name)).toBe(false);
      expect(refused(name, true)).toBe(true);
    },
  );

  test("whatever comes, a name that is taken stays in its directory and on its line", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.string({ unit: "grapheme" })),
        (name) => {
          if (refused(name)) return;
          expect(name).not.toMatch(/[/\\\0\n\r\u001b]/);
          expect([".", "..", ""]).not.toContain(name);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test("the message shows the name escaped", () => {
    expect(() => {
      checkName("a\u001b]0;evil\u0007");
    }).toThrow(new DcpipeError("REFUSED", "the name has control characters: a\\u{1b}]0;evil\\u{7}"));
  });
});

describe("text from the other side", () => {
  test("cannot move the cursor, change colours or turn around", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 50 }), (text) => {
        expect(escapeText(text)).not.toMatch(/[\p{Cc}\p{Cs}\p{Bidi_Control}\u2028\u2029]/u);
      }),
      { numRuns: 5000 },
    );
  });

  test("stays as it is when it is harmless", () => {
    expect(escapeText("disk voll: größe 💾 \\u{1b}")).toBe("disk voll: größe 💾 \\u{1b}");
  });
});
