/** What goes where: events, text, colour, help; and whose words are shown. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { expectEqualFiles, fail, makeFile, pair, start, succeed, temporaryDirectory } from "./dcpipe.ts";
import { Terminal } from "./terminal.ts";

const ESCAPE = "\u001b";

test("with --json every line on stderr is an event, in the order of things", async () => {
  const { waiting, joining } = await pair(
    [["send", makeFile("f", 3_000_000), "--limit", "3M", "-v"]],
    [["receive", "-o", temporaryDirectory(), "-v"]],
  );
  await succeed(waiting, joining);
  for (const { events, stderr } of [waiting, joining]) {
    expect(stderr.endsWith("\n")).toBe(true);
    const names = events.map(({ event }) => event).filter((name) => name !== "note");
    expect(names[0]).toBe(events === waiting.events ? "offer" : "answer");
    expect(names.indexOf("connected")).toBe(1);
    expect(names.indexOf("progress")).toBeGreaterThan(1);
    expect(names.at(-1)).toBe("done");
  }
  const address = { address: expect.any(String) as string, port: expect.any(Number) as number };
  expect(waiting.find("connected")).toMatchObject({
    path: "direct",
    local: address,
    remote: address,
    rttMs: expect.any(Number) as number,
  });
  for (const progress of [...waiting.events, ...joining.events].filter(({ event }) => event === "progress")) {
    expect(progress).toMatchObject({ total: 3_000_000, bytesPerSecond: expect.any(Number) as number });
    expect(progress.bytes).toBeLessThanOrEqual(3_000_000);
  }
  expect(joining.find("done")).toMatchObject({
    bytes: 3_000_000,
    files: 1,
    seconds: expect.any(Number) as number,
  });
});

test("an error before there is anything else is an event too", async () => {
  for (const args of [["pipe", "--bogus"], ["send"], ["receive", "--limit"], ["pipe", "--port-range", "x"]]) {
    const wrong = start([...args, "--json"]);
    const exit = await fail(wrong, 2);
    expect(exit.stderr.split("\n").filter(Boolean)).toHaveLength(1);
    expect(JSON.parse(exit.stderr)).toMatchObject({ event: "error", code: "USAGE" });
  }
});

test("-q says nothing when all goes well, and what went wrong when not", async () => {
  const source = makeFile("f", 1000);
  const waiting = start(["send", source]);
  const joining = start(["receive", "-q", "-o", temporaryDirectory(), "--to", await waiting.offer()], {
    json: false,
  });
  const [, exit] = await succeed(waiting, joining);
  expect(exit?.stderr).toBe("");
  expect(exit?.stdout.length).toBe(0);
  const wrong = start(["receive", "-q", "-o", join(source, "below")], { json: false });
  expect((await fail(wrong, 1)).stderr).toMatch(/^dcpipe: cannot [^\n]*\n$/);
});

test("without a terminal nothing moves and nothing is coloured", async () => {
  const waiting = start(["send", makeFile("f", 200_000)], { json: false });
  const token = await waiting.until("a token", () => /\bdc1[\w-]+/.exec(waiting.stderr)?.[0]);
  const joining = start(["receive", "-o", temporaryDirectory(), "--to", token], { json: false });
  for (const { stderr, stdout } of await succeed(waiting, joining)) {
    expect(stderr).not.toContain(ESCAPE);
    expect(stderr).not.toContain("\r");
    expect(stdout.length).toBe(0);
  }
  expect(waiting.stderr).toContain(`dcpipe receive ${token}`);
  expect(waiting.stderr).toMatch(/Sent .*195 KiB/);
  expect(joining.stderr).toMatch(/Received f: .*verified/);
});

test("on a terminal there is colour, unless NO_COLOR or --no-color says otherwise", async () => {
  for (const [args, env, coloured] of [
    [[], {}, true],
    [["--no-color"], {}, false],
    [[], { NO_COLOR: "1" }, false],
  ] as const) {
    const source = makeFile("f", 1000);
    const terminal = new Terminal(["send", "--no-stun", source, ...args], { env });
    const [, token = ""] = await terminal.shows(/dcpipe receive (dc1[\w-]+)/);
    const joining = start(["receive", "-o", temporaryDirectory(), "--to", token]);
    await succeed(terminal, joining);
    expect(/\u001b\[\d+(;\d+)*m/.test(terminal.screen), JSON.stringify(terminal.screen)).toBe(coloured);
  }
});

test("--json on a terminal is JSON, without a prompt", async () => {
  const terminal = new Terminal(["send", "--no-stun", "--json", makeFile("f", 1000)]);
  const [line] = await terminal.shows(/\{.*\}/);
  const { token } = JSON.parse(line) as { token: string };
  const joining = start(["receive", "-o", temporaryDirectory(), "--to", token]);
  await succeed(terminal, joining);
  for (const each of terminal.screen.split("\r\n").filter(Boolean)) JSON.parse(each);
});

test("--qr draws the offer", async () => {
  const terminal = new Terminal(["pipe", "--no-stun", "--qr"], { columns: 100, rows: 50 });
  await terminal.shows(/[▀▄█]{20}/);
});

test("binary is kept off a terminal, unless -o - asks for it", async () => {
  const binary = Buffer.from([1, 2, 3, 0, 255, 254, 27, 91]);
  const waiting = start(["pipe"], { stdin: binary });
  const refusing = new Terminal(["pipe", "--no-stun", "--to", await waiting.offer()], {
    script: '"$@" </dev/null',
  });
  expect(await refusing.exited).toMatchObject({ status: 2 });
  expect(refusing.screen).toMatch(/stdout is a terminal/);
  expect(refusing.screen).not.toContain("\u0003");
  await fail(waiting, 6);

  const again = start(["pipe"], { stdin: binary });
  const forced = new Terminal(["pipe", "--no-stun", "--to", await again.offer(), "-o", "-"], {
    script: '"$@" </dev/null',
  });
  await succeed(forced, again);
  expect(forced.stdout.includes(binary)).toBe(true);
});

test("text goes to a terminal as it is", async () => {
  const waiting = start(["pipe"], { stdin: Buffer.from("naïve 文件\n\ttab\n\u001b[1mbold\u001b[0m\n") });
  const terminal = new Terminal(["pipe", "--no-stun", "--to", await waiting.offer()], {
    script: '"$@" </dev/null',
  });
  await succeed(terminal, waiting);
  expect(terminal.screen).toContain("naïve 文件\r\n\ttab\r\n\u001b[1mbold\u001b[0m\r\n");
});

test("receive -o - on a terminal writes what comes", async () => {
  const source = makeFile("f", Buffer.from([0, 1, 2, 255]));
  const waiting = start(["send", source]);
  const terminal = new Terminal(["receive", "--no-stun", "-o", "-", "--to", await waiting.offer()]);
  await succeed(terminal, waiting);
  expect(terminal.stdout.includes(Buffer.from([0, 1, 2, 255]))).toBe(true);
});

test("Ctrl-C at a terminal", async () => {
  const terminal = new Terminal(["receive", "--no-stun", "-o", temporaryDirectory()]);
  await terminal.shows(/paste it here: /);
  terminal.stdin.write("\u0003");
  expect(await terminal.exited).toMatchObject({ status: 130 });
});

// ---- help -----------------------------------------------------------------------------------------------------------

for (const command of ["", "pipe", "send", "receive"]) {
  test(`dcpipe ${command} --help fits a screen and has an example`, async () => {
    const [exit] = await succeed(start([command, "--help"], { env: { COLUMNS: "80" } }));
    const lines = (exit?.stdout.toString() ?? "").replace(/\n+$/, "").split("\n");
    expect(exit?.stderr).toBe("");
    expect(lines.join("\n")).toMatch(/dcpipe \w+/);
    if (command !== "") expect(lines.join("\n")).toMatch(/example/i);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
    expect(lines.length).toBeLessThanOrEqual(24);
  });
}

test("on a terminal of 80x24 help fits too", async () => {
  for (const command of ["pipe", "send", "receive"]) {
    const terminal = new Terminal([command, "--help"]);
    await succeed(terminal);
    const lines = terminal.screen.trimEnd().split("\r\n");
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
    expect(lines.length).toBeLessThanOrEqual(24);
  }
});

test("--version prints the version", async () => {
  const [exit] = await succeed(start(["--version"]));
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  expect(exit?.stdout.toString()).toBe(`${version}\n`);
});

test("unknown commands and options, and no command at all: status 2 and nothing on stdout", async () => {
  for (const args of [
    [],
    ["bogus"],
    ["pipe", "--bogus"],
    ["pipe", "a", "b"],
    ["send"],
    ["send", "--name", "x", "/etc/hostname"],
    ["send", "-", "-"],
    ["receive", "--relay", "maybe"],
    ["pipe", "--timeout", "soon"],
    ["pipe", "--reconnect", "-1"],
    ["pipe", "--limit", "fast"],
    ["pipe", "--port-range", "9-1"],
    ["pipe", "--port-range", "0-70000"],
    ["pipe", "--turn", "nonsense"],
    ["pipe", "--relay", "only"],
    ["pipe", "--bind", "203.0.113.77"],
  ]) {
    const [command = "", ...rest] = args;
    const wrong = start([command, ...rest], { json: false });
    const exit = await fail(wrong, 2);
    expect(exit.stderr, wrong.what).toMatch(/^dcpipe: \S/m);
    expect(exit.stdout.length).toBe(0);
  }
});

test("completion prints a script", async () => {
  const [exit] = await succeed(start(["completion"], { env: { SHELL: "/bin/bash" } }));
  expect(exit?.stdout.toString()).toMatch(/complete .*dcpipe/);
  const [words] = await succeed(
    start(["--get-yargs-completions", "dcpipe", "re"], { env: { SHELL: "/bin/bash" } }),
  );
  expect(words?.stdout.toString()).toMatch(/^receive$/m);
});

test("a stderr that cannot be written does not stop a transfer", async () => {
  for (const redirection of ["2>/dev/full", "2>&-", "2> >(true)"]) {
    const [source, target] = [makeFile("f", 100_000), temporaryDirectory()];
    const waiting = start(["send", source]);
    const joining = start(["receive", "-o", target, "--to", await waiting.offer()], {
      json: false,
      shell: `"$@" ${redirection}`,
    });
    await succeed(waiting, joining);
    expectEqualFiles(join(target, "f"), source);
  }
});
