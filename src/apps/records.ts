/** Records on a stream: read one by one, written in batches, compressed when that pays. */
import { DcpipeError } from "../errors.ts";
import type { Stream } from "../session/stream.ts";
import { protocolError, Reader, Writer } from "../wire/bytes.ts";
import {
  chunkPrefix,
  CHUNK_TYPE,
  decodeRecord,
  MAX_CHUNK,
  MAX_PACKED,
  MAX_RECORD,
  packedPrefix,
  writeRecord,
  type FileRecord,
} from "../wire/file.ts";
import type { Compression } from "./compression.ts";
import type { Codec } from "./endpoints.ts";

/** Records wait to be sent together until they are this long: what deflate needs to do well, and four frames. */
const BATCH = 256 * 1024;
/** Content up to this length goes into a batch; more is written as it is, without a copy. */
const SMALL_CONTENT = 64 * 1024;

export class RecordReader {
  readonly #stream: Stream;
  readonly #codec: Codec | undefined;
  /** What was read and not yet taken. */
  #buffer: Uint8Array = new Uint8Array(0);
  /** How much of it there has to be to go on. */
  #needed = 0;
  /** Bytes of a CHUNK that are still to come. */
  #content = 0;
  /** What a PACKED held. */
  #unpacked: Reader | undefined;

  /** Without a codec PACKED is an error. */
  constructor(stream: Stream, codec?: Codec) {
    this.#stream = stream;
    this.#codec = codec;
  }

