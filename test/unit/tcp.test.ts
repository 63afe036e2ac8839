/** Real sockets on loopback and in temporary directories; the other end is always plain node:net. */
import { existsSync, lstatSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Address, Connection, Listener } from "../../src/apps/forward/network.ts";
import type { DcpipeError } from "../../src/errors.ts";
import { bindAll } from "../../src/node/net/bind.ts";
import { dialTcp, listenTcp } from "../../src/node/tcp.ts";

const HAS_IPV6 = Object.values(networkInterfaces()).some((all) =>
  all?.some(({ address }) => address === "::1"),
);

let root: string;
const ending: (() => unknown)[] = [];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "dcpipe-tcp-"));
});
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end();
  rmSync(root, { recursive: true, force: true });
});

/** What a connection tells, in order: "data" once for each run of it, "end", "drain", "close" or "close CODE". */
class Log {
  readonly connection: Connection;
  readonly events: string[] = [];
  readonly chunks: Buffer[] = [];
  length = 0;
  readonly closed: Promise<DcpipeError | undefined>;
  #waiting: (() => void)[] = [];

  constructor(connection: Connection) {
    this.connection = connection;
    connection.ondata = (chunk) => {
      this.chunks.push(Buffer.from(chunk));
      this.length += chunk.length;
      this.#add("data");
    };
    connection.onend = () => {
      this.#add("end");
    };
    connection.ondrain = () => {
      this.#add("drain");
    };
    this.closed = new Promise((resolve) => {
      connection.onclose = (error) => {
        this.#add(error ? `close ${error.code}` : "close");
        resolve(error);
      };
    });
    ending.push(() => {
      connection.reset();
    });
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  #add(event: string): void {
    if (event !== "data" || this.events.at(-1) !== "data") this.events.push(event);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}

/** The same of a plain socket. It reads nothing until it is resumed. */
class Peer {
  readonly socket: Socket;
  readonly chunks: Buffer[] = [];
  readonly ended: Promise<void>;
  /** The error's code, or "". */
  readonly closed: Promise<string>;

  constructor(socket: Socket) {
    this.socket = socket;
    let code = "";
    // Before there is a listener for data: that would begin to read.
    socket.pause();
    socket.on("data", (chunk: Buffer) => this.chunks.push(chunk));
    socket.on("error", (error: NodeJS.ErrnoException) => (code = error.code ?? error.message));
    this.ended = new Promise((resolve) => socket.on("end", resolve));
    this.closed = new Promise((resolve) =>
      socket.on("close", () => {
        resolve(code);
      }),
    );
    ending.push(() => socket.destroy());
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  write(data: string | Buffer): Promise<void> {
    return new Promise((resolve) => {
      this.socket.write(data, () => {
        resolve();
      });
    });
  }
}

/** Those that came, in order. */
class Queue<T> {
  readonly #items: T[] = [];
  #wake: (() => void) | undefined;
  readonly push = (item: T): void => {
    this.#items.push(item);
    this.#wake?.();
  };
  async next(): Promise<T> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) return item;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

async function start(place: Listener["place"]): Promise<{ listener: Listener; accepted: Queue<Connection> }> {
  const accepted = new Queue<Connection>();
  const listener = await listenTcp(place, accepted.push);
  ending.push(() => listener.close());
  return { listener, accepted };
}

function loopback(port = 0, address = "127.0.0.1"): { type: "host"; address: string; port: number } {
  return { type: "host", address, port };
}

function portOf({ place }: Listener): number {
  if (place.type !== "host") throw new Error("no port");
  return place.port;
}

function call(where: { port: number; host: string } | { path: string }): Promise<Peer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ ...where, allowHalfOpen: true });
    socket.on("error", reject);
    socket.on("connect", () => {
      resolve(new Peer(socket));
    });
  });
}

