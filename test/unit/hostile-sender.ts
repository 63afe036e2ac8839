/**
 * A sender that says what it likes to `receiveFiles`, over two real sessions. Where it is not told otherwise it is an honest
 * one: it answers WANT with the content it has, and COMPARE with the truth. What the receiver says is checked as it comes: no
 * answer for what was not sent, and none for what is settled.
 */
import { createHash } from "node:crypto";
import { receiveFiles, type ReceiveOptions } from "../../src/apps/receive.ts";
import type { TransferResult } from "../../src/apps/endpoints.ts";
import { DcpipeError } from "../../src/errors.ts";
import { Session } from "../../src/session/session.ts";
import type { Stream } from "../../src/session/stream.ts";
import { channelPair } from "../../src/transport/channel.ts";
import { Writer } from "../../src/wire/bytes.ts";
import {
  decodeRecord,
  encodeRecord,
  MAX_CHUNK,
  type Entry,
  type FileRecord,
  type ReceiverRecord,
} from "../../src/wire/file.ts";
import { encodeHeader } from "../../src/wire/header.ts";

/** A record, or bytes that are sent as they are. */
export type Said = FileRecord | Uint8Array;

/** How long anything may take that the receiver should do at once. */
const PATIENCE_MS = 10_000;

export function file(name: string, size: number | undefined, more: Partial<Entry> = {}): FileRecord {
  return { type: "ENTRY", entry: { kind: "file", name, size, mode: 0o644, mtime: 1e15, ...more } as Entry };
}

export function directory(name: string): FileRecord {
  return { type: "ENTRY", entry: { kind: "directory", name, mode: 0o755, mtime: 1e15 } };
}

export function link(name: string, target: string): FileRecord {
  return { type: "ENTRY", entry: { kind: "link", name, target, mtime: 1e15 } };
}

export function text(size: number): FileRecord {
  return { type: "ENTRY", entry: { kind: "text", size } };
}

export const UP: FileRecord = { type: "UP" };
export const LISTED: FileRecord = { type: "LISTED" };
export const DONE: FileRecord = { type: "DONE" };

export function start(id: number, offset = 0): FileRecord {
  return { type: "START", id, offset };
}

export function chunk(content: string | Uint8Array): FileRecord {
  return { type: "CHUNK", content: bytes(content) };
}

export function end(content: string | Uint8Array): FileRecord {
  return { type: "END", size: bytes(content).length, digest: digestOf(content) };
}

export function broken(id: number, words = "gone"): FileRecord {
  return { type: "BROKEN", id, reason: "IO", text: words };
}

export function bytes(content: string | Uint8Array): Uint8Array {
  return typeof content === "string" ? new TextEncoder().encode(content) : content;
}

/** Of less than a block. */
export function digestOf(content: string | Uint8Array): Uint8Array {
  const all = bytes(content);
  const hash = (of: Uint8Array): Uint8Array => new Uint8Array(createHash("sha256").update(of).digest());
  return hash(all.length === 0 ? all : hash(all));
}

/** A record out of its fields, which need not be right. */
export function raw(type: number, fields: (writer: Writer) => void): Uint8Array {
  const body = new Writer().u8(type);
  fields(body);
  return new Writer().bytes(body.finish()).finish();
}

export function joined(...records: Said[]): Uint8Array {
  return new Uint8Array(
    Buffer.concat(records.map((said) => (said instanceof Uint8Array ? said : encodeRecord(said)))),
  );
}

/** How it ended. */
export type Ending = { readonly result: TransferResult } | { readonly error: unknown };

export class HostileSender {
  readonly heard: ReceiverRecord[] = [];
  /** What the receiver did that it must not do, whatever it hears. */
  readonly wrongs: string[] = [];
  readonly ending: Promise<Ending>;
  /** The receiver ended its direction. */
  ended = false;
  /** Answers for WANT and COMPARE, by id; without one the content is empty. */
  readonly contents = new Map<number, string | Uint8Array>();
  /** What it does with an answer; an honest sender's part when there is none, or when it returns true. */
  onanswer: ((record: ReceiverRecord) => boolean | undefined) | undefined;
  readonly stream: Stream;
  readonly session: Session;
  readonly #receiving: Session;
  readonly #settled = new Set<number>();
  #ids = 0;
  #over = false;
  #wake = new Set<() => void>();

