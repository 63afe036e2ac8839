/** How a transfer ends, in words and fields; and what is shown of an offer. */
import { describe, expect, test } from "vitest";
import type { Problem, TransferResult } from "../../src/apps/endpoints.ts";
import { escapeText } from "../../src/apps/names.ts";
import type { Listed, Offer } from "../../src/apps/receive.ts";
import { widthOf } from "../../src/cli/format.ts";
import { listLine, offerLines, totalsOf } from "../../src/cli/listing.ts";
import { errorOf, fieldsOf, problemLines, summary, type Ending } from "../../src/cli/summary.ts";

const MIB = 1024 * 1024;

function ending(result: Partial<TransferResult>, changes: Partial<Ending> = {}): Ending {
  return {
    side: "send",
    what: "photos",
    disk: true,
    seconds: 62.5,
    path: "direct",
    result: {
      files: 0,
      directories: 0,
      bytes: 0,
      moved: 0,
      unchanged: 0,
      passed: 0,
      problems: { refused: 0, failed: 0, list: [] },
      ...result,
    },
    ...changes,
  };
}

const WHOLE = { files: 1234, directories: 12, bytes: 3400 * MIB, moved: 3400 * MIB };

describe("a summary", () => {
  test.each([
    [
      ending(WHOLE),
      "Sent photos: 1,234 files, 3.3 GiB in 1 min 3 s (54.4 MiB/s, direct); all verified and on the other side's disk",
    ],
    [
      ending({ files: 1, bytes: MIB, moved: MIB }, { what: "a.jpg", seconds: 0.5, path: "turn" }),
      "Sent a.jpg: 1.0 MiB in 0.5 s (2.0 MiB/s, TURN relay); verified and on the other side's disk",
    ],
    [
      ending(
        { files: 3, bytes: MIB, moved: MIB },
        { what: undefined, side: "receive", seconds: 1, path: undefined },
      ),
      "Received 3 files, 1.0 MiB in 1.0 s (1.0 MiB/s); all verified and on disk",
    ],
    [
      ending({ files: 1, bytes: MIB, moved: MIB }, { what: "x", side: "receive", seconds: 1, disk: false }),
      "Received x: 1.0 MiB in 1.0 s (1.0 MiB/s, direct); verified",
    ],
    [
      ending({ ...WHOLE, moved: 1400 * MIB, unchanged: 1000 }),
      "Sent photos: 1,234 files, 3.3 GiB in 1 min 3 s (22.4 MiB/s, direct); 2.0 GiB of it there already, 1,000 files unchanged; all verified and on the other side's disk",
    ],
    [
      ending({ files: 2, bytes: 10, moved: 10, passed: 1 }, { side: "receive", seconds: 1 }),
      "Received photos: 2 files, 10 B in 1.0 s (10 B/s, direct); 1 entry passed over; all verified and on disk",
    ],
    [
      ending({ directories: 1 }, { seconds: 0 }),
      "Sent photos: 1 directory in 0.1 s (direct); verified and on the other side's disk",
    ],
    [ending({ passed: 12 }), "Sent nothing: the other side passed over 12 entries"],
    [ending({}), "Sent nothing"],
    [
      ending({ files: 1, bytes: 1, moved: 0, unchanged: 1 }, { what: "a\u001b[2Jb", seconds: 0 }),
      "Sent a\\u{1b}[2Jb: 1 B in 0.1 s (direct); 1 B of it there already; verified and on the other side's disk",
    ],
  ])("%#", (given, expected) => {
    expect(summary(given)).toBe(expected);
    expect(errorOf(given)).toBeUndefined();
    expect(problemLines(given)).toEqual([]);
  });

  test("and the fields of its event", () => {
    expect(fieldsOf(ending(WHOLE))).toEqual({
      bytes: 3400 * MIB,
      files: 1234,
      seconds: 62.5,
      moved: 3400 * MIB,
      unchanged: 0,
      directories: 12,
      passed: 0,
      refused: 0,
      failed: 0,
      path: "direct",
    });
  });
});

