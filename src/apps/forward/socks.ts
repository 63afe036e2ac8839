/**
 * The server's side of the proxy protocols that one port of `-D` speaks, told apart by the first byte.
 *
 *   0x04     SOCKS 4 and 4a   CONNECT
 *   0x05     SOCKS 5          CONNECT and UDP ASSOCIATE (RFC 1928), without authentication: the port is on loopback
 *   letter   HTTP             CONNECT (RFC 9110, section 9.3.6)
 *
 * Names are passed on as names: the side that dials resolves them. What a client sends is believed no more than what a peer sends.
 */
import { DcpipeError } from "../../errors.ts";
import { Writer } from "../../wire/bytes.ts";
import { formatAddress, parseAddress } from "../../wire/candidate.ts";
import type { Target } from "../../wire/header.ts";
import { isHost, readPorts } from "./host.ts";

export type Dialect = "socks4" | "socks5" | "http";
export type HostTarget = Extract<Target, { type: "host" }>;

export interface SocksRequest {
  readonly command: "connect" | "associate";
  /** Of `associate`: from where the client will send; mostly 0.0.0.0 and port 0, which says that it does not know. */
  readonly target: HostTarget;
  /** What followed the request: the beginning of what goes to the target. */
  readonly rest: Uint8Array;
  readonly dialect: Dialect;
}

/** What comes of some bytes. `reply`, which may be empty, is sent to the client before anything else happens. */
export type Step =
  | { readonly type: "more"; readonly reply: Uint8Array }
  | { readonly type: "request"; readonly reply: Uint8Array; readonly request: SocksRequest }
  /** Close after the reply. REFUSED for what is not offered here, PROTOCOL for what is no request. */
  | { readonly type: "reject"; readonly reply: Uint8Array; readonly error: DcpipeError };

/** Longer than any head that browsers send to a proxy. SOCKS ends by itself within 600 bytes. */
export const MAX_HANDSHAKE = 16 * 1024;
/** User id and name in SOCKS 4a have no length of their own; SOCKS 5 allows as much. */
const MAX_FIELD = 255;

/** RFC 1928, section 6. */
const REPLY = {
  SUCCEEDED: 0,
  FAILURE: 1,
  NOT_ALLOWED: 2,
  HOST_UNREACHABLE: 4,
  REFUSED: 5,
  TTL_EXPIRED: 6,
  COMMAND: 7,
  ADDRESS_TYPE: 8,
} as const;
const NO_AUTHENTICATION = 0;
const NO_METHOD = 0xff;
const GRANTED = 0x5a;
const REJECTED = 0x5b;

const NOTHING = new Uint8Array();
const MORE: Step = { type: "more", reply: NOTHING };
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const UTF8_ENCODER = new TextEncoder();
const LATIN1 = new TextDecoder("latin1");

/** One client's way from its first byte to its request. */
export class Handshake {
  readonly #received = new Writer();
  /** Bytes of the greeting of SOCKS 5, once it was answered. */
  #greeting = 0;
  /** Up to here there is no end of HTTP's head. */
  #searched = 0;
  #over = false;

  /** Takes what the client sent. Nothing may be pushed after a request or a rejection. */
  push(chunk: Uint8Array): Step {
    if (this.#over) throw new RangeError("the handshake is over");
    const step = this.#step(this.#received.raw(chunk).view());
    this.#over = step.type !== "more";
    return step;
  }

  #step(received: Uint8Array): Step {
    const [first] = received;
    if (first === undefined) return MORE;
    if (first === 4) return socks4(received);
    if (first === 5) return this.#socks5(received);
    if ((first >= 0x41 && first <= 0x5a) || (first >= 0x61 && first <= 0x7a)) return this.#http(received);
    return reject(NOTHING, "PROTOCOL", "the client speaks neither SOCKS nor HTTP");
  }

