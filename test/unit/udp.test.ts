/** Real sockets on loopback; the other end is always plain node:dgram. */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { networkInterfaces } from "node:os";
import { afterEach, describe, expect, test } from "vitest";
import type { DatagramListener, DatagramSocket } from "../../src/apps/forward/network.ts";
import type { DcpipeError } from "../../src/errors.ts";
import { dialDatagrams, listenDatagrams } from "../../src/node/udp.ts";

const HAS_IPV6 = Object.values(networkInterfaces()).some((all) =>
  all?.some(({ address }) => address === "::1"),
);
const HOSTS = HAS_IPV6 ? ["127.0.0.1", "::1"] : ["127.0.0.1"];
/** What fits into a datagram of IPv4: 65,535 bytes, less 20 of IP's header and 8 of UDP's. */
const LARGEST = 65_507;

const ending: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end();
});

class Queue<T> {
  readonly items: T[] = [];
  #wake: (() => void) | undefined;
  readonly push = (item: T): void => {
    this.items.push(item);
    this.#wake?.();
  };
  async next(): Promise<T> {
    for (;;) {
      const item = this.items.shift();
      if (item !== undefined) return item;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

interface Came {
  readonly payload: Buffer;
  readonly from: string;
}

async function start(
  address: string,
  port = 0,
): Promise<{ listener: DatagramListener; port: number; came: Queue<Came> }> {
  const came = new Queue<Came>();
  const listener = await listenDatagrams({ type: "host", address, port }, (payload, from) => {
    came.push({ payload: Buffer.from(payload), from });
  });
  ending.push(() => listener.close());
  return { listener, port: listener.place.type === "host" ? listener.place.port : 0, came };
}

interface Plain {
  readonly socket: Socket;
  readonly came: Queue<{ payload: Buffer; sender: RemoteInfo }>;
}

async function plain(host: string, port = 0): Promise<Plain> {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
  const came = new Queue<{ payload: Buffer; sender: RemoteInfo }>();
  socket.on("message", (payload, sender) => {
    came.push({ payload, sender });
  });
  await new Promise<void>((resolve) => socket.bind(port, host, resolve));
  ending.push(() => {
    socket.close();
  });
  return { socket, came };
}

async function dial(
  address: string,
  port: number,
): Promise<{ socket: DatagramSocket; came: Queue<Buffer>; errors: Queue<DcpipeError> }> {
  const came = new Queue<Buffer>();
  const errors = new Queue<DcpipeError>();
  const socket = await dialDatagrams(
    { type: "host", address, port },
    {
      ondatagram: (payload) => {
        came.push(Buffer.from(payload));
      },
      onerror: errors.push,
    },
  );
  ending.push(() => {
    socket.close();
  });
  return { socket, came, errors };
}

const at = (host: string, port: number): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

describe.each(HOSTS)("%s", (host) => {
  test("a listener answers each sender", async () => {
    const { listener, port, came } = await start(host);
    const clients = [await plain(host), await plain(host)];
    for (const [index, { socket }] of clients.entries()) {
      socket.send(`hello ${index}`, port, host);
      const { payload, from } = await came.next();
      expect(String(payload)).toBe(`hello ${index}`);
      expect(from).toBe(at(host, socket.address().port));
      listener.send(Buffer.from(`answer ${index}`), from);
    }
    for (const [index, client] of clients.entries()) {
      const { payload, sender } = await client.came.next();
      expect(String(payload)).toBe(`answer ${index}`);
      expect(sender.port).toBe(port);
    }
  });

  test("a socket speaks to one address and hears nobody else", async () => {
    const server = await plain(host);
    const { socket, came } = await dial(host, server.socket.address().port);
    socket.send(Buffer.from("question"));
    const { payload, sender } = await server.came.next();
    expect(String(payload)).toBe("question");
    const stranger = await plain(host);
    await new Promise<void>((resolve) => {
      stranger.socket.send("stranger", sender.port, host, () => {
        resolve();
      });
    });
    server.socket.send("answer", sender.port, host);
    expect(String(await came.next())).toBe("answer");
  });

  test.each([0, 1, 1200, LARGEST])("%i bytes are one datagram, both ways", async (length) => {
    const bytes = Buffer.alloc(length, length);
    const { listener, port, came } = await start(host);
    const call = await dial(host, port);
    call.socket.send(bytes);
    const { payload, from } = await came.next();
    expect(payload.equals(bytes)).toBe(true);
    listener.send(bytes, from);
    expect((await call.came.next()).equals(bytes)).toBe(true);
  });

  test("a port where nobody listens is told, and the socket goes on", async () => {
    const gone = await plain(host);
    const { port } = gone.socket.address();
    await new Promise<void>((resolve) => {
      ending.pop();
      gone.socket.close(resolve);
    });
    const { socket, came, errors } = await dial(host, port);
    socket.send(Buffer.from("anybody?"));
    expect(await errors.next()).toMatchObject({
      code: "CONNECTION_REFUSED",
      message: `nothing listens at ${at(host, port)}`,
    });
    const back = await plain(host, port);
    socket.send(Buffer.from("again"));
    const { payload, sender } = await back.came.next();
    expect(String(payload)).toBe("again");
    back.socket.send("here", sender.port, host);
    expect(String(await came.next())).toBe("here");
  });

  test("what is too long is told by a socket, and dropped by a listener", async () => {
    const { listener, port, came } = await start(host);
    const { socket, came: answers, errors } = await dial(host, port);
    const tooLong = Buffer.alloc(70_000);
    socket.send(tooLong);
    expect((await errors.next()).code).toBe("IO");
    socket.send(Buffer.from("short"));
    const { payload, from } = await came.next();
    expect(String(payload)).toBe("short");
    listener.send(tooLong, from);
    listener.send(Buffer.from("short too"), from);
    expect(String(await answers.next())).toBe("short too");
  });
});

test.each(["", "localhost", "*"])("the place '%s' is IPv4 and IPv6 at one port", async (address) => {
  const { listener, port, came } = await start(address);
  expect(listener.place).toEqual({ type: "host", address: address === "*" ? "*" : "127.0.0.1", port });
  for (const host of HOSTS) {
    const client = await plain(host);
    client.socket.send("hello", port, host);
    const { from } = await came.next();
    expect(from).toBe(at(host, client.socket.address().port));
    listener.send(Buffer.from("answer"), from);
    expect(String((await client.came.next()).payload)).toBe("answer");
  }
});

test("a sender without a port cannot be answered", async () => {
  const { listener } = await start("127.0.0.1");
  expect(() => {
    listener.send(Buffer.from("x"), "127.0.0.1:0");
  }).not.toThrow();
});

test("a closed listener and a closed socket do nothing more, and leave the port", async () => {
  const { listener, port, came } = await start("127.0.0.1");
  const { socket } = await dial("127.0.0.1", port);
  socket.send(Buffer.from("x"));
  const { from } = await came.next();
  await listener.close();
  await listener.close();
  listener.send(Buffer.from("x"), from);
  socket.close();
  socket.close();
  socket.send(Buffer.from("x"));
  await start("127.0.0.1", port);
});

test("what cannot be", async () => {
  const { port } = await start("127.0.0.1");
  await expect(start("127.0.0.1", port)).rejects.toMatchObject({
    code: "USAGE",
    message: `port ${port} of 127.0.0.1 is in use`,
  });
  await expect(start("192.0.2.1")).rejects.toMatchObject({
    code: "USAGE",
    message: "192.0.2.1 is no address of this machine",
  });
  const unix = { type: "unix", path: "/run/x" } as const;
  await expect(listenDatagrams(unix, () => undefined)).rejects.toMatchObject({ code: "USAGE" });
  await expect(
    dialDatagrams(unix, { ondatagram: () => undefined, onerror: () => undefined }),
  ).rejects.toMatchObject({ code: "USAGE" });
  // The broadcast address needs a right that nobody has asked for.
  await expect(dial("255.255.255.255", 9)).rejects.toMatchObject({ code: "UNREACHABLE" });
});
