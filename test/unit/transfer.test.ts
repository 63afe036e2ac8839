/** Trees over two sessions in memory: what is asked, what is sent, and what both sides say came of it. */
import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import type { SourceEntry } from "../../src/apps/endpoints.ts";
import type { Conflict, Listed, Offer } from "../../src/apps/receive.ts";
import { DcpipeError } from "../../src/errors.ts";
import { MemoryDisk } from "./memory-target.ts";
import { MTIME, sourceFile, transfer, treeOf, type Tree } from "./transfer.ts";

const BIG = new Uint8Array(randomBytes(1_000_000));
const EMPTY = new Uint8Array(0);

function kept(disk: MemoryDisk): Record<string, string> {
  return Object.fromEntries(disk.contents());
}

test("a tree arrives, with empty files and directories, links and attributes", async () => {
  const disk = new MemoryDisk();
  const tree = {
    photos: { "a.jpg": BIG, empty: "", sub: { deeper: {}, "b.txt": "hello" }, link: "->sub/b.txt" },
    top: "x",
  };
  const { sent, received } = await transfer(treeOf(tree), { target: disk.target });
  expect(sent).toEqual(received);
  expect(sent).toMatchObject({ files: 5, directories: 3, bytes: 1_000_006, moved: 1_000_006 });
  expect(sent).toMatchObject({ unchanged: 0, passed: 0, problems: { refused: 0, failed: 0, list: [] } });
  expect(Object.keys(kept(disk)).sort()).toEqual(
    [
      "photos",
      "photos/a.jpg",
      "photos/empty",
      "photos/sub",
      "photos/sub/deeper",
      "photos/sub/b.txt",
      "photos/link",
      "top",
    ].sort(),
  );
  expect(kept(disk)["photos/link"]).toBe("link: sub/b.txt");
  expect(disk.attributes("photos/sub")).toEqual({ mode: 0o750, mtime: MTIME });
  expect(disk.attributes("photos/a.jpg")).toEqual({ mode: 0o640, mtime: MTIME });
  expect([disk.violations, disk.outsideChanges(), disk.open.size]).toEqual([[], [], 0]);
});

test("the same tree once more: nothing travels, nothing is written", async () => {
  const disk = new MemoryDisk();
  const tree = treeOf({ d: { a: "one", b: BIG, l: "->a" }, e: "" });
  await transfer(tree, { target: disk.target });
  const before = [...disk.writes];
  const { sent, received } = await transfer(tree, { target: disk.target });
  expect(sent).toEqual(received);
  expect(sent).toMatchObject({ files: 4, bytes: 1_000_003, moved: 0, unchanged: 3 });
  expect(disk.writes.slice(before.length).filter((write) => !write.includes("finish"))).toEqual([]);
});

const CONFLICTS: readonly [Conflict, Record<string, string>, object][] = [
  [
    "refuse",
    { a: "file: old", d: "directory", "d/b": "file: same" },
    { files: 2, problems: { refused: 1, failed: 0 } },
  ],
  [
    "overwrite",
    { a: "file: new", d: "directory", "d/b": "file: same" },
    { files: 3, problems: { refused: 0 } },
  ],
  [
    "skip",
    { a: "file: old", d: "directory", "d/b": "file: same" },
    { files: 2, passed: 1, problems: { refused: 0 } },
  ],
  ["rename", { a: "file: old", "a (1)": "file: new", d: "directory", "d/b": "file: same" }, { files: 3 }],
];

for (const [conflict, expected, result] of CONFLICTS) {
  for (const asked of [false, true]) {
    test(`a file of that name with other content: ${conflict}${asked ? ", as somebody said" : ""}`, async () => {
      const disk = new MemoryDisk();
      disk.put("a", { file: "old" });
      disk.put("d", "directory");
      disk.put("d/b", { file: "same" });
      const questions: string[] = [];
      const ask = (path: string): Promise<Conflict> => {
        questions.push(path);
        return Promise.resolve(conflict);
      };
      const { sent, received } = await transfer(treeOf({ a: "new", d: { b: "same" }, z: "" }), {
        target: disk.target,
        conflict: asked ? ask : conflict,
      });
      expect(sent).toMatchObject(result);
      expect(received).toMatchObject(result);
      expect(kept(disk)).toEqual({ ...expected, z: "file: " });
      expect(questions).toEqual(asked ? ["a"] : []);
      expect(sent.problems.list).toEqual(received.problems.list);
    });
  }
}

test("renaming again finds what was renamed before", async () => {
  const disk = new MemoryDisk();
  disk.put("a.txt", { file: "old" });
  for (const unchanged of [0, 1]) {
    const { sent } = await transfer(treeOf({ "a.txt": "new" }), { target: disk.target, conflict: "rename" });
    expect(sent).toMatchObject({ files: 1, unchanged });
  }
  expect(kept(disk)).toEqual({ "a.txt": "file: old", "a (1).txt": "file: new" });
});

