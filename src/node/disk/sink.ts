/** A file on its way into a directory: it grows under a part's name, and gets its own when it is whole and on disk. */
import {
  type BigIntStats,
  closeSync,
  fstatSync,
  fsync,
  ftruncate,
  futimesSync,
  linkSync,
  renameSync,
  unlinkSync,
  write,
  writeSync,
} from "node:fs";
import { promisify } from "node:util";
import type { Attributes, FileSink } from "../../apps/endpoints.ts";
import { DcpipeError } from "../../errors.ts";
import { chmodOwn, type Hold, toSeconds } from "./hold.ts";
import { codeOf, diskError } from "./words.ts";

const WINDOWS = process.platform === "win32";
/** Bytes that are written synchronously: that takes less time than a trip to the thread pool and back. */
const SMALL = 64 * 1024;
/** What a filesystem answers that has no hard links: FAT, some network filesystems. Windows says EISDIR or UNKNOWN. */
const NO_LINKS = [
  "EPERM",
  "EACCES",
  "ENOTSUP",
  "EOPNOTSUPP",
  "ENOSYS",
  "EXDEV",
  "EMLINK",
  "EINVAL",
  "EISDIR",
  "UNKNOWN",
];

const fsyncAsync = promisify(fsync);
const ftruncateAsync = promisify(ftruncate);
const writeAsync = promisify(write);

/** Parts that this process writes to, or has claimed: device and inode. */
const live = new Set<string>();

export function markLive(info: BigIntStats): void {
  live.add(`${info.dev}:${info.ino}`);
}

export function unmarkLive(info: BigIntStats): void {
  live.delete(`${info.dev}:${info.ino}`);
}

export function isLive(info: BigIntStats): boolean {
  return live.has(`${info.dev}:${info.ino}`);
}

export interface SinkOptions {
  readonly hold: Hold;
  readonly name: string;
  /** The part's name, and its open descriptor, which the sink owns. */
  readonly part: string;
  readonly fd: number;
  /** Bytes of it that stay. */
  readonly from: number;
}

export class DiskSink implements FileSink {
  readonly #hold: Hold;
  readonly #name: string;
  readonly #part: string;
  readonly #fd: number;
  readonly #info: BigIntStats;
  #size: number;
  #open = true;
  /** It has its name, or what has the part's name is not ours to touch. */
  #gone = false;
  /** What the thread pool does with the descriptor. Never rejects. */
  #busy: Promise<unknown> = Promise.resolve();

  private constructor({ hold, name, part, fd, from }: SinkOptions) {
    this.#hold = hold;
    this.#name = name;
    this.#part = part;
    this.#fd = fd;
    this.#size = from;
    this.#info = fstatSync(fd, { bigint: true });
    markLive(this.#info);
  }

  /** Rejects with IO. */
  static async begin(options: SinkOptions): Promise<DiskSink> {
    const sink = new DiskSink(options);
    try {
      if (sink.#info.size !== BigInt(options.from))
        await sink.#inPool(ftruncateAsync(options.fd, options.from));
      return sink;
    } catch (cause) {
      await sink.abandon();
      throw sink.#writeError(cause);
    }
  }

  async write(chunk: Uint8Array): Promise<void> {
    try {
      this.#checkOpen();
      for (let at = 0; at < chunk.length;) {
        const length = chunk.length - at;
        const written =
          length <= SMALL
            ? writeSync(this.#fd, chunk, at, length, this.#size)
            : (await this.#inPool(writeAsync(this.#fd, chunk, at, length, this.#size))).bytesWritten;
        at += written;
        this.#size += written;
      }
    } catch (cause) {
      throw this.#writeError(cause);
    }
  }

  async commit({ mode, mtime }: Attributes, replace: boolean): Promise<void> {
    try {
      this.#checkOpen();
      if (!WINDOWS) chmodOwn(this.#fd, mode & 0o777);
      futimesSync(this.#fd, toSeconds(mtime), toSeconds(mtime));
      await this.#inPool(fsyncAsync(this.#fd));
      const now = fstatSync(this.#fd, { bigint: true });
      this.#checkPart();
      if (now.size !== BigInt(this.#size))
        throw new DcpipeError("IO", `${this.#path} was written to by somebody else meanwhile`);
      // Windows renames no open file.
      if (WINDOWS) this.#close();
      if (replace) this.#rename();
      else this.#giveName();
      this.#gone = true;
      this.#close();
      if (!this.#isOurs(this.#name)) throw this.#moved();
      await this.#hold.sync();
    } catch (cause) {
      this.#keep();
      throw this.#writeError(cause);
    }
  }

  async abandon(): Promise<void> {
    await this.#busy;
    this.#close();
    if (this.#size > 0 || this.#gone) return;
    this.#gone = true;
    try {
      if (this.#isOurs(this.#part)) this.#hold.change(this.#part, unlinkSync);
    } catch {
      // An empty file stays, and hurts nobody.
    }
  }

  get #path(): string {
    return this.#hold.pathOf(this.#name);
  }

  /** Waits, and has others wait that want to close the descriptor: its number may be another file's then. */
  #inPool<T>(work: Promise<T>): Promise<T> {
    this.#busy = work.catch(() => undefined);
    return work;
  }

  /** A link fails when the name is taken; a rename would not. */
  #giveName(): void {
    try {
      this.#hold.change(this.#part, (part) => {
        this.#hold.use(this.#name, (path) => {
          linkSync(part, path);
        });
      });
    } catch (error) {
      const code = codeOf(error) ?? "";
      if (code === "EEXIST" || (NO_LINKS.includes(code) && this.#hold.look(this.#name)))
        throw this.#taken(error);
      if (!NO_LINKS.includes(code)) throw error;
      this.#rename();
      return;
    }
    this.#hold.use(this.#part, unlinkSync);
  }

  #rename(): void {
    try {
      this.#hold.change(this.#part, (part) => {
        this.#hold.use(this.#name, (path) => {
          renameSync(part, path);
        });
      });
    } catch (error) {
      if (this.#hold.look(this.#name)?.isDirectory())
        throw new DcpipeError(
          "EXISTS",
          `${this.#path} is a directory; what arrived is kept as ${this.#part}`,
          {
            cause: error,
          },
        );
      throw error;
    }
  }

  #taken(cause: unknown): DcpipeError {
    const text = `${this.#path} came into being meanwhile; what arrived is kept as ${this.#part}`;
    return new DcpipeError("EXISTS", text, { cause });
  }

  /** A later try will write to the part, whatever mode the file would have had. */
  #keep(): void {
    if (this.#open && !this.#gone && !WINDOWS) chmodOwn(this.#fd, 0o600);
    this.#close();
  }

  #checkOpen(): void {
    if (!this.#open) throw new DcpipeError("IO", `${this.#path} is closed already`);
  }

  #checkPart(): void {
    if (this.#isOurs(this.#part)) return;
    this.#gone = true;
    throw this.#moved();
  }

  #isOurs(name: string): boolean {
    const now = this.#hold.look(name);
    return now?.dev === this.#info.dev && now.ino === this.#info.ino;
  }

  #moved(): DcpipeError {
    return new DcpipeError("IO", `what arrived of ${this.#path} was moved or replaced meanwhile`);
  }

  #close(): void {
    if (!this.#open) return;
    this.#open = false;
    unmarkLive(this.#info);
    closeSync(this.#fd);
  }

  #writeError(cause: unknown): DcpipeError {
    return diskError(`cannot write ${this.#path}`, cause);
  }
}
