/**
 * Section 1 of docs/protocol.md: integers, byte strings and base64url. Decoders throw DcpipeError PROTOCOL and nothing else.
 *
 *   varint   QUIC's variable-length integer (RFC 9000, section 16), shortest form only, at most 2^53 - 1
 *            00xxxxxx | 01xxxxxx +1 | 10xxxxxx +3 | 11xxxxxx +7 bytes, big endian
 *   bytes    varint length, then that many bytes
 *   text     bytes that are well-formed UTF-8
 */
import { DcpipeError } from "../errors.ts";

export function protocolError(message: string): DcpipeError {
  return new DcpipeError("PROTOCOL", message);
}

/** Reads values off the front of a buffer; views, never copies. */
export class Reader {
  readonly #data: Uint8Array;
  #at = 0;

  constructor(data: Uint8Array) {
    this.#data = data;
  }

  get remaining(): number {
    return this.#data.length - this.#at;
  }

  u8(): number {
    const value = this.#data[this.#at];
    if (value === undefined) throw protocolError("message ends early");
    this.#at++;
    return value;
  }

  u16(): number {
    return this.u8() * 256 + this.u8();
  }

  /** A variable-length integer, at most `max`. */
  varint(max = Number.MAX_SAFE_INTEGER): number {
    const first = this.u8();
    const size = 1 << (first >> 6);
    let value = first & 0x3f;
    for (let i = 1; i < size; i++) {
      value = value * 256 + this.u8();
    }
    if (value > Number.MAX_SAFE_INTEGER) throw protocolError("integer above 2^53 - 1");
    if (size !== varintSize(value)) throw protocolError("integer not in its shortest form");
    if (value > max) throw protocolError(`integer ${value} above the limit of ${max}`);
    return value;
  }

  take(length: number): Uint8Array {
    if (length > this.remaining) throw protocolError("message ends early");
    const view = this.#data.subarray(this.#at, this.#at + length);
    this.#at += length;
    return view;
  }

  /** A length-prefixed byte string of at most `max` bytes. */
  bytes(max: number): Uint8Array {
    return this.take(this.varint(max));
  }

  /** A length-prefixed UTF-8 text of at most `max` bytes. */
  text(max: number): string {
    try {
      return UTF8.decode(this.bytes(max));
    } catch (error) {
      if (error instanceof DcpipeError) throw error;
      throw protocolError("text is not UTF-8");
    }
  }

  end(): void {
    if (this.remaining > 0) throw protocolError(`${this.remaining} trailing bytes`);
  }
}

/** Appends values to a growing buffer. */
export class Writer {
  #data: Uint8Array;
  #length = 0;

  constructor(capacity = 64) {
    this.#data = new Uint8Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  u8(value: number): this {
    this.#reserve(1)[0] = value;
    return this;
  }

  u16(value: number): this {
    return this.u8(value >> 8).u8(value & 0xff);
  }

  varint(value: number): this {
    const size = varintSize(value);
    const at = this.#reserve(size);
    let rest = value;
    for (let i = size - 1; i >= 0; i--) {
      at[i] = rest % 256;
      rest = Math.floor(rest / 256);
    }
    at[0] = (at[0] ?? 0) | (VARINT_PREFIX[size] ?? 0);
    return this;
  }

  raw(bytes: Uint8Array): this {
    this.#reserve(bytes.length).set(bytes);
    return this;
  }

  bytes(bytes: Uint8Array): this {
    return this.varint(bytes.length).raw(bytes);
  }

  text(text: string): this {
    return this.bytes(UTF8_ENCODER.encode(text));
  }

  /** The bytes written so far; a view that the next `reset` invalidates. */
  view(): Uint8Array {
    return this.#data.subarray(0, this.#length);
  }

  /** A copy of the bytes written so far. */
  finish(): Uint8Array {
    return this.#data.slice(0, this.#length);
  }

  reset(): this {
    this.#length = 0;
    return this;
  }

  #reserve(size: number): Uint8Array {
    const start = this.#length;
    const end = start + size;
    if (end > this.#data.length) {
      const grown = new Uint8Array(Math.max(end, this.#data.length * 2));
      grown.set(this.#data.subarray(0, start));
      this.#data = grown;
    }
    this.#length = end;
    return this.#data.subarray(start, end);
  }
}

/** Bytes that `value` takes as a varint: 1, 2, 4 or 8. */
export function varintSize(value: number): 1 | 2 | 4 | 8 {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not a varint: ${value}`);
  if (value < 0x40) return 1;
  if (value < 0x4000) return 2;
  if (value < 0x40000000) return 4;
  return 8;
}

const VARINT_PREFIX: Readonly<Record<number, number>> = { 1: 0x00, 2: 0x40, 4: 0x80, 8: 0xc0 };
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const UTF8_ENCODER = new TextEncoder();

/** The text, or as much of its beginning as fits `max` bytes of UTF-8 with dots behind it. */
export function clipText(text: string, max: number): string {
  const bytes = UTF8_ENCODER.encode(text);
  if (bytes.length <= max) return text;
  let end = max - 3;
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return `${UTF8.decode(bytes.subarray(0, end))}…`;
}

/** base64url without padding (RFC 4648, section 5). */
export function toBase64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replace(/=+$/, "");
}

/** Strict base64url: no padding, no foreign characters, unused bits zero. */
export function fromBase64url(text: string): Uint8Array {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) throw protocolError("not base64url");
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(binary, (c) => c.charCodeAt(0));
  if (toBase64url(bytes) !== text) throw protocolError("base64url with stray bits");
  return bytes;
}

/** Compares without telling by its time where the first difference is. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (const [i, byte] of a.entries()) difference |= byte ^ (b[i] ?? 0);
  return difference === 0;
}

/** CRC-16/CCITT-FALSE: polynomial 0x1021, start 0xffff. */
export function crc16(bytes: Uint8Array): number {
  let crc = 0xffff;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++)
      crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
  }
  return crc;
}