  /** Greeting and request; a client may send both at once. */
  #socks5(received: Uint8Array): Step {
    if (this.#greeting > 0) return socks5Request(received, this.#greeting, NOTHING);
    const count = received[1];
    if (count === 0) return reject(Uint8Array.of(5, NO_METHOD), "PROTOCOL", "a SOCKS client without methods");
    if (count === undefined || received.length < 2 + count) return MORE;
    this.#greeting = 2 + count;
    if (!received.subarray(2, this.#greeting).includes(NO_AUTHENTICATION))
      return reject(Uint8Array.of(5, NO_METHOD), "REFUSED", "a SOCKS client that wants to authenticate");
    return socks5Request(received, this.#greeting, Uint8Array.of(5, NO_AUTHENTICATION));
  }

  #http(received: Uint8Array): Step {
    const end = this.#endOfHead(received.subarray(0, MAX_HANDSHAKE));
    if (end !== undefined) return http(received, end);
    if (received.length < MAX_HANDSHAKE) return MORE;
    return reject(page(431, "the request is too long"), "PROTOCOL", "an HTTP request that is too long");
  }

  /** Where the empty line ends; lines may end without a CR (RFC 9112, section 2.2). */
  #endOfHead(received: Uint8Array): number | undefined {
    for (let at = this.#searched; ; at++) {
      at = received.indexOf(0x0a, at);
      if (at < 0) break;
      // The next byte may still be missing, so this line end is looked at again.
      this.#searched = at;
      const next = received[at + 1] === 0x0d ? at + 2 : at + 1;
      if (received[next] === 0x0a) return next + 1;
      if (next >= received.length) return undefined;
    }
    this.#searched = received.length;
    return undefined;
  }
}

function reject(reply: Uint8Array, code: "PROTOCOL" | "REFUSED", message: string): Step {
  return { type: "reject", reply, error: new DcpipeError(code, message) };
}

function concat(first: Uint8Array, second: Uint8Array): Uint8Array {
  return new Writer(first.length + second.length).raw(first).raw(second).finish();
}

/** 04 | command | port | IPv4 | user id | 00, and with an address of 0.0.0.x: name | 00 */
function socks4(received: Uint8Array): Step {
  const no = (code: "PROTOCOL" | "REFUSED", message: string): Step =>
    reject(socks4Reply(REJECTED, undefined), code, message);
  if (received.length < 8) return MORE;
  const user = terminated(received, 8);
  if (user === "long") return no("PROTOCOL", "a SOCKS client with a user id that is too long");
  if (user === undefined) return MORE;
  const port = u16(received, 2);
  const address = received.subarray(4, 8);
  let end = user;
  let host: string | undefined = formatAddress(address);
  if (address[0] === 0 && address[1] === 0 && address[2] === 0 && address[3] !== 0) {
    const name = terminated(received, user);
    if (name === "long") return no("PROTOCOL", "a SOCKS client with a name that is too long");
    if (name === undefined) return MORE;
    host = readName(received.subarray(user, name - 1));
    end = name;
  }
  if (received[1] !== 1) return no("REFUSED", `SOCKS command ${received[1] ?? 0} is not offered here`);
  if (host === undefined) return no("PROTOCOL", "a SOCKS client asks for what is no host");
  if (port === 0) return no("PROTOCOL", "a SOCKS client asks for port 0");
  const target = { type: "host", host, port } as const;
  const rest = received.subarray(end);
  return {
    type: "request",
    reply: NOTHING,
    request: { command: "connect", target, rest, dialect: "socks4" },
  };
}

/** Behind the zero byte that ends the field from `start` on. */
function terminated(received: Uint8Array, start: number): number | "long" | undefined {
  const length = received.subarray(start, start + MAX_FIELD + 1).indexOf(0);
  if (length >= 0) return start + length + 1;
  return received.length - start > MAX_FIELD ? "long" : undefined;
}

/** 05 | command | 00 | address. `reply` is what answers the greeting, if that has not been sent. */
function socks5Request(received: Uint8Array, start: number, reply: Uint8Array): Step {
  const no = (status: number, code: "PROTOCOL" | "REFUSED", message: string): Step =>
    reject(concat(reply, socks5Reply(status, undefined)), code, message);
  const request = received.subarray(start);
  if (request.length > 0 && request[0] !== 5)
    return no(REPLY.FAILURE, "PROTOCOL", "a SOCKS client that changes its version");
  if (request.length < 4) return { type: "more", reply };
  const read = readSocksAddress(request, 3);
  if (read === "type")
    return no(REPLY.ADDRESS_TYPE, "PROTOCOL", "a SOCKS client with an unknown address type");
  if (read === undefined) return { type: "more", reply };
  const command = request[1] === 1 ? "connect" : request[1] === 3 ? "associate" : undefined;
  if (!command) return no(REPLY.COMMAND, "REFUSED", `SOCKS command ${request[1] ?? 0} is not offered here`);
  const { host, port, end } = read;
  if (host === undefined) return no(REPLY.FAILURE, "PROTOCOL", "a SOCKS client asks for what is no host");
  if (port === 0 && command === "connect")
    return no(REPLY.FAILURE, "PROTOCOL", "a SOCKS client asks for port 0");
  const target = { type: "host", host, port } as const;
  return {
    type: "request",
    reply,
    request: { command, target, rest: request.subarray(end), dialect: "socks5" },
  };
}

interface SocksAddress {
  /** Undefined for a name that is none. */
  readonly host: string | undefined;
  readonly port: number;
  /** Behind it. */
  readonly end: number;
}

/** RFC 1928, section 5: type | address | port. Undefined when it is cut, "type" when its type is unknown. */
function readSocksAddress(bytes: Uint8Array, start: number): SocksAddress | "type" | undefined {
  const type = bytes[start];
  if (type === undefined) return undefined;
  if (type !== 1 && type !== 3 && type !== 4) return "type";
  const from = type === 3 ? start + 2 : start + 1;
  const size = type === 1 ? 4 : type === 4 ? 16 : bytes[start + 1];
  if (size === undefined) return undefined;
  const end = from + size + 2;
  if (bytes.length < end) return undefined;
  const field = bytes.subarray(from, from + size);
  const host = type === 3 ? readName(field) : formatAddress(field);
  return { host, port: u16(bytes, end - 2), end };
}

function readName(bytes: Uint8Array): string | undefined {
  try {
    const name = UTF8.decode(bytes);
    return isHost(name) ? name : undefined;
  } catch {
    return undefined;
  }
}

function u16(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0);
}

