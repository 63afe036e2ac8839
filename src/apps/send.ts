/**
 * Sends files: ENTRY, wait for ACCEPT, content in CHUNKs, END with the digest; done when the other side says STORED, which
 * means verified and on its disk.
 */
import { asDcpipeError, DcpipeError, type ErrorCode } from "../errors.ts";
import type { Session } from "../session/session.ts";
import type { Stream } from "../session/stream.ts";
import { chunkPrefix, encodeRecord, MAX_CHUNK, type FileRecord } from "../wire/file.ts";
import { REASONS, type Reason } from "../wire/frame.ts";
import type { Role } from "../wire/hello.ts";
import { isReason, type Digest, type Progress, type SourceFile } from "./endpoints.ts";
import { meet } from "./meet.ts";
import { RecordStream } from "./records.ts";

export interface SendOptions {
  /** Files, opened one after another. */
  readonly files: AsyncIterable<SourceFile> | Iterable<SourceFile>;
  readonly createDigest: () => Digest;
  readonly onprogress?: (progress: Progress) => void;
}

export interface TransferResult {
  readonly files: number;
  /** Content bytes that are on the receiver's disk. */
  readonly bytes: number;
}

/** Sends all files. Rejects with the first failure: REFUSED, INCOMPLETE, CHECKSUM, IO, PEER_GONE, ... */
export async function sendFiles(session: Session, role: Role, options: SendOptions): Promise<TransferResult> {
  const stream = await meet(session, role, "send");
  const sender = new Sender(stream, options);
  try {
    return await Promise.race([sender.run(), stream.closed.then(() => sender.finished)]);
  } catch (error) {
    const failure = asDcpipeError(error, "IO");
    stream.reset(isReason(failure.code, REASONS) ? failure.code : "ABORTED", failure.message);
    throw failure;
  }
}

class Sender {
  readonly finished: Promise<TransferResult>;
  readonly #stream: Stream;
  readonly #records: RecordStream;
  readonly #options: SendOptions;
  #resolve!: (result: TransferResult) => void;
  /** Bytes of the stream that are not content, up to now. */
  #overhead = 0;
  #current: Progress | undefined;
  #before = 0;
  #ticker: ReturnType<typeof setInterval> | undefined;

  constructor(stream: Stream, options: SendOptions) {
    this.#stream = stream;
    this.#records = new RecordStream(stream);
    this.#options = options;
    this.finished = new Promise((resolve) => (this.#resolve = resolve));
  }

  async run(): Promise<TransferResult> {
    let files = 0;
    let bytes = 0;
    this.#ticker = setInterval(() => {
      this.#report();
    }, 200);
    try {
      for await (const file of this.#options.files) {
        try {
          bytes += await this.#sendOne(files, file);
          files++;
        } finally {
          file.cancel();
        }
      }
      await this.#write({ type: "DONE" });
      await this.#stream.end();
    } finally {
      clearInterval(this.#ticker);
    }
    this.#current = undefined;
    if (await this.#records.next()) throw new DcpipeError("PROTOCOL", "a record after the end");
    const result = { files, bytes };
    this.#resolve(result);
    return result;
  }

  async #sendOne(id: number, file: SourceFile): Promise<number> {
    const { name, size, mode, mtime } = file;
    await this.#write({ type: "ENTRY", entry: { id, name, size, mode, mtime } });
    const reply = await this.#reply(id);
    if (reply.type === "REFUSE") throw refusal(reply.reason, reply.text);
    if (reply.type !== "ACCEPT" || reply.offset !== 0)
      throw new DcpipeError("PROTOCOL", "an entry was not answered with ACCEPT");
    this.#before = this.#stream.acknowledged;
    this.#overhead = 0;
    this.#current = { name, bytes: 0, total: size };
    // The verdict may come before the end: the other side's disk may fill up.
    const verdict = this.#reply(id);
    verdict.catch(() => undefined);
    const sent = await Promise.race([this.#content(file), verdict.then(checkStored)]);
    if (sent === undefined) throw new DcpipeError("PROTOCOL", "STORED before the end of the file");
    checkStored(await verdict);
    this.#current = { name, bytes: sent, total: size };
    this.#options.onprogress?.(this.#current);
    return sent;
  }

  async #content(file: SourceFile): Promise<number> {
    const digest = this.#options.createDigest();
    let sent = 0;
    try {
      for (let chunk = await file.read(); chunk; chunk = await file.read()) {
        if (file.size !== undefined && sent + chunk.length > file.size) {
          throw new DcpipeError(
            "INCOMPLETE",
            `the file changed while it was sent: it has more than its ${file.size} bytes now`,
          );
        }
        for (let at = 0; at < chunk.length; at += MAX_CHUNK) {
          const part = chunk.subarray(at, at + MAX_CHUNK);
          digest.update(part);
          const prefix = chunkPrefix(part.length);
          this.#overhead += prefix.length;
          void this.#stream.write(prefix).catch(() => undefined);
          await this.#stream.write(part);
          sent += part.length;
        }
      }
      if (file.size !== undefined && sent !== file.size) {
        throw new DcpipeError(
          "INCOMPLETE",
          `the file changed while it was sent: ${sent} bytes in place of ${file.size}`,
        );
      }
    } catch (error) {
      const failure = asDcpipeError(error, "IO", "reading failed");
      if (failure.code === "IO" || failure.code === "INCOMPLETE") {
        await this.#write({ type: "BROKEN", reason: failure.code, text: failure.message });
      }
      throw failure;
    }
    await this.#write({ type: "END", size: sent, digest: digest.digest() });
    return sent;
  }

  #write(record: FileRecord): Promise<void> {
    const bytes = encodeRecord(record);
    this.#overhead += bytes.length;
    return this.#stream.write(bytes);
  }

  async #reply(id: number): Promise<Extract<FileRecord, { id: number }>> {
    const record = await this.#records.next();
    if (!record || !("id" in record) || record.id !== id)
      throw new DcpipeError("PROTOCOL", "an answer that fits no entry");
    return record;
  }

  #report(): void {
    const current = this.#current;
    if (!current) return;
    const bytes = Math.max(current.bytes, this.#stream.acknowledged - this.#before - this.#overhead);
    this.#current = { ...current, bytes: Math.min(bytes, current.total ?? bytes) };
    this.#options.onprogress?.(this.#current);
  }
}

function checkStored(reply: FileRecord): undefined {
  if (reply.type === "STORED") return undefined;
  if (reply.type === "FAILED") throw refusal(reply.reason, reply.text);
  throw new DcpipeError("PROTOCOL", "a file was not answered with STORED or FAILED");
}

/** What the receiver's reason means to the sender. */
function refusal(reason: Reason, text: string): DcpipeError {
  const code: ErrorCode =
    reason === "REFUSED" || reason === "EXISTS"
      ? "REFUSED"
      : reason === "CHECKSUM"
        ? "CHECKSUM"
        : "INCOMPLETE";
  const what = code === "REFUSED" ? "the other side refused" : "the other side could not store it";
  return new DcpipeError(code, text === "" ? what : `${what}: ${text}`);
}
