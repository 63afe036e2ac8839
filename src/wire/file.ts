/**
 * Section 6 of docs/protocol.md: the records on a stream that carries files. Each is
 *
 *   length varint | type u8 | fields                                        length counts type and fields
 *
 *   sender                                             receiver
 *   FILE      0x01  name, size + 1 (0: unknown), mode,  WANT    0x11  id, offset: send it, from there on
 *                   mtime
 *   DIRECTORY 0x02  name, mode, mtime; then what is     COMPARE 0x12  id, length: tell the digest of its beginning
 *                   in it                               PASS    0x13  id: not wanted
 *   UP        0x03  the directory ends                  REFUSE  0x14  id, reason, text: not taken
 *   LINK      0x04  name, target, mtime                 STORED  0x15  id: verified and on disk
 *   TEXT      0x05  size                                FAILED  0x16  id, reason, text: could not be stored
 *   MISSING   0x06  name, reason, text: unreadable      COUNT   0x17  say the totals before anything else is done
 *   LISTED    0x07  no more entries
 *   TOTALS    0x08  last u8, entries, bytes
 *   START     0x09  id, offset: content follows
 *   CHUNK     0x0a  content, up to the end of the record
 *   END       0x0b  size, SHA-256 of all of it
 *   BROKEN    0x0c  id, reason, text: no (more) content
 *   DIGEST    0x0d  id, SHA-256: the answer to COMPARE
 *   DONE      0x0e  every entry is settled
 *   PACKED    0x0f  size, records compressed (RFC 1951)
 *
 * FILE, DIRECTORY, LINK and TEXT have the ids 0, 1, 2, ... in the order they are sent. Names are single components: where an
 * entry stands follows from DIRECTORY and UP alone.
 */
import { clipText, protocolError, Reader, Writer } from "./bytes.ts";
import { MAX_TEXT, readReason, REASONS, type Reason } from "./frame.ts";

export const DIGEST_SIZE = 32;
/** Filesystems take 255 bytes, or 255 UTF-16 units, which are at most 765 bytes. */
export const MAX_NAME = 1024;
/** PATH_MAX of Linux. */
export const MAX_TARGET = 4096;
export const MAX_CHUNK = 256 * 1024;
/** What is compressed together: a chunk and the small records around it. */
export const MAX_PACKED = MAX_CHUNK + 64 * 1024;
/** The longest record: an incompressible PACKED, which nobody has to send. */
export const MAX_RECORD = MAX_PACKED + 1024;
/** Entries that may be neither stored nor refused yet. Bounds what both sides keep of a tree of any size. */
export const ENTRY_WINDOW = 4096;
/** Directories in directories; a path of Linux holds no more. */
export const MAX_DEPTH = 1000;
/** A text is for a person to read. */
export const MAX_TEXT_ENTRY = 64 * 1024;
/** Permission bits, without setuid, setgid and sticky. */
const MAX_MODE = 0o777;

export type Entry =
  | {
      readonly kind: "file";
      readonly name: string;
      readonly size: number | undefined;
      readonly mode: number;
      readonly mtime: number;
    }
  | { readonly kind: "directory"; readonly name: string; readonly mode: number; readonly mtime: number }
  | { readonly kind: "link"; readonly name: string; readonly target: string; readonly mtime: number }
  | { readonly kind: "text"; readonly size: number };

export type SenderRecord =
  | { readonly type: "ENTRY"; readonly entry: Entry }
  | { readonly type: "UP" }
  | { readonly type: "MISSING"; readonly name: string; readonly reason: Reason; readonly text: string }
  | { readonly type: "LISTED" }
  | { readonly type: "TOTALS"; readonly last: boolean; readonly entries: number; readonly bytes: number }
  | { readonly type: "START"; readonly id: number; readonly offset: number }
  | { readonly type: "CHUNK"; readonly content: Uint8Array }
  | { readonly type: "END"; readonly size: number; readonly digest: Uint8Array }
  | { readonly type: "BROKEN"; readonly id: number; readonly reason: Reason; readonly text: string }
  | { readonly type: "DIGEST"; readonly id: number; readonly digest: Uint8Array }
  | { readonly type: "DONE" }
  | { readonly type: "PACKED"; readonly size: number; readonly packed: Uint8Array };

