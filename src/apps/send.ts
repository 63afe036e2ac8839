/**
 * Sends files: three loops over one stream.
 *
 *   listing     walks the tree and writes entries, as long as fewer than ENTRY_WINDOW are unsettled
 *   answering   reads what the receiver wants, has, refuses, has stored
 *   delivering  writes the content that is wanted, one file after another
 *
 * So there is no round trip for a file, and memory for a bounded number of names.
 */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";
import type { Stream } from "../session/stream.ts";
import { clipText } from "../wire/bytes.ts";
import { ENTRY_WINDOW, MAX_NAME, type Entry, type FileRecord } from "../wire/file.ts";
import { REASONS, type Reason } from "../wire/frame.ts";
import type { Role } from "../wire/hello.ts";
import { Acknowledged } from "./acknowledged.ts";
import { Compression } from "./compression.ts";
import { deliver, openBehind, type Delivery, type Opened } from "./delivery.ts";
import { ContentDigest } from "./digest.ts";
import {
  isReason,
  type Codec,
  type Digest,
  type Progress,
  type SourceEntry,
  type SourceFile,
  type SourceTree,
  type TransferResult,
} from "./endpoints.ts";
import { Pacer } from "./limit.ts";
import { meet } from "./meet.ts";
import { RecordReader, RecordWriter } from "./records.ts";
import { Signal } from "./signal.ts";
import { Tally } from "./tally.ts";

/**
 * Small files wait in the receiver's memory until its disk has them; if it dies, they are sent again. So no more than this, and
 * what a fast path holds beside (64 KiB a millisecond of round trip), is on its way or there. Bytes; a file counts as a block at least.
 */
const STORING = 1024 * 1024;
const STORING_PER_MS = 64 * 1024;
const SMALL = 64 * 1024;
const BLOCK = 4096;
/** Progress is told this often, and the totals of a count. Milliseconds. */
const REPORT_MS = 200;

export interface SendOptions {
  readonly tree: SourceTree;
  readonly createDigest: () => Digest;
  /** Compress what shrinks when the path, not this machine, is the bottleneck; undefined for never. */
  readonly codec?: Codec | undefined;
  /** Bytes of content a second. */
  readonly limit?: number | undefined;
  readonly onprogress?: ((progress: Progress) => void) | undefined;
}

/**
 * Sends all there is. Resolves when the other side has settled every entry, also when it refused some or some could not be
 * read: see `problems`. Rejects with what ended the whole of it: REFUSED, NO_SPACE, PEER_GONE, ...
 */
export async function sendFiles(session: Session, role: Role, options: SendOptions): Promise<TransferResult> {
  const stream = await meet(session, role, "send");
  const sender = new Sender(session, stream, options);
  try {
    return await sender.run();
  } catch (error) {
    const failure = asDcpipeError(error, "IO");
    stream.reset(isReason(failure.code, REASONS) ? failure.code : "ABORTED", failure.message);
    throw failure;
  }
}

/** An entry that is not settled yet. */
interface Outgoing {
  readonly id: number;
  readonly path: string;
  readonly kind: Entry["kind"];
  /** What to open for a file or text. */
  readonly file: SourceFile | undefined;
  /** What the receiver waits for from us; "compared" when it knows the digest of it all, "sent" when it has it all. */
  state: "listed" | "comparing" | "compared" | "wanted" | "sent";
  /** Content bytes that travelled. */
  moved: number;
  /** What of it counts as being stored. */
  storing: number;
}

class Sender {
  readonly #session: Session;
  readonly #stream: Stream;
  readonly #options: SendOptions;
  readonly #reader: RecordReader;
  readonly #writer: RecordWriter;
  readonly #delivery: Delivery;
  readonly #acknowledged: Acknowledged;
  readonly #compression: Compression | undefined;
  readonly #unsettled = new Map<number, Outgoing>();
  readonly #work: { readonly outgoing: Outgoing; readonly type: "WANT" | "COMPARE"; readonly at: number }[] =
    [];
  /** The file whose beginning was compared last: it is likely to be wanted from there on. */
  #compared: { readonly id: number; readonly opened: Opened } | undefined;
  /** Something was settled, or there is more to do. */
  readonly #changed = new Signal();
  readonly #tally = new Tally();
  #listed = false;
  #counting: Promise<void> | undefined;
  /** What was listed, and what a count ahead of the list gave. */
  #entries = 0;
  #listedBytes = 0;
  #listedFiles = 0;
  #unknown = false;
  #counted: Totals | undefined;
  #current = "";
  /** Small files that were sent and are not settled. */
  #storing = 0;

