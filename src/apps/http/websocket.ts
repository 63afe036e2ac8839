/**
 * WebSocket over a session: the standard's interface (websockets.spec.whatwg.org), to what the other side offers. This end speaks RFC 6455
 * with the server; the side in the middle has the opening, and then passes bytes on.
 *
 *   CONNECTING --ACCEPTED--> OPEN --close(), or a close frame--> CLOSING --close frames both ways, FIN--> CLOSED
 *        \______________________ the stream fails, the server breaks the protocol: "error", 1006 ________/
 */
import { asDcpipeError, DcpipeError } from "../../errors.ts";
import type { Stream } from "../../session/stream.ts";
import { protocolError } from "../../wire/bytes.ts";
import { encodeHeader, type Target } from "../../wire/header.ts";
import { encodeHttpRecord, isProtocol, type HttpField } from "../../wire/http.ts";
import {
  CLOSE,
  encodeClose,
  encodeSocketFrame,
  MAX_CLOSE_REASON,
  OPCODE,
  SocketReader,
  type SocketMessage,
} from "../../wire/websocket.ts";
import type { Source } from "../endpoints.ts";
import type { Opener } from "./exchange.ts";
import { travelling } from "./fields.ts";
import type { HttpOptions } from "./fetch.ts";
import { readHead } from "./head.ts";
import { locate, placeOf, type Place } from "./place.ts";

/** A message that is larger ends the connection with 1009: it would be held in memory as a whole. */
export const MAX_MESSAGE = 64 * 1024 * 1024;
/** A larger message goes in frames of this size, so that an answer to a ping need not wait for all of it. */
const FRAME = 256 * 1024;
/** A server that has said good-bye, or should, hangs up within this, or we do. Milliseconds. */
const CLOSE_MS = 3_000;
/** Masks are drawn so many at a time. */
const KEYS = 256;

const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

export type SocketData = string | ArrayBuffer | ArrayBufferView | Blob;

/** The end of a WebSocket, as the standard's CloseEvent, which Node 20 does not have. */
export class SocketCloseEvent extends Event {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;

  constructor(code: number, reason: string, wasClean: boolean) {
    super("close");
    this.code = code;
    this.reason = reason;
    this.wasClean = wasClean;
  }
}

/** Why a WebSocket failed, which the standard keeps to itself. */
export class SocketErrorEvent extends Event {
  readonly error: DcpipeError;
  readonly message: string;

  constructor(error: DcpipeError) {
    super("error");
    this.error = error;
    this.message = error.message;
  }
}

type Listener<E extends Event> = ((event: E) => unknown) | null;

/** What `new WebSocket(url, protocols)` gives. */
export class SessionWebSocket extends EventTarget {
  static readonly CONNECTING = CONNECTING;
  static readonly OPEN = OPEN;
  static readonly CLOSING = CLOSING;
  static readonly CLOSED = CLOSED;
  readonly CONNECTING = CONNECTING;
  readonly OPEN = OPEN;
  readonly CLOSING = CLOSING;
  readonly CLOSED = CLOSED;
  /** With ws: in front. */
  readonly url: string;
  /** None is ever agreed on. */
  readonly extensions = "";
  onopen: Listener<Event> = null;
  onmessage: Listener<MessageEvent> = null;
  /** Called with a SocketErrorEvent. */
  onerror: Listener<Event> = null;
  /** Called with a SocketCloseEvent. */
  onclose: Listener<Event> = null;
  #binaryType: "blob" | "arraybuffer" = "blob";
  #protocol = "";
  #state: 0 | 1 | 2 | 3 = CONNECTING;
  #stream: Stream | undefined;
  readonly #reader = new SocketReader(MAX_MESSAGE);
  /** Blobs have to be read, and messages keep their order. */
  #queue: Promise<void> | undefined;
  #queued = 0;
  /** What was to be sent when it was too late; the standard counts it for ever. */
  #lost = 0;
  #closeSent = false;
  /** What the server said in its close frame. */
  #farewell: { readonly code: number; readonly reason: string } | undefined;
  /** How the server broke the protocol. */
  #broken: DcpipeError | undefined;
  #closeTimer: ReturnType<typeof setTimeout> | undefined;
  #keys = new Uint8Array(0);

