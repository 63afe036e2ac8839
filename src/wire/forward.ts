/**
 * Section 9.1 of docs/protocol.md: what two sides of a forward tell each other on the stream of kind `forward`, which the joining
 * side opens. Records both ways: length varint | type u8 | fields.
 *
 *   OFFER      0x01 | protocol u8 | target                    this target of ours may be reached
 *   OFFERED    0x02                                           no more offers: these were all
 *   LISTEN     0x03 | id | protocol u8 | place | target text  listen there for us; the text says to people where it leads
 *   LISTENING  0x04 | id | place                              done; the port is the one that was picked
 *   FAILED     0x05 | id | reason | text                      it cannot or may not be
 *
 *   protocol:  0 TCP (or a unix socket), 1 UDP
 *   place:     0x00 | address text ("" for loopback) | port u16      0x01 | path text
 *
 * Ids are the asker's own, each used once in a session. Numbers without a size are varints.
 */
import { clipText, protocolError, Reader, Writer } from "./bytes.ts";
import { MAX_TEXT, readReason, REASONS, type Reason } from "./frame.ts";
import { MAX_HOST, readTarget, writeTarget, type Target } from "./header.ts";

export type Protocol = "tcp" | "udp";

/** Where to listen. */
export type Place =
  | { readonly type: "host"; readonly address: string; readonly port: number }
  | { readonly type: "unix"; readonly path: string };

export type ForwardRecord =
  | { readonly type: "OFFER"; readonly protocol: Protocol; readonly target: Target }
  | { readonly type: "OFFERED" }
  | {
      readonly type: "LISTEN";
      readonly id: number;
      readonly protocol: Protocol;
      readonly place: Place;
      readonly target: string;
    }
  | { readonly type: "LISTENING"; readonly id: number; readonly place: Place }
  | { readonly type: "FAILED"; readonly id: number; readonly reason: Reason; readonly text: string };

/** The longest is LISTEN: two texts of MAX_TEXT bytes and some numbers. */
export const MAX_FORWARD_RECORD = 1000;
/** Offers, and listeners asked for, of one side: ranges of ports come one by one. */
export const MAX_OFFERS = 1024;

const TYPES = ["OFFER", "OFFERED", "LISTEN", "LISTENING", "FAILED"] as const;
const PROTOCOLS: readonly Protocol[] = ["tcp", "udp"];

/** One record with its length in front. */
export function encodeForwardRecord(record: ForwardRecord): Uint8Array {
  const writer = new Writer().u8(1 + TYPES.indexOf(record.type));
  switch (record.type) {
    case "OFFER":
      writer.u8(PROTOCOLS.indexOf(record.protocol));
      writeTarget(writer, record.target);
      break;
    case "OFFERED":
      break;
    case "LISTEN":
      writer.varint(record.id).u8(PROTOCOLS.indexOf(record.protocol));
      writePlace(writer, record.place);
      writer.text(clipText(record.target, MAX_TEXT));
      break;
    case "LISTENING":
      writer.varint(record.id);
      writePlace(writer, record.place);
      break;
    case "FAILED":
      writer.varint(record.id).varint(REASONS.indexOf(record.reason)).text(clipText(record.text, MAX_TEXT));
  }
  const body = writer.finish();
  return new Writer(body.length + 2).bytes(body).finish();
}

/** The record in `bytes`, which its length has been taken off. Throws PROTOCOL. */
export function decodeForwardRecord(bytes: Uint8Array): ForwardRecord {
  const reader = new Reader(bytes);
  const type = TYPES[reader.u8() - 1];
  if (!type) throw protocolError("unknown forward record");
  const record = readRecord(reader, type);
  reader.end();
  return record;
}

function readRecord(reader: Reader, type: ForwardRecord["type"]): ForwardRecord {
  switch (type) {
    case "OFFER":
      return { type, protocol: readProtocol(reader), target: readTarget(reader) };
    case "OFFERED":
      return { type };
    case "LISTEN":
      return {
        type,
        id: reader.varint(),
        protocol: readProtocol(reader),
        place: readPlace(reader),
        target: reader.text(MAX_TEXT),
      };
    case "LISTENING":
      return { type, id: reader.varint(), place: readPlace(reader) };
    case "FAILED":
      return { type, id: reader.varint(), reason: readReason(reader), text: reader.text(MAX_TEXT) };
  }
}

function readProtocol(reader: Reader): Protocol {
  const protocol = PROTOCOLS[reader.u8()];
  if (!protocol) throw protocolError("unknown protocol");
  return protocol;
}

function writePlace(writer: Writer, place: Place): void {
  if (place.type === "host") writer.u8(0).text(place.address).u16(place.port);
  else writer.u8(1).text(place.path);
}

function readPlace(reader: Reader): Place {
  const type = reader.u8();
  if (type === 0) return { type: "host", address: reader.text(MAX_HOST), port: reader.u16() };
  if (type !== 1) throw protocolError("unknown kind of place");
  const path = reader.text(MAX_HOST);
  if (path === "" || path.includes("\0")) throw protocolError("a place that is no path");
  return { type: "unix", path };
}
