/** Two sides meet by code at a rendezvous, and all the ways in which a code and a rendezvous may be given. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { pairByCode, startServer } from "./code.ts";
import {
  type Dcpipe,
  expectEqualFiles,
  fail,
  makeFile,
  onDisk,
  start,
  type StartOptions,
  succeed,
  temporaryDirectory,
} from "./dcpipe.ts";

const CODE = /^[1-9]\d*-[a-z]{5,9}-[a-z]{5,9}$/;

/** What a joining side must have done: all of "there" on its stdout, and nothing else. */
async function expectThere(waiting: Dcpipe, joining: Dcpipe): Promise<void> {
  const [, exit] = await succeed(waiting, joining);
  expect(exit?.stdout.toString()).toBe("there");
}

/** On a busy machine the relay may stand first, and then that is what both sides and the server tell. */
const DIRECT = ["--relay", "off"];

test("files go from the waiting side to the joining side, and the other way", async () => {
  const server = await startServer();
  for (const waitingSends of [true, false]) {
    const [source, target] = [makeFile("f", 300_000), temporaryDirectory()];
    const sending = ["send", source, ...DIRECT];
    const receiving = ["receive", "-o", target, ...DIRECT];
    const { waiting, joining, code } = await pairByCode(
      server.url,
      [waitingSends ? sending : receiving],
      [waitingSends ? receiving : sending],
    );
    const exits = await succeed(waiting, joining);
    for (const { stdout } of exits) expect(stdout.length).toBe(0);
    expectEqualFiles(join(target, "f"), source);
    expect(code).toMatch(CODE);
    expect(waiting.events.map(({ event }) => event).filter((event) => event !== "progress")).toEqual([
      "code",
      "connected",
      "done",
    ]);
    expect(waiting.find("code")).toEqual({ event: "code", code, link: `${server.url}#${code}` });
    for (const side of [waiting, joining]) {
      expect(side.find("connected")).toMatchObject({ path: "direct" });
      expect(side.find("done")).toMatchObject({ bytes: 300_000, files: 1 });
    }
    expect(joining.find("code")).toBeUndefined();
  }
  await server.counts("dcpipe_matches_total", 2);
  await server.counts('dcpipe_outcomes_total{outcome="direct"}', 2);
  await server.counts("dcpipe_mailboxes", 0);
  await server.counts("dcpipe_connections", 0);
});

test("bytes go both ways, and stdout carries nothing else", async () => {
  const server = await startServer();
  const { waiting, joining } = await pairByCode(
    server.url,
    [["pipe", ...DIRECT], { stdin: Buffer.from("from the waiting side\n") }],
    [["pipe", ...DIRECT], { stdin: Buffer.from("from the joining side\n") }],
  );
  const [w, j] = await succeed(waiting, joining);
  expect(w?.stdout.toString()).toBe("from the joining side\n");
  expect(j?.stdout.toString()).toBe("from the waiting side\n");
  await server.counts("dcpipe_matches_total", 1);
  await server.counts('dcpipe_outcomes_total{outcome="direct"}', 1);
});

test("people read the code, the whole command for the other side, and a link", async () => {
  const server = await startServer();
  const waiting = start(["send", makeFile("f", 10), "--rendezvous", server.url], { json: false });
  const code = await waiting.until("a code", () => /^Code: (\S+)$/m.exec(waiting.stderr)?.[1]);
  await waiting.until("that it waits", () => /Waiting for the other side/.exec(waiting.stderr)?.[0]);
  expect(code).toMatch(CODE);
  expect(waiting.stderr).toContain(`\n  dcpipe receive ${code} --rendezvous ${server.url.slice(0, -1)}\n`);
  expect(waiting.stderr).toContain(`${server.url}#${code}`);
  const joining = start(["receive", code, "-o", "-", "--rendezvous", server.url], { json: false });
  const [w, j] = await succeed(waiting, joining);
  expect(w?.stdout.length).toBe(0);
  expect(w?.stderr).toMatch(/^Connected: /m);
  expect(j?.stdout.length).toBe(10);
});

