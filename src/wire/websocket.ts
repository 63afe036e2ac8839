/**
 * The frames of a WebSocket as RFC 6455 has them (section 5.2), from the client's end. They travel over a stream of kind `http` as they
 * are (section 9.5 of docs/protocol.md): the side in the middle passes bytes on and takes no part in it.
 *
 *   FIN 1 | RSV 3 | opcode 4 | MASK 1 | length 7, or 126 and u16, or 127 and u64 | key 4 if MASK | payload
 */
import { Writer } from "./bytes.ts";

export const OPCODE = { CONTINUATION: 0, TEXT: 1, BINARY: 2, CLOSE: 8, PING: 9, PONG: 10 } as const;
type Opcode = (typeof OPCODE)[keyof typeof OPCODE];

/** Close codes of RFC 6455, section 7.4.1. */
export const CLOSE = {
  NORMAL: 1000,
  PROTOCOL: 1002,
  NO_STATUS: 1005,
  ABNORMAL: 1006,
  INVALID: 1007,
  TOO_BIG: 1009,
} as const;

/** Payload of a control frame. */
export const MAX_CONTROL = 125;
/** UTF-8 bytes of the reason in a close frame. */
export const MAX_CLOSE_REASON = MAX_CONTROL - 2;

export type SocketMessage =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "binary"; readonly data: Uint8Array<ArrayBuffer> }
  | { readonly type: "ping" | "pong"; readonly data: Uint8Array }
  /** Code 1005 when there is none in the frame. */
  | { readonly type: "close"; readonly code: number; readonly reason: string }
  /** The server broke the protocol, or sends more than we take: close with this code. Nothing more is read. */
  | { readonly type: "broken"; readonly code: number; readonly reason: string };

