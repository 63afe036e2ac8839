/**
 * Files as sources and targets. A received file grows as NAME.part and gets its name only when it is whole, verified and on
 * disk; what is there already is never touched.
 */
import { constants } from "node:fs";
import { type FileHandle, link, lstat, mkdir, open, rename, stat, unlink } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";
import type { FileSink, FileTarget, IncomingFile, SourceFile } from "../apps/endpoints.ts";
import { DcpipeError } from "../errors.ts";

/** Windows has neither flag. */
const { O_NONBLOCK: NON_BLOCKING = 0, O_NOFOLLOW: NO_FOLLOW = 0 } = constants as Partial<typeof constants>;

/** Large enough that the thread pool's round trips do not count. */
const READ_SIZE = 256 * 1024;

/** Opens a regular file for sending. Throws USAGE when it cannot be read, or is none. */
export async function openSource(path: string): Promise<SourceFile> {
  let handle: FileHandle;
  try {
    // A FIFO without a writer would hold the open up for ever.
    handle = await open(path, constants.O_RDONLY | NON_BLOCKING);
  } catch (cause) {
    throw new DcpipeError("USAGE", `cannot read ${path}: ${describe(cause)}`, { cause });
  }
  const info = await handle.stat();
  if (!info.isFile()) {
    await handle.close();
    throw new DcpipeError(
      "USAGE",
      info.isDirectory()
        ? `${path} is a directory, and only files can be sent yet`
        : `${path} is no regular file`,
    );
  }
  const buffer = Buffer.allocUnsafeSlow(READ_SIZE);
  let open_ = true;
  return {
    name: basename(resolve(path)),
    size: info.size,
    mode: info.mode & 0o777,
    mtime: info.mtimeMs,
    read: async () => {
      try {
        const { bytesRead } = await handle.read(buffer, 0, READ_SIZE);
        return bytesRead === 0 ? undefined : buffer.subarray(0, bytesRead);
      } catch (cause) {
        throw new DcpipeError("IO", `reading ${path} failed: ${describe(cause)}`, { cause });
      }
    },
    cancel: () => {
      if (!open_) return;
      open_ = false;
      handle.close().catch(() => undefined);
    },
  };
}

/** Throws USAGE unless the path is a regular file we may read; for a look before anybody is asked to come. */
export async function checkSource(path: string): Promise<number> {
  const source = await openSource(path);
  source.cancel();
  return source.size ?? 0;
}

/** A directory for received files, or the name for the only one. */
export interface DiskPlace {
  readonly directory: string;
  /** The name to give to the one file that comes; undefined to keep the sender's. */
  readonly name: string | undefined;
}

/** Where `-o PATH` puts things: in a directory that exists or ends with a slash, else under that name. Throws EXISTS, IO. */
export async function findPlace(path: string): Promise<DiskPlace> {
  const info = await stat(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new DcpipeError("IO", `cannot look at ${path}: ${describe(error)}`, { cause: error });
  });
  if (info?.isDirectory()) {
    await checkWritable(path);
    return { directory: path, name: undefined };
  }
  if (info) throw new DcpipeError("EXISTS", `${path} exists already, and is left as it is`);
  if (path.endsWith("/") || path.endsWith(sep)) {
    await mkdir(path, { recursive: true }).catch((cause: unknown) => {
      throw new DcpipeError("IO", `cannot make the directory ${path}: ${describe(cause)}`, { cause });
    });
    return { directory: path, name: undefined };
  }
  await checkWritable(dirname(path));
  return { directory: dirname(path), name: basename(path) };
}

/** Makes and removes a file: the only test that every filesystem answers truly. */
async function checkWritable(directory: string): Promise<void> {
  const probe = join(directory, `.dcpipe-${process.pid}.tmp`);
  try {
    const handle = await open(probe, "wx");
    await handle.close();
    await unlink(probe);
  } catch (cause) {
    throw new DcpipeError("IO", `cannot write into ${directory}: ${describe(cause)}`, { cause });
  }
}

