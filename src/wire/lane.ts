/**
 * Section 3.3 of docs/protocol.md: how two connected peers add channels, in the payload of SIGNAL.
 *
 *   ADD         0x01  epoch varint | index varint | kind u8 | mtu varint | candidates   make this channel with me
 *   CANDIDATES  0x02  epoch varint | index varint | candidates                         more addresses for it
 *   REFUSE      0x03  epoch varint | index varint                                      it will not be made
 *
 *   kind: 0 bulk | 1 datagrams
 */
import { protocolError, Reader, Writer } from "./bytes.ts";
import { readCandidates, writeCandidates, type Candidate } from "./candidate.ts";
import { MAX_EPOCH, MAX_INDEX } from "./hello.ts";

/** What an added channel is for: the number on the wire is the position in this list. */
export const LANE_KINDS = ["bulk", "datagrams"] as const;

export type LaneKind = (typeof LANE_KINDS)[number];

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
  | { type: "REFUSE"; epoch: number; index: number };

/** IPv6 demands 1,280 everywhere; 9,216 covers jumbo frames. */
export const MIN_MTU = 1200;
export const MAX_MTU = 9216;

export function encodeLane(message: LaneMessage): Uint8Array {
  const writer = new Writer();
  writer.u8(message.type === "ADD" ? 1 : message.type === "CANDIDATES" ? 2 : 3);
  writer.varint(message.epoch).varint(message.index);
  if (message.type === "ADD") writer.u8(LANE_KINDS.indexOf(message.kind)).varint(message.mtu);
  if (message.type !== "REFUSE") writeCandidates(writer, message.candidates);
  return writer.finish();
}

/** Throws PROTOCOL. */
export function decodeLane(bytes: Uint8Array): LaneMessage {
  const reader = new Reader(bytes);
  const type = reader.u8();
  if (type < 1 || type > 3) throw protocolError(`unknown channel message ${type}`);
  const at = { epoch: reader.varint(MAX_EPOCH), index: reader.varint(MAX_INDEX) };
  let message: LaneMessage;
  if (type === 1) {
    const number = reader.u8();
    const kind = LANE_KINDS[number];
    if (!kind) throw protocolError(`unknown kind of channel ${number}`);
    const mtu = reader.varint(MAX_MTU);
    if (mtu < MIN_MTU) throw protocolError(`MTU of ${mtu}`);
    message = { type: "ADD", ...at, kind, mtu, candidates: readCandidates(reader) };
  } else if (type === 2) {
    message = { type: "CANDIDATES", ...at, candidates: readCandidates(reader) };
  } else {
    message = { type: "REFUSE", ...at };
  }
  reader.end();
  return message;
}
