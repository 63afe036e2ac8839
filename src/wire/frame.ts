/**
 * Section 4 of docs/protocol.md: the frames of a session. A channel message is one or more frames, back to back.
 *
 *   OPEN     0x01  stream, header (bytes)          a new stream and what it is for
 *   DATA     0x02  stream, offset, payload (bytes)  payload of the sender's direction, from that offset on
 *   FIN      0x03  stream, offset                  the sender's direction ends at this offset
 *   FIN_ACK  0x04  stream                          the reader has consumed everything up to the FIN
 *   RESET    0x05  stream, reason, text            both directions end now; what is in flight is void
 *   WINDOW   0x06  stream, limit                   the other side may send up to this offset
 *   ACK      0x07  channel, count                  messages received on that channel so far
 *   LOST     0x08  channel, count                  that channel is dead; so many of its messages arrived
 *   PING     0x09  id                              answer with PONG
 *   PONG     0x0a  id
 *   GOAWAY   0x0b  reason, text                    the sender opens and wants no more streams; with CLOSED: all is done
 *   SIGNAL   0x0c  payload (bytes)                 for the layer that makes channels; opaque here
 *   BREAK    0x0d  stream, offset, reason, text    the sender's direction breaks off at this offset: what is before it counts
 *   DATAGRAM 0x0e  stream, payload (bytes)         may be lost, may overtake; on the datagram channel only, alone in its message
 *
 * All numbers are varints. The type is one byte.
 */
import type { ErrorCode } from "../errors.ts";
import { clipText, protocolError, Reader, varintSize, Writer } from "./bytes.ts";

export const FRAME = {
  OPEN: 0x01,
  DATA: 0x02,
  FIN: 0x03,
  FIN_ACK: 0x04,
  RESET: 0x05,
  WINDOW: 0x06,
  ACK: 0x07,
  LOST: 0x08,
  PING: 0x09,
  PONG: 0x0a,
  GOAWAY: 0x0b,
  SIGNAL: 0x0c,
  BREAK: 0x0d,
  DATAGRAM: 0x0e,
} as const;

/** Why a stream or a session ends early: the number on the wire is the position in this list. Append only. */
export const REASONS = [
  "CLOSED",
  "REFUSED",
  "INTERRUPTED",
  "PROTOCOL",
  "LIMIT",
  "IO",
  "NO_SPACE",
  "EXISTS",
  "CHECKSUM",
  "PIPE_CLOSED",
  "INCOMPLETE",
  "ABORTED",
  "CONNECTION_REFUSED",
  "CONNECTION_RESET",
  "UNREACHABLE",
  "NAME_UNKNOWN",
  "TIMEOUT",
] as const satisfies readonly ErrorCode[];

export type Reason = (typeof REASONS)[number];

/**
 * A control message fits one packet at the path MTU we start with: 1,280 bytes less IPv6 40, UDP 8, DTLS 48, SCTP 28. A kibibyte with a
 * protocol's header around it fits, too: two packets cost twice as much.
 */
export const MAX_CONTROL_MESSAGE = 1156;
/** Payload of one bulk frame: larger ones measured no faster and quadruple what a receiver must hold. */
export const MAX_PAYLOAD = 64 * 1024;
/** A stream header must fit a control message beside the frame's own fields. */
export const MAX_HEADER = 1000;
export const MAX_SIGNAL = 1000;
/** The largest payload of a UDP datagram over IPv4 (RFC 768). */
export const MAX_DATAGRAM = 65_507;
/** Texts are for people: one or two lines. */
export const MAX_TEXT = 300;
/** What a DATA frame from that offset adds to a payload of less than 16 KiB. */
export function dataOverhead(stream: number, offset: number): number {
  return 1 + varintSize(stream) + varintSize(offset) + 2;
}

/** Bytes that a DATA frame adds to its payload at most: type, stream, offset, length. */
export const DATA_OVERHEAD = 1 + 8 + 8 + 4;

export type Frame =
  | { readonly type: "OPEN"; readonly stream: number; readonly header: Uint8Array }
  | { readonly type: "DATA"; readonly stream: number; readonly offset: number; readonly payload: Uint8Array }
  | { readonly type: "FIN"; readonly stream: number; readonly offset: number }
  | { readonly type: "FIN_ACK"; readonly stream: number }
  | { readonly type: "RESET"; readonly stream: number; readonly reason: Reason; readonly text: string }
  | { readonly type: "WINDOW"; readonly stream: number; readonly limit: number }
  | { readonly type: "ACK"; readonly channel: number; readonly count: number }
  | { readonly type: "LOST"; readonly channel: number; readonly count: number }
  | { readonly type: "PING"; readonly id: number }
  | { readonly type: "PONG"; readonly id: number }
  | { readonly type: "GOAWAY"; readonly reason: Reason; readonly text: string }
  | { readonly type: "SIGNAL"; readonly payload: Uint8Array }
  | {
      readonly type: "BREAK";
      readonly stream: number;
      readonly offset: number;
      readonly reason: Reason;
      readonly text: string;
    }
  | { readonly type: "DATAGRAM"; readonly stream: number; readonly payload: Uint8Array };

