/** What is to be sent, from the disk: files, directories and links, one after another, however many there are. */
import { isUtf8 } from "node:buffer";
import {
  type BigIntStats,
  closeSync,
  constants,
  type Dir,
  fstatSync,
  lstatSync,
  opendirSync,
  openSync,
  readlinkSync,
  realpathSync,
  statSync,
} from "node:fs";
import { basename, join, resolve, sep } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { SourceContent, SourceEntry, SourceFile, SourceTree } from "../apps/endpoints.ts";
import { DcpipeError } from "../errors.ts";
import { contentOf } from "./disk/content.ts";
import { PART_SUFFIX } from "./disk/partname.ts";
import { codeOf, describe, kindOf } from "./disk/words.ts";

/** Windows has neither flag. */
const { O_NONBLOCK: NON_BLOCKING = 0, O_NOFOLLOW: NO_FOLLOW = 0 } = constants as Partial<typeof constants>;

/** Names that are held of one directory. What has fewer is sorted, so that its order is always the same. */
const BATCH = 1024;
/** Entries after which others have a turn: each took some microseconds of the thread. */
const TURN = 64;
/** Directories in directories; the protocol takes no more. */
const MAX_DEPTH = 1000;

export interface WalkOptions {
  /** Send what links point to, not the links. */
  readonly follow?: boolean | undefined;
  /** Leaves things out. `path` is the one at the other side, with slashes, `name` its last component. Asked for PATHs too. */
  readonly exclude?: ((path: string, name: string) => boolean) | undefined;
  /** What was left out though nobody asked for that, for people. Paths are raw: escape before showing. */
  readonly onnote?: ((text: string) => void) | undefined;
}

/**
 * All that the paths stand for, depth first. What cannot be read becomes "missing"; sockets, FIFOs, devices and dcpipe's
 * own partial files are left out with a note.
 */
export function walkPaths(paths: readonly string[], options: WalkOptions = {}): SourceTree {
  return () => new Walk(options).all(paths);
}

/**
 * For a look before anybody is asked to come. Throws USAGE for a path that does not exist, cannot be read, is neither file
 * nor directory nor link, and for two paths that would have the same name at the other side.
 */
export function checkPaths(
  paths: readonly string[],
  { follow = false }: { readonly follow?: boolean } = {},
): void {
  const names = new Map<string, string>();
  for (const path of paths) {
    checkPath(path, follow);
    const name = nameOf(path);
    const other = names.get(name);
    if (other !== undefined)
      throw new DcpipeError("USAGE", `${other} and ${path} have the same name at the other side`);
    names.set(name, path);
  }
}

function checkPath(path: string, follow: boolean): void {
  let info: BigIntStats;
  try {
    info = look(path, follow);
    if (info.isDirectory()) opendirSync(path).closeSync();
    else if (info.isFile()) closeSync(openSync(path, constants.O_RDONLY | NON_BLOCKING));
  } catch (cause) {
    const dangling = codeOf(cause) === "ENOENT" && isLink(path);
    throw new DcpipeError(
      "USAGE",
      dangling ? `${path} is a link to nowhere` : `cannot read ${path}: ${describe(cause)}`,
      {
        cause,
      },
    );
  }
  if (info.isDirectory() || info.isSymbolicLink()) return;
  if (!info.isFile())
    throw new DcpipeError("USAGE", `${path} is ${kindOf(info)}; files, directories and links can be sent`);
  if (path.endsWith(PART_SUFFIX))
    throw new DcpipeError("USAGE", `${path} is a file that dcpipe has not received completely`);
}

/** The last component is no name, and what is before it may be a link. */
const DOTS = sep === "/" ? /(^|\/)\.{1,2}\/*$/ : /(^|[/\\])\.{1,2}[/\\]*$/;

/** What a path of the command line is called at the other side. */
function nameOf(path: string): string {
  const name = DOTS.test(path) ? realpath(path) : resolve(path);
  return basename(name) || "root";
}

function realpath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return resolve(path);
  }
}

function look(path: string, follow: boolean): BigIntStats {
  // The system itself follows a link with a slash behind it, on POSIX.
  return follow || endsWithSlash(path) ? statSync(path, { bigint: true }) : lstatSync(path, { bigint: true });
}

function endsWithSlash(path: string): boolean {
  return path.endsWith("/") || path.endsWith(sep);
}

