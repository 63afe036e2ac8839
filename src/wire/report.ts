/**
 * Section 11 of docs/protocol.md: what `dcpipe doctor` found, as people paste it. `dcr1`, then base64url of
 *
 *   +------+------+------+------+-----------+--------+
 *   | 0x10 | IPv4 | IPv6 | ways | place u16 | crc 16 |
 *   +------+------+------+------+-----------+--------+
 *   IPv4, IPv6: bits 0-1 UDP, 2-3 mapping, 4-5 filtering, 6-7 hairpinning
 *   ways:       bits 0-1 port mapping, 2-3 rendezvous, 4 TURN, the others 0
 *
 * It says how a network treats packets, and no address: people put it into chats and bug reports.
 */
import { DcpipeError } from "../errors.ts";
import { crc16, fromBase64url, protocolError, Reader, toBase64url, Writer } from "./bytes.ts";
import { parseAddress } from "./candidate.ts";

/** What one family of addresses lets through, in the words of RFC 4787. */
export interface FamilyReport {
  /** Whether UDP comes and goes; `none` is no address of this family. */
  readonly udp: "unknown" | "none" | "blocked" | "works";
  /** Section 4.1; `none` is no NAT, `dependent` an outer port that differs with the destination. */
  readonly mapping: "unknown" | "none" | "independent" | "dependent";
  /** Section 5. */
  readonly filtering: "unknown" | "independent" | "address" | "address-and-port";
  /** Section 6: whether a machine behind the NAT reaches another one there by its outer address. */
  readonly hairpin: Answer;
}

export type Answer = "unknown" | "yes" | "no";

/** All that a prediction for two sides needs to know of one. */
export interface Report {
  readonly ipv4: FamilyReport;
  readonly ipv6: FamilyReport;
  /** Whether the router opens ports (PCP, NAT-PMP, UPnP); `doubtful` when another NAT may stand between it and the internet. */
  readonly portMapping: Answer | "doubtful";
  /** Whether a rendezvous was reached. */
  readonly rendezvous: Answer;
  /** A TURN server that works from here is at hand. */
  readonly turn: boolean;
  /** `placeOf` the outer IPv4 address, 0 for none: two sides behind one NAT have the same. */
  readonly place: number;
}

const PREFIX = "dcr1";
const VERSION = 1;
const SIZE = 8;
/** base64url of eight bytes. */
const LENGTH = 11;
/** Far above any report: a whole file pasted by mistake is none. */
const MAX_TEXT = 4096;
/** One bit less halves what a report tells of an address, and doubles how often two networks are taken for one. */
const PLACE_BITS = 12;
const MAX_PLACE = 1 << PLACE_BITS;

const UDP = ["unknown", "none", "blocked", "works"] as const;
const MAPPINGS = ["unknown", "none", "independent", "dependent"] as const;
const FILTERINGS = ["unknown", "independent", "address", "address-and-port"] as const;
const ANSWERS = ["unknown", "yes", "no"] as const;
const PORT_MAPPINGS = [...ANSWERS, "doubtful"] as const;

export function encodeReport({ ipv4, ipv6, portMapping, rendezvous, turn, place }: Report): string {
  const ways = PORT_MAPPINGS.indexOf(portMapping) | (ANSWERS.indexOf(rendezvous) << 2) | (turn ? 16 : 0);
  const writer = new Writer(SIZE)
    .u8(VERSION << 4)
    .u8(familyByte(ipv4))
    .u8(familyByte(ipv6))
    .u8(ways)
    .u16(place);
  writer.u16(crc16(writer.view()));
  return PREFIX + toBase64url(writer.finish());
}

/**
 * Decodes pasted text: quotes, line wraps and words around the report are forgiven. Throws TOKEN_MALFORMED, TOKEN_CUT or
 * TOKEN_VERSION.
 */
