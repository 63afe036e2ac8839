/**
 * Names of partial files, and whose they are.
 *
 *   NAME.<pid>-<start>.dcpipe-part      start: clock ticks since the system came up (proc(5), starttime)
 *   NAME.<pid>.dcpipe-part              where there is no /proc
 *
 * A part is taken over only when the process in its name is gone: two processes never write to the same one.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

export const PART_SUFFIX = ".dcpipe-part";

/** Filesystems take 255 bytes, and the rest of a part's name may be 48. */
const MAX_BASE = 255 - 48;
/** Of the digest that stands for the end of a longer name. */
const HASH_DIGITS = 16;

export interface PartName {
  /** `partBase` of the file's name. */
  readonly base: string;
  readonly pid: number;
  readonly start: string | undefined;
}

/** The file's name as it stands in front of the names of its parts; of a long one the first bytes and a digest. */
export function partBase(name: string): string {
  const bytes = Buffer.from(name);
  if (bytes.length <= MAX_BASE) return name;
  const digest = createHash("sha256").update(bytes).digest("hex").slice(0, HASH_DIGITS);
  let end = MAX_BASE - HASH_DIGITS - 1;
  // Not within a character: its further bytes are 10xxxxxx.
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return `${bytes.toString("utf8", 0, end)}~${digest}`;
}

/** Where names are folded, all of these are the same file as the first; it is made to find out, as a part of nobody's file. */
export const PROBE = ["Dcpipe-probe-\u00e9", "dcpipe-probe-\u00e9", "Dcpipe-probe-e\u0301"] as const;

let tag: string | undefined;

/** The name of this process's part of a file. */
export function ownPart(base: string): string {
  tag ??= [process.pid, startOf(process.pid)].filter((part) => part !== undefined).join("-");
  return `${base}.${tag}${PART_SUFFIX}`;
}

/** What a name says when it is that of a part. */
export function parsePart(name: string): PartName | undefined {
  const match = /^(.+)\.([1-9]\d{0,9})(?:-(\d{1,20}))?\.dcpipe-part$/s.exec(name);
  const [, base, pid, start] = match ?? [];
  return base === undefined ? undefined : { base, pid: Number(pid), start };
}

/** Whether the process that writes to the part, not this one, lives. */
export function isAlive({ base, pid, start }: PartName, name: string): boolean {
  if (name === ownPart(base)) return false;
  if (start !== undefined) return startOf(pid) === start;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: somebody else's.
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/** When a living process was started; undefined when there is none, or nobody to ask. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // pid (comm) state ppid ...: starttime is field 22, and comm may hold anything.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state] = fields;
    return state === "Z" || state === "X" ? undefined : fields[22 - 3];
  } catch {
    return undefined;
  }
}
