/** The class WebSocket of a document (WebSockets Standard), over a port to the outer page for what goes to the TARGET. */
import type { SocketMessage, SocketNews, SocketOrder } from "../messages.ts";

const [CONNECTING, OPEN, CLOSING, CLOSED] = [0, 1, 2, 3] as const;
const MAX_REASON = 123;
/** RFC 9110, section 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

type Data = string | ArrayBuffer | ArrayBufferView | Blob;

/** `new` gives the browser's own for other places: those for which `pathOf` gives nothing. */
export function createSocketClass(
  Native: typeof WebSocket,
  connect: (message: SocketMessage) => MessagePort | undefined,
  pathOf: (url: URL) => string | undefined,
): typeof WebSocket {
  class SiteWebSocket extends EventTarget {
    static readonly CONNECTING = CONNECTING;
    static readonly OPEN = OPEN;
    static readonly CLOSING = CLOSING;
    static readonly CLOSED = CLOSED;
    readonly url!: string;
    readonly extensions = "";
    #state: 0 | 1 | 2 | 3 = CONNECTING;
    #protocol = "";
    #binaryType: BinaryType = "blob";
    #port: MessagePort | undefined;
    /** Bytes that were ever given to send, and those of them that are known to have left. */
    #given = 0;
    #left = 0;
    readonly #handlers = new Map<string, EventListener | null>();

    constructor(given: string | URL, protocols: string | readonly string[] = []) {
      super();
      const url = urlOf(given);
      const list = (typeof protocols === "string" ? [protocols] : [...protocols]).map(String);
      if (!list.every((each) => TOKEN.test(each)) || new Set(list).size < list.length)
        throw new DOMException("The subprotocols are invalid.", "SyntaxError");
      const path = pathOf(url);
      if (path === undefined) return new Native(given, [...list]) as never;
      this.url = url.href;
      this.#port = connect({ type: "socket", path, protocols: list });
      if (this.#port) {
        this.#port.onmessage = ({ data }: MessageEvent<SocketNews>) => {
          this.#hear(data);
        };
      } else {
        setTimeout(() => {
          this.#hear({ type: "error", text: "" });
          this.#hear({ type: "close", code: 1006, reason: "", wasClean: false });
        });
      }
      // The other end would not learn that the document has gone.
      addEventListener("pagehide", this.#leave);
    }

    get readyState(): number {
      return this.#state;
    }

    get protocol(): string {
      return this.#protocol;
    }

    get bufferedAmount(): number {
      return this.#given - this.#left;
    }

    get binaryType(): BinaryType {
      return this.#binaryType;
    }

    set binaryType(type: BinaryType) {
      if ((type as string) === "blob" || (type as string) === "arraybuffer") this.#binaryType = type;
    }

    send(given: Data): void {
      if (this.#state === CONNECTING)
        throw new DOMException("Still in CONNECTING state.", "InvalidStateError");
      const data = copyOf(given);
      this.#given += sizeOf(data);
      if (this.#state !== OPEN) return;
      this.#say({ type: "send", data }, data instanceof ArrayBuffer ? [data] : []);
    }

    close(code?: number, reason = ""): void {
      if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999))
        throw new DOMException("The close code must be 1000 or 3000 to 4999.", "InvalidAccessError");
      if (new TextEncoder().encode(reason).length > MAX_REASON)
        throw new DOMException("The close reason is too long.", "SyntaxError");
      if (this.#state >= CLOSING) return;
      this.#state = CLOSING;
      this.#say({ type: "close", code, reason });
    }

    #say(order: SocketOrder, transfer: Transferable[] = []): void {
      this.#port?.postMessage(order, transfer);
    }

    readonly #leave = (): void => {
      if (this.#state < CLOSING) this.#say({ type: "close", code: undefined, reason: "" });
    };

    #hear(news: SocketNews): void {
      switch (news.type) {
        case "open":
          if (this.#state !== CONNECTING) return;
          this.#state = OPEN;
          this.#protocol = news.protocol;
          this.dispatchEvent(new Event("open"));
          break;
        case "message": {
          if (this.#state !== OPEN) return;
          const { data } = news;
          const shown =
            typeof data === "string" || this.#binaryType === "arraybuffer" ? data : new Blob([data]);
          this.dispatchEvent(new MessageEvent("message", { data: shown, origin: new URL(this.url).origin }));
          break;
        }
        case "buffered":
          this.#left = news.given - news.bytes;
          break;
        case "error":
          this.dispatchEvent(new Event("error"));
          break;
        case "close": {
          this.#state = CLOSED;
          removeEventListener("pagehide", this.#leave);
          this.#port?.close();
          const { code, reason, wasClean } = news;
          this.dispatchEvent(new CloseEvent("close", { code, reason, wasClean }));
        }
      }
    }

    /** `onopen` and its kind: one listener each, in the place that the first one had. */
    static {
      for (const type of ["open", "message", "error", "close"]) {
        Object.defineProperty(this.prototype, `on${type}`, {
          configurable: true,
          enumerable: true,
          get(this: SiteWebSocket) {
            return this.#handlers.get(type) ?? null;
          },
          set(this: SiteWebSocket, handler: unknown) {
            if (!this.#handlers.has(type))
              this.addEventListener(type, (event) => this.#handlers.get(type)?.call(this, event));
            this.#handlers.set(type, typeof handler === "function" ? (handler as EventListener) : null);
          },
        });
      }
      for (const [name, value] of Object.entries({ CONNECTING, OPEN, CLOSING, CLOSED }))
        Object.defineProperty(this.prototype, name, { value, enumerable: true });
      Object.defineProperty(this.prototype, Symbol.toStringTag, { value: "WebSocket", configurable: true });
      Object.defineProperty(this, "name", { value: "WebSocket", configurable: true });
    }

    /** Those for other places are WebSockets, too. */
    static override [Symbol.hasInstance](value: unknown): boolean {
      return Function.prototype[Symbol.hasInstance].call(this, value) || value instanceof Native;
    }
  }
  return SiteWebSocket as unknown as typeof WebSocket;
}

/** Throws a SyntaxError as the standard has it. */
function urlOf(given: string | URL): URL {
  let url: URL;
  try {
    url = new URL(given, document.baseURI);
  } catch {
    throw new DOMException(`The URL '${String(given)}' is invalid.`, "SyntaxError");
  }
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(url.protocol))
    throw new DOMException(`The URL's scheme must be ws or wss.`, "SyntaxError");
  if (given.toString().includes("#") && url.hash !== "")
    throw new DOMException("The URL contains a fragment.", "SyntaxError");
  return url;
}

/** What is sent is what it was when `send` was called. */
function copyOf(data: Data): string | ArrayBuffer | Blob {
  if (data instanceof ArrayBuffer) return data.slice(0);
  if (ArrayBuffer.isView(data))
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice().buffer;
  // Anything else is sent as what it reads as.
  // eslint-disable-next-line @typescript-eslint/no-base-to-string -- also an object.
  return (data as unknown) instanceof Blob ? data : String(data);
}

function sizeOf(data: string | ArrayBuffer | Blob): number {
  if (typeof data === "string") return new TextEncoder().encode(data).length;
  return data instanceof Blob ? data.size : data.byteLength;
}
