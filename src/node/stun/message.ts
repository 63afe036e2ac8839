/**
 * STUN Binding messages (RFC 8489, sections 5, 14.1 and 14.2), with what NAT behaviour discovery adds (RFC 5780, section 7).
 *
 *   +----------+-----------+------------+----------------+---------------------------------------------+
 *   | type u16 | length u16| cookie u32 | transaction 12 | attributes: type u16 | length u16 | value, padded |
 *   +----------+-----------+------------+----------------+---------------------------------------------+
 */
import { SocketAddress } from "node:net";

/** An address with a port; the address in its canonical text. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** Which other source the server is asked to answer from (RFC 5780, section 7.2). */
export interface Change {
  readonly address: boolean;
  readonly port: boolean;
}

export type StunMessage =
  | {
      readonly type: "success";
      readonly transaction: string;
      /** Where the request came from, as the server saw it. */
      readonly mapped: Endpoint;
      /** The server's other address and port (RFC 5780, section 7.4), when it knows behaviour discovery. */
      readonly other: Endpoint | undefined;
    }
  | { readonly type: "error"; readonly transaction: string; readonly code: number }
  | { readonly type: "indication"; readonly transaction: string };

export const TRANSACTION_SIZE = 12;

const HEADER_SIZE = 20;
const MAGIC_COOKIE = 0x2112a442;
const REQUEST = 0x0001;
const INDICATION = 0x0011;
const SUCCESS = 0x0101;
const ERROR = 0x0111;

const MAPPED_ADDRESS = 0x0001;
const CHANGE_REQUEST = 0x0003;
const ERROR_CODE = 0x0009;
const XOR_MAPPED_ADDRESS = 0x0020;
const OTHER_ADDRESS = 0x802c;

const IPV4 = 1;
const IPV6 = 2;

export function encodeRequest(transaction: Uint8Array, change?: Change): Buffer {
  if (!change) return header(REQUEST, transaction, 0);
  const attribute = Buffer.alloc(8);
  attribute.writeUInt16BE(CHANGE_REQUEST, 0);
  attribute.writeUInt16BE(4, 2);
  attribute.writeUInt32BE((change.address ? 4 : 0) | (change.port ? 2 : 0), 4);
  return Buffer.concat([header(REQUEST, transaction, attribute.length), attribute]);
}

/** A Binding indication: asks for nothing, and is not answered. */
export function encodeIndication(transaction: Uint8Array): Buffer {
  return header(INDICATION, transaction, 0);
}

/** Undefined for whatever is no whole STUN message of these types. Never throws. */
export function decodeMessage(message: Buffer): StunMessage | undefined {
  if (message.length < HEADER_SIZE || message.length % 4 !== 0) return undefined;
  if (message.readUInt16BE(2) !== message.length - HEADER_SIZE) return undefined;
  if (message.readUInt32BE(4) !== MAGIC_COOKIE) return undefined;
  const transaction = message.toString("hex", 8, HEADER_SIZE);
  const type = message.readUInt16BE(0);
  if (type === INDICATION) return { type: "indication", transaction };
  const attributes = type === SUCCESS || type === ERROR ? readAttributes(message) : undefined;
  if (!attributes) return undefined;
  if (type === ERROR) {
    const value = attributes.get(ERROR_CODE);
    if (!value || value.length < 4) return undefined;
    return { type: "error", transaction, code: (value.readUInt8(2) & 7) * 100 + value.readUInt8(3) };
  }
  const xored = attributes.get(XOR_MAPPED_ADDRESS);
  // Servers of RFC 3489 know the plain attribute only.
  const plain = attributes.get(MAPPED_ADDRESS);
  const mapped = xored ? readEndpoint(unmask(xored, message)) : plain && readEndpoint(plain);
  if (!mapped) return undefined;
  const other = attributes.get(OTHER_ADDRESS);
  return { type: "success", transaction, mapped, other: other && readEndpoint(other) };
}

function header(type: number, transaction: Uint8Array, length: number): Buffer {
  const message = Buffer.alloc(HEADER_SIZE);
  message.writeUInt16BE(type, 0);
  message.writeUInt16BE(length, 2);
  message.writeUInt32BE(MAGIC_COOKIE, 4);
  message.set(transaction, 8);
  return message;
}

/** The first of each type counts (RFC 8489, section 14); undefined when one does not fit. */
function readAttributes(message: Buffer): Map<number, Buffer> | undefined {
  const found = new Map<number, Buffer>();
  let at = HEADER_SIZE;
  while (at < message.length) {
    const type = message.readUInt16BE(at);
    const length = message.readUInt16BE(at + 2);
    const end = at + 4 + length;
    if (end > message.length) return undefined;
    if (!found.has(type)) found.set(type, message.subarray(at + 4, end));
    at = end + (-length & 3);
  }
  return found;
}

/** XOR with the cookie and the transaction, which follow one another in the header. */
function unmask(value: Buffer, message: Buffer): Buffer {
  const plain = Buffer.from(value);
  for (let i = 2; i < plain.length; i++) {
    const mask = message[4 + (i < 4 ? i - 2 : i - 4)] ?? 0;
    plain[i] = (plain[i] ?? 0) ^ mask;
  }
  return plain;
}

function readEndpoint(value: Buffer): Endpoint | undefined {
  const family = value[1];
  if (value.length !== (family === IPV4 ? 8 : family === IPV6 ? 20 : -1)) return undefined;
  const port = value.readUInt16BE(2);
  const address = formatAddress(value.subarray(4));
  return port === 0 ? undefined : { address, port };
}

function formatAddress(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16));
  return new SocketAddress({ address: groups.join(":"), family: "ipv6" }).address;
}
