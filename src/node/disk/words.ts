/** What the system says about files, in words for people. These travel to the other side: no absolute path is in them. */
import { getSystemErrorMap } from "node:util";
import { DcpipeError } from "../../errors.ts";

const WORDS: Readonly<Record<string, string>> = {
  ENOENT: "no such file or directory",
  EACCES: "permission denied",
  EPERM: "not permitted",
  EROFS: "the filesystem is read-only",
  EISDIR: "it is a directory",
  ENOTDIR: "part of the path is no directory",
  ELOOP: "too many links, or one where none may be",
  EMFILE: "too many open files",
  ENFILE: "too many open files",
  EFBIG: "too large for the filesystem",
  EIO: "the disk cannot be read or written",
  ESTALE: "the file server has lost it",
  ENAMETOOLONG: "the name is too long",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
};

/** The code of a system error, such as "ENOENT". */
export function codeOf(error: unknown): string | undefined {
  const { code } = error as NodeJS.ErrnoException;
  return typeof code === "string" ? code : undefined;
}

/** What went wrong, lower case. Node's own messages hold whole paths, and stay out. */
export function describe(error: unknown): string {
  if (error instanceof DcpipeError) return error.message;
  const { code, errno } = error as NodeJS.ErrnoException;
  return (
    (code === undefined ? undefined : WORDS[code]) ??
    (errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1]) ??
    code ??
    "for an unknown reason"
  );
}

/** NO_SPACE when the disk is full, else IO: "`what`: the reason". A DcpipeError stays what it is. */
export function diskError(what: string, cause: unknown): DcpipeError {
  if (cause instanceof DcpipeError) return cause;
  const code = codeOf(cause);
  if (code === "ENOSPC" || code === "EDQUOT")
    return new DcpipeError("NO_SPACE", "the disk is full", { cause });
  return new DcpipeError("IO", `${what}: ${describe(cause)}`, { cause });
}

/** What a thing is that is no file, directory or link: "it is `this`". */
export function kindOf(info: {
  isFIFO(): boolean;
  isSocket(): boolean;
  isBlockDevice(): boolean;
  isCharacterDevice(): boolean;
}): string {
  if (info.isFIFO()) return "a FIFO";
  if (info.isSocket()) return "a socket";
  return info.isBlockDevice() || info.isCharacterDevice() ? "a device" : "something special";
}
