/** A file that the browser writes: small chunks become large ones, each of which costs a trip to another process. */
import { DcpipeError } from "../../errors.ts";
import { fileError } from "./failure.ts";

/** One is filled while the other is written. */
const BUFFER = 1024 * 1024;
/** Many small files may be on their way at once. */
const FIRST_BUFFER = 64 * 1024;

export class ChunkWriter {
  readonly #file: FileSystemWritableFileStream;
  #filling = new Uint8Array(FIRST_BUFFER);
  #spare: Uint8Array<ArrayBuffer> | undefined;
  #filled = 0;
  #written: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(file: FileSystemWritableFileStream) {
    this.#file = file;
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
    this.#written = this.#file.write(full);
    this.#written.catch(() => undefined);
  }
}
