/**
 * One client's WebSocket (RFC 6455), and how a request for one is answered. The only file that knows the package `ws`.
 *
 * Whatever a client does, it costs a bounded amount of memory and nobody else's time: messages have a size and a rate, what it does not
 * take is not kept, and a connection that answers no ping is cut. An end of a relay has larger messages and any number of them; it is
 * paused by whoever passes them on.
 */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocketServer, type ServerOptions, type WebSocket } from "ws";
import { fromBase64url } from "../wire/bytes.ts";
import {
  CLOSE,
  FIRST_MESSAGE_PREFIX,
  isRelay,
  MAX_RELAY_MESSAGE,
  MAX_RENDEZVOUS_MESSAGE,
  RENDEZVOUS_PROTOCOL,
  RENDEZVOUS_PROTOCOL_PREFIX,
  type CloseCode,
} from "../wire/rendezvous.ts";
import type { Limits } from "./limits.ts";

export interface ConnectionEvents {
  message(message: Uint8Array): void;
  /** Of what was passed, so much (`passCost`) has left this process. */
  taken(cost: number): void;
  /** It is being closed: nothing comes or goes any more, but the client's answer to that may take a while. Called more than once, maybe. */
  closing(): void;
  /** The connection has gone; called once. `code`: why it was closed from here, undefined when it was not. */
  closed(code: CloseCode | undefined): void;
}

export interface Opening {
  readonly connection: Connection;
  /** Messages that the request itself carried (section 7.1). */
  readonly first: readonly Uint8Array[];
  /** The first of them is RELAY, well-formed or not. */
  readonly relay: boolean;
}

/** What a relayed message counts for until it is taken: its bytes and the largest header. */
export function passCost(message: Uint8Array): number {
  return message.length + MAX_FRAME_HEADER;
}

const MAX_FRAME_HEADER = 10;
/** Pieces of a relayed message, as frames and as reads from the socket: no proxy makes more, and each costs memory of its own. */
const MAX_FRAGMENTS = 64;
const MAX_CHUNKS = 1024;

export class Connection {
  readonly #socket: WebSocket;
  readonly #stream: Socket;
  readonly #limits: Limits;
  readonly #relay: boolean;
  readonly #pings: NodeJS.Timeout;
  #events: ConnectionEvents | undefined;
  #answered = true;
  #messages = 0;
  /** Frames that go out at the end of this turn, and what they count for. */
  #passing: Uint8Array[] = [];
  #passingCost = 0;
  #code: CloseCode | undefined;
  /** Bytes read and bytes gone to the client at the last ping; whether since then some had to wait, and whether we did not read. */
  #seen = { read: 0, gone: 0, queued: false, paused: false };

  constructor(socket: WebSocket, stream: Socket, limits: Limits, relay: boolean) {
    this.#socket = socket;
    this.#stream = stream;
    this.#limits = limits;
    this.#relay = relay;
    socket.on("message", (data: Buffer, isBinary: boolean) => {
      if (!isBinary) this.close(CLOSE.PROTOCOL);
      else if (relay) this.#take(data);
      // A copy: what is kept of a message must not keep all that was read from the socket with it.
      else if (this.#count()) this.#events?.message(new Uint8Array(data));
    });
    socket.on("ping", () => {
      this.#count();
      if (!relay) this.#checkBuffer();
    });
    socket.on("pong", () => {
      this.#answered = true;
    });
    socket.on("error", (error: Error & { code?: string }) => {
      // ws closes it by itself.
      if (error.code === "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH") this.#code ??= CLOSE.TOO_BIG;
      this.#events?.closing();
    });
    socket.on("close", () => {
      clearInterval(this.#pings);
      this.#events?.closed(this.#code);
    });
    this.#pings = setInterval(() => {
      this.#ping();
    }, limits.pingMs);
  }

  /** To be called at once, before the event loop goes on. */
  listen(events: ConnectionEvents): void {
    this.#events = events;
  }