  /** The next record, or undefined at the end of the stream. A long CHUNK comes in parts, as they arrive. Throws PROTOCOL. */
  async next(): Promise<FileRecord | undefined> {
    for (;;) {
      const record = this.#fromPacked() ?? this.#take();
      if (record?.type === "PACKED") {
        this.#unpacked = new Reader(await this.#unpack(record.packed, record.size));
        continue;
      }
      if (record) return record;
      if (!(await this.#more())) return undefined;
    }
  }

  /** Reads until there is as much as is needed; however small the pieces, each is copied once. False at the end. */
  async #more(): Promise<boolean> {
    const pieces = this.#buffer.length > 0 ? [this.#buffer] : [];
    let { length } = this.#buffer;
    do {
      const chunk = await this.#stream.read();
      if (!chunk) {
        if (length > 0 || this.#content > 0) throw protocolError("the stream ends inside a record");
        return false;
      }
      pieces.push(chunk);
      length += chunk.length;
    } while (length < this.#needed);
    this.#buffer = join(pieces, length);
    return true;
  }

  #take(): FileRecord | undefined {
    this.#needed = 0;
    if (this.#content > 0) return this.#takeContent();
    const first = this.#buffer[0];
    if (first === undefined || this.#buffer.length < 1 << (first >> 6)) return undefined;
    const reader = new Reader(this.#buffer);
    const length = reader.varint(MAX_RECORD);
    if (length === 0) throw protocolError("empty record");
    if (reader.remaining < length) {
      // Content is passed on as it comes: it needs no buffer of its own.
      const whole = this.#buffer.length - reader.remaining + length;
      if (reader.remaining === 0) return undefined;
      if (reader.u8() !== CHUNK_TYPE) {
        this.#needed = whole;
        return undefined;
      }
      if (length - 1 > MAX_CHUNK) throw protocolError("CHUNK is too long");
      this.#content = length - 1;
      this.#buffer = reader.take(reader.remaining);
      return this.#takeContent();
    }
    const record = decodeRecord(reader.take(length));
    this.#buffer = reader.take(reader.remaining);
    return record;
  }

  #takeContent(): FileRecord | undefined {
    if (this.#buffer.length === 0) return undefined;
    const content = this.#buffer.subarray(0, this.#content);
    this.#content -= content.length;
    this.#buffer = this.#buffer.subarray(content.length);
    return { type: "CHUNK", content };
  }

  #fromPacked(): FileRecord | undefined {
    const reader = this.#unpacked;
    if (!reader) return undefined;
    if (reader.remaining === 0) {
      this.#unpacked = undefined;
      return undefined;
    }
    const record = decodeRecord(reader.bytes(MAX_RECORD));
    if (record.type === "PACKED") throw protocolError("PACKED in PACKED");
    return record;
  }

  async #unpack(packed: Uint8Array, size: number): Promise<Uint8Array> {
    if (!this.#codec) throw protocolError("PACKED is not for this side");
    let bytes: Uint8Array;
    try {
      bytes = await this.#codec.inflate(packed, size);
    } catch (cause) {
      throw new DcpipeError("PROTOCOL", "PACKED cannot be unpacked", { cause });
    }
    if (bytes.length !== size) throw protocolError("PACKED has another size than it says");
    return bytes;
  }
}

/** Records leave when a batch is full, or at the next turn of the event loop. */
export class RecordWriter {
  readonly #stream: Stream;
  readonly #compression: Compression | undefined;
  /** Called when bytes of the stream up to this offset hold this much content more. */
  readonly #onsent: ((offset: number, content: number) => void) | undefined;
  #batch = new Writer(BATCH);
  /** Batches that have gone: a fresh one for each would be garbage by the megabyte. */
  #spare: Writer[] = [];
  #batchContent = 0;
  /** Bytes that are being compressed, or wait behind such. */
  #packing = 0;
  #offset = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Writes follow each other; and the last block, which may still be on its way through the compression. */
  #last: Promise<void> = Promise.resolve();
  #block: Promise<void> = Promise.resolve();

  constructor(stream: Stream, compression?: Compression, onsent?: (offset: number, content: number) => void) {
    this.#stream = stream;
    this.#compression = compression;
    this.#onsent = onsent;
  }

  /** Queues a record. Await `room` now and then. */
  put(record: FileRecord): void {
    writeRecord(this.#batch, record);
    if (record.type === "CHUNK") this.#batchContent += record.content.length;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      // A failed write is the stream's end, which those who wait hear of.
      this.flush().catch(() => undefined);
    }, 0);
  }

  /** Resolves when there is room for more records. */
  async room(): Promise<void> {
    if (this.#batch.length >= BATCH) await this.#sendBatch();
  }

  /** Writes content of a file, at most MAX_CHUNK bytes. Resolves when `content` may be used again and there is room. */
  async content(content: Uint8Array): Promise<void> {
    if (content.length <= SMALL_CONTENT) {
      this.put({ type: "CHUNK", content });
      return this.room();
    }
    await this.#sendBatch();
    if (this.#pays(content.length)) {
      const block = this.#spare.pop()?.reset() ?? new Writer(BATCH);
      writeRecord(block, { type: "CHUNK", content });
      return this.#pack(block, content.length);
    }
    return this.#inTurn(async () => {
      const prefix = chunkPrefix(content.length);
      this.#sent(prefix.length + content.length, content.length);
      void this.#stream.write(prefix).catch(() => undefined);
      await this.#stream.write(content);
    });
  }

  /** Resolves when all that was put is with the stream. */
  async flush(): Promise<void> {
    await this.#sendBatch();
    await this.#block;
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #inTurn(write: () => Promise<void>): Promise<void> {
    const turn = this.#last.then(write);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /** Sends the batch. Resolves when there is room for another. */
  async #sendBatch(): Promise<void> {
    if (this.#batch.length === 0) return;
    const [batch, content] = [this.#batch, this.#batchContent];
    this.#batch = this.#spare.pop()?.reset() ?? new Writer(BATCH);
    this.#batchContent = 0;
    if (batch.length <= MAX_PACKED && this.#pays(batch.length)) return this.#pack(batch, content);
    return this.#inTurn(async () => {
      this.#sent(batch.length, content);
      await this.#stream.write(batch.view());
      this.#spare.push(batch);
    });
  }

  #pays(length: number): boolean {
    return this.#compression?.pays(length, this.#packing) ?? false;
  }

  /** Compresses a block of records while the one before it is written. Resolves when that one is. */
  async #pack(block: Writer, content: number): Promise<void> {
    const before = this.#block;
    const { length } = block;
    const packing = this.#compression?.pack(block.view());
    packing?.catch(() => undefined);
    this.#packing += length;
    this.#block = this.#inTurn(async () => {
      const packed = await packing;
      this.#packing -= length;
      const prefix = packed && packedPrefix(length, packed.length);
      this.#sent(packed && prefix ? prefix.length + packed.length : length, content);
      if (prefix) void this.#stream.write(prefix).catch(() => undefined);
      await this.#stream.write(packed ?? block.view());
      this.#spare.push(block);
    });
    this.#block.catch(() => undefined);
    await before;
  }

  #sent(bytes: number, content: number): void {
    this.#offset += bytes;
    this.#onsent?.(this.#offset, content);
  }
}

function join(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const [only] = pieces;
  if (only && pieces.length === 1) return only;
  const joined = new Writer(length);
  for (const piece of pieces) joined.raw(piece);
  return joined.view();
}