test("several pairs at one server do not get into each other's way", async () => {
  const server = await startServer();
  const waiting = ["one", "two", "three"].map((text) =>
    start(["pipe", "--rendezvous", server.url], { stdin: Buffer.from(text) }),
  );
  const codes = await Promise.all(waiting.map((each) => each.code()));
  expect(new Set(codes.map((code) => code.split("-")[0])).size).toBe(3);
  const joining = codes.map((code) => start(["pipe", code, "--rendezvous", server.url]));
  await succeed(...waiting, ...joining);
  expect(joining.map((each) => each.stdout.toString())).toEqual(["one", "two", "three"]);
});

// ---- PEER -----------------------------------------------------------------------------------------------------------

test("PEER as code or link, in capitals and with spaces, by argument, --to, file, environment and stdin", async () => {
  const server = await startServer();
  const here = ["--rendezvous", server.url];
  const file = (text: string): string => makeFile("peer", Buffer.from(text));
  const ways: readonly ((code: string) => [args: string[], options?: StartOptions])[] = [
    (code) => [["pipe", code, ...here]],
    (code) => [["pipe", `${server.url}#${code}`]],
    (code) => [["pipe", `127.0.0.1:${server.port}#${code}`]],
    // The link says where, whatever else does.
    (code) => [
      ["pipe", `${server.url}#${code}`, "--rendezvous", "http://127.0.0.1:9"],
      { env: { DCPIPE_RENDEZVOUS: "http://127.0.0.1:9" } },
    ],
    (code) => [["pipe", "--to", ` ${code.toUpperCase().replaceAll("-", " ")}\n`, ...here]],
    (code) => [["pipe", `"${code.replaceAll("-", " – ")}"`, ...here]],
    (code) => [["pipe", "--code-file", file(`${code}\r\n`), ...here]],
    (code) => [["pipe", "--code-file", file(`${server.url}#${code}\n`)]],
    (code) => [["pipe", ...here], { env: { DCPIPE_CODE: code } }],
    (code) => [["pipe"], { env: { DCPIPE_CODE: `${server.url}#${code}` } }],
  ];
  for (const way of ways) {
    const waiting = start(["pipe", ...here], { stdin: Buffer.from("there") });
    await expectThere(waiting, start(...way(await waiting.code())));
  }
});

test("`-` reads the code from a stdin that is no terminal, and is refused where that carries payload", async () => {
  const server = await startServer();
  const here = ["--rendezvous", server.url];
  for (const dash of [["-"], ["--to", "-"], ["--code-file", "-"]]) {
    const [source, target] = [makeFile("f", 1000), temporaryDirectory()];
    const waiting = start(["send", source, ...here]);
    const joining = start(["receive", ...dash, "-o", target, ...here], {
      stdin: Buffer.from(`${await waiting.code()}\n`),
    });
    await succeed(waiting, joining);
    expectEqualFiles(join(target, "f"), source);
  }
  const payload = start(["pipe", "-", ...here], { stdin: Buffer.from("7-guitar-sandwich\n") });
  await fail(payload, 2, /no terminal to ask for a code/);
  expect(payload.error).toMatchObject({ code: "USAGE" });
});

test("--code-length", async () => {
  const server = await startServer();
  const here = ["--rendezvous", server.url];
  const waiting = start(["pipe", "--code-length", "4", ...here], { stdin: Buffer.from("there") });
  const code = await waiting.code();
  expect(code).toMatch(/^[1-9]\d*(-[a-z]{5,9}){4}$/);
  await expectThere(waiting, start(["pipe", code, ...here]));
  for (const length of ["1", "13", "2.5"]) {
    const wrong = start(["pipe", "--code-length", length, ...here]);
    await fail(wrong, 2, /2 to 12 words/);
    expect(wrong.error).toMatchObject({ code: "USAGE" });
  }
});

