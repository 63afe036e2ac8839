/** dcpipe pipe --raw over a slow path: what was sent last arrives, and where it does not, the sender says so. */
import { randomBytes } from "node:crypto";
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { BROWSERS, executableOf } from "./browsers.ts";
import { type Dcpipe, fail, Process, rootTest, start, succeed, temporaryDirectory } from "./dcpipe.ts";
import { ip } from "./nat.ts";

/** What a mobile phone has on a bad day: of the 3 MiB a third is in the library's own buffer when stdin has long ended. */
const SLOW = { rttMs: 100, mbit: 2 };
const SIZE = 3 * 1024 * 1024 + 17;
const TAB = join(import.meta.dirname, "raw-tab.js");

/** test/lab/wan.js */
interface Wan {
  readonly a: string;
  readonly b: string;
  cut(): Promise<void>;
  destroy(): void;
}

async function slowPath(): Promise<Wan> {
  const lab = (await import(new URL("../lab/wan.js", import.meta.url).href)) as {
    createWan(path: typeof SLOW): Promise<Wan>;
  };
  const wan = await lab.createWan(SLOW);
  onTestFinished(() => {
    wan.destroy();
  });
  return wan;
}

/** A dcpipe in one namespace that offers, and where it looks for the answer. */
async function offers(wan: Wan, stdin: Uint8Array): Promise<{ dcpipe: Dcpipe; offer: string; file: string }> {
  const file = join(temporaryDirectory(), "answer");
  const dcpipe = start(["pipe", "--raw", "--answer-file", file], { stdin, namespace: wan.a });
  return { dcpipe, offer: await dcpipe.offer(), file };
}

rootTest("3 MiB over 2 Mbit/s, then the sender is done: the other dcpipe has all of it", async () => {
  const wan = await slowPath();
  const bytes = randomBytes(SIZE);
  const { dcpipe, offer, file } = await offers(wan, bytes);
  const other = start(["pipe", "--raw", "--to", offer, "--answer-file", file], { namespace: wan.b });
  await succeed(dcpipe, other);
  expect(other.stdout.equals(bytes)).toBe(true);
});

for (const kind of BROWSERS)
  rootTest(`3 MiB over 2 Mbit/s, then the sender is done: ${kind} has all of it`, async (context) => {
    const executable = executableOf(context, kind);
    const wan = await slowPath();
    // Without one Firefox thinks that it is offline.
    ip("-n", wan.b, "route", "add", "default", "dev", "wan0");
    const bytes = randomBytes(SIZE);
    const { dcpipe, offer, file } = await offers(wan, bytes);
    const tab = new Process(["ip", "netns", "exec", wan.b, process.execPath, TAB, kind, executable], {
      stdin: "pipe",
    });
    tab.stdin.write(`${offer}\n`);
    await tab.printed("\n");
    const answer = tab.stdout.toString();
    writeFileSync(`${file}.new`, answer);
    renameSync(`${file}.new`, file);
    await succeed(dcpipe, tab);
    expect(tab.stdout.subarray(answer.length).equals(bytes)).toBe(true);
  });

rootTest(
  "the path is cut while the last bytes are under way: the sender does not call that sent",
  async () => {
    const wan = await slowPath();
    // All of it fits into the library's buffer: to dcpipe it is gone at once.
    const { dcpipe, offer, file } = await offers(wan, randomBytes(512 * 1024));
    const other = start(["pipe", "--raw", "--to", offer, "--answer-file", file], { namespace: wan.b });
    await other.printed(1);
    await wan.cut();
    await fail(dcpipe, 6);
    expect(other.stdout.length).toBeLessThan(512 * 1024);
  },
);
