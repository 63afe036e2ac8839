import {
  appendFileSync,
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { execFileSync } from "node:child_process";
import { basename, dirname, join } from "node:path";
import { expect, test } from "vitest";
import {
  expectEqualFiles,
  fail,
  makeFile,
  onDisk,
  pair,
  partSize,
  partsOf,
  rootTest,
  sha256,
  start,
  succeed,
  temporaryDirectory,
} from "./dcpipe.ts";
import { mountTmpfs, transfer } from "./transfer.ts";

const MIB = 1024 * 1024;

for (const waits of ["sender", "receiver"] as const) {
  test(`a file into a directory; the ${waits} waits`, async () => {
    const [source, target] = [makeFile("photo.jpg", 2 * MIB + 17), temporaryDirectory()];
    const { sender, receiver } = await transfer([[source]], [["-o", target]], waits);
    await succeed(sender, receiver);
    expectEqualFiles(join(target, "photo.jpg"), source);
    expect(readdirSync(target)).toEqual(["photo.jpg"]);
    expect(sender.find("done")).toMatchObject({ files: 1, bytes: 2 * MIB + 17 });
    expect(receiver.find("done")).toMatchObject({ files: 1, bytes: 2 * MIB + 17 });
    expect(sender.stdout.length + receiver.stdout.length).toBe(0);
  });

  test(`stdin to stdout; the ${waits} waits`, async () => {
    const content = readFileSync(makeFile("x", MIB));
    const { sender, receiver } = await transfer([["-"], { stdin: content }], [["-o", "-"]], waits);
    await succeed(sender, receiver);
    expect(sha256(receiver.stdout)).toBe(sha256(content));
    expect(sender.stdout.length).toBe(0);
  });
}

test("without -o a file goes into the working directory", async () => {
  const [source, target] = [makeFile("here", 10), temporaryDirectory()];
  const { sender, receiver } = await transfer([[source]], [[], { cwd: target }]);
  await succeed(sender, receiver);
  expectEqualFiles(join(target, "here"), source);
});

test("a file under a new name", async () => {
  const [source, target] = [makeFile("old", 1000), join(temporaryDirectory(), "new")];
  const { sender, receiver } = await transfer([[source]], [["-o", target]]);
  await succeed(sender, receiver);
  expectEqualFiles(target, source);
});

test("a directory that does not exist yet is made when -o ends with a slash", async () => {
  const [source, target] = [makeFile("f", 1000), join(temporaryDirectory(), "a/b/")];
  const { sender, receiver } = await transfer([[source]], [["-o", target]]);
  await succeed(sender, receiver);
  expectEqualFiles(join(target, "f"), source);
});

test("a file to stdout, which is a pipe, a file, /dev/null", async () => {
  const source = makeFile("f", 3 * MIB);
  const piped = await transfer([[source]], [["-o", "-"], { shell: '"$@" | sha256sum' }]);
  await succeed(piped.sender, piped.receiver);
  expect(piped.receiver.stdout.toString().slice(0, 64)).toBe(sha256(readFileSync(source)));

  const target = makeFile("target", 0);
  const filed = await transfer([[source]], [["-o", "-"], { stdout: { fd: openSync(target, "w") } }]);
  await succeed(filed.sender, filed.receiver);
  expectEqualFiles(target, source);

  const dropped = await transfer([[source]], [["-o", "-"], { stdout: { fd: openSync("/dev/null", "w") } }]);
  await succeed(dropped.sender, dropped.receiver);
});

test("stdin to a file, with and without --name", async () => {
  const target = temporaryDirectory();
  const named = await transfer(
    [["-", "--name", "notes.txt"], { stdin: Buffer.from("of a pipe") }],
    [["-o", target]],
  );
  await succeed(named.sender, named.receiver);
  expect(readFileSync(join(target, "notes.txt"), "utf8")).toBe("of a pipe");

  const nameless = await transfer([["-"], { stdin: Buffer.from("no name") }], [["-o", target]]);
  await succeed(nameless.sender, nameless.receiver);
  expect(readFileSync(join(target, "stdin"), "utf8")).toBe("no name");
});

test("stdin that comes slowly, piece by piece", async () => {
  const target = join(temporaryDirectory(), "slow");
  const { sender, receiver } = await transfer([["-"], { stdin: "pipe" }], [["-o", target]]);
  await receiver.event("connected");
  for (let i = 1; i <= 5; i++) {
    sender.stdin.write("0123456789");
    await onDisk(dirname(target), () => {
      return partSize(target) === i * 10;
    });
  }
  sender.stdin.end();
  await succeed(sender, receiver);
  expect(statSync(target).size).toBe(50);
});

test("a file and a stdin of zero bytes", async () => {
  const target = temporaryDirectory();
  const file = await transfer([[makeFile("empty", 0)]], [["-o", target]]);
  await succeed(file.sender, file.receiver);
  expect(statSync(join(target, "empty")).size).toBe(0);
  expect(file.sender.find("done")).toMatchObject({ files: 1, bytes: 0 });

  const stdin = await transfer([["-", "--name", "nothing"]], [["-o", target]]);
  await succeed(stdin.sender, stdin.receiver);
  expect(statSync(join(target, "nothing")).size).toBe(0);

  const stdout = await transfer([["-"]], [["-o", "-"]]);
  await succeed(stdout.sender, stdout.receiver);
  expect(stdout.receiver.stdout.length).toBe(0);
});

test("several files, stdin among them", async () => {
  const sources = ["one", "two", "three"].map((name, i) => makeFile(name, 50_000 * i));
  const target = temporaryDirectory();
  const [one = "", ...others] = sources;
  const { sender, receiver } = await transfer(
    [[one, "-", ...others], { stdin: Buffer.from("and this") }],
    [["-o", target]],
  );
  await succeed(sender, receiver);
  for (const source of sources) expectEqualFiles(join(target, basename(source)), source);
  expect(readFileSync(join(target, "stdin"), "utf8")).toBe("and this");
  expect(sender.find("done")).toMatchObject({ files: 4, bytes: 150_008 });
  expect(receiver.find("done")).toMatchObject({ files: 4, bytes: 150_008 });
});

test("several files under one name are refused, and the first is kept", async () => {
  const target = join(temporaryDirectory(), "name");
  const first = makeFile("a", 100);
  const { sender, receiver } = await transfer([[first, makeFile("b", 100)]], [["-o", target]]);
  await fail(sender, 5, /1 of 2 files was refused/);
  await fail(receiver, 5, /1 of 2 files was refused/);
  for (const { events } of [sender, receiver])
    expect(events).toContainEqual({
      event: "problem",
      path: expect.stringMatching(/^(b|name)$/) as string,
      reason: "REFUSED",
      text: "more than one thing comes, and only one name was given for them",
    });
  expectEqualFiles(target, first);
});

test("mode and modification time come along", async () => {
  const target = temporaryDirectory();
  for (const [mode, time] of [
    [0o755, 1_000_000_000.5],
    [0o600, 86_400],
    [0o444, 1_700_000_000],
  ] as const) {
    const source = makeFile(`mode-${mode.toString(8)}`, 10);
    chmodSync(source, mode);
    utimesSync(source, time, time);
    const { sender, receiver } = await transfer([[source]], [["-o", target]]);
    await succeed(sender, receiver);
    const info = statSync(join(target, basename(source)));
    expect(info.mode & 0o7777).toBe(mode);
    expect(info.mtimeMs).toBe(time * 1000);
  }
});

test("unusual names", async () => {
  const directory = temporaryDirectory();
  const names = [
    "with  two spaces",
    "naïve 文件 🎸.txt",
    "-o",
    "--help",
    "dc1AAAA",
    "7-guitar-sandwich",
    "0",
    "quote'\"$(x)`",
    "a".repeat(250),
    "...",
    ".hidden",
    "tilde~",
    "colon:*?<>|",
  ];
  for (const name of names) writeFileSync(join(directory, name), name);
  const target = temporaryDirectory();
  const { sender, receiver } = await transfer(
    [names.map((name) => `./${name}`), { cwd: directory }],
    [["-o", target]],
  );
  await succeed(sender, receiver);
  expect(readdirSync(target).sort()).toEqual([...names].sort());
  for (const name of names) expect(readFileSync(join(target, name), "utf8")).toBe(name);
});

test("an argument after -- is a path, whatever it looks like", async () => {
  const [directory, target] = [temporaryDirectory(), temporaryDirectory()];
  writeFileSync(join(directory, "-v"), "dash");
  const waiting = start(["receive", "-o", target]);
  const sender = start(["send", "--to", await waiting.offer(), "--", "-v"], { cwd: directory });
  await succeed(sender, waiting);
  expect(readFileSync(join(target, "-v"), "utf8")).toBe("dash");
});

test("a target that exists is refused on both sides and left alone", async () => {
  const target = temporaryDirectory();
  writeFileSync(join(target, "f"), "precious");
  const before = lstatSync(join(target, "f"));
  const { sender, receiver } = await transfer([[makeFile("f", MIB)]], [["-o", target]]);
  await fail(sender, 5, /exists already/);
  await fail(receiver, 5, /exists already/);
  expect(receiver.error).toMatchObject({ code: "EXISTS" });
  expect(lstatSync(join(target, "f"))).toMatchObject({ ino: before.ino, size: 8, mtimeMs: before.mtimeMs });
  expect(readdirSync(target)).toEqual(["f"]);
});

test("an existing name given with -o is refused, unless its content is the same", async () => {
  const target = makeFile("there", Buffer.from("precious"));
  for (const content of ["vicious!", "of another size"]) {
    const { sender, receiver } = await transfer([[makeFile("f", Buffer.from(content))]], [["-o", target]]);
    await fail(sender, 5, /there exists already, and is left as it is/);
    await fail(receiver, 5, /there exists already, and is left as it is/);
    expect(readFileSync(target, "utf8")).toBe("precious");
  }
  const { sender, receiver } = await transfer([[makeFile("f", Buffer.from("precious"))]], [["-o", target]]);
  await succeed(sender, receiver);
  for (const side of [sender, receiver])
    expect(side.find("done")).toMatchObject({ files: 1, bytes: 8, moved: 0, unchanged: 1 });
  expect(readdirSync(dirname(target))).toEqual(["there"]);
});

test("a target that appears meanwhile is not replaced, and the content is kept", async () => {
  const target = join(temporaryDirectory(), "f");
  const { sender, receiver } = await transfer([["-"], { stdin: "pipe" }], [["-o", target]]);
  sender.stdin.write("content");
  await onDisk(dirname(target), () => partSize(target) === 7);
  writeFileSync(target, "precious");
  sender.stdin.end();
  await fail(sender, 5, /came into being meanwhile/);
  await fail(receiver, 5, /came into being meanwhile/);
  expect(readFileSync(target, "utf8")).toBe("precious");
  const [part = ""] = partsOf(target);
  expect(readFileSync(join(dirname(target), part), "utf8")).toBe("content");
});

test("an interrupted sender leaves a part and never the name", async () => {
  const target = join(temporaryDirectory(), "f");
  const { sender, receiver } = await transfer(
    [["-"], { stdin: { fd: openSync("/dev/zero", "r") } }],
    [["-o", target]],
  );
  await receiver.event("progress", ({ bytes = 0 }) => bytes > MIB);
  sender.kill("SIGINT");
  expect(await sender.exited).toMatchObject({ status: 130 });
  await fail(receiver, 6);
  expect(receiver.error).toMatchObject({ code: "INTERRUPTED" });
  expect(existsSync(target)).toBe(false);
  expect(partSize(target)).toBeGreaterThan(0);
});

test("what only looks like a part is left alone", async () => {
  const target = temporaryDirectory();
  const strange = ["f.part", "f.dcpipe-part", "f.1-x.dcpipe-part", "g.1-1.dcpipe-part"];
  for (const name of strange) writeFileSync(join(target, name), "precious");
  const directory = `f.${2 ** 30}-1.dcpipe-part`;
  mkdirSync(join(target, directory));
  const source = makeFile("f", 1000);
  const { sender, receiver } = await transfer([[source]], [["-o", target]]);
  await succeed(sender, receiver);
  expectEqualFiles(join(target, "f"), source);
  expect(readdirSync(target).sort()).toEqual(["f", directory, ...strange].sort());
  for (const name of strange) expect(readFileSync(join(target, name), "utf8")).toBe("precious");
});

// ---- sources --------------------------------------------------------------------------------------------------------

test("a source that is not there, or nothing that can be sent: status 2 before anybody is asked", async () => {
  const directory = temporaryDirectory();
  execFileSync("mkfifo", [join(directory, "fifo")]);
  for (const [path, message] of [
    [join(directory, "nothing"), /^cannot read .*nothing: no such file or directory$/],
    ["", /^cannot read .*no such file or directory$/],
    [`${makeFile("f", 1)}/below`, /^cannot read .*below: part of the path is no directory$/],
    ["/dev/null", /^\/dev\/null is a device; files, directories and links can be sent$/],
    [join(directory, "fifo"), /is a FIFO; files, directories and links/],
    [makeFile("f.1-2.dcpipe-part", 1), /is a file that dcpipe has not received completely/],
  ] as const) {
    const sender = start(["send", path]);
    await fail(sender, 2, message);
    expect(sender.find("offer")).toBeUndefined();
  }
  const sender = start(["send", makeFile("good", 1), join(directory, "nothing")]);
  await fail(sender, 2, /no such file/);
});

test("a source without the right to read it", async () => {
  const source = makeFile("secret", 10);
  chmodSync(source, 0);
  await fail(start(["send", source], { unprivileged: true }), 2, /permission denied/);
});

test("a source that vanishes before its turn", async () => {
  const [first, second, target] = [makeFile("first", 10), makeFile("second", 10), temporaryDirectory()];
  const sender = start(["send", first, second]);
  const offer = await sender.offer();
  rmSync(second);
  const receiver = start(["receive", "-o", target, "--to", offer]);
  await fail(sender, 6, /1 of 2 files could not be sent/);
  await fail(receiver, 6, /1 of 2 files could not be received/);
  const problem = { event: "problem", path: "second", reason: "IO", text: "no such file or directory" };
  expect(sender.find("problem")).toEqual(problem);
  expect(receiver.find("problem")).toEqual(problem);
  expectEqualFiles(join(target, "first"), first);
  expect(readdirSync(target)).toEqual(["first"]);
});

for (const [what, message, change] of [
  [
    "grows",
    /^f: it has grown while it was sent$/,
    (path: string): void => {
      appendFileSync(path, "more");
    },
  ],
  [
    "shrinks",
    /^f: it has shrunk while it was sent$/,
    (path: string): void => {
      truncateSync(path, 3 * MIB);
    },
  ],
] as const) {
  test(`a source that ${what} while it is sent: incomplete on both sides`, async () => {
    const [source, target] = [makeFile("f", 4 * MIB), temporaryDirectory()];
    const { sender, receiver } = await transfer([[source, "--limit", "2M"]], [["-o", target]]);
    await receiver.event("progress", ({ bytes = 0 }) => bytes > 0);
    change(source);
    await fail(sender, 6, message);
    await fail(receiver, 6, message);
    expect(sender.error).toMatchObject({ code: "INCOMPLETE" });
    expect(receiver.error).toMatchObject({ code: "INCOMPLETE" });
    expect(partSize(join(target, "f"))).toBeGreaterThan(0);
    expect(readdirSync(target)).toHaveLength(1);
  });
}

// ---- targets --------------------------------------------------------------------------------------------------------

test("a target below a regular file, or in a directory that is not there", async () => {
  for (const target of [join(makeFile("f", 1), "below"), join(temporaryDirectory(), "no/such/directory")]) {
    const receiver = start(["receive", "-o", target]);
    await fail(receiver, 1, new RegExp(`cannot .*${basename(join(target, ".."))}`));
    expect(receiver.find("offer")).toBeUndefined();
  }
});

test("a directory without the right to write to it", async () => {
  const directory = temporaryDirectory();
  chmodSync(directory, 0o555);
  for (const target of [directory, join(directory, "name"), join(directory, "new/")]) {
    const receiver = start(["receive", "-o", target], { unprivileged: true });
    await fail(receiver, 1, /permission denied/);
    expect(receiver.find("offer")).toBeUndefined();
  }
  chmodSync(directory, 0o755);
});

test("a directory that becomes unwritable meanwhile", async () => {
  const directory = temporaryDirectory();
  const receiver = start(["receive", "-o", directory], { unprivileged: true });
  const offer = await receiver.offer();
  chmodSync(directory, 0o555);
  const sender = start(["send", makeFile("f", 10), "--to", offer]);
  await fail(receiver, 6, /permission denied/);
  await fail(sender, 6, /permission denied/);
  expect(readdirSync(directory)).toEqual([]);
  chmodSync(directory, 0o755);
});

rootTest("a read-only filesystem: a clear message before anybody is asked", async () => {
  const directory = mountTmpfs("ro,size=1m");
  const receiver = start(["receive", "-o", directory]);
  await fail(receiver, 1, /read-only/);
  expect(receiver.find("offer")).toBeUndefined();
});

rootTest("a full disk: both sides say so, and what came is kept", async () => {
  const directory = mountTmpfs("size=3m");
  const { sender, receiver } = await transfer([[makeFile("f", 8 * MIB)]], [["-o", directory]]);
  await fail(receiver, 6, /disk is full/);
  expect(receiver.error).toMatchObject({ code: "NO_SPACE" });
  await fail(sender, 6, /disk is full/);
  expect(readdirSync(directory)).toEqual(partsOf(join(directory, "f")));
  expect(partSize(join(directory, "f"))).toBeGreaterThan(0);
});

rootTest("a full disk behind stdout", async () => {
  const directory = mountTmpfs("size=1m");
  const fd = openSync(join(directory, "out"), "w");
  const { sender, receiver } = await transfer([[makeFile("f", 4 * MIB)]], [["-o", "-"], { stdout: { fd } }]);
  await fail(receiver, 6, /space/);
  await fail(sender, 6);
});

test("the reader of a receiver's stdout goes away", async () => {
  const sender = start(["send", makeFile("f", 8 * MIB)]);
  const receiver = start(["receive", "-o", "-", "--to", await sender.offer()], {
    shell: 'exec "$@" > >(head -c 1000 >/dev/null)',
    json: false,
  });
  expect(await receiver.exited).toMatchObject({ status: null, signal: "SIGPIPE" });
  await fail(sender, 6);
});

// ---- who meets whom -------------------------------------------------------------------------------------------------

for (const [waits, joins] of [
  ["send", "send"],
  ["receive", "receive"],
  ["pipe", "receive"],
  ["receive", "pipe"],
  ["pipe", "send"],
  ["send", "pipe"],
] as const) {
  test(`${waits} and ${joins} do not go together`, async () => {
    const args = (verb: string): string[] =>
      verb === "send"
        ? ["send", makeFile("f", 10)]
        : verb === "receive"
          ? ["receive", "-o", temporaryDirectory()]
          : ["pipe"];
    const { waiting, joining } = await pair(
      [args(waits), { stdin: "pipe" }],
      [args(joins), { stdin: "pipe" }],
    );
    await fail(waiting, 5, new RegExp(`"dcpipe ${joins}".* does not go with "dcpipe ${waits}"`));
    await fail(joining, 5, new RegExp(`"dcpipe ${waits}".* does not go with "dcpipe ${joins}"`));
  });
}