// ---- the rendezvous -------------------------------------------------------------------------------------------------

/** A directory for XDG_CONFIG_HOME. */
function config(text: string): string {
  const directory = temporaryDirectory();
  mkdirSync(join(directory, "dcpipe"));
  writeFileSync(join(directory, "dcpipe", "config.json"), text);
  return directory;
}

const NOWHERE = "http://127.0.0.1:9/";

test("the rendezvous comes from --rendezvous, else the environment, else the config file", async () => {
  const server = await startServer();
  const here = config(JSON.stringify({ rendezvous: server.url }));
  const nowhere = config(JSON.stringify({ rendezvous: NOWHERE }));
  const ways: readonly [args: string[], env: Record<string, string>][] = [
    [["--rendezvous", server.url], {}],
    [["--rendezvous", server.url], { DCPIPE_RENDEZVOUS: NOWHERE, XDG_CONFIG_HOME: nowhere }],
    [[], { DCPIPE_RENDEZVOUS: server.url }],
    [[], { DCPIPE_RENDEZVOUS: `127.0.0.1:${server.port}`, XDG_CONFIG_HOME: nowhere }],
    [[], { XDG_CONFIG_HOME: here }],
    [[], { DCPIPE_RENDEZVOUS: "", XDG_CONFIG_HOME: here }],
  ];
  for (const [args, env] of ways) {
    const waiting = start(["pipe", ...args], { stdin: Buffer.from("there"), env });
    await expectThere(waiting, start(["pipe", await waiting.code(), ...args], { env }));
  }
});

test("a config file that cannot be read is named, and passed over where it does not matter", async () => {
  const broken = { XDG_CONFIG_HOME: config('{ "rendezvous": }') };
  const waiting = start(["pipe"], { env: broken });
  await fail(waiting, 2, /config\.json is not JSON: /);
  expect(waiting.error).toMatchObject({ code: "USAGE" });
  const byToken = start(["pipe", "--no-rendezvous"], { env: broken, stdin: Buffer.from("there") });
  await expectThere(byToken, start(["pipe", await byToken.offer()], { env: broken }));
});

test("--no-rendezvous, and each means of carrying tokens, mean tokens", async () => {
  const server = await startServer();
  const env = { DCPIPE_RENDEZVOUS: server.url, XDG_CONFIG_HOME: config(`{"rendezvous":"${server.url}"}`) };
  const waiting = start(["pipe", "--no-rendezvous"], { env, stdin: Buffer.from("there") });
  await expectThere(waiting, start(["pipe", await waiting.offer()], { env }));

  const directory = temporaryDirectory();
  const flags = ["--offer-file", join(directory, "offer")];
  const byFile = start(["pipe", ...flags], { env, stdin: Buffer.from("there") });
  await onDisk(directory, () => existsSync(join(directory, "offer")));
  await expectThere(byFile, start(["pipe", ...flags], { env }));
  expect(byFile.find("code")).toBeUndefined();

  const via = start(["receive", "-o", "-", "--via", '"$NODE" "$BIN" send "$FILE" --no-stun --stdio-signal'], {
    json: false,
    env: {
      ...env,
      NODE: process.execPath,
      BIN: join(import.meta.dirname, "../../bin/dcpipe.js"),
      FILE: makeFile("f", Buffer.from("there")),
    },
  });
  await succeed(via);
  expect(via.stdout.toString()).toBe("there");
  expect(await server.metric("dcpipe_connections_total")).toBe(0);
});

test("a code without a rendezvous, and without the local network, says what is missing", async () => {
  const joining = start(["pipe", "7-guitar-sandwich"]);
  await fail(joining, 2, /a code needs a rendezvous/);
  expect(joining.error).toMatchObject({ code: "USAGE" });
});
