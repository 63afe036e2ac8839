/** A receiver at a terminal: it sees what comes, and is asked before a byte is written. */
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { expect, test } from "vitest";
import { type Dcpipe, fail, makeFile, start, succeed, temporaryDirectory } from "./dcpipe.ts";
import { Terminal, type TerminalOptions } from "./terminal.ts";
import { compareTrees } from "./transfer.ts";

const QUESTION = /Receive .* into .*\? \[Y\/n\/l\] /;
const CONFLICT =
  /f exists here with other content\. For this and all others: \[s\]kip, \[r\]ename, \[o\]verwrite, \[a\]bort\? /;

interface Asked {
  readonly sender: Dcpipe;
  readonly receiver: Terminal;
  readonly target: string;
}

/** A sender and a receiver at a terminal, in an empty directory or the given one. */
async function asked(
  sending: readonly string[],
  args: readonly string[] = [],
  { target = temporaryDirectory(), ...options }: TerminalOptions & { target?: string } = {},
): Promise<Asked> {
  const sender = start(["send", ...sending]);
  const peer = await sender.offer();
  const receiver = new Terminal(
    ["receive", "--no-stun", "--no-lan", "--no-color", peer, "-o", target, ...args],
    options,
  );
  return { sender, receiver, target };
}

/** A tree with long names, wide ones, a hidden one and links. */
function makeTree(): string {
  const tree = join(temporaryDirectory(), "tree");
  for (const directory of ["", "empty", "sub", "sub/deeper"]) mkdirSync(join(tree, directory));
  for (const name of [
    "a",
    ".hidden",
    "x".repeat(200),
    "日本語の長い名前".repeat(5),
    "sub/deeper/emoji 👩‍👩‍👧 file",
  ])
    writeFileSync(join(tree, name), name);
  symlinkSync("a", join(tree, "link"));
  return tree;
}