  /** Throws a DOMException SyntaxError for a URL or protocols that may not be. */
  constructor(
    session: Opener,
    options: HttpOptions,
    home: Place | undefined,
    url: string | URL,
    protocols: string | readonly string[] = [],
  ) {
    super();
    const list = typeof protocols === "string" ? [protocols] : [...protocols];
    if (!list.every(isProtocol) || new Set(list.map((each) => each.toLowerCase())).size < list.length)
      throw new DOMException("a subprotocol that is none, or twice the same", "SyntaxError");
    let place: { url: URL; target: Target };
    try {
      place = locate(url, home);
    } catch (cause) {
      throw new DOMException(asDcpipeError(cause, "USAGE").message, "SyntaxError");
    }
    place.url.hash = "";
    this.url = place.url.href.replace(/^http/, "ws");
    // First in the order of listeners: they are set as a rule before any other is added.
    this.addEventListener("open", (event) => this.onopen?.(event));
    this.addEventListener("message", (event) => this.onmessage?.(event as MessageEvent));
    this.addEventListener("error", (event) => this.onerror?.(event));
    this.addEventListener("close", (event) => this.onclose?.(event));
    // Events come when whoever made it has had the time to listen.
    queueMicrotask(() => {
      void this.#run(session, options, place, list);
    });
  }

  get readyState(): 0 | 1 | 2 | 3 {
    return this.#state;
  }

  get protocol(): string {
    return this.#protocol;
  }

  /** Bytes given to `send` that have not left this machine, with what frames add to them. */
  get bufferedAmount(): number {
    return this.#queued + this.#lost + (this.#stream?.memory.pending ?? 0);
  }

  get binaryType(): "blob" | "arraybuffer" {
    return this.#binaryType;
  }

  set binaryType(type: "blob" | "arraybuffer") {
    // Others are ignored, as enumerations are.
    if ((type as string) === "blob" || (type as string) === "arraybuffer") this.#binaryType = type;
  }

