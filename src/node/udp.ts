/** Datagrams of a forward on this machine: UDP. */
import { createSocket, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";
import type { Address, DatagramListener, DatagramSocket } from "../apps/forward/network.ts";
import { DcpipeError } from "../errors.ts";
import { bindAll, type Bound, type Place } from "./net/bind.ts";
import { connectionFailure, formatHost } from "./net/failure.ts";
import { stay } from "./net/lookup.ts";

/** What waits in the kernel while we are busy: 30 ms of a gigabit. A limit and not a cost, and the system may cut it. */
const SOCKET_BUFFER = 4 * 1024 * 1024;
/** When the network is slower than we are, Node queues without a bound; datagrams that would wait longer are dropped. */
const MAX_QUEUED = 1024 * 1024;

function createUdp(address: string): Socket {
  return createSocket({ type: isIPv6(address) ? "udp6" : "udp4", ipv6Only: isIPv6(address), lookup: stay });
}

/** Where the system allows less, that is what we get. */
function enlargeBuffers(socket: Socket): void {
  for (const name of ["setRecvBufferSize", "setSendBufferSize"] as const) {
    try {
      socket[name](SOCKET_BUFFER);
    } catch {
      // The system's default is of use too.
    }
  }
}

function noUnix(path: string): DcpipeError {
  return new DcpipeError("USAGE", `datagrams need an address and a port, not the path ${path}`);
}

/**
 * Listens for datagrams of 0 to 65,507 bytes; addresses as for connections. `from` is the sender's `address:port`. A payload may
 * be used until the callback returns. `send` drops what is too long, what cannot be sent, and what comes faster than it can be
 * sent; its payload must not change from then on. Rejects with USAGE, LIMIT or IO.
 */
export async function listenDatagrams(
  wanted: Place,
  ondatagram: (payload: Uint8Array, from: string) => void,
): Promise<DatagramListener> {
  if (wanted.type === "unix") throw noUnix(wanted.path);
  const { place, bound } = await bindAll(wanted, (address, port) => bind(address, port, ondatagram));
  const socketFor = (isSix: boolean): Socket | undefined =>
    bound.find((each) => each.isSix === isSix)?.socket;
  const [four, six] = [socketFor(false), socketFor(true)];
  let isClosed = false;
  return {
    place,
    send: (payload, from) => {
      const colon = from.lastIndexOf(":");
      const isSix = from.startsWith("[");
      const socket = isSix ? six : four;
      const port = Number(from.slice(colon + 1));
      // Port 0 says that no answer is wanted (RFC 768), and Node throws.
      if (isClosed || !socket || port === 0 || socket.getSendQueueSize() > MAX_QUEUED) return;
      const address = isSix ? from.slice(1, colon - 1) : from.slice(0, colon);
      socket.send(payload, port, address);
    },
    close: () => {
      isClosed = true;
      for (const each of bound) each.close();
      return Promise.resolve();
    },
  };
}

interface BoundUdp extends Bound {
  readonly socket: Socket;
  readonly isSix: boolean;
}

/** Rejects with the system's error. */
function bind(
  address: string,
  port: number,
  ondatagram: (payload: Uint8Array, from: string) => void,
): Promise<BoundUdp> {
  return new Promise((resolve, reject) => {
    const socket = createUdp(address);
    let isClosed = false;
    const close = (): void => {
      if (isClosed) return;
      isClosed = true;
      socket.close();
    };
    let isBound = false;
    socket.on("error", (error) => {
      // A socket that is not connected is not told about its datagrams; what a receive says does not stop the next one.
      if (isBound) return;
      close();
      reject(error);
    });
    socket.on("message", (payload, { address: host, port: number }) => {
      if (!isClosed) ondatagram(payload, formatHost(host, number));
    });
    socket.bind({ address, port, exclusive: true }, () => {
      isBound = true;
      enlargeBuffers(socket);
      resolve({ socket, isSix: isIPv6(address), port: socket.address().port, close });
    });
  });
}

/**
 * A socket for datagrams to and from one address. `send` is as that of a listener, but what the system says about it comes by
 * `onerror`: CONNECTION_REFUSED (ICMP port unreachable), UNREACHABLE or IO; the socket stays of use. Rejects with USAGE,
 * UNREACHABLE, LIMIT or IO.
 */
export function dialDatagrams(
  address: Address,
  {
    ondatagram,
    onerror,
  }: {
    readonly ondatagram: (payload: Uint8Array) => void;
    readonly onerror: (error: DcpipeError) => void;
  },
): Promise<DatagramSocket> {
  if (address.type === "unix") return Promise.reject(noUnix(address.path));
  const where = formatHost(address.address, address.port);
  return new Promise((resolve, reject) => {
    const socket = createUdp(address.address);
    let isClosed = false;
    const close = (): void => {
      if (isClosed) return;
      isClosed = true;
      socket.close();
    };
    let isConnected = false;
    const failed = (error: Error | null): void => {
      if (!error || isClosed) return;
      const failure = connectionFailure(error, where);
      if (isConnected) {
        onerror(failure);
      } else {
        close();
        reject(failure);
      }
    };
    socket.on("error", failed);
    socket.on("message", (payload) => {
      if (!isClosed) ondatagram(payload);
    });
    socket.connect(address.port, address.address, (error?: unknown) => {
      if (error instanceof Error) {
        failed(error);
        return;
      }
      isConnected = true;
      enlargeBuffers(socket);
      resolve({
        send: (payload) => {
          if (!isClosed && socket.getSendQueueSize() <= MAX_QUEUED) socket.send(payload, failed);
        },
        close,
      });
    });
  });
}