  send(message: Uint8Array): void {
    if (this.#code !== undefined) return;
    this.#socket.send(message);
    this.#checkBuffer();
  }

  /**
   * Sends a message of a relay. What one turn of the event loop sends goes out as one buffer: small messages come by the thousand in one
   * read, and ws would keep two buffers and a callback for each until it is gone, a hundred times what the message itself costs.
   */
  pass(message: Uint8Array): void {
    if (this.#code !== undefined) return;
    if (this.#passing.length === 0) {
      process.nextTick(() => {
        this.#flush();
      });
    }
    this.#passing.push(frameHeader(message.length), message);
    this.#passingCost += passCost(message);
  }

  /** Reads no further messages: what the client sends waits in TCP. Those that were read together with the last one still come. */
  pause(): void {
    if (this.#code !== undefined) return;
    this.#seen.paused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** What `body` sends goes out in as few packets as possible. */
  batch(body: () => void): void {
    this.#stream.cork();
    body();
    this.#stream.uncork();
  }

  /**
   * Idempotent: the first code counts. What was sent before still goes out, if it is taken in time. `reason`: for people, at most 123
   * bytes (RFC 6455, section 5.5).
   */
  close(code: CloseCode, reason = ""): void {
    if (this.#code !== undefined) return;
    this.#flush();
    this.#code = code;
    this.#socket.close(code, reason);
    // Its answer is read, and what comes before that goes nowhere.
    if (this.#relay) this.resume();
    this.#events?.closing();
  }

  /** Cuts it. */
  terminate(): void {
    this.#socket.terminate();
  }

  #flush(): void {
    const [frames, cost] = [this.#passing, this.#passingCost];
    this.#passing = [];
    this.#passingCost = 0;
    if (frames.length === 0 || this.#socket.readyState !== this.#socket.OPEN) return;
    if (this.#stream.writableLength > 0) this.#seen.queued = true;
    this.#stream.write(Buffer.concat(frames), () => this.#events?.taken(cost));
  }

  #take(message: Uint8Array): void {
    if (this.#code === undefined) this.#events?.message(message);
  }

  /** Whether one more message is within what a client may send. */
  #count(): boolean {
    if (this.#code !== undefined) return false;
    if (++this.#messages <= this.#limits.messagesPerPing) return true;
    this.close(CLOSE.LIMIT, "too many messages");
    return false;
  }

  #checkBuffer(): void {
    if (this.#socket.bufferedAmount > this.#limits.bufferedBytes) this.close(CLOSE.SLOW);
  }

  /**
   * Whether the client has shown a sign of life since the last ping. An end of a relay may be kept from it: its answers wait while it is
   * paused, and our pings behind what it has yet to take. Then it is enough that it takes some of that.
   */
  #isAlive(): boolean {
    if (!this.#relay) return this.#answered;
    const { bytesRead, bytesWritten, writableLength } = this.#stream;
    const { read, gone, queued, paused } = this.#seen;
    const now = bytesWritten - writableLength;
    this.#seen = { read: bytesRead, gone: now, queued: writableLength > 0, paused: this.#socket.isPaused };
    return bytesRead !== read || (queued ? now !== gone : paused);
  }

  #ping(): void {
    if (!this.#isAlive()) {
      this.#code ??= CLOSE.SLOW;
      this.terminate();
      return;
    }
    this.#answered = false;
    this.#messages = 0;
    if (this.#code === undefined) this.#socket.ping();
  }
}

/** Answers requests for a WebSocket; `open` is called for each that becomes one. `elsewhere`: it came to a name at which there are none. */
export function createUpgrade(
  limits: Limits,
  elsewhere: (request: IncomingMessage) => boolean,
  open: (opening: Opening, request: IncomingMessage) => void,
): (request: IncomingMessage, stream: Duplex, head: Buffer) => void {
  // @types/ws does not know the last ones yet.
  const options: ServerOptions & { closeTimeout: number; maxFragments?: number; maxBufferedChunks?: number } =
    {
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      closeTimeout: limits.closeMs,
      handleProtocols: (offered) =>
        [...offered].find((name) => name === RENDEZVOUS_PROTOCOL) ??
        [...offered].find((name) => name.startsWith(RENDEZVOUS_PROTOCOL_PREFIX)) ??
        false,
    };
  // ws has one largest message for a server.
  const small = new WebSocketServer({ ...options, maxPayload: MAX_RENDEZVOUS_MESSAGE });
  const large = { maxPayload: MAX_RELAY_MESSAGE, maxFragments: MAX_FRAGMENTS, maxBufferedChunks: MAX_CHUNKS };
  const relays = new WebSocketServer({ ...options, ...large });
  return (request, stream, head) => {
    if (elsewhere(request)) {
      refuse(stream, "there is no rendezvous at this name");
      return;
    }
    const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
    if (!offered.some((name) => name.startsWith(RENDEZVOUS_PROTOCOL_PREFIX))) {
      refuse(stream, `this is a dcpipe rendezvous: it speaks the subprotocol ${RENDEZVOUS_PROTOCOL}`);
      return;
    }
    const known = offered.includes(RENDEZVOUS_PROTOCOL);
    const first = known ? firstMessages(offered) : [];
    const relay = first?.[0] !== undefined && isRelay(first[0]);
    (relay ? relays : small).handleUpgrade(request, stream, head, (socket) => {
      const connection = new Connection(socket, request.socket, limits, relay);
      if (!known) connection.close(CLOSE.VERSION);
      if (!first) connection.close(CLOSE.PROTOCOL);
      open({ connection, first: first ?? [], relay }, request);
    });
  };
}

/** Undefined when they are no base64url. */
function firstMessages(offered: readonly string[]): Uint8Array[] | undefined {
  const texts = offered.filter((name) => name.startsWith(FIRST_MESSAGE_PREFIX));
  try {
    return texts.map((text) => fromBase64url(text.slice(FIRST_MESSAGE_PREFIX.length)));
  } catch {
    return undefined;
  }
}

/** Of a whole binary message, as a server sends it (RFC 6455, section 5.2). */
function frameHeader(length: number): Uint8Array {
  if (length < 126) return Uint8Array.of(0x82, length);
  if (length < 2 ** 16) return Uint8Array.of(0x82, 126, length >> 8, length & 0xff);
  return Uint8Array.of(0x82, 127, 0, 0, 0, 0, ...[24, 16, 8, 0].map((shift) => (length >>> shift) & 0xff));
}

function refuse(stream: Duplex, text: string): void {
  stream.on("error", () => undefined);
  stream.once("finish", () => {
    stream.destroy();
  });
  stream.end(
    "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n" +
      `Content-Length: ${text.length + 1}\r\n\r\n${text}\n`,
  );
}