  /** Queues a message; watch `bufferedAmount`. Throws InvalidStateError before it is open. */
  send(data: SocketData): void {
    if (this.#state === CONNECTING)
      throw new DOMException("the WebSocket is not open yet", "InvalidStateError");
    const isText = typeof data === "string";
    const opcode = isText ? OPCODE.TEXT : OPCODE.BINARY;
    const content = isText ? new TextEncoder().encode(data) : data;
    if (this.#state !== OPEN) {
      this.#lost += content instanceof Blob ? content.size : content.byteLength;
      return;
    }
    if (!(content instanceof Blob) && !this.#queue) {
      this.#message(opcode, bytesOf(content));
      return;
    }
    // What is sent is what it was when `send` was called.
    const kept = content instanceof Blob ? content : bytesOf(content).slice();
    const size = kept instanceof Blob ? kept.size : kept.length;
    this.#queued += size;
    this.#inTurn(async () => {
      const bytes = kept instanceof Blob ? new Uint8Array(await kept.arrayBuffer()) : kept;
      this.#queued -= size;
      this.#message(opcode, bytes);
    });
  }

  /** Throws InvalidAccessError for a code that is not 1000 or 3000 to 4999, SyntaxError for a reason of more than 123 bytes. */
  close(code?: number, reason = ""): void {
    if (code !== undefined && code !== CLOSE.NORMAL && !(code >= 3000 && code <= 4999))
      throw new DOMException("a close code is 1000 or 3000 to 4999", "InvalidAccessError");
    const bytes = new TextEncoder().encode(reason);
    if (bytes.length > MAX_CLOSE_REASON)
      throw new DOMException(`a close reason has at most ${MAX_CLOSE_REASON} bytes`, "SyntaxError");
    if (this.#state === CONNECTING) {
      this.#state = CLOSING;
      this.#stream?.reset("ABORTED", "stopped");
      return;
    }
    if (this.#state !== OPEN) return;
    this.#state = CLOSING;
    const say = (): void => {
      this.#sayClose(code ?? (reason === "" ? undefined : CLOSE.NORMAL), bytes);
    };
    if (!this.#queue) say();
    else {
      this.#inTurn(() => {
        say();
        return Promise.resolve();
      });
    }
  }

  async #run(
    session: Opener,
    options: HttpOptions,
    { url, target }: { url: URL; target: Target },
    protocols: readonly string[],
  ): Promise<void> {
    let failure: DcpipeError | undefined;
    try {
      if (this.#state !== CONNECTING) throw new DcpipeError("ABORTED", "closed before it was open");
      const stream = session.open(encodeHeader({ kind: "http", target }));
      this.#stream = stream;
      const fields = openingFields(url, options);
      stream
        .write(encodeHttpRecord({ type: "OPENING", path: url.pathname + url.search, protocols, fields }))
        .catch(ignore);
      const { head, body } = await readHead(stream);
      if (head.type === "RESPONSE")
        throw new DcpipeError("REFUSED", `the server answers ${head.status} to a WebSocket`);
      if (head.type !== "ACCEPTED" || (head.protocol !== "" && !protocols.includes(head.protocol)))
        throw protocolError("no answer to the opening of a WebSocket");
      storeCookies(url, head.fields, options);
      this.#protocol = head.protocol;
      this.#state = OPEN;
      this.dispatchEvent(new Event("open"));
      while (!this.#broken) {
        const chunk = await body.read();
        if (!chunk) break;
        for (const message of this.#reader.push(chunk)) this.#take(message);
      }
      if (this.#broken) {
        void this.#hangUp(body);
        throw this.#broken;
      }
      if (!this.#farewell)
        throw new DcpipeError("CONNECTION_RESET", "the connection ends without a close frame");
    } catch (cause) {
      // With the close frames both ways all is said, however the connection ends.
      if (!this.#farewell) failure = asDcpipeError(cause, "IO");
    }
    this.#finish(failure);
  }

  /** The server is to read why; what it still sends is void. It has as long as for any end. */
  async #hangUp(body: Source): Promise<void> {
    this.#stream?.end().catch(ignore);
    try {
      while (await body.read());
    } catch {
      // Over is over.
    }
    clearTimeout(this.#closeTimer);
  }

  #finish(failure: DcpipeError | undefined): void {
    this.#state = CLOSED;
    const stream = this.#stream;
    if (!this.#broken) {
      clearTimeout(this.#closeTimer);
      if (failure) stream?.reset(failure.code === "PROTOCOL" ? "PROTOCOL" : "CLOSED");
      else stream?.end().catch(ignore);
    }
    if (failure) this.dispatchEvent(new SocketErrorEvent(failure));
    const { code, reason } = this.#farewell ?? { code: CLOSE.ABNORMAL, reason: "" };
    this.dispatchEvent(new SocketCloseEvent(code, reason, this.#farewell !== undefined && !failure));
  }

  #take(message: SocketMessage): void {
    switch (message.type) {
      case "text":
      case "binary": {
        if (this.#state !== OPEN) return;
        const data =
          message.type === "text"
            ? message.text
            : this.#binaryType === "blob"
              ? new Blob([message.data])
              : message.data.buffer;
        this.dispatchEvent(new MessageEvent("message", { data, origin: new URL(this.url).origin }));
        break;
      }
      case "ping":
        // The next one says as much (RFC 6455, section 5.5.3), when so much waits to be sent.
        if (!this.#closeSent && this.#stream?.full === false) this.#frame(OPCODE.PONG, message.data);
        break;
      case "pong":
        break;
      case "close":
        this.#farewell = { code: message.code, reason: message.reason };
        this.#state = CLOSING;
        this.#sayClose(message.code === CLOSE.NO_STATUS ? undefined : message.code, new Uint8Array(0));
        break;
      case "broken":
        this.#sayClose(message.code, new TextEncoder().encode(message.reason));
        this.#broken = new DcpipeError(
          message.code === CLOSE.TOO_BIG ? "LIMIT" : "PROTOCOL",
          `the server sends ${message.reason}`,
        );
    }
  }

  /** Once; then the server has to hang up. */
  #sayClose(code: number | undefined, reason: Uint8Array): void {
    if (this.#closeSent) return;
    this.#closeSent = true;
    this.#frame(OPCODE.CLOSE, encodeClose(code, reason));
    this.#closeTimer = setTimeout(() => {
      this.#stream?.reset("TIMEOUT", "the server does not hang up");
    }, CLOSE_MS);
  }

  #message(opcode: 1 | 2, bytes: Uint8Array): void {
    if (this.#closeSent) {
      this.#lost += bytes.length;
      return;
    }
    for (let at = 0; at === 0 || at < bytes.length; at += FRAME) {
      const part = bytes.subarray(at, at + FRAME);
      this.#frame(at === 0 ? opcode : OPCODE.CONTINUATION, part, at + FRAME >= bytes.length);
    }
  }

  #frame(opcode: (typeof OPCODE)[keyof typeof OPCODE], payload: Uint8Array, final = true): void {
    this.#stream?.write(encodeSocketFrame(opcode, payload, this.#key(), final)).catch(ignore);
  }

  /** Four bytes that no script can foresee: it must not choose what stands on a wire (RFC 6455, section 10.3). */
  #key(): Uint8Array {
    if (this.#keys.length === 0) this.#keys = crypto.getRandomValues(new Uint8Array(4 * KEYS));
    const key = this.#keys.subarray(0, 4);
    this.#keys = this.#keys.subarray(4);
    return key;
  }

  #inTurn(task: () => Promise<void>): void {
    const queue = (this.#queue ?? Promise.resolve()).then(task).catch((cause: unknown) => {
      this.#stream?.reset("ABORTED", `a message cannot be read: ${asDcpipeError(cause, "IO").message}`);
    });
    this.#queue = queue;
    void queue.then(() => {
      if (this.#queue === queue) this.#queue = undefined;
    });
  }
}

