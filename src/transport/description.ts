/**
 * Session descriptions from their parts. Both ends derive or know every part, so no SDP text ever travels: this file writes
 * what the WebRTC library below us wants to read (RFC 8829, RFC 8841).
 */
import type { Candidate } from "./peer.ts";

export interface DescriptionParts {
  readonly type: "offer" | "answer";
  readonly ufrag: string;
  readonly pwd: string;
  /** SHA-256 of the DER certificate, 32 bytes. */
  readonly fingerprint: Uint8Array;
  readonly candidates: readonly Candidate[];
}

/** Longest message we accept. Our own frames stay near 64 KiB; the rest is room (browsers announce 256 KiB). */
export const MAX_MESSAGE_SIZE = 256 * 1024;

/**
 * The SDP of a connection with one data channel. The offer says `setup:active`, so the answering side is the DTLS server:
 * it is up before the first ClientHello comes, which saves a one-second retransmission in one connect of four.
 */
export function describe(parts: DescriptionParts): string {
  const hex = Array.from(parts.fingerprint, (byte) => byte.toString(16).padStart(2, "0").toUpperCase());
  return [
    "v=0",
    "o=- 1 1 IN IP4 127.0.0.1",
    "s=-",
    "t=0 0",
    "a=group:BUNDLE 0",
    "a=msid-semantic: WMS",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "c=IN IP4 0.0.0.0",
    "a=mid:0",
    "a=sctp-port:5000",
    `a=max-message-size:${MAX_MESSAGE_SIZE}`,
    `a=ice-ufrag:${parts.ufrag}`,
    `a=ice-pwd:${parts.pwd}`,
    `a=fingerprint:sha-256 ${hex.join(":")}`,
    `a=setup:${parts.type === "offer" ? "active" : "passive"}`,
    ...parts.candidates.map((candidate) => `a=${candidateLine(candidate)}`),
    "",
  ].join("\r\n");
}

/** RFC 8445, section 5.1.2.1: type preference, then IPv6 before IPv4, then one component. */
const TYPE_PREFERENCE = { host: 126, srflx: 100, relay: 0 } as const;

/** The candidate attribute (RFC 8839, section 5.1) without `a=`. */
export function candidateLine({ type, address, port }: Candidate): string {
  const localPreference = address.includes(":") ? 65535 : 65534;
  const priority = TYPE_PREFERENCE[type] * 2 ** 24 + localPreference * 2 ** 8 + 255;
  const related = type === "host" ? "" : " raddr 0.0.0.0 rport 0";
  return `candidate:1 1 UDP ${priority} ${address} ${port} typ ${type}${related}`;
}

/** Parses a candidate attribute; undefined for anything but a UDP address we can use. */
export function parseCandidate(line: string): Candidate | undefined {
  const match = /^(?:a=)?candidate:\S+ 1 udp \d+ (\S+) (\d+) typ (host|srflx|relay)\b/i.exec(line.trim());
  if (!match) return undefined;
  const [, address, port, type] = match;
  if (address === undefined || port === undefined || type === undefined) return undefined;
  if (Number(port) < 1 || Number(port) > 65535) return undefined;
  return {
    type: type.toLowerCase() as Candidate["type"],
    address: address.toLowerCase(),
    port: Number(port),
  };
}
