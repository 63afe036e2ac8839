/** The way to a TURN server: UDP, TCP, or TLS over TCP, the latter two through the proxy that the environment names. */
import { createSocket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { connect as connectTcp, isIP, type Socket, type TcpNetConnectOpts } from "node:net";
import { connect as connectTls } from "node:tls";
import { asDcpipeError, DcpipeError } from "../../errors.ts";
import type { TurnServer } from "../../transport/peer.ts";
import { systemCode } from "../net/failure.ts";
import { openTunnel, proxyFor } from "../net/proxy.ts";
import { reasonOf } from "../net/reason.ts";
import { createDeframer, isWhole, MAX_MESSAGE, paddingAfter } from "./framing.ts";

/** Messages there and back, each whole. */
export interface Connection {
  /** Whether what is sent arrives, in order, or the connection ends. */
  readonly isReliable: boolean;
  /** Drops the message, as a network would, when too much waits already. It must not change from then on. */
  send(message: Buffer): void;
  /** Idempotent; `onclose` is not called any more. */
  close(): void;
}

export interface DialOptions {
  /** Local address. */
  readonly bind: string | undefined;
  /** Local UDP ports to prefer, first and last. */
  readonly ports: readonly [number, number] | undefined;
  /** Gives up the attempt; the connection that stands lives on. */
  readonly signal: AbortSignal;
  readonly onmessage: (message: Buffer) => void;
  /** Called once when the connection has ended by itself. */
  readonly onclose: (error: DcpipeError) => void;
}

/**
 * What may wait in this process for a slow TCP connection: a tenth of a second at 20 Mbit/s. More would only add delay, which the senders
 * above mistake for distance; what is lost they send again.
 */
export const MAX_QUEUED = 256 * 1024;
/**
 * One address of a name gets so long before the next is tried; the last one gets what the caller grants. Node's own 250 ms give up good
 * but far ones.
 */
const NEXT_ADDRESS_MS = 500;
/** How long a connection that is closed may still take to send what waits. */
const CLOSE_MS = 1000;
/** What may wait in the kernel while we are busy. A limit and not a cost, and the system may cut it. */
const SOCKET_BUFFER = 4 * 1024 * 1024;

/**
 * Rejects with NAME_UNKNOWN, CONNECTION_REFUSED, UNREACHABLE, REFUSED (the proxy), AUTH_FAILED (the certificate), ABORTED or IO; the message
 * does not name the server.
 */
export function dial(server: TurnServer, options: DialOptions): Promise<Connection> {
  return server.transport === "udp" ? dialUdp(server, options) : dialStream(server, options);
}

async function dialUdp({ host, port }: TurnServer, options: DialOptions): Promise<Connection> {
  const family = options.bind === undefined ? 0 : isIP(options.bind);
  const found = await lookup(host, { all: true, family }).catch((cause: unknown) => {
    throw dialFailure(cause);
  });
  // IPv4 first, since an address of that family is what gets allocated.
  const addresses = found.sort((a, b) => a.family - b.family);
  let failure: unknown;
  for (const { address } of addresses) {
    if (options.signal.aborted) throw new DcpipeError("ABORTED", "stopped");
    try {
      return await connectUdp(address, port, options);
    } catch (error) {
      failure = error;
    }
  }
  throw dialFailure(failure);
}

async function connectUdp(address: string, port: number, options: DialOptions): Promise<Connection> {
  const { bind, onmessage, onclose } = options;
  const socket = await bindUdp(address, bind, options.ports);
  let isClosed = false;
  const close = (): void => {
    if (isClosed) return;
    isClosed = true;
    socket.close();
  };
  await new Promise<void>((resolve, reject) => {
    socket.connect(port, address, (error?: unknown) => {
      if (!(error instanceof Error)) {
        resolve();
        return;
      }
      close();
      reject(error);
    });
  });
  // ICMP says that nobody listens: as final as a refused connection.
  socket.on("error", (cause) => {
    if (isClosed) return;
    close();
    onclose(dialFailure(cause));
  });
  socket.on("message", (message) => {
    if (!isClosed && message.length <= MAX_MESSAGE && isWhole(message)) onmessage(message);
  });
  socket.unref();
  return {
    isReliable: false,
    send: (message) => {
      if (!isClosed && socket.getSendQueueSize() <= MAX_QUEUED) socket.send(message, ignore);
    },
    close,
  };
}

/** What could not be sent is lost; what is wrong for good shows in answers that do not come. */
function ignore(): void {
  // Without a callback it would be an event.
}

type UdpSocket = ReturnType<typeof createSocket>;

/** A port of the range as long as one is free: the WebRTC library needs one, too, and the range may be no longer than that. */
async function bindUdp(
  remote: string,
  address: string | undefined,
  ports: readonly [number, number] | undefined,
): Promise<UdpSocket> {
  const [first, last] = ports ?? [0, -1];
  for (let port = last; port >= first && port > 0; port--) {
    const socket = await tryBind(remote, address, port).catch(() => undefined);
    if (socket) return socket;
  }
  return tryBind(remote, address, 0);
}

function tryBind(remote: string, address: string | undefined, port: number): Promise<UdpSocket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket({ type: isIP(remote) === 6 ? "udp6" : "udp4" });
    socket.once("error", (error) => {
      socket.close();
      reject(error);
    });
    socket.bind({ port, address, exclusive: true }, () => {
      socket.removeAllListeners("error");
      for (const name of ["setRecvBufferSize", "setSendBufferSize"] as const) {
        try {
          socket[name](SOCKET_BUFFER);
        } catch {
          // The system's default is of use too.
        }
      }
      resolve(socket);
    });
  });
}