/** A class with the standard's constructor. */
export interface SessionWebSocketConstructor {
  new (url: string | URL, protocols?: string | readonly string[]): SessionWebSocket;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;
}

/** Throws USAGE for a target that is none. */
export function createWebSocket(session: Opener, options: HttpOptions = {}): SessionWebSocketConstructor {
  const home = options.target === undefined ? undefined : placeOf(options.target);
  return class WebSocket extends SessionWebSocket {
    constructor(url: string | URL, protocols?: string | readonly string[]) {
      super(session, options, home, url, protocols);
    }
  };
}

function openingFields(url: URL, { headers, cookies }: HttpOptions): HttpField[] {
  const all = new Headers(headers);
  // As a page of the target's own: dev servers let no other one in.
  if (!all.has("origin")) all.set("origin", url.origin);
  const cookie = cookies?.cookie(url);
  if (cookie !== undefined && !all.has("cookie")) all.set("cookie", cookie);
  return travelling("OPENING", all);
}

function storeCookies(url: URL, fields: readonly HttpField[], { cookies }: HttpOptions): void {
  const values = fields.filter(([name]) => name === "set-cookie").map(([, value]) => value);
  if (values.length > 0) cookies?.store(url, values);
}

function bytesOf(data: ArrayBuffer | ArrayBufferView): Uint8Array {
  return data instanceof ArrayBuffer
    ? new Uint8Array(data)
    : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function ignore(): void {
  // Reading tells why.
}