  constructor(options: ReceiveOptions) {
    this.#receiving = new Session("waiting");
    this.session = new Session("joining");
    const [near, far] = channelPair();
    this.#receiving.attach(near, 0, "control");
    this.session.attach(far, 0, "control");
    this.session.closed.catch(() => undefined);
    this.#receiving.closed.catch(() => undefined);
    this.ending = receiveFiles(this.#receiving, "waiting", options)
      .then(
        (result): Ending => ({ result }),
        (error: unknown): Ending => ({ error }),
      )
      .finally(() => {
        this.#over = true;
        this.#stir();
      });
    this.stream = this.session.open(encodeHeader({ kind: "send" }));
    this.stream.closed.catch(() => undefined);
    void this.#listen().catch(() => undefined);
  }

  /** Says it all without waiting for anything. Entries get their ids. */
  say(...records: Said[]): void {
    for (const said of records) {
      if (!(said instanceof Uint8Array) && said.type === "ENTRY") this.#ids++;
      this.stream.write(said instanceof Uint8Array ? said : encodeRecord(said)).catch(() => undefined);
    }
  }

  /** Says an entry with this content, and returns its id. */
  offer(record: Said, content: string | Uint8Array = ""): number {
    const id = this.#ids;
    this.contents.set(id, content);
    this.say(record);
    if (record instanceof Uint8Array) this.#ids++;
    return id;
  }

  /** START to END of it, in good order. */
  content(id: number, content: string | Uint8Array, offset = 0): void {
    const all = bytes(content);
    this.say(start(id, offset));
    for (let at = offset; at < all.length; at += MAX_CHUNK) this.say(chunk(all.subarray(at, at + MAX_CHUNK)));
    this.say(end(all));
  }

  /** The answer of this type for the entry. Rejects when it does not come. */
  async answer<T extends ReceiverRecord["type"]>(
    type: T,
    id?: number,
  ): Promise<Extract<ReceiverRecord, { type: T }>> {
    const found = (): Extract<ReceiverRecord, { type: T }> | undefined =>
      this.heard.find(
        (record): record is Extract<ReceiverRecord, { type: T }> =>
          record.type === type && (id === undefined || ("id" in record && record.id === id)),
      );
    await this.#until(() => found() !== undefined, `${type} ${id ?? ""}`);
    return found() as Extract<ReceiverRecord, { type: T }>;
  }

  /** Waits until so many entries, or all, are settled, or the receiver has had enough. */
  async settled(count = this.#ids): Promise<void> {
    await this.#until(() => this.#settled.size >= count, `${count} entries settled`);
  }

  /** The rest of an honest sender's work, as far as the receiver lets it. */
  async finish(): Promise<void> {
    this.say(LISTED);
    await this.settled();
    this.say(DONE);
    this.stream.end().catch(() => undefined);
  }

  /** What an entry was answered with in the end. */
  verdict(id: number): ReceiverRecord["type"] | undefined {
    return this.heard.findLast((record) => "id" in record && record.id === id)?.type;
  }

  /** Everything is over, one way or the other. */
  async end(): Promise<Ending> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new Error(`receiveFiles did not settle; heard ${this.#told()}`));
      }, PATIENCE_MS);
    });
    try {
      return await Promise.race([this.ending, late]);
    } finally {
      clearTimeout(timer);
      const gone = new DcpipeError("ABORTED", "the test is over");
      this.session.fail(gone);
      this.#receiving.fail(gone);
    }
  }

  /** The network goes, and does not come back. */
  vanish(): void {
    this.#receiving.fail(new DcpipeError("PEER_GONE", "gone"));
    this.session.fail(new DcpipeError("PEER_GONE", "gone"));
  }

  async #listen(): Promise<void> {
    let buffer: Uint8Array = new Uint8Array(0);
    for (let piece = await this.stream.read(); piece; piece = await this.stream.read()) {
      buffer = new Uint8Array(Buffer.concat([buffer, piece]));
      for (;;) {
        const size = 1 << ((buffer[0] ?? 0) >> 6);
        if (buffer.length < size) break;
        let length = (buffer[0] ?? 0) & 0x3f;
        for (let i = 1; i < size; i++) length = length * 256 + (buffer[i] ?? 0);
        if (buffer.length < size + length) break;
        const record = decodeRecord(buffer.slice(size, size + length)) as ReceiverRecord;
        buffer = buffer.subarray(size + length);
        this.#hear(record);
      }
    }
    this.ended = true;
    this.#stir();
  }

  #hear(record: ReceiverRecord): void {
    this.heard.push(record);
    if ("id" in record) {
      if (record.id >= this.#ids) this.wrongs.push(`${record.type} for ${record.id}, which was not sent`);
      if (this.#settled.has(record.id)) this.wrongs.push(`${record.type} for ${record.id}, which is settled`);
      if (["STORED", "PASS", "REFUSE", "FAILED"].includes(record.type)) this.#settled.add(record.id);
    }
    if (this.onanswer?.(record) ?? true) this.#answerHonestly(record);
    this.#stir();
  }

  #answerHonestly(record: ReceiverRecord): void {
    if (record.type !== "WANT" && record.type !== "COMPARE") return;
    const all = bytes(this.contents.get(record.id) ?? "");
    if (record.type === "WANT") this.content(record.id, all, record.offset);
    else this.say({ type: "DIGEST", id: record.id, digest: digestOf(all.subarray(0, record.length)) });
  }

  async #until(done: () => boolean, what: string): Promise<void> {
    const start = performance.now();
    while (!done() && !this.#over) {
      const left = PATIENCE_MS - (performance.now() - start);
      if (left <= 0) throw new Error(`no ${what}; heard ${this.#told()}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake.add(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  #stir(): void {
    const waiting = this.#wake;
    this.#wake = new Set();
    for (const wake of waiting) wake();
  }

  #told(): string {
    const last = this.heard
      .slice(-20)
      .map((record) => ("id" in record ? `${record.type} ${record.id}` : record.type));
    return last.length === 0 ? "nothing" : last.join(", ");
  }
}