export type ReceiverRecord =
  | { readonly type: "WANT"; readonly id: number; readonly offset: number }
  | { readonly type: "COMPARE"; readonly id: number; readonly length: number }
  | { readonly type: "PASS"; readonly id: number }
  | { readonly type: "REFUSE"; readonly id: number; readonly reason: Reason; readonly text: string }
  | { readonly type: "STORED"; readonly id: number }
  | { readonly type: "FAILED"; readonly id: number; readonly reason: Reason; readonly text: string }
  | { readonly type: "COUNT" };

export type FileRecord = SenderRecord | ReceiverRecord;

const TYPES = {
  FILE: 0x01,
  DIRECTORY: 0x02,
  UP: 0x03,
  LINK: 0x04,
  TEXT: 0x05,
  MISSING: 0x06,
  LISTED: 0x07,
  TOTALS: 0x08,
  START: 0x09,
  CHUNK: 0x0a,
  END: 0x0b,
  BROKEN: 0x0c,
  DIGEST: 0x0d,
  DONE: 0x0e,
  PACKED: 0x0f,
  WANT: 0x11,
  COMPARE: 0x12,
  PASS: 0x13,
  REFUSE: 0x14,
  STORED: 0x15,
  FAILED: 0x16,
  COUNT: 0x17,
} as const;

/** The type of a CHUNK, for readers that pass its content on as it comes. */
export const CHUNK_TYPE = TYPES.CHUNK;

/** Appends a record, its length in front. */
export function writeRecord(writer: Writer, record: FileRecord): void {
  if (record.type === "CHUNK") {
    writer
      .varint(record.content.length + 1)
      .u8(TYPES.CHUNK)
      .raw(record.content);
    return;
  }
  const body = new Writer(128);
  if (record.type === "ENTRY") writeEntry(body, record.entry);
  else writeFields(body.u8(TYPES[record.type]), record);
  writer.bytes(body.view());
}

/** The bytes of a record, its length in front. */
export function encodeRecord(record: FileRecord): Uint8Array {
  const writer = new Writer(128);
  writeRecord(writer, record);
  return writer.finish();
}

/** What goes before the content of a CHUNK of `length` bytes, which then needs no copy. */
export function chunkPrefix(length: number): Uint8Array {
  return new Writer(8)
    .varint(length + 1)
    .u8(TYPES.CHUNK)
    .finish();
}

/** What goes before `packed` bytes that hold `size` bytes of records. */
export function packedPrefix(size: number, packed: number): Uint8Array {
  const fields = new Writer(8).u8(TYPES.PACKED).varint(size).view();
  return new Writer(16)
    .varint(fields.length + packed)
    .raw(fields)
    .finish();
}

function writeEntry(body: Writer, entry: Entry): void {
  switch (entry.kind) {
    case "file":
      body.u8(TYPES.FILE).text(entry.name);
      body.varint(entry.size === undefined ? 0 : entry.size + 1);
      body.varint(entry.mode & MAX_MODE).varint(clipTime(entry.mtime));
      break;
    case "directory":
      body.u8(TYPES.DIRECTORY).text(entry.name);
      body.varint(entry.mode & MAX_MODE).varint(clipTime(entry.mtime));
      break;
    case "link":
      body.u8(TYPES.LINK).text(entry.name).text(entry.target).varint(clipTime(entry.mtime));
      break;
    case "text":
      body.u8(TYPES.TEXT).varint(entry.size);
      break;
  }
}

function writeFields(body: Writer, record: Exclude<FileRecord, { type: "ENTRY" | "CHUNK" }>): void {
  switch (record.type) {
    case "UP":
    case "LISTED":
    case "DONE":
    case "COUNT":
      break;
    case "MISSING":
      body.text(record.name);
      writeVerdict(body, record.reason, record.text);
      break;
    case "TOTALS":
      body
        .u8(record.last ? 1 : 0)
        .varint(record.entries)
        .varint(record.bytes);
      break;
    case "START":
      body.varint(record.id).varint(record.offset);
      break;
    case "END":
      body.varint(record.size).raw(record.digest);
      break;
    case "DIGEST":
      body.varint(record.id).raw(record.digest);
      break;
    case "PACKED":
      body.varint(record.size).raw(record.packed);
      break;
    case "WANT":
      body.varint(record.id).varint(record.offset);
      break;
    case "COMPARE":
      body.varint(record.id).varint(record.length);
      break;
    case "PASS":
    case "STORED":
      body.varint(record.id);
      break;
    case "BROKEN":
    case "REFUSE":
    case "FAILED":
      body.varint(record.id);
      writeVerdict(body, record.reason, record.text);
      break;
  }
}

