/** Directories, links and texts between two processes: what arrives, what is left out, what is in the way. */
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import {
  type Dcpipe,
  expectEqualFiles,
  fail,
  makeFile,
  partsOf,
  partSize,
  rootTest,
  start,
  succeed,
  temporaryDirectory,
} from "./dcpipe.ts";
import { compareTrees, makeTree, mountTmpfs, problems, transfer } from "./transfer.ts";

const MIB = 1024 * 1024;

/** Writes files, given as path and content, into a new directory of this name. A path that ends with a slash is a directory. */
function makeFiles(name: string, files: Readonly<Record<string, string>>): string {
  const directory = join(temporaryDirectory(), name);
  mkdirSync(directory);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(directory, path.endsWith("/") ? path : dirname(path)), { recursive: true });
    if (!path.endsWith("/")) writeFileSync(join(directory, path), content);
  }
  return directory;
}

/** All paths below a directory, sorted; directories end with a slash. */
function pathsBelow(directory: string, above = ""): string[] {
  return readdirSync(join(directory, above), { withFileTypes: true })
    .flatMap((entry) => {
      const path = above + entry.name;
      return entry.isDirectory() ? [`${path}/`, ...pathsBelow(directory, `${path}/`)] : [path];
    })
    .sort();
}

/** What a directory that nobody may write to holds has to go too. */
function removable(directory: string): string {
  onTestFinished(() => {
    execFileSync("chmod", ["-R", "u+rwx", directory]);
  });
  return directory;
}

/** Both ends of a transfer that went well. */
async function done(sender: Dcpipe, receiver: Dcpipe): Promise<void> {
  await succeed(sender, receiver);
  const figures = ["files", "directories", "bytes", "moved", "unchanged", "passed"] as const;
  const of = (side: Dcpipe): unknown[] => figures.map((figure) => side.find("done")?.[figure]);
  expect(of(sender)).toEqual(of(receiver));
}

// ---- what arrives ---------------------------------------------------------------------------------------------------

for (const waits of ["sender", "receiver"] as const) {
  test(`a tree of all kinds of things, and once more; the ${waits} waits`, async () => {
    const [source, target] = [join(removable(temporaryDirectory()), "tree"), removable(temporaryDirectory())];
    const bytes = makeTree(source, { small: 300 });
    const first = await transfer([[source]], [["-o", target]], waits);
    await done(first.sender, first.receiver);
    expect(compareTrees(source, join(target, "tree"))).toEqual([]);
    expect(readdirSync(target)).toEqual(["tree"]);
    expect(first.sender.find("done")).toMatchObject({ bytes, moved: bytes, files: 317, directories: 31 });
    expect(first.sender.stdout.length + first.receiver.stdout.length).toBe(0);

    const again = await transfer([[source]], [["-o", target]], waits);
    await done(again.sender, again.receiver);
    expect(again.sender.find("done")).toMatchObject({ bytes, moved: 0, unchanged: 302, files: 317 });
    expect(compareTrees(source, join(target, "tree"))).toEqual([]);
  });
}

test("several PATHs, directories, files and stdin; a slash at the end is no matter", async () => {
  const [one, two] = [makeFiles("one", { "a/b": "ab", c: "c" }), makeFiles("two", { "e/": "" })];
  const target = temporaryDirectory();
  const { sender, receiver } = await transfer(
    [[`${one}/`, "-", two, makeFile("f", 10)], { stdin: Buffer.from("in") }],
    [["-o", target]],
  );
  await done(sender, receiver);
  expect(pathsBelow(target)).toEqual(["f", "one/", "one/a/", "one/a/b", "one/c", "stdin", "two/", "two/e/"]);
});

test("the working directory itself is sent under its name", async () => {
  const [source, target] = [makeFiles("here", { a: "a" }), temporaryDirectory()];
  const { sender, receiver } = await transfer([["."], { cwd: source }], [["-o", target]]);
  await done(sender, receiver);
  expect(pathsBelow(target)).toEqual(["here/", "here/a"]);
});

