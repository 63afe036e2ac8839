/**
 * Section 7 of docs/protocol.md: what a client and a rendezvous server say to each other, one message in each binary WebSocket
 * message. The server reads the envelope; bodies are the two clients' own (wire/introduction.ts).
 *
 *   client                                                             server
 *   ALLOCATE 0x01 | key 16 | nameplate                                 ALLOCATED 0x81 | nameplate | link text
 *   CLAIM    0x02 | key 16 | nameplate                                 ATTACHED  0x82 | stored
 *   OPEN     0x03 | key 16 | role u8 | name 16 | received              MESSAGE   0x83 | index | body
 *   RESUME   0x04 | key 16 | role u8 | nameplate | received            JOINED    0x84
 *   POST     0x05 | index | body                                       SERVERS   0x85 | count u8 | count times: 3 texts
 *   RENEW    0x06
 *   RELEASE  0x07 | outcome u8
 *   RELAY    0x08 | key 16 | role u8 | name 16
 *
 * Numbers without a size are varints. A key is 16 random bytes by which the server knows a client again after a lost connection.
 */
import { protocolError, Reader, Writer } from "./bytes.ts";
import { MAX_NAMEPLATE } from "./code.ts";
import type { Role } from "./hello.ts";

/** The WebSocket subprotocol (RFC 6455, section 1.9) that names this version. */
export const RENDEZVOUS_PROTOCOL = "dcpipe-rendezvous.1";
/** Subprotocols that name some version. */
export const RENDEZVOUS_PROTOCOL_PREFIX = "dcpipe-rendezvous.";
/**
 * A client's first messages may travel in the request that opens the WebSocket, each as base64url behind this prefix in one more
 * subprotocol: it saves a round trip.
 */
export const FIRST_MESSAGE_PREFIX = "dcpipe-first.";

export const KEY_SIZE = 16;
export const NAME_SIZE = 16;
/** A body is a list of addresses or a handful of curve points: some 400 bytes. Ten times that leaves room. */
export const MAX_BODY = 4096;
/** The envelope around a body. */
export const MAX_RENDEZVOUS_MESSAGE = MAX_BODY + 16;
/** After RELAY: one sealed message of a session, the largest of which are 64 KiB and a little. */
export const MAX_RELAY_MESSAGE = 68 * 1024;
/** Bodies one side may post to one mailbox: the introduction takes two, the rest are addresses that trickle in. */
export const MAX_BODIES = 64;
/** A URL, a user name, a password of a TURN server; the server's own link. */
const MAX_TEXT = 512;
const MAX_SERVERS = 8;

/** How it ended, as a client reports it: nothing but this is told. */
export const OUTCOMES = ["direct", "turn", "relay", "failed", "wrong", "left"] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** Why the server closes a WebSocket: RFC 6455's own codes below 4000, ours from there. A closed list. */
export const CLOSE = {
  /** The server goes away; another one, or this one later, goes on. */
  GOING_AWAY: 1001,
  /** A message that is too big. */
  TOO_BIG: 1009,
  /** The server, or its store, is in trouble; try again. */
  TRY_AGAIN: 1013,
  /** The mailbox was released: the introduction is over. */
  RELEASED: 4000,
  /** No version in common. */
  VERSION: 4001,
  /** A message this page does not allow. */
  PROTOCOL: 4002,
  /** There is no such mailbox: never, or no longer. */
  UNKNOWN: 4003,
  /** Somebody else has claimed this nameplate. */
  USED: 4004,
  /** One side found that the other has another password. */
  WRONG: 4005,
  /** The mailbox has been there too long. */
  EXPIRED: 4006,
  /** Too many mailboxes, connections or messages. */
  LIMIT: 4007,
  /** Nothing was said for too long, or what was sent is not taken. */
  SLOW: 4008,
  /** The other side gave up. */
  LEFT: 4009,
  /** The other side began anew: open the mailbox again. */
  RESTART: 4010,
  /** This server relays nothing. */
  NO_RELAY: 4011,
} as const;
export type CloseCode = (typeof CLOSE)[keyof typeof CLOSE];

/** A server the rendezvous hands out, with credentials for a limited time. */
export interface ServerRecord {
  /** `turn:host:port` and the like (RFC 7065). */
  readonly url: string;
  readonly username: string;
  readonly credential: string;
}

export type ClientMessage =
  | { type: "ALLOCATE"; key: Uint8Array; nameplate: number }
  | { type: "CLAIM"; key: Uint8Array; nameplate: number }
  | { type: "OPEN"; key: Uint8Array; role: Role; name: Uint8Array; received: number }
  | { type: "RESUME"; key: Uint8Array; role: Role; nameplate: number; received: number }
  | { type: "POST"; index: number; body: Uint8Array }
  | { type: "RENEW" }
  | { type: "RELEASE"; outcome: Outcome }
  | { type: "RELAY"; key: Uint8Array; role: Role; name: Uint8Array };

export type ServerMessage =
  | { type: "ALLOCATED"; nameplate: number; link: string }
  | { type: "ATTACHED"; stored: number }
  | { type: "MESSAGE"; index: number; body: Uint8Array }
  | { type: "JOINED" }
  | { type: "SERVERS"; servers: readonly ServerRecord[] };

const CLIENT_TYPES = ["ALLOCATE", "CLAIM", "OPEN", "RESUME", "POST", "RENEW", "RELEASE", "RELAY"] as const;
const SERVER_TYPES = ["ALLOCATED", "ATTACHED", "MESSAGE", "JOINED", "SERVERS"] as const;
const ROLES: readonly Role[] = ["waiting", "joining"];

