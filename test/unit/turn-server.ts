/**
 * A TURN server for tests: one user, relayed addresses that nobody but the test can write to, and whatever misbehaviour a test asks for.
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import { onTestFinished } from "vitest";
import { createDeframer, isChannelData, paddingAfter } from "../../src/node/turn/framing.ts";
import {
  ATTRIBUTE,
  CLASS,
  decodeStun,
  decodeXorAddress,
  encodeError,
  encodeStun,
  encodeUInt32,
  encodeXorAddress,
  hasIntegrity,
  longTermKey,
  METHOD,
  newTransaction,
  type Attribute,
  type StunMessage,
  type TransportAddress,
} from "../../src/node/turn/stun.ts";
import type { TurnServer } from "../../src/transport/peer.ts";

const REALM = Buffer.from("test");
const USER = { username: "ann", password: "secret" };

/** Address of a peer, as only the test has it. */
export function peer(port: number): TransportAddress {
  return { bytes: Buffer.from([198, 51, 100, 7]), port };
}

/** What a client has sent to a peer. */
export interface Sent {
  readonly to: number;
  readonly data: string;
  /** The channel it came by. */
  readonly channel?: number | undefined;
}

/** One client, by its socket. */
export interface Client {
  readonly send: (message: Buffer) => void;
  readonly close: () => void;
  relayedPort: number;
  readonly permitted: Set<string>;
  readonly channels: Map<number, TransportAddress>;
}

export class FakeServer {
  /** By method, in the order they came; of the authenticated ones. */
  readonly requests: number[] = [];
  readonly sent: Sent[] = [];
  readonly clients: Client[] = [];
  nonce = "first";
  /** Asked about each authenticated request; an error code refuses it. */
  refuse: (method: number) => number | undefined = () => undefined;
  /** Asked about each message; true leaves it without an answer. */
  ignore: (message: StunMessage) => boolean = () => false;
  /** More attributes for an error. */
  extra: readonly Attribute[] = [];
  /** What answers are signed with. */
  key = longTermKey(USER.username, REALM, USER.password);
  readonly place: TurnServer;
  readonly #listeners = new Set<() => void>();
  #nextRelayed = 50_000;

  constructor(port: number, transport: TurnServer["transport"]) {
    this.place = { host: "127.0.0.1", port, transport, ...USER };
  }

  /** The last client that came. */
  get client(): Client {
    const client = this.clients.at(-1);
    if (!client) throw new Error("nobody has come");
    return client;
  }