test("an empty directory, and one that is to get another name", async () => {
  const [source, target] = [makeFiles("empty", {}), temporaryDirectory()];
  chmodSync(source, 0o700);
  utimesSync(source, 1e9, 1e9);
  const { sender, receiver } = await transfer([[source]], [["-o", join(target, "newname")]]);
  await done(sender, receiver);
  expect(sender.find("done")).toMatchObject({ files: 0, directories: 1, bytes: 0 });
  expect(compareTrees(source, join(target, "newname"))).toEqual([]);

  const tree = makeFiles("tree", { "a/b": "ab", c: "c" });
  const named = await transfer([[tree]], [["-o", join(target, "other")]]);
  await done(named.sender, named.receiver);
  expect(compareTrees(tree, join(target, "other"))).toEqual([]);
  expect(readdirSync(target).sort()).toEqual(["newname", "other"]);
});

test("two PATHs of one name: status 2 before anybody is asked", async () => {
  for (const paths of [
    [makeFile("f", 1), makeFile("f", 1)],
    [makeFiles("d", {}), makeFile("d", 1)],
    [`${makeFiles("d", {})}/`, makeFiles("d", {})],
  ]) {
    const sender = start(["send", ...paths]);
    await fail(sender, 2, /have the same name at the other side/);
    expect(sender.find("offer")).toBeUndefined();
  }
});

test("links stay links, and --follow sends what they point to", async () => {
  const source = makeFiles("tree", { file: "content", "dir/inner": "inner" });
  symlinkSync("file", join(source, "to-file"));
  symlinkSync("dir", join(source, "to-dir"));
  symlinkSync("nowhere", join(source, "dangling"));
  const [links, followed] = [temporaryDirectory(), temporaryDirectory()];
  const plain = await transfer([[source]], [["-o", links]]);
  await done(plain.sender, plain.receiver);
  expect(readlinkSync(join(links, "tree/dangling"))).toBe("nowhere");
  expect(compareTrees(source, join(links, "tree"))).toEqual([]);

  const { sender, receiver } = await transfer([[source, "--follow"]], [["-o", followed]]);
  await fail(sender, 6, /1 of 5 files could not be sent/);
  await fail(receiver, 6, /1 of 5 files could not be received/);
  for (const side of [sender, receiver])
    expect(problems(side)).toEqual([["tree/dangling", "IO", "it is a link to nowhere"]]);
  expect(lstatSync(join(followed, "tree/to-file")).isFile()).toBe(true);
  expect(readFileSync(join(followed, "tree/to-dir/inner"), "utf8")).toBe("inner");
});

test("a PATH that is a link is sent as one, with a note", async () => {
  const [directory, target] = [makeFiles("d", { file: "content" }), temporaryDirectory()];
  symlinkSync("file", join(directory, "link"));
  const { sender, receiver } = await transfer([[join(directory, "link")]], [["-o", target]]);
  await done(sender, receiver);
  expect(readlinkSync(join(target, "link"))).toBe("file");
  expect(sender.find("note")?.text).toMatch(/link is a symbolic link and is sent as one; --follow/);
});

// ---- what is left out -----------------------------------------------------------------------------------------------

const FILES = {
  "a.tmp": "1",
  "a.txt": "22",
  "build/out.o": "333",
  "sub/b.tmp": "4444",
  "sub/b.txt": "55555",
  "sub/build/x": "666666",
  "sub/.hidden.tmp": "7777777",
};

test("--exclude leaves out names and paths, and directories with all that is in them", async () => {
  const [source, target] = [makeFiles("tree", FILES), temporaryDirectory()];
  const { sender, receiver } = await transfer(
    [[source, "--exclude", "*.tmp", "--exclude", "/build"]],
    [["-o", target]],
  );
  await done(sender, receiver);
  expect(pathsBelow(join(target, "tree"))).toEqual([
    "a.txt",
    "sub/",
    "sub/b.txt",
    "sub/build/",
    "sub/build/x",
  ]);
  await fail(start(["send", source, "--exclude", ""]), 2, /--exclude needs a pattern/);
});

test("--only takes what matches, with the directories that this needs", async () => {
  const [source, target] = [makeFiles("tree", FILES), temporaryDirectory()];
  const { sender, receiver } = await transfer(
    [[source]],
    [["-o", target, "--only", "*.txt", "--only", "tree/sub/build"]],
  );
  await done(sender, receiver);
  expect(pathsBelow(join(target, "tree"))).toEqual([
    "a.txt",
    "sub/",
    "sub/b.txt",
    "sub/build/",
    "sub/build/x",
  ]);
  expect(receiver.find("done")).toMatchObject({ files: 3, directories: 3, passed: 5 });
});

