/** Connections of a forward on this machine: TCP, unix sockets and the named pipes of Windows. */
import { setMaxListeners } from "node:events";
import { createServer, type Server } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import type { Address, Connection, Listener } from "../apps/forward/network.ts";
import { DcpipeError } from "../errors.ts";
import { bindAll, type Bound, type HostPlace, type Place } from "./net/bind.ts";
import { adopt, ByteSocket, WRITE_AHEAD } from "./net/bytesocket.ts";
import { connectionFailure, formatHost, shortage, systemCode, unixFailure } from "./net/failure.ts";
import { MAX_SOCKET_PATH, prepareSocketFile } from "./net/unix.ts";

/** For a target that does not answer at all. The system would try for two minutes, and nobody waits that long. */
const DIAL_TIMEOUT_MS = 30_000;
/** Clients that may come at once: a browser or a benchmark opens hundreds. The system has a limit of its own (4,096). */
const BACKLOG = 4096;
/** A unix socket's full queue says no at once where TCP would wait: so long until the next try. */
const BACKLOG_PAUSE_MS = 10;

class SocketConnection implements Connection {
  readonly remote: string;
  readonly local: string;
  ondata: Connection["ondata"];
  onend: Connection["onend"];
  ondrain: Connection["ondrain"];
  onclose: Connection["onclose"];
  readonly #socket: ByteSocket;
  readonly #isUnix: boolean;
  #error: Error | undefined;
  #isFull = false;
  #hasEnded = false;
  #isReset = false;
  #isClosed = false;