describe("problems", () => {
  const exists = (name: string): Problem => ({
    name,
    reason: "EXISTS",
    text: `${name} exists already, and is left as it is`,
  });
  const unreadable: Problem = { name: "a/b", reason: "IO", text: "permission denied" };
  const banned: Problem = { name: "x\u202ey", reason: "REFUSED", text: "no such names here" };

  test.each([
    [
      { files: 7 },
      { refused: 0, failed: 3, list: [unreadable] },
      "INCOMPLETE",
      "3 of 10 files could not be sent",
    ],
    [
      { files: 7 },
      { refused: 1, failed: 2, list: [unreadable, banned] },
      "INCOMPLETE",
      "2 of 10 files could not be sent, and 1 was refused",
    ],
    [
      { files: 8 },
      { refused: 2, failed: 0, list: [exists("a"), exists("b")] },
      "EXISTS",
      "2 of 10 files exist already, and are left as they are",
    ],
    [
      { files: 8 },
      { refused: 2, failed: 0, list: [exists("a"), banned] },
      "REFUSED",
      "2 of 10 files were refused",
    ],
    [
      { files: 1 },
      { refused: 1, failed: 0, list: [exists("a")] },
      "EXISTS",
      "1 of 2 files exists already, and is left as it is",
    ],
    [{}, { refused: 1, failed: 0, list: [exists("a")] }, "EXISTS", "a exists already, and is left as it is"],
    [{}, { refused: 0, failed: 1, list: [unreadable] }, "INCOMPLETE", "a/b: permission denied"],
    [{}, { refused: 0, failed: 1, list: [] }, "INCOMPLETE", "1 of 1 file could not be sent"],
  ])("%#", (result, problems, code, message) => {
    const error = errorOf(ending({ ...result, problems }));
    expect(error).toMatchObject({
      code,
      message,
      fields: { refused: problems.refused, failed: problems.failed },
    });
  });

  test("are listed, escaped, unless the error says it all", () => {
    const several = ending({
      files: 1,
      problems: { refused: 1000, failed: 1, list: [exists("a"), unreadable, banned] },
    });
    expect(problemLines(several)).toEqual([
      "a exists already, and is left as it is",
      "a/b: permission denied",
      "x\\u{202e}y: no such names here",
      "and 998 more",
    ]);
    expect(problemLines(ending({ problems: { refused: 1, failed: 0, list: [exists("a")] } }))).toEqual([]);
  });

  test.each([
    ["d/a", "a exists already, and is left as it is", "d/a exists already, and is left as it is"],
    ["f", "its size changed from 1 to 2 bytes", "f: its size changed from 1 to 2 bytes"],
    [
      "d/a\u001bb",
      "the name has control characters: a\\u{1b}b",
      "d/a\\u{1b}b: the name has control characters",
    ],
    ["a/b", "the name has a path in it: a/b", "a/b: the name has a path in it"],
    ["d/l", "the link leads nowhere: ", "d/l: the link leads nowhere: "],
    ["", "the text is too long", "the text is too long"],
  ])("of %j: %s", (name, text, line) => {
    const list: Problem[] = [{ name, reason: "REFUSED", text }];
    expect(problemLines(ending({ files: 1, problems: { refused: 1, failed: 0, list } }))).toEqual([line]);
    const alone = errorOf(
      ending({ files: 0, directories: 0, passed: 0, problems: { refused: 1, failed: 0, list } }),
    );
    expect(escapeText(alone?.message ?? "")).toBe(line);
  });
});

function offerOf(entries: readonly Listed[], changes: Partial<Offer> = {}): Offer {
  const bytes = entries.reduce((sum, { size = 0 }) => sum + size, 0);
  return { entries, complete: true, total: { entries: entries.length, bytes }, unknown: false, ...changes };
}

function file(path: string, size = 1024): Listed {
  return { path, kind: "file", size };
}

function endless(path: string): Listed {
  return { path, kind: "file", size: undefined };
}