/** A plain server. */
async function serve(where: { port: number; host: string } | { path: string; backlog?: number }): Promise<{
  server: Server;
  address: Address;
  accepted: Queue<Socket>;
}> {
  const accepted = new Queue<Socket>();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, accepted.push);
  await new Promise<void>((resolve) => server.listen(where, resolve));
  ending.push(() => server.close());
  const bound = server.address();
  const address: Address =
    bound && typeof bound === "object"
      ? { type: "host", address: bound.address, port: bound.port }
      : { type: "unix", path: String(bound) };
  return { server, address, accepted };
}

const never = new AbortController().signal;

function dial(address: Address): Promise<Connection> {
  return dialTcp(address, { signal: never });
}

type Ends = { log: Log; peer: Peer };

/** A connection of ours with a plain one at the other end, in each way that there is one. */
const KINDS: Readonly<Record<string, () => Promise<Ends>>> = {
  "accepted TCP": async () => {
    const { listener, accepted } = await start(loopback());
    const peer = await call({ host: "127.0.0.1", port: portOf(listener) });
    return { log: new Log(await accepted.next()), peer };
  },
  "dialed TCP": async () => {
    const { address, accepted } = await serve({ host: "127.0.0.1", port: 0 });
    const log = new Log(await dial(address));
    return { log, peer: new Peer(await accepted.next()) };
  },
  "accepted unix": async () => {
    const path = join(root, "accepted");
    const { accepted } = await start({ type: "unix", path });
    const peer = await call({ path });
    return { log: new Log(await accepted.next()), peer };
  },
  "dialed unix": async () => {
    const { address, accepted } = await serve({ path: join(root, "dialed") });
    const log = new Log(await dial(address));
    return { log, peer: new Peer(await accepted.next()) };
  },
};
const ALL = Object.keys(KINDS);
const TCP = ALL.filter((kind) => kind.endsWith("TCP"));

async function open(kind: string): Promise<Ends> {
  const ends = await KINDS[kind]?.();
  if (!ends) throw new Error(kind);
  return ends;
}

/** Some messages there and back on a connection of their own: what was under way on another has come by then. */
async function settle(): Promise<void> {
  const { log, peer } = await open("dialed TCP");
  log.connection.resume();
  peer.socket.on("data", (chunk) => peer.socket.write(chunk)).resume();
  for (let round = 1; round <= 20; round++) {
    log.connection.write(Buffer.from("x"));
    await log.until(() => log.length >= round);
  }
  log.connection.reset();
  await log.closed;
}

function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 2654435761) >>> 24;
  return bytes;
}

