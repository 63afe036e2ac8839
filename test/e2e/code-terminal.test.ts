/** People at terminals: they compare the short authentication string, and are asked for a code. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { pairByCode, startServer } from "./code.ts";
import { expectEqualFiles, fail, makeFile, start, succeed, temporaryDirectory } from "./dcpipe.ts";
import { Terminal } from "./terminal.ts";

const EIGHT_WORDS = /^([a-z]{5,9}-){7}[a-z]{5,9}$/;
const QUESTION = /Does the other side show the same\? \[y\/N\] /;

/** On a terminal by code, with the rendezvous given by its environment. */
function terminal(args: readonly string[], url: string): Terminal {
  return new Terminal([...args, "--no-stun", "--no-lan"], { env: { DCPIPE_RENDEZVOUS: url, NO_COLOR: "1" } });
}

async function shownCode(waiting: Terminal): Promise<string> {
  return (await waiting.shows(/Code: (\S+)/))[1] ?? "";
}

// ---- --verify -------------------------------------------------------------------------------------------------------

test("--verify --yes: both sides say the same eight words, and nobody is asked", async () => {
  const server = await startServer();
  const seen = new Set<unknown>();
  for (let i = 0; i < 2; i++) {
    const { waiting, joining } = await pairByCode(
      server.url,
      [["pipe", "--verify", "--yes"], { stdin: Buffer.from("there") }],
      [["pipe", "--verify", "--yes"]],
    );
    await succeed(waiting, joining);
    const words = waiting.find("verify")?.["words"];
    expect(words).toMatch(EIGHT_WORDS);
    expect(joining.find("verify")).toEqual({ event: "verify", words });
    expect(joining.stdout.toString()).toBe("there");
    seen.add(words);
  }
  expect(seen.size).toBe(2);
});

test("--verify by token", async () => {
  const waiting = start(["pipe", "--verify", "--yes"], { stdin: Buffer.from("there") });
  const joining = start(["pipe", "--verify", "--yes", "--to", await waiting.offer()]);
  await succeed(waiting, joining);
  expect(waiting.find("verify")?.["words"]).toMatch(EIGHT_WORDS);
  expect(joining.find("verify")).toEqual(waiting.find("verify"));
});

test("--verify without a terminal: status 2, and nothing has flowed", async () => {
  const server = await startServer();
  const { waiting, joining } = await pairByCode(
    server.url,
    [["pipe"], { stdin: Buffer.from("there") }],
    [["pipe", "--verify"]],
  );
  await fail(joining, 2, /--verify needs a terminal/);
  expect(joining.error).toMatchObject({ code: "USAGE" });
  expect(joining.stdout.length).toBe(0);
  expect((await waiting.exited).status).not.toBe(0);
});

test("--verify at two terminals: nothing is sent before both have said yes", async () => {
  const server = await startServer();
  const [source, target] = [makeFile("f", 3000), temporaryDirectory()];
  const waiting = terminal(["send", source, "--verify"], server.url);
  const joining = terminal(["receive", await shownCode(waiting), "-o", target, "--verify"], server.url);
  const shown = /Compare with the other side: (\S+)/;
  const words = (await waiting.shows(shown))[1];
  expect(words).toMatch(EIGHT_WORDS);
  expect((await joining.shows(shown))[1]).toBe(words);
  await Promise.all([waiting.shows(QUESTION), joining.shows(QUESTION)]);
  waiting.stdin.write("y\r");
  expect(joining.screen).not.toMatch(/Received/);
  await joining.type("yes", /Receive f \(2\.9 KiB\) into .*\? \[Y\/n\/l\] /);
  expect(readdirSync(target)).toEqual([]);
  await joining.type("y", /Received f/);
  await succeed(waiting, joining);
  expectEqualFiles(join(target, "f"), source);
});

for (const answer of ["n", "", "nope"]) {
  test(`--verify answered with "${answer}": status 4 here, and the other side is refused`, async () => {
    const server = await startServer();
    const waiting = start(["send", makeFile("f", 1000), "--rendezvous", server.url]);
    const joining = terminal(
      ["receive", await waiting.code(), "-o", temporaryDirectory(), "--verify"],
      server.url,
    );
    await joining.shows(QUESTION);
    await joining.type(answer, /not verified: you said that the strings differ/);
    expect((await joining.exited).status).toBe(4);
    await fail(waiting, 5, /short authentication strings differ/);
    expect(waiting.error).toMatchObject({ code: "REFUSED" });
  });
}

test("--verify: who goes while the question stands ends it", async () => {
  const server = await startServer();
  const waiting = start(["pipe", "--rendezvous", server.url], { stdin: "pipe" });
  const joining = terminal(
    ["receive", await waiting.code(), "-o", temporaryDirectory(), "--verify"],
    server.url,
  );
  await joining.shows(QUESTION);
  waiting.kill("SIGINT");
  await joining.shows(/dcpipe: .*interrupted/);
  expect((await joining.exited).status).toBe(6);
});

// ---- the prompt -----------------------------------------------------------------------------------------------------

const PROMPT = /Code of the other side \(Tab completes\): /;

test("PEER `-` asks: Tab completes, a mistyped word is named and asked for again", async () => {
  const server = await startServer();
  const [source, target] = [makeFile("f", 3000), temporaryDirectory()];
  const waiting = start(["send", source, "--rendezvous", server.url]);
  const [nameplate, one = "", two = ""] = (await waiting.code()).split("-");
  const joining = terminal(["receive", "-", "-o", target], server.url);
  await joining.shows(PROMPT);
  await joining.type(`${nameplate}-${one}-xylophone`, /"xylophone" is no word of a code/);
  await joining.shows(PROMPT);
  await joining.type("", PROMPT);
  expect(await server.metric("dcpipe_connections_total")).toBe(1);
  // Three letters are enough for any word.
  joining.stdin.write(`${nameplate}-${one.slice(0, 3)}\t`);
  await joining.shows(new RegExp(`-${one}`));
  joining.stdin.write(` ${two.slice(0, 3)}\t`);
  await joining.shows(new RegExp(` ${two}`));
  await joining.type("", /Connected: /);
  await joining.shows(/Receive f .*\[Y\/n\/l\] /);
  await joining.type("", /Received f/);
  await succeed(waiting, joining);
  expectEqualFiles(join(target, "f"), source);
});

test("the prompt is on the terminal while stdin carries payload", async () => {
  const server = await startServer();
  const waiting = start(["pipe", "--rendezvous", server.url], { stdin: Buffer.from("back\n") });
  const code = await waiting.code();
  const joining = new Terminal(["pipe", "-", "--no-stun", "--no-lan"], {
    script: 'echo payload | "$@"',
    env: { DCPIPE_RENDEZVOUS: server.url, NO_COLOR: "1" },
  });
  await joining.shows(PROMPT);
  await joining.type(code, /Connected: /);
  const [w, j] = await succeed(waiting, joining);
  expect(w?.stdout.toString()).toBe("payload\n");
  expect(j?.stdout.toString()).toContain("back");
});

test("Ctrl-C at the prompt ends with status 130, Ctrl-D with status 2", async () => {
  const server = await startServer();
  const interrupted = terminal(["receive", "-"], server.url);
  await interrupted.shows(PROMPT);
  interrupted.stdin.write("7-gui\x03");
  expect((await interrupted.exited).status).toBe(130);
  const ended = terminal(["receive", "-"], server.url);
  await ended.shows(PROMPT);
  ended.stdin.write("\x04");
  await ended.shows(/no code given/);
  expect((await ended.exited).status).toBe(2);
  expect(await server.metric("dcpipe_connections_total")).toBe(0);
});
