/** The content of an open file: a small one at once, a large one with one read ahead. Closes the file at its end. */
import { closeSync, read, readSync } from "node:fs";
import { promisify } from "node:util";
import type { Source } from "../../apps/endpoints.ts";
import { DcpipeError } from "../../errors.ts";
import { describe } from "./words.ts";

/** Bytes that are read synchronously: that takes less time than a trip to the thread pool and back. */
export const SMALL = 64 * 1024;
/** Large enough that the thread pool's round trips do not count. */
const READ_SIZE = 256 * 1024;
/** Buffers kept for the next file. */
const SPARE_BUFFERS = 4;

const readAsync = promisify(read);
const spare: Buffer[] = [];

export interface ContentOptions {
  /** What it held when it was opened, in bytes. */
  readonly size: number;
  /** The most that is read. */
  readonly limit: number;
  /** Called once, when all was read, just before the file is closed, with the bytes given. */
  readonly onend?: (length: number) => void;
}

/** The content of `fd`, which it owns from now on. Reading rejects with IO. */
export function contentOf(fd: number, options: ContentOptions): Source {
  return options.size <= SMALL ? smallContent(fd, options) : new LargeContent(fd, options);
}

function smallContent(fd: number, { size, limit, onend }: ContentOptions): Source {
  let done = false;
  const close = (): void => {
    if (!done) closeSync(fd);
    done = true;
  };
  return {
    read: () => {
      if (done) return Promise.resolve(undefined);
      try {
        // One more than it should hold, to see it grow.
        const bytes = readWhole(fd, Math.min(limit, size + 1));
        onend?.(bytes.length);
        return Promise.resolve(bytes.length === 0 ? undefined : bytes);
      } catch (cause) {
        return Promise.reject(readError(cause));
      } finally {
        close();
      }
    },
    cancel: close,
  };
}

function readWhole(fd: number, limit: number): Buffer {
  const buffer = Buffer.allocUnsafe(limit);
  let filled = 0;
  while (filled < limit) {
    const length = readSync(fd, buffer, filled, limit - filled, filled);
    if (length === 0) break;
    filled += length;
  }
  return buffer.subarray(0, filled);
}

class LargeContent implements Source {
  readonly #fd: number;
  readonly #limit: number;
  readonly #onend: ((length: number) => void) | undefined;
  /** The one given last, and the one that is read into meanwhile. */
  #buffers: [Buffer, Buffer] | undefined;
  #ahead: Promise<Buffer> | undefined;
  /** Bytes asked for so far, and given. */
  #position = 0;
  #given = 0;
  #ended = false;
  #closed = false;

  constructor(fd: number, { limit, onend }: ContentOptions) {
    this.#fd = fd;
    this.#limit = limit;
    this.#onend = onend;
  }

  async read(): Promise<Uint8Array | undefined> {
    if (this.#ended) return undefined;
    this.#buffers ??= [spareBuffer(), spareBuffer()];
    let chunk: Buffer;
    try {
      this.#ahead ??= this.#begin(this.#buffers[0]);
      chunk = await this.#ahead;
    } catch (cause) {
      this.#close();
      throw readError(cause);
    }
    this.#ahead = undefined;
    if (this.#isEnded()) return undefined;
    if (chunk.length === 0) {
      this.#onend?.(this.#given);
      this.#close();
      if (spare.length < SPARE_BUFFERS) spare.push(...this.#buffers);
      return undefined;
    }
    this.#given += chunk.length;
    this.#buffers.reverse();
    this.#ahead = this.#begin(this.#buffers[0]);
    // Looked at with the next call.
    this.#ahead.catch(() => undefined);
    return chunk;
  }

  cancel(): void {
    if (this.#ended) return;
    this.#ended = true;
    // A number that is closed while the pool reads from it may be another file's by then.
    const close = (): void => {
      this.#close();
    };
    if (this.#ahead) this.#ahead.then(close, close);
    else close();
  }

  async #begin(buffer: Buffer): Promise<Buffer> {
    const room = Math.min(buffer.length, this.#limit - this.#position);
    if (room === 0) return buffer.subarray(0, 0);
    const { bytesRead } = await readAsync(this.#fd, buffer, 0, room, this.#position);
    this.#position += bytesRead;
    return buffer.subarray(0, bytesRead);
  }

  /** Asked after waiting: it may have been canceled meanwhile. */
  #isEnded(): boolean {
    return this.#ended;
  }

  #close(): void {
    this.#ended = true;
    if (!this.#closed) closeSync(this.#fd);
    this.#closed = true;
  }
}

function spareBuffer(): Buffer {
  return spare.pop() ?? Buffer.allocUnsafeSlow(READ_SIZE);
}

function readError(cause: unknown): DcpipeError {
  return new DcpipeError("IO", describe(cause), { cause });
}
