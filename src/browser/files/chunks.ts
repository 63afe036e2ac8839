/**
 * A file that the browser writes: small chunks become large ones, each of which costs a trip to another process. What is written counts
 * only when the file is closed, and a page may go at any moment; so it is closed and opened again now and then.
 */
import { DcpipeError } from "../../errors.ts";
import { fileError } from "./failure.ts";

/** One is filled while the other is written. */
const BUFFER = 1024 * 1024;
/** Many small files may be on their way at once. */
const FIRST_BUFFER = 64 * 1024;
/**
 * So much is kept first if the page goes, and twice as much each time after: opening a file to go on with it copies what is there, so all
 * of it is written twice at most.
 */
const FIRST_KEPT = 16 * 1024 * 1024;

export class ChunkWriter {
  readonly #handle: FileSystemFileHandle;
  #file: FileSystemWritableFileStream;
  /** Bytes in the file; and how many there shall be before it is closed again. */
  #size: number;
  #mark: number;
  #filling = new Uint8Array(FIRST_BUFFER);
  #spare: Uint8Array<ArrayBuffer> | undefined;
  #filled = 0;
  #written: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(handle: FileSystemFileHandle, file: FileSystemWritableFileStream, from: number) {
    this.#handle = handle;
    this.#file = file;
    this.#size = from;
    this.#mark = Math.max(FIRST_KEPT, 2 * from);
  }

  /** Goes on behind the first `from` bytes, and cuts off what is there already. Rejects with what the browser says. */
  static async open(handle: FileSystemFileHandle, from: number): Promise<ChunkWriter> {
    return new ChunkWriter(handle, await openAt(handle, from), from);
  }

  /** Resolves when the chunk's bytes are copied. Rejects with NO_SPACE or IO. */
  async write(chunk: Uint8Array): Promise<void> {
    for (let rest = chunk; rest.length > 0;) {
      const part = rest.subarray(0, this.#filling.length - this.#filled);
      this.#filling.set(part, this.#filled);
      this.#filled += part.length;
      rest = rest.subarray(part.length);
      if (this.#filled === this.#filling.length) await this.#flush();
    }
  }

  /** All is in the file. */
  async close(): Promise<void> {
    if (this.#closed) throw new DcpipeError("IO", "it is closed");
    this.#closed = true;
    try {
      await this.#flush();
      await this.#written;
      await this.#file.close();
    } catch (error) {
      // Else what it holds stays held.
      await this.#file.abort().catch(() => undefined);
      throw fileError(error, "cannot write it");
    }
  }

  async #flush(): Promise<void> {
    try {
      await this.#written;
    } catch (error) {
      throw fileError(error, "cannot write it");
    }
    if (this.#filled === 0) return;
    const full = this.#filling.subarray(0, this.#filled);
    const next = this.#spare ?? new Uint8Array(BUFFER);
    this.#spare = this.#filling.length === BUFFER ? this.#filling : undefined;
    this.#filling = next;
    this.#filled = 0;
    this.#written = this.#put(full);
    this.#written.catch(() => undefined);
  }

  async #put(full: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#size += full.length;
    await this.#file.write(full);
    if (this.#size < this.#mark || this.#closed) return;
    this.#mark = 2 * this.#size;
    await this.#file.close();
    this.#file = await openAt(this.#handle, this.#size);
  }
}

async function openAt(handle: FileSystemFileHandle, from: number): Promise<FileSystemWritableFileStream> {
  const file = await handle.createWritable({ keepExistingData: from > 0 });
  if (from > 0) {
    await file.truncate(from);
    await file.seek(from);
  }
  return file;
}
