/** What the other side offers, as lines: for the question before anything is written, and for --list. */
import { escapeText, type Listed, type Offer } from "../index.ts";
import { clipMiddle, countOf, formatBytes, formatCount, widthOf } from "./format.ts";

/** A question with more lines above it scrolls away. */
const MAX_LINES = 20;
/** Deeper summaries say little more. */
const MAX_DEPTH = 5;
const SIZE_WIDTH = 9;

/** One entry, or a directory with all that is below it. */
interface Row {
  readonly label: string;
  readonly note: string;
  readonly size: string;
  readonly hidden: boolean;
}

/** Up to 20 lines for people, each within `columns`. Whole entries while there is room, else directories with their counts. */
export function offerLines(offer: Offer, columns: number): string[] {
  const { entries } = offer;
  const rows = entries.length <= MAX_LINES ? entries.map(rowOf) : groupRows(entries);
  const room = MAX_LINES - (offer.complete ? 0 : 1);
  // What hides from ls must not hide here.
  const sorted = rows.length > room ? [...rows].sort((a, b) => Number(b.hidden) - Number(a.hidden)) : rows;
  const shown = sorted.length > room ? sorted.slice(0, room - 1) : sorted;
  const rest = sorted.slice(shown.length);
  const lines = shown.map((row) => lineOf(row, columns));
  if (rest.length > 0) {
    const hidden = rest.filter((row) => row.hidden);
    const names = hidden.map(({ label }) => label).join(" ");
    const among = hidden.length === 0 ? "" : `, ${formatCount(hidden.length)} hidden: ${names}`;
    lines.push(lineOfText(`... and ${formatCount(rest.length)} more${among}`, columns));
  }
  if (!offer.complete) {
    const unseen = offer.total.entries - entries.length;
    const what =
      unseen > 0 ? `${countOf(unseen, "entry", "entries")} not listed here` : "what is not listed yet";
    lines.push(lineOfText(`... and ${what}`, columns));
  }
  return lines;
}

/** Every entry with its whole name. */
export function allLines(entries: readonly Listed[]): string[] {
  return entries.map((entry) => lineOf(rowOf(entry), Infinity));
}

/** An entry for --list: size, date, path. */
export function listLine(entry: Listed): string {
  const size = entry.kind === "directory" || entry.kind === "link" ? "" : sizeOf(entry.size);
  return `${size.padStart(SIZE_WIDTH)}  ${dateOf(entry.mtime).padEnd(16)}  ${labelOf(entry)}`;
}

/** "1,234 files (3.4 GiB)"; what is asked about, and what --list ends with. */
export function totalsOf(offer: Offer): string {
  const { entries, complete, total, unknown } = offer;
  const files = entries.filter(({ kind }) => kind !== "directory").length;
  const directories = entries.length - files;
  const only = complete && entries.length === 1 ? entries[0] : undefined;
  const what = !complete
    ? countOf(total.entries, "entry", "entries") + (total.entries > entries.length ? "" : " and more")
    : only
      ? labelOf(only)
      : files === 0
        ? countOf(directories, "directory", "directories")
        : countOf(files, "file");
  const known = total.bytes > 0 || !unknown ? formatBytes(total.bytes) : "";
  const size = [known, ...(unknown ? [known === "" ? "size not known" : "and more"] : [])]
    .filter(Boolean)
    .join(" ");
  return only?.kind === "directory" ? what : `${what} (${size})`;
}

function rowOf(entry: Listed): Row {
  return {
    label: labelOf(entry),
    note: "",
    size: entry.kind === "directory" || entry.kind === "link" ? "" : sizeOf(entry.size),
    hidden: entry.path.startsWith("."),
  };
}

/** Directories in place of what they hold: as deep as there is room for. */
function groupRows(entries: readonly Listed[]): Row[] {
  let rows = rowsAt(entries, 1);
  for (let depth = 2; depth <= MAX_DEPTH; depth++) {
    const finer = rowsAt(entries, depth);
    if (finer.length > MAX_LINES - 1) break;
    rows = finer;
  }
  return rows;
}

interface Group {
  first: Listed;
  /** A directory, or something in one. */
  directory: boolean;
  files: number;
  bytes: number;
  unknown: boolean;
}

function rowsAt(entries: readonly Listed[], depth: number): Row[] {
  const groups = new Map<string, Group>();
  for (const entry of entries) {
    const names = entry.path.split("/");
    const key = names.slice(0, depth).join("/");
    let group = groups.get(key);
    if (!group)
      groups.set(key, (group = { first: entry, directory: false, files: 0, bytes: 0, unknown: false }));
    if (names.length > depth || entry.kind === "directory") group.directory = true;
    if (entry.kind === "directory") continue;
    group.files++;
    group.bytes += entry.size ?? 0;
    group.unknown ||= entry.kind !== "link" && entry.size === undefined;
  }
  const parents = new Set<string>();
  for (const key of groups.keys())
    for (let end = key.indexOf("/"); end >= 0; end = key.indexOf("/", end + 1))
      parents.add(key.slice(0, end));
  const rows: Row[] = [];
  for (const [key, group] of groups) {
    // What is in it stands in rows of its own.
    if (parents.has(key)) continue;
    rows.push(
      group.directory
        ? {
            label: `${escapeText(key)}/`,
            note: `  ${group.files === 0 ? "empty" : countOf(group.files, "file")}`,
            size: `${formatBytes(group.bytes)}${group.unknown ? "+" : ""}`,
            hidden: key.startsWith("."),
          }
        : rowOf(group.first),
    );
  }
  return rows;
}

function lineOf({ label, note, size }: Row, columns: number): string {
  const room = columns - 1 - SIZE_WIDTH - 2;
  const full = label + note;
  const name =
    widthOf(full) <= room || room - note.length < 12
      ? clipMiddle(full, room)
      : clipMiddle(label, room - note.length) + note;
  return `${size.padStart(SIZE_WIDTH)}  ${name}`;
}

function lineOfText(text: string, columns: number): string {
  return `${"".padStart(SIZE_WIDTH)}  ${clipEnd(text, columns - 1 - SIZE_WIDTH - 2)}`;
}

/** What comes first says more here. */
function clipEnd(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  let clipped = "";
  for (const character of text) {
    if (widthOf(clipped + character) >= columns) break;
    clipped += character;
  }
  return `${clipped}…`;
}

function labelOf({ kind, path, target }: Listed): string {
  const name = escapeText(path === "" && kind === "text" ? "a text" : path);
  if (kind === "directory") return `${name}/`;
  return kind === "link" && target !== undefined ? `${name} -> ${escapeText(target)}` : name;
}

function sizeOf(size: number | undefined): string {
  return size === undefined ? "?" : formatBytes(size);
}

/** Microseconds since 1970, in this machine's time. What no clock shows stays out. */
function dateOf(mtime: number | undefined): string {
  const date = new Date(mtime === undefined ? NaN : mtime / 1000);
  if (Number.isNaN(date.getTime())) return "";
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}
