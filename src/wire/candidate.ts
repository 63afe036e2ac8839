/**
 * Section 2.1 of docs/protocol.md: a list of UDP addresses.
 *
 *   +--------+-------------+------------------------------------------+
 *   | count  | shared port | count times: tag, address, [port]         |
 *   | u8     | u16         |                                           |
 *   +--------+-------------+------------------------------------------+
 *   tag: bit 0 IPv6 | bits 1-2 type (0 host, 1 srflx, 2 relay) | bit 3 own port follows (u16)
 *
 * The addresses of one socket share its port, hence the shared port in front.
 */
import { protocolError, type Reader, type Writer } from "./bytes.ts";

export type CandidateType = "host" | "srflx" | "relay";

/** An address at which one end may be reached over UDP (RFC 8445, section 5.1). */
export interface Candidate {
  readonly type: CandidateType;
  /** IPv4 dotted quad, or IPv6 in its canonical text form (RFC 5952). */
  readonly address: string;
  readonly port: number;
}

/** libjuice takes at most 30 remote candidates; 15 addresses keep a token short enough for one line of chat. */
export const MAX_CANDIDATES = 15;

const TYPES: readonly CandidateType[] = ["host", "srflx", "relay"];

export function writeCandidates(writer: Writer, candidates: readonly Candidate[]): void {
  const list = candidates.slice(0, MAX_CANDIDATES);
  const shared = list[0]?.port ?? 0;
  writer.u8(list.length).u16(shared);
  for (const { type, address, port } of list) {
    const bytes = parseAddress(address);
    if (!bytes) throw new RangeError(`not an IP address: ${address}`);
    const own = port === shared ? 0 : 8;
    writer.u8((bytes.length === 16 ? 1 : 0) | (TYPES.indexOf(type) << 1) | own).raw(bytes);
    if (own) writer.u16(port);
  }
}

export function readCandidates(reader: Reader): Candidate[] {
  const count = reader.u8();
  if (count > MAX_CANDIDATES) throw protocolError(`${count} addresses, at most ${MAX_CANDIDATES} allowed`);
  const shared = reader.u16();
  const list: Candidate[] = [];
  for (let i = 0; i < count; i++) {
    const tag = reader.u8();
    const type = TYPES[(tag >> 1) & 3];
    if (tag > 15 || !type) throw protocolError("unknown kind of address");
    const address = formatAddress(reader.take(tag & 1 ? 16 : 4));
    const port = tag & 8 ? reader.u16() : shared;
    if (port === 0) throw protocolError("address with port 0");
    if (tag & 8 && port === shared) throw protocolError("port written twice");
    if (i === 0 && port !== shared) throw protocolError("first address does not use the shared port");
    list.push({ type, address, port });
  }
  if (count === 0 && shared !== 0) throw protocolError("port without an address");
  return list;
}

/** 4 or 16 bytes of an IP address in text, or undefined when it is none (names, zones and `.local` are none). */
export function parseAddress(text: string): Uint8Array | undefined {
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text);
}

function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  const out = new Uint8Array(4);
  for (const [i, part] of parts.entries()) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    out[i] = Number(part);
  }
  return out;
}

function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0] ?? "");
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? "") : [];
  if (!head || !tail) return undefined;
  const gap = 8 - head.length - tail.length;
  if (halves.length === 2 ? gap < 1 : gap !== 0) return undefined;
  const groups = [...head, ...new Array<number>(gap).fill(0), ...tail];
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
}

function parseGroups(text: string): number[] | undefined {
  if (text === "") return [];
  const out: number[] = [];
  const parts = text.split(":");
  for (const [i, part] of parts.entries()) {
    if (i === parts.length - 1 && part.includes(".")) {
      const v4 = parseIpv4(part);
      if (!v4) return undefined;
      out.push(((v4[0] ?? 0) << 8) | (v4[1] ?? 0), ((v4[2] ?? 0) << 8) | (v4[3] ?? 0));
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      out.push(parseInt(part, 16));
    } else {
      return undefined;
    }
  }
  return out;
}

/** The canonical text of 4 or 16 address bytes (RFC 5952: lower case, longest run of zeros as `::`). */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const hex = (part: number[]): string => part.map((group) => group.toString(16)).join(":");
  if (best.start < 0) return hex(groups);
  return `${hex(groups.slice(0, best.start))}::${hex(groups.slice(best.start + best.length))}`;
}