/** One frame of a client, masked with the four bytes of `key`. */
export function encodeSocketFrame(
  opcode: Opcode,
  payload: Uint8Array,
  key: Uint8Array,
  final = true,
): Uint8Array {
  const { length } = payload;
  const extended = length < 126 ? 0 : length < 0x10000 ? 2 : 8;
  const frame = new Uint8Array(2 + extended + 4 + length);
  frame[0] = (final ? 0x80 : 0) | opcode;
  frame[1] = 0x80 | (extended === 0 ? length : extended === 2 ? 126 : 127);
  let rest = length;
  for (let at = 1 + extended; at >= 2; at--) {
    frame[at] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  const start = 2 + extended + 4;
  frame.set(key.subarray(0, 4), start - 4);
  for (let i = 0; i < length; i++) frame[start + i] = (payload[i] ?? 0) ^ (key[i & 3] ?? 0);
  return frame;
}

/** The payload of a close frame: nothing, or a code and the reason, whose UTF-8 has at most MAX_CLOSE_REASON bytes. */
export function encodeClose(code: number | undefined, reason: Uint8Array): Uint8Array {
  if (code === undefined) return new Uint8Array(0);
  const payload = new Uint8Array(2 + reason.length);
  payload[0] = code >> 8;
  payload[1] = code & 0xff;
  payload.set(reason, 2);
  return payload;
}

/** Codes that may stand in a close frame: RFC 6455, section 7.4, and those that IANA has added. */
function isCloseCode(code: number): boolean {
  return (
    (code >= 1000 && code <= 1014 && code !== 1004 && code !== 1005 && code !== 1006) ||
    (code >= 3000 && code <= 4999)
  );
}

/** What stands in front of a payload. */
interface Head {
  readonly final: boolean;
  readonly opcode: number;
  readonly length: number;
}

/** Puts a server's messages together. Holds at most `max` bytes of one message, and one control frame. */
export class SocketReader {
  readonly #max: number;
  /** Bytes of a head that is not whole. */
  #pending: Uint8Array = new Uint8Array(0);
  #head: Head | undefined;
  /** How much of the frame's payload is missing. */
  #missing = 0;
  readonly #control = new Writer(MAX_CONTROL);
  /** The message at work: in one buffer, as a message in pieces of a byte each must not cost a hundred bytes for one. */
  #opcode: number = OPCODE.CONTINUATION;
  #message = new Writer();
  #over = false;

  constructor(max: number) {
    this.#max = max;
  }

  /** What these bytes complete. After "close" and "broken" nothing more is read. */
  *push(chunk: Uint8Array): Generator<SocketMessage, void, void> {
    let rest = chunk;
    while (!this.#over) {
      if (!this.#head) {
        const taken = this.#readHead(rest);
        if (!taken) return;
        rest = taken.rest;
        const problem = this.#begin(taken.head);
        if (problem) {
          this.#over = true;
          yield problem;
          return;
        }
      }
      const payload = rest.subarray(0, this.#missing);
      rest = rest.subarray(payload.length);
      this.#missing -= payload.length;
      if (payload.length > 0) this.#keep(payload);
      if (this.#missing > 0) return;
      const message = this.#end();
      if (message?.type === "close" || message?.type === "broken") this.#over = true;
      if (message) yield message;
      if (rest.length === 0 && !this.#head) return;
    }
  }

  #readHead(chunk: Uint8Array): { head: Head; rest: Uint8Array } | undefined {
    const bytes = this.#pending.length === 0 ? chunk : join(this.#pending, chunk);
    const [first = 0, second = 0] = bytes;
    const extended = (second & 0x7f) === 126 ? 2 : (second & 0x7f) === 127 ? 8 : 0;
    // A server's frame that is masked is an error, whatever comes behind it: its key is not waited for.
    const size = 2 + extended;
    if (bytes.length < 2 || bytes.length < size) {
      this.#pending = bytes.slice();
      return undefined;
    }
    this.#pending = new Uint8Array(0);
    let length = second & 0x7f;
    if (extended > 0) {
      length = 0;
      for (const byte of bytes.subarray(2, size)) length = length * 256 + byte;
    }
    const shortest = length < 126 ? 0 : length < 0x10000 ? 2 : 8;
    const wellFormed = (first & 0x70) === 0 && (second & 0x80) === 0 && shortest === extended;
    const head = {
      final: (first & 0x80) !== 0,
      opcode: wellFormed ? first & 0x0f : NO_OPCODE,
      length,
    };
    return { head, rest: bytes.subarray(size) };
  }

  #begin(head: Head): SocketMessage | undefined {
    const { opcode, length, final } = head;
    if (opcode >= OPCODE.CLOSE) {
      if (opcode > OPCODE.PONG || !final || length > MAX_CONTROL) return broken("a frame that may not be");
    } else {
      if (opcode > OPCODE.BINARY) return broken("a frame that may not be");
      if ((opcode === OPCODE.CONTINUATION) !== (this.#opcode !== OPCODE.CONTINUATION))
        return broken("a message within a message, or the rest of none");
      if (opcode !== OPCODE.CONTINUATION) this.#opcode = opcode;
      if (this.#message.length + length > this.#max)
        return { type: "broken", code: CLOSE.TOO_BIG, reason: `a message of more than ${this.#max} bytes` };
    }
    this.#head = head;
    this.#missing = length;
    return undefined;
  }

  #keep(payload: Uint8Array): void {
    const isControl = (this.#head?.opcode ?? 0) >= OPCODE.CLOSE;
    (isControl ? this.#control : this.#message).raw(payload);
  }

  #end(): SocketMessage | undefined {
    const { opcode = NO_OPCODE, final = true } = this.#head ?? {};
    this.#head = undefined;
    if (opcode >= OPCODE.CLOSE) {
      const data = this.#control.view().slice();
      this.#control.reset();
      return opcode === OPCODE.CLOSE
        ? readClose(data)
        : { type: opcode === OPCODE.PING ? "ping" : "pong", data };
    }
    if (!final) return undefined;
    const data = this.#message.view().slice();
    const isText = this.#opcode === OPCODE.TEXT;
    this.#opcode = OPCODE.CONTINUATION;
    // The memory of a large one is given back.
    this.#message = data.length > KEPT ? new Writer() : this.#message.reset();
    if (!isText) return { type: "binary", data };
    const text = decodeText(data);
    return text === undefined
      ? { type: "broken", code: CLOSE.INVALID, reason: "a text that is not UTF-8" }
      : { type: "text", text };
  }
}

/** Messages up to this length share a buffer. */
const KEPT = 64 * 1024;
/** In place of the opcode of a frame whose head may not be. */
const NO_OPCODE = 0xff;

function readClose(data: Uint8Array): SocketMessage {
  if (data.length === 0) return { type: "close", code: CLOSE.NO_STATUS, reason: "" };
  const code = (data[0] ?? 0) * 256 + (data[1] ?? 0);
  if (data.length < 2 || !isCloseCode(code)) return broken("a close code that may not be");
  const reason = decodeText(data.subarray(2));
  return reason === undefined
    ? { type: "broken", code: CLOSE.INVALID, reason: "a close reason that is not UTF-8" }
    : { type: "close", code, reason };
}

function broken(reason: string): SocketMessage {
  return { type: "broken", code: CLOSE.PROTOCOL, reason };
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decodeText(bytes: Uint8Array): string | undefined {
  try {
    return UTF8.decode(bytes);
  } catch {
    return undefined;
  }
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  const whole = new Uint8Array(a.length + b.length);
  whole.set(a);
  whole.set(b, a.length);
  return whole;
}