test("a directory where a file is, and a file where a directory is", async () => {
  for (const conflict of ["refuse", "overwrite"] as const) {
    const disk = new MemoryDisk();
    disk.put("a", { file: "old" });
    disk.put("b", "directory");
    const { sent, received } = await transfer(treeOf({ a: { x: "1", y: { z: "2" } }, b: "new", c: "3" }), {
      target: disk.target,
      conflict,
    });
    expect(kept(disk)).toEqual({ a: "file: old", b: "directory", c: "file: 3" });
    expect(sent).toMatchObject({ files: 1, passed: 3, problems: { refused: 2, failed: 0 } });
    expect(received).toMatchObject({ files: 1, problems: { refused: 2 } });
    expect(received.problems.list.map(({ name }) => name)).toEqual(["a", "b"]);
  }
});

test("a part is gone on with when it is the beginning, and begun anew when it is not", async () => {
  for (const [part, moved] of [
    [BIG.slice(0, 400_000), 600_000],
    [BIG.slice(0, 400_001).fill(1, 5, 6), 1_000_000],
    [BIG, 0],
    [new Uint8Array(2_000_000), 1_000_000],
  ] as const) {
    const disk = new MemoryDisk();
    disk.putPart("big", part);
    const { sent, received } = await transfer(treeOf({ big: BIG }), { target: disk.target });
    expect(sent).toEqual(received);
    expect(sent).toMatchObject({ files: 1, bytes: 1_000_000, moved });
    expect(Buffer.compare(disk.fileOf("big") ?? EMPTY, BIG)).toBe(0);
  }
});

test("only what is wanted; directories come as they are needed", async () => {
  const disk = new MemoryDisk();
  const tree = { d: { "a.txt": "1", "b.jpg": "2", no: { "c.jpg": "3" } }, "e.txt": "4" };
  const { sent, received } = await transfer(treeOf(tree), {
    target: disk.target,
    wanted: (path) => path.endsWith(".txt"),
  });
  expect(kept(disk)).toEqual({ d: "directory", "d/a.txt": "file: 1", "e.txt": "file: 4" });
  expect(sent).toMatchObject({ files: 2, directories: 1, passed: 3 });
  expect(received).toEqual(sent);
});

test("a list takes nothing", async () => {
  const disk = new MemoryDisk();
  const seen: Listed[] = [];
  const { sent } = await transfer(treeOf({ d: { a: "1", l: "->a" }, t: "22" }), {
    target: disk.target,
    onlisted: (entry) => seen.push(entry),
  });
  expect(seen.map(({ path, kind, size }) => [path, kind, size])).toEqual([
    ["d", "directory", undefined],
    ["d/a", "file", 1],
    ["d/l", "link", undefined],
    ["t", "file", 2],
  ]);
  expect(sent).toMatchObject({ files: 0, bytes: 0, passed: 4 });
  expect(disk.writes).toEqual([]);
});

test("nothing is written before the question is answered, and nothing after a no", async () => {
  for (const yes of [true, false]) {
    const disk = new MemoryDisk();
    let offer: Offer | undefined;
    const both = transfer(treeOf({ d: { a: "12", ["b\u001b[2J"]: "3" }, l: "->../x" }), {
      target: disk.target,
      approve: (it) => {
        offer = it;
        expect(disk.writes).toEqual([]);
        return Promise.resolve(yes);
      },
    });
    if (yes) await expect(both).resolves.toMatchObject({ sent: { files: 1, problems: { refused: 2 } } });
    else await expect(both).rejects.toMatchObject({ code: "REFUSED" });
    expect(offer).toMatchObject({ complete: true, total: { entries: 4, bytes: 3 }, unknown: false });
    expect(offer?.entries.map(({ path }) => path)).toEqual(["d", "d/a"]);
    expect(Object.keys(kept(disk))).toEqual(yes ? ["d", "d/a"] : []);
  }
});

test("a text is given to whoever takes it, and is a file otherwise", async () => {
  const text = (): AsyncIterable<SourceEntry> => asyncOf([{ kind: "text", text: "grüße" }]);
  const disk = new MemoryDisk();
  const texts: string[] = [];
  const ontext = (it: string): Promise<void> => Promise.resolve(void texts.push(it));
  const approve = (): Promise<boolean> => Promise.resolve(false);
  await transfer(text, { target: disk.target, ontext, approve });
  expect([texts, kept(disk)]).toEqual([["grüße"], {}]);
  await transfer(text, { target: disk.target });
  expect(kept(disk)).toEqual({ "text.txt": "file: grüße" });
});

function asyncOf(entries: readonly SourceEntry[]): AsyncIterable<SourceEntry> {
  return (async function* () {
    await Promise.resolve();
    yield* entries;
  })();
}

