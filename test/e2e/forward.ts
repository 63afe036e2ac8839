/** Forwards under test, and the servers and clients at their ends. */
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { once } from "node:events";
import {
  type AddressInfo,
  createConnection,
  createServer,
  type ListenOptions,
  type NetConnectOpts,
  type Socket,
} from "node:net";
import { onTestFinished } from "vitest";
import { type Dcpipe, type DcpipeEvent, pair, type StartOptions } from "./dcpipe.ts";

/** How long a client waits for the answer to a datagram before it asks again: datagrams may be lost. */
const ASK_AGAIN_MS = 500;

/** A waiting and a joining forward. */
export function forwardPair(
  waiting: readonly string[],
  joining: readonly string[],
  options: { readonly waiting?: StartOptions; readonly joining?: StartOptions } = {},
): Promise<{ waiting: Dcpipe; joining: Dcpipe }> {
  return pair([["forward", ...waiting], options.waiting], [["forward", ...joining], options.joining]);
}

/** The port of its first "listening" event that fits. */
export async function portOf(process: Dcpipe, fits?: (event: DcpipeEvent) => boolean): Promise<number> {
  return Number((await process.event("listening", fits))["port"]);
}

/** Resolves when it has said so many events of this name. */
export async function told(process: Dcpipe, name: string, count: number): Promise<DcpipeEvent[]> {
  return process.until(`${count} x ${name}`, () => {
    const found = process.events.filter(({ event }) => event === name);
    return found.length >= count ? found : undefined;
  });
}

// ---- connections ----------------------------------------------------------------------------------------------------

/** Serves connections until the test is over. Returns the port; 0 for a unix socket. */
export async function serve(
  onconnection: (socket: Socket) => void,
  where: ListenOptions = {},
): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    forget(socket);
    onconnection(socket);
  });
  server.listen(where.path === undefined ? { host: "127.0.0.1", port: 0, ...where } : where);
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
  });
  const address = server.address();
  return typeof address === "object" && address ? address.port : 0;
}

/** Gives back what it gets, and ends when the other end does. */
export function echo(socket: Socket): void {
  socket.pipe(socket);
}

/** A client of whatever listens there; it goes with the test. */
export function dial(where: number | NetConnectOpts): Socket {
  const place = typeof where === "number" ? { host: "127.0.0.1", port: where } : where;
  return forget(createConnection({ allowHalfOpen: true, ...place }));
}

/** Sends this, ends its direction, and resolves with everything that comes until the other direction ends too. */
export async function exchange(
  where: number | NetConnectOpts,
  payload: Uint8Array | string,
): Promise<Buffer> {
  const socket = dial(where);
  socket.end(payload);
  return readAll(socket);
}

/** Everything up to FIN. Rejects with what broke it. */
export async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  // The other direction stays as it is.
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** The next `size` bytes, taken off what comes. */
export async function readExactly(socket: Socket, size: number): Promise<Buffer> {
  for (;;) {
    const chunk = socket.read(size) as Buffer | null;
    if (chunk?.length === size) return chunk;
    if (socket.readableEnded || socket.destroyed) throw new Error(`the end came before ${size} bytes`);
    await Promise.race([once(socket, "readable"), once(socket, "end"), once(socket, "close")]);
  }
}

/** What a connection had brought when it was over, and the error it ended with. */
export interface Ending {
  readonly received: Buffer;
  readonly error: string | undefined;
}

/** Reads until the connection is over, whichever way; answers FIN by FIN. */
export function ending(socket: Socket): Promise<Ending> {
  const chunks: Buffer[] = [];
  let error: string | undefined;
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  socket.on("end", () => socket.end());
  socket.on("error", (cause: NodeJS.ErrnoException) => (error = cause.code));
  return new Promise((resolve) => {
    const over = (): void => {
      resolve({ received: Buffer.concat(chunks), error });
    };
    if (socket.destroyed) over();
    else socket.on("close", over);
  });
}

function forget(socket: Socket): Socket {
  socket.on("error", () => undefined);
  onTestFinished(() => {
    socket.destroy();
  });
  return socket;
}

// ---- datagrams ------------------------------------------------------------------------------------------------------

/** Answers each datagram with what `answer` makes of it. Returns the port. */
export async function serveDatagrams(
  answer: (datagram: Buffer) => Buffer,
  address = "127.0.0.1",
): Promise<number> {
  const socket = await openDatagrams(address);
  socket.on("message", (datagram, { port, address: from }) => {
    socket.send(answer(datagram), port, from);
  });
  return socket.address().port;
}

export async function openDatagrams(address = "127.0.0.1"): Promise<DatagramSocket> {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  // Whoever sends to a port that is closed hears of it, if it wants to.
  socket.on("error", () => undefined);
  socket.bind(0, address);
  await once(socket, "listening");
  onTestFinished(() => {
    socket.close();
  });
  return socket;
}

/** Sends a datagram until an answer comes that is one. */
export function ask(
  socket: DatagramSocket,
  port: number,
  question: Buffer,
  isAnswer: (datagram: Buffer) => boolean,
  address = "127.0.0.1",
): Promise<Buffer> {
  return new Promise((resolve) => {
    const send = (): void => {
      socket.send(question, port, address);
    };
    const again = setInterval(send, ASK_AGAIN_MS);
    onTestFinished(() => {
      clearInterval(again);
    });
    const take = (datagram: Buffer): void => {
      if (!isAnswer(datagram)) return;
      clearInterval(again);
      socket.off("message", take);
      resolve(datagram);
    };
    socket.on("message", take);
    send();
  });
}

/** As many ports in a row, from the first one on, that nobody has on this address. */
export async function freeRange(count: number, address: string): Promise<number> {
  for (;;) {
    const servers = [createServer().listen(0, address)];
    try {
      const [first] = servers;
      if (!first) continue;
      await once(first, "listening");
      const { port } = first.address() as AddressInfo;
      if (port + count > 65535) continue;
      for (let next = port + 1; next < port + count; next++) {
        const server = createServer().listen(next, address);
        servers.push(server);
        await once(server, "listening");
      }
      return port;
    } catch {
      // One of them is taken: from another one on.
    } finally {
      for (const server of servers) server.close();
    }
  }
}