/** A whole head of HTTP. It is judged when all of it has come: closing on bytes that were not read would reset the answer away. */
function http(received: Uint8Array, end: number): Step {
  const [line = ""] = LATIN1.decode(received.subarray(0, end)).split(/\r?\n/, 1);
  const [method = "", authority = "", version = "", ...more] = line.split(" ");
  if (more.length > 0 || !/^HTTP\/\d\.\d$/.test(version))
    return reject(
      page(400, "this is no request"),
      "PROTOCOL",
      "a client whose first line is no HTTP request",
    );
  if (method !== "CONNECT")
    return reject(
      page(405, "this is a proxy for SOCKS and HTTP CONNECT; it fetches no pages itself"),
      "REFUSED",
      "an HTTP client asks for something else than CONNECT",
    );
  const match = /^(?:\[([^[\]]*)\]|([^:[\]]*)):(\d+)$/.exec(authority);
  const host = match?.[1] ?? match?.[2] ?? "";
  const port = readPorts(match?.[3] ?? "")?.from ?? 0;
  if (!isHost(host) || port === 0)
    return reject(
      page(400, "CONNECT needs host:port"),
      "PROTOCOL",
      "an HTTP client asks for what is no host and port",
    );
  const request = {
    command: "connect",
    target: { type: "host", host, port },
    rest: received.subarray(end),
    dialect: "http",
  } as const;
  return { type: "request", reply: NOTHING, request };
}

const PHRASES: Readonly<Record<number, string>> = {
  400: "Bad Request",
  403: "Forbidden",
  405: "Method Not Allowed",
  431: "Request Header Fields Too Large",
  502: "Bad Gateway",
  504: "Gateway Timeout",
};

/** An answer of HTTP that says why, for people at terminals: so nothing in it may move their cursor. */
function page(status: number, why: string): Uint8Array {
  const body = UTF8_ENCODER.encode(`${why.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "?")}\n`);
  const head = [
    `HTTP/1.1 ${status} ${PHRASES[status] ?? ""}`,
    ...(status === 405 ? ["Allow: CONNECT"] : []),
    "Content-Type: text/plain; charset=utf-8",
    `Content-Length: ${body.length}`,
    "Connection: close",
    "\r\n",
  ].join("\r\n");
  return concat(UTF8_ENCODER.encode(head), body);
}

