/** The browser's WebSocket. It tells less than others: why a connection failed, or what HTTP said, no page may know. */
import { DcpipeError } from "../errors.ts";
import type { OpenSocket, Socket } from "../signalling/socket.ts";
import { LOW_WATER } from "../transport/channel.ts";
import { Inbox } from "../transport/inbox.ts";

/** A name to look up and some five round trips, with TLS and a proxy: what has not answered by then will not. */
const HANDSHAKE_MS = 10_000;
/** Four times the largest message of docs/protocol.md, section 7.2: who sends more is no rendezvous. */
const MAX_MESSAGE = 16 * 1024;
/** No event says that a queue has shrunk: it is looked at so often. */
const LOOK_MS = 20;

/** Close codes of RFC 6455, section 7.4.1; a page may send the first one only. */
const NORMAL = 1000;
const UNSUPPORTED_DATA = 1003;
const NO_STATUS = 1005;
const ABNORMAL = 1006;
const TOO_BIG = 1009;

export const openSocket: OpenSocket = (url, { protocols, maxMessage = MAX_MESSAGE, signal }) =>
  new Promise((resolve, reject) => {
    const { target, where } = parse(url);
    if (signal?.aborted) throw aborted();
    const socket = construct(target, where, protocols);
    socket.binaryType = "arraybuffer";
    const settle = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stopped);
      socket.onopen = socket.onclose = null;
    };
    const fail = (error: DcpipeError): void => {
      settle();
      socket.close();
      reject(error);
    };
    const stopped = (): void => {
      fail(aborted());
    };
    const timer = setTimeout(() => {
      fail(unreachable(where, `no answer in ${HANDSHAKE_MS / 1000} s`));
    }, HANDSHAKE_MS);
    signal?.addEventListener("abort", stopped);
    socket.onclose = () => {
      fail(unreachable(where, "the browser does not say why"));
    };
    socket.onopen = () => {
      settle();
      resolve(new BrowserSocket(socket, maxMessage));
    };
  });

class BrowserSocket implements Socket {
  readonly protocol: string;
  ondrain: (() => void) | undefined;
  readonly #socket: WebSocket;
  readonly #inbox = new Inbox();
  #look: ReturnType<typeof setTimeout> | undefined;
  #onclose: ((code: number, reason: string) => void) | undefined;
  #closing = false;
  /** Why we have closed it, where the browser could not say so. */
  #code: number | undefined;
  /** Set once it is closed and nobody was told yet. */
  #untold: { code: number; reason: string } | undefined;

  constructor(socket: WebSocket, maxMessage: number) {
    this.protocol = socket.protocol;
    this.#socket = socket;
    socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
      if (this.#closing) return;
      if (typeof data === "string") this.#refuse(UNSUPPORTED_DATA);
      else if (data.byteLength > maxMessage) this.#refuse(TOO_BIG);
      else this.#inbox.take(new Uint8Array(data));
    };
    socket.onclose = ({ code, reason }) => {
      clearTimeout(this.#look);
      this.#untold = { code: this.#code ?? (code === NO_STATUS ? ABNORMAL : code), reason };
      this.#tell();
    };
  }

  get onmessage(): ((message: Uint8Array) => void) | undefined {
    return this.#inbox.listener;
  }

  set onmessage(listener: ((message: Uint8Array) => void) | undefined) {
    this.#inbox.listener = listener;
  }

  get onclose(): ((code: number, reason: string) => void) | undefined {
    return this.#onclose;
  }

  set onclose(listener: ((code: number, reason: string) => void) | undefined) {
    this.#onclose = listener;
    // Later, so that whoever sets onmessage next gets the early messages before the end.
    queueMicrotask(() => {
      this.#tell();
    });
  }

  get bufferedAmount(): number {
    return this.#socket.bufferedAmount;
  }

  send(message: Uint8Array): void {
    // Else it is lost, as the end that follows will say; the browser would complain on its console.
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    // Copied by the browser; none of our messages are in shared memory.
    this.#socket.send(message as Uint8Array<ArrayBuffer>);
    if (this.#socket.bufferedAmount > LOW_WATER) this.#watch();
  }

  close(): void {
    this.#closing = true;
    this.#inbox.clear();
    this.#socket.close(NORMAL);
  }

  #refuse(code: number): void {
    this.#code = code;
    this.close();
  }

  #watch(): void {
    this.#look ??= setTimeout(() => {
      this.#look = undefined;
      if (this.#socket.readyState !== WebSocket.OPEN) return;
      if (this.#socket.bufferedAmount > LOW_WATER) this.#watch();
      else this.ondrain?.();
    }, LOOK_MS);
  }

  #tell(): void {
    if (!this.#untold || !this.#onclose) return;
    const { code, reason } = this.#untold;
    this.#untold = undefined;
    this.#onclose(code, reason);
  }
}

/** The URL to call, with scheme ws or wss, and what people may be shown of it: no query, no fragment. Throws USAGE. */
function parse(url: string): { target: URL; where: string } {
  // The text itself is not shown: it may hold a password.
  if (!URL.canParse(url)) throw new DcpipeError("USAGE", "what should be the URL of a rendezvous is none");
  const target = new URL(url);
  const { protocol, host, pathname } = target;
  if (!/^(http|ws)s?:$/.test(protocol))
    throw new DcpipeError("USAGE", `a rendezvous has an http, https, ws or wss URL, not ${protocol}`);
  if (target.username !== "" || target.password !== "")
    throw new DcpipeError("USAGE", "the URL of a rendezvous must not hold a user name or a password");
  target.hash = "";
  return {
    target: new URL(target.href.replace(/^http/, "ws")),
    where: `${protocol}//${host}${pathname === "/" ? "" : pathname}`,
  };
}

/** Throws SIGNALLING for what the browser does not even try. */
function construct(target: URL, where: string, protocols: readonly string[]): WebSocket {
  try {
    return new WebSocket(target, [...protocols]);
  } catch (cause) {
    const mixed = target.protocol === "ws:" && globalThis.location.protocol === "https:";
    const why = mixed
      ? "a page that came by https may call https only"
      : "the browser does not call this port, or place";
    throw unreachable(where, why, cause);
  }
}

function unreachable(where: string, reason: string, cause?: unknown): DcpipeError {
  return new DcpipeError("SIGNALLING", `cannot reach ${where}: ${reason}`, { cause });
}

function aborted(): DcpipeError {
  return new DcpipeError("ABORTED", "stopped");
}
