/**
 * One client's WebSocket (RFC 6455), and how a request for one is answered. The only file that knows the package `ws`.
 *
 * Whatever a client does, it costs a bounded amount of memory and nobody else's time: messages have a size and a rate, what it does not
 * take is not kept, and a connection that answers no ping is cut.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer, type ServerOptions, type WebSocket } from "ws";
import { fromBase64url } from "../wire/bytes.ts";
import {
  CLOSE,
  FIRST_MESSAGE_PREFIX,
  MAX_RENDEZVOUS_MESSAGE,
  RENDEZVOUS_PROTOCOL,
  RENDEZVOUS_PROTOCOL_PREFIX,
  type CloseCode,
} from "../wire/rendezvous.ts";
import type { Limits } from "./limits.ts";

export interface ConnectionEvents {
  message(message: Uint8Array): void;
  /** The connection has gone; called once. `code`: why it was closed from here, undefined when it was not. */
  closed(code: CloseCode | undefined): void;
}

export interface Opening {
  readonly connection: Connection;
  /** Messages that the request itself carried (section 7.1). */
  readonly first: readonly Uint8Array[];
}

export class Connection {
  readonly #socket: WebSocket;
  readonly #stream: Duplex;
  readonly #limits: Limits;
  readonly #pings: NodeJS.Timeout;
  #events: ConnectionEvents | undefined;
  #answered = true;
  #messages = 0;
  #code: CloseCode | undefined;

  constructor(socket: WebSocket, stream: Duplex, limits: Limits) {
    this.#socket = socket;
    this.#stream = stream;
    this.#limits = limits;
    socket.on("message", (data: Buffer, isBinary: boolean) => {
      if (!isBinary) this.close(CLOSE.PROTOCOL);
      // A copy: what is kept of a message must not keep all that was read from the socket with it.
      else if (this.#count()) this.#events?.message(new Uint8Array(data));
    });
    socket.on("ping", () => {
      this.#count();
      this.#checkBuffer();
    });
    socket.on("pong", () => {
      this.#answered = true;
    });
    socket.on("error", (error: Error & { code?: string }) => {
      // ws closes it by itself.
      if (error.code === "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH") this.#code ??= CLOSE.TOO_BIG;
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
    this.#code = code;
    this.#socket.close(code, reason);
  }

  /** Cuts it. */
  terminate(): void {
    this.#socket.terminate();
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

  #ping(): void {
    if (!this.#answered) {
      this.#code ??= CLOSE.SLOW;
      this.terminate();
      return;
    }
    this.#answered = false;
    this.#messages = 0;
    if (this.#code === undefined) this.#socket.ping();
  }
}

/** Answers requests for a WebSocket; `open` is called for each that becomes one. */
export function createUpgrade(
  limits: Limits,
  open: (opening: Opening, request: IncomingMessage) => void,
): (request: IncomingMessage, stream: Duplex, head: Buffer) => void {
  // @types/ws does not know closeTimeout yet.
  const options: ServerOptions & { closeTimeout: number } = {
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_RENDEZVOUS_MESSAGE,
    closeTimeout: limits.closeMs,
    handleProtocols: (offered) =>
      [...offered].find((name) => name === RENDEZVOUS_PROTOCOL) ??
      [...offered].find((name) => name.startsWith(RENDEZVOUS_PROTOCOL_PREFIX)) ??
      false,
  };
  const sockets = new WebSocketServer(options);
  return (request, stream, head) => {
    const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
    if (!offered.some((name) => name.startsWith(RENDEZVOUS_PROTOCOL_PREFIX))) {
      refuse(stream, `this is a dcpipe rendezvous: it speaks the subprotocol ${RENDEZVOUS_PROTOCOL}`);
      return;
    }
    sockets.handleUpgrade(request, stream, head, (socket) => {
      const connection = new Connection(socket, stream, limits);
      if (!offered.includes(RENDEZVOUS_PROTOCOL)) connection.close(CLOSE.VERSION);
      open({ connection, first: firstMessages(offered, connection) }, request);
    });
  };
}

function firstMessages(offered: readonly string[], connection: Connection): Uint8Array[] {
  const texts = offered.filter((name) => name.startsWith(FIRST_MESSAGE_PREFIX));
  try {
    return texts.map((text) => fromBase64url(text.slice(FIRST_MESSAGE_PREFIX.length)));
  } catch {
    connection.close(CLOSE.PROTOCOL);
    return [];
  }
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
