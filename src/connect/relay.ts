/**
 * A channel through the relay of a rendezvous (docs/protocol.md, section 3.5): where no packet finds a way, or not yet. The server passes on
 * what it cannot read.
 *
 *   WebSocket, RELAY name --> HELLO sent and received --> stands --> sealed messages both ways
 *
 *   HELLO     salt 16 | sealed(HELLO)     under a key of its own; the proof in it is that of section 3.2
 *   message   sealed(message)             under a key of both salts, with a counter as nonce
 */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import type { Fingerprints, Keys } from "../signalling/keys.ts";
import { randomKey } from "../signalling/mailbox.ts";
import { SequenceSeal } from "../signalling/seal.ts";
import type { OpenSocket, Socket } from "../signalling/socket.ts";
import type { Channel } from "../transport/channel.ts";
import { sameBytes, toBase64url } from "../wire/bytes.ts";
import { decodeHello, encodeHello, MAX_EPOCH, PROTOCOL_VERSION, type Role } from "../wire/hello.ts";
import {
  CLOSE,
  encodeClientMessage,
  FIRST_MESSAGE_PREFIX,
  MAX_RELAY_MESSAGE,
  RENDEZVOUS_PROTOCOL,
} from "../wire/rendezvous.ts";

/** Relayed channels have the upper half of the epochs to themselves: they come and go beside the others. */
export const FIRST_RELAY_EPOCH = (MAX_EPOCH + 1) / 2;
const SALT_SIZE = 16;
const TAG_SIZE = 16;

/** A rendezvous whose relay may be used. */
export interface RelayPlace {
  readonly openSocket: OpenSocket;
  readonly url: string;
}

export interface RelayContext {
  readonly role: Role;
  readonly keys: Keys;
  readonly fingerprints: Fingerprints;
}

export interface RelayTarget {
  /** By which the rendezvous knows this side again; random when not given. */
  readonly key?: Uint8Array | undefined;
  /** Of the control channel (index 0) the least that will do: the sides take the greater one of theirs. */
  readonly epoch: number;
  readonly index: number;
}

export interface Relayed {
  readonly channel: Channel;
  readonly epoch: number;
}

/**
 * Opens one end of a relay. Resolves when the other side has proved itself. Rejects with SIGNALLING, NO_RENDEZVOUS, LIMIT, AUTH_FAILED,
 * VERSION, PROTOCOL, ABORTED.
 */
export async function openRelay(
  place: RelayPlace,
  context: RelayContext,
  target: RelayTarget,
  signal: AbortSignal,
): Promise<Relayed> {
  const { role, keys } = context;
  const name = keys.relayName(target.index === 0 ? 0 : target.epoch, target.index);
  const { key = randomKey() } = target;
  const mine = greeting(context, target);
  const first = [encodeClientMessage({ type: "RELAY", key, role, name }), mine.message];
  const socket = await place.openSocket(place.url, {
    protocols: [RENDEZVOUS_PROTOCOL, ...first.map((message) => FIRST_MESSAGE_PREFIX + toBase64url(message))],
    maxMessage: MAX_RELAY_MESSAGE,
    signal,
  });
  return new Promise((resolve, reject) => {
    const fail = (error: DcpipeError): void => {
      signal.removeEventListener("abort", stopped);
      socket.onmessage = undefined;
      socket.close();
      reject(error);
    };
    const stopped = (): void => {
      fail(new DcpipeError("ABORTED", "stopped"));
    };
    if (signal.aborted) {
      stopped();
      return;
    }
    signal.addEventListener("abort", stopped);
    socket.onclose = (code, reason) => {
      fail(closeError(code, reason));
    };
    socket.onmessage = (message) => {
      try {
        const theirs = readGreeting(context, target, message);
        const salts =
          role === "waiting"
            ? { waiting: mine.salt, joining: theirs.salt }
            : { waiting: theirs.salt, joining: mine.salt };
        signal.removeEventListener("abort", stopped);
        resolve({
          channel: new RelayChannel(
            socket,
            new SequenceSeal({ mine: keys.relayKey(role, salts), theirs: keys.relayKey(other(role), salts) }),
          ),
          epoch: Math.max(target.epoch, theirs.epoch),
        });
      } catch (error) {
        fail(asDcpipeError(error, "PROTOCOL"));
      }
    };
  });
}

/** A HELLO has a key of its own in each direction. */
function helloSeal(key: Uint8Array): SequenceSeal {
  return new SequenceSeal({ mine: key, theirs: key });
}

