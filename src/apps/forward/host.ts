/** Hosts and ports as text: what rules, targets and SOCKS requests have in common. */
import type { Protocol } from "../../wire/forward.ts";
import { formatAddress, parseAddress } from "../../wire/candidate.ts";
import { MAX_HOST } from "../../wire/header.ts";

/** An IP address in its one form. */
export interface IpAddress {
  /** 4 or 16 bytes. */
  readonly bytes: Uint8Array;
  /** RFC 5952, with its zone if it has one. */
  readonly text: string;
}

/** Ports from the first to the last, both included. */
export interface Ports {
  readonly from: number;
  readonly to: number;
}

const UTF8 = new TextEncoder();
/** Letters of every script, as resolvers take international names. Nothing of it means anything to a shell or in a glob. */
const NAME = /^[\p{L}\p{N}_][\p{L}\p{N}\p{M}_.-]*$/u;
/** The interface of a link-local address (RFC 4007, section 11); Linux allows 15 characters, others numbers. */
const ZONE = /^[A-Za-z0-9_.-]{1,32}$/;
const MAPPED = parseAddress("::ffff:0:0") ?? new Uint8Array();

/** Whether it can be sent as a host: a name, or an address (IPv6 without brackets). Whether it exists is for the resolver to say. */
export function isHost(text: string): boolean {
  if (text.includes(":")) return readAddress(text) !== undefined;
  return NAME.test(text) && fits(text);
}

/** Whether it is the path of a unix socket as it can be sent: absolute, as the two sides share no working directory. */
export function isPath(text: string): boolean {
  return text.startsWith("/") && !text.includes("\0") && fits(text);
}

function fits(text: string): boolean {
  return UTF8.encode(text).length <= MAX_HOST;
}

/** Without the dot that ends a fully qualified name, in lower case: names that differ in these are the same (RFC 4343). */
export function plainName(host: string): string {
  return host.toLowerCase().replace(/\.$/, "");
}

/**
 * An address in the form in which addresses are compared and dialled, or undefined when it is none. IPv4-mapped IPv6 is its IPv4
 * address (RFC 4291, section 2.5.5.2). 0.0.0.0 and :: are the loopback addresses, which is where systems connect to when asked
 * for them.
 */
export function readAddress(text: string): IpAddress | undefined {
  const at = text.indexOf("%");
  const zone = at < 0 ? undefined : text.slice(at + 1);
  const parsed = parseAddress(at < 0 ? text : text.slice(0, at));
  if (!parsed || (zone !== undefined && (parsed.length === 4 || !ZONE.test(zone)))) return undefined;
  let bytes = unmapped(parsed);
  if (bytes.every((byte) => byte === 0))
    bytes = bytes.length === 4 ? Uint8Array.of(127, 0, 0, 1) : bytes.with(15, 1);
  const plain = formatAddress(bytes);
  return { bytes, text: zone === undefined || bytes.length === 4 ? plain : `${plain}%${zone}` };
}

/** The 4 bytes of an IPv4-mapped address, any other as it is. */
export function unmapped(bytes: Uint8Array): Uint8Array {
  const mapped = bytes.length === 16 && bytes.subarray(0, 12).every((byte, i) => byte === MAPPED[i]);
  return mapped ? bytes.slice(12) : bytes;
}

/** `80` or `8000-8010`, each of 0 to 65535; undefined when it is neither. */
export function readPorts(text: string): Ports | undefined {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  if (!match) return undefined;
  const from = Number(match[1]);
  const to = Number(match[2] ?? match[1]);
  return from <= to && to <= 65535 ? { from, to } : undefined;
}

/** Takes `/tcp` or `/udp` off the end. */
export function splitProtocol(text: string): { rest: string; protocol: Protocol | undefined } {
  if (text.endsWith("/tcp")) return { rest: text.slice(0, -4), protocol: "tcp" };
  if (text.endsWith("/udp")) return { rest: text.slice(0, -4), protocol: "udp" };
  return { rest: text, protocol: undefined };
}

/** `example.com:80`, `[::1]:80` */
export function formatHostPort(host: string, port: number): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}