/** Appends one frame to `writer`. */
export function writeFrame(writer: Writer, frame: Frame): void {
  writer.u8(FRAME[frame.type]);
  switch (frame.type) {
    case "OPEN":
      writer.varint(frame.stream).bytes(frame.header);
      break;
    case "DATA":
      writer.varint(frame.stream).varint(frame.offset).bytes(frame.payload);
      break;
    case "FIN":
      writer.varint(frame.stream).varint(frame.offset);
      break;
    case "FIN_ACK":
      writer.varint(frame.stream);
      break;
    case "RESET":
      writer.varint(frame.stream).varint(REASONS.indexOf(frame.reason)).text(clipText(frame.text, MAX_TEXT));
      break;
    case "WINDOW":
      writer.varint(frame.stream).varint(frame.limit);
      break;
    case "ACK":
    case "LOST":
      writer.varint(frame.channel).varint(frame.count);
      break;
    case "PING":
    case "PONG":
      writer.varint(frame.id);
      break;
    case "GOAWAY":
      writer.varint(REASONS.indexOf(frame.reason)).text(clipText(frame.text, MAX_TEXT));
      break;
    case "SIGNAL":
      writer.bytes(frame.payload);
      break;
    case "BREAK":
      writer.varint(frame.stream).varint(frame.offset).varint(REASONS.indexOf(frame.reason));
      writer.text(clipText(frame.text, MAX_TEXT));
      break;
    case "DATAGRAM":
      writer.varint(frame.stream).bytes(frame.payload);
      break;
  }
}

export function encodeFrame(frame: Frame): Uint8Array {
  const writer = new Writer();
  writeFrame(writer, frame);
  return writer.finish();
}

/** Appends a DATA frame whose payload comes in pieces. */
export function writeData(
  writer: Writer,
  stream: number,
  offset: number,
  pieces: readonly Uint8Array[],
): void {
  let length = 0;
  for (const piece of pieces) length += piece.length;
  writer.u8(FRAME.DATA).varint(stream).varint(offset).varint(length);
  for (const piece of pieces) writer.raw(piece);
}

/** The frames of one message, in order; payloads are views on `message`. Throws PROTOCOL. */
export function decodeFrames(message: Uint8Array): Frame[] {
  const reader = new Reader(message);
  if (reader.remaining === 0) throw protocolError("empty message");
  const frames: Frame[] = [];
  while (reader.remaining > 0) frames.push(readFrame(reader));
  return frames;
}

function readFrame(reader: Reader): Frame {
  const type = reader.u8();
  switch (type) {
    case FRAME.OPEN:
      return { type: "OPEN", stream: reader.varint(), header: reader.bytes(MAX_HEADER) };
    case FRAME.DATA: {
      const frame = {
        type: "DATA",
        stream: reader.varint(),
        offset: reader.varint(),
        payload: reader.bytes(MAX_PAYLOAD),
      } as const;
      if (frame.payload.length === 0) throw protocolError("DATA without payload");
      if (frame.offset + frame.payload.length > Number.MAX_SAFE_INTEGER)
        throw protocolError("DATA past 2^53 - 1");
      return frame;
    }
    case FRAME.FIN:
      return { type: "FIN", stream: reader.varint(), offset: reader.varint() };
    case FRAME.FIN_ACK:
      return { type: "FIN_ACK", stream: reader.varint() };
    case FRAME.RESET:
      return {
        type: "RESET",
        stream: reader.varint(),
        reason: readReason(reader),
        text: reader.text(MAX_TEXT),
      };
    case FRAME.WINDOW:
      return { type: "WINDOW", stream: reader.varint(), limit: reader.varint() };
    case FRAME.ACK:
      return { type: "ACK", channel: reader.varint(), count: reader.varint() };
    case FRAME.LOST:
      return { type: "LOST", channel: reader.varint(), count: reader.varint() };
    case FRAME.PING:
      return { type: "PING", id: reader.varint() };
    case FRAME.PONG:
      return { type: "PONG", id: reader.varint() };
    case FRAME.GOAWAY:
      return { type: "GOAWAY", reason: readReason(reader), text: reader.text(MAX_TEXT) };
    case FRAME.SIGNAL:
      return { type: "SIGNAL", payload: reader.bytes(MAX_SIGNAL) };
    case FRAME.BREAK:
      return {
        type: "BREAK",
        stream: reader.varint(),
        offset: reader.varint(),
        reason: readReason(reader),
        text: reader.text(MAX_TEXT),
      };
    case FRAME.DATAGRAM:
      return { type: "DATAGRAM", stream: reader.varint(), payload: reader.bytes(MAX_DATAGRAM) };
    default:
      throw protocolError(`unknown frame type ${type}`);
  }
}

export function readReason(reader: Reader): Reason {
  const reason = REASONS[reader.varint()];
  if (reason === undefined) throw protocolError("unknown reason");
  return reason;
}