export function diskTarget(place: DiskPlace): FileTarget {
  let used = false;
  return {
    create: async (file) => {
      if (place.name !== undefined && used) {
        throw new DcpipeError("REFUSED", "more than one file comes, and only one name was given for them");
      }
      used = true;
      return createFile(join(place.directory, place.name ?? file.name), file);
    },
  };
}

async function createFile(path: string, file: IncomingFile): Promise<FileSink> {
  if (await lstat(path).catch(() => undefined)) {
    throw new DcpipeError("EXISTS", `${path} exists already, and is left as it is`);
  }
  const part = `${path}.part`;
  const handle = await openPart(part);
  const { ino, dev } = await handle.stat({ bigint: true });
  let open_ = true;
  const close = async (): Promise<void> => {
    if (open_) await handle.close();
    open_ = false;
  };
  return {
    write: async (chunk) => {
      try {
        for (let at = 0; at < chunk.length;) {
          const { bytesWritten } = await handle.write(chunk, at);
          at += bytesWritten;
        }
      } catch (cause) {
        throw writeError(part, cause);
      }
    },
    commit: async () => {
      try {
        if (process.platform !== "win32") await handle.chmod(file.mode & 0o777);
        const mtime = new Date(file.mtime);
        await handle.utimes(mtime, mtime);
        await handle.sync();
        const now = await lstat(part, { bigint: true }).catch(() => undefined);
        if (now?.ino !== ino || now.dev !== dev)
          throw new DcpipeError("IO", `${part} was moved or replaced meanwhile`);
        await close();
        await giveName(part, path);
        await syncDirectory(dirname(path));
      } catch (cause) {
        throw cause instanceof DcpipeError ? cause : writeError(part, cause);
      }
    },
    abandon: async () => {
      await close().catch(() => undefined);
    },
  };
}

/** A fresh .part. One left by an earlier try is replaced, never written into: somebody may still be at it. */
async function openPart(part: string): Promise<FileHandle> {
  try {
    const old = await lstat(part).catch(() => undefined);
    if (old && !old.isFile())
      throw new DcpipeError("EXISTS", `${part} exists already and is no regular file`);
    if (old) await unlink(part);
    return await open(part, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | NO_FOLLOW, 0o600);
  } catch (cause) {
    throw cause instanceof DcpipeError ? cause : writeError(part, cause);
  }
}

/** Renames without replacing: a link fails when the name is taken, a rename would not. */
async function giveName(part: string, path: string): Promise<void> {
  try {
    await link(part, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST")
      throw new DcpipeError("EXISTS", `${path} came into being meanwhile; the file is kept as ${part}`, {
        cause: error,
      });
    // No hard links here (FAT, some network filesystems): look, then rename.
    if (await lstat(path).catch(() => undefined)) {
      throw new DcpipeError("EXISTS", `${path} came into being meanwhile; the file is kept as ${part}`, {
        cause: error,
      });
    }
    await rename(part, path);
    return;
  }
  await unlink(part);
}

/** The new name must survive a power cut too. Windows cannot open directories, and does not need it. */
async function syncDirectory(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(path, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function writeError(path: string, cause: unknown): DcpipeError {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new DcpipeError("NO_SPACE", `the disk is full; what arrived is kept in ${path}`, { cause });
  }
  return new DcpipeError("IO", `cannot write ${path}: ${describe(cause)}`, { cause });
}

const WORDS: Readonly<Record<string, string>> = {
  ENOENT: "no such file or directory",
  EACCES: "permission denied",
  EPERM: "not permitted",
  EROFS: "the filesystem is read-only",
  EISDIR: "it is a directory",
  ENOTDIR: "part of the path is no directory",
  EMFILE: "too many open files",
  ENAMETOOLONG: "the name is too long",
  ENOSPC: "the disk is full",
};

function describe(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return (code === undefined ? undefined : WORDS[code]) ?? message;
}
