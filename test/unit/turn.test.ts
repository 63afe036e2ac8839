import { execFileSync, spawn } from "node:child_process";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { chooseServers } from "../../src/node/turn/choice.ts";
import { dial, MAX_QUEUED } from "../../src/node/turn/dial.ts";
import { isChannelData } from "../../src/node/turn/framing.ts";
import { flushed, openGateway, type Gateway } from "../../src/node/turn/gateway.ts";
import { nameOf } from "../../src/node/turn/name.ts";
import { probeTurn, type TurnProbe } from "../../src/node/turn/probe.ts";
import {
  ATTRIBUTE,
  CLASS,
  decodeStun,
  decodeXorAddress,
  encodeStun,
  encodeUInt32,
  encodeXorAddress,
  errorCode,
  formatHost,
  longTermKey,
  METHOD,
  newTransaction,
  type Attribute,
  type StunMessage,
} from "../../src/node/turn/stun.ts";
import type { TurnServer } from "../../src/transport/peer.ts";
import { listen, peer, startDatagrams, startStream, type FakeServer } from "./turn-server.ts";

beforeEach(() => {
  for (const name of ["http_proxy", "https_proxy", "all_proxy", "no_proxy"].flatMap((each) => [
    each,
    each.toUpperCase(),
  ]))
    vi.stubEnv(name, undefined);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
});

type Place = Gateway["endpoints"][number];

/** What the WebRTC library does with a TURN server. */
class Library {
  readonly heard: string[] = [];
  readonly #socket: UdpSocket;
  readonly #place: Place;
  #realm: Buffer = Buffer.alloc(0);
  #nonce: Buffer = Buffer.alloc(0);
  readonly #waiting = new Map<string, (answer: StunMessage) => void>();
  readonly #listeners = new Set<() => void>();