  /** Resolves when it holds; looks again whenever something has come. */
  until(holds: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!holds()) return;
        this.#listeners.delete(look);
        resolve();
      };
      this.#listeners.add(look);
      look();
    });
  }

  add(send: (message: Buffer) => void, close: () => void): Client {
    const client = { send, close, relayedPort: 0, permitted: new Set<string>(), channels: new Map() };
    this.clients.push(client);
    this.#look();
    return client;
  }

  /** Data of a peer for the client: by the channel that is bound to it, or else as an indication. */
  deliver(client: Client, from: TransportAddress, data: string | Buffer): void {
    const bytes = Buffer.from(data);
    for (const [channel, { port }] of client.channels) {
      if (port !== from.port) continue;
      const header = Buffer.alloc(4);
      header.writeUInt16BE(channel, 0);
      header.writeUInt16BE(bytes.length, 2);
      client.send(Buffer.concat([header, bytes]));
      return;
    }
    const transaction = newTransaction();
    const attributes: Attribute[] = [
      encodeXorAddress(ATTRIBUTE.XOR_PEER_ADDRESS, from, transaction),
      [ATTRIBUTE.DATA, bytes],
    ];
    client.send(encodeStun({ method: METHOD.DATA, class: CLASS.INDICATION, transaction, attributes }));
  }

  take(client: Client, message: Buffer): void {
    this.#take(client, message);
    this.#look();
  }

  #take(client: Client, message: Buffer): void {
    if (isChannelData(message)) {
      const channel = message.readUInt16BE(0);
      const to = client.channels.get(channel)?.port ?? 0;
      this.sent.push({ to, data: message.subarray(4).toString(), channel });
      return;
    }
    const stun = decodeStun(message);
    if (!stun || this.ignore(stun)) return;
    const { method, transaction, attributes } = stun;
    const address = decodeXorAddress(attributes.get(ATTRIBUTE.XOR_PEER_ADDRESS), transaction);
    if (stun.class === CLASS.INDICATION) {
      if (address && client.permitted.has(address.bytes.toString("hex")))
        this.sent.push({ to: address.port, data: String(attributes.get(ATTRIBUTE.DATA)) });
      return;
    }
    const challenge = (code: number): void => {
      const error: Attribute[] = [
        encodeError(code),
        [ATTRIBUTE.REALM, REALM],
        [ATTRIBUTE.NONCE, Buffer.from(this.nonce)],
        ...this.extra,
      ];
      client.send(encodeStun({ method, class: CLASS.ERROR, transaction, attributes: error }));
    };
    const right = longTermKey(USER.username, REALM, USER.password);
    const isKnown = String(attributes.get(ATTRIBUTE.USERNAME)) === USER.username;
    if (!isKnown || !hasIntegrity(message, stun, right)) {
      challenge(401);
      return;
    }
    if (String(attributes.get(ATTRIBUTE.NONCE)) !== this.nonce) {
      challenge(438);
      return;
    }
    this.requests.push(method);
    const refusal = this.refuse(method);
    if (refusal !== undefined) {
      challenge(refusal);
      return;
    }
    const answer: Attribute[] = [encodeUInt32(ATTRIBUTE.LIFETIME, 600)];
    if (method === METHOD.ALLOCATE) {
      client.relayedPort = ++this.#nextRelayed;
      const relayed = { bytes: Buffer.from([203, 0, 113, 9]), port: client.relayedPort };
      answer.push(encodeXorAddress(ATTRIBUTE.XOR_RELAYED_ADDRESS, relayed, transaction));
    }
    if (address) client.permitted.add(address.bytes.toString("hex"));
    const channel = attributes.get(ATTRIBUTE.CHANNEL_NUMBER)?.readUInt16BE(0);
    if (method === METHOD.CHANNEL_BIND && address && channel !== undefined) {
      const bound = [...client.channels].find(([, { port }]) => port === address.port)?.[0] ?? channel;
      if (bound !== channel || (client.channels.get(channel)?.port ?? address.port) !== address.port) {
        challenge(400);
        return;
      }
      client.channels.set(channel, address);
    }
    client.send(encodeStun({ method, class: CLASS.SUCCESS, transaction, attributes: answer }, this.key));
  }

  #look(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}

/** Listens on loopback until the test is over, and then cuts whatever is connected. Returns the port. */
export async function listen(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket.on("error", () => undefined));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

/** A server over TCP, or TLS with that certificate. */
export async function startStream(tls?: TlsOptions): Promise<FakeServer> {
  const welcome = (socket: Socket): void => {
    socket.on("error", () => undefined);
    const client = fake.add(
      (message) => {
        socket.write(message);
        const padding = paddingAfter(message);
        if (padding) socket.write(padding);
      },
      () => socket.destroy(),
    );
    const deframe = createDeframer((message) => {
      fake.take(client, message);
    });
    socket.on("data", deframe);
  };
  const server = tls ? createTlsServer(tls, welcome) : createServer(welcome);
  server.on("tlsClientError", () => undefined);
  const fake = new FakeServer(await listen(server), tls ? "tls" : "tcp");
  return fake;
}

/** A server over UDP. */
export async function startDatagrams(): Promise<FakeServer> {
  const socket = createSocket("udp4").bind(0, "127.0.0.1");
  await once(socket, "listening");
  onTestFinished(() => {
    socket.close();
  });
  const fake = new FakeServer(socket.address().port, "udp");
  const clients = new Map<number, Client>();
  socket.on("message", (message, { port }) => {
    let client = clients.get(port);
    if (!client) {
      client = fake.add(
        (answer) => {
          socket.send(answer, port, "127.0.0.1");
        },
        () => undefined,
      );
      clients.set(port, client);
    }
    fake.take(client, message);
  });
  return fake;
}