/** The address is 0.0.0.0 when there is none to tell, as with other proxies. */
function socks4Reply(status: number, bound: Bound | undefined): Uint8Array {
  const address = parseAddress(bound?.address ?? "");
  const known = bound && address?.length === 4 ? { address, port: bound.port } : undefined;
  const writer = new Writer(8)
    .u8(0)
    .u8(status)
    .u16(known?.port ?? 0);
  return writer.raw(known?.address ?? new Uint8Array(4)).finish();
}

function socks5Reply(status: number, bound: Bound | undefined): Uint8Array {
  const address = parseAddress(bound?.address ?? "");
  const writer = new Writer(22).u8(5).u8(status).u8(0);
  if (bound && address) return writeAddress(writer, address).u16(bound.port).finish();
  return writeAddress(writer, new Uint8Array(4)).u16(0).finish();
}

function writeAddress(writer: Writer, address: Uint8Array): Writer {
  return writer.u8(address.length === 4 ? 1 : 4).raw(address);
}

/** An IP address and a port of this machine. */
export interface Bound {
  readonly address: string;
  readonly port: number;
}

/** The connection stands; or, with `bound`, that is where datagrams are taken. */
export function success(dialect: Dialect, bound?: Bound): Uint8Array {
  if (dialect === "socks4") return socks4Reply(GRANTED, bound);
  if (dialect === "socks5") return socks5Reply(REPLY.SUCCEEDED, bound);
  return UTF8_ENCODER.encode("HTTP/1.1 200 Connection established\r\n\r\n");
}

/** There is no connection, and why, as far as the dialect can say it. The connection is closed behind it. */
export function failure(dialect: Dialect, error: DcpipeError): Uint8Array {
  if (dialect === "socks4") return socks4Reply(REJECTED, undefined);
  if (dialect === "socks5") return socks5Reply(socks5Status(error), undefined);
  return page(error.code === "REFUSED" ? 403 : error.code === "TIMEOUT" ? 504 : 502, error.message);
}

function socks5Status(error: DcpipeError): number {
  switch (error.code) {
    case "REFUSED":
      return REPLY.NOT_ALLOWED;
    // One code stands for networks and hosts out of reach; of a host that is in neither case wrong.
    case "UNREACHABLE":
    case "NAME_UNKNOWN":
      return REPLY.HOST_UNREACHABLE;
    case "CONNECTION_REFUSED":
      return REPLY.REFUSED;
    // The reply for timeouts of other proxies (tor).
    case "TIMEOUT":
      return REPLY.TTL_EXPIRED;
    default:
      return REPLY.FAILURE;
  }
}

/**
 * A datagram of a client of UDP ASSOCIATE (RFC 1928, section 7): reserved u16 | fragment u8 | address | payload. Undefined for
 * what is none, and for fragments, which a server may drop. The payload is a view.
 */
export function decodeUdpRequest(
  datagram: Uint8Array,
): { readonly target: HostTarget; readonly payload: Uint8Array } | undefined {
  if (datagram[2] !== 0) return undefined;
  const read = readSocksAddress(datagram, 3);
  if (read === undefined || read === "type" || read.host === undefined || read.port === 0) return undefined;
  return {
    target: { type: "host", host: read.host, port: read.port },
    payload: datagram.subarray(read.end),
  };
}

/** A datagram for such a client, from the address or the name that it asked for (at most 255 bytes). */
export function encodeUdpReply(address: string, port: number, payload: Uint8Array): Uint8Array {
  const writer = new Writer(payload.length + 3 + 2 + MAX_FIELD + 2).u16(0).u8(0);
  const parsed = parseAddress(address);
  if (parsed) {
    writeAddress(writer, parsed);
  } else {
    const name = UTF8_ENCODER.encode(address);
    if (name.length > MAX_FIELD) throw new RangeError("a name of more than 255 bytes");
    writer.u8(3).u8(name.length).raw(name);
  }
  return writer.u16(port).raw(payload).finish();
}
