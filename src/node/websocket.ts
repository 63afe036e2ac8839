/** WebSockets on package ws, through the proxy that the environment names for a URL. */
import type { Socket as TcpSocket } from "node:net";
import type { WebSocket } from "ws";
import { asDcpipeError, DcpipeError } from "../errors.ts";
import type { OpenSocket, Socket } from "../signalling/socket.ts";
import { LOW_WATER } from "../transport/channel.ts";
import { openTunnel, placeOf, proxyFor, proxyName, speakThrough } from "./net/proxy.ts";
import { reasonOf } from "./net/reason.ts";

/** A name to look up and some five round trips, with TLS and a proxy: what has not answered by then will not. */
const HANDSHAKE_MS = 10_000;
const NO_ANSWER = `no answer in ${HANDSHAKE_MS / 1000} s`;
/** Four times the largest message of docs/protocol.md, section 7.2: who sends more is no rendezvous. */
const MAX_MESSAGE = 16 * 1024;
/** The server pings every 30 s; when two of these are missing, nobody is there any more. */
const SILENCE_MS = 75_000;
/** How long a good-bye may stay without its answer before the connection is cut. */
const CLOSE_MS = 2_000;

/** An object of its own because @types/ws does not know closeTimeout yet. */
const WS_OPTIONS = { perMessageDeflate: false, closeTimeout: CLOSE_MS };

/** Close codes of RFC 6455, section 7.4.1. */
const NORMAL = 1000;
const UNSUPPORTED_DATA = 1003;
const NO_STATUS = 1005;
const ABNORMAL = 1006;

/** What a gateway says for a server behind it that is down at the moment (RFC 9110, section 15.6). */
const GATEWAY_STATUS = [502, 503, 504];

export const openSocket: OpenSocket = async (
  url,
  { protocols, direct, maxMessage = MAX_MESSAGE, signal },
) => {
  const { target, where } = parse(url);
  const proxy = direct ? undefined : proxyFor(target, where);
  // Loaded on first use: commands that meet without a rendezvous should not pay for it.
  const { WebSocket } = await import("ws");
  const tunnel = proxy && (await passThrough(proxy, target, signal));
  if (signal?.aborted) {
    tunnel?.destroy();
    throw aborted();
  }
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(target, [...protocols], {
      ...WS_OPTIONS,
      maxPayload: maxMessage,
      ...(tunnel && { createConnection: (options: object) => speakThrough(tunnel, target, options) }),
    });
    let protocol = "";
    let settled = false;
    const settle = (): boolean => {
      if (settled) return false;
      settled = true;
      clearTimeout(timer);
      signal?.removeEventListener("abort", stopped);
      return true;
    };
    const fail = (error: DcpipeError): void => {
      if (!settle()) return;
      socket.terminate();
      reject(error);
    };
    const stopped = (): void => {
      fail(aborted());
    };
    const timer = setTimeout(() => {
      fail(unreachable(where, NO_ANSWER));
    }, HANDSHAKE_MS);
    signal?.addEventListener("abort", stopped);

    socket.on("upgrade", ({ headers }) => {
      protocol = headers["sec-websocket-protocol"] ?? "";
      // A server that knows none of the versions says so in a close code; ws would not listen to one that chose none.
      if (protocol === "" && protocols[0] !== undefined) headers["sec-websocket-protocol"] = protocols[0];
    });
    socket.on("unexpected-response", (_request, { statusCode = 0 }) => {
      if (GATEWAY_STATUS.includes(statusCode)) fail(unreachable(where, `HTTP ${statusCode}`));
      else fail(noRendezvous(where, ` (HTTP ${statusCode})`));
    });
    // After the handshake "close" tells the same.
    socket.on("error", (error) => {
      fail(failure(error, where));
    });
    socket.on("open", () => {
      if (settle()) resolve(new NodeSocket(socket, protocol));
    });
  });
};

class NodeSocket implements Socket {
  readonly protocol: string;
  ondrain: (() => void) | undefined;
  readonly #socket: WebSocket;
  #full = false;
  /** Messages that came before anyone listened. */
  #early: Uint8Array[] = [];
  #onmessage: ((message: Uint8Array) => void) | undefined;
  #onclose: ((code: number, reason: string) => void) | undefined;
  #closing = false;
  /** Set once it is closed and nobody was told yet. */
  #untold: { code: number; reason: string } | undefined;