describe.each(ALL)("%s", (kind) => {
  test("bytes both ways, and who is there", async () => {
    const { log, peer } = await open(kind);
    expect(log.connection.remote).toMatch(kind.endsWith("TCP") ? /^127\.0\.0\.1:\d+$/ : /(accepted|dialed)$/);
    log.connection.resume();
    peer.socket.resume();
    log.connection.write(Buffer.from("hello"));
    log.connection.end();
    await peer.ended;
    expect(String(peer.bytes)).toBe("hello");
    peer.socket.end("you too");
    expect(await log.closed).toBeUndefined();
    expect(log.events).toEqual(["data", "end", "close"]);
    expect(String(log.bytes)).toBe("you too");
    expect(await peer.closed).toBe("");
    expect(log.connection.write(Buffer.from("late"))).toBe(false);
  });

  test("half-close, the other end first", async () => {
    const { log, peer } = await open(kind);
    log.connection.resume();
    peer.socket.end("question");
    await log.until(() => log.events.includes("end"));
    expect(log.events).toEqual(["data", "end"]);
    peer.socket.resume();
    log.connection.write(Buffer.from("ans"));
    await settle();
    log.connection.write(Buffer.from("wer"));
    log.connection.end();
    expect(await log.closed).toBeUndefined();
    await peer.ended;
    expect(String(peer.bytes)).toBe("answer");
    expect(await peer.closed).toBe("");
  });

  test("half-close, our end first, and all at once from the other", async () => {
    const { log, peer } = await open(kind);
    log.connection.resume();
    peer.socket.resume();
    log.connection.end();
    await peer.ended;
    peer.socket.end(noise(1000));
    expect(await log.closed).toBeUndefined();
    expect(log.events).toEqual(["data", "end", "close"]);
    expect(log.length).toBe(1000);
  });

  test("begins paused, and pausing is at once", async () => {
    const { log, peer } = await open(kind);
    await peer.write("early");
    await settle();
    expect(log.events).toEqual([]);
    log.connection.resume();
    log.connection.pause();
    await settle();
    expect(log.events).toEqual([]);
    log.connection.resume();
    await log.until(() => log.length === 5);
    log.connection.pause();
    peer.socket.end("late");
    await settle();
    expect(log.events).toEqual(["data"]);
    log.connection.resume();
    await log.until(() => log.events.includes("end"));
    expect(String(log.bytes)).toBe("earlylate");
  });

  test("a paused connection slows the sender", async () => {
    const { log, peer } = await open(kind);
    const total = 64 * 1024 * 1024;
    const chunk = noise(256 * 1024);
    let sent = 0;
    const send = async (): Promise<void> => {
      for (; sent < total; sent += chunk.length) await peer.write(chunk);
      peer.socket.end();
    };
    const sending = send();
    await settle();
    await settle();
    expect(sent).toBeLessThan(total / 2);
    expect(log.length).toBe(0);
    let good = true;
    let at = 0;
    log.connection.ondata = (bytes) => {
      for (let from = 0; from < bytes.length;) {
        const part = bytes.subarray(from, from + chunk.length - (at % chunk.length));
        good &&= chunk
          .subarray(at % chunk.length)
          .subarray(0, part.length)
          .equals(part);
        from += part.length;
        at += part.length;
      }
    };
    log.connection.resume();
    await log.until(() => log.events.includes("end"));
    await sending;
    expect(at).toBe(total);
    expect(good).toBe(true);
  });

  test("write says when to wait, and when to go on", async () => {
    const { log, peer } = await open(kind);
    const chunk = noise(64 * 1024);
    const written: Buffer[] = [];
    const fill = (): void => {
      for (;;) {
        written.push(chunk);
        if (!log.connection.write(chunk)) break;
        expect(written.length).toBeLessThan(1000);
      }
    };
    fill();
    await settle();
    expect(log.events).toEqual([]);
    peer.socket.resume();
    await log.until(() => log.events.includes("drain"));
    fill();
    log.connection.end();
    await peer.ended;
    expect(peer.bytes.equals(Buffer.concat(written))).toBe(true);
  });

  test.each([100, 20_000])("%i bytes and a reset: first the bytes, then the reset", async (length) => {
    const bytes = noise(length);
    const ways: Readonly<Record<string, (ends: Ends) => unknown>> = {
      flowing: ({ log }) => {
        log.connection.resume();
      },
      "paused until all is over": () => undefined,
      "paused by the first byte": ({ log }) => {
        const { ondata } = log.connection;
        log.connection.ondata = (chunk) => {
          log.connection.ondata = ondata;
          ondata?.(chunk);
          log.connection.pause();
        };
        log.connection.resume();
      },
    };
    for (const [way, prepare] of Object.entries(ways)) {
      for (const isWriting of [false, true]) {
        const ends = await open(kind);
        const { log, peer } = ends;
        prepare(ends);
        // What is closed with unread input is reset.
        log.connection.write(Buffer.from("unread"));
        await settle();
        await peer.write(bytes);
        peer.socket.destroy();
        await peer.closed;
        if (isWriting) {
          log.connection.write(Buffer.from("lost"));
          log.connection.write(Buffer.from("lost"));
          await settle();
        }
        log.connection.resume();
        const error = await log.closed;
        const what = `${way}${isWriting ? ", writing" : ""}`;
        expect([what, log.events, error?.code]).toEqual([
          what,
          ["data", "close CONNECTION_RESET"],
          "CONNECTION_RESET",
        ]);
        expect(log.bytes.equals(bytes)).toBe(true);
        rmSync(root, { recursive: true, force: true });
        root = mkdtempSync(join(tmpdir(), "dcpipe-tcp-"));
      }
    }
  });
});