test("--list shows everything, writes nothing, and both end well", async () => {
  const [source, target] = [makeFiles("tree", FILES), temporaryDirectory()];
  symlinkSync("a.txt", join(source, "link"));
  utimesSync(join(source, "a.txt"), 1e9, 1e9);
  const { sender, receiver } = await transfer([[source]], [["--list"], { cwd: target }]);
  await succeed(sender, receiver);
  expect(readdirSync(target)).toEqual([]);
  expect(receiver.stdout.length).toBe(0);
  const entries = receiver.events.filter(({ event }) => event === "entry");
  expect(entries.map(({ path }) => path).sort()).toEqual(
    ["tree", ...pathsBelow(source).map((path) => `tree/${path.replace(/\/$/, "")}`)].sort(),
  );
  expect(entries.find(({ path }) => path === "tree/a.txt")).toEqual({
    event: "entry",
    path: "tree/a.txt",
    kind: "file",
    size: 2,
    mtime: 1e15,
  });
  expect(entries.find(({ path }) => path === "tree/link")).toMatchObject({ kind: "link", target: "a.txt" });
  expect(sender.find("done")).toMatchObject({ files: 0, moved: 0, passed: 12 });

  const people = await transfer(
    [[source], { json: true }],
    [["--list", "--only", "*.txt"], { cwd: target, json: false }],
  );
  const [, exit] = await succeed(people.sender, people.receiver);
  expect(exit?.stderr).toMatch(/^ +2 B  2001-09-0\d \d\d:\d\d  tree\/a\.txt$/m);
  expect(exit?.stderr).not.toContain("b.tmp");
  expect(exit?.stderr).toMatch(/^2 files, 7 B; nothing was written$/m);
  expect(readdirSync(target)).toEqual([]);
});

test("what is special is passed over with a line", async () => {
  const [source, target] = [makeFiles("tree", { f: "f", "g.1-1.dcpipe-part": "part" }), temporaryDirectory()];
  execFileSync("mkfifo", [join(source, "fifo")]);
  const { sender, receiver } = await transfer([[source]], [["-o", target]]);
  await done(sender, receiver);
  expect(pathsBelow(target)).toEqual(["tree/", "tree/f"]);
  const notes = sender.events.filter(({ event }) => event === "note").map(({ text }) => text);
  expect(notes).toEqual([
    `skipped ${source}/fifo: it is a FIFO`,
    `skipped ${source}/g.1-1.dcpipe-part: it is a file that dcpipe has not received completely`,
  ]);
});

test("what cannot be read is told on both sides, and everything else arrives", async () => {
  const source = makeFiles("tree", { a: "a", secret: "no", "closed/x": "x", "open/y": "y" });
  const target = temporaryDirectory();
  chmodSync(join(source, "secret"), 0);
  chmodSync(join(source, "closed"), 0);
  const sides = await transfer([[source], { unprivileged: true }], [["-o", target]]);
  await fail(sides.sender, 6, /2 of 4 files could not be sent/);
  await fail(sides.receiver, 6, /2 of 4 files could not be received/);
  for (const side of [sides.sender, sides.receiver]) {
    expect(problems(side)).toEqual([
      ["tree/closed", "IO", "permission denied"],
      ["tree/secret", "IO", "permission denied"],
    ]);
    expect(side.error).toMatchObject({ code: "INCOMPLETE", files: 2, failed: 2, refused: 0 });
    expect(side.find("done")).toBeUndefined();
  }
  expect(pathsBelow(target)).toEqual(["tree/", "tree/a", "tree/open/", "tree/open/y"]);
  const people = await transfer(
    [[source], { unprivileged: true, json: true }],
    [["-o", target], { json: false }],
  );
  await fail(people.sender, 6);
  const { stderr } = await fail(people.receiver, 6);
  expect(stderr).toContain(
    "  tree/closed: permission denied\n  tree/secret: permission denied\n" +
      "dcpipe: 2 of 4 files could not be received\n",
  );
});

test("what vanishes behind the offer is told, and what changes while it is sent", async () => {
  const source = makeFiles("tree", { "1": "", "2": "two", "3": "three" });
  writeFileSync(join(source, "1"), Buffer.alloc(3 * MIB, "x"));
  const target = temporaryDirectory();
  const { sender, receiver } = await transfer(
    [[source, "--limit", "2M", "--compress", "off"]],
    [["-o", target]],
  );
  await receiver.event("progress", ({ bytes = 0 }) => bytes > 0);
  appendFileSync(join(source, "1"), "more");
  rmSync(join(source, "2"));
  await fail(sender, 6, /2 of 3 files could not be sent/);
  await fail(receiver, 6, /2 of 3 files could not be received/);
  for (const side of [sender, receiver])
    expect(problems(side)).toEqual([
      ["tree/1", "INCOMPLETE", "it has grown while it was sent"],
      ["tree/2", "INCOMPLETE", "it was removed since it was listed"],
    ]);
  expect(readFileSync(join(target, "tree/3"), "utf8")).toBe("three");
  expect(readdirSync(join(target, "tree")).sort()).toEqual([...partsOf(join(target, "tree/1")), "3"].sort());
});

