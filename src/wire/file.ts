/**
 * Section 6 of docs/protocol.md: the records on a stream that carries files. Each is
 *
 *   length varint | type u8 | fields                                        length counts type and fields
 *
 *   sender                                             receiver
 *   ENTRY  0x01  id, kind u8, name, size + 1 (0 when    ACCEPT 0x11  id, offset: send from there
 *                unknown), mode, mtime in ms            REFUSE 0x12  id, reason, text: not this one
 *   CHUNK  0x02  content, up to the end of the record   STORED 0x13  id: verified and on disk
 *   END    0x03  size, SHA-256                          FAILED 0x14  id, reason, text: could not be stored
 *   BROKEN 0x04  reason, text: this one ends here
 *   DONE   0x05  no more entries
 *
 * CHUNK, END and BROKEN belong to the entry accepted last. Kinds other than 0 (a regular file) and offsets other than 0 are
 * room for trees and resuming.
 */
import { clipText, protocolError, Reader, Writer } from "./bytes.ts";
import { MAX_TEXT, readReason, REASONS, type Reason } from "./frame.ts";

export const DIGEST_SIZE = 32;
/** Paths of 4,096 bytes are what Linux takes; one component has 255. */
export const MAX_NAME = 4096;
export const MAX_CHUNK = 256 * 1024;
/** The longest record: a chunk and its type. */
export const MAX_RECORD = MAX_CHUNK + 1;
/** Permission bits, without setuid, setgid and sticky. */
const MAX_MODE = 0o777;
/** Milliseconds since 1970; the year 9999. */
const MAX_MTIME = 253_402_300_799_999;

export interface Entry {
  readonly id: number;
  /** As the sender names it; for the receiver to check. */
  readonly name: string;
  /** Bytes, undefined when the sender does not know yet. */
  readonly size: number | undefined;
  readonly mode: number;
  /** Milliseconds since 1970. */
  readonly mtime: number;
}

export type FileRecord =
  | { readonly type: "ENTRY"; readonly entry: Entry }
  | { readonly type: "CHUNK"; readonly content: Uint8Array }
  | { readonly type: "END"; readonly size: number; readonly digest: Uint8Array }
  | { readonly type: "BROKEN"; readonly reason: Reason; readonly text: string }
  | { readonly type: "DONE" }
  | { readonly type: "ACCEPT"; readonly id: number; readonly offset: number }
  | { readonly type: "REFUSE"; readonly id: number; readonly reason: Reason; readonly text: string }
  | { readonly type: "STORED"; readonly id: number }
  | { readonly type: "FAILED"; readonly id: number; readonly reason: Reason; readonly text: string };

const TYPES = {
  ENTRY: 0x01,
  CHUNK: 0x02,
  END: 0x03,
  BROKEN: 0x04,
  DONE: 0x05,
  ACCEPT: 0x11,
  REFUSE: 0x12,
  STORED: 0x13,
  FAILED: 0x14,
} as const;

/** The bytes of a record, its length in front. Use `chunkPrefix` for CHUNK, which needs no copy of its content. */
export function encodeRecord(record: FileRecord): Uint8Array {
  const body = new Writer(128).u8(TYPES[record.type]);
  switch (record.type) {
    case "ENTRY": {
      const { id, name, size, mode, mtime } = record.entry;
      body
        .varint(id)
        .u8(0)
        .text(name)
        .varint(size === undefined ? 0 : size + 1);
      body.varint(mode & MAX_MODE).varint(Math.min(MAX_MTIME, Math.max(0, Math.floor(mtime))));
      break;
    }
    case "CHUNK":
      body.raw(record.content);
      break;
    case "END":
      body.varint(record.size).raw(record.digest);
      break;
    case "BROKEN":
      body.varint(REASONS.indexOf(record.reason)).text(clipText(record.text, MAX_TEXT));
      break;
    case "DONE":
      break;
    case "ACCEPT":
      body.varint(record.id).varint(record.offset);
      break;
    case "STORED":
      body.varint(record.id);
      break;
    case "REFUSE":
    case "FAILED":
      body.varint(record.id).varint(REASONS.indexOf(record.reason)).text(clipText(record.text, MAX_TEXT));
      break;
  }
  return new Writer(body.length + 4).bytes(body.view()).finish();
}

/** What goes before the content of a CHUNK of `length` bytes. */
export function chunkPrefix(length: number): Uint8Array {
  return new Writer(8)
    .varint(length + 1)
    .u8(TYPES.CHUNK)
    .finish();
}

/** A record without its length. Throws PROTOCOL. */
export function decodeRecord(bytes: Uint8Array): FileRecord {
  const reader = new Reader(bytes);
  const record = readRecord(reader);
  reader.end();
  return record;
}

function readRecord(reader: Reader): FileRecord {
  const type = reader.u8();
  switch (type) {
    case TYPES.ENTRY: {
      const id = reader.varint();
      const kind = reader.u8();
      if (kind !== 0) throw protocolError(`unknown kind of entry ${kind}`);
      const name = reader.text(MAX_NAME);
      const size = reader.varint();
      const entry: Entry = {
        id,
        name,
        size: size === 0 ? undefined : size - 1,
        mode: reader.varint(MAX_MODE),
        mtime: reader.varint(MAX_MTIME),
      };
      return { type: "ENTRY", entry };
    }
    case TYPES.CHUNK: {
      const content = reader.take(reader.remaining);
      if (content.length === 0) throw protocolError("empty CHUNK");
      return { type: "CHUNK", content };
    }
    case TYPES.END:
      return { type: "END", size: reader.varint(), digest: reader.take(DIGEST_SIZE) };
    case TYPES.BROKEN:
      return { type: "BROKEN", reason: readReason(reader), text: reader.text(MAX_TEXT) };
    case TYPES.DONE:
      return { type: "DONE" };
    case TYPES.ACCEPT:
      return { type: "ACCEPT", id: reader.varint(), offset: reader.varint() };
    case TYPES.REFUSE:
      return { type: "REFUSE", id: reader.varint(), reason: readReason(reader), text: reader.text(MAX_TEXT) };
    case TYPES.STORED:
      return { type: "STORED", id: reader.varint() };
    case TYPES.FAILED:
      return { type: "FAILED", id: reader.varint(), reason: readReason(reader), text: reader.text(MAX_TEXT) };
    default:
      throw protocolError(`unknown file record ${type}`);
  }
}