export function decodeReport(text: string): Report {
  const payload = findReport(text);
  if (payload.length < LENGTH && /^[\w-]*$/.test(payload))
    throw new DcpipeError("TOKEN_CUT", "the report is cut short; copy it once more, all of it");
  try {
    return decodeBytes(fromBase64url(payload));
  } catch (cause) {
    if (cause instanceof DcpipeError && cause.code !== "PROTOCOL") throw cause;
    throw new DcpipeError("TOKEN_MALFORMED", "the report is damaged; copy it once more, all of it", {
      cause,
    });
  }
}

/** Whether some text looks like a report of any version. */
export function looksLikeReport(text: string): boolean {
  return /(^|[^A-Za-z0-9_-])dcr\d/.test(text.slice(0, MAX_TEXT));
}

/**
 * 1 to 4,096 for an IPv4 address: the same for both sides behind one NAT, and for a million other addresses of the internet, so
 * that it names nobody. 0 for what is no IPv4 address.
 */
export function placeOf(address: string | undefined): number {
  const bytes = address === undefined ? undefined : parseAddress(address);
  return bytes?.length === 4 ? 1 + (crc16(bytes) & (MAX_PLACE - 1)) : 0;
}

function decodeBytes(bytes: Uint8Array): Report {
  const version = (bytes[0] ?? 0) >> 4;
  if (version !== VERSION) throw unknownVersion(String(version));
  const reader = new Reader(bytes);
  if (reader.u8() !== VERSION << 4) throw protocolError("unknown kind of report");
  const families = [readFamily(reader.u8()), readFamily(reader.u8())] as const;
  const ways = reader.u8();
  const place = reader.u16();
  if (reader.u16() !== crc16(bytes.subarray(0, SIZE - 2))) throw protocolError("checksum");
  reader.end();
  if (ways > 31 || place > MAX_PLACE) throw protocolError("unknown flags");
  const [ipv4, ipv6] = families;
  return {
    ipv4,
    ipv6,
    portMapping: pick(PORT_MAPPINGS, ways),
    rendezvous: pick(ANSWERS, ways >> 2),
    turn: (ways & 16) !== 0,
    place,
  };
}

function familyByte({ udp, mapping, filtering, hairpin }: FamilyReport): number {
  const fields = [UDP.indexOf(udp), MAPPINGS.indexOf(mapping), FILTERINGS.indexOf(filtering)];
  return [...fields, ANSWERS.indexOf(hairpin)].reduce((byte, value, i) => byte | (value << (2 * i)), 0);
}

function readFamily(byte: number): FamilyReport {
  return {
    udp: pick(UDP, byte),
    mapping: pick(MAPPINGS, byte >> 2),
    filtering: pick(FILTERINGS, byte >> 4),
    hairpin: pick(ANSWERS, byte >> 6),
  };
}

function pick<T>(values: readonly T[], bits: number): T {
  const value = values[bits & 3];
  if (value === undefined) throw protocolError("unknown value in a report");
  return value;
}

/** The base64url part of the first report in `text`, put together from several words where it was wrapped. */
function findReport(text: string): string {
  if (text.length > MAX_TEXT) throw new DcpipeError("TOKEN_MALFORMED", "that is too long for a report");
  const bare = text.replace(/["'`“”„‘’«»<>()[\]\u200b\u200c\u200d\u2060\ufeff\u00ad]/g, "");
  const [, version, rest] = /(?:^|[^A-Za-z0-9_-])dcr(\d)(.*)$/s.exec(bare) ?? [];
  if (version === undefined || rest === undefined)
    throw new DcpipeError("TOKEN_MALFORMED", 'this is no report of dcpipe doctor: one starts with "dcr1"');
  if (version !== "1") throw unknownVersion(version);
  let payload = "";
  for (const word of rest.split(/\s+/)) {
    if (payload.length >= LENGTH) break;
    payload += word.replace(/(…|[.,;:!]+)$/, "");
  }
  return payload;
}

function unknownVersion(version: string): DcpipeError {
  return new DcpipeError(
    "TOKEN_VERSION",
    `the report is of version ${version}, and this dcpipe knows version ${VERSION}; use the same dcpipe on both sides`,
  );
}
