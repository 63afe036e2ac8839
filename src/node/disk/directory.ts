/** A directory on disk that takes what is received. */
import { isUtf8 } from "node:buffer";
import {
  closeSync,
  constants,
  fstatSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  readlinkSync,
  renameSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import type { Attributes, FileSink, Found, Source, TargetDirectory } from "../../apps/endpoints.ts";
import { DcpipeError } from "../../errors.ts";
import { contentOf } from "./content.ts";
import { Hold, type HoldOptions, toSeconds } from "./hold.ts";
import { isOwn, Parts } from "./parts.ts";
import { ownPart, partBase, PROBE } from "./partname.ts";
import { DiskSink, isLive } from "./sink.ts";
import { codeOf, diskError } from "./words.ts";

const WINDOWS = process.platform === "win32";
/** The sticky bit is the mark of a directory of ours that is not finished; for its owner alone it means nothing else. */
const UNFINISHED = 0o1700;
/** The bits that a directory may inherit, and keeps: set-group-id. */
const INHERITED = 0o2000;
const STICKY = 0o1000;
export class DiskDirectory implements TargetDirectory {
  readonly fresh: boolean;
  readonly #hold: Hold;
  readonly #parts: Parts;
  /** Made by us, now or by a run that did not finish. */
  readonly #ours: boolean;
  /** By device: what a probe on that filesystem has shown. */
  readonly #folds: Map<bigint, boolean>;

  private constructor(hold: Hold, fresh: boolean, ours: boolean, folds: Map<bigint, boolean>) {
    this.#hold = hold;
    this.#parts = new Parts(hold);
    this.fresh = fresh;
    this.#ours = ours;
    this.#folds = folds;
  }

  /** An existing directory as the root of a target. Throws IO when it cannot be opened, or written into. */
  static root(path: string, options?: HoldOptions): DiskDirectory {
    try {
      const directory = new DiskDirectory(Hold.root(path, options), false, false, new Map());
      directory.#probe();
      return directory;
    } catch (cause) {
      throw diskError("cannot write into the target directory", cause);
    }
  }

  get folding(): boolean {
    const { dev } = this.#hold.info;
    const known = this.#folds.get(dev);
    if (known !== undefined) return known;
    try {
      return this.#probe();
    } catch {
      // Nothing can be written here, so nothing will fold.
      return false;
    }
  }

  find(name: string): Promise<Found | undefined> {
    return this.#attempt("cannot look at", name, () => {
      const info = this.#hold.look(name);
      if (!info) return undefined;
      if (info.isFile()) return { kind: "file", size: Number(info.size) };
      if (info.isSymbolicLink()) return { kind: "link", size: 0, target: this.#hold.use(name, readTarget) };
      return { kind: info.isDirectory() ? "directory" : "other", size: 0 };
    });
  }

  directory(name: string): Promise<TargetDirectory> {
    return this.#attempt("cannot make the directory", name, () => {
      const refusal = this.#make(name);
      const hold = this.#enter(name);
      if (!hold)
        throw refusal ?? new DcpipeError("IO", `${this.#hold.pathOf(name)} was moved or replaced meanwhile`);
      const fresh = refusal === undefined && isOwn(hold.info);
      const unfinished = isUnfinished(hold);
      if (fresh && !unfinished && !WINDOWS) mark(hold);
      return new DiskDirectory(hold, fresh, fresh || unfinished, this.#folds);
    });
  }

  read(name: string): Promise<Source> {
    return this.#attempt("cannot read", name, () => {
      const fd = this.#hold.open(name, constants.O_RDONLY);
      return contentOf(fd, { size: fstatSync(fd).size, limit: Number.MAX_SAFE_INTEGER });
    });
  }

  async part(name: string): Promise<{ readonly size: number; readonly content: Source } | undefined> {
    if (this.fresh) return undefined;
    return this.#attempt("cannot look for what is left of", name, () => this.#parts.claim(name));
  }

  async forget(name: string): Promise<void> {
    if (!this.fresh) await this.#parts.forget(name).catch(() => undefined);
  }

  create(name: string, from: number): Promise<FileSink> {
    return this.#attempt("cannot write", name, () => {
      if (from > 0) return DiskSink.begin({ hold: this.#hold, name, from, ...this.#parts.open(name) });
      this.#parts.drop(name);
      const part = ownPart(partBase(name));
      return DiskSink.begin({ hold: this.#hold, name, from, part, fd: this.#createPart(name, part) });
    });
  }

  link(name: string, target: string, mtime: number, replace: boolean): Promise<void> {
    return this.#attempt("cannot make the link", name, async () => {
      // Under its name it has its time already: nobody would set it later. Other systems' link() follows links.
      const aside = replace || process.platform === "linux";
      const made = aside ? ownPart(partBase(name)) : name;
      if (aside) this.#removeOwn(name, made);
      this.#makeLink(made, name, target, mtime);
      if (replace) this.#replace(made, name);
      else if (aside) this.#giveName(made, name);
      await this.#hold.sync();
    });
  }

  async finish({ mode, mtime }: Attributes, force: boolean): Promise<void> {
    try {
      this.#parts.release();
      if (this.#ours || force) {
        const kept = Number(this.#hold.info.mode) & (this.#ours ? INHERITED : INHERITED | STICKY);
        await this.#hold.seal((mode & 0o777) | kept, mtime);
      } else {
        await this.#hold.sync();
      }
    } catch (cause) {
      throw diskError(`cannot finish ${this.#hold.path || "the target directory"}`, cause);
    } finally {
      this.#hold.close();
    }
  }

  close(): Promise<void> {
    this.#parts.release();
    this.#hold.close();
    return Promise.resolve();
  }

  /** Rejects with a DcpipeError that says what could not be done, and with which file. */
  async #attempt<T>(verb: string, name: string, work: () => T | Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      throw diskError(`${verb} ${this.#hold.pathOf(name)}`, cause);
    }
  }

  /** Makes a directory; returns why not. */
  #make(name: string): Error | undefined {
    try {
      this.#hold.change(name, (path) => {
        mkdirSync(path, { mode: UNFINISHED });
      });
      return undefined;
    } catch (error) {
      // On a full disk, and where nothing may be written, it can still be there.
      return error as Error;
    }
  }

  /** Undefined when there is nothing of that name. Throws EXISTS for anything but a directory. */
  #enter(name: string): Hold | undefined {
    try {
      return this.#hold.sub(name);
    } catch (cause) {
      const code = codeOf(cause);
      if (code === "ENOENT") return undefined;
      if (code !== "ENOTDIR" && code !== "ELOOP") throw cause;
      throw new DcpipeError("EXISTS", `${this.#hold.pathOf(name)} exists already and is no directory`, {
        cause,
      });
    }
  }

  #createPart(name: string, part: string): number {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
    const create = (): number => this.#hold.change(part, () => this.#hold.open(part, flags, 0o600));
    try {
      return create();
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
      this.#removeOwn(name, part);
      return create();
    }
  }

  /** Makes room for a part of ours: what has its name is from an earlier try of this process, or was put in our way. */
  #removeOwn(name: string, part: string): void {
    const old = this.#hold.look(part);
    if (!old) return;
    if (isLive(old)) throw new DcpipeError("EXISTS", `${this.#hold.pathOf(name)} is being received already`);
    this.#hold.change(part, unlinkSync);
  }

  #makeLink(made: string, name: string, target: string, mtime: number): void {
    try {
      this.#hold.change(made, (path) => {
        symlinkSync(target, path);
      });
    } catch (cause) {
      const code = codeOf(cause);
      if (code === "EEXIST")
        throw new DcpipeError("EXISTS", `${this.#hold.pathOf(name)} exists already`, { cause });
      if (code === "EPERM" && WINDOWS)
        throw new DcpipeError("IO", "this Windows account may not make symbolic links", { cause });
      throw cause;
    }
    try {
      this.#hold.use(made, (path) => {
        lutimesSync(path, toSeconds(mtime), toSeconds(mtime));
      });
    } catch {
      // Not every system has times for links.
    }
  }

  #giveName(made: string, name: string): void {
    try {
      this.#hold.use(made, (from) => {
        this.#hold.use(name, (to) => {
          linkSync(from, to);
        });
      });
      this.#hold.use(made, unlinkSync);
    } catch (cause) {
      // No second names here (FAT, some network filesystems): look, then rename.
      if (codeOf(cause) !== "EEXIST" && !this.#hold.look(name)) {
        this.#replace(made, name);
        return;
      }
      this.#hold.use(made, unlinkSync);
      throw new DcpipeError("EXISTS", `${this.#hold.pathOf(name)} exists already`, { cause });
    }
  }

  #replace(made: string, name: string): void {
    try {
      this.#hold.use(made, (from) => {
        this.#hold.use(name, (to) => {
          renameSync(from, to);
        });
      });
    } catch (cause) {
      this.#hold.use(made, unlinkSync);
      if (this.#hold.look(name)?.isDirectory())
        throw new DcpipeError("EXISTS", `${this.#hold.pathOf(name)} is a directory`, { cause });
      throw cause;
    }
  }

  /** Makes and removes a file: the only test that every filesystem answers truly. Throws what the system says. */
  #probe(): boolean {
    const [name, ...others] = PROBE.map((probe) => ownPart(probe));
    if (name === undefined) throw new Error("unreachable");
    closeSync(this.#createPart(name, name));
    const folds = others.some((other) => this.#hold.look(other) !== undefined);
    this.#hold.use(name, unlinkSync);
    this.#folds.set(this.#hold.info.dev, folds);
    return folds;
  }
}

function isUnfinished({ info }: Hold): boolean {
  return (Number(info.mode) & 0o7777 & ~INHERITED) === UNFINISHED && isOwn(info);
}

/** A directory that we have made has our mark, whatever the system and the parent's access list have made of its mode. */
function mark(hold: Hold): void {
  hold.chmod(UNFINISHED | (Number(hold.info.mode) & INHERITED));
}

/** Where a link points; undefined when that is no UTF-8, and so nothing that a sender could name. */
function readTarget(path: string): string | undefined {
  const target = readlinkSync(path, { encoding: "buffer" });
  return isUtf8(target) ? target.toString() : undefined;
}
