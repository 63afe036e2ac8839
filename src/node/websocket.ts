/** WebSockets on package ws, through the proxy that the environment names for a URL. */
import type { RequestOptions } from "node:https";
import { checkServerIdentity } from "node:tls";
import { getProxyForUrl } from "proxy-from-env";
import type { WebSocket } from "ws";
import { DcpipeError } from "../errors.ts";
import type { OpenSocket, Socket } from "../signalling/socket.ts";

/** A name to look up and some five round trips, with TLS and a proxy: what has not answered by then will not. */
const HANDSHAKE_MS = 10_000;
/** Four times the largest message of docs/protocol.md, section 7.2: who sends more is no rendezvous. */
const MAX_MESSAGE = 16 * 1024;
/** The server pings every 30 s; when two of these are missing, nobody is there any more. */
const SILENCE_MS = 75_000;
/** How long a good-bye may stay without its answer before the connection is cut. */
const CLOSE_MS = 2_000;

/** An object of its own because @types/ws does not know closeTimeout yet. */
const WS_OPTIONS = { perMessageDeflate: false, maxPayload: MAX_MESSAGE, closeTimeout: CLOSE_MS };

/** Close codes of RFC 6455, section 7.4.1. */
const NORMAL = 1000;
const UNSUPPORTED_DATA = 1003;
const NO_STATUS = 1005;
const ABNORMAL = 1006;

/** What a gateway says for a server behind it that is down at the moment (RFC 9110, section 15.6). */
const GATEWAY_STATUS = [502, 503, 504];

export const openSocket: OpenSocket = async (url, { protocols, direct, signal }) => {
  const { target, where } = parse(url);
  const proxy = direct ? undefined : proxyFor(target, where);
  // Loaded on first use: commands that meet without a rendezvous should not pay for it.
  const { WebSocket } = await import("ws");
  const tunnel = proxy && (await openTunnel(proxy, target));
  if (signal?.aborted) throw aborted();
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(target, [...protocols], {
      ...WS_OPTIONS,
      ...tunnel?.options,
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
      tunnel?.abandon();
      socket.terminate();
      reject(error);
    };
    const stopped = (): void => {
      fail(aborted());
    };
    const timer = setTimeout(() => {
      fail(unreachable(tunnel?.waiting ?? where, `no answer in ${HANDSHAKE_MS / 1000} s`));
    }, HANDSHAKE_MS);
    signal?.addEventListener("abort", stopped);

    socket.on("upgrade", ({ headers }) => {
      protocol = headers["sec-websocket-protocol"] ?? "";
      // A server that knows none of the versions says so in a close code; ws would not listen to one that chose none.
      if (protocol === "" && protocols[0] !== undefined) headers["sec-websocket-protocol"] = protocols[0];
    });
    socket.on("unexpected-response", (_request, { statusCode = 0 }) => {
      if (tunnel?.refusal) fail(tunnel.refusal);
      else if (GATEWAY_STATUS.includes(statusCode)) fail(unreachable(where, `HTTP ${statusCode}`));
      else fail(noRendezvous(where, ` (HTTP ${statusCode})`));
    });
    // After the handshake "close" tells the same.
    socket.on("error", (error) => {
      if (tunnel?.refusal) fail(tunnel.refusal);
      else if (tunnel?.waiting !== undefined) fail(unreachable(tunnel.waiting, reasonOf(error), error));
      else fail(failure(error, where));
    });
    socket.on("open", () => {
      if (settle()) resolve(new NodeSocket(socket, protocol));
    });
  });
};

class NodeSocket implements Socket {
  readonly protocol: string;
  readonly #socket: WebSocket;
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

  send(message: Uint8Array): void {
    this.#socket.send(message);
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

/** The proxy of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY. */
function proxyFor(target: URL, where: string): URL | undefined {
  const setting = getProxyForUrl(target.href);
  if (setting === "") return undefined;
  const proxy = URL.canParse(setting) ? new URL(setting) : undefined;
  if (!proxy || !/^https?:$/.test(proxy.protocol))
    throw new DcpipeError("USAGE", `the proxy set for ${where} is no http or https URL`);
  return proxy;
}

/** The way through a proxy by CONNECT (RFC 9110, section 9.3.6), while it is made. */
interface Tunnel {
  readonly options: RequestOptions;
  /** The proxy's name for people, until it has answered. */
  waiting: string | undefined;
  /** Set when it has answered with a no. */
  refusal: DcpipeError | undefined;
  /** Closes the connection to a proxy that has not answered: nobody else would. */
  abandon(): void;
}

async function openTunnel(proxy: URL, target: URL): Promise<Tunnel> {
  const { HttpsProxyAgent } = await import("https-proxy-agent");
  const giveUp = new AbortController();
  const name = `the proxy ${proxy.protocol}//${proxy.host}`;
  const agent = new HttpsProxyAgent(proxy, { signal: giveUp.signal });
  const host = target.hostname.replace(/^\[|\]$/g, "");
  const tunnel: Tunnel = {
    // The agent does not tell TLS the host when that is an IP address.
    options: { agent, checkServerIdentity: (_, certificate) => checkServerIdentity(host, certificate) },
    waiting: name,
    refusal: undefined,
    abandon: () => {
      if (tunnel.waiting !== undefined) giveUp.abort();
    },
  };
  agent.on("proxyConnect", ({ statusCode }: { statusCode: number }) => {
    tunnel.waiting = undefined;
    // The agent takes no other status for a yes. What is no number was no HTTP.
    if (statusCode === 200) return;
    tunnel.refusal = new DcpipeError(
      "SIGNALLING",
      Number.isNaN(statusCode) ? `${name} is no proxy` : `${name} refuses (HTTP ${statusCode})`,
    );
  });
  return tunnel;
}

/** Why a connection was not made, by Node's error codes. */
const REASONS: Readonly<Record<string, string>> = {
  ENOTFOUND: "there is no host of this name",
  EAI_AGAIN: "its name cannot be looked up at the moment",
  ECONNREFUSED: "the connection was refused",
  ECONNRESET: "the connection was cut",
  ETIMEDOUT: "it does not answer",
  EHOSTUNREACH: "there is no way to it",
  ENETUNREACH: "there is no way to its network",
  CERT_HAS_EXPIRED: "its certificate has expired",
  CERT_NOT_YET_VALID: "its certificate is not valid yet",
  DEPTH_ZERO_SELF_SIGNED_CERT: "its certificate is self-signed",
  SELF_SIGNED_CERT_IN_CHAIN: "its certificate is signed by an authority that is not known here",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "its certificate is signed by an authority that is not known here",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    "its certificate is signed by an authority that is not known here, or comes without those in between",
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another host",
};

/** What OpenSSL says of records that are none. */
const NO_TLS = ["wrong version number", "packet length too long"];

function reasonOf(error: Error): string {
  const { code = "" } = error as NodeJS.ErrnoException;
  // error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../deps/openssl/...
  const tls = /SSL routines:[^:]*:([^:]+)/.exec(error.message)?.[1];
  if (tls !== undefined) return NO_TLS.includes(tls) ? "it does not speak TLS" : `TLS failed: ${tls}`;
  return REASONS[code] ?? (error.message || code);
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
