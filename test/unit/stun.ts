/** STUN servers on loopback that say what a test wants them to say. They write their messages themselves, without our codec. */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { isIPv6 } from "node:net";
import { onTestFinished } from "vitest";

export interface Place {
  readonly address: string;
  readonly port: number;
}

export interface Request {
  readonly from: Place;
  /** Where it came in. */
  readonly at: Place;
  readonly change: { readonly address: boolean; readonly port: boolean };
  readonly transaction: Buffer;
}

/** What to send, and from which of the server's places; undefined for nothing. */
export type Behaviour = (request: Request) => { readonly message: Buffer; readonly via?: Place } | undefined;

const COOKIE = Buffer.from("2112a442", "hex");

export function message(type: number, transaction: Buffer, ...attributes: readonly Buffer[]): Buffer {
  const body = Buffer.concat(attributes);
  const head = Buffer.alloc(4);
  head.writeUInt16BE(type, 0);
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([head, COOKIE, transaction, body]);
}

export function attribute(type: number, value: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16BE(type, 0);
  head.writeUInt16BE(value.length, 2);
  return Buffer.concat([head, value, Buffer.alloc(-value.length & 3)]);
}

/** MAPPED-ADDRESS and its like; IPv6 addresses in full, eight groups. */
export function place({ address, port }: Place): Buffer {
  const bytes = isIPv6(address)
    ? Buffer.from(
        address.split(":").flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 255]),
      )
    : Buffer.from(address.split(".").map(Number));
  return Buffer.concat([Buffer.from([0, bytes.length === 16 ? 2 : 1, port >> 8, port & 255]), bytes]);
}

export function xored(where: Place, transaction: Buffer): Buffer {
  const mask = Buffer.concat([COOKIE, transaction]);
  return place(where).map((byte, i) => (i < 2 ? byte : byte ^ (mask[i < 4 ? i - 2 : i - 4] ?? 0))) as Buffer;
}

/** A Binding response that says so. */
export function success({ transaction }: Request, mapped: Place, other?: Place): Buffer {
  const attributes = [attribute(0x0020, xored(mapped, transaction))];
  if (other) attributes.push(attribute(0x802c, place(other)));
  return message(0x0101, transaction, ...attributes);
}

/** Listens at one place until the test is over. */
export async function startStun(behave: Behaviour, address = "127.0.0.1"): Promise<Place> {
  const socket = await bind(address, 0);
  serve(socket, behave, () => socket);
  return socket.address();
}

/**
 * Listens at two addresses, with two ports at each, as RFC 5780 has it. `behave` is told of the first place and of the other
 * address and port, and may answer from any of the four.
 */
export async function startDiscovery(
  make: (first: Place, other: Place) => Behaviour,
): Promise<{ readonly first: Place; readonly other: Place }> {
  const addresses = ["127.0.0.1", "127.0.0.2"] as const;
  const sockets = new Map<string, Socket>();
  const ports: number[] = [];
  while (ports.length < 2) {
    const one = await bind(addresses[0], 0);
    const { port } = one.address();
    try {
      const two = await bind(addresses[1], port);
      sockets.set(`${addresses[0]}:${port}`, one).set(`${addresses[1]}:${port}`, two);
      ports.push(port);
    } catch {
      // Somebody has that port at the second address: another one, then.
    }
  }
  const first = { address: addresses[0], port: ports[0] ?? 0 };
  const other = { address: addresses[1], port: ports[1] ?? 0 };
  const behave = make(first, other);
  for (const socket of sockets.values())
    serve(socket, behave, ({ address, port }) => sockets.get(`${address}:${port}`));
  return { first, other };
}

async function bind(address: string, port: number): Promise<Socket> {
  const socket = createSocket(isIPv6(address) ? "udp6" : "udp4");
  socket.bind(port, address);
  await once(socket, "listening");
  onTestFinished(() => {
    socket.close();
  });
  return socket;
}

function serve(socket: Socket, behave: Behaviour, find: (via: Place) => Socket | undefined): void {
  const { address, port } = socket.address();
  socket.on("message", (received, from) => {
    if (received.length < 20 || received.readUInt16BE(0) !== 0x0001) return;
    const flags =
      received.length >= 28 && received.readUInt16BE(20) === 0x0003 ? received.readUInt32BE(24) : 0;
    const answer = behave({
      from: { address: from.address, port: from.port },
      at: { address, port },
      change: { address: (flags & 4) !== 0, port: (flags & 2) !== 0 },
      transaction: Buffer.from(received.subarray(8, 20)),
    });
    if (!answer) return;
    (answer.via ? find(answer.via) : socket)?.send(answer.message, from.port, from.address);
  });
}
