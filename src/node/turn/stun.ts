/** STUN messages as TURN uses them, with long-term credentials: bytes <-> values (RFC 8489, sections 5 and 14; RFC 8656, section 18). */
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";

export const METHOD = {
  ALLOCATE: 0x003,
  REFRESH: 0x004,
  SEND: 0x006,
  DATA: 0x007,
  CREATE_PERMISSION: 0x008,
  CHANNEL_BIND: 0x009,
} as const;

export const CLASS = { REQUEST: 0, INDICATION: 1, SUCCESS: 2, ERROR: 3 } as const;

export const ATTRIBUTE = {
  USERNAME: 0x0006,
  MESSAGE_INTEGRITY: 0x0008,
  ERROR_CODE: 0x0009,
  CHANNEL_NUMBER: 0x000c,
  LIFETIME: 0x000d,
  XOR_PEER_ADDRESS: 0x0012,
  DATA: 0x0013,
  REALM: 0x0014,
  NONCE: 0x0015,
  XOR_RELAYED_ADDRESS: 0x0016,
  REQUESTED_TRANSPORT: 0x0019,
  PRIORITY: 0x0024,
  ALTERNATE_DOMAIN: 0x8003,
  SOFTWARE: 0x8022,
  ALTERNATE_SERVER: 0x8023,
} as const;

export const HEADER_SIZE = 20;
export const TRANSACTION_SIZE = 12;
const MAGIC_COOKIE = 0x2112a442;
const INTEGRITY_SIZE = 20;
/** Type and length. */
const ATTRIBUTE_HEADER_SIZE = 4;
const FAMILY_IPV4 = 1;
const FAMILY_IPV6 = 2;
/** One that says no user name is behind it. */
const TOP_BITS = 0xc000;

export interface StunMessage {
  readonly method: number;
  readonly class: number;
  /** 12 bytes that a response has in common with its request. */
  readonly transaction: Buffer;
  /** The first of each type, up to MESSAGE-INTEGRITY, which covers what stands before it. */
  readonly attributes: ReadonlyMap<number, Buffer>;
  /** Where MESSAGE-INTEGRITY begins, if there is one. */
  readonly integrityAt: number | undefined;
}

/** An IP address, 4 or 16 bytes, and a port. */
export interface TransportAddress {
  readonly bytes: Buffer;
  readonly port: number;
}

/** The message, or undefined for what is none: other bytes, or one whose lengths do not fit. */
export function decodeStun(message: Buffer): StunMessage | undefined {
  if (!isStun(message) || message.length !== HEADER_SIZE + message.readUInt16BE(2)) return undefined;
  const type = message.readUInt16BE(0);
  const attributes = new Map<number, Buffer>();
  let integrityAt: number | undefined;
  for (let at = HEADER_SIZE; at < message.length;) {
    if (at + ATTRIBUTE_HEADER_SIZE > message.length) return undefined;
    const attribute = message.readUInt16BE(at);
    const start = at + ATTRIBUTE_HEADER_SIZE;
    const end = start + message.readUInt16BE(at + 2);
    if (end > message.length) return undefined;
    if (integrityAt === undefined) {
      if (attribute === ATTRIBUTE.MESSAGE_INTEGRITY) integrityAt = at;
      if (!attributes.has(attribute)) attributes.set(attribute, message.subarray(start, end));
    }
    at = padded(end);
  }
  return {
    method: (type & 0x000f) | ((type & 0x00e0) >> 1) | ((type & 0x3e00) >> 2),
    class: ((type & 0x0010) >> 4) | ((type & 0x0100) >> 7),
    transaction: message.subarray(8, HEADER_SIZE),
    attributes,
    integrityAt,
  };
}

/** Whether these bytes, the first twenty at least, begin as a STUN message does. */
export function isStun(bytes: Buffer): boolean {
  return (
    bytes.length >= HEADER_SIZE &&
    (bytes.readUInt16BE(0) & TOP_BITS) === 0 &&
    bytes.readUInt16BE(2) % 4 === 0 &&
    bytes.readUInt32BE(4) === MAGIC_COOKIE
  );
}

export type Attribute = readonly [type: number, value: Buffer];

