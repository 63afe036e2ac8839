/**
 * What the WebRTC library takes for its TURN server: a UDP socket on this machine, for one peer connection. It answers for itself, with
 * credentials made up for this one use, and passes on to the real allocation what that one must know. So the real one may be reached by
 * whatever protocol, and outlive the peer connection.
 */
import { randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";
import { DcpipeError } from "../../errors.ts";
import { stay } from "../net/lookup.ts";
import { lowerPriority, refreshFingerprint } from "./check.ts";
import { Refused, type TurnClient } from "./client.ts";
import { CHANNEL_HEADER_SIZE, isChannelData, isWhole } from "./framing.ts";
import {
  ATTRIBUTE,
  CLASS,
  decodeStun,
  decodeXorAddress,
  encodeError,
  encodeStun,
  encodeUInt32,
  encodeXorAddress,
  hasIntegrity,
  isStun,
  longTermKey,
  METHOD,
  newTransaction,
  type Attribute,
  type StunMessage,
  type TransportAddress,
} from "./stun.ts";

const REALM = Buffer.from("dcpipe");
/** So long the library is told that all is well; the real allocation is kept alive by itself. */
const LIFETIME = 600;
const FIRST_CHANNEL = 0x4000;
const LAST_CHANNEL = 0x4fff;
/** The first byte of DTLS records (RFC 7983, section 7). */
const DTLS_FIRST = 20;
const DTLS_LAST = 63;
/** A first flight of DTLS is one record, or some more where certificates are large. */
const MAX_HELD = 8;
/** Once its peer connection is closed the library has said its last word when it has been silent for so long: it says it at once. */
const QUIET_MS = 50;
/** And it is not listened to for longer than this. */
const MAX_LAST_WORDS_MS = 500;
const ERROR = { UNAUTHENTICATED: 401, STALE_NONCE: 438, SERVER_ERROR: 500 } as const;
/** As our servers' socket has it: what waits while we are busy, where the system allows that much. */
const SOCKET_BUFFER = 4 * 1024 * 1024;

export class Endpoint {
  readonly host: string;
  readonly port: number;
  readonly username = randomBytes(8).toString("hex");
  readonly password = randomBytes(16).toString("hex");
  /** A server has refused a permission, by its number. */
  onrefused: ((error: Refused) => void) | undefined;
  readonly #socket: Socket;
  /** The other side's ICE password. */
  readonly #remotePassword: string;
  readonly #nonce = Buffer.from(randomBytes(8).toString("hex"));
  readonly #key = longTermKey(this.username, REALM, this.password);
  #client: TurnClient | undefined;
  /** Addresses that may call without having been called. */
  readonly #guests: Buffer[] = [];
  /** Port of the peer connection, once it has shown that it is it. */
  #peer: number | undefined;
  #connected = false;
  /** Transaction of an Allocate that waits for the allocation. */
  #allocating: Buffer | undefined;
  #failed = false;
  /** Channel numbers: the library's to the server's, and back. */
  readonly #up = new Map<number, number>();
  readonly #down = new Map<number, number>();
  /** DTLS that came before the peer connection can take it; undefined when it can. */
  #held: Buffer[] | undefined = [];
  /** Restarted by each of its last words. */
  #quiet: ReturnType<typeof setTimeout> | undefined;
  #isClosing = false;
  #closed = false;

  private constructor(socket: Socket, host: string, remotePassword: string) {
    this.#socket = socket;
    this.#remotePassword = remotePassword;
    this.host = host;
    this.port = socket.address().port;
    socket.on("error", () => {
      // The peer connection's socket is gone; it will say so itself.
    });
    socket.on("message", (message, { port, address }) => {
      this.#quiet?.refresh();
      if (address === host) this.#fromLibrary(message, port);
    });
    socket.unref();
  }

  /** Opens one at an address of this machine. `remotePassword`: the other side's, in ICE. Rejects with IO. */
  static open(host: string, remotePassword: string): Promise<Endpoint> {
    return new Promise((resolve, reject) => {
      const socket = createSocket({ type: isIPv6(host) ? "udp6" : "udp4", lookup: stay });
      socket.once("error", (cause) => {
        socket.close();
        reject(new DcpipeError("IO", `no socket for TURN at ${host}: ${cause.message}`, { cause }));
      });
      socket.bind({ address: host, port: 0, exclusive: true }, () => {
        socket.removeAllListeners("error");
        for (const name of ["setRecvBufferSize", "setSendBufferSize"] as const) {
          try {
            socket[name](SOCKET_BUFFER);
          } catch {
            // The system's default is of use too.
          }
        }
        resolve(new Endpoint(socket, host, remotePassword));
      });
    });
  }

  /** The allocation is there. */
  attach(client: TurnClient): void {
    this.#client = client;
    client.onmessage = (message) => {
      this.#fromServer(client, message);
    };
    if (this.#allocating) this.#allocated(this.#allocating, client);
    for (const address of this.#guests) this.#invite(client, address);
  }

  /** Lets an address call ours, 4 or 16 bytes. The library does so for those that it calls itself. */
  permit(address: Buffer): void {
    this.#guests.push(address);
    if (this.#client) this.#invite(this.#client, address);
  }

  /** There will be none. */
  fail(): void {
    this.#failed = true;
    if (this.#allocating) this.#refuse(METHOD.ALLOCATE, this.#allocating, ERROR.SERVER_ERROR);
  }

  /**
   * The peer connection has found a path, and can take DTLS. What comes before that ends badly there: at best it is answered a second
   * later, and at worst two threads wait for each other for ever, and the process with them (paullouisageneau/libdatachannel pull request
   * 1630, which no release of ours has yet).
   */
  connected(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const message of held) this.#toLibrary(message);
  }

  /**
   * The peer connection is closed: what it has said last is passed on still, nothing comes back. Resolves when that is over, soon. To be
   * called once; the allocation is the caller's.
   */
  close(): Promise<void> {
    this.#isClosing = true;
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(this.#quiet);
        clearTimeout(latest);
        if (!this.#closed) this.#socket.close();
        this.#closed = true;
        resolve();
      };
      const latest = setTimeout(end, MAX_LAST_WORDS_MS);
      this.#quiet = setTimeout(end, this.#client ? QUIET_MS : 0);
    });
  }

  #fromLibrary(message: Buffer, port: number): void {
    if (!isWhole(message)) return;
    if (isChannelData(message)) {
      const channel = this.#up.get(message.readUInt16BE(0));
      if (port !== this.#peer || channel === undefined) return;
      message.writeUInt16BE(channel, 0);
      const data = message.subarray(CHANNEL_HEADER_SIZE, CHANNEL_HEADER_SIZE + message.readUInt16BE(2));
      if (isStun(data)) lowerPriority(data, this.#remotePassword);
      this.#client?.send(message);
      return;
    }
    const stun = decodeStun(message);
    if (stun?.class === CLASS.INDICATION) {
      if (port !== this.#peer || stun.method !== METHOD.SEND) return;
      const data = stun.attributes.get(ATTRIBUTE.DATA);
      if (data && isStun(data)) {
        lowerPriority(data, this.#remotePassword);
        refreshFingerprint(message);
      }
      this.#client?.send(message);
    } else if (stun?.class === CLASS.REQUEST) this.#request(message, stun, port);
  }

  /** A request of the library, or of another program on this machine that does not know the password. */
  #request(message: Buffer, stun: StunMessage, port: number): void {
    const { method, transaction } = stun;
    if (stun.attributes.get(ATTRIBUTE.USERNAME)?.toString() !== this.username) {
      if (this.#peer === undefined) this.#challenge(method, transaction, port);
      return;
    }
    if (!hasIntegrity(message, stun, this.#key) || (this.#peer ?? port) !== port) return;
    this.#known(port);
    switch (method) {
      case METHOD.ALLOCATE:
        if (this.#client) this.#allocated(transaction, this.#client);
        else if (this.#failed) this.#refuse(method, transaction, ERROR.SERVER_ERROR);
        else this.#allocating = Buffer.from(transaction);
        break;
      case METHOD.REFRESH:
        this.#grant(method, transaction, [encodeUInt32(ATTRIBUTE.LIFETIME, LIFETIME)]);
        break;
      case METHOD.CREATE_PERMISSION:
        this.#permit(stun);
        break;
      case METHOD.CHANNEL_BIND:
        this.#bind(stun);
        break;
      default:
    }
  }

  /** From now on nobody else is heard, and sending is faster. */
  #known(port: number): void {
    if (this.#peer !== undefined) return;
    this.#peer = port;
    try {
      this.#socket.connect(port, this.host, ignore);
      // Throws when it is not; with an address for a name it is so at once.
      this.#socket.remoteAddress();
      this.#connected = true;
    } catch {
      // Then it is as before.
    }
  }

  #challenge(method: number, transaction: Buffer, port: number): void {
    const attributes: Attribute[] = [
      encodeError(ERROR.UNAUTHENTICATED),
      [ATTRIBUTE.REALM, REALM],
      [ATTRIBUTE.NONCE, this.#nonce],
    ];
    this.#socket.send(
      encodeStun({ method, class: CLASS.ERROR, transaction, attributes }),
      port,
      this.host,
      ignore,
    );
  }

  #allocated(transaction: Buffer, { relayed }: TurnClient): void {
    this.#allocating = undefined;
    if (!relayed) return;
    // No mapped address: it would be that of another socket.
    this.#grant(METHOD.ALLOCATE, transaction, [
      encodeXorAddress(ATTRIBUTE.XOR_RELAYED_ADDRESS, relayed, transaction),
      encodeUInt32(ATTRIBUTE.LIFETIME, LIFETIME),
    ]);
  }

  #permit(stun: StunMessage): void {
    const peer = peerOf(stun);
    if (peer)
      this.#ask(stun, (transaction) => [encodeXorAddress(ATTRIBUTE.XOR_PEER_ADDRESS, peer, transaction)]);
  }

  #bind(stun: StunMessage): void {
    const peer = peerOf(stun);
    const asked = stun.attributes.get(ATTRIBUTE.CHANNEL_NUMBER);
    const wanted = asked?.length === 4 ? asked.readUInt16BE(0) : 0;
    const client = this.#client;
    if (!peer || !client || wanted < FIRST_CHANNEL || wanted > LAST_CHANNEL) return;
    const channel = channelFor(client, peer, wanted);
    // Data follows at once, without waiting for the answer.
    this.#up.set(wanted, channel);
    this.#down.set(channel, wanted);
    const number = Buffer.alloc(4);
    number.writeUInt16BE(channel, 0);
    this.#ask(stun, (transaction) => [
      [ATTRIBUTE.CHANNEL_NUMBER, number],
      encodeXorAddress(ATTRIBUTE.XOR_PEER_ADDRESS, peer, transaction),
    ]);
  }

  /** Asks the server the same, and passes on what it says. */
  #ask(
    { method, transaction }: StunMessage,
    attributes: (transaction: Buffer) => readonly Attribute[],
  ): void {
    const id = Buffer.from(transaction);
    this.#client?.request(method, attributes).then(
      () => {
        this.#grant(method, id, []);
      },
      (error: unknown) => {
        this.#refuse(
          method,
          id,
          error instanceof Refused && error.number > 0 ? error.number : ERROR.SERVER_ERROR,
        );
        if (error instanceof Refused) this.onrefused?.(error);
      },
    );
  }

  #grant(method: number, transaction: Buffer, attributes: readonly Attribute[]): void {
    this.#toLibrary(encodeStun({ method, class: CLASS.SUCCESS, transaction, attributes }, this.#key));
  }

  #refuse(method: number, transaction: Buffer, number: number): void {
    this.#allocating = undefined;
    const attributes = [encodeError(number)];
    this.#toLibrary(encodeStun({ method, class: CLASS.ERROR, transaction, attributes }, this.#key));
  }

  #invite(client: TurnClient, bytes: Buffer): void {
    client
      .request(METHOD.CREATE_PERMISSION, (transaction) => [
        encodeXorAddress(ATTRIBUTE.XOR_PEER_ADDRESS, { bytes, port: 0 }, transaction),
      ])
      .catch(() => undefined);
  }

  #fromServer(client: TurnClient, message: Buffer): void {
    let down = message;
    if (isChannelData(message)) {
      const number = message.readUInt16BE(0);
      const channel = this.#down.get(number);
      if (channel !== undefined) message.writeUInt16BE(channel, 0);
      else {
        const indication = indicationOf(client, number, message.subarray(CHANNEL_HEADER_SIZE));
        if (!indication) return;
        down = indication;
      }
    }
    if (this.#held && isDtls(down)) {
      if (this.#held.length < MAX_HELD) this.#held.push(Buffer.from(down));
    } else this.#toLibrary(down);
  }

  #toLibrary(message: Buffer): void {
    if (this.#isClosing || this.#peer === undefined) return;
    if (this.#connected) this.#socket.send(message, ignore);
    else this.#socket.send(message, this.#peer, this.host, ignore);
  }
}