// ---- texts and stdin ------------------------------------------------------------------------------------------------

test("a text is printed; with -o - as it is, with another -o as a file", async () => {
  const text = "naïve 文件\n\u001b[1mtwo";
  const printed = await transfer([["--text", text]], [[]]);
  await succeed(printed.sender, printed.receiver);
  expect(printed.receiver.stdout.toString()).toBe(`${text}\n`);
  const exact = await transfer([["--text", text]], [["-o", "-"]]);
  await succeed(exact.sender, exact.receiver);
  expect(exact.receiver.stdout.toString()).toBe(text);
  const target = temporaryDirectory();
  for (const output of [`${target}/`, join(target, "named")]) {
    const { sender, receiver } = await transfer([["--text", text]], [["-o", output]]);
    await done(sender, receiver);
    expect(receiver.stdout.length).toBe(0);
  }
  expect(readdirSync(target).sort()).toEqual(["named", "text.txt"]);
  for (const name of ["named", "text.txt"]) expect(readFileSync(join(target, name), "utf8")).toBe(text);
});

test("--text goes alone, is no longer than 64 KiB, and may be empty", async () => {
  await fail(start(["send", "--text", "x", makeFile("f", 1)]), 2, /--text goes alone/);
  await fail(start(["send", "--text", "x".repeat(65_537)]), 2, /64 KiB at most/);
  await fail(start(["send", "--name", "x", makeFile("f", 1)]), 2, /--name is for stdin/);
  await fail(start(["send", "-", "--name", "a/b"]), 2, /the name has a path in it/);
  const { sender, receiver } = await transfer([["--text", ""]], [[]]);
  await succeed(sender, receiver);
  expect(receiver.stdout.toString()).toBe("\n");
});

test("a tree does not go to stdout", async () => {
  const { sender, receiver } = await transfer([[makeFiles("tree", { a: "a" })]], [["-o", "-"]]);
  await fail(sender, 5);
  await fail(receiver, 5);
  expect(receiver.stdout.length).toBe(0);
});

// ---- what is there already ------------------------------------------------------------------------------------------

/** A target where one file of three is the same, one is another, and a link and a directory are in the way. */
function conflicting(): { source: string; target: string } {
  const source = makeFiles("tree", {
    same: "same",
    other: "of the sender",
    link: "a file",
    dir: "a file",
    new: "new",
  });
  const target = temporaryDirectory();
  const there = join(target, "tree");
  mkdirSync(join(there, "dir"), { recursive: true });
  writeFileSync(join(there, "same"), "same");
  writeFileSync(join(there, "other"), "of the target");
  symlinkSync("same", join(there, "link"));
  return { source, target };
}

const NAMES = ["dir", "link", "new", "other", "same"];

test("without an option what exists is refused, and the rest arrives", async () => {
  const { source, target } = conflicting();
  const { sender, receiver } = await transfer([[source]], [["-o", target]]);
  await fail(sender, 5, /3 of 5 files exist already, and are left as they are/);
  await fail(receiver, 5, /3 of 5 files exist already, and are left as they are/);
  for (const side of [sender, receiver]) {
    expect(problems(side).map(([path, reason]) => [path, reason])).toEqual([
      ["tree/dir", "EXISTS"],
      ["tree/link", "EXISTS"],
      ["tree/other", "EXISTS"],
    ]);
    expect(side.error).toMatchObject({ code: "EXISTS", files: 2, unchanged: 1, moved: 3, refused: 3 });
  }
  const there = join(target, "tree");
  expect(readdirSync(there).sort()).toEqual(NAMES);
  expect(readFileSync(join(there, "other"), "utf8")).toBe("of the target");
  expect(readlinkSync(join(there, "link"))).toBe("same");
});