/** A directory that the walk is in. */
interface Level {
  readonly listing: Listing;
  /** Where it is here, and at the other side. */
  readonly path: string;
  readonly shown: string;
  /** Device and inode: links can lead back into it. */
  readonly identity: string;
}

class Walk {
  readonly #follow: boolean;
  readonly #exclude: (path: string, name: string) => boolean;
  readonly #note: (text: string) => void;
  /** From the outside in. Not generators in each other: every entry would pass through all of them. */
  readonly #levels: Level[] = [];

  constructor({ follow = false, exclude = () => false, onnote = () => undefined }: WalkOptions) {
    this.#follow = follow;
    this.#exclude = exclude;
    this.#note = onnote;
  }

  async *all(paths: readonly string[]): AsyncGenerator<SourceEntry> {
    let steps = 0;
    try {
      for (const path of paths) {
        const name = nameOf(path);
        const entry = this.#entry(path, name, name, this.#follow || endsWithSlash(path));
        if (entry) yield entry;
        for (let level = this.#levels.at(-1); level; level = this.#levels.at(-1)) {
          if (++steps % TURN === 0) await setImmediate();
          const inner = this.#next(level);
          if (inner) yield inner;
        }
      }
    } finally {
      for (const { listing } of this.#levels) listing.close();
    }
  }

  /** The next step in a directory; undefined for something that is left out. */
  #next({ listing, path, shown }: Level): SourceEntry | undefined {
    let bytes: Buffer | undefined;
    try {
      bytes = listing.next();
    } catch (error) {
      listing.end();
      return missing(".", `the directory cannot be read to its end: ${describe(error)}`);
    }
    if (!bytes) {
      this.#levels.pop();
      return { kind: "up" };
    }
    const name = bytes.toString();
    if (!isUtf8(bytes)) return missing(name, "its name is no UTF-8");
    return this.#entry(join(path, name), name, `${shown}/${name}`, this.#follow);
  }

  /** What stands at `path`; a directory is entered. Undefined for what is left out. */
  #entry(path: string, name: string, shown: string, follow: boolean): SourceEntry | undefined {
    if (this.#exclude(shown, name)) return undefined;
    let info: BigIntStats;
    try {
      info = look(path, follow);
    } catch (error) {
      return missing(name, follow && isLink(path) ? linkText(error) : describe(error));
    }
    if (info.isDirectory()) return this.#enter(path, name, shown, info);
    if (name.endsWith(PART_SUFFIX)) {
      this.#note(`skipped ${path}: it is a file that dcpipe has not received completely`);
      return undefined;
    }
    if (info.isFile()) return fileEntry(path, name, info, follow);
    if (info.isSymbolicLink()) return linkEntry(path, name, info);
    this.#note(`skipped ${path}: it is ${kindOf(info)}`);
    return undefined;
  }

  #enter(path: string, name: string, shown: string, info: BigIntStats): SourceEntry {
    const identity = `${info.dev}:${info.ino}`;
    if (this.#levels.some((level) => level.identity === identity))
      return missing(name, "it is a link to a directory around it");
    if (this.#levels.length >= MAX_DEPTH)
      return missing(name, `more than ${MAX_DEPTH} directories are in each other`);
    try {
      this.#levels.push({ listing: new Listing(path), path, shown, identity });
    } catch (error) {
      return missing(name, describe(error));
    }
    return { kind: "directory", name, mode: modeOf(info), mtime: mtimeOf(info) };
  }
}

/** The names in a directory: sorted when one batch holds them, else as they come, a batch at a time. */
class Listing {
  readonly #directory: Dir;
  #batch: Buffer[] = [];
  #ended = false;
  #closed = false;

