/** Transfers that were cut short, and run again. */
import {
  closeSync,
  copyFileSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { expect, test } from "vitest";
import {
  type Dcpipe,
  expectEqualFiles,
  fail,
  makeFile,
  onDisk,
  partsOf,
  partSize,
  succeed,
  temporaryDirectory,
} from "./dcpipe.ts";
import { compareTrees, makeTree, transfer } from "./transfer.ts";

const MIB = 1024 * 1024;
const SLOWLY = ["--limit", "3M", "--compress", "off"];

/** Sends, and ends it by Ctrl-C at the sender when more than `after` bytes have come. */
async function interrupted(source: string, directory: string, after = MIB): Promise<void> {
  const { sender, receiver } = await transfer([[source, ...SLOWLY]], [["-o", directory]]);
  await receiver.event("progress", ({ bytes = 0 }) => bytes > after);
  sender.kill("SIGINT");
  expect((await sender.exited).status).toBe(130);
  await fail(receiver, 6);
}

/** Sends to the end, and checks that `moved` bytes travelled. */
async function again(source: string, directory: string, moved: number): Promise<Dcpipe> {
  const { sender, receiver } = await transfer([[source]], [["-o", directory]]);
  await succeed(sender, receiver);
  for (const side of [sender, receiver]) expect(side.find("done")).toMatchObject({ moved });
  return receiver;
}

/** Turns one bit. */
function tamper(path: string, position: number): void {
  const fd = openSync(path, "r+");
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, position);
  writeSync(fd, Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, position);
  closeSync(fd);
}

for (const killed of ["receiver", "sender"] as const) {
  test(`kill -9 of the ${killed} in the middle of a file: the same commands go on where it stopped`, async () => {
    const [source, directory] = [makeFile("f", 6 * MIB), temporaryDirectory()];
    const target = join(directory, "f");
    const sides = await transfer(
      [[source, ...SLOWLY, "--reconnect", "1"]],
      [["-o", directory, "--reconnect", "1"]],
    );
    await sides.receiver.event("progress", ({ bytes = 0 }) => bytes > MIB);
    sides[killed].kill("SIGKILL");
    const other = killed === "receiver" ? sides.sender : sides.receiver;
    await fail(other, 6, /did not come back within 1 s/);
    expect(other.error?.hint).toMatch(/run both commands again: it goes on where it stopped/);
    const there = partSize(target) ?? 0;
    expect(there).toBeGreaterThan(MIB);
    expect(readdirSync(directory)).toEqual(partsOf(target));

    await again(source, directory, 6 * MIB - there);
    expectEqualFiles(target, source);
    expect(readdirSync(directory)).toEqual(["f"]);
    expect(statSync(target).mtimeMs).toBeCloseTo(statSync(source).mtimeMs, 2);
  });
}

test("a second interruption, and a third run", async () => {
  const [source, directory] = [makeFile("f", 8 * MIB), temporaryDirectory()];
  const target = join(directory, "f");
  await interrupted(source, directory);
  const first = partSize(target) ?? 0;
  await interrupted(source, directory, first + MIB);
  const second = partSize(target) ?? 0;
  expect(second).toBeGreaterThan(first);
  await again(source, directory, 8 * MIB - second);
  expectEqualFiles(target, source);
  expect(readdirSync(directory)).toEqual(["f"]);
});

test("a tree: what is whole is not sent again, and the file that had begun goes on", async () => {
  const [source, directory] = [join(temporaryDirectory(), "tree"), temporaryDirectory()];
  const bytes = makeTree(source, { small: 60, large: [2 * MIB, 2 * MIB, 2 * MIB] });
  // A directory that nobody may write to cannot be taken up again without root.
  await interrupted(source, directory, 3 * MIB);
  const { sender, receiver } = await transfer([[source]], [["-o", directory, "--overwrite"]]);
  await succeed(sender, receiver);
  const { moved, unchanged } = receiver.find("done") as unknown as { moved: number; unchanged: number };
  expect(sender.find("done")).toMatchObject({ bytes, moved, unchanged });
  expect(moved).toBeLessThanOrEqual(bytes - 3 * MIB);
  expect(unchanged).toBeGreaterThan(0);
  expect(compareTrees(source, join(directory, "tree"))).toEqual([]);
});

