/**
 * Section 9.4 of docs/protocol.md: HTTP on a stream of kind `http`. Each direction begins with one record, length varint | type u8 | fields;
 * what follows, up to FIN, is the body, or the frames of a WebSocket (wire/websocket.ts).
 *
 *   REQUEST   0x01 | method | path | body | fields      the opener's
 *   OPENING   0x02 | path | protocols | fields          the opener's: it wants a WebSocket
 *   RESPONSE  0x03 | status u16 | reason | fields       the acceptor's
 *   ACCEPTED  0x04 | protocol | fields                  the acceptor's: the WebSocket stands
 *
 *   body:       0x00 none | 0x01 of unknown length | 0x02 | length varint
 *   protocols:  count varint | protocol ...             fields:  count varint | (name | value) ...
 *
 * Texts are bytes with their length in front, a character each (ISO 8859-1), as in HTTP/1.1. Names of fields are in lower case. What is
 * about one connection, and what says how long a request is or whom it is for, has no field here (RFC 9110, section 7.6.1): it is not to
 * be said twice.
 */
import { DcpipeError } from "../errors.ts";
import { protocolError, Reader, Writer } from "./bytes.ts";

/** A name in lower case and a value; their order is kept, and names may come again. */
export type HttpField = readonly [name: string, value: string];

/** Bytes of a body: none, so many, or as many as there will be. */
export type BodyLength = number | "none" | "unknown";

export interface HttpRequest {
  readonly type: "REQUEST";
  readonly method: string;
  /** What stands in the request line: a path with its query, or `*`. */
  readonly path: string;
  readonly body: BodyLength;
  readonly fields: readonly HttpField[];
}

export interface HttpOpening {
  readonly type: "OPENING";
  readonly path: string;
  readonly protocols: readonly string[];
  readonly fields: readonly HttpField[];
}

export interface HttpResponse {
  readonly type: "RESPONSE";
  readonly status: number;
  readonly reason: string;
  readonly fields: readonly HttpField[];
}

export interface HttpAccepted {
  readonly type: "ACCEPTED";
  /** One of those that were asked for, or "". */
  readonly protocol: string;
  readonly fields: readonly HttpField[];
}

export type HttpRecord = HttpRequest | HttpOpening | HttpResponse | HttpAccepted;

/** All of a head: four times what servers take by default, as cookies and security policies come to several KiB. */
export const MAX_HTTP_RECORD = 64 * 1024;
/** Real heads have some thirty fields; a page that sets many cookies a hundred. */
export const MAX_FIELDS = 256;
export const MAX_FIELD_NAME = 256;
export const MAX_FIELD_VALUE = 32 * 1024;
/** Longer ones hardly any server takes. */
export const MAX_PATH = 16 * 1024;
/** The longest registered method has 16 letters. */
export const MAX_METHOD = 32;
export const MAX_REASON = 300;
/** Protocols of a WebSocket that are offered, and bytes of one. */
export const MAX_PROTOCOLS = 32;
export const MAX_PROTOCOL = 256;

/** RFC 9110, section 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const FIELD_NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
/** RFC 9110, section 5.5: no control character but the tab, and neither blank nor tab at the ends. */
const FIELD_VALUE = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/;
const REASON = /^[\t\x20-\x7e\x80-\xff]*$/;
const PATH = /^(?:\/[\x21\x22\x24-\x7e]*|\*)$/;
/** They make a tunnel of the connection, or show what proxies have added: fetch knows neither (Fetch, section 2.2.1). */
const FORBIDDEN_METHODS = ["CONNECT", "TRACE", "TRACK"];

/** About one connection alone (RFC 9110, section 7.6.1), and what both sides see to themselves. */
const OWN_FIELDS: readonly string[] = [
  "connection",
  "expect",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];

/** Whether a field of this name, in lower case, may stand in a record. */
export function mayTravel(type: HttpRecord["type"], name: string): boolean {
  if (OWN_FIELDS.includes(name)) return false;
  if (name === "content-length") return type === "RESPONSE";
  return !(name.startsWith("sec-websocket-") && (type === "OPENING" || type === "ACCEPTED"));
}

export function isMethod(text: string): boolean {
  return TOKEN.test(text) && text.length <= MAX_METHOD && !FORBIDDEN_METHODS.includes(text.toUpperCase());
}

export function isPath(text: string): boolean {
  return PATH.test(text) && text.length <= MAX_PATH;
}

/** Whether it can be the name of a subprotocol: a token. */
export function isProtocol(text: string): boolean {
  return TOKEN.test(text) && text.length <= MAX_PROTOCOL;
}

const TYPES = ["REQUEST", "OPENING", "RESPONSE", "ACCEPTED"] as const;

