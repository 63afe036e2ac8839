/**
 * Section 3.2 of docs/protocol.md: the first two messages of every channel, before any frame.
 *
 *   HELLO   0x40  version u8 | role u8 | epoch varint | index varint | proof 16 bytes | zeros to the end
 *   READY   0x41  size varint: the length of the HELLO that arrived
 *
 * Each side sends HELLO as soon as the channel opens and READY when a good HELLO came. The zeros make the HELLO as long as
 * one packet at the path MTU the sender hopes for: a READY is the proof that such packets pass.
 */
import { protocolError, Reader, Writer } from "./bytes.ts";

export const PROTOCOL_VERSION = 1;
export const PROOF_SIZE = 16;
/** A jumbo frame, rounded up. */
export const MAX_HELLO = 9216;

export type Role = "waiting" | "joining";

export interface Hello {
  readonly version: number;
  readonly role: Role;
  /** How many times the session had to connect anew. */
  readonly epoch: number;
  /** 0 for the control channel of the epoch; the waiting side numbers its bulk channels even, the joining side odd. */
  readonly index: number;
  /** Key confirmation over both certificates. */
  readonly proof: Uint8Array;
}

const HELLO = 0x40;
const READY = 0x41;
/** Channel numbers stay below 2^31: an epoch a second for half an hour, 2^16 channels in each. */
export const MAX_EPOCH = 0x7fff;
export const MAX_INDEX = 0xffff;

export function encodeHello(hello: Hello, size = 0): Uint8Array {
  const writer = new Writer();
  writer
    .u8(HELLO)
    .u8(hello.version)
    .u8(hello.role === "waiting" ? 0 : 1);
  writer.varint(hello.epoch).varint(hello.index).raw(hello.proof);
  if (writer.length < size) writer.raw(new Uint8Array(Math.min(size, MAX_HELLO) - writer.length));
  return writer.finish();
}

/** Throws PROTOCOL; the caller judges version, role, epoch, index and proof. */
export function decodeHello(message: Uint8Array): Hello {
  const reader = new Reader(message);
  if (message.length > MAX_HELLO) throw protocolError("HELLO too long");
  if (reader.u8() !== HELLO) throw protocolError("the first message is no HELLO");
  const version = reader.u8();
  // Another version may go on differently: what follows is not ours to judge.
  if (version !== PROTOCOL_VERSION)
    return { version, role: "waiting", epoch: 0, index: 0, proof: new Uint8Array(PROOF_SIZE) };
  const role = reader.u8();
  if (role > 1) throw protocolError("unknown role");
  const hello: Hello = {
    version,
    role: role === 0 ? "waiting" : "joining",
    epoch: reader.varint(MAX_EPOCH),
    index: reader.varint(MAX_INDEX),
    proof: reader.take(PROOF_SIZE),
  };
  if (reader.take(reader.remaining).some((byte) => byte !== 0))
    throw protocolError("HELLO padded with other than zeros");
  return hello;
}

export function encodeReady(size: number): Uint8Array {
  return new Writer().u8(READY).varint(size).finish();
}

export function isReady(message: Uint8Array): boolean {
  return message[0] === READY;
}

/** The size that a READY confirms. Throws PROTOCOL. */
export function decodeReady(message: Uint8Array): number {
  const reader = new Reader(message);
  if (reader.u8() !== READY) throw protocolError("not a READY");
  const size = reader.varint(MAX_HELLO);
  reader.end();
  return size;
}