test("a source that has changed meanwhile is sent anew", async () => {
  const [source, directory] = [makeFile("f", 4 * MIB), temporaryDirectory()];
  await interrupted(source, directory);
  const { atime, mtime } = statSync(source);
  tamper(source, 1000);
  // Its time says nothing: content counts.
  utimesSync(source, atime, mtime);
  await again(source, directory, 4 * MIB);
  expectEqualFiles(join(directory, "f"), source);
  expect(readdirSync(directory)).toEqual(["f"]);
});

test("a source that has become shorter than what is there", async () => {
  const [source, directory] = [makeFile("f", 4 * MIB), temporaryDirectory()];
  await interrupted(source, directory);
  writeFileSync(source, readFileSync(source).subarray(0, 1000));
  await again(source, directory, 1000);
  expectEqualFiles(join(directory, "f"), source);
  expect(readdirSync(directory)).toEqual(["f"]);
});

test("a source that has grown goes on behind what is there", async () => {
  const [source, directory] = [makeFile("f", 4 * MIB), temporaryDirectory()];
  await interrupted(source, directory);
  const there = partSize(join(directory, "f")) ?? 0;
  writeFileSync(source, Buffer.alloc(MIB, "more"), { flag: "a" });
  await again(source, directory, 5 * MIB - there);
  expectEqualFiles(join(directory, "f"), source);
});

test("a part with one bit turned is not built upon", async () => {
  const [source, directory] = [makeFile("f", 4 * MIB), temporaryDirectory()];
  await interrupted(source, directory);
  const [part = ""] = partsOf(join(directory, "f"));
  tamper(join(directory, part), 12_345);
  await again(source, directory, 4 * MIB);
  expectEqualFiles(join(directory, "f"), source);
  expect(readdirSync(directory)).toEqual(["f"]);
});

test("a part that holds everything", async () => {
  const [source, directory] = [makeFile("f", 4 * MIB), temporaryDirectory()];
  await interrupted(source, directory);
  const [part = ""] = partsOf(join(directory, "f"));
  copyFileSync(source, join(directory, part));
  await again(source, directory, 0);
  expectEqualFiles(join(directory, "f"), source);
  expect(readdirSync(directory)).toEqual(["f"]);
});

test("stdin starts at its beginning", async () => {
  const [source, directory] = [makeFile("content", 4 * MIB), temporaryDirectory()];
  const first = await transfer(
    [["-", ...SLOWLY], { stdin: { fd: openSync("/dev/zero", "r") } }],
    [["-o", directory]],
  );
  await first.receiver.event("progress", ({ bytes = 0 }) => bytes > MIB);
  first.sender.kill("SIGINT");
  await fail(first.receiver, 6);
  expect(partSize(join(directory, "stdin"))).toBeGreaterThan(0);
  const { sender, receiver } = await transfer(
    [["-"], { stdin: { fd: openSync(source, "r") } }],
    [["-o", directory]],
  );
  await succeed(sender, receiver);
  expect(receiver.find("done")).toMatchObject({ moved: 4 * MIB });
  expectEqualFiles(join(directory, "stdin"), source);
  expect(readdirSync(directory)).toEqual(["stdin"]);
});

test("two receivers at once: neither touches the other's part, and one of them gets the name", async () => {
  const [source, directory] = [makeFile("f", 3 * MIB), temporaryDirectory()];
  const target = join(directory, "f");
  const slow = await transfer([["-", "--name", "f"], { stdin: "pipe" }], [["-o", directory]]);
  slow.sender.stdin.write("the first");
  await onDisk(directory, () => partSize(target) === 9);
  const [part = ""] = partsOf(target);
  await again(source, directory, 3 * MIB);
  expectEqualFiles(target, source);
  expect(readdirSync(directory).sort()).toEqual(["f", part].sort());
  slow.sender.stdin.end(" and the rest");
  await fail(slow.sender, 5, /came into being meanwhile/);
  await fail(slow.receiver, 5, /came into being meanwhile/);
  expectEqualFiles(target, source);
  expect(readFileSync(join(dirname(target), part), "utf8")).toBe("the first and the rest");
  expect(partsOf(target)).toEqual([basename(part)]);
});