test("--skip keeps what exists, with status 0", async () => {
  const { source, target } = conflicting();
  const { sender, receiver } = await transfer([[source]], [["-o", target, "--skip"]]);
  await done(sender, receiver);
  expect(receiver.find("done")).toMatchObject({ files: 2, passed: 3, moved: 3 });
  expect(readdirSync(join(target, "tree")).sort()).toEqual(NAMES);
  expect(readFileSync(join(target, "tree/other"), "utf8")).toBe("of the target");
});

test("--rename puts what comes next to it", async () => {
  const { source, target } = conflicting();
  const { sender, receiver } = await transfer([[source]], [["-o", target, "--rename"]]);
  await done(sender, receiver);
  const there = join(target, "tree");
  expect(readdirSync(there).sort()).toEqual([...NAMES, "dir (1)", "link (1)", "other (1)"].sort());
  expect(readFileSync(join(there, "other"), "utf8")).toBe("of the target");
  expect(readFileSync(join(there, "other (1)"), "utf8")).toBe("of the sender");
  expect(readFileSync(join(there, "dir (1)"), "utf8")).toBe("a file");
});

test("--overwrite replaces files and links, and no directory", async () => {
  const { source, target } = conflicting();
  const { sender, receiver } = await transfer([[source]], [["-o", target, "--overwrite"]]);
  for (const side of [sender, receiver]) {
    await fail(side, 5, /1 of 5 files exists already/);
    expect(problems(side)).toEqual([
      ["tree/dir", "EXISTS", "dir exists already as a directory, and is left as it is"],
    ]);
  }
  const there = join(target, "tree");
  expect(readdirSync(there).sort()).toEqual(NAMES);
  expect(readFileSync(join(there, "other"), "utf8")).toBe("of the sender");
  expect(lstatSync(join(there, "link")).isFile()).toBe(true);
  expect(readFileSync(join(there, "same"), "utf8")).toBe("same");
});

test("--overwrite, --rename and --skip exclude each other", async () => {
  await fail(start(["receive", "--skip", "--rename"]), 2, /exclude each other/);
});

test("a directory that is there keeps its mode and time; --overwrite gives it the sender's", async () => {
  const [source, target] = [makeFiles("tree", { a: "a" }), temporaryDirectory()];
  chmodSync(source, 0o700);
  utimesSync(source, 1e9, 1e9);
  const there = join(target, "tree");
  mkdirSync(there, { mode: 0o755 });
  const kept = await transfer([[source]], [["-o", target]]);
  await done(kept.sender, kept.receiver);
  expect(statSync(there).mode & 0o777).toBe(0o755);
  const forced = await transfer([[source]], [["-o", target, "--overwrite"]]);
  await done(forced.sender, forced.receiver);
  expect(compareTrees(source, there)).toEqual([]);
});

test("a file stands where a tree is to go", async () => {
  const [source, target] = [makeFiles("tree", { a: "a", "b/c": "c" }), temporaryDirectory()];
  for (const output of [`${target}/`, join(target, "tree")]) {
    writeFileSync(join(target, "tree"), "precious");
    const { sender, receiver } = await transfer([[source]], [["-o", output]]);
    for (const side of [sender, receiver]) {
      await fail(side, 5);
      expect(problems(side).map(([path, reason]) => [path, reason])).toEqual([["tree", "EXISTS"]]);
    }
    expect(readFileSync(join(target, "tree"), "utf8")).toBe("precious");
    expect(readdirSync(target)).toEqual(["tree"]);
  }
});

test("a directory in the target that nobody may write to: what is in it fails, the rest arrives", async () => {
  const [source, target] = [makeFiles("tree", { "a/x": "x", "b/y": "y" }), temporaryDirectory()];
  const closed = join(target, "tree/a");
  mkdirSync(closed, { recursive: true });
  chmodSync(closed, 0o555);
  const { sender, receiver } = await transfer([[source]], [["-o", target], { unprivileged: true }]);
  for (const side of [sender, receiver]) {
    await fail(side, 6, /1 of 2 files could not be/);
    const [[path, reason, text] = [], ...others] = problems(side);
    expect([path, reason, others]).toEqual(["tree/a/x", "IO", []]);
    expect(text).toMatch(/permission denied/);
  }
  expect(readFileSync(join(target, "tree/b/y"), "utf8")).toBe("y");
  expect(readdirSync(closed)).toEqual([]);
});

