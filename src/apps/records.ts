/** Reads length-prefixed records off a stream. */
import { protocolError, Reader, Writer } from "../wire/bytes.ts";
import { decodeRecord, encodeRecord, MAX_RECORD, type FileRecord } from "../wire/file.ts";
import type { Stream } from "../session/stream.ts";

export class RecordStream {
  readonly #stream: Stream;
  #buffer: Uint8Array = new Uint8Array(0);

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /** The next record, or undefined at the end of the stream. Throws PROTOCOL. */
  async next(): Promise<FileRecord | undefined> {
    for (;;) {
      const record = this.#take();
      if (record) return record;
      const chunk = await this.#stream.read();
      if (!chunk) {
        if (this.#buffer.length > 0) throw protocolError("the stream ends inside a record");
        return undefined;
      }
      this.#buffer = this.#buffer.length === 0 ? chunk : join(this.#buffer, chunk);
    }
  }

  write(record: FileRecord): Promise<void> {
    return this.#stream.write(encodeRecord(record));
  }

  #take(): FileRecord | undefined {
    const first = this.#buffer[0];
    if (first === undefined || this.#buffer.length < 1 << (first >> 6)) return undefined;
    const reader = new Reader(this.#buffer);
    const length = reader.varint(MAX_RECORD);
    if (length === 0) throw protocolError("empty record");
    if (reader.remaining < length) return undefined;
    const record = decodeRecord(reader.take(length));
    this.#buffer = reader.take(reader.remaining);
    return record;
  }
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  return new Writer(a.length + b.length).raw(a).raw(b).view();
}
