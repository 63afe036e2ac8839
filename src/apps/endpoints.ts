/** What the programs over streams need from the machine they run on; node/ and browser/ provide it. */
import type { Reason } from "../wire/frame.ts";

/** Bytes that come from somewhere. */
export interface Source {
  /** The next chunk, or undefined at the end. It is valid until the next call: the source may use its buffer again. */
  read(): Promise<Uint8Array | undefined>;
  /** Nobody wants the rest. Idempotent, never rejects. */
  cancel(): void;
}

/** Bytes that go somewhere. */
export interface Sink {
  /** Resolves when the chunk is taken and there is room for more. Rejects with PIPE_CLOSED, NO_SPACE or IO. */
  write(chunk: Uint8Array): Promise<void>;
  /** All is written. */
  end(): Promise<void>;
}

/** A file to send. `mtime` everywhere is microseconds since 1970, `mode` the nine permission bits. */
export interface SourceFile {
  readonly kind: "file";
  readonly name: string;
  /** Bytes, undefined when not known beforehand; then it can be opened once only. */
  readonly size: number | undefined;
  readonly mode: number;
  readonly mtime: number;
  /** Its content from the first byte. Rejects with IO when it cannot be read, with INCOMPLETE when it is another file by now. */
  open(): Promise<SourceContent>;
}

/** The content of a file, while it is read. */
export interface SourceContent extends Source {
  /** What is different from when it was listed, for people; undefined for nothing. Ask after the last read. */
  changed(): Promise<string | undefined>;
}

/** One step of a walk over what is to be sent, depth first: what is in a directory stands between it and its "up". */
export type SourceEntry =
  | SourceFile
  | { readonly kind: "directory"; readonly name: string; readonly mode: number; readonly mtime: number }
  | { readonly kind: "up" }
  | { readonly kind: "link"; readonly name: string; readonly target: string; readonly mtime: number }
  | { readonly kind: "text"; readonly text: string }
  /** Something that should be sent and cannot be; `text` says why. */
  | { readonly kind: "missing"; readonly name: string; readonly text: string };

/** What is to be sent; each call walks anew. */
export type SourceTree = () => AsyncIterable<SourceEntry>;

/** What a name stands for in a target. */
export interface Found {
  readonly kind: "file" | "directory" | "link" | "other";
  /** Bytes of a file. */
  readonly size: number;
  /** Where a link points. */
  readonly target?: string | undefined;
}

export interface Attributes {
  readonly mode: number;
  readonly mtime: number;
}

/**
 * A directory that takes what is received. Every name given to it is one component that `checkName` has passed, and whatever
 * the name stands for by then, nothing outside this directory is read or changed: links are never followed. Methods reject
 * with a DcpipeError: EXISTS, NO_SPACE, IO.
 */
export interface TargetDirectory {
  /** Made by us just now: nothing is in it but what came since. */
  readonly fresh: boolean;
  /** Names that differ in case or normalization only are one here. */
  readonly folding: boolean;
  find(name: string): Promise<Found | undefined>;
  /** The subdirectory, made if there is none. EXISTS when the name stands for something else. */
  directory(name: string): Promise<TargetDirectory>;
  /** The content of a file that is there. */
  read(name: string): Promise<Source>;
  /** What an earlier try left of the file. It is ours then: nobody else writes to it. */
  part(name: string): Promise<{ readonly size: number; readonly content: Source } | undefined>;
  /** The file is there, whole: what earlier tries left of it goes. Never rejects. */
  forget(name: string): Promise<void>;
  /**
   * Begins a file next to its name; or goes on with `part`, of which the first `from` bytes stay and the rest goes. `size` is what it
   * will be, undefined when nobody knows.
   */
  create(name: string, from: number, size?: number): Promise<FileSink>;
  /** A symbolic link, made in one step; `replace` puts it in place of a file or link. EXISTS. */
  link(name: string, target: string, mtime: number, replace: boolean): Promise<void>;
  /** All in it is done: its names are on disk. A directory of ours gets its attributes, another one with `force`. Closes it. */
  finish(attributes: Attributes, force: boolean): Promise<void>;
  /** Not to be used any more. Never rejects. */
  close(): Promise<void>;
}

/** A file on its way into a directory. */
export interface FileSink {
  write(chunk: Uint8Array): Promise<void>;
  /** Gives the verified file its attributes and name, on disk for good. EXISTS unless `replace`. */
  commit(attributes: Attributes, replace: boolean): Promise<void>;
  /** Leaves what came for a later try. Never rejects. */
  abandon(): Promise<void>;
}

/** Compression of a block of bytes: raw deflate, RFC 1951. */
export interface Codec {
  deflate(bytes: Uint8Array): Promise<Uint8Array>;
  /** Rejects when it is more than `size` bytes, or no such data. */
  inflate(bytes: Uint8Array, size: number): Promise<Uint8Array>;
}

/** A running SHA-256. */
export interface Digest {
  update(chunk: Uint8Array): void;
  /** Ends it. */
  digest(): Uint8Array | Promise<Uint8Array>;
  /** Another one in the same state. */
  copy(): Digest;
}

/** How far a transfer is. Bytes are content that the other side holds (sending) or that is written here (receiving). */
export interface Progress {
  /** The file at work now, as a path with slashes; "" before the first. */
  readonly name: string;
  readonly bytes: number;
  /** Of all files; undefined while the list is not complete, or a size is not known. */
  readonly total: number | undefined;
  /** Files that are done, and in all. */
  readonly files: number;
  readonly totalFiles: number | undefined;
  /** The same of the file at work. */
  readonly file: { readonly bytes: number; readonly total: number | undefined };
}

/** What came of a transfer, on either side. */
export interface TransferResult {
  /** Files, links and texts that the receiver has: verified and on disk. */
  readonly files: number;
  readonly directories: number;
  /** Content bytes of these files. */
  readonly bytes: number;
  /** Content bytes that travelled for them now; the rest was there. */
  readonly moved: number;
  /** Files the receiver had already, byte for byte. */
  readonly unchanged: number;
  /** Entries the receiver did not want: --only, --skip, --list. */
  readonly passed: number;
  /** What was refused, and what could not be read, sent or stored. */
  readonly problems: Problems;
}

export interface Problem {
  /** A path with slashes. From a peer: escape before showing. */
  readonly name: string;
  readonly reason: Reason;
  readonly text: string;
}

/** The first ones by name, all by number. */
export interface Problems {
  readonly refused: number;
  readonly failed: number;
  readonly list: readonly Problem[];
}

export function isReason(code: string, reasons: readonly string[]): code is Reason {
  return reasons.includes(code);
}