  private constructor(socket: UdpSocket, place: Place) {
    this.#socket = socket;
    this.#place = place;
    socket.on("message", (message) => {
      const stun = isChannelData(message) ? undefined : decodeStun(message);
      if (stun?.class === CLASS.SUCCESS || stun?.class === CLASS.ERROR) {
        const realm = stun.attributes.get(ATTRIBUTE.REALM);
        if (realm)
          [this.#realm, this.#nonce] = [realm, stun.attributes.get(ATTRIBUTE.NONCE) ?? Buffer.alloc(0)];
        this.#waiting.get(stun.transaction.toString("hex"))?.(stun);
        return;
      }
      const from =
        stun && decodeXorAddress(stun.attributes.get(ATTRIBUTE.XOR_PEER_ADDRESS), stun.transaction);
      const data = stun ? stun.attributes.get(ATTRIBUTE.DATA) : message.subarray(4);
      this.heard.push(
        `${stun ? `${from?.port ?? "?"}` : `#${message.readUInt16BE(0).toString(16)}`} ${String(data)}`,
      );
      for (const listener of [...this.#listeners]) listener();
    });
  }

  static async open(gateway: Gateway, index = 0): Promise<Library> {
    const place = gateway.endpoints[index];
    if (!place) throw new Error("no such endpoint");
    const socket = createSocket("udp4").bind(0, "127.0.0.1");
    await once(socket, "listening");
    onTestFinished(() => {
      socket.close();
    });
    return new Library(socket, place);
  }

  /** Resolves with what it has heard when that holds. */
  until(holds: (heard: readonly string[]) => boolean): Promise<readonly string[]> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!holds(this.heard)) return;
        this.#listeners.delete(look);
        resolve(this.heard);
      };
      this.#listeners.add(look);
      look();
    });
  }

  ask(
    method: number,
    attributes: (transaction: Buffer) => readonly Attribute[] = () => [],
    password = this.#place.password,
  ): Promise<StunMessage> {
    const transaction = newTransaction();
    const login: Attribute[] =
      this.#realm.length === 0
        ? []
        : [
            [ATTRIBUTE.USERNAME, Buffer.from(this.#place.username)],
            [ATTRIBUTE.REALM, this.#realm],
            [ATTRIBUTE.NONCE, this.#nonce],
          ];
    const key = longTermKey(this.#place.username, this.#realm, password);
    const message = {
      method,
      class: CLASS.REQUEST,
      transaction,
      attributes: [...attributes(transaction), ...login],
    };
    return new Promise((resolve) => {
      this.#waiting.set(transaction.toString("hex"), resolve);
      this.#send(encodeStun(message, login.length > 0 ? key : undefined));
    });
  }

  /** The relayed port; undefined when it is refused. */
  async allocate(): Promise<number | undefined> {
    const attributes = [encodeUInt32(ATTRIBUTE.REQUESTED_TRANSPORT, 17 << 24)];
    expect(errorCode(await this.ask(METHOD.ALLOCATE))).toBe(401);
    const answer = await this.ask(METHOD.ALLOCATE, () => attributes);
    expect(answer.attributes.has(0x0020), "no XOR-MAPPED-ADDRESS: it would be another socket's").toBe(false);
    return decodeXorAddress(answer.attributes.get(ATTRIBUTE.XOR_RELAYED_ADDRESS), answer.transaction)?.port;
  }

  permit(port: number): Promise<StunMessage> {
    return this.ask(METHOD.CREATE_PERMISSION, (transaction) => [
      encodeXorAddress(ATTRIBUTE.XOR_PEER_ADDRESS, peer(port), transaction),
    ]);
  }

  bind(channel: number, port: number): Promise<StunMessage> {
    const number = Buffer.alloc(4);
    number.writeUInt16BE(channel, 0);
    return this.ask(METHOD.CHANNEL_BIND, (transaction) => [
      [ATTRIBUTE.CHANNEL_NUMBER, number],
      encodeXorAddress(ATTRIBUTE.XOR_PEER_ADDRESS, peer(port), transaction),
    ]);
  }

  /** By a Send indication. */
  say(port: number, text: string): void {
    const transaction = newTransaction();
    const attributes: Attribute[] = [
      encodeXorAddress(ATTRIBUTE.XOR_PEER_ADDRESS, peer(port), transaction),
      [ATTRIBUTE.DATA, Buffer.from(text)],
    ];
    this.#send(encodeStun({ method: METHOD.SEND, class: CLASS.INDICATION, transaction, attributes }));
  }

  /** By a channel. */
  sayBy(channel: number, text: string): void {
    const header = Buffer.alloc(4);
    header.writeUInt16BE(channel, 0);
    header.writeUInt16BE(Buffer.byteLength(text), 2);
    this.#send(Buffer.concat([header, Buffer.from(text)]));
  }

  #send(message: Buffer): void {
    this.#socket.send(message, this.#place.port, this.#place.host);
  }
}

async function open(
  servers: readonly TurnServer[],
  { onlog, neighbours = false }: { onlog?: (text: string) => void; neighbours?: boolean } = {},
): Promise<Gateway> {
  const gateway = await openGateway({
    servers,
    near: "127.0.0.1",
    bind: undefined,
    remotePassword: "",
    neighbours,
    ports: undefined,
    onlog,
  });
  onTestFinished(() => {
    gateway.close();
  });
  return gateway;
}

/** A certificate for `name` that nobody vouches for, and where it is. */
function certificate(name: string): { key: Buffer; cert: Buffer; path: string } {
  const directory = mkdtempSync(join(tmpdir(), "dcpipe-turn-"));
  onTestFinished(() => {
    rmSync(directory, { recursive: true });
  });
  const [key, path] = [join(directory, "key"), join(directory, "cert")];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"];
  const names = ["-subj", "/CN=test", "-addext", `subjectAltName=${name}`];
  execFileSync("openssl", ["req", "-x509", ...curve, ...names, "-keyout", key, "-out", path], {
    stdio: "pipe",
  });
  return { key: readFileSync(key), cert: readFileSync(path), path };
}

/** Probes in a process that trusts the certificate. */
async function trusting(path: string, server: TurnServer, env: NodeJS.ProcessEnv = {}): Promise<TurnProbe> {
  const script = `
    import { probeTurn } from ${JSON.stringify(new URL("../../dist/node/turn/probe.js", import.meta.url).href)};
    console.log(JSON.stringify(await probeTurn(JSON.parse(process.argv[1]), 20000)));`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, JSON.stringify(server)], {
    env: { ...process.env, NODE_EXTRA_CA_CERTS: path, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  expect(await once(child, "close")).toEqual([0, null]);
  return JSON.parse(said) as TurnProbe;
}

describe.each([
  ["TCP", () => startStream()],
  ["UDP", () => startDatagrams()],
])("an allocation over %s", (_, start) => {
  test("data both ways, by indications and by channels", async () => {
    const server = await start();
    const library = await Library.open(await open([server.place]));
    expect(await library.allocate()).toBe(server.client.relayedPort);
    expect((await library.permit(1)).class).toBe(CLASS.SUCCESS);
    library.say(1, "one");
    await server.until(() => server.sent.length === 1);
    server.deliver(server.client, peer(1), "two");
    await library.until((heard) => heard.length === 1);
    expect((await library.bind(0x4abc, 1)).class).toBe(CLASS.SUCCESS);
    library.sayBy(0x4abc, "three");
    library.sayBy(0x4abc, "fo");
    library.sayBy(0x4abc, "");
    await server.until(() => server.sent.length === 4);
    server.deliver(server.client, peer(1), "five!");
    server.deliver(server.client, peer(1), "six");
    expect(await library.until((heard) => heard.length === 3)).toEqual(["1 two", "#4abc five!", "#4abc six"]);
    expect(server.sent).toEqual([
      { to: 1, data: "one" },
      { to: 1, data: "three", channel: 0x4abc },
      { to: 1, data: "fo", channel: 0x4abc },
      { to: 1, data: "", channel: 0x4abc },
    ]);
    expect((await library.ask(METHOD.REFRESH)).class).toBe(CLASS.SUCCESS);
  });

  test("the next peer connection takes it over: same address, its own channel numbers", async () => {
    const server = await start();
    const first = await open([server.place]);
    const library = await Library.open(first);
    const relayed = await library.allocate();
    await library.bind(0x4001, 1);
    await library.bind(0x4002, 2);
    first.close();
    const next = await Library.open(await open([server.place]));
    expect(await next.allocate()).toBe(relayed);
    // Bound before, but not by this one: it comes as an indication.
    server.deliver(server.client, peer(1), "early");
    await next.until((heard) => heard.length === 1);
    expect((await next.bind(0x4002, 1)).class).toBe(CLASS.SUCCESS);
    next.sayBy(0x4002, "up");
    await server.until(() => server.sent.length === 1);
    server.deliver(server.client, peer(1), "down");
    expect(await next.until((heard) => heard.length === 2)).toEqual(["1 early", "#4002 down"]);
    expect(server.sent).toEqual([{ to: 1, data: "up", channel: 0x4001 }]);
    expect(server.clients).toHaveLength(1);
    // A new peer gets a number that is free there.
    expect((await next.bind(0x4001, 3)).class).toBe(CLASS.SUCCESS);
    expect([...server.client.channels].map(([channel, { port }]) => [channel, port])).toEqual([
      [0x4001, 1],
      [0x4002, 2],
      [0x4003, 3],
    ]);
  });

  test("two peer connections at once have one each", async () => {
    const server = await start();
    const libraries = [
      await Library.open(await open([server.place])),
      await Library.open(await open([server.place])),
    ];
    const ports = await Promise.all(libraries.map((library) => library.allocate()));
    expect(new Set(ports).size).toBe(2);
  });

  test("a nonce that has become stale", async () => {
    const server = await start();
    const library = await Library.open(await open([server.place]));
    await library.allocate();
    server.nonce = "second";
    expect((await library.permit(1)).class).toBe(CLASS.SUCCESS);
    expect((await library.bind(0x4001, 1)).class).toBe(CLASS.SUCCESS);
  });

  test("DTLS waits until the peer connection can take it, and nothing else does", async () => {
    const server = await start();
    const gateway = await open([server.place]);
    const library = await Library.open(gateway);
    await library.allocate();
    await library.permit(1);
    const hello = Buffer.from([22, 254, 255, 1]);
    server.deliver(server.client, peer(1), hello);
    await library.bind(0x4001, 1);
    server.deliver(server.client, peer(1), hello);
    server.deliver(server.client, peer(1), "check");
    expect(await library.until((heard) => heard.length === 1)).toEqual(["#4001 check"]);
    gateway.connected();
    server.deliver(server.client, peer(1), hello);
    await library.until((heard) => heard.length === 4);
    expect(library.heard).toEqual([
      "#4001 check",
      `1 ${String(hello)}`,
      `#4001 ${String(hello)}`,
      `#4001 ${String(hello)}`,
    ]);
  });

  test("what was said before it was closed arrives, and then the allocation goes back", async () => {
    const server = await start();
    const gateway = await open([server.place]);
    const library = await Library.open(gateway);
    await library.allocate();
    await library.bind(0x4001, 1);
    for (let index = 0; index < 10; index++) library.sayBy(0x4001, `${index}`);
    gateway.close();
    library.sayBy(0x4001, "bye");
    await flushed();
    await server.until(() => server.sent.length === 11);
    expect(server.sent.at(-1)?.data).toBe("bye");
  });

  test.each([true, false])(
    "addresses that the library does not know are let in, neighbours: %s",
    async (neighbours) => {
      const server = await start();
      const asked: string[] = [];
      server.ignore = ({ method, attributes, transaction }) => {
        const address = decodeXorAddress(attributes.get(ATTRIBUTE.XOR_PEER_ADDRESS), transaction);
        if (method === METHOD.CREATE_PERMISSION && address) asked.push(formatHost(address.bytes));
        return false;
      };
      const gateway = await open([server.place], { neighbours });
      gateway.permit("192.0.2.1");
      const library = await Library.open(gateway);
      await library.allocate();
      gateway.permit("192.0.2.2");
      // The relayed address that the server lends is its own.
      const all = ["192.0.2.1", ...(neighbours ? ["203.0.113.9"] : []), "192.0.2.2"];
      await server.until(() => asked.length === all.length);
      expect(asked).toEqual(all);
    },
  );

  test("a permission that is refused is passed on, and told once", async () => {
    const server = await start();
    const onlog = vi.fn();
    const library = await Library.open(await open([server.place], { onlog }));
    await library.allocate();
    server.refuse = () => 403;
    for (const port of [1, 2]) expect(errorCode(await library.permit(port))).toBe(403);
    expect(onlog.mock.calls).toEqual([
      [`TURN server ${nameOf(server.place)}: not to every address of the other side: it forbids it (403)`],
    ]);
  });
});

describe("a server that does not", () => {
  /** What the log says when there is no allocation; the library is told at once. */
  async function failure(server: TurnServer): Promise<string> {
    const onlog = vi.fn<(text: string) => void>();
    const library = await Library.open(await open([server], { onlog }));
    expect(await library.allocate()).toBeUndefined();
    expect(onlog).toHaveBeenCalledOnce();
    const [text = ""] = onlog.mock.calls[0] ?? [];
    expect(text).not.toMatch(/secret|ann/);
    return text.replace(`TURN server ${nameOf(server)}: `, "");
  }

  test("know the password", async () => {
    const server = await startStream();
    expect(await failure({ ...server.place, password: "other" })).toBe(
      "it does not accept these credentials (401)",
    );
    expect(server.requests).toEqual([]);
  });

  test("take credentials that have expired", async () => {
    const server = await startStream();
    const text = await failure({ ...server.place, username: "1700000000:ann" });
    expect(text).toBe("these credentials expired at 2023-11-14T22:13:20.000Z (401)");
  });

  test.each([
    [403, "it forbids it (403)"],
    [442, "it relays no UDP (442)"],
    [486, "this user has as many allocations as it allows (486)"],
    [508, "it has no room for another allocation (508)"],
    [699, "it refuses (699)"],
  ])("grant: %d", async (code, text) => {
    const server = await startStream();
    server.refuse = () => code;
    const onlog = vi.fn<(text: string) => void>();
    await open([server.place], { onlog });
    await vi.waitUntil(() => onlog.mock.calls.length > 0);
    expect(onlog.mock.calls[0]?.[0]).toBe(`TURN server ${nameOf(server.place)}: ${text}`);
  });

  test("forget an allocation of the same port: another port is tried", async () => {
    const server = await startStream();
    let count = 0;
    server.refuse = () => (++count === 1 ? 437 : undefined);
    const library = await Library.open(await open([server.place]));
    expect(await library.allocate()).toBe(server.client.relayedPort);
    expect(server.clients).toHaveLength(2);
  });

  test("speak TURN", async () => {
    const port = await listen(createHttpServer());
    const server = {
      host: "127.0.0.1",
      port,
      transport: "tcp",
      username: "ann",
      password: "secret",
    } as const;
    expect(await failure(server)).toBe("what answers is no TURN server");
  });

  test("speak TLS", async () => {
    const port = await listen(createHttpServer());
    const server = {
      host: "127.0.0.1",
      port,
      transport: "tls",
      username: "ann",
      password: "secret",
    } as const;
    expect(await probeTurn(server, 20_000)).toEqual({ ok: false, error: "it does not speak TLS" });
  });

  test("sign what it says: it is not believed", async () => {
    const server = await startStream();
    server.key = Buffer.alloc(16);
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const probe = probeTurn(server.place, 3000);
    await server.until(() => server.requests.length === 1);
    vi.advanceTimersByTime(3000);
    expect(await probe).toEqual({ ok: false, error: "no answer in 3 s" });
  });

  test("say where it relays", async () => {
    const server = await startStream();
    server.refuse = (method) => (method === METHOD.ALLOCATE ? 300 : undefined);
    expect(await probeTurn(server.place, 20_000)).toEqual({ ok: false, error: "it passes us on to nowhere" });
  });
});

test("a server that passes us on, once", async () => {
  const [first, second] = [await startStream(), await startStream()];
  const address = Buffer.from([0, 1, 0, 0, 127, 0, 0, 1]);
  address.writeUInt16BE(second.place.port, 2);
  first.extra = [[ATTRIBUTE.ALTERNATE_SERVER, address]];
  first.refuse = () => 300;
  const result = await probeTurn(first.place, 20_000);
  expect(result).toMatchObject({
    ok: true,
    relayed: { address: "203.0.113.9", port: second.client.relayedPort },
  });
  address.writeUInt16BE(first.place.port, 2);
  expect(await probeTurn(first.place, 20_000)).toEqual({ ok: false, error: "it passes us on and on" });
});

describe("several servers", () => {
  const server = (host: string, transport: TurnServer["transport"] = "udp"): TurnServer => ({
    host,
    port: 3478,
    transport,
    username: "",
    password: "",
  });
  const [a, b, c] = [server("a"), server("b"), server("c")];
  const [s, t] = [server("s", "tls"), server("t", "tcp")];

  test.each([
    ["none", [], []],
    ["one", [a], [[a]]],
    ["the same twice", [a, { ...a }], [[a]]],
    ["UDP only", [a, b, c], [[a, c], [b]]],
    ["streams only", [s, t], [[s], [t]]],
    ["both kinds", [a, b, s], [[a, b], [s]]],
    ["both kinds, streams first", [t, s, a], [[a], [t, s]]],
  ])("%s", (_, servers, lists) => {
    expect(chooseServers(servers, () => false)).toEqual(lists);
  });

  test("those that failed of late come last", () => {
    expect(chooseServers([a, b, c, s, t], ({ host }) => "as".includes(host))).toEqual([
      [b, c, a],
      [t, s],
    ]);
  });

  test("a refusal gives way to the next one", async () => {
    const servers = [await startStream(), await startStream(), await startStream()];
    const [bad, other, good] = servers as [FakeServer, FakeServer, FakeServer];
    bad.refuse = () => 486;
    const onlog = vi.fn();
    const gateway = await open([bad.place, other.place, good.place], { onlog });
    expect(gateway.endpoints).toHaveLength(2);
    const [first, second] = [await Library.open(gateway, 0), await Library.open(gateway, 1)];
    expect(await first.allocate()).toBe(good.client.relayedPort);
    expect(await second.allocate()).toBe(other.client.relayedPort);
    expect(onlog).toHaveBeenCalledOnce();
  });

  test("one that takes the connection and says nothing gives way to the next one", async () => {
    const port = await listen(createServer());
    const [other, good] = [await startDatagrams(), await startStream()];
    const silent = { ...good.place, port };
    const onlog = vi.fn();
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const gateway = await open([other.place, silent, good.place], { onlog });
    const library = await Library.open(gateway, 1);
    const relayed = library.allocate();
    await vi.waitUntil(() => vi.getTimerCount() > 0);
    while (good.clients.length === 0) await vi.advanceTimersByTimeAsync(1000);
    expect(await relayed).toBe(good.client.relayedPort);
    expect(onlog.mock.calls).toEqual([[`TURN server ${nameOf(silent)}: no answer in 5 s`]]);
  });

  test("one that is down is called again, for as long as the peer connection lives", async () => {
    const server = createServer();
    const port = await listen(server);
    server.close();
    await once(server, "close");
    const onlog = vi.fn();
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const place = { host: "127.0.0.1", port, transport: "tcp", username: "ann", password: "secret" } as const;
    const gateway = await open([place], { onlog });
    await vi.waitUntil(() => onlog.mock.calls.length === 1);
    expect(onlog.mock.calls).toEqual([[`TURN server ${nameOf(place)}: the connection was refused`]]);
    let calls = 0;
    const again = createServer((socket) => {
      calls++;
      socket.destroy();
    });
    again.listen(port, "127.0.0.1");
    await once(again, "listening");
    onTestFinished(() => {
      again.close();
    });
    while (calls < 2) await vi.advanceTimersByTimeAsync(1000);
    gateway.close();
  });
});

describe("a connection that ends", () => {
  test("the peer connection is told which address is gone", async () => {
    const server = await startStream();
    const onlog = vi.fn();
    const gateway = await open([server.place], { onlog });
    const library = await Library.open(gateway);
    const port = await library.allocate();
    const lost = new Promise((resolve) => (gateway.onlost = resolve));
    server.client.close();
    expect(await lost).toEqual({ address: "203.0.113.9", port });
    expect(onlog.mock.calls).toEqual([
      [`TURN server ${nameOf(server.place)}: the allocation is lost: the connection was cut`],
    ]);
  });

  test("garbage ends it", async () => {
    const server = await startStream();
    const gateway = await open([server.place]);
    const library = await Library.open(gateway);
    await library.allocate();
    const lost = new Promise((resolve) => (gateway.onlost = resolve));
    server.client.send(Buffer.from("\u0000 this is no message at all"));
    await lost;
  });

  test("while nobody uses the allocation: the next peer connection gets a new one", async () => {
    const server = await startStream();
    const first = await open([server.place]);
    const relayed = await (await Library.open(first)).allocate();
    first.close();
    server.client.close();
    const next = await (await Library.open(await open([server.place]))).allocate();
    expect(next).toBe(server.client.relayedPort);
    expect(next).not.toBe(relayed);
  });

  test("or it is a black hole: the same", async () => {
    const server = await startStream();
    const first = await open([server.place]);
    await (await Library.open(first)).allocate();
    first.close();
    server.ignore = ({ method }) => method === METHOD.REFRESH;
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const library = await Library.open(await open([server.place]));
    const relayed = library.allocate();
    while (server.clients.length === 1) await vi.advanceTimersByTimeAsync(500);
    expect(await relayed).toBe(server.client.relayedPort);
  });

  test("messages that are too long are passed over", async () => {
    const server = await startStream();
    const library = await Library.open(await open([server.place]));
    await library.allocate();
    await library.permit(1);
    server.deliver(server.client, peer(1), Buffer.alloc(60_000, "x"));
    await library.bind(0x4001, 1);
    server.deliver(server.client, peer(1), Buffer.alloc(60_001, "x"));
    server.deliver(server.client, peer(1), "short");
    expect(await library.until((heard) => heard.length > 0)).toEqual(["#4001 short"]);
  });
});

test("who does not know the password gets nothing through", async () => {
  const server = await startStream();
  const gateway = await open([server.place]);
  const stranger = await Library.open(gateway);
  expect(errorCode(await stranger.ask(METHOD.ALLOCATE))).toBe(401);
  const library = await Library.open(gateway);
  await library.allocate();
  await library.bind(0x4001, 1);
  // A wrong password has no answer at all, so something else must show that it came to nothing.
  void stranger.ask(METHOD.CREATE_PERMISSION, () => [], "guessed");
  stranger.sayBy(0x4001, "stranger");
  stranger.say(1, "stranger");
  library.sayBy(0x4001, "library");
  await server.until(() => server.sent.length > 0);
  server.deliver(server.client, peer(1), "answer");
  await library.until((heard) => heard.length === 1);
  expect(server.sent).toEqual([{ to: 1, data: "library", channel: 0x4001 }]);
  expect(stranger.heard).toEqual([]);
});

test("a server that does not read: what is too much is dropped, whole messages arrive in order", async () => {
  let socket: Socket | undefined;
  const got: Buffer[] = [];
  const port = await listen(
    createServer((each) => {
      socket = each.pause();
      each.on("data", (piece) => got.push(piece));
    }).on("connection", (each) => each.pause()),
  );
  const connection = await dial(
    { host: "127.0.0.1", port, transport: "tcp", username: "", password: "" },
    {
      bind: undefined,
      ports: undefined,
      signal: new AbortController().signal,
      onmessage: () => undefined,
      onclose: () => undefined,
    },
  );
  const SIZE = 1200;
  const message = (index: number): Buffer => {
    const bytes = Buffer.alloc(SIZE);
    bytes.writeUInt16BE(0x4001, 0);
    bytes.writeUInt16BE(SIZE - 4, 2);
    bytes.writeUInt32BE(index, 4);
    return bytes;
  };
  const count = 40_000;
  for (let index = 0; index < count; index++) {
    connection.send(message(index));
    if (index % 100 === 0) await new Promise(setImmediate);
  }
  await vi.waitUntil(() => socket !== undefined);
  socket?.resume();
  // One more, after all that was kept has gone: it arrives as the last.
  const last = message(count);
  const timer = setInterval(() => {
    connection.send(last);
  }, 10);
  await vi.waitUntil(() => Buffer.concat(got.slice(-2)).includes(last.subarray(0, 8)), {
    timeout: 60_000,
    interval: 10,
  });
  clearInterval(timer);
  connection.close();
  const all = Buffer.concat(got);
  const numbers = Array.from({ length: Math.floor(all.length / SIZE) }, (_, index) =>
    all.readUInt32BE(index * SIZE + 4),
  );
  expect(numbers).toEqual([...numbers].sort((one, other) => one - other));
  // The kernel's buffers take their part.
  expect(numbers.length).toBeLessThan(count / 2);
  expect(numbers.length).toBeGreaterThan(MAX_QUEUED / SIZE);
});

describe("a probe", () => {
  test.each([
    ["TCP", () => startStream()],
    ["UDP", () => startDatagrams()],
  ])("%s: the address, and how far away it is", async (_, start) => {
    const server = await start();
    const result = await probeTurn(server.place, 20_000);
    expect(result).toEqual({
      ok: true,
      relayed: { address: "203.0.113.9", port: server.client.relayedPort },
      roundTripMs: expect.any(Number) as number,
    });
    expect(result.roundTripMs).toBeGreaterThan(0);
    // It is given back: over UDP by a word, over TCP by the end of the connection.
    if (server.place.transport === "udp") await server.until(() => server.requests.includes(METHOD.REFRESH));
  });

  test("over TLS, with a certificate that is trusted", async () => {
    const { key, cert, path } = certificate("IP:127.0.0.1");
    const server = await startStream({ key, cert });
    expect(await trusting(path, server.place)).toMatchObject({ ok: true });
  });

  test("over TLS, by a name", async () => {
    const { key, cert, path } = certificate("DNS:localhost");
    const names: unknown[] = [];
    const server = await startStream({
      key,
      cert,
      SNICallback: (name, callback) => {
        names.push(name);
        callback(null);
      },
    });
    expect(await trusting(path, { ...server.place, host: "localhost" })).toMatchObject({ ok: true });
    expect(names).toEqual(["localhost"]);
  });

  test("a certificate for another host", async () => {
    const { key, cert, path } = certificate("DNS:example.org");
    const server = await startStream({ key, cert });
    const failure = { ok: false, error: "its certificate is for another host" };
    expect(await trusting(path, server.place)).toEqual(failure);
    expect(await trusting(path, { ...server.place, host: "localhost" })).toEqual(failure);
  });

  test("a certificate that nobody vouches for", async () => {
    const { key, cert } = certificate("IP:127.0.0.1");
    const server = await startStream({ key, cert });
    expect(await probeTurn(server.place, 20_000)).toEqual({
      ok: false,
      error: "its certificate is self-signed",
    });
    expect(server.clients).toEqual([]);
  });

  test("TLS of another age", async () => {
    const { key, cert, path } = certificate("IP:127.0.0.1");
    const server = await startStream({
      key,
      cert,
      minVersion: "TLSv1.1",
      maxVersion: "TLSv1.1",
      ciphers: "DEFAULT@SECLEVEL=0",
    });
    const result = await trusting(path, server.place);
    expect(result.ok).toBe(false);
    expect(result.error).toMatch(/^TLS failed: /);
  });

  test("a name that nobody has", async () => {
    // RFC 6761: no resolver finds it. One that is out of reach says so.
    const message = /^(there is no host of this name|its name cannot be looked up)/;
    for (const transport of ["udp", "tcp", "tls"] as const) {
      const server = { host: "no.invalid", port: 3478, transport, username: "ann", password: "secret" };
      expect((await probeTurn(server, 60_000)).error).toMatch(message);
    }
  });

  test("a port where nobody listens", async () => {
    const socket = createSocket("udp4").bind(0, "127.0.0.1");
    await once(socket, "listening");
    const { port } = socket.address();
    socket.close();
    await once(socket, "close");
    for (const transport of ["udp", "tcp", "tls"] as const) {
      const server = { host: "127.0.0.1", port, transport, username: "ann", password: "secret" };
      expect(await probeTurn(server, 20_000)).toEqual({ ok: false, error: "the connection was refused" });
    }
  });

  test("silence", async () => {
    const port = await listen(createServer());
    const socket = createSocket("udp4").bind(0, "127.0.0.1");
    await once(socket, "listening");
    onTestFinished(() => {
      socket.close();
    });
    for (const [transport, where] of [
      ["tcp", port],
      ["tls", port],
      ["udp", socket.address().port],
    ] as const) {
      const server = { host: "127.0.0.1", port: where, transport, username: "ann", password: "secret" };
      expect(await probeTurn(server, 300)).toEqual({ ok: false, error: "no answer in 0.3 s" });
    }
  });
});

describe("a proxy", () => {
  async function startProxy(
    answer?: string,
  ): Promise<{ url: string; asked: string[]; credentials: unknown[] }> {
    const asked: string[] = [];
    const credentials: unknown[] = [];
    const server = createHttpServer((_, response) => response.writeHead(405).end());
    server.on("connect", ({ url = "", headers }, client: Socket) => {
      asked.push(url);
      credentials.push(headers["proxy-authorization"]);
      client.on("error", () => undefined);
      if (answer !== undefined) {
        client.end(answer);
        return;
      }
      const { hostname, port } = new URL(`http://${url}`);
      const upstream = connect(Number(port), hostname, () => {
        client.write("HTTP/1.1 200 OK\r\n\r\n");
        client.pipe(upstream).pipe(client);
      });
      upstream.on("error", () => client.destroy());
      client.on("close", () => upstream.destroy());
    });
    return { url: `http://ann:secret@127.0.0.1:${await listen(server)}`, asked, credentials };
  }

  test("is passed through by TCP and by TLS, and not by UDP", async () => {
    const { key, cert, path } = certificate("IP:127.0.0.1");
    const [plain, secure, datagrams] = [
      await startStream(),
      await startStream({ key, cert }),
      await startDatagrams(),
    ];
    const proxy = await startProxy();
    vi.stubEnv("HTTPS_PROXY", proxy.url);
    expect(await probeTurn(plain.place, 20_000)).toMatchObject({ ok: true });
    expect(await probeTurn(datagrams.place, 20_000)).toMatchObject({ ok: true });
    expect(await trusting(path, secure.place)).toMatchObject({ ok: true });
    expect(proxy.asked).toEqual([plain, secure].map(({ place }) => `127.0.0.1:${place.port}`));
    expect(proxy.credentials[0]).toBe(`Basic ${Buffer.from("ann:secret").toString("base64")}`);
    vi.stubEnv("NO_PROXY", "127.0.0.1");
    expect(await probeTurn(plain.place, 20_000)).toMatchObject({ ok: true });
    expect(proxy.asked).toHaveLength(2);
  });

  test.each([
    [
      "says no",
      "HTTP/1.1 403 Forbidden\r\n\r\n",
      /^the proxy http:\/\/127\.0\.0\.1:\d+ refuses \(HTTP 403\)$/,
    ],
    ["is none", "SSH-2.0-OpenSSH_9.6\r\n\r\n", /^the proxy http:\/\/127\.0\.0\.1:\d+ is no proxy$/],
    ["hangs up", "", /^cannot reach the proxy http:\/\/127\.0\.0\.1:\d+: /],
  ])("%s", async (_, answer, error) => {
    vi.stubEnv("ALL_PROXY", (await startProxy(answer)).url);
    const server = {
      host: "192.0.2.1",
      port: 443,
      transport: "tls",
      username: "ann",
      password: "secret",
    } as const;
    const result = await probeTurn(server, 20_000);
    expect(result.error).toMatch(error);
    expect(result.error).not.toContain("secret");
  });

  test("is none of ours", async () => {
    vi.stubEnv("ALL_PROXY", "socks5://ann:secret@127.0.0.1:1080");
    const server = {
      host: "192.0.2.1",
      port: 443,
      transport: "tls",
      username: "ann",
      password: "secret",
    } as const;
    expect((await probeTurn(server, 20_000)).error).toBe(
      "the proxy set for TURN servers is no http or https URL",
    );
  });
});

test.each([
  [{ host: "turn.example.org", port: 3478, transport: "udp" }, "turn:turn.example.org:3478"],
  [{ host: "192.0.2.1", port: 80, transport: "tcp" }, "turn:192.0.2.1:80?transport=tcp"],
  [{ host: "2001:db8::1", port: 443, transport: "tls" }, "turns:[2001:db8::1]:443"],
  [{ host: "a\u001b[31m\u202eb", port: 1, transport: "udp" }, "turn:a??31m?b:1"],
] as const)("the name of a server: %j", (server, name) => {
  expect(nameOf(server)).toBe(name);
});