/** The lines between the one about the connection and the question. */
function shown(receiver: Terminal): string[] {
  const lines = stripVTControlCharacters(receiver.screen.replace(/\r\u001b\[K/g, "")).split(/\r\n/);
  const from = lines.findIndex((line) => line.includes("Connected: "));
  return lines.slice(
    from + 1,
    lines.findIndex((line) => line.startsWith("Receive ")),
  );
}

/** The question, and all that came after it. */
function afterwards({ screen }: Terminal): string {
  return screen.slice(screen.search(QUESTION));
}

for (const columns of [40, 80]) {
  for (const answer of ["y", "YES", ""]) {
    test(`${columns} columns, "${answer}": what comes is shown, taken, and nothing before`, async () => {
      const tree = makeTree();
      const { sender, receiver, target } = await asked([tree], [], { columns });
      await receiver.shows(QUESTION);
      const lines = shown(receiver);
      expect(lines).toHaveLength(10);
      expect(lines.join("\n")).toMatch(/^ +tree\/$/m);
      expect(lines.join("\n")).toMatch(/^ +1 B {2}tree\/a$/m);
      expect(lines.join("\n")).toMatch(/^ +tree\/link -> a$/m);
      expect(lines.join("\n")).toMatch(/^ +tree\/empty\/$/m);
      // None wraps; wide characters take two columns. (How wide that emoji is, terminals do not agree.)
      for (const line of lines.filter((each) => !each.includes("👩")))
        expect(line.replace(/[\u3000-\u9fff]/g, "xx").length, line).toBeLessThan(columns);
      expect(readdirSync(target)).toEqual([]);
      await receiver.type(answer, /Received tree: 6 files, /);
      await succeed(receiver, sender);
      expect(compareTrees(tree, join(target, "tree"))).toEqual([]);
      expect(afterwards(receiver)).not.toMatch(/\r\n\r\n/);
    });
  }
}

test("what is asked says how much comes, and where it goes", async () => {
  const one = await asked([makeFile("f", 3000)]);
  await one.receiver.shows(new RegExp(`Receive f \\(2\\.9 KiB\\) into ${one.target}/\\? \\[Y/n/l\\] `));
  const named = await asked([makeFile("f", 3000)], ["-o", join(one.target, "g")]);
  await named.receiver.shows(new RegExp(`Receive g \\(2\\.9 KiB\\) as ${one.target}/g\\? \\[Y/n/l\\] `));
  const several = await asked([makeFile("f", 1), makeFile("g", 1)]);
  await several.receiver.shows(/Receive 2 files \(2 B\) into /);
  const filtered = await asked([makeFile("f", 1), makeFile("g", 1)], ["--only", "g"]);
  await filtered.receiver.shows(/Receive g \(1 B\) into /);
});

for (const answer of ["n", "No"]) {
  test(`"${answer}": status 5 on both sides, and nothing is written`, async () => {
    const { sender, receiver, target } = await asked([makeTree()]);
    await receiver.shows(QUESTION);
    await receiver.type(answer, /dcpipe: you refused it: nothing was written/);
    expect((await receiver.exited).status).toBe(5);
    await fail(sender, 5, /what was offered is not wanted/);
    expect(sender.error).toMatchObject({ code: "REFUSED" });
    expect(readdirSync(target)).toEqual([]);
    expect(afterwards(receiver)).not.toMatch(/\r\n\r\n/);
  });
}

test('"l" lists every entry and asks again, so does anything else', async () => {
  const tree = join(temporaryDirectory(), "tree");
  mkdirSync(tree);
  for (let i = 0; i < 100; i++) writeFileSync(join(tree, `file ${i}`), String(i));
  const { sender, receiver, target } = await asked([tree]);
  await receiver.shows(QUESTION);
  expect(receiver.screen).not.toContain("file 57");
  expect(shown(receiver).length).toBeLessThanOrEqual(20);
  await receiver.type("l", /1 B {2}tree\/file 5\r\n/);
  await receiver.shows(/2 B {2}tree\/file 99\r\n/);
  await receiver.shows(QUESTION);
  await receiver.type("perhaps", QUESTION);
  await receiver.type("y", /Received tree: 100 files, /);
  await succeed(receiver, sender);
  expect(compareTrees(tree, join(target, "tree"))).toEqual([]);
});

test("more than fits: hidden names come first", async () => {
  const paths = Array.from({ length: 40 }, (_, i) => makeFile(`plain ${i}`, 1));
  const { receiver } = await asked([...paths, makeFile(".bashrc", 1)]);
  await receiver.shows(QUESTION);
  expect(shown(receiver)[0]).toMatch(/\.bashrc$/);
  expect(shown(receiver).at(-1)).toMatch(/\.\.\. and 22 more$/);
});

test("the end of input refuses", async () => {
  const { sender, receiver, target } = await asked([makeFile("f", 1000)]);
  await receiver.shows(QUESTION);
  receiver.stdin.write("\u0004");
  expect((await receiver.exited).status).toBe(5);
  await fail(sender, 5, /not wanted/);
  expect(readdirSync(target)).toEqual([]);
});

test("Ctrl-C at the question: status 130, and the sender is told", async () => {
  const { sender, receiver, target } = await asked([makeFile("f", 1000)]);
  await receiver.shows(QUESTION);
  receiver.stdin.write("\u0003");
  expect((await receiver.exited).status).toBe(130);
  await fail(sender, 6, /interrupted/);
  expect(readdirSync(target)).toEqual([]);
  expect(afterwards(receiver)).not.toMatch(/\r\n\r\n/);
});

test("a sender that goes while the question stands ends it", async () => {
  const { sender, receiver, target } = await asked([makeFile("f", 1000)]);
  await receiver.shows(QUESTION);
  sender.kill("SIGINT");
  await receiver.shows(/\r\ndcpipe: .*interrupted/);
  expect((await receiver.exited).status).toBe(6);
  expect(readdirSync(target)).toEqual([]);
  expect(afterwards(receiver)).not.toMatch(/\r\n\r\n/);
});

test("nothing is asked with --yes, about a text, and with --list", async () => {
  const yes = await asked([makeFile("f", 1000)], ["--yes"]);
  await succeed(yes.receiver, yes.sender);
  const list = await asked([makeFile("f", 1000)], ["--list"]);
  await succeed(list.receiver, list.sender);
  expect(readdirSync(list.target)).toEqual([]);
  const sender = start(["send", "--text", "line\n\u001b[31mred\ttab"]);
  const text = new Terminal(["receive", "--no-stun", "--no-lan", "--no-color", await sender.offer()]);
  await succeed(text, sender);
  expect(text.screen).toContain("line\r\n\\u{1b}[31mred\ttab\r\n");
  for (const { screen } of [yes.receiver, list.receiver, text]) expect(screen).not.toContain("[Y/n/l]");
});

// ---- names that are taken -------------------------------------------------------------------------------------------

/** Two files of which one is there with other content; the first question is answered. */
async function conflict(): Promise<Asked> {
  const target = temporaryDirectory();
  writeFileSync(join(target, "f"), "precious");
  const made = await asked([makeFile("f", Buffer.from("new")), makeFile("g", Buffer.from("g"))], [], {
    target,
  });
  await made.receiver.shows(QUESTION);
  await made.receiver.type("y", CONFLICT);
  return made;
}

for (const [answer, files] of [
  ["s", { f: "precious", g: "g" }],
  ["Rename", { f: "precious", "f (1)": "new", g: "g" }],
  ["o", { f: "new", g: "g" }],
] as const) {
  test(`a name is taken: "${answer}"`, async () => {
    const { sender, receiver, target } = await conflict();
    await receiver.type(answer, /Received .* verified and on disk/);
    await succeed(receiver, sender);
    const found = readdirSync(target).map((name) => [name, readFileSync(join(target, name), "utf8")]);
    expect(Object.fromEntries(found)).toEqual(files);
    expect(afterwards(receiver)).not.toMatch(/\r\n\r\n/);
  });
}

test('a name is taken: "a" and the end of input stop it all, what is no answer is asked again', async () => {
  for (const end of ["a\r", "\u0004"]) {
    const { sender, receiver, target } = await conflict();
    await receiver.type("what", /\[a\]bort\? /);
    receiver.stdin.write(end);
    await receiver.shows(/dcpipe: stopped at f, which exists here with other content/);
    expect((await receiver.exited).status).toBe(5);
    await fail(sender, 5, /stopped at f, which exists there with other content/);
    expect(sender.error).toMatchObject({ code: "REFUSED" });
    expect(readdirSync(target)).toEqual(["f"]);
    expect(readFileSync(join(target, "f"), "utf8")).toBe("precious");
  }
});

test("a name is taken: Ctrl-C", async () => {
  const { sender, receiver, target } = await conflict();
  receiver.stdin.write("\u0003");
  expect((await receiver.exited).status).toBe(130);
  await fail(sender, 6, /interrupted/);
  expect(readFileSync(join(target, "f"), "utf8")).toBe("precious");
});

test("with --yes nothing is asked about a name that is taken either", async () => {
  const target = temporaryDirectory();
  writeFileSync(join(target, "f"), "precious");
  const { sender, receiver } = await asked([makeFile("f", 10)], ["--yes"], { target });
  await receiver.shows(/dcpipe: f exists already, and is left as it is/);
  expect((await receiver.exited).status).toBe(5);
  await fail(sender, 5);
});

test("the same content is no conflict, and nothing is asked about it", async () => {
  const target = temporaryDirectory();
  writeFileSync(join(target, "f"), "same");
  const { sender, receiver } = await asked([makeFile("f", Buffer.from("same"))], [], { target });
  await receiver.shows(QUESTION);
  await receiver.type("", /Received f: 4 B in .*; 4 B of it there already; verified and on disk/);
  await succeed(receiver, sender);
});