describe.each(TCP)("resets, %s", (kind) => {
  test("from the other end", async () => {
    const { log, peer } = await open(kind);
    log.connection.resume();
    peer.socket.resetAndDestroy();
    const error = await log.closed;
    expect(error?.message).toBe(`${log.connection.remote} has reset the connection`);
    expect(log.events).toEqual(["close CONNECTION_RESET"]);
  });

  test("from the other end, after our own end", async () => {
    const { log, peer } = await open(kind);
    log.connection.resume();
    peer.socket.resume();
    log.connection.end();
    await peer.ended;
    await peer.write("partial");
    peer.socket.resetAndDestroy();
    expect((await log.closed)?.code).toBe("CONNECTION_RESET");
    expect(log.events).toEqual(["data", "close CONNECTION_RESET"]);
  });

  test("from our end", async () => {
    const { log, peer } = await open(kind);
    peer.socket.resume();
    log.connection.resume();
    log.connection.reset();
    log.connection.reset();
    expect(await peer.closed).toBe("ECONNRESET");
    expect(await log.closed).toBeUndefined();
    log.connection.reset();
    await settle();
    expect(log.events).toEqual(["close"]);
  });

  test("from our end, with bytes that nobody takes, ended or not", async () => {
    for (const isEnded of [false, true]) {
      const { log, peer } = await open(kind);
      const chunk = noise(64 * 1024);
      while (log.connection.write(chunk));
      if (isEnded) log.connection.end();
      log.connection.reset();
      await log.closed;
      peer.socket.resume();
      // Node's plain socket may take a hang-up for an end: then it is a write that says what it was.
      await Promise.race([peer.ended, peer.closed]);
      peer.socket.write("x");
      expect(await peer.closed).toMatch(/^(ECONNRESET|EPIPE)$/);
      expect(peer.bytes.length).toBeLessThan(64 * 1024 * 1024);
    }
  });

  test("from our end, with the end just under way, and after it", async () => {
    for (const isLate of [false, true]) {
      const { log, peer } = await open(kind);
      peer.socket.resume();
      log.connection.resume();
      log.connection.end();
      if (isLate) await peer.ended;
      log.connection.reset();
      expect(await log.closed).toBeUndefined();
      await Promise.race([peer.ended, peer.closed]);
      peer.socket.write("x");
      expect(await peer.closed).toMatch(/^(ECONNRESET|EPIPE)$/);
    }
  });
});

test("from our end, a unix socket is closed", async () => {
  const { log, peer } = await open("dialed unix");
  peer.socket.resume();
  log.connection.reset();
  await peer.ended;
  expect(await log.closed).toBeUndefined();
});

describe("dialing", () => {
  test("a port where nothing listens", async () => {
    const { listener } = await start(loopback());
    await listener.close();
    const where = loopback(portOf(listener));
    await expect(dial(where)).rejects.toMatchObject({
      code: "CONNECTION_REFUSED",
      message: `nothing listens at 127.0.0.1:${where.port}`,
    });
  });

  test("an address to which no TCP leads", async () => {
    await expect(dial(loopback(80, "224.0.0.1"))).rejects.toMatchObject({
      code: "UNREACHABLE",
      message: "no way leads from here to 224.0.0.1:80 (ENETUNREACH)",
    });
  });

  test("stopped before and meanwhile", async () => {
    const { address } = await serve({ host: "127.0.0.1", port: 0 });
    const stop = new AbortController();
    const dialing = dialTcp(address, { signal: stop.signal });
    stop.abort();
    await expect(dialing).rejects.toMatchObject({ code: "ABORTED" });
    await expect(dialTcp(address, { signal: stop.signal })).rejects.toMatchObject({ code: "ABORTED" });
  });

  test("unix sockets that are none", async () => {
    const path = join(root, "none");
    await expect(dial({ type: "unix", path })).rejects.toMatchObject({
      code: "CONNECTION_REFUSED",
      message: `there is no socket ${path}`,
    });
    writeFileSync(path, "");
    await expect(dial({ type: "unix", path })).rejects.toMatchObject({ code: "CONNECTION_REFUSED" });
    await expect(dial({ type: "unix", path: `/${"x".repeat(120)}` })).rejects.toMatchObject({ code: "IO" });
  });

  test("a unix socket whose queue is full is tried again", async () => {
    const { address } = await serve({ path: join(root, "busy"), backlog: 1 });
    const all = await Promise.all(Array.from({ length: 20 }, () => dial(address)));
    for (const connection of all) new Log(connection);
    expect(all).toHaveLength(20);
  });
});

