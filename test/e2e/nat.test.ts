/** The waiting side cannot be called: the answer must find its way back. */
import { existsSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import {
  expectEqualFiles,
  fail,
  makeFile,
  onDisk,
  rootTest,
  start,
  succeed,
  temporaryDirectory,
} from "./dcpipe.ts";
import { createNat } from "./nat.ts";
import { Terminal } from "./terminal.ts";

rootTest("the answer comes back by --answer-file", async () => {
  const { inside, outside } = createNat();
  const [directory, target, source] = [temporaryDirectory(), temporaryDirectory(), makeFile("f", 300_000)];
  const answerFile = join(directory, "answer");
  const waiting = start(["receive", "-o", target, "--answer-file", answerFile], { namespace: inside });
  const joining = start(["send", source, "--to", await waiting.offer()], { namespace: outside });
  const { token } = await joining.event("answer");
  expect(waiting.find("connected")).toBeUndefined();
  writeFileSync(join(directory, "half"), `${String(token)}\n`);
  renameSync(join(directory, "half"), answerFile);
  await succeed(waiting, joining);
  expectEqualFiles(join(target, "f"), source);
  expect(waiting.find("connected")).toMatchObject({ path: "direct", remote: { address: "203.0.113.5" } });
});

rootTest("the answer comes back on stdin", async () => {
  const { inside, outside } = createNat();
  const [target, source] = [temporaryDirectory(), makeFile("f", 1000)];
  const waiting = start(["send", source], { namespace: inside, stdin: "pipe" });
  const joining = start(["receive", "-o", target, "--to", await waiting.offer()], { namespace: outside });
  waiting.stdin.write(`${String((await joining.event("answer")).token)}\n`);
  await succeed(waiting, joining);
  expectEqualFiles(join(target, "f"), source);
});

rootTest("with the same files on both sides nobody carries anything", async () => {
  const { inside, outside } = createNat();
  const directory = temporaryDirectory();
  const flags = ["--offer-file", join(directory, "offer"), "--answer-file", join(directory, "answer")];
  const waiting = start(["pipe", ...flags], { namespace: inside, stdin: Buffer.from("out") });
  await onDisk(directory, () => existsSync(join(directory, "offer")));
  const joining = start(["pipe", ...flags], {
    namespace: outside,
    stdin: Buffer.from("in"),
  });
  await succeed(waiting, joining);
  expect(waiting.stdout.toString()).toBe("in");
  expect(joining.stdout.toString()).toBe("out");
});

rootTest("people see the answer where one paste was not enough, and paste it at the prompt", async () => {
  const { inside, outside } = createNat();
  const [target, source] = [temporaryDirectory(), makeFile("f", 300_000)];
  const waiting = new Terminal(["receive", "--no-stun", "-o", target], { namespace: inside });
  const command = await waiting.shows(/dcpipe send PATH --to (dc1[\w-]+)/);
  await waiting.shows(/paste it here: /);
  const joining = start(["send", source, "--to", command[1] ?? ""], { namespace: outside, json: false });
  const answer = await joining.until(
    "an answer",
    () => /Paste this answer[^]*\b(dc1[\w-]+)/.exec(joining.stderr)?.[1],
  );
  // Things go wrong first: the offer, half of the answer, and something else.
  await waiting.type(command[1] ?? "", /offer token, but an answer is due/);
  await waiting.type(answer.slice(0, -3), /cut short/);
  await waiting.type("hello", /no dcpipe token/);
  await waiting.type(answer, /Connected/);
  await waiting.shows(/Receive f .*\[Y\/n\/l\] /);
  await waiting.type("y", /Received f/);
  await succeed(waiting, joining);
  expectEqualFiles(join(target, "f"), source);
});

rootTest("the prompt reads from the terminal while stdin carries data", async () => {
  const { inside, outside } = createNat();
  const waiting = new Terminal(["pipe", "--no-stun"], { namespace: inside, script: 'echo payload | "$@"' });
  const [offer] = await waiting.shows(/dc1[\w-]+/);
  await waiting.shows(/paste it here: /);
  const joining = start(["pipe", "--to", offer], { namespace: outside, stdin: Buffer.from("back\n") });
  await waiting.type(String((await joining.event("answer")).token), /Connected/);
  const [w, j] = await succeed(waiting, joining);
  expect(j?.stdout.toString()).toBe("payload\n");
  expect(w?.stdout.toString()).toContain("back");
});

rootTest("without the answer neither side connects, and both say so", async () => {
  const { inside, outside } = createNat();
  const waiting = start(["pipe", "--timeout", "5"], { namespace: inside });
  const joining = start(["pipe", "--timeout", "4", "--to", await waiting.offer()], { namespace: outside });
  await fail(joining, 3);
  await fail(waiting, 3);
});
