/** dcpipe peers: who is remembered. */
import { DcpipeError, escapeText, type PeerRecord } from "../index.ts";
import { isName, openStore } from "./known.ts";
import type { SpeechOptions } from "./options.ts";
import { Ui } from "./ui.ts";

function uiOf({ json, quiet, verbose, color }: SpeechOptions): Ui {
  return new Ui({ json, quiet, verbose, color: color && process.env["NO_COLOR"] === undefined });
}

/** On stdout: it is what was asked for. Status 1 when a file is broken; the others are shown all the same. */
export function listPeers(options: SpeechOptions): void {
  const ui = uiOf(options);
  const { peers, problems } = openStore(ui).list();
  if (options.json) for (const peer of peers) process.stdout.write(`${JSON.stringify(fieldsOf(peer))}\n`);
  else process.stdout.write(table(peers));
  if (peers.length === 0 && problems.length === 0)
    ui.note("nobody is remembered; --remember NAME on both sides of a session does it");
  for (const problem of problems) ui.error(problem);
  if (problems.length > 0) process.exitCode = 1;
}

export function renamePeer(options: SpeechOptions & { readonly old: string; readonly new: string }): void {
  if (!isName(options.new))
    throw new DcpipeError(
      "USAGE",
      `"${options.new}" is no name: up to 63 letters, digits, hyphens, dots and underscores, a letter first`,
    );
  openStore(uiOf(options)).rename(options.old, options.new);
}

export function forgetPeers(options: SpeechOptions & { readonly names: readonly string[] }): void {
  openStore(uiOf(options)).forget(options.names);
}

/** What a script gets; nothing of it is secret. */
function fieldsOf({ name, host, calledHere, created, lastSeen, rendezvous }: PeerRecord): object {
  return { name, host, calledHere, created, lastSeen, rendezvous };
}

function table(peers: readonly PeerRecord[]): string {
  if (peers.length === 0) return "";
  const rows = peers.map(({ name, host, calledHere, created, lastSeen, rendezvous }) => [
    name,
    escapeText(host),
    escapeText(calledHere),
    minute(created),
    minute(lastSeen),
    rendezvous ?? "-",
  ]);
  const head = ["NAME", "ITS HOST", "CALLS US", "PAIRED", "LAST SEEN", "RENDEZVOUS"];
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  return all
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "))
    .map((line) => `${line.trimEnd()}\n`)
    .join("");
}

/** `2026-08-01 14:05`, UTC. */
function minute(time: Date): string {
  return time.toISOString().slice(0, 16).replace("T", " ");
}
