/** A client of a rendezvous with no manners of its own: a WebSocket that says what a test tells it to, and what it hears, in order. */
import { randomBytes } from "node:crypto";
import { onTestFinished } from "vitest";
import { WebSocket } from "ws";
import { Rendezvous, type RendezvousOptions } from "../../src/server/rendezvous.ts";
import { toBase64url } from "../../src/wire/bytes.ts";
import {
  decodeServerMessage,
  encodeClientMessage,
  FIRST_MESSAGE_PREFIX,
  RENDEZVOUS_PROTOCOL,
  type ClientMessage,
  type ServerMessage,
} from "../../src/wire/rendezvous.ts";

export interface VisitOptions {
  /** Travels in the request. */
  readonly first?: ClientMessage;
  readonly protocols?: readonly string[];
  /** Loopback address to come from. */
  readonly from?: string;
  readonly headers?: Record<string, string>;
}

export class Visitor {
  readonly socket: WebSocket;
  /** Why the server closed it. Never rejects. */
  readonly closed: Promise<number>;
  readonly opened: Promise<void>;
  /** What it said for people when it closed. */
  reason = "";
  readonly #heard: Uint8Array[] = [];
  #listener: (() => void) | undefined;
  #gone: number | undefined;

  constructor(url: string, { first, protocols, from, headers }: VisitOptions = {}) {
    const offered = [...(protocols ?? [RENDEZVOUS_PROTOCOL])];
    if (first) offered.push(FIRST_MESSAGE_PREFIX + toBase64url(encodeClientMessage(first)));
    const options = {
      perMessageDeflate: false,
      headers,
      ...(from === undefined ? {} : { localAddress: from }),
    };
    this.socket = new WebSocket(url, offered, options);
    this.socket.on("message", (data: Buffer) => {
      this.#heard.push(new Uint8Array(data));
      this.#listener?.();
    });
    this.opened = new Promise((resolve, reject) => {
      this.socket.once("open", resolve);
      this.socket.once("error", reject);
    });
    this.opened.catch(() => undefined);
    this.socket.on("error", () => undefined);
    this.closed = new Promise((resolve) => {
      this.socket.on("close", (code, reason) => {
        this.reason = reason.toString();
        this.#gone = code;
        this.#listener?.();
        resolve(code);
      });
    });
    onTestFinished(() => {
      this.socket.terminate();
    });
  }

  async say(...messages: readonly ClientMessage[]): Promise<void> {
    await this.opened;
    for (const message of messages) this.socket.send(encodeClientMessage(message));
  }

  /** The next message, which must be of this type. */
  async hear<T extends ServerMessage["type"]>(type: T): Promise<Extract<ServerMessage, { type: T }>> {
    const message = decodeServerMessage(await this.hearBytes());
    if (message.type !== type) throw new Error(`${message.type} came where ${type} is due`);
    return message as Extract<ServerMessage, { type: T }>;
  }

  /** The next message, whatever it is. */
  async hearBytes(): Promise<Uint8Array> {
    for (;;) {
      const message = this.#heard.shift();
      if (message) return message;
      if (this.#gone !== undefined) throw new Error(`closed with ${this.#gone} where a message is due`);
      await new Promise<void>((resolve) => (this.#listener = resolve));
    }
  }

  /** Messages that have come and were not asked for. */
  get unheard(): readonly Uint8Array[] {
    return this.#heard;
  }

  /** Goes away without a word. */
  async vanish(): Promise<void> {
    this.socket.terminate();
    await this.closed;
  }
}

export interface Server {
  readonly rendezvous: Rendezvous;
  readonly url: string;
  readonly http: string;
  visit(options?: VisitOptions): Visitor;
}

/** A server on a free port, which goes with the test. */
export async function serve(options: RendezvousOptions, host = "127.0.0.1"): Promise<Server> {
  const rendezvous = new Rendezvous(options);
  const { address, port } = await rendezvous.listen(0, host);
  onTestFinished(() => rendezvous.close());
  const where = `${address.includes(":") ? `[${address}]` : address}:${port}`;
  const url = `ws://${where}/`;
  return {
    rendezvous,
    url,
    http: `http://${where}/`,
    visit: (visit) => new Visitor(url, visit),
  };
}

export function newKey(): Uint8Array {
  return new Uint8Array(randomBytes(16));
}

/** Somebody who waits at a nameplate. */
export async function allocate(
  server: Server,
  { key = newKey(), nameplate = 0, ...visit }: VisitOptions & { key?: Uint8Array; nameplate?: number } = {},
): Promise<{ visitor: Visitor; nameplate: number; key: Uint8Array; link: string; stored: number }> {
  const visitor = server.visit({ ...visit, first: { type: "ALLOCATE", key, nameplate } });
  const allocated = await visitor.hear("ALLOCATED");
  const { stored } = await visitor.hear("ATTACHED");
  return { visitor, nameplate: allocated.nameplate, key, link: allocated.link, stored };
}

/** Somebody who joins there, up to SERVERS. */
export async function claim(
  server: Server,
  nameplate: number,
  { key = newKey(), ...visit }: VisitOptions & { key?: Uint8Array } = {},
): Promise<{ visitor: Visitor; key: Uint8Array }> {
  const visitor = server.visit({ ...visit, first: { type: "CLAIM", key, nameplate } });
  await visitor.hear("ATTACHED");
  await visitor.hear("SERVERS");
  return { visitor, key };
}

export function body(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
