/** Tokens, and all the ways by which they may travel on one machine. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  BIN,
  type Dcpipe,
  expectEqualFiles,
  fail,
  makeFile,
  onDisk,
  quote,
  start,
  succeed,
  temporaryDirectory,
} from "./dcpipe.ts";

/** An offer whose maker has gone, and an answer to it. */
async function strayTokens(): Promise<{ offer: string; answer: string }> {
  const waiting = start(["pipe"]);
  const offer = await waiting.offer();
  waiting.kill("SIGKILL");
  await waiting.exited;
  const joining = start(["pipe", "--to", offer]);
  const answer = String((await joining.event("answer")).token);
  joining.kill("SIGKILL");
  await joining.exited;
  return { offer, answer };
}

test("an offer is short enough to paste, and an answer shorter", async () => {
  const { offer, answer } = await strayTokens();
  expect(offer).toMatch(/^dc1[\w-]+$/);
  expect(answer).toMatch(/^dc1[\w-]+$/);
  expect(offer.length).toBeLessThanOrEqual(125);
  expect(answer.length).toBeLessThanOrEqual(64);
});

test("what is no offer is named in a message, with status 2", async () => {
  const { offer, answer } = await strayTokens();
  const swapped = `${offer.slice(0, 20)}${offer[21] ?? ""}${offer[20] ?? ""}${offer.slice(22)}`;
  const cases: readonly (readonly [text: string, code: string, message: RegExp])[] = [
    ["", "TOKEN_MALFORMED", /no token given/],
    [" \n", "TOKEN_MALFORMED", /no token given/],
    ["hello world", "TOKEN_MALFORMED", /no dcpipe token/],
    ["\u001b[31mred\u0007", "TOKEN_MALFORMED", /no dcpipe token/],
    ["文件", "TOKEN_MALFORMED", /no dcpipe token/],
    [answer, "TOKEN_KIND", /is an answer token, but an offer is due/],
    [offer.slice(0, 4), "TOKEN_CUT", /cut short/],
    [offer.slice(0, 40), "TOKEN_CUT", /cut short/],
    [offer.slice(0, -1), "TOKEN_CUT", /cut short/],
    [`${offer.slice(0, 30)}...`, "TOKEN_CUT", /cut short/],
    [`dc2${offer.slice(3)}`, "TOKEN_VERSION", /version 2.*knows version 1/],
    [`dc9${"A".repeat(80)}`, "TOKEN_VERSION", /version 9/],
    [`${offer.slice(0, 30)}!${offer.slice(31)}`, "TOKEN_MALFORMED", /"!" is not part of a token/],
    ["x".repeat(100_000), "TOKEN_MALFORMED", /too long/],
    ...(swapped === offer ? [] : [[swapped, "TOKEN_MALFORMED", /damaged/] as const]),
  ];
  await Promise.all(
    cases.map(async ([text, code, message], i) => {
      const joining = start([i % 2 === 0 ? "pipe" : "receive", text]);
      await fail(joining, 2, message);
      expect(joining.error).toMatchObject({ code });
      expect(joining.stdout.length).toBe(0);
    }),
  );
});

test("a code is told apart from a broken token", async () => {
  await fail(start(["pipe", "7-guitar-sandwich"]), 2, /a code needs a rendezvous/);
});

test("quotes, line wraps and words around an offer are forgiven", async () => {
  for (const wrap of [
    (offer: string) => `  "${offer}"\n`,
    (offer: string) => `${offer.slice(0, 30)}\n${offer.slice(30, 60)}\r\n  ${offer.slice(60)}`,
    (offer: string) => `'${offer}'.`,
    (offer: string) => `\`dcpipe pipe ${offer}\``,
    (offer: string) => `> ${offer}`,
  ]) {
    const waiting = start(["pipe"], { stdin: Buffer.from("x") });
    const joining = start(["pipe", wrap(await waiting.offer())]);
    await succeed(waiting, joining);
    expect(joining.stdout.toString()).toBe("x");
  }
});

test("the offer comes as argument, with --to, from a file, from stdin, from the environment", async () => {
  const source = makeFile("f", 1000);
  for (const give of [
    (offer: string, to: string) => start(["receive", offer, "-o", to]),
    (offer: string, to: string) => start(["receive", "--to", offer, "-o", to]),
    (offer: string, to: string) => start(["receive", `--to=${offer}`, "-o", to]),
    (offer: string, to: string) =>
      start(["receive", "--code-file", makeFile("code", Buffer.from(`${offer}\r\n`)), "-o", to]),
    (offer: string, to: string) =>
      start(["receive", "--code-file", "-", "-o", to], { stdin: Buffer.from(`${offer}\n`) }),
    (offer: string, to: string) => start(["receive", "-o", to], { env: { DCPIPE_CODE: offer } }),
  ]) {
    const target = temporaryDirectory();
    const waiting = start(["send", source]);
    const joining = give(await waiting.offer(), target);
    await succeed(waiting, joining);
    expectEqualFiles(join(target, "f"), source);
  }
});

