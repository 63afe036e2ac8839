import { once } from "node:events";
import { openSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type Dcpipe, fail, makeFile, pair, sha256, start, succeed } from "./dcpipe.ts";

const MIB = 1024 * 1024;

test("bytes go both ways, and stdout carries nothing else", async () => {
  const { waiting, joining } = await pair(
    [["pipe"], { stdin: Buffer.from("from the waiting side\n") }],
    [["pipe"], { stdin: Buffer.from("from the joining side\n") }],
  );
  const [w, j] = await succeed(waiting, joining);
  expect(w?.stdout.toString()).toBe("from the joining side\n");
  expect(j?.stdout.toString()).toBe("from the waiting side\n");
  expect(waiting.find("done")).toMatchObject({ bytes: 44, sent: 22, received: 22 });
  expect(joining.find("connected")).toMatchObject({ path: "direct" });
});

test("without --json stdout carries nothing else either", async () => {
  const waiting = start(["pipe"], { stdin: Buffer.from("there") });
  const joining = start(["pipe", "-v", "--to", await waiting.offer()], {
    stdin: Buffer.from("back"),
    json: false,
  });
  const [w, j] = await succeed(waiting, joining);
  expect(w?.stdout.toString()).toBe("back");
  expect(j?.stdout.toString()).toBe("there");
  expect(j?.stderr).toMatch(/^Connected: /m);
  expect(j?.stderr).toMatch(/^Done: 4 B sent, 5 B received$/m);
});

test("nothing goes both ways", async () => {
  const { waiting, joining } = await pair([["pipe"]], [["pipe"]]);
  const [w, j] = await succeed(waiting, joining);
  expect(w?.stdout.length).toBe(0);
  expect(j?.stdout.length).toBe(0);
  expect(joining.find("done")).toMatchObject({ bytes: 0 });
});

test("each direction ends on its own", async () => {
  const { waiting, joining } = await pair([["pipe"], { stdin: "pipe" }], [["pipe"], { stdin: "pipe" }]);
  const ended = once(waiting.output, "end");
  joining.stdin.end("one way\n");
  await ended;
  expect(waiting.stdout.toString()).toBe("one way\n");
  // The first direction is over at both ends; the second still works, piece by piece.
  for (let i = 0; i < 5; i++) {
    waiting.stdin.write(`and back ${i}\n`);
    await joining.printed(`and back ${i}\n`);
  }
  expect(waiting.gone).toBe(false);
  waiting.stdin.end();
  await succeed(waiting, joining);
});

test("a consumer that prints at the end of its input prints while our stdin stays open", async () => {
  const { waiting, joining } = await pair(
    [["pipe"], { stdin: "pipe", shell: '"$@" | sort' }],
    [["pipe"], { stdin: Buffer.from("c\na\nb\n"), shell: 'cat | "$@"' }],
  );
  await waiting.printed("a\nb\nc\n");
  expect(joining.gone).toBe(false);
  waiting.stdin.end();
  await succeed(waiting, joining);
});

test("20 MiB each way at once, over the pipes of a shell", async () => {
  const [there, back] = [makeFile("there", 20 * MIB), makeFile("back", 20 * MIB)];
  const { waiting, joining } = await pair(
    [["pipe"], { stdin: { fd: openSync(there, "r") }, shell: 'cat | "$@" | sha256sum' }],
    [["pipe"], { stdin: { fd: openSync(back, "r") }, shell: 'cat | "$@" | sha256sum' }],
  );
  const [w, j] = await succeed(waiting, joining);
  expect(w?.stdout.toString().slice(0, 64)).toBe(sha256(readFileSync(back)));
  expect(j?.stdout.toString().slice(0, 64)).toBe(sha256(readFileSync(there)));
  expect(waiting.find("done")).toMatchObject({ sent: 20 * MIB, received: 20 * MIB });
});

test("files as stdin and stdout, and sockets", async () => {
  const there = makeFile("there", 3 * MIB);
  const target = makeFile("target", 0);
  const { waiting, joining } = await pair(
    [["pipe"], { stdin: readFileSync(there) }],
    [["pipe"], { stdout: { fd: openSync(target, "w") } }],
  );
  await succeed(waiting, joining);
  expect(sha256(readFileSync(target))).toBe(sha256(readFileSync(there)));
});