async function dialStream(server: TurnServer, options: DialOptions): Promise<Connection> {
  try {
    const socket = await openStream(server, options);
    return carry(socket, options);
  } catch (cause) {
    throw dialFailure(cause);
  }
}

async function openStream({ host, port, transport }: TurnServer, options: DialOptions): Promise<Socket> {
  const { bind, signal } = options;
  const local = bind === undefined ? {} : { localAddress: bind, family: isIP(bind) };
  const url = new URL(`https://${isIP(host) === 6 ? `[${host}]` : host}:${port}`);
  const proxy = proxyFor(url, "TURN servers");
  const tunnel = proxy && (await openTunnel(proxy, { host, port }, { ...local, signal }));
  if (tunnel && transport === "tcp") return tunnel;
  const address: TcpNetConnectOpts = {
    host,
    port,
    ...local,
    autoSelectFamily: bind === undefined,
    autoSelectFamilyAttemptTimeout: NEXT_ADDRESS_MS,
  };
  const socket =
    transport === "tcp"
      ? connectTcp(address)
      : connectTls({
          ...(tunnel ? { socket: tunnel, host } : address),
          servername: isIP(host) === 0 ? host : "",
          minVersion: "TLSv1.2",
        });
  return settled(socket, transport === "tcp" ? "connect" : "secureConnect", signal);
}

/** Resolves when the connection is made; one that is given up is gone. */
function settled(socket: Socket, event: "connect" | "secureConnect", signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      fail(new DcpipeError("ABORTED", "stopped"));
    };
    const fail = (error: Error): void => {
      signal.removeEventListener("abort", stop);
      socket.destroy();
      reject(error);
    };
    // A proxy, or a server in the middle of a handshake, may end without an error.
    const ended = (): void => {
      fail(new DcpipeError("CONNECTION_RESET", CUT));
    };
    socket.once("error", fail);
    socket.once("close", ended);
    socket.once(event, () => {
      signal.removeEventListener("abort", stop);
      socket.off("error", fail);
      socket.off("close", ended);
      resolve(socket);
    });
    signal.addEventListener("abort", stop);
    if (signal.aborted) stop();
  });
}

const CUT = "the connection was cut";

/** Messages over a stream. */
function carry(socket: Socket, { onmessage, onclose }: DialOptions): Connection {
  let isClosed = false;
  let isCorked = false;
  const close = (): void => {
    if (isClosed) return;
    isClosed = true;
    // What was said last, a good-bye, still goes out if that is soon.
    socket.end();
    setTimeout(() => socket.destroy(), CLOSE_MS).unref();
  };
  const lost = (error: DcpipeError): void => {
    if (isClosed) return;
    isClosed = true;
    socket.destroy();
    onclose(error);
  };
  const deframe = createDeframer((message) => {
    if (!isClosed) onmessage(message);
  });
  socket.setNoDelay(true);
  socket.unref();
  socket.on("error", (cause) => {
    lost(dialFailure(cause));
  });
  socket.on("close", () => {
    lost(new DcpipeError("CONNECTION_RESET", CUT));
  });
  socket.on("data", (piece) => {
    if (isClosed) return;
    try {
      deframe(piece);
    } catch (error) {
      lost(asDcpipeError(error, "PROTOCOL"));
    }
  });
  return {
    isReliable: true,
    send: (message) => {
      if (isClosed || socket.writableLength > MAX_QUEUED) return;
      if (!isCorked) {
        // What comes within one turn of the event loop goes out in one write, and in one TLS record.
        isCorked = true;
        socket.cork();
        setImmediate(() => {
          isCorked = false;
          socket.uncork();
        });
      }
      socket.write(message);
      const padding = paddingAfter(message);
      if (padding) socket.write(padding);
    },
    close,
  };
}

/** Why there is no connection, as it follows the server's name and a colon. */
function dialFailure(cause: unknown): DcpipeError {
  if (cause instanceof DcpipeError) return cause;
  const code = systemCode(cause);
  const text = cause instanceof Error ? reasonOf(cause) : String(cause);
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return new DcpipeError("NAME_UNKNOWN", text, { cause });
  if (code === "ECONNREFUSED") return new DcpipeError("CONNECTION_REFUSED", text, { cause });
  if (code === "ABORT_ERR") return new DcpipeError("ABORTED", "stopped", { cause });
  if (/CERT|ISSUER|SIGNATURE/.test(code)) return new DcpipeError("AUTH_FAILED", text, { cause });
  return new DcpipeError(text === CUT ? "CONNECTION_RESET" : "UNREACHABLE", text, { cause });
}
