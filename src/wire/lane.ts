/**
 * Section 3.3 of docs/protocol.md: how two connected peers add channels, in the payload of SIGNAL.
 *
 *   ADD         0x01  epoch varint | index varint | mtu varint | candidates   make this channel with me
 *   CANDIDATES  0x02  epoch varint | index varint | candidates               more addresses for it
 *   REFUSE      0x03  epoch varint | index varint                            it will not be made
 */
import { protocolError, Reader, Writer } from "./bytes.ts";
import { readCandidates, writeCandidates, type Candidate } from "./candidate.ts";
import { MAX_EPOCH, MAX_INDEX } from "./hello.ts";

export type LaneMessage =
  | { type: "ADD"; epoch: number; index: number; mtu: number; candidates: readonly Candidate[] }
  | { type: "CANDIDATES"; epoch: number; index: number; candidates: readonly Candidate[] }
  | { type: "REFUSE"; epoch: number; index: number };

/** IPv6 demands 1,280 everywhere; 9,216 covers jumbo frames. */
export const MIN_MTU = 1200;
export const MAX_MTU = 9216;

export function encodeLane(message: LaneMessage): Uint8Array {
  const writer = new Writer();
  writer.u8(message.type === "ADD" ? 1 : message.type === "CANDIDATES" ? 2 : 3);
  writer.varint(message.epoch).varint(message.index);
  if (message.type === "ADD") writer.varint(message.mtu);
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
    const mtu = reader.varint(MAX_MTU);
    if (mtu < MIN_MTU) throw protocolError(`MTU of ${mtu}`);
    message = { type: "ADD", ...at, mtu, candidates: readCandidates(reader) };
  } else if (type === 2) {
    message = { type: "CANDIDATES", ...at, candidates: readCandidates(reader) };
  } else {
    message = { type: "REFUSE", ...at };
  }
  reader.end();
  return message;
}