describe("an offer", () => {
  test("of a few entries is shown as it is", () => {
    const offer = offerOf([
      { path: "photos", kind: "directory", size: undefined },
      file("photos/a.jpg", 3 * MIB),
      { path: "photos/b", kind: "link", size: undefined, target: "a\u0007.jpg" },
    ]);
    expect(offerLines(offer, 80)).toEqual([
      "           photos/",
      "  3.0 MiB  photos/a.jpg",
      "           photos/b -> a\\u{7}.jpg",
    ]);
    expect(totalsOf(offer)).toBe("2 files (3.0 MiB)");
  });

  test("of many entries is shown by directory, as deep as there is room for", () => {
    const entries: Listed[] = [{ path: "photos", kind: "directory", size: undefined }];
    for (const year of ["2023", "2024"]) {
      entries.push({ path: `photos/${year}`, kind: "directory", size: undefined });
      for (let i = 0; i < 50; i++) entries.push(file(`photos/${year}/${i}.jpg`));
    }
    entries.push({ path: "photos/none", kind: "directory", size: undefined }, file("photos/index.html"));
    expect(offerLines(offerOf(entries), 80)).toEqual([
      " 50.0 KiB  photos/2023/  50 files",
      " 50.0 KiB  photos/2024/  50 files",
      "      0 B  photos/none/  empty",
      "  1.0 KiB  photos/index.html",
    ]);
  });

  test("hides no hidden name without a word", () => {
    const entries = Array.from({ length: 30 }, (_, i) => file(`${i}.txt`));
    const few = offerLines(offerOf([...entries, file(".bashrc")]), 80);
    expect(few).toHaveLength(20);
    expect(few[0]).toBe("  1.0 KiB  .bashrc");
    expect(few.at(-1)).toBe("           ... and 12 more");
    const many = Array.from({ length: 30 }, (_, i) => file(`.h${i}`));
    for (const columns of [40, 80]) {
      const lines = offerLines(offerOf([...entries, ...many]), columns);
      expect(lines.at(-1)).toMatch(/\.\.\. and 41 more, 11 hidden/);
    }
  });

  test("that is not complete says so", () => {
    const entries = Array.from({ length: 8192 }, (_, i) => file(`d/${i}`));
    const offer = offerOf(entries, { complete: false, total: { entries: 10_000, bytes: 0 }, unknown: true });
    expect(offerLines(offer, 80)).toEqual([
      "  8.0 MiB  d/  8,192 files",
      "           ... and 1,808 entries not listed here",
    ]);
    expect(totalsOf(offer)).toBe("10,000 entries (size not known)");
  });

  test("of which --only leaves something, and more may come", () => {
    const offer = offerOf([file("a", 10)], { complete: false, unknown: true });
    expect(offerLines(offer, 80)).toEqual(["     10 B  a", "           ... and what is not listed yet"]);
    expect(totalsOf(offer)).toBe("1 entry and more (10 B and more)");
  });

  test.each([20, 40, 80])("fits %i columns", (columns) => {
    const entries = Array.from({ length: 60 }, (_, i) =>
      file(`${"文".repeat(60)}${i}/${"x".repeat(200)}.jpg`, MIB * i),
    );
    for (const offer of [
      offerOf(entries),
      offerOf(entries.slice(0, 5)),
      offerOf(entries, { complete: false }),
    ])
      for (const line of offerLines(offer, columns)) expect(widthOf(line)).toBeLessThan(columns);
  });

  test.each([
    [[file("a.jpg", 3 * MIB)], {}, "a.jpg (3.0 MiB)"],
    [[endless("stdin")], { unknown: true }, "stdin (size not known)"],
    [[endless("stdin"), file("b", 1024)], { unknown: true }, "2 files (1.0 KiB and more)"],
    [[{ path: "d", kind: "directory" as const, size: undefined }], {}, "d/"],
  ])("in total: %#", (entries, changes, expected) => {
    expect(totalsOf(offerOf(entries, changes))).toBe(expected);
  });
});

test("a line of --list", () => {
  const mtime = new Date(2024, 4, 1, 12, 30).getTime() * 1000;
  expect(listLine({ ...file("a.jpg", 3 * MIB), mtime })).toBe("  3.0 MiB  2024-05-01 12:30  a.jpg");
  expect(listLine({ path: "d", kind: "directory", size: undefined })).toBe(`${" ".repeat(29)}d/`);
  expect(listLine(endless("x"))).toBe(`        ?  ${" ".repeat(16)}  x`);
  expect(listLine({ path: "l", kind: "link", size: undefined, target: "../x", mtime: NaN })).toContain(
    "l -> ../x",
  );
});
