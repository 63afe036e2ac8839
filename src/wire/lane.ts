/**
 * Sections 3.3 and 3.6 of docs/protocol.md: how two connected peers add channels, and get off a relay, in the payload of SIGNAL.
 *
 *   ADD         0x01  epoch varint | index varint | kind u8 | mtu varint | candidates   make this channel with me
 *   CANDIDATES  0x02  epoch varint | index varint | candidates                         more addresses for it
 *   REFUSE      0x03  epoch varint | index varint                                      it will not be made
 *   NAT         0x04  epoch varint | mapping u8 | one candidate                        I am ready to punch
 *
 *   kind: 0 bulk | 1 datagrams
 *   mapping: 0 unknown | 1 endpoint-independent | 2 dependent
 */
import { protocolError, Reader, Writer } from "./bytes.ts";
import { readCandidates, writeCandidates, type Candidate } from "./candidate.ts";
import { MAX_EPOCH, MAX_INDEX } from "./hello.ts";

/** What an added channel is for: the number on the wire is the position in this list. */
export const LANE_KINDS = ["bulk", "datagrams"] as const;

export type LaneKind = (typeof LANE_KINDS)[number];

/** What a NAT does, as far as its side knows: the number on the wire is the position in this list. */
export const NAT_MAPPINGS = ["unknown", "independent", "dependent"] as const;

export type LaneMessage =
  | {
      type: "ADD";
      epoch: number;
      index: number;
      kind: LaneKind;
      mtu: number;
      candidates: readonly Candidate[];
    }
  | { type: "CANDIDATES"; epoch: number; index: number; candidates: readonly Candidate[] }
  | { type: "REFUSE"; epoch: number; index: number }
  | NatMessage;

export interface NatMessage {
  readonly type: "NAT";
  /** The least in which the sender can try what comes of it. */
  readonly epoch: number;
  readonly mapping: (typeof NAT_MAPPINGS)[number];
  /** Where the sender's NAT is seen from outside: of type srflx. */
  readonly candidate: Candidate;
}

/** What every IPv4 host must take (RFC 1122, section 3.3.2); 9,216 covers jumbo frames. */
export const MIN_MTU = 576;
export const MAX_MTU = 9216;

export function encodeLane(message: LaneMessage): Uint8Array {
  const writer = new Writer();
  writer.u8(TYPES.indexOf(message.type) + 1).varint(message.epoch);
  if (message.type === "NAT") {
    writer.u8(NAT_MAPPINGS.indexOf(message.mapping));
    writeCandidates(writer, [message.candidate]);
    return writer.finish();
  }
  writer.varint(message.index);
  if (message.type === "ADD") writer.u8(LANE_KINDS.indexOf(message.kind)).varint(message.mtu);
  if (message.type !== "REFUSE") writeCandidates(writer, message.candidates);
  return writer.finish();
}

/** Throws PROTOCOL. */
export function decodeLane(bytes: Uint8Array): LaneMessage {
  const reader = new Reader(bytes);
  const number = reader.u8();
  const type = TYPES[number - 1];
  if (!type) throw protocolError(`unknown channel message ${number}`);
  const epoch = reader.varint(MAX_EPOCH);
  const message = type === "NAT" ? readNat(reader, epoch) : readChannel(reader, type, epoch);
  reader.end();
  return message;
}

const TYPES = ["ADD", "CANDIDATES", "REFUSE", "NAT"] as const;

function readChannel(reader: Reader, type: Exclude<LaneMessage["type"], "NAT">, epoch: number): LaneMessage {
  const at = { epoch, index: reader.varint(MAX_INDEX) };
  if (type === "REFUSE") return { type, ...at };
  if (type === "CANDIDATES") return { type, ...at, candidates: readCandidates(reader) };
  const number = reader.u8();
  const kind = LANE_KINDS[number];
  if (!kind) throw protocolError(`unknown kind of channel ${number}`);
  const mtu = reader.varint(MAX_MTU);
  if (mtu < MIN_MTU) throw protocolError(`MTU of ${mtu}`);
  return { type, ...at, kind, mtu, candidates: readCandidates(reader) };
}

function readNat(reader: Reader, epoch: number): NatMessage {
  const number = reader.u8();
  const mapping = NAT_MAPPINGS[number];
  if (!mapping) throw protocolError(`unknown kind of NAT ${number}`);
  const [candidate, ...more] = readCandidates(reader);
  if (candidate?.type !== "srflx" || more.length > 0) throw protocolError("a NAT has one outer address");
  return { type: "NAT", epoch, mapping, candidate };
}