  constructor(socket: ByteSocket, remote: string, isUnix: boolean) {
    this.remote = remote;
    this.local = socket.localAddress ?? "";
    this.#socket = socket;
    this.#isUnix = isUnix;
    // Node starts to read anew in the tick after `resume`, paused again or not, unless it has begun to read before.
    socket.read(0);
    socket.pause();
    socket.onbytes = (chunk) => this.ondata?.(chunk);
    socket.on("end", () => {
      if (socket.broken) socket.destroy(socket.broken);
      else if (!this.#isReset) this.onend?.();
    });
    socket.on("drain", () => {
      if (!this.#isFull || this.#isReset) return;
      this.#isFull = false;
      this.ondrain?.();
    });
    socket.on("error", (error) => {
      this.#error ??= error;
    });
    socket.on("close", () => {
      if (this.#isClosed) return;
      this.#isClosed = true;
      const failure = this.#error && !this.#isReset ? connectionFailure(this.#error, this.remote) : undefined;
      this.onclose?.(failure);
    });
  }

  pause(): void {
    if (!this.#socket.destroyed) this.#socket.pause();
  }

  resume(): void {
    if (!this.#socket.destroyed) this.#socket.resume();
  }

  write(chunk: Uint8Array): boolean {
    const socket = this.#socket;
    if (this.#hasEnded || socket.broken || socket.destroyed) return false;
    socket.write(chunk);
    this.#isFull = socket.writableLength >= WRITE_AHEAD;
    return !this.#isFull && !socket.broken;
  }

  end(): void {
    if (this.#hasEnded || this.#socket.broken || this.#socket.destroyed) return;
    this.#hasEnded = true;
    this.#socket.end();
  }

  reset(): void {
    const socket = this.#socket;
    if (this.#isReset || socket.destroyed) return;
    this.#isReset = true;
    socket.onbytes = undefined;
    if (this.#isUnix) socket.destroy();
    // While the FIN is on its way to the kernel, libuv refuses to reset, and Node would leave the socket open.
    else if (socket.writableEnded && socket.writableLength === 0 && !socket.writableFinished)
      socket.once("finish", () => socket.resetAndDestroy());
    else socket.resetAndDestroy();
  }
}

/**
 * Listens at a place: "" and `localhost` are both loopback addresses, `*` all addresses of the machine. A unix socket gets mode
 * 0600, and takes the place of one that nobody serves any more. A connection that comes when there is no file descriptor left
 * is dropped. Rejects with USAGE, LIMIT or IO.
 */
export function listenTcp(place: Place, onconnection: (connection: Connection) => void): Promise<Listener> {
  return place.type === "unix" ? listenUnix(place.path, onconnection) : listenHost(place, onconnection);
}

async function listenHost(
  wanted: HostPlace,
  onconnection: (connection: Connection) => void,
): Promise<Listener> {
  const { place, bound } = await bindAll(wanted, async (host, port): Promise<Bound> => {
    const server = await open({ host, port, ipv6Only: true }, (socket) => {
      const { remoteAddress = "?", remotePort = 0 } = socket;
      onconnection(new SocketConnection(socket, formatHost(remoteAddress, remotePort), false));
    });
    const address = server.address();
    return {
      port: address && typeof address === "object" ? address.port : port,
      close: () => server.close(),
    };
  });
  return {
    place,
    close: () => {
      for (const each of bound) each.close();
      return Promise.resolve();
    },
  };
}

async function listenUnix(path: string, onconnection: (connection: Connection) => void): Promise<Listener> {
  const isPipe = process.platform === "win32";
  const file = isPipe ? undefined : await prepareSocketFile(path);
  const failed = (cause: unknown): DcpipeError =>
    cause instanceof DcpipeError
      ? cause
      : (shortage(cause) ??
        new DcpipeError("USAGE", `cannot make a unix socket at ${path}: ${systemCode(cause)}`, { cause }));
  const server = await open({ path: file?.temporary ?? path }, (socket) => {
    onconnection(new SocketConnection(socket, path, true));
  }).catch((cause: unknown) => {
    throw failed(cause);
  });
  try {
    file?.publish();
  } catch (cause) {
    server.close();
    throw failed(cause);
  }
  let isClosed = false;
  return {
    place: { type: "unix", path },
    close: () => {
      if (!isClosed) {
        isClosed = true;
        server.close();
        file?.remove();
      }
      return Promise.resolve();
    },
  };
}

/** Rejects with the system's error. */
function open(
  where: { host: string; port: number; ipv6Only: boolean } | { path: string },
  onsocket: (socket: ByteSocket) => void,
): Promise<Server> {
  return new Promise((resolve, reject) => {
    const options = { allowHalfOpen: true, noDelay: true, pauseOnConnect: true };
    const server = createServer(options, (accepted) => {
      onsocket(adopt(accepted));
    });
    // Also told when a connection could not be accepted, for want of file descriptors: libuv has dropped it then.
    server.on("error", reject);
    server.listen({ ...where, backlog: BACKLOG, exclusive: true }, () => {
      resolve(server);
    });
  });
}

/** Rejects with CONNECTION_REFUSED, CONNECTION_RESET, UNREACHABLE, TIMEOUT (30 s), LIMIT, IO, ABORTED. */
export async function dialTcp(
  address: Address,
  { signal }: { readonly signal: AbortSignal },
): Promise<Connection> {
  const where = address.type === "unix" ? address.path : formatHost(address.address, address.port);
  if (address.type === "unix" && Buffer.byteLength(address.path) > MAX_SOCKET_PATH)
    throw new DcpipeError("IO", `${where} is too long for a unix socket`);
  const until = performance.now() + DIAL_TIMEOUT_MS;
  for (;;) {
    try {
      return await dialOnce(address, where, signal, until - performance.now());
    } catch (cause) {
      if (cause instanceof DcpipeError) throw cause;
      if (address.type !== "unix") throw connectionFailure(cause, where);
      if (systemCode(cause) !== "EAGAIN") throw unixFailure(cause, where);
    }
    // A refusal comes before any timer of dialOnce, however little is left.
    if (performance.now() >= until) throw unanswered(where);
    await pause(BACKLOG_PAUSE_MS);
  }
}

/** Rejects with ABORTED, TIMEOUT or the system's error. */
function dialOnce(
  address: Address,
  where: string,
  signal: AbortSignal,
  timeoutMs: number,
): Promise<Connection> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(aborted(signal));
      return;
    }
    const socket = new ByteSocket();
    const settle = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onabort);
      socket.off("error", onerror).off("connect", onconnect);
    };
    const fail = (error: Error): void => {
      settle();
      socket.on("error", () => undefined);
      socket.destroy();
      reject(error);
    };
    const onerror = fail;
    const onabort = (): void => {
      fail(aborted(signal));
    };
    const onconnect = (): void => {
      settle();
      resolve(new SocketConnection(socket, where, address.type === "unix"));
    };
    const timer = setTimeout(
      () => {
        fail(unanswered(where));
      },
      Math.max(0, timeoutMs),
    );
    // One signal may stop hundreds of calls, and Node would warn of a leak on stderr.
    setMaxListeners(0, signal);
    signal.addEventListener("abort", onabort);
    socket.on("error", onerror).on("connect", onconnect);
    if (address.type === "unix") socket.connect({ path: address.path });
    else socket.connect({ host: address.address, port: address.port });
  });
}

function unanswered(where: string): DcpipeError {
  return new DcpipeError("TIMEOUT", `${where} does not answer`);
}

function aborted(signal: AbortSignal): DcpipeError {
  return new DcpipeError("ABORTED", "stopped", { cause: signal.reason });
}
