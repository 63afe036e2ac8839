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

/** A file to send. */
export interface SourceFile extends Source {
  readonly name: string;
  /** Bytes, undefined when not known beforehand. */
  readonly size: number | undefined;
  readonly mode: number;
  /** Milliseconds since 1970. */
  readonly mtime: number;
}

export interface IncomingFile {
  readonly name: string;
  readonly size: number | undefined;
  readonly mode: number;
  readonly mtime: number;
}

/** Where a received file goes. */
export interface FileSink {
  write(chunk: Uint8Array): Promise<void>;
  /** Puts the verified file under its name, on disk for good. Rejects with EXISTS, NO_SPACE or IO. */
  commit(): Promise<void>;
  /** Leaves what came for a later try. Never rejects. */
  abandon(): Promise<void>;
}

/** A place for received files. */
export interface FileTarget {
  /** Makes room for a file. Rejects with a DcpipeError, EXISTS when something of that name is there. */
  create(file: IncomingFile): Promise<FileSink>;
}

/** A running SHA-256. */
export interface Digest {
  update(chunk: Uint8Array): void;
  digest(): Uint8Array;
}

/** Progress of a transfer: bytes the other side holds (sending) or that are written here (receiving). */
export interface Progress {
  readonly name: string;
  readonly bytes: number;
  readonly total: number | undefined;
}

export function isReason(code: string, reasons: readonly string[]): code is Reason {
  return reasons.includes(code);
}
