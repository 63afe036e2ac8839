/**
 * Section 5 of docs/protocol.md: what a stream is for, the header in OPEN.
 *
 *   kind u8:  pipe 0x01 | send 0x02 (the opener sends files) | receive 0x03 (the opener receives files)
 *             forward 0x04 (what each side offers and asks for, section 9.1)
 *             connect 0x05 | target      a connection of bytes to that target (section 9.2)
 *             flow    0x06 | target      datagrams to that target (section 9.3)
 *             remember 0x07              the two pin each other's keys (section 10.1)
 *             http    0x08 | target      a request, or a WebSocket, to that target (section 9.4)
 *             ask     0x09               what does the other side do? one of 0x01 to 0x04 is the answer
 *
 *   target:   0x00 | host text | port u16      a name or an address, and a port
 *             0x01 | path text                 a unix socket, or a named pipe of Windows
 *             0x02 | id varint                 what the listener with that id, which the other side asked for, leads to
 */
import { protocolError, Reader, Writer } from "./bytes.ts";

export type Target =
  | { readonly type: "host"; readonly host: string; readonly port: number }
  | { readonly type: "unix"; readonly path: string }
  | { readonly type: "listener"; readonly id: number };

/** What a program does with the first stream. */
export type Purpose = "pipe" | "send" | "receive" | "forward";

export type StreamHeader =
  { readonly kind: Purpose | "remember" | "ask" } | { readonly kind: TargetKind; readonly target: Target };

/** Streams to a target, which come after a forward from either side. */
export type TargetKind = "connect" | "flow" | "http";

export type StreamKind = StreamHeader["kind"];

/** A name has at most 253 characters (RFC 1035, section 2.3.4); the path of a unix socket at most 108 bytes. */
export const MAX_HOST = 255;
const KINDS: readonly (StreamKind | undefined)[] = [
  undefined,
  "pipe",
  "send",
  "receive",
  "forward",
  "connect",
  "flow",
  "remember",
  "http",
  "ask",
];

export function encodeHeader(header: StreamHeader): Uint8Array {
  const writer = new Writer(8).u8(KINDS.indexOf(header.kind));
  if ("target" in header) writeTarget(writer, header.target);
  return writer.finish();
}

/** Throws PROTOCOL. */
export function decodeHeader(bytes: Uint8Array): StreamHeader {
  const reader = new Reader(bytes);
  const number = reader.u8();
  const kind = KINDS[number];
  if (!kind) throw protocolError(`unknown kind of stream ${number}`);
  const header: StreamHeader =
    kind === "connect" || kind === "flow" || kind === "http"
      ? { kind, target: readTarget(reader) }
      : { kind };
  reader.end();
  return header;
}

/** The answer to `ask`: what the side that answers does itself. */
export function encodePurpose(purpose: Purpose): Uint8Array {
  return new Writer(1).u8(KINDS.indexOf(purpose)).finish();
}

/** Throws PROTOCOL. */
export function decodePurpose(bytes: Uint8Array): Purpose {
  const reader = new Reader(bytes);
  const purpose = KINDS[reader.u8()];
  reader.end();
  if (purpose === "pipe" || purpose === "send" || purpose === "receive" || purpose === "forward")
    return purpose;
  throw protocolError("an answer that says nothing of what the other side does");
}

export function writeTarget(writer: Writer, target: Target): void {
  if (target.type === "host") writer.u8(0).text(target.host).u16(target.port);
  else if (target.type === "unix") writer.u8(1).text(target.path);
  else writer.u8(2).varint(target.id);
}

/** Throws PROTOCOL. */
export function readTarget(reader: Reader): Target {
  const type = reader.u8();
  if (type === 0) {
    const host = reader.text(MAX_HOST);
    const port = reader.u16();
    if (host === "") throw protocolError("a target without a host");
    if (port === 0) throw protocolError("a target with port 0");
    return { type: "host", host, port };
  }
  if (type === 1) {
    const path = reader.text(MAX_HOST);
    if (path === "" || path.includes("\0")) throw protocolError("a target that is no path");
    return { type: "unix", path };
  }
  if (type !== 2) throw protocolError(`unknown kind of target ${type}`);
  return { type: "listener", id: reader.varint() };
}