function other(role: Role): Role {
  return role === "waiting" ? "joining" : "waiting";
}

function greeting(
  { role, keys, fingerprints }: RelayContext,
  { epoch, index }: RelayTarget,
): { salt: Uint8Array; message: Uint8Array } {
  const salt = crypto.getRandomValues(new Uint8Array(SALT_SIZE));
  const proof = keys.proof(role, epoch, index, fingerprints);
  const hello = encodeHello({ version: PROTOCOL_VERSION, role, epoch, index, proof });
  const sealed = helloSeal(keys.relayHelloKey(role, salt)).seal(hello);
  const message = new Uint8Array(SALT_SIZE + sealed.length);
  message.set(salt);
  message.set(sealed, SALT_SIZE);
  return { salt, message };
}

/** Throws AUTH_FAILED, VERSION, PROTOCOL. */
function readGreeting(
  { role, keys, fingerprints }: RelayContext,
  { epoch, index }: RelayTarget,
  message: Uint8Array,
): { salt: Uint8Array; epoch: number } {
  if (message.length < SALT_SIZE + TAG_SIZE) throw new DcpipeError("PROTOCOL", "the relay brought no HELLO");
  const salt = message.slice(0, SALT_SIZE);
  const theirs = other(role);
  const hello = decodeHello(helloSeal(keys.relayHelloKey(theirs, salt)).open(message.subarray(SALT_SIZE)));
  if (hello.version !== PROTOCOL_VERSION)
    throw new DcpipeError(
      "VERSION",
      `the other side speaks version ${hello.version}, this one ${PROTOCOL_VERSION}`,
    );
  const fits = index === 0 ? hello.epoch >= FIRST_RELAY_EPOCH : hello.epoch === epoch;
  if (hello.role !== theirs || hello.index !== index || !fits)
    throw new DcpipeError("PROTOCOL", "a HELLO for another channel");
  if (!sameBytes(hello.proof, keys.proof(theirs, hello.epoch, index, fingerprints)))
    throw new DcpipeError("AUTH_FAILED", "the other side could not prove that it holds the secret");
  return { salt, epoch: hello.epoch };
}

function closeError(code: number, reason: string): DcpipeError {
  switch (code) {
    case CLOSE.NO_RELAY:
      return new DcpipeError("LIMIT", "the rendezvous does not relay");
    case CLOSE.LIMIT:
      return new DcpipeError(
        "LIMIT",
        `the rendezvous does not relay any more: ${reason === "" ? "a limit was reached" : reason}`,
      );
    case CLOSE.VERSION:
    case CLOSE.PROTOCOL:
    case CLOSE.TOO_BIG:
      return new DcpipeError("LIMIT", "the rendezvous knows no relay");
    default:
      return new DcpipeError("SIGNALLING", "the relay was lost");
  }
}

class RelayChannel implements Channel {
  ondrain: (() => void) | undefined;
  onclose: (() => void) | undefined;
  closed = false;
  readonly #socket: Socket;
  readonly #seal: SequenceSeal;
  #early: Uint8Array[] = [];
  #onmessage: ((message: Uint8Array) => void) | undefined;

  constructor(socket: Socket, seal: SequenceSeal) {
    this.#socket = socket;
    this.#seal = seal;
    socket.onmessage = (message) => {
      this.#take(message);
    };
    socket.onclose = () => {
      this.#lost();
    };
    socket.ondrain = () => this.ondrain?.();
  }

  get onmessage(): ((message: Uint8Array) => void) | undefined {
    return this.#onmessage;
  }

  set onmessage(listener: ((message: Uint8Array) => void) | undefined) {
    this.#onmessage = listener;
    for (const message of this.#early.splice(0)) listener?.(message);
  }

  get bufferedAmount(): number {
    return this.closed ? 0 : this.#socket.bufferedAmount;
  }

  send(message: Uint8Array): boolean {
    if (this.closed) return false;
    this.#socket.send(this.#seal.seal(message));
    return true;
  }

  close(): void {
    this.#socket.close();
    this.#lost();
  }

  #take(sealed: Uint8Array): void {
    if (this.closed) return;
    let message: Uint8Array;
    try {
      message = this.#seal.open(sealed);
    } catch {
      // Whoever alters messages cannot be told from one who loses them: the channel is dead, the session is not.
      this.close();
      return;
    }
    if (this.#onmessage) this.#onmessage(message);
    else this.#early.push(message);
  }

  #lost(): void {
    if (this.closed) return;
    this.closed = true;
    this.#early = [];
    this.onclose?.();
  }
}