describe("listening", () => {
  test("loopback is IPv4 and IPv6 at one port", async () => {
    for (const address of ["", "localhost"]) {
      const { listener, accepted } = await start(loopback(0, address));
      expect(listener.place).toEqual(loopback(portOf(listener)));
      expect(portOf(listener)).toBeGreaterThan(0);
      for (const host of HAS_IPV6 ? ["127.0.0.1", "::1"] : ["127.0.0.1"]) {
        const peer = await call({ host, port: portOf(listener) });
        const { remote } = await accepted.next();
        const shown = host === "::1" ? "[::1]" : host;
        expect(remote).toBe(`${shown}:${peer.socket.localPort}`);
      }
    }
  });

  test("all addresses", async () => {
    const { listener, accepted } = await start(loopback(0, "*"));
    expect(listener.place).toMatchObject({ address: "*" });
    for (const host of HAS_IPV6 ? ["127.0.0.1", "::1"] : ["127.0.0.1"]) {
      await call({ host, port: portOf(listener) });
      expect((await accepted.next()).remote).toContain(host);
    }
  });

  test.runIf(HAS_IPV6)("IPv6 alone leaves the port of IPv4", async () => {
    const six = await start(loopback(0, "[::]"));
    const four = await start(loopback(portOf(six.listener), "0.0.0.0"));
    const peer = await call({ host: "::1", port: portOf(six.listener) });
    const log = new Log(await six.accepted.next());
    log.connection.resume();
    peer.socket.end("over IPv6");
    await log.until(() => log.events.includes("end"));
    await call({ host: "127.0.0.1", port: portOf(four.listener) });
    expect((await four.accepted.next()).remote).toContain("127.0.0.1:");
  });

  test("a busy port, and an address of somebody else", async () => {
    const { listener } = await start(loopback());
    const port = portOf(listener);
    for (const address of ["127.0.0.1", ""])
      await expect(listenTcp(loopback(port, address), () => undefined)).rejects.toMatchObject({
        code: "USAGE",
        message: `port ${port} of 127.0.0.1 is in use`,
      });
    await expect(listenTcp(loopback(0, "192.0.2.1"), () => undefined)).rejects.toMatchObject({
      code: "USAGE",
      message: "192.0.2.1 is no address of this machine",
    });
    await expect(listenTcp(loopback(0, "nonexistent.invalid"), () => undefined)).rejects.toMatchObject({
      code: "USAGE",
      message: "nonexistent.invalid is no address of this machine",
    });
  });

  test("a privileged port", async () => {
    const denied = Object.assign(new Error("bind"), { code: "EACCES" });
    await expect(bindAll(loopback(80), () => Promise.reject(denied))).rejects.toMatchObject({
      code: "USAGE",
      message: "port 80 of 127.0.0.1 is not allowed: ports below 1024 need root here",
    });
  });

  test("a picked port that is taken for IPv6 is picked again, one that was asked for is kept", async () => {
    const busy = Object.assign(new Error("bind"), { code: "EADDRINUSE" });
    for (const wanted of [0, 700]) {
      const open = new Set<string>();
      let picked = 700;
      const bind = (address: string, port: number): Promise<{ port: number; close: () => void }> => {
        const at = port === 0 ? picked++ : port;
        const name = `${address} ${at}`;
        if (address === "::1" && at < 702) return Promise.reject(busy);
        open.add(name);
        return Promise.resolve({ port: at, close: () => open.delete(name) });
      };
      const { place } = await bindAll(loopback(wanted, ""), bind);
      expect(place.port).toBe(wanted === 0 ? 702 : 700);
      expect([...open]).toEqual(wanted === 0 ? ["127.0.0.1 702", "::1 702"] : ["127.0.0.1 700"]);
    }
  });

  test("closing leaves connections alone, and the port to others", async () => {
    const { listener, accepted } = await start(loopback(0, ""));
    const port = portOf(listener);
    const peer = await call({ host: "127.0.0.1", port });
    const log = new Log(await accepted.next());
    await listener.close();
    await listener.close();
    await expect(call({ host: "127.0.0.1", port })).rejects.toMatchObject({ code: "ECONNREFUSED" });
    log.connection.resume();
    await peer.write("still");
    await log.until(() => log.length === 5);
    await start(loopback(port, ""));
  });
});