function ignore(): void {
  // What could not be sent is lost, and what went wrong shows elsewhere; without a callback it would be an event.
}

function peerOf({ attributes, transaction }: StunMessage): TransportAddress | undefined {
  return decodeXorAddress(attributes.get(ATTRIBUTE.XOR_PEER_ADDRESS), transaction);
}

/** The peer's channel on the server: the one it has already, or else `wanted`, or the next one that is free there. */
function channelFor({ channels }: TurnClient, peer: TransportAddress, wanted: number): number {
  for (const [number, { bytes, port }] of channels)
    if (port === peer.port && bytes.equals(peer.bytes)) return number;
  let channel = wanted;
  while (channels.has(channel) && channels.size <= LAST_CHANNEL - FIRST_CHANNEL)
    channel = channel === LAST_CHANNEL ? FIRST_CHANNEL : channel + 1;
  channels.set(channel, peer);
  return channel;
}

/** Data of a channel that this peer connection has not bound, as it came before there was a channel. */
function indicationOf({ channels }: TurnClient, channel: number, data: Buffer): Buffer | undefined {
  const peer = channels.get(channel);
  if (!peer) return undefined;
  const transaction = newTransaction();
  const attributes: Attribute[] = [
    encodeXorAddress(ATTRIBUTE.XOR_PEER_ADDRESS, peer, transaction),
    [ATTRIBUTE.DATA, data],
  ];
  return encodeStun({ method: METHOD.DATA, class: CLASS.INDICATION, transaction, attributes });
}

/** Whether ChannelData or a Data indication carries DTLS. */
function isDtls(message: Buffer): boolean {
  const data = isChannelData(message)
    ? message.subarray(CHANNEL_HEADER_SIZE)
    : decodeStun(message)?.attributes.get(ATTRIBUTE.DATA);
  const first = data?.[0] ?? 0;
  return first >= DTLS_FIRST && first <= DTLS_LAST;
}