test("a writer that stops in mid-word delays nothing that it wrote", async () => {
  const { waiting, joining } = await pair([["pipe"], { stdin: "pipe" }], [["pipe"]]);
  waiting.stdin.write("x");
  await joining.printed("x");
  waiting.stdin.end();
  await succeed(waiting, joining);
});

for (const side of ["waiting", "joining"] as const) {
  test(`the reader of the ${side} side's stdout goes away: it dies by SIGPIPE, the other side says so`, async () => {
    const reader = 'exec "$@" > >(head -c 100000 >/dev/null)';
    const zeroes = openSync("/dev/zero", "r");
    let [dying, other]: (Dcpipe | undefined)[] = [];
    if (side === "joining") {
      other = start(["pipe"], { stdin: { fd: zeroes } });
      dying = start(["pipe", "--to", await other.offer()], { shell: reader, json: false });
    } else {
      dying = start(["pipe"], { shell: reader, json: false });
      other = start(["pipe", "--to", await printedToken(dying)], { stdin: { fd: zeroes } });
    }
    expect(await dying.exited).toMatchObject({ status: null, signal: "SIGPIPE" });
    await fail(other, 6);
    expect(other.find("reconnecting")).toBeUndefined();
  });
}

test("with --json a reader that went away is an event, and status 141", async () => {
  const waiting = start(["pipe"], { stdin: { fd: openSync("/dev/zero", "r") } });
  const joining = start(["pipe", "--to", await waiting.offer()], {
    shell: 'exec "$@" > >(head -c 100000 >/dev/null)',
  });
  await fail(joining, 141);
  expect(joining.error).toMatchObject({ code: "PIPE_CLOSED" });
  await fail(waiting, 6);
});

for (const [signal, status] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const) {
  for (const side of ["waiting", "joining"] as const) {
    test(`${signal} to the ${side} side ends both at once`, async () => {
      const sides = await pair([["pipe"], { stdin: "pipe" }], [["pipe"], { stdin: "pipe" }]);
      const hit = sides[side];
      const other = side === "waiting" ? sides.joining : sides.waiting;
      sides.waiting.stdin.write("ready");
      sides.joining.stdin.write("ready");
      await Promise.all([hit.printed("ready"), other.printed("ready")]);
      hit.kill(signal);
      expect(await hit.exited).toMatchObject({ status, signal: null });
      await fail(other, 6);
      expect(other.error).toMatchObject({ code: "INTERRUPTED" });
      expect(other.find("reconnecting")).toBeUndefined();
    });
  }
}

test("SIGINT while waiting for the other side", async () => {
  const waiting = start(["pipe"], { stdin: "pipe" });
  await waiting.offer();
  waiting.kill("SIGINT");
  expect(await waiting.exited).toMatchObject({ status: 130, signal: null });
});

test("SIGINT while joining a side that is not there", async () => {
  const waiting = start(["pipe"]);
  const offer = await waiting.offer();
  waiting.kill("SIGKILL");
  await waiting.exited;
  const joining = start(["pipe", "--to", offer]);
  await joining.event("answer");
  joining.kill("SIGINT");
  expect(await joining.exited).toMatchObject({ status: 130, signal: null });
});

test("a second SIGINT waits for nobody", async () => {
  const { waiting, joining } = await pair([["pipe"], { stdin: "pipe" }], [["pipe"], { stdin: "pipe" }]);
  waiting.stdin.write("ready");
  await joining.printed("ready");
  // A side that does not listen cannot take a farewell.
  joining.kill("SIGSTOP");
  waiting.kill("SIGINT");
  waiting.kill("SIGINT");
  expect(await waiting.exited).toMatchObject({ status: 130, signal: null });
});

test("--limit caps the rate and loses nothing", async () => {
  const there = makeFile("there", 300_000);
  const { waiting, joining } = await pair(
    [["pipe", "--limit", "500k"], { stdin: { fd: openSync(there, "r") } }],
    [["pipe"]],
  );
  const [, j] = await succeed(waiting, joining);
  expect(sha256(j?.stdout ?? Buffer.alloc(0))).toBe(sha256(readFileSync(there)));
});

async function printedToken(process: Dcpipe): Promise<string> {
  return process.until("a token", () => /\bdc1[\w-]+/.exec(process.stderr)?.[0]);
}
