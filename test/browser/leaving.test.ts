/** A tab that is closed or reloaded, a machine that sleeps: what the other side sees of it. */
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { startServer } from "../e2e/code.ts";
import { type Dcpipe, fail, makeFile, sha256, start, succeed } from "../e2e/dcpipe.ts";
import { KINDS, openPage, type BrowserPage, type Kind, type MeetingOptions } from "./harness.ts";

const MIB = 1024 * 1024;

const GOING: readonly (readonly [string, (page: BrowserPage) => Promise<void>])[] = [
  ["closed", (page) => page.close()],
  ["reloaded", (page) => page.reload()],
];

/** In a page: a pipe without an end. */
async function pipeWithoutEnd(meeting: MeetingOptions): Promise<void> {
  const { session, role } = await tab.meet(meeting);
  tab.tell("met");
  const never = new ReadableStream<Uint8Array>();
  await dcpipe.pipe(session, role, {
    source: dcpipe.readableSource(never),
    sink: dcpipe.writableSink(new WritableStream()),
  });
}

/** In a page: receives into its own storage; tells when so many bytes are there, and what came of it. */
async function receive({ tellAt, ...meeting }: MeetingOptions & { tellAt: number }): Promise<{
  moved: number;
  hash: string;
}> {
  const { session, role } = await tab.meet(meeting);
  const root = await navigator.storage.getDirectory();
  let told = false;
  const { moved } = await dcpipe.receiveFiles(session, role, {
    target: dcpipe.directoryTarget(root),
    conflict: "refuse",
    createDigest: dcpipe.createDigest,
    codec: dcpipe.codec,
    onprogress: ({ bytes }) => {
      if (told || bytes < tellAt) return;
      told = true;
      tab.tell("far");
    },
  });
  await session.close();
  const file = await (await root.getFileHandle("big.bin")).getFile();
  return { moved, hash: await tab.sha256(await file.arrayBuffer()) };
}

/** In a page: takes what comes until the end; tells when the first megabyte is there. */
async function takeAll(meeting: MeetingOptions): Promise<string> {
  const { session, role } = await tab.meet(meeting);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let got = 0;
  await dcpipe.pipe(session, role, {
    source: dcpipe.readableSource(new Blob().stream()),
    sink: dcpipe.writableSink(
      new WritableStream({
        write: (chunk) => {
          parts.push(new Uint8Array(chunk));
          if (got < 1_000_000 && got + chunk.length >= 1_000_000) tab.tell("far");
          got += chunk.length;
        },
      }),
    ),
  });
  await session.close();
  return tab.sha256(await new Blob(parts).arrayBuffer());
}

/** Firefox on a machine under load may not get to send it: then the channel is seen to close. */
async function isTold(kind: Kind, other: Dcpipe): Promise<void> {
  const told = fail(other, 6, /interrupted/);
  if (kind === "chromium") {
    await told;
    expect(other.events.map(({ event }) => event)).not.toContain("reconnecting");
    return;
  }
  told.catch(() => undefined);
  const silent = other.event("reconnecting").then(
    () => true,
    () => false,
  );
  const exited = other.exited.then(() => false);
  if (!(await Promise.race([silent, exited]))) await told;
  else {
    other.kill("SIGINT");
    await other.exited;
  }
}

/** What this process has started, directly or not, of that browser. */
function processesOf(kind: Kind): number[] {
  const parents = new Map<number, { readonly parent: number; readonly command: string }>();
  for (const name of readdirSync("/proc").filter((each) => /^\d+$/.test(each))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      parents.set(Number(name), { parent, command: readFileSync(`/proc/${name}/cmdline`, "utf8") });
    } catch {
      // Gone since.
    }
  }
  return [...parents].flatMap(([pid, { command }]) => {
    let at: number | undefined = pid;
    while (at !== undefined && at !== process.pid) at = parents.get(at)?.parent;
    return at !== undefined && command.includes(kind) ? [pid] : [];
  });
}

for (const kind of KINDS) {
  test(`${kind}: the machine sleeps until the other side looks for it, and goes on`, async (context) => {
    // Firefox tells its console that a WebSocket broke; so it did.
    const page = await openPage(context, kind, { expected: [/ws:\/\/127\.0\.0\.1/] });
    const server = await startServer();
    const input = randomBytes(12 * MIB);
    const sending = start(["pipe", "--rendezvous", server.url, "--limit", "4M"], { stdin: input });
    const done = page.run(takeAll, { rendezvous: server.url, code: await sending.code() });
    await page.told("far");
    const asleep = processesOf(kind);
    expect(asleep.length).toBeGreaterThan(1);
    for (const pid of asleep) process.kill(pid, "SIGSTOP");
    try {
      await sending.event("reconnecting");
    } finally {
      for (const pid of asleep) process.kill(pid, "SIGCONT");
    }
    expect(await done).toBe(sha256(input));
    await succeed(sending);
  });

  test(`${kind}: a file goes on after a reload`, async (context) => {
    const page = await openPage(context, kind);
    const server = await startServer();
    const path = makeFile("big.bin", 40 * MIB);
    // Slow enough not to be over before the page goes.
    const first = start(["send", path, "--rendezvous", server.url, "--limit", "12M"]);
    void page
      .run(receive, { rendezvous: server.url, code: await first.code(), tellAt: 24 * MIB })
      .catch(() => undefined);
    await page.told("far");
    await page.reload();
    await isTold(kind, first);
    const second = start(["send", path, "--rendezvous", server.url]);
    const done = await page.run(receive, {
      rendezvous: server.url,
      code: await second.code(),
      tellAt: Infinity,
    });
    await succeed(second);
    expect(done.hash).toBe(sha256(readFileSync(path)));
    // 16 MiB were kept.
    expect(done.moved).toBeLessThanOrEqual(24 * MIB);
  });

  for (const [how, go] of GOING) {
    test(`${kind}: the tab is ${how} while a session stands: the other side is told`, async (context) => {
      const page = await openPage(context, kind);
      const server = await startServer();
      // It would wait for a day for one that has only fallen silent.
      const process = start(["pipe", "--rendezvous", server.url, "--reconnect", "86400"], { stdin: "pipe" });
      const code = await process.code();
      void page.run(pipeWithoutEnd, { rendezvous: server.url, code }).catch(() => undefined);
      await page.told("met");
      await process.event("connected");
      await go(page);
      await isTold(kind, process);
    });
  }
}

// With Firefox nearly always, and when a machine under load is too slow for it, when the rendezvous has waited for the page in vain.
test("chromium: the tab is closed while it waits: its code is gone", async (context) => {
  const page = await openPage(context, "chromium");
  const server = await startServer();
  void page.run(pipeWithoutEnd, { rendezvous: server.url }).catch(() => undefined);
  const code = await page.told<string>("code");
  await page.close();
  await server.counts("dcpipe_mailboxes", 0);
  await fail(start(["pipe", "--to", code, "--rendezvous", server.url]), 4);
});