/** The record with its length in front. Throws USAGE for what may not be sent, LIMIT for what is too much. */
export function encodeHttpRecord(record: HttpRecord): Uint8Array {
  const problem = problemOf(record);
  if (problem !== undefined) throw new DcpipeError("USAGE", problem);
  const writer = new Writer(512).u8(1 + TYPES.indexOf(record.type));
  switch (record.type) {
    case "REQUEST":
      latin(latin(writer, record.method), record.path);
      if (record.body === "none") writer.u8(0);
      else if (record.body === "unknown") writer.u8(1);
      else writer.u8(2).varint(record.body);
      break;
    case "OPENING":
      latin(writer, record.path).varint(record.protocols.length);
      for (const protocol of record.protocols) latin(writer, protocol);
      break;
    case "RESPONSE":
      latin(writer.u16(record.status), record.reason);
      break;
    case "ACCEPTED":
      latin(writer, record.protocol);
  }
  writer.varint(record.fields.length);
  for (const [name, value] of record.fields) latin(latin(writer, name), value);
  if (writer.length > MAX_HTTP_RECORD)
    throw new DcpipeError("LIMIT", `a head of ${writer.length} bytes, at most ${MAX_HTTP_RECORD}`);
  return new Writer(writer.length + 4).bytes(writer.view()).finish();
}

/** The record in `bytes`, which its length has been taken off. Throws PROTOCOL. */
export function decodeHttpRecord(bytes: Uint8Array): HttpRecord {
  const reader = new Reader(bytes);
  const type = TYPES[reader.u8() - 1];
  if (!type) throw protocolError("unknown record of HTTP");
  const record = readRecord(reader, type);
  reader.end();
  const problem = problemOf(record);
  if (problem !== undefined) throw protocolError(problem);
  return record;
}

function readRecord(reader: Reader, type: HttpRecord["type"]): HttpRecord {
  switch (type) {
    case "REQUEST":
      return {
        type,
        method: text(reader, MAX_METHOD),
        path: text(reader, MAX_PATH),
        body: readBody(reader),
        fields: readFields(reader),
      };
    case "OPENING":
      return {
        type,
        path: text(reader, MAX_PATH),
        protocols: Array.from({ length: reader.varint(MAX_PROTOCOLS) }, () => text(reader, MAX_PROTOCOL)),
        fields: readFields(reader),
      };
    case "RESPONSE":
      return { type, status: reader.u16(), reason: text(reader, MAX_REASON), fields: readFields(reader) };
    case "ACCEPTED":
      return { type, protocol: text(reader, MAX_PROTOCOL), fields: readFields(reader) };
  }
}

function readBody(reader: Reader): BodyLength {
  const kind = reader.u8();
  if (kind > 2) throw protocolError("unknown kind of body");
  return kind === 2 ? reader.varint() : kind === 1 ? "unknown" : "none";
}

function readFields(reader: Reader): HttpField[] {
  const count = reader.varint(MAX_FIELDS);
  return Array.from({ length: count }, () => [text(reader, MAX_FIELD_NAME), text(reader, MAX_FIELD_VALUE)]);
}

/** Why the record may not be, or undefined. The same on both sides: what would break out of a head is neither sent nor taken. */
function problemOf(record: HttpRecord): string | undefined {
  switch (record.type) {
    case "REQUEST":
      if (!isMethod(record.method)) return "a request with a method that may not be";
      if (!isPath(record.path)) return "a request with a path that is none";
      break;
    case "OPENING":
      if (!isPath(record.path) || record.path === "*") return "a WebSocket with a path that is none";
      if (record.protocols.length > MAX_PROTOCOLS) return "too many protocols of a WebSocket";
      if (!record.protocols.every(isProtocol)) return "a protocol of a WebSocket that is none";
      if (new Set(record.protocols).size < record.protocols.length) return "a protocol of a WebSocket twice";
      break;
    case "RESPONSE":
      // 1xx come before the answer, and are not passed on.
      if (record.status < 200 || record.status > 999) return "a response with a status that is none";
      if (!REASON.test(record.reason) || record.reason.length > MAX_REASON)
        return "a response with a reason phrase that may not be";
      break;
    case "ACCEPTED":
      if (record.protocol !== "" && !isProtocol(record.protocol))
        return "a protocol of a WebSocket that is none";
  }
  return problemOfFields(record);
}

function problemOfFields({ type, fields }: HttpRecord): string | undefined {
  if (fields.length > MAX_FIELDS) return `${fields.length} header fields, at most ${MAX_FIELDS}`;
  for (const [name, value] of fields) {
    if (!FIELD_NAME.test(name) || name.length > MAX_FIELD_NAME) return "a header field whose name is none";
    if (!FIELD_VALUE.test(value) || value.length > MAX_FIELD_VALUE)
      return `a header field ${name} whose value may not be`;
    if (!mayTravel(type, name)) return `a header field ${name}, which does not travel`;
  }
  return undefined;
}

function latin(writer: Writer, text: string): Writer {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return writer.bytes(bytes);
}

function text(reader: Reader, max: number): string {
  let text = "";
  for (const byte of reader.bytes(max)) text += String.fromCharCode(byte);
  return text;
}
