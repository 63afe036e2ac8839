/** What earlier tries left in a directory, and how one of them becomes ours. */
import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  opendirSync,
  renameSync,
  unlinkSync,
} from "node:fs";
import type { Source } from "../../apps/endpoints.ts";
import { DcpipeError } from "../../errors.ts";
import { contentOf } from "./content.ts";
import { chmodOwn, type Hold } from "./hold.ts";
import { isAlive, ownPart, PART_SUFFIX, parsePart, partBase, PROBE } from "./partname.ts";
import { isLive, markLive, unmarkLive } from "./sink.ts";
import { describe } from "./words.ts";

/** Names that are read from a directory at a time. */
const BATCH = 1024;

/** A part that has our name now. */
interface Claim {
  readonly part: string;
  readonly info: BigIntStats;
}

export class Parts {
  readonly #hold: Hold;
  /** Names of parts by `partBase`; read from the directory once. */
  #names: Promise<Map<string, string[]>> | undefined;
  readonly #claims = new Map<string, Claim>();

  constructor(hold: Hold) {
    this.#hold = hold;
  }

  /**
   * The largest part of the file that no living process writes to. It gets our name, which nobody else can do at the same
   * time; the other ones are removed. Throws IO, or what the system says.
   */
  async claim(name: string): Promise<{ readonly size: number; readonly content: Source } | undefined> {
    const base = partBase(name);
    this.#names ??= this.#list();
    const names = (await this.#names).get(base) ?? [];
    const claim = this.#claims.get(base) ?? this.#take(name, base, names);
    if (!claim) return undefined;
    markLive(claim.info);
    this.#claims.set(base, claim);
    return { size: Number(claim.info.size), content: this.#content(claim) };
  }

  /** The claimed part, opened for writing. Throws IO when there is none, or it is not as it was. */
  open(name: string): { readonly part: string; readonly fd: number } {
    const base = partBase(name);
    const claim = this.#claims.get(base);
    if (!claim)
      throw new DcpipeError("IO", `nothing is left of ${this.#hold.pathOf(name)} from an earlier try`);
    const fd = this.#open(claim, constants.O_RDWR);
    this.#claims.delete(base);
    return { part: claim.part, fd };
  }

  /** The claimed part is not wanted. */
  drop(name: string): void {
    const base = partBase(name);
    const claim = this.#claims.get(base);
    if (!claim) return;
    this.#claims.delete(base);
    unmarkLive(claim.info);
    const now = this.#hold.look(claim.part);
    if (now && isSame(now, claim.info)) this.#hold.change(claim.part, unlinkSync);
  }

  /** The file is there, whole: what earlier tries left of it is of no use. Rejects with what the system says. */
  async forget(name: string): Promise<void> {
    const base = partBase(name);
    this.#names ??= this.#list();
    for (const { part, info } of this.#dead((await this.#names).get(base) ?? []))
      this.#remove(name, part, info);
  }

  /** What was claimed and not used is left for a later try. */
  release(): void {
    for (const { info } of this.#claims.values()) unmarkLive(info);
    this.#claims.clear();
  }

  #take(name: string, base: string, names: readonly string[]): Claim | undefined {
    const own = ownPart(base);
    const current = names.length > 0 ? this.#hold.look(own) : undefined;
    // Another receiver in this process is at the same file.
    if (current && isLive(current)) return undefined;
    let claim: Claim | undefined;
    for (const { part, info } of this.#dead(names)) {
      if (!claim && info.isFile() && info.nlink === 1n && info.size > 0n) claim = this.#rename(part, own);
      else if (part !== claim?.part) this.#remove(name, part, info);
    }
    return claim;
  }

  /** Those that no living process writes to, the largest first. */
  #dead(names: readonly string[]): Claim[] {
    return names
      .filter((name) => {
        const parsed = parsePart(name);
        return parsed && !isAlive(parsed, name);
      })
      .map((part) => ({ part, info: this.#hold.look(part) }))
      .filter((found): found is Claim => found.info !== undefined && isOwn(found.info) && !isLive(found.info))
      .sort((a, b) => Number(b.info.size - a.info.size));
  }

  /** Whoever succeeds in renaming it has it. */
  #rename(part: string, own: string): Claim | undefined {
    let fd: number | undefined;
    try {
      if (part !== own) {
        this.#hold.change(part, (from) => {
          this.#hold.use(own, (to) => {
            renameSync(from, to);
          });
        });
      }
      fd = this.#hold.open(own, constants.O_RDONLY);
      const info = fstatSync(fd, { bigint: true });
      if (!isOwn(info) || info.nlink !== 1n || info.size === 0n || isLive(info)) return undefined;
      // One that ended just before it got its name may have the file's mode, and be read-only.
      if (process.platform !== "win32") chmodOwn(fd, 0o600);
      return { part: own, info };
    } catch {
      return undefined;
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }

  /** A dead part that nobody goes on with: the shorter of two, an empty one, a link that did not get its name in time. */
  #remove(name: string, part: string, info: BigIntStats): void {
    // A second name: of the file itself when the process ended between giving it that name and removing this one.
    const whole = info.nlink === 1n ? undefined : this.#hold.look(name);
    const ours = info.nlink === 1n || (whole && isSame(whole, info));
    if (!ours || !(info.isFile() || info.isSymbolicLink())) return;
    try {
      this.#hold.change(part, unlinkSync);
    } catch {
      // It stays, and is no part of this transfer.
    }
  }

  /** A probe of a process that ended before it had removed it. */
  #sweep(name: string): void {
    try {
      if (this.#hold.look(name)?.size === 0n) this.#hold.change(name, unlinkSync);
    } catch {
      // It stays, and hurts nobody.
    }
  }

  #content(claim: Claim): Source {
    let content: Source | undefined;
    let canceled = false;
    const size = Number(claim.info.size);
    return {
      read: async () => {
        if (canceled) return undefined;
        try {
          content ??= contentOf(this.#open(claim, constants.O_RDONLY), { size, limit: size });
        } catch (cause) {
          throw new DcpipeError("IO", describe(cause), { cause });
        }
        return content.read();
      },
      cancel: () => {
        canceled = true;
        content?.cancel();
      },
    };
  }

  #open({ part, info }: Claim, flags: number): number {
    const fd = this.#hold.open(part, flags);
    const now = fstatSync(fd, { bigint: true });
    if (isSame(now, info) && now.nlink === 1n && now.size === info.size && now.mtimeNs === info.mtimeNs)
      return fd;
    closeSync(fd);
    throw new DcpipeError("IO", `${this.#hold.pathOf(part)} was changed meanwhile`);
  }

  async #list(): Promise<Map<string, string[]>> {
    const found = new Map<string, string[]>();
    const directory = this.#hold.use(".", (path) => opendirSync(path, { bufferSize: BATCH }));
    for await (const { name } of directory) {
      if (!name.endsWith(PART_SUFFIX)) continue;
      const parsed = parsePart(name);
      if (!parsed) continue;
      const { base } = parsed;
      if (base === PROBE[0] && !isAlive(parsed, name)) this.#sweep(name);
      const names = found.get(base);
      if (names) names.push(name);
      else found.set(base, [name]);
    }
    return found;
  }
}

function isSame(a: BigIntStats, b: BigIntStats): boolean {
  return a.dev === b.dev && a.ino === b.ino;
}

/** Whether it belongs to the user that we are. Windows does not say. */
export function isOwn(info: BigIntStats): boolean {
  const uid = process.geteuid?.();
  return uid === undefined || info.uid === BigInt(uid);
}