export function encodeClientMessage(message: ClientMessage): Uint8Array {
  const writer = new Writer();
  writer.u8(1 + CLIENT_TYPES.indexOf(message.type));
  switch (message.type) {
    case "ALLOCATE":
    case "CLAIM":
      writer.raw(message.key).varint(message.nameplate);
      break;
    case "OPEN":
      writer.raw(message.key).u8(ROLES.indexOf(message.role)).raw(message.name).varint(message.received);
      break;
    case "RESUME":
      writer.raw(message.key).u8(ROLES.indexOf(message.role));
      writer.varint(message.nameplate).varint(message.received);
      break;
    case "POST":
      writer.varint(message.index).raw(message.body);
      break;
    case "RENEW":
      break;
    case "RELEASE":
      writer.u8(OUTCOMES.indexOf(message.outcome));
      break;
    case "RELAY":
      writer.raw(message.key).u8(ROLES.indexOf(message.role)).raw(message.name);
  }
  return writer.finish();
}

/** Whether a client's message is RELAY, well-formed or not: larger messages may follow it. */
export function isRelay(message: Uint8Array): boolean {
  return message[0] === 1 + CLIENT_TYPES.indexOf("RELAY");
}

/** Throws PROTOCOL. */
export function decodeClientMessage(bytes: Uint8Array): ClientMessage {
  const reader = new Reader(bytes);
  const type = CLIENT_TYPES[reader.u8() - 1];
  if (type === undefined) throw protocolError("unknown message");
  const message = readClientMessage(reader, type);
  reader.end();
  return message;
}

function readClientMessage(reader: Reader, type: ClientMessage["type"]): ClientMessage {
  switch (type) {
    case "ALLOCATE": {
      const key = reader.take(KEY_SIZE).slice();
      return { type, key, nameplate: reader.varint(MAX_NAMEPLATE) };
    }
    case "CLAIM": {
      const key = reader.take(KEY_SIZE).slice();
      return { type, key, nameplate: readNameplate(reader) };
    }
    case "OPEN": {
      const key = reader.take(KEY_SIZE).slice();
      const role = readRole(reader);
      return {
        type,
        key,
        role,
        name: reader.take(NAME_SIZE).slice(),
        received: reader.varint(MAX_BODIES),
      };
    }
    case "RESUME": {
      const key = reader.take(KEY_SIZE).slice();
      const role = readRole(reader);
      return { type, key, role, nameplate: readNameplate(reader), received: reader.varint(MAX_BODIES) };
    }
    case "POST":
      return { type, index: reader.varint(MAX_BODIES - 1), body: readBody(reader) };
    case "RENEW":
      return { type };
    case "RELEASE": {
      const outcome = OUTCOMES[reader.u8()];
      if (!outcome) throw protocolError("unknown outcome");
      return { type, outcome };
    }
    case "RELAY": {
      const key = reader.take(KEY_SIZE).slice();
      return { type, key, role: readRole(reader), name: reader.take(NAME_SIZE).slice() };
    }
  }
}

export function encodeServerMessage(message: ServerMessage): Uint8Array {
  const writer = new Writer();
  writer.u8(0x81 + SERVER_TYPES.indexOf(message.type));
  switch (message.type) {
    case "ALLOCATED":
      writer.varint(message.nameplate).text(message.link);
      break;
    case "ATTACHED":
      writer.varint(message.stored);
      break;
    case "MESSAGE":
      writer.varint(message.index).raw(message.body);
      break;
    case "JOINED":
      break;
    case "SERVERS":
      writer.u8(message.servers.length);
      for (const { url, username, credential } of message.servers)
        writer.text(url).text(username).text(credential);
  }
  return writer.finish();
}

/** Throws PROTOCOL. */
export function decodeServerMessage(bytes: Uint8Array): ServerMessage {
  const reader = new Reader(bytes);
  const type = SERVER_TYPES[reader.u8() - 0x81];
  if (type === undefined) throw protocolError("unknown message");
  const message = readServerMessage(reader, type);
  reader.end();
  return message;
}

function readServerMessage(reader: Reader, type: ServerMessage["type"]): ServerMessage {
  switch (type) {
    case "ALLOCATED":
      return { type, nameplate: readNameplate(reader), link: reader.text(MAX_TEXT) };
    case "ATTACHED":
      return { type, stored: reader.varint(MAX_BODIES) };
    case "MESSAGE":
      return { type, index: reader.varint(MAX_BODIES - 1), body: readBody(reader) };
    case "JOINED":
      return { type };
    case "SERVERS": {
      const count = reader.u8();
      if (count > MAX_SERVERS) throw protocolError(`${count} servers, at most ${MAX_SERVERS} allowed`);
      const servers = Array.from({ length: count }, () => ({
        url: reader.text(MAX_TEXT),
        username: reader.text(MAX_TEXT),
        credential: reader.text(MAX_TEXT),
      }));
      return { type, servers };
    }
  }
}

function readNameplate(reader: Reader): number {
  const nameplate = reader.varint(MAX_NAMEPLATE);
  if (nameplate === 0) throw protocolError("nameplate 0");
  return nameplate;
}

function readRole(reader: Reader): Role {
  const role = ROLES[reader.u8()];
  if (!role) throw protocolError("unknown role");
  return role;
}

function readBody(reader: Reader): Uint8Array {
  if (reader.remaining === 0) throw protocolError("empty body");
  if (reader.remaining > MAX_BODY) throw protocolError("body too long");
  return reader.take(reader.remaining).slice();
}