describe("listening at a unix socket", () => {
  const at = (name: string): { type: "unix"; path: string } => ({ type: "unix", path: join(root, name) });

  test("the file is ours alone, and goes with the listener", async () => {
    const { listener } = await start(at("s"));
    expect(listener.place).toEqual(at("s"));
    const there = lstatSync(join(root, "s"));
    expect(there.isSocket()).toBe(true);
    expect(there.mode & 0o777).toBe(0o600);
    await listener.close();
    await listener.close();
    expect(existsSync(join(root, "s"))).toBe(false);
  });

  test("what nobody serves any more is replaced", async () => {
    // Moved away, the file outlives its server.
    const { server } = await serve({ path: join(root, "first") });
    renameSync(join(root, "first"), join(root, "s"));
    await new Promise((resolve) => server.close(resolve));
    expect(lstatSync(join(root, "s")).isSocket()).toBe(true);
    const { accepted } = await start(at("s"));
    await call({ path: join(root, "s") });
    expect((await accepted.next()).remote).toBe(join(root, "s"));
  });

  test("what somebody serves, or what is no socket, stays", async () => {
    const { server } = await serve({ path: join(root, "alive") });
    await expect(start(at("alive"))).rejects.toMatchObject({
      code: "USAGE",
      message: `${join(root, "alive")} is in use`,
    });
    expect(server.listening).toBe(true);
    await call({ path: join(root, "alive") });
    writeFileSync(join(root, "file"), "dear");
    await expect(start(at("file"))).rejects.toMatchObject({
      code: "USAGE",
      message: `${join(root, "file")} is there already, and is no socket`,
    });
    expect(readFileSync(join(root, "file"), "utf8")).toBe("dear");
  });

  test("of two that begin at once one gets it", async () => {
    const all = await Promise.allSettled([start(at("s")), start(at("s"))]);
    expect(all.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    const lost = all.find((each) => each.status === "rejected");
    expect(lost?.reason).toMatchObject({ code: "USAGE", message: `${join(root, "s")} is in use` });
    await call({ path: join(root, "s") });
  });

  test("a file that another has put in its place stays", async () => {
    const { listener } = await start(at("s"));
    rmSync(join(root, "s"));
    await start(at("s"));
    await listener.close();
    await call({ path: join(root, "s") });
  });

  test("paths that cannot be", async () => {
    await expect(start(at("x".repeat(100)))).rejects.toMatchObject({ code: "USAGE" });
    await expect(start(at("no/s"))).rejects.toMatchObject({
      code: "USAGE",
      message: `there is no directory ${join(root, "no")}`,
    });
  });
});