test("more entries than the window holds, asked for and not", async () => {
  const tree: Record<string, Tree> = {};
  for (let i = 0; i < 30; i++)
    tree[`d${i}`] = Object.fromEntries(Array.from({ length: 600 }, (_, k) => [`f${k}`, `${i}`]));
  for (const approve of [
    undefined,
    (offer: Offer) => Promise.resolve(!offer.complete && offer.total.entries === 18_030),
  ]) {
    const disk = new MemoryDisk();
    const { sent, received } = await transfer(treeOf(tree), { target: disk.target, approve });
    expect(sent).toEqual(received);
    expect(sent).toMatchObject({ files: 18_000, directories: 30, problems: { refused: 0, failed: 0 } });
    expect(disk.contents().size).toBe(18_030);
  }
});

test("what changes while it is sent, cannot be opened or read is reported on both sides, the rest arrives", async () => {
  const disk = new MemoryDisk();
  const open = sourceFile("x", BIG);
  if (open.kind !== "file") throw new Error("no file");
  const broken = (name: string, change: object): SourceEntry => ({
    ...open,
    name,
    open: async () => ({ ...(await open.open()), ...change }),
  });
  const tree = (): AsyncIterable<SourceEntry> =>
    asyncOf([
      { ...open, name: "denied", open: () => Promise.reject(new DcpipeError("IO", "permission denied")) },
      broken("changed", { changed: () => Promise.resolve("it was modified while it was sent") }),
      broken("fails", { read: () => Promise.reject(new DcpipeError("IO", "the disk is on fire")) }),
      { ...open, name: "grows", size: 10 },
      { ...open, name: "shrinks", size: 1_000_001 },
      { kind: "missing", name: "gone", text: "no such file or directory" },
      sourceFile("good", BIG),
    ]);
  const { sent, received } = await transfer(tree, { target: disk.target });
  expect(sent.problems).toEqual(received.problems);
  expect(sent).toMatchObject({ files: 1, bytes: 1_000_000, problems: { failed: 6, refused: 0 } });
  expect(Object.fromEntries(sent.problems.list.map(({ name, text }) => [name, text]))).toMatchObject({
    denied: "permission denied",
    changed: "it was modified while it was sent",
    fails: "the disk is on fire",
    gone: "no such file or directory",
  });
  expect(Object.keys(kept(disk))).toEqual(["good"]);
});

test("a full disk ends it on both sides", async () => {
  const disk = new MemoryDisk({ capacity: 1_500_000 });
  const tree = treeOf({ a: BIG, b: BIG, c: "small" });
  await expect(transfer(tree, { target: disk.target })).rejects.toMatchObject({ code: "NO_SPACE" });
  expect(Buffer.compare(disk.fileOf("a") ?? EMPTY, BIG)).toBe(0);
});

test("one name for the only thing that comes", async () => {
  const disk = new MemoryDisk();
  await transfer(treeOf({ "bad\u0000name": { a: "1" } }), { target: disk.target, name: "good" });
  expect(kept(disk)).toEqual({ good: "directory", "good/a": "file: 1" });
  const { sent } = await transfer(treeOf({ a: "1", b: "2" }), { target: disk.target, name: "one" });
  expect(sent).toMatchObject({ files: 1, problems: { refused: 1 } });
});

test("progress ends with all of it, on both sides", async () => {
  const disk = new MemoryDisk();
  const last: Record<string, object> = {};
  await transfer(
    treeOf({ a: BIG, b: "x" }),
    { target: disk.target, onprogress: (progress) => (last["received"] = progress) },
    { onprogress: (progress) => (last["sent"] = progress) },
  );
  for (const side of ["sent", "received"])
    expect(last[side]).toMatchObject({ bytes: 1_000_001, total: 1_000_001, files: 2, totalFiles: 2 });
});

test("without a codec on the sending side nothing is compressed; a limit is kept to", async () => {
  const disk = new MemoryDisk();
  await transfer(
    treeOf({ a: "a".repeat(300_000) }),
    { target: disk.target, limit: 4e6 },
    { codec: undefined, limit: 2e6 },
  );
  expect(disk.fileOf("a")?.length).toBe(300_000);
});

test("a count that ends after the list says nothing any more", async () => {
  const files = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`f${i}`, ""]));
  let walks = 0;
  let listed: () => void;
  const first = new Promise<void>((resolve) => (listed = resolve));
  const tree = async function* (): AsyncGenerator<SourceEntry> {
    const counting = walks++ > 0;
    yield* treeOf(files)();
    if (!counting) {
      listed();
      return;
    }
    await first;
    // Past everything that the list's end sets off.
    await new Promise((resolve) => setImmediate(resolve));
  };
  const { sent } = await transfer(tree, { target: new MemoryDisk().target });
  expect([walks, sent.files]).toEqual([2, 5000]);
});