test("a --code-file that is empty, missing or a directory, and two peers at once", async () => {
  await fail(start(["pipe", "--code-file", makeFile("code", 0)]), 2, /no token given/);
  await fail(start(["pipe", "--code-file", join(temporaryDirectory(), "none")]), 2, /cannot read .*none/);
  await fail(start(["pipe", "--code-file", temporaryDirectory()]), 2, /cannot read/);
  await fail(start(["pipe", "dc1A", "--to", "dc1B"]), 2, /more than once/);
  await fail(start(["pipe", "dc1A", "--code-file", "x"]), 2, /more than once/);
  await fail(start(["pipe", "dc1A", "--via", "true"]), 2, /--via/);
  await fail(start(["pipe", "dc1A", "--stdio-signal"]), 2, /--stdio-signal/);
});

// ---- answers --------------------------------------------------------------------------------------------------------

test("what is no answer is named in a message, with status 2", async () => {
  const stray = await strayTokens();
  for (const [text, code] of [
    [(offer: string) => offer, "TOKEN_KIND"],
    [() => stray.answer, "TOKEN_FOREIGN"],
    [() => stray.answer.slice(0, -2), "TOKEN_CUT"],
    [() => `dc2${stray.answer.slice(3)}`, "TOKEN_VERSION"],
  ] as const) {
    const waiting = start(["receive", "-o", temporaryDirectory()], { stdin: "pipe" });
    waiting.stdin.write(`${text(await waiting.offer())}\n`);
    await fail(waiting, 2);
    expect(waiting.error).toMatchObject({ code });
  }
});

test("other lines on stdin are not taken for answers", async () => {
  const source = makeFile("f", 10);
  const target = temporaryDirectory();
  const waiting = start(["receive", "-o", target], { stdin: Buffer.from("hello\n\nworld\n") });
  const joining = start(["send", source, "--to", await waiting.offer()]);
  await succeed(waiting, joining);
  expectEqualFiles(join(target, "f"), source);
});

// ---- files ----------------------------------------------------------------------------------------------------------

for (const first of ["send", "receive"] as const) {
  test(`--offer-file and --answer-file, the same on both sides; ${first} comes first`, async () => {
    const [directory, target, source] = [temporaryDirectory(), temporaryDirectory(), makeFile("f", 100_000)];
    const [offerFile, answerFile] = [join(directory, "offer"), join(directory, "answer")];
    const flags = ["--offer-file", offerFile, "--answer-file", answerFile];
    const run = (verb: string): Dcpipe =>
      start(verb === "send" ? ["send", source, ...flags] : ["receive", "-o", target, ...flags]);
    const waiting = run(first);
    await onDisk(directory, () => existsSync(offerFile));
    expect(readFileSync(offerFile, "utf8")).toBe(`${await waiting.offer()}\n`);
    const joining = run(first === "send" ? "receive" : "send");
    await succeed(waiting, joining);
    expectEqualFiles(join(target, "f"), source);
    expect(waiting.find("answer")).toBeUndefined();
    expect(joining.find("offer")).toBeUndefined();
    expect(readFileSync(answerFile, "utf8")).toBe(`${String(joining.find("answer")?.token)}\n`);
    // A used offer joins nobody any more; no half-written files stay.
    expect(readdirSync(directory)).toEqual(["answer"]);
  });
}

for (const order of ["one after the other", "at once"] as const) {
  for (const kind of ["files", "FIFOs"] as const) {
    test(`pipe with the same ${kind} on both sides, started ${order}`, async () => {
      const directory = temporaryDirectory();
      const [offerFile, answerFile] = [join(directory, "offer"), join(directory, "answer")];
      if (kind === "FIFOs") execFileSync("mkfifo", [offerFile, answerFile]);
      const flags = ["--offer-file", offerFile, "--answer-file", answerFile];
      const one = start(["pipe", ...flags], { stdin: Buffer.from("one") });
      if (order !== "at once") await one.offer();
      if (order !== "at once" && kind === "files") await onDisk(directory, () => existsSync(offerFile));
      const other = start(["pipe", ...flags], { stdin: Buffer.from("other") });
      await succeed(one, other);
      expect(one.stdout.toString()).toBe("other");
      expect(other.stdout.toString()).toBe("one");
    });
  }
}

test("a FIFO for the offer and a person's eyes for the answer", async () => {
  const directory = temporaryDirectory();
  const offerFile = join(directory, "offer");
  execFileSync("mkfifo", [offerFile]);
  const waiting = start(["pipe", "--offer-file", offerFile], { stdin: Buffer.from("x") });
  await waiting.offer();
  const joining = start(["pipe", "--code-file", offerFile]);
  await succeed(waiting, joining);
  expect(joining.stdout.toString()).toBe("x");
});