test("a target that is moved away meanwhile: nothing is written anywhere else", async () => {
  const [source, parent] = [makeFile("f", 3 * MIB), temporaryDirectory()];
  const [target, away] = [join(parent, "target"), join(parent, "away")];
  mkdirSync(target);
  const { sender, receiver } = await transfer([[source, "--limit", "2M"]], [["-o", target]]);
  await receiver.event("progress", ({ bytes = 0 }) => bytes > 0);
  renameSync(target, away);
  mkdirSync(target);
  await Promise.all([sender.exited, receiver.exited]);
  expect(readdirSync(target)).toEqual([]);
  const { status } = await receiver.exited;
  if (status === 0) expectEqualFiles(join(away, "f"), source);
  else expect(readdirSync(away)).toHaveLength(1);
});

// ---- disks, rates, names --------------------------------------------------------------------------------------------

rootTest("a full disk: with more room the same commands go on where they stopped", async () => {
  const directory = mountTmpfs("size=6m");
  const target = join(directory, "target");
  mkdirSync(target);
  writeFileSync(join(directory, "ballast"), Buffer.alloc(3 * MIB));
  const source = makeFiles("tree", { "1": "one" });
  writeFileSync(join(source, "2"), readFileSync(makeFile("big", 4 * MIB)));
  const full = await transfer([[source]], [["-o", target]]);
  for (const side of [full.sender, full.receiver]) {
    await fail(side, 6, /disk is full/);
    expect(side.error?.hint).toMatch(/run both commands again/);
  }
  expect(full.receiver.error).toMatchObject({ code: "NO_SPACE" });
  const there = partSize(join(target, "tree/2")) ?? 0;
  expect(there).toBeGreaterThan(MIB);
  rmSync(join(directory, "ballast"));
  const again = await transfer([[source]], [["-o", target]]);
  await done(again.sender, again.receiver);
  expect(compareTrees(source, join(target, "tree"))).toEqual([]);
  expect(again.receiver.find("done")).toMatchObject({ bytes: 4 * MIB + 3, moved: 4 * MIB - there });
});

for (const side of ["sender", "receiver"] as const) {
  test(`--limit of the ${side} holds`, async () => {
    const [source, target] = [makeFile("f", 3 * MIB), temporaryDirectory()];
    const limit = ["--limit", "1M"];
    const { sender, receiver } = await transfer(
      [[source, ...(side === "sender" ? limit : [])]],
      [["-o", target, ...(side === "receiver" ? limit : [])]],
    );
    await done(sender, receiver);
    expectEqualFiles(join(target, "f"), source);
    // Three seconds, but for what may be ahead of the limit for a moment.
    expect(receiver.find("done")?.["seconds"]).toBeGreaterThan(1.5);
    expect(sender.find("done")?.["seconds"]).toBeGreaterThan(1.5);
  });
}

test("names with control characters are refused, and shown as escapes", async () => {
  const evil = "a\u001b[31mred\u202e\n";
  const [source, target] = [makeFiles("tree", { [evil]: "evil", good: "good" }), temporaryDirectory()];
  const { sender, receiver } = await transfer([[source]], [["-o", target]]);
  for (const side of [sender, receiver]) {
    await fail(side, 5, /1 of 2 files was refused/);
    expect(problems(side).map(([path, reason]) => [path, reason])).toEqual([[`tree/${evil}`, "REFUSED"]]);
    expect(side.stderr).not.toMatch(/[\u001b\u202e]/);
  }
  expect(pathsBelow(target)).toEqual(["tree/", "tree/good"]);

  const offering = start(["send", source], { json: false });
  const token = await offering.until("a token", () => /\bdc1[\w-]+/.exec(offering.stderr)?.[0]);
  const listing = start(["receive", "-o", target, "--to", token], { json: false });
  for (const { stderr } of [await fail(offering, 5), await fail(listing, 5)]) {
    expect(stderr).toContain("tree/a\\u{1b}[31mred\\u{202e}\\u{a}: the name has control characters");
    expect(stderr).not.toMatch(/[\u001b\u202e]/);
  }
});

test("a long tree: more entries than either side holds at a time", async () => {
  const source = join(temporaryDirectory(), "many");
  mkdirSync(source);
  for (let i = 0; i < 10_000; i++) writeFileSync(join(source, String(i)), i % 100 === 0 ? String(i) : "");
  const target = temporaryDirectory();
  const { sender, receiver } = await transfer([[source]], [["-o", target]]);
  await done(sender, receiver);
  expect(sender.find("done")).toMatchObject({ files: 10_000, directories: 1 });
  expect(compareTrees(source, join(target, "many"))).toEqual([]);
});