function writeVerdict(body: Writer, reason: Reason, text: string): void {
  body.varint(REASONS.indexOf(reason)).text(clipText(text, MAX_TEXT));
}

/** Microseconds since 1970, as they fit: no file is older than that, none newer than the year 2255. */
function clipTime(mtime: number): number {
  return Math.min(Number.MAX_SAFE_INTEGER, Math.max(0, Math.floor(mtime)));
}

/** A record without its length; content and digests are views on `bytes`. Throws PROTOCOL. */
export function decodeRecord(bytes: Uint8Array): FileRecord {
  const reader = new Reader(bytes);
  const record = readRecord(reader);
  reader.end();
  return record;
}

function readRecord(reader: Reader): FileRecord {
  const type = reader.u8();
  switch (type) {
    case TYPES.FILE: {
      const name = reader.text(MAX_NAME);
      const size = reader.varint();
      const [mode, mtime] = [reader.varint(MAX_MODE), reader.varint()];
      return {
        type: "ENTRY",
        entry: { kind: "file", name, size: size === 0 ? undefined : size - 1, mode, mtime },
      };
    }
    case TYPES.DIRECTORY: {
      const name = reader.text(MAX_NAME);
      return {
        type: "ENTRY",
        entry: { kind: "directory", name, mode: reader.varint(MAX_MODE), mtime: reader.varint() },
      };
    }
    case TYPES.UP:
      return { type: "UP" };
    case TYPES.LINK: {
      const [name, target] = [reader.text(MAX_NAME), reader.text(MAX_TARGET)];
      return { type: "ENTRY", entry: { kind: "link", name, target, mtime: reader.varint() } };
    }
    case TYPES.TEXT:
      return { type: "ENTRY", entry: { kind: "text", size: reader.varint(MAX_TEXT_ENTRY) } };
    case TYPES.MISSING:
      return { type: "MISSING", name: reader.text(MAX_NAME), ...readVerdict(reader) };
    case TYPES.LISTED:
      return { type: "LISTED" };
    case TYPES.TOTALS:
      return { type: "TOTALS", last: readFlag(reader), entries: reader.varint(), bytes: reader.varint() };
    case TYPES.START:
      return { type: "START", id: reader.varint(), offset: reader.varint() };
    case TYPES.CHUNK: {
      if (reader.remaining > MAX_CHUNK) throw protocolError("CHUNK is too long");
      const content = reader.take(reader.remaining);
      if (content.length === 0) throw protocolError("empty CHUNK");
      return { type: "CHUNK", content };
    }
    case TYPES.END:
      return { type: "END", size: reader.varint(), digest: reader.take(DIGEST_SIZE) };
    case TYPES.BROKEN:
      return { type: "BROKEN", id: reader.varint(), ...readVerdict(reader) };
    case TYPES.DIGEST:
      return { type: "DIGEST", id: reader.varint(), digest: reader.take(DIGEST_SIZE) };
    case TYPES.DONE:
      return { type: "DONE" };
    case TYPES.PACKED: {
      const size = reader.varint(MAX_PACKED);
      if (size === 0) throw protocolError("empty PACKED");
      return { type: "PACKED", size, packed: reader.take(reader.remaining) };
    }
    case TYPES.WANT:
      return { type: "WANT", id: reader.varint(), offset: reader.varint() };
    case TYPES.COMPARE:
      return { type: "COMPARE", id: reader.varint(), length: reader.varint() };
    case TYPES.PASS:
      return { type: "PASS", id: reader.varint() };
    case TYPES.REFUSE:
      return { type: "REFUSE", id: reader.varint(), ...readVerdict(reader) };
    case TYPES.STORED:
      return { type: "STORED", id: reader.varint() };
    case TYPES.FAILED:
      return { type: "FAILED", id: reader.varint(), ...readVerdict(reader) };
    case TYPES.COUNT:
      return { type: "COUNT" };
    default:
      throw protocolError(`unknown file record ${type}`);
  }
}

function readVerdict(reader: Reader): { reason: Reason; text: string } {
  return { reason: readReason(reader), text: reader.text(MAX_TEXT) };
}

function readFlag(reader: Reader): boolean {
  const flag = reader.u8();
  if (flag > 1) throw protocolError(`${flag} where 0 or 1 is due`);
  return flag === 1;
}
