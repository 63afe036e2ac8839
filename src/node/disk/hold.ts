/**
 * A directory that is held, so that a name in it means what is in it and nothing else, whatever is renamed or linked
 * meanwhile. Linux names what is in an open directory as /proc/self/fd/N/NAME; elsewhere names are paths, and the directory
 * is compared with what it was before and after. Methods throw what the system says, or IO when the directory is another.
 */
import {
  type BigIntStats,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsync,
  futimesSync,
  lstatSync,
  openSync,
  statSync,
  utimesSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { DcpipeError } from "../../errors.ts";
import { codeOf } from "./words.ts";

/** Windows has none of these. */
const {
  O_NONBLOCK: NON_BLOCKING = 0,
  O_NOFOLLOW: NO_FOLLOW = 0,
  O_DIRECTORY: DIRECTORY = 0,
} = constants as Partial<typeof constants>;
const WINDOWS = process.platform === "win32";

/** Descriptors of directories that are open at a time, in the whole process. */
const MAX_OPEN = 200;
/** What a filesystem answers that cannot sync directories. */
const NO_SYNC = ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EBADF"];

/** What a filesystem answers that has no permission bits. */
const NO_MODES = ["EPERM", "EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"];

const fsyncAsync = promisify(fsync);

/** Open descriptors; the one used last is the last. */
const open = new Map<Hold, number>();

export interface HoldOptions {
  /** Use paths, as where there is no /proc. */
  readonly paths?: boolean | undefined;
}

export class Hold {
  /** Below the root, with slashes; "" for the root itself. */
  readonly path: string;
  readonly info: BigIntStats;
  readonly #parent: Hold | undefined;
  /** Its name in the parent; of the root the path that was given. */
  readonly #name: string;
  /** From the working directory or "/"; what it leads to may have changed since. */
  readonly #fullPath: string;
  readonly #paths: boolean;
  #closed = false;
  /** Something in it has changed since the last fsync began. */
  #dirty = false;
  /** Its own name is on disk. */
  #anchored: boolean;
  #running: Promise<void> | undefined;
  #waiting: Promise<void> | undefined;

  private constructor(parent: Hold | undefined, name: string, paths: boolean) {
    this.#parent = parent;
    this.#name = name;
    this.#fullPath = parent ? join(parent.#fullPath, name) : name;
    this.#paths = paths;
    this.#anchored = !parent;
    this.path = parent ? parent.pathOf(name) : "";
    if (paths) {
      this.info = this.#lookByPath();
    } else {
      const fd = this.#openSelf();
      this.info = fstatSync(fd, { bigint: true });
      keep(this, fd);
    }
  }

  /** The directory at `path`, which may be a link to one. */
  static root(path: string, options: HoldOptions = {}): Hold {
    return new Hold(undefined, path, options.paths ?? !procWorks());
  }

  /** A directory in this one. Links are none: ENOTDIR. */
  sub(name: string): Hold {
    if (this.#paths) this.#check();
    return new Hold(this, name, this.#paths);
  }

  /** A path for people, below the root. */
  pathOf(name: string): string {
    return this.path === "" ? name : `${this.path}/${name}`;
  }

  /** Something is done with what `name` stands for in this directory; `operate` gets a path for it, and is synchronous. */
  use<T>(name: string, operate: (path: string) => T): T {
    if (!this.#paths) return operate(`/proc/self/fd/${this.#fd()}/${name}`);
    this.#check();
    const result = operate(join(this.#fullPath, name));
    this.#check();
    return result;
  }

  /** As `use`, for what changes the directory: the next `sync` has something to do. */
  change<T>(name: string, operate: (path: string) => T): T {
    this.#dirty = true;
    return this.use(name, operate);
  }

  /** What the name stands for, undefined for nothing. */
  look(name: string): BigIntStats | undefined {
    return this.use(name, (path) => lstatSync(path, { bigint: true, throwIfNoEntry: false }));
  }

  /** A descriptor of a regular file; never of what a link points to. Throws IO for anything else. */
  open(name: string, flags: number, mode?: number): number {
    let fd: number | undefined;
    try {
      this.use(name, (path) => {
        if (NO_FOLLOW === 0 && lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink())
          throw this.#unfit(name);
        // A FIFO without a writer would hold the open up for ever.
        fd = openSync(path, flags | NO_FOLLOW | NON_BLOCKING, mode);
      });
      if (fd === undefined || !fstatSync(fd).isFile()) throw this.#unfit(name);
      return fd;
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      // A link, and a socket or a FIFO without a reader.
      const code = codeOf(error);
      throw code === "ELOOP" || code === "ENXIO" ? this.#unfit(name) : error;
    }
  }

  /** What changed in it before this call is on disk after it. Any number of callers share one fsync. */
  sync(): Promise<void> {
    if (!this.#running) {
      this.#running = this.#sync().finally(() => (this.#running = undefined));
      return this.#running;
    }
    // The one that runs may have begun before the caller's change.
    this.#waiting ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#waiting = undefined;
        return this.sync();
      });
    return this.#waiting;
  }

  async #sync(): Promise<void> {
    if (WINDOWS) return;
    if (!this.#anchored && this.#parent) await this.#parent.sync();
    this.#anchored = true;
    if (!this.#dirty) return;
    this.#dirty = false;
    const fd = this.#openAgain();
    try {
      await syncDescriptor(fd);
    } catch (error) {
      this.#dirty = true;
      throw error;
    } finally {
      closeSync(fd);
    }
  }

  /** Sets its permission bits, the special ones included; not on Windows. */
  chmod(mode: number): void {
    const fd = this.#openAgain();
    try {
      chmodOwn(fd, mode);
    } finally {
      closeSync(fd);
    }
  }

  /**
   * The last that is done to it, when nobody writes into it any more: permission bits, mtime in microseconds, and all that
   * on disk. Afterwards it may well be unreadable for us, so one descriptor from before does it all.
   */
  async seal(mode: number, mtime: number): Promise<void> {
    if (WINDOWS) {
      this.#check();
      const seconds = toSeconds(mtime);
      utimesSync(this.#fullPath, seconds, seconds);
      return;
    }
    this.#dirty = false;
    const fd = this.#openAgain();
    try {
      futimesSync(fd, toSeconds(mtime), toSeconds(mtime));
      // Last: with it goes the mark by which a later run would know that something is still to be done.
      chmodOwn(fd, mode);
      await syncDescriptor(fd);
    } finally {
      closeSync(fd);
    }
  }

  close(): void {
    this.#closed = true;
    const fd = open.get(this);
    open.delete(this);
    if (fd !== undefined) closeSync(fd);
  }

  /** A descriptor that the caller closes. */
  #openAgain(): number {
    if (!this.#paths) return openSync(`/proc/self/fd/${this.#fd()}`, constants.O_RDONLY | DIRECTORY);
    const fd = this.#openSelf();
    if (this.#isSame(fstatSync(fd, { bigint: true }))) return fd;
    closeSync(fd);
    throw this.#moved();
  }

  /** Its descriptor, opened again when it was closed for others. */
  #fd(): number {
    const fd = open.get(this);
    if (fd !== undefined) {
      open.delete(this);
      open.set(this, fd);
      return fd;
    }
    if (this.#closed) throw new DcpipeError("IO", "the directory is closed already");
    const again = this.#reopen();
    keep(this, again);
    return again;
  }

  #reopen(): number {
    let fd: number;
    try {
      fd = this.#openSelf();
    } catch (error) {
      if (["ENOENT", "ENOTDIR", "ELOOP"].includes(codeOf(error) ?? "")) throw this.#moved(error);
      throw error;
    }
    if (this.#isSame(fstatSync(fd, { bigint: true }))) return fd;
    closeSync(fd);
    throw this.#moved();
  }

  #openSelf(): number {
    const flags = constants.O_RDONLY | DIRECTORY;
    if (this.#paths) return openSync(this.#fullPath, flags | (this.#parent ? NO_FOLLOW : 0));
    if (!this.#parent) return openSync(this.#name, flags);
    return this.#parent.use(this.#name, (path) => openSync(path, flags | NO_FOLLOW));
  }

  #lookByPath(): BigIntStats {
    const look = this.#parent ? lstatSync : statSync;
    const info = look(this.#fullPath, { bigint: true });
    if (info.isDirectory()) return info;
    throw Object.assign(new Error("not a directory"), { code: "ENOTDIR" });
  }

  #check(): void {
    let now: BigIntStats;
    try {
      now = this.#lookByPath();
    } catch (error) {
      throw this.#moved(error);
    }
    if (!this.#isSame(now)) throw this.#moved();
  }

  #isSame(now: BigIntStats): boolean {
    return now.dev === this.info.dev && now.ino === this.info.ino;
  }

  #unfit(name: string): DcpipeError {
    return new DcpipeError("IO", `${this.pathOf(name)} is no regular file`);
  }

  #moved(cause?: unknown): DcpipeError {
    const what = this.path === "" ? "the target directory" : this.path;
    return new DcpipeError("IO", `${what} was moved or replaced meanwhile`, { cause });
  }
}

/** Microseconds as the seconds that `utimes` takes: it cuts, so half a microsecond keeps what a double has lost. */
export function toSeconds(mtime: number): number {
  return (mtime + 0.5) / 1e6;
}

/**
 * Sets the permission bits of what we have made. It is ours, so a refusal means that the filesystem has none (FAT, some
 * network filesystems).
 */
export function chmodOwn(fd: number, mode: number): void {
  try {
    fchmodSync(fd, mode);
  } catch (error) {
    if (!NO_MODES.includes(codeOf(error) ?? "")) throw error;
  }
}

/** Keeps a descriptor open, and closes the one that was not used for longest when there are too many. */
function keep(hold: Hold, fd: number): void {
  open.set(hold, fd);
  if (open.size <= MAX_OPEN) return;
  for (const [other, old] of open) {
    // A root cannot be opened again through a parent that is sure.
    if (other.path === "") continue;
    if (other === hold) return;
    open.delete(other);
    closeSync(old);
    return;
  }
}

async function syncDescriptor(fd: number): Promise<void> {
  try {
    await fsyncAsync(fd);
  } catch (error) {
    if (!NO_SYNC.includes(codeOf(error) ?? "")) throw error;
  }
}

let works: boolean | undefined;

/** Whether /proc/self/fd leads into open directories. */
function procWorks(): boolean {
  works ??= process.platform === "linux" && tryProc();
  return works;
}

function tryProc(): boolean {
  let fd: number | undefined;
  try {
    fd = openSync("/", constants.O_RDONLY | DIRECTORY);
    const [own, seen] = [fstatSync(fd), statSync(`/proc/self/fd/${fd}/.`)];
    return own.dev === seen.dev && own.ino === seen.ino;
  } catch {
    return false;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
