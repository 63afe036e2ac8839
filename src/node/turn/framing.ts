/**
 * TURN over a stream (RFC 8656, section 12.5): STUN messages and ChannelData follow each other, each says its own length, and ChannelData
 * is padded to a multiple of four, which it is not in datagrams.
 */
import { DcpipeError } from "../../errors.ts";
import { HEADER_SIZE, isStun } from "./stun.ts";

/** Channel number and length. */
export const CHANNEL_HEADER_SIZE = 4;
/** Channel numbers are 0x4000 to 0x4fff (RFC 8656, section 12). */
const CHANNEL_BITS = 0x4;
/** The WebRTC library has buffers of this size. A longer message is passed over: who sends the server's relay one would end us else. */
export const MAX_MESSAGE = 4096;
const PADDING = [undefined, Buffer.alloc(3), Buffer.alloc(2), Buffer.alloc(1)] as const;

/** Whether a message, of one byte at least, begins as ChannelData does. */
export function isChannelData(message: Buffer): boolean {
  return (message[0] ?? 0) >> 4 === CHANNEL_BITS;
}

/** Whether these bytes are one whole message. */
export function isWhole(message: Buffer): boolean {
  if (message.length < CHANNEL_HEADER_SIZE) return false;
  const length = message.readUInt16BE(2);
  if (isChannelData(message)) return message.length === CHANNEL_HEADER_SIZE + length;
  return isStun(message) && message.length === HEADER_SIZE + length;
}

/** What must follow a message in a stream. */
export function paddingAfter(message: Buffer): Buffer | undefined {
  return isChannelData(message) ? PADDING[message.length % 4] : undefined;
}

/**
 * Takes what a server sends as a stream, in any pieces, and calls back with each message in it, without padding; it may be a part of a
 * piece. The function throws PROTOCOL for what is no such stream, and is of no use from then on.
 */
export function createDeframer(onmessage: (message: Buffer) => void): (piece: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  /** Bytes of a message too long that are still to come. */
  let skip = 0;
  let isFirst = true;
  return (piece) => {
    let bytes = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    for (;;) {
      if (skip > 0) {
        const skipped = Math.min(skip, bytes.length);
        skip -= skipped;
        bytes = bytes.subarray(skipped);
      }
      // There are no channels before the server has answered; "HTTP" would be one.
      if (isFirst && bytes.length > 0 && isChannelData(bytes)) throw noTurn();
      const size = sizeOf(bytes);
      if (size === undefined) break;
      isFirst = false;
      const { message, framed } = size;
      if (message > MAX_MESSAGE) {
        skip = framed;
      } else {
        if (bytes.length < framed) break;
        onmessage(bytes.subarray(0, message));
        bytes = bytes.subarray(framed);
      }
    }
    // A copy, or a few bytes would keep a large piece alive.
    rest = Buffer.from(bytes);
  };
}

/** Of the message at the start, without and with what pads it; undefined when more must come to know. Throws PROTOCOL. */
function sizeOf(bytes: Buffer): { readonly message: number; readonly framed: number } | undefined {
  if (bytes.length < CHANNEL_HEADER_SIZE) return undefined;
  const length = bytes.readUInt16BE(2);
  if (isChannelData(bytes)) {
    const message = CHANNEL_HEADER_SIZE + length;
    return { message, framed: (message + 3) & ~3 };
  }
  if (bytes.length < HEADER_SIZE) return undefined;
  if (!isStun(bytes)) throw noTurn();
  return { message: HEADER_SIZE + length, framed: HEADER_SIZE + length };
}

function noTurn(): DcpipeError {
  return new DcpipeError("PROTOCOL", "what answers is no TURN server");
}
