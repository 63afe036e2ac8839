/** Where received files go: a directory on disk, or standard output. */
import { mkdirSync, openSync, closeSync, statSync, unlinkSync } from "node:fs";
import { basename, dirname, join, sep } from "node:path";
import type { Sink, TargetDirectory } from "../apps/endpoints.ts";
import { DcpipeError } from "../errors.ts";
import { DiskDirectory } from "./disk/directory.ts";
import type { HoldOptions } from "./disk/hold.ts";
import { ownPart } from "./disk/partname.ts";
import { describe, kindOf } from "./disk/words.ts";

/** A directory for received files, or the name for the only one. */
export interface DiskPlace {
  readonly directory: string;
  /** The name to give to the one file that comes; undefined to keep the sender's. */
  readonly name: string | undefined;
}

/**
 * Where `-o PATH` puts things: in a directory that exists or ends with a slash, which is made, else under that name, be it
 * a file already or not. Rejects with EXISTS when something stands there that is neither file nor directory, with IO when
 * nothing can be written there.
 */
export function findPlace(path: string): Promise<DiskPlace> {
  return Promise.resolve().then(() => placeOf(path));
}

function placeOf(path: string): DiskPlace {
  let info;
  try {
    info = statSync(path, { throwIfNoEntry: false });
  } catch (cause) {
    throw new DcpipeError("IO", `cannot look at ${path}: ${describe(cause)}`, { cause });
  }
  const slash = path.endsWith("/") || path.endsWith(sep);
  if (!info && slash) {
    try {
      mkdirSync(path, { recursive: true });
    } catch (cause) {
      throw new DcpipeError("IO", `cannot make the directory ${path}: ${describe(cause)}`, { cause });
    }
  }
  if (slash || info?.isDirectory()) {
    checkWritable(path);
    return { directory: path, name: undefined };
  }
  if (info && !info.isFile())
    throw new DcpipeError("EXISTS", `${path} is ${kindOf(info)}, and is left as it is`);
  checkWritable(dirname(path));
  return { directory: dirname(path), name: basename(path) };
}

/** Makes and removes a file: the only test that every filesystem answers truly. */
function checkWritable(directory: string): void {
  const probe = join(directory, ownPart("dcpipe-probe"));
  try {
    closeSync(openSync(probe, "wx"));
    unlinkSync(probe);
  } catch (cause) {
    throw new DcpipeError("IO", `cannot write into ${directory}: ${describe(cause)}`, { cause });
  }
}

/**
 * An existing directory. Files in it grow as NAME.TAG.dcpipe-part and get their names when they are whole and on disk.
 * Rejects with IO when it is none, or nothing can be written there. `paths` has it work as on systems without /proc.
 */
export function diskTarget(directory: string, options?: HoldOptions): Promise<TargetDirectory> {
  return Promise.resolve().then(() => DiskDirectory.root(directory, options));
}

/**
 * Files that go to a sink one after another; there is nothing there to be found. `finish` and `close` end the sink, once.
 * Directories and links are REFUSED.
 */
export function stdoutTarget(sink: Sink): TargetDirectory {
  let ended: Promise<void> | undefined;
  const end = (): Promise<void> => (ended ??= sink.end());
  const refuse = (what: string): Promise<never> =>
    Promise.reject(new DcpipeError("REFUSED", `a ${what} cannot go to stdout; dcpipe pipe with tar can`));
  return {
    fresh: true,
    folding: false,
    find: () => Promise.resolve(undefined),
    directory: () => refuse("directory"),
    read: () => Promise.reject(new DcpipeError("IO", "what went to stdout cannot be read")),
    part: () => Promise.resolve(undefined),
    forget: () => Promise.resolve(),
    create: () =>
      Promise.resolve({
        write: (chunk) => sink.write(chunk),
        commit: () => Promise.resolve(),
        abandon: () => Promise.resolve(),
      }),
    link: () => refuse("link"),
    finish: end,
    close: () => end().catch(() => undefined),
  };
}