/** A message, with MESSAGE-INTEGRITY at its end when there is a key. */
export function encodeStun(
  message: {
    readonly method: number;
    readonly class: number;
    readonly transaction: Buffer;
    readonly attributes: readonly Attribute[];
  },
  key?: Buffer,
): Buffer {
  const { method, transaction, attributes } = message;
  const header = Buffer.alloc(HEADER_SIZE);
  const bits = ((message.class & 1) << 4) | ((message.class & 2) << 7);
  header.writeUInt16BE((method & 0x000f) | ((method & 0x0070) << 1) | ((method & 0x0f80) << 2) | bits, 0);
  header.writeUInt32BE(MAGIC_COOKIE, 4);
  transaction.copy(header, 8);
  const parts = [header];
  for (const [type, value] of attributes) {
    const attribute = Buffer.alloc(padded(ATTRIBUTE_HEADER_SIZE + value.length));
    attribute.writeUInt16BE(type, 0);
    attribute.writeUInt16BE(value.length, 2);
    value.copy(attribute, ATTRIBUTE_HEADER_SIZE);
    parts.push(attribute);
  }
  const plain = Buffer.concat(parts);
  if (!key) {
    plain.writeUInt16BE(plain.length - HEADER_SIZE, 2);
    return plain;
  }
  const integrity = Buffer.alloc(ATTRIBUTE_HEADER_SIZE + INTEGRITY_SIZE);
  integrity.writeUInt16BE(ATTRIBUTE.MESSAGE_INTEGRITY, 0);
  integrity.writeUInt16BE(INTEGRITY_SIZE, 2);
  plain.writeUInt16BE(plain.length + integrity.length - HEADER_SIZE, 2);
  createHmac("sha1", key).update(plain).digest().copy(integrity, ATTRIBUTE_HEADER_SIZE);
  return Buffer.concat([plain, integrity]);
}

/** Whether the message carries a MESSAGE-INTEGRITY made with this key. */
export function hasIntegrity(
  message: Buffer,
  { integrityAt, attributes }: StunMessage,
  key: Buffer,
): boolean {
  const given = attributes.get(ATTRIBUTE.MESSAGE_INTEGRITY);
  if (integrityAt === undefined || given?.length !== INTEGRITY_SIZE) return false;
  const covered = Buffer.from(message.subarray(0, integrityAt));
  // What may follow it, a FINGERPRINT, does not count (RFC 8489, section 14.5).
  covered.writeUInt16BE(integrityAt + ATTRIBUTE_HEADER_SIZE + INTEGRITY_SIZE - HEADER_SIZE, 2);
  return timingSafeEqual(createHmac("sha1", key).update(covered).digest(), given);
}

/** The key of long-term credentials (RFC 8489, section 9.2.2). */
export function longTermKey(username: string, realm: Buffer, password: string): Buffer {
  return createHash("md5").update(`${username}:`).update(realm).update(`:${password}`).digest();
}

export function newTransaction(): Buffer {
  return randomBytes(TRANSACTION_SIZE);
}

/** The code of an error response, 300 to 699, or 0 when it does not say. */
export function errorCode({ attributes }: StunMessage): number {
  const value = attributes.get(ATTRIBUTE.ERROR_CODE);
  if (!value || value.length < 4) return 0;
  const code = (value.readUInt8(2) & 7) * 100 + value.readUInt8(3);
  return code >= 300 && code <= 699 ? code : 0;
}

export function encodeError(code: number): Attribute {
  return [ATTRIBUTE.ERROR_CODE, Buffer.from([0, 0, Math.floor(code / 100), code % 100])];
}

export function encodeUInt32(type: number, value: number): Attribute {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value, 0);
  return [type, bytes];
}

/** XOR-MAPPED-ADDRESS and its like (RFC 8489, section 14.2), or undefined for what is none. */
export function decodeXorAddress(
  value: Buffer | undefined,
  transaction: Buffer,
): TransportAddress | undefined {
  const address = decodeAddress(value);
  return address && { bytes: xor(address.bytes, transaction), port: address.port ^ (MAGIC_COOKIE >>> 16) };
}

/** MAPPED-ADDRESS and its like (RFC 8489, section 14.1), or undefined for what is none. */
export function decodeAddress(value: Buffer | undefined): TransportAddress | undefined {
  if (!value || value.length < 4) return undefined;
  const size = value.readUInt8(1) === FAMILY_IPV4 ? 4 : value.readUInt8(1) === FAMILY_IPV6 ? 16 : 0;
  if (size === 0 || value.length !== 4 + size) return undefined;
  return { bytes: value.subarray(4), port: value.readUInt16BE(2) };
}

export function encodeXorAddress(
  type: number,
  { bytes, port }: TransportAddress,
  transaction: Buffer,
): Attribute {
  const head = Buffer.from([0, bytes.length === 4 ? FAMILY_IPV4 : FAMILY_IPV6, 0, 0]);
  head.writeUInt16BE(port ^ (MAGIC_COOKIE >>> 16), 2);
  return [type, Buffer.concat([head, xor(bytes, transaction)])];
}

function xor(bytes: Buffer, transaction: Buffer): Buffer {
  const mask = Buffer.alloc(4 + TRANSACTION_SIZE);
  mask.writeUInt32BE(MAGIC_COOKIE, 0);
  transaction.copy(mask, 4);
  return Buffer.from(bytes.map((byte, index) => byte ^ (mask[index] ?? 0)));
}

/** As people write it, `192.0.2.1:3478` or `[2001:db8::1]:3478`. */
export function formatAddress({ bytes, port }: TransportAddress): string {
  return bytes.length === 4 ? `${formatHost(bytes)}:${port}` : `[${formatHost(bytes)}]:${port}`;
}

/** Without the port, IPv6 as RFC 5952 has it. */
export function formatHost(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16));
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
}

/** Attributes begin at multiples of four. */
function padded(length: number): number {
  return (length + 3) & ~3;
}