  constructor(path: string) {
    // Names that are no UTF-8 would not be known as such in a string. The published types lack this encoding.
    const options = { encoding: "buffer" as BufferEncoding, bufferSize: BATCH };
    this.#directory = opendirSync(path, options);
    try {
      this.#fill();
    } catch (error) {
      this.close();
      throw error;
    }
    // From behind, as they are taken.
    if (this.#ended) this.#batch.sort((a, b) => Buffer.compare(b, a));
  }

  /** Throws what the system says. */
  next(): Buffer | undefined {
    if (this.#batch.length === 0 && !this.#ended) this.#fill();
    return this.#batch.pop();
  }

  /** No more names. */
  end(): void {
    this.#batch = [];
    this.#ended = true;
    this.close();
  }

  close(): void {
    if (!this.#closed) this.#directory.closeSync();
    this.#closed = true;
  }

  #fill(): void {
    while (this.#batch.length < BATCH) {
      const entry = this.#directory.readSync();
      if (!entry) {
        this.#ended = true;
        // A deep tree would hold a descriptor for each level.
        this.close();
        return;
      }
      this.#batch.push(entry.name as unknown as Buffer);
    }
  }
}

function missing(name: string, text: string): SourceEntry {
  return { kind: "missing", name, text };
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink();
  } catch {
    return false;
  }
}

function linkText(error: unknown): string {
  const code = codeOf(error);
  if (code === "ENOENT") return "it is a link to nowhere";
  return code === "ELOOP" ? "it is a link to itself" : describe(error);
}

function linkEntry(path: string, name: string, info: BigIntStats): SourceEntry {
  try {
    const target = readlinkSync(path, { encoding: "buffer" });
    if (!isUtf8(target)) return missing(name, "what it points to is no UTF-8");
    return { kind: "link", name, target: target.toString(), mtime: mtimeOf(info) };
  } catch (error) {
    return missing(name, describe(error));
  }
}

function fileEntry(path: string, name: string, info: BigIntStats, follow: boolean): SourceFile {
  const { dev, ino, size, mtimeNs } = info;
  const listed = { dev, ino, size, mtimeNs };
  return {
    kind: "file",
    name,
    size: Number(info.size),
    mode: modeOf(info),
    mtime: mtimeOf(info),
    open: () => Promise.resolve().then(() => openFile(path, listed, follow)),
  };
}

/** What tells one state of a file from another. Thousands are kept while they wait for an answer, so no more than that. */
type FileState = Pick<BigIntStats, "dev" | "ino" | "size" | "mtimeNs">;

/** The file that was listed in this state. Throws IO and INCOMPLETE. */
function openFile(path: string, listed: FileState, follow: boolean): SourceContent {
  let fd: number;
  try {
    // A FIFO in its place would hold the open up for ever.
    fd = openSync(path, constants.O_RDONLY | NON_BLOCKING | (follow ? 0 : NO_FOLLOW));
  } catch (cause) {
    const code = codeOf(cause);
    if (code === "ENOENT" || code === "ENOTDIR")
      throw new DcpipeError("INCOMPLETE", "it was removed since it was listed", { cause });
    // A link or a socket stands there now.
    if (code === "ELOOP" || code === "ENXIO") throw changedSince(cause);
    throw new DcpipeError("IO", describe(cause), { cause });
  }
  const opened = fstatSync(fd, { bigint: true });
  const same = (["dev", "ino", "size", "mtimeNs"] as const).every((field) => opened[field] === listed[field]);
  if (!same || !opened.isFile()) {
    closeSync(fd);
    throw changedSince();
  }
  const size = Number(listed.size);
  let ended = false;
  let difference: string | undefined;
  const content = contentOf(fd, {
    size,
    limit: size + 1,
    onend: (length) => {
      ended = true;
      difference = differenceOf(opened, fstatSync(fd, { bigint: true }), length);
    },
  });
  return {
    read: async () => {
      try {
        return await content.read();
      } catch (error) {
        ended = true;
        throw error;
      }
    },
    cancel: () => {
      // The descriptor goes, and nobody asks about a file that was not read to its end.
      ended = true;
      content.cancel();
    },
    changed: () =>
      Promise.resolve(ended ? difference : differenceOf(opened, fstatSync(fd, { bigint: true }), size)),
  };
}

function changedSince(cause?: unknown): DcpipeError {
  return new DcpipeError("INCOMPLETE", "it changed since it was listed", { cause });
}

/** What happened to a file while `length` bytes of it were read. */
function differenceOf(before: BigIntStats, now: BigIntStats, length: number): string | undefined {
  if (now.size !== before.size) return `its size changed from ${before.size} to ${now.size} bytes`;
  if (now.mtimeNs !== before.mtimeNs || now.ctimeNs !== before.ctimeNs)
    return "it was modified while it was sent";
  // What the system makes up while it is read (/proc) has no size that means anything.
  if (BigInt(length) !== now.size) return `it holds other than the ${now.size} bytes that it is said to have`;
  return undefined;
}

function modeOf(info: BigIntStats): number {
  return Number(info.mode & 0o777n);
}

/** Microseconds since 1970. */
function mtimeOf(info: BigIntStats): number {
  return Number(info.mtimeNs / 1000n);
}