  constructor(socket: WebSocket, protocol: string) {
    this.protocol = protocol;
    this.#socket = socket;
    const silence = setTimeout(() => {
      socket.terminate();
    }, SILENCE_MS).unref();
    socket.on("ping", () => silence.refresh());
    socket.on("message", (data, isBinary) => {
      silence.refresh();
      if (this.#closing) return;
      if (isBinary) this.#take(data as Buffer);
      else this.#close(UNSUPPORTED_DATA);
    });
    socket.on("close", (code, reason) => {
      clearTimeout(silence);
      this.#untold = { code: code === NO_STATUS ? ABNORMAL : code, reason: reason.toString() };
      this.#tell();
    });
  }

  get onmessage(): ((message: Uint8Array) => void) | undefined {
    return this.#onmessage;
  }

  set onmessage(listener: ((message: Uint8Array) => void) | undefined) {
    this.#onmessage = listener;
    const early = this.#early;
    this.#early = [];
    for (const message of early) listener?.(message);
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
    if (this.#socket.bufferedAmount + message.length > LOW_WATER) this.#full = true;
    this.#socket.send(message, () => {
      if (!this.#full || this.#socket.bufferedAmount > LOW_WATER) return;
      this.#full = false;
      this.ondrain?.();
    });
  }

  close(): void {
    this.#early = [];
    this.#close(NORMAL);
  }

  #close(code: number): void {
    this.#closing = true;
    this.#socket.close(code);
  }

  #take({ buffer, byteOffset, length }: Buffer): void {
    const message = new Uint8Array(buffer, byteOffset, length);
    if (this.#onmessage) this.#onmessage(message);
    else this.#early.push(message);
  }

  #tell(): void {
    if (!this.#untold || !this.#onclose) return;
    const { code, reason } = this.#untold;
    this.#untold = undefined;
    this.#onclose(code, reason);
  }
}

/** The URL to call, with scheme http or https, and what people may be shown of it: no query, no fragment. */
function parse(url: string): { target: URL; where: string } {
  // The text itself is not shown: it may hold a password.
  if (!URL.canParse(url)) throw new DcpipeError("USAGE", "what should be the URL of a rendezvous is none");
  const target = new URL(url);
  const { protocol, host, pathname } = target;
  if (!/^(http|ws)s?:$/.test(protocol))
    throw new DcpipeError("USAGE", `a rendezvous has an http, https, ws or wss URL, not ${protocol}`);
  if (target.username !== "" || target.password !== "")
    throw new DcpipeError("USAGE", "the URL of a rendezvous must not hold a user name or a password");
  // Also what the variables of proxies are named after.
  target.protocol = protocol.replace("ws", "http");
  target.hash = "";
  return { target, where: `${protocol}//${host}${pathname === "/" ? "" : pathname}` };
}

/** A connection to the server through the proxy. Rejects with SIGNALLING or ABORTED. */
async function passThrough(proxy: URL, target: URL, signal: AbortSignal | undefined): Promise<TcpSocket> {
  const giveUp = new AbortController();
  const stop = (): void => {
    giveUp.abort();
  };
  const timer = setTimeout(stop, HANDSHAKE_MS);
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop);
  try {
    return await openTunnel(proxy, placeOf(target), { signal: giveUp.signal });
  } catch (cause) {
    if (signal?.aborted) throw aborted();
    if (giveUp.signal.aborted) throw unreachable(proxyName(proxy), NO_ANSWER);
    throw new DcpipeError("SIGNALLING", asDcpipeError(cause, "IO").message, { cause });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

function failure(error: Error, where: string): DcpipeError {
  const { code } = error as NodeJS.ErrnoException;
  // HPE_ is Node's HTTP parser; what ws itself finds wrong with an answer has no code.
  if (code === undefined || code.startsWith("HPE_")) return noRendezvous(where, "", error);
  return unreachable(where, reasonOf(error), error);
}

function noRendezvous(where: string, detail: string, cause?: Error): DcpipeError {
  return new DcpipeError("NO_RENDEZVOUS", `what answers at ${where} is no rendezvous${detail}`, { cause });
}

function unreachable(where: string, reason: string, cause?: Error): DcpipeError {
  return new DcpipeError("SIGNALLING", `cannot reach ${where}: ${reason}`, { cause });
}

function aborted(): DcpipeError {
  return new DcpipeError("ABORTED", "stopped");
}
