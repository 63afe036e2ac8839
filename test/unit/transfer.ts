/** Trees in memory, sent and received over two sessions in memory. */
import type { SourceEntry, SourceTree, TransferResult } from "../../src/apps/endpoints.ts";
import { receiveFiles, type ReceiveOptions } from "../../src/apps/receive.ts";
import { sendFiles, type SendOptions } from "../../src/apps/send.ts";
import { codec } from "../../src/node/codec.ts";
import { createDigest } from "../../src/node/digest.ts";
import { Session } from "../../src/session/session.ts";
import { channelPair } from "../../src/transport/channel.ts";

/** Two sessions joined by a control lane and nothing else. */
export function sessionPair(): { waiting: Session; joining: Session } {
  const [near, far] = channelPair();
  const waiting = new Session("waiting");
  const joining = new Session("joining");
  waiting.attach(near, 0, "control");
  joining.attach(far, 0, "control");
  return { waiting, joining };
}

export type Tree = { readonly [name: string]: Uint8Array | string | Tree };

export const MTIME = 1_700_000_000_123_456;

/** Files by name, directories as objects, links as text that begins with "->". */
export function treeOf(tree: Tree, opened: string[] = []): SourceTree {
  return async function* walk(): AsyncGenerator<SourceEntry> {
    await Promise.resolve();
    yield* entries(tree, opened);
  };
}

function* entries(tree: Tree, opened: string[]): Generator<SourceEntry> {
  for (const [name, what] of Object.entries(tree)) {
    if (typeof what === "string" && what.startsWith("->"))
      yield { kind: "link", name, target: what.slice(2), mtime: MTIME };
    else if (typeof what === "string" || what instanceof Uint8Array)
      yield sourceFile(name, typeof what === "string" ? new TextEncoder().encode(what) : what, opened);
    else {
      yield { kind: "directory", name, mode: 0o750, mtime: MTIME };
      yield* entries(what, opened);
      yield { kind: "up" };
    }
  }
}

export function sourceFile(name: string, content: Uint8Array, opened: string[] = []): SourceEntry {
  return {
    kind: "file",
    name,
    size: content.length,
    mode: 0o640,
    mtime: MTIME,
    open: () => {
      opened.push(name);
      let at = 0;
      return Promise.resolve({
        read: () => {
          const chunk = content.subarray(at, at + 100_000);
          at += chunk.length;
          return Promise.resolve(chunk.length > 0 ? chunk : undefined);
        },
        changed: () => Promise.resolve(undefined),
        cancel: () => undefined,
      });
    },
  };
}

/** Sends over sessions of its own. */
export async function transfer(
  tree: SourceTree,
  receiving: Omit<ReceiveOptions, "createDigest" | "codec" | "conflict"> & Partial<ReceiveOptions>,
  sending: Partial<SendOptions> = {},
): Promise<{ sent: TransferResult; received: TransferResult }> {
  const { waiting, joining } = sessionPair();
  const [sent, received] = await Promise.all([
    sendFiles(joining, "joining", { tree, createDigest, codec, ...sending }),
    receiveFiles(waiting, "waiting", { createDigest, codec, conflict: "refuse", ...receiving }),
  ]);
  return { sent, received };
}