  constructor(session: Session, stream: Stream, options: SendOptions) {
    this.#session = session;
    this.#stream = stream;
    this.#options = options;
    this.#acknowledged = new Acknowledged(stream);
    this.#compression = options.codec && new Compression(options.codec, stream);
    this.#reader = new RecordReader(stream);
    this.#writer = new RecordWriter(stream, this.#compression, (offset, content) => {
      this.#acknowledged.sent(offset, content);
    });
    this.#delivery = {
      writer: this.#writer,
      createDigest: options.createDigest,
      pacer: options.limit === undefined ? undefined : new Pacer(options.limit),
    };
  }

  async run(): Promise<TransferResult> {
    const ticker = setInterval(() => {
      this.#report();
    }, REPORT_MS);
    try {
      // The first of these to fail ends them all: the stream is reset then.
      await Promise.all([this.#list(), this.#answer(), this.#deliver()]);
      await this.#stream.end();
    } finally {
      clearInterval(ticker);
      this.#writer.close();
      this.#delivery.pacer?.cancel();
      this.#changed.close();
      this.#keep(undefined);
    }
    this.#current = "";
    this.#report();
    return this.#tally.result;
  }

  /** Walks the tree. */
  async #list(): Promise<void> {
    const above: string[] = [];
    for await (const entry of this.#options.tree()) {
      await this.#roomForEntry();
      const at = above.join("");
      switch (entry.kind) {
        case "up":
          above.pop();
          this.#writer.put({ type: "UP" });
          break;
        case "missing": {
          const { name, text } = entry;
          this.#tally.fail({ name: at + name, reason: "IO", text });
          this.#writer.put({ type: "MISSING", name: clipText(name, MAX_NAME), reason: "IO", text });
          break;
        }
        default:
          this.#enter(entry, at);
          if (entry.kind === "directory") above.push(`${entry.name}/`);
      }
      await this.#writer.room();
    }
    this.#listed = true;
    this.#writer.put({ type: "LISTED" });
    this.#changed.wake();
  }

  async #roomForEntry(): Promise<void> {
    while (this.#unsettled.size >= ENTRY_WINDOW) {
      // More than fits the window: count ahead, so that both sides know how much there is.
      this.#counting ??= this.#count().catch(() => undefined);
      await this.#changed.next();
    }
  }

  #enter(entry: Exclude<SourceEntry, { kind: "up" | "missing" }>, above: string): void {
    const id = this.#entries++;
    const file = contentOf(entry);
    const name = entry.kind === "text" ? "" : entry.name;
    this.#unsettled.set(id, {
      id,
      path: above + name,
      kind: entry.kind,
      file,
      state: "listed",
      moved: 0,
      storing: 0,
    });
    if (file) {
      this.#listedFiles++;
      this.#listedBytes += file.size ?? 0;
      if (file.size === undefined) this.#unknown = true;
    }
    this.#writer.put({ type: "ENTRY", entry: entryRecord(entry) });
  }

  /** Walks the tree once more, ahead of the list, for its totals. */
  async #count(): Promise<void> {
    const totals = { entries: 0, files: 0, bytes: 0 };
    let told = performance.now();
    for await (const entry of this.#options.tree()) {
      // The list itself may have come to its end meanwhile, and with it the totals.
      if (this.#changed.closed || this.#listed) return;
      if (entry.kind === "up" || entry.kind === "missing") continue;
      totals.entries++;
      const file = contentOf(entry);
      totals.bytes += file?.size ?? 0;
      if (file) totals.files++;
      if (performance.now() - told < REPORT_MS) continue;
      told = performance.now();
      this.#writer.put({ type: "TOTALS", last: false, entries: totals.entries, bytes: totals.bytes });
    }
    // Nor may totals follow it.
    if (this.#changed.closed || this.#listed) return;
    this.#counted = totals;
    this.#writer.put({ type: "TOTALS", last: true, entries: totals.entries, bytes: totals.bytes });
  }

  /** Reads what the receiver says, until it ends. */
  async #answer(): Promise<void> {
    for (let record = await this.#reader.next(); record; record = await this.#reader.next()) {
      if (record.type === "COUNT") {
        if (!this.#listed) this.#counting ??= this.#count().catch(() => undefined);
        continue;
      }
      if (!("id" in record)) throw new DcpipeError("PROTOCOL", `${record.type} is not for the sender`);
      if (record.id >= this.#entries) throw new DcpipeError("PROTOCOL", "an answer that fits no entry");
      const outgoing = this.#unsettled.get(record.id);
      // An answer and our BROKEN may have crossed.
      if (!outgoing) continue;
      this.#handle(outgoing, record);
      this.#changed.wake();
    }
    if (!this.#listed || this.#unsettled.size > 0)
      throw new DcpipeError("INCOMPLETE", "the other side ended before it had everything");
  }

  #handle(outgoing: Outgoing, record: Extract<FileRecord, { id: number }>): void {
    const { path, kind, file } = outgoing;
    switch (record.type) {
      case "WANT":
      case "COMPARE": {
        const at = record.type === "WANT" ? record.offset : record.length;
        if (!file || !(outgoing.state === "listed" || outgoing.state === "compared") || at > (file.size ?? 0))
          throw new DcpipeError("PROTOCOL", `${record.type} of what is not there`);
        outgoing.state = record.type === "WANT" ? "wanted" : "comparing";
        this.#work.push({ outgoing, type: record.type, at });
        return;
      }
      case "PASS":
        this.#tally.passed++;
        break;
      case "REFUSE":
        this.#tally.refuse({ name: path, reason: record.reason, text: record.text });
        break;
      case "FAILED":
        this.#tally.fail({ name: path, reason: record.reason, text: record.text });
        if (record.reason === "NO_SPACE") throw new DcpipeError("NO_SPACE", "the other side's disk is full");
        break;
      case "STORED":
        if (file && outgoing.state !== "sent" && outgoing.state !== "compared")
          throw new DcpipeError("PROTOCOL", "STORED before the end of the file");
        this.#store(outgoing, kind);
        break;
      default:
        throw new DcpipeError("PROTOCOL", `${record.type} is not for the sender`);
    }
    this.#unsettled.delete(outgoing.id);
    this.#storing -= outgoing.storing;
  }

  #store(outgoing: Outgoing, kind: Entry["kind"]): void {
    if (kind === "directory") {
      this.#tally.directories++;
      return;
    }
    this.#tally.files++;
    this.#tally.bytes += outgoing.file?.size ?? outgoing.moved;
    this.#tally.moved += outgoing.moved;
    if (outgoing.state !== "compared") return;
    this.#tally.unchanged++;
    this.#acknowledged.skip(outgoing.file?.size ?? 0);
  }

  /** Writes content as it is wanted, and DONE when all is settled. */
  async #deliver(): Promise<void> {
    for (;;) {
      const full = this.#storing > STORING + STORING_PER_MS * this.#session.rtt;
      const next = full ? undefined : this.#work.shift();
      if (next?.type === "COMPARE") await this.#compare(next.outgoing, next.at);
      else if (next) await this.#send(next.outgoing, next.at);
      else if (this.#listed && this.#unsettled.size === 0) break;
      else await this.#changed.next();
    }
    this.#writer.put({ type: "DONE" });
    await this.#writer.flush();
    // The other side takes this as the end; it ends its own direction when all is on disk.
    void this.#stream.end().catch(() => undefined);
  }

  /** Tells the digest of a file's first `length` bytes. */
  async #compare(outgoing: Outgoing, length: number): Promise<void> {
    const { id, file } = outgoing;
    // The receiver may have given it up meanwhile.
    if (!file || !this.#unsettled.has(id)) return;
    try {
      const opened = await openBehind(file, length, new ContentDigest(this.#options.createDigest));
      outgoing.state = length === file.size ? "compared" : "listed";
      this.#writer.put({ type: "DIGEST", id, digest: await opened.digest.copy().digest() });
      if (outgoing.state === "compared") opened.content.cancel();
      else this.#keep({ id, opened });
    } catch (error) {
      const failure = asDcpipeError(error, "IO", "reading failed");
      const reason = failure.code === "INCOMPLETE" ? "INCOMPLETE" : "IO";
      this.#writer.put({ type: "BROKEN", id, reason, text: failure.message });
      this.#broken(outgoing, { reason, text: failure.message });
    }
    await this.#writer.room();
  }

  #keep(compared: { readonly id: number; readonly opened: Opened } | undefined): void {
    this.#compared?.opened.content.cancel();
    this.#compared = compared;
  }

  /** Writes a file's content from `offset` on. */
  async #send(outgoing: Outgoing, offset: number): Promise<void> {
    const { id, file, path } = outgoing;
    if (!file || !this.#unsettled.has(id)) return;
    let opened: Opened | undefined;
    if (this.#compared?.id === id && this.#compared.opened.offset === offset) {
      ({ opened } = this.#compared);
      this.#compared = undefined;
    }
    this.#compression?.refresh();
    this.#current = path;
    this.#acknowledged.begin(file.size);
    const outcome = await deliver(this.#delivery, id, file, offset, opened, {
      skipped: (bytes) => {
        this.#acknowledged.skip(bytes);
      },
      sent: (bytes) => {
        outgoing.moved += bytes;
        this.#acknowledged.give(bytes);
        return this.#unsettled.has(id);
      },
    });
    if (outcome === "sent") {
      outgoing.state = "sent";
      if (!this.#unsettled.has(id) || outgoing.moved > SMALL) return;
      outgoing.storing = Math.max(outgoing.moved, BLOCK);
      this.#storing += outgoing.storing;
    } else this.#broken(outgoing, outcome);
  }

  #broken({ id, path }: Outgoing, { reason, text }: { reason: Reason; text: string }): void {
    if (!this.#unsettled.delete(id)) return;
    this.#tally.fail({ name: path, reason, text });
    this.#changed.wake();
  }

  #report(): void {
    const { bytes, file } = this.#acknowledged.state();
    const known = this.#listed ? { bytes: this.#listedBytes, files: this.#listedFiles } : this.#counted;
    this.#options.onprogress?.({
      name: this.#current,
      bytes,
      total: this.#unknown ? undefined : known?.bytes,
      files: this.#tally.files,
      totalFiles: known?.files,
      file,
    });
  }
}

interface Totals {
  readonly entries: number;
  readonly files: number;
  readonly bytes: number;
}

function entryRecord(entry: Exclude<SourceEntry, { kind: "up" | "missing" }>): Entry {
  switch (entry.kind) {
    case "file": {
      const { kind, name, size, mode, mtime } = entry;
      return { kind, name, size, mode, mtime };
    }
    case "text":
      return { kind: "text", size: new TextEncoder().encode(entry.text).length };
    default:
      return entry;
  }
}

function contentOf(entry: SourceEntry): SourceFile | undefined {
  return entry.kind === "file" ? entry : entry.kind === "text" ? textFile(entry.text) : undefined;
}

function textFile(text: string): SourceFile {
  const bytes = new TextEncoder().encode(text);
  return {
    kind: "file",
    name: "",
    size: bytes.length,
    mode: 0o644,
    mtime: 0,
    open: () => {
      let rest: Uint8Array | undefined = bytes.length > 0 ? bytes : undefined;
      return Promise.resolve({
        read: () => {
          const chunk = rest;
          rest = undefined;
          return Promise.resolve(chunk);
        },
        changed: () => Promise.resolve(undefined),
        cancel: () => undefined,
      });
    },
  };
}
