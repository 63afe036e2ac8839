/** A sender and a receiver of files. */
import { execFileSync } from "node:child_process";
import { onTestFinished } from "vitest";
import { type Dcpipe, type DcpipeEvent, pair, type StartOptions, temporaryDirectory } from "./dcpipe.ts";

interface Trees {
  readonly makeTree: (path: string, options?: { small?: number; large?: number[] }) => number;
  readonly compareTrees: (one: string, other: string) => string[];
}

/** test/lab/tree.js */
export const { makeTree, compareTrees } = (await import(
  new URL("../lab/tree.js", import.meta.url).href
)) as Trees;

export type Started = readonly [args: readonly string[], options?: StartOptions | undefined];

/** Starts a sender and a receiver, of which `waits` comes first and makes the offer. */
export async function transfer(
  sending: Started,
  receiving: Started,
  waits: "sender" | "receiver" = "sender",
): Promise<{ sender: Dcpipe; receiver: Dcpipe }> {
  const [send, receive]: [Started, Started] = [
    [["send", ...sending[0]], sending[1]],
    [["receive", ...receiving[0]], receiving[1]],
  ];
  if (waits === "sender") {
    const { waiting, joining } = await pair(send, receive);
    return { sender: waiting, receiver: joining };
  }
  const { waiting, joining } = await pair(receive, send);
  return { sender: joining, receiver: waiting };
}

/** A filesystem of its own for the test. */
export function mountTmpfs(options: string): string {
  const directory = temporaryDirectory();
  execFileSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", directory]);
  onTestFinished(() => {
    execFileSync("umount", ["-l", directory]);
  });
  return directory;
}

/** The entries that a side has complained about, with what it said, in the order of their paths. */
export function problems({ events }: Dcpipe): (string | undefined)[][] {
  return events
    .filter(({ event }) => event === "problem")
    .map(({ path, reason, text }: DcpipeEvent) => [path, reason, text])
    .sort(([a = ""], [b = ""]) => (a < b ? -1 : 1));
}