test("an answer file of another offer lies there: it is not taken, and replaced by the right one", async () => {
  const { answer } = await strayTokens();
  const directory = temporaryDirectory();
  const answerFile = join(directory, "answer");
  writeFileSync(answerFile, `${answer}\n`);
  const waiting = start(["pipe", "--answer-file", answerFile], { stdin: Buffer.from("x") });
  await waiting.event("note", ({ text }) => /another offer/.test(text ?? ""));
  const joining = start(["pipe", "--answer-file", answerFile, "--to", await waiting.offer()]);
  await succeed(waiting, joining);
  expect(readFileSync(answerFile, "utf8")).not.toBe(`${answer}\n`);
});

test("an answer file that will never do is an error", async () => {
  const directory = temporaryDirectory();
  const answerFile = join(directory, "answer");
  writeFileSync(join(directory, "new"), "this is no token\n");
  const waiting = start(["pipe", "--answer-file", answerFile], { stdin: "pipe" });
  await waiting.offer();
  renameSync(join(directory, "new"), answerFile);
  await fail(waiting, 2, /no dcpipe token/);
});

test("an offer file with nothing good in it, and files in no directory", async () => {
  const offerFile = makeFile("offer", Buffer.from("this is no token\n"));
  await fail(start(["pipe", "--offer-file", offerFile]), 2, /no dcpipe token/);
  const nowhere = join(temporaryDirectory(), "no/offer");
  await fail(start(["pipe", "--offer-file", nowhere]), 3, /cannot write/);
  await fail(start(["pipe", "--offer-file", temporaryDirectory()]), 3, /is a directory/);
});

// ---- commands -------------------------------------------------------------------------------------------------------

const dcpipe = (...args: string[]): string => quote([process.execPath, BIN, ...args]);

test("--via brings the tokens through a command's stdin and stdout", async () => {
  const [target, source] = [temporaryDirectory(), makeFile("f", 200_000)];
  const sender = start([
    "send",
    source,
    "--via",
    dcpipe("receive", "--no-stun", "-q", "--stdio-signal", "-o", target),
  ]);
  await succeed(sender);
  expectEqualFiles(join(target, "f"), source);
  expect(sender.stdout.length).toBe(0);
});

test("--via the other way round, behind a chatty login", async () => {
  const [target, source] = [temporaryDirectory(), makeFile("f", 200_000)];
  const remote = dcpipe("send", "--no-stun", "-q", "--stdio-signal", source);
  const receiver = start(["receive", "-o", target, "--via", `echo Welcome; echo; ${remote}`]);
  await succeed(receiver);
  expectEqualFiles(join(target, "f"), source);
});

test("--via with pipe: the command's own output goes where the command sends it", async () => {
  const directory = temporaryDirectory();
  const copy = join(directory, "copy");
  const remote = `${dcpipe("pipe", "--no-stun", "-q", "--stdio-signal")} | { read -r offer; echo "$offer"; cat > ${quote([copy])}; }`;
  const local = start(["pipe", "-q", "--via", remote], { stdin: Buffer.from("over there"), json: false });
  const [exit] = await succeed(local);
  expect(exit?.stdout.length).toBe(0);
  expect(exit?.stderr).toBe("");
  await onDisk(directory, () => existsSync(copy) && readFileSync(copy, "utf8") === "over there");
});

for (const verb of ["pipe", "send"] as const) {
  test(`${verb} --stdio-signal: what follows the answer on stdin is payload`, async () => {
    const waiting = start([verb, ...(verb === "send" ? ["-"] : []), "--stdio-signal"], { stdin: "pipe" });
    const offer = await waiting.offer();
    await waiting.printed(`${offer}\n`);
    const joining = start([...(verb === "send" ? ["receive", "-o", "-"] : ["pipe"]), "--to", offer]);
    const answer = String((await joining.event("answer")).token);
    await joining.event("connected");
    waiting.stdin.end(`${answer}\npayload`);
    const [w, j] = await succeed(waiting, joining);
    expect(w?.stdout.toString()).toBe(`${offer}\n`);
    expect(j?.stdout.toString()).toBe("payload");
  });
}

test("--via a command that fails, says nothing, or talks on and on", async () => {
  for (const [command, message] of [
    ["exit 7", /ended with status 7 before it printed a token/],
    ["true", /ended with status 0 before/],
    ["kill -9 $$", /ended by SIGKILL/],
    ["no-such-command-here", /ended with status 127/],
    ["yes", /prints no token/],
  ] as const) {
    const local = start(["receive", "-o", temporaryDirectory(), "--via", command]);
    const exit = await local.exited;
    expect(exit.status).toBe(3);
    expect(local.error).toMatchObject({
      code: "SIGNALLING",
      message: expect.stringMatching(message) as string,
    });
  }
});

// ---- nobody there ---------------------------------------------------------------------------------------------------

test("--timeout with nobody there: status 3 on either side", async () => {
  const { offer } = await strayTokens();
  const waiting = start(["pipe", "--timeout", "1"]);
  await fail(waiting, 3, /did not connect within 1 s/);
  expect(waiting.find("offer")).toBeDefined();
  const joining = start(["pipe", "--timeout", "1", "--to", offer]);
  await fail(joining, 3, /did not connect within 1 s/);
  expect(joining.error).toMatchObject({ code: "TIMEOUT", hint: expect.any(String) as string });
});
