/** WebSockets over a session, to a server behind `dcpipe forward`. */
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocketServer, type ServerOptions, type WebSocket as ServerSocket } from "ws";
import type * as Library from "../../src/index.ts";
import { deferred, openSite, type Site } from "./site.ts";

const MIB = 1024 * 1024;

interface Far {
  readonly site: Site;
  /** The server's ends, as they come. */
  readonly next: () => Promise<{ socket: ServerSocket; request: IncomingMessage }>;
}

async function openFar(options: ServerOptions = {}, http: Library.HttpOptions = {}): Promise<Far> {
  const site = await openSite((_request, response) => {
    response.writeHead(404).end();
  }, http);
  const waiting: ((far: { socket: ServerSocket; request: IncomingMessage }) => void)[] = [];
  const here: { socket: ServerSocket; request: IncomingMessage }[] = [];
  const server = new WebSocketServer({ ...options, server: site.server });
  server.on("connection", (socket, request) => {
    socket.on("error", () => undefined);
    const take = waiting.shift();
    if (take) take({ socket, request });
    else here.push({ socket, request });
  });
  onTestFinished(() => {
    for (const client of server.clients) client.terminate();
  });
  return {
    site,
    next: () => {
      const [first] = here.splice(0, 1);
      return first ? Promise.resolve(first) : new Promise((resolve) => waiting.push(resolve));
    },
  };
}

/** Both ends of one that is open. */
async function openPair(far: Far, path = "/ws", protocols: string[] = []) {
  const near = new far.site.WebSocket(path, protocols);
  near.binaryType = "arraybuffer";
  const opened = once(near, "open");
  const { socket, request } = await far.next();
  await opened;
  return { near, socket, request };
}

async function nextData(near: Library.SessionWebSocket): Promise<unknown> {
  const [event] = (await once(near, "message")) as [MessageEvent];
  return event.data;
}

async function closeOf(
  near: Library.SessionWebSocket,
): Promise<{ code: number; reason: string; wasClean: boolean }> {
  const [{ code, reason, wasClean }] = (await once(near, "close")) as [Library.SocketCloseEvent];
  return { code, reason, wasClean };
}

describe("opening", () => {
  test("as a page of the server's own does it", async () => {
    const handleProtocols = (offered: Set<string>): string | false => (offered.has("b") ? "b" : false);
    const far = await openFar(
      { handleProtocols },
      { headers: { "x-extra": "1", "sec-websocket-key": "mine" } },
    );
    const { near, request } = await openPair(far, "/path?query", ["a", "b"]);
    const { host } = far.site;
    expect([near.readyState, near.protocol, near.extensions]).toEqual([1, "b", ""]);
    expect(near.url).toBe(`ws://${host}/path?query`);
    expect(request.url).toBe("/path?query");
    expect(request.headers).toMatchObject({
      host,
      origin: `http://${host}`,
      "x-extra": "1",
      "sec-websocket-version": "13",
    });
    expect(request.headers["sec-websocket-key"]).not.toBe("mine");
    expect(request.headers["sec-websocket-extensions"]).toBeUndefined();
  });

  test("refused by the server, by a rule, by the far side's system, and by whoever closes it first", async () => {
    const far = await openFar({ verifyClient: () => false });
    const { WebSocket } = far.site;
    for (const [url, code] of [
      ["/", "REFUSED"],
      ["ws://localhost:1/", "REFUSED"],
    ] as const) {
      const near = new WebSocket(url);
      const failed = once(near, "error");
      const closed = closeOf(near);
      const [{ error }] = (await failed) as [Library.SocketErrorEvent];
      expect(error.code).toBe(code);
      expect(await closed).toEqual({ code: 1006, reason: "", wasClean: false });
      expect(near.readyState).toBe(3);
    }
    const near = new WebSocket("/");
    const closed = closeOf(near);
    near.close();
    expect(near.readyState).toBe(2);
    expect(await closed).toMatchObject({ code: 1006, wasClean: false });
  });

  test("throws what the standard says", async () => {
    const { WebSocket } = (await openFar()).site;
    for (const [url, protocols] of [
      ["wss://localhost/", []],
      ["http://[", []],
      ["/", ["a", "a"]],
      ["/", ["a b"]],
      ["/", "a\r\nb: c"],
    ] as const)
      expect(() => new WebSocket(url, protocols)).toThrow(expect.objectContaining({ name: "SyntaxError" }));
    const near = new WebSocket("/");
    expect(() => {
      near.send("x");
    }).toThrow(expect.objectContaining({ name: "InvalidStateError" }));
    for (const code of [0, 999, 1001, 1006, 2999, 5000])
      expect(() => {
        near.close(code);
      }).toThrow(expect.objectContaining({ name: "InvalidAccessError" }));
    expect(() => {
      near.close(1000, "ä".repeat(62));
    }).toThrow(expect.objectContaining({ name: "SyntaxError" }));
  });

  test("an answer to another key is none", async () => {
    const site = await openSite((_request, response) => response.end());
    site.server.on("upgrade", (_request: IncomingMessage, socket: Duplex) => {
      socket.on("error", () => undefined);
      socket.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: xxxx\r\n\r\n",
      );
    });
    const near = new site.WebSocket("/");
    const [{ error }] = (await once(near, "error")) as [Library.SocketErrorEvent];
    expect(error.code).toBe("PROTOCOL");
  });
});

describe("messages", () => {
  test("of every kind and size, both ways", async () => {
    const { near, socket } = await openPair(await openFar());
    socket.on("message", (data, isBinary) => {
      socket.send(data, { binary: isBinary });
    });
    for (const text of ["", "text", "ä€😀", "x".repeat(125), "x".repeat(126), "y".repeat(70_000)]) {
      const answer = nextData(near);
      near.send(text);
      expect(await answer).toBe(text);
    }
    for (const size of [0, 1, 125, 126, 65_535, 65_536, 5 * MIB]) {
      const data = new Uint8Array(size).map((_, i) => i);
      const answer = nextData(near);
      near.send(data);
      expect(Buffer.from((await answer) as ArrayBuffer).equals(data)).toBe(true);
    }
    near.binaryType = "blob";
    const answers: unknown[] = [];
    const all = deferred();
    near.onmessage = ({ data }) => {
      if (answers.push(data) === 4) all.resolve();
    };
    // In their order, although a Blob has to be read first.
    near.send(new Blob(["a blob"]));
    near.send("text behind it");
    near.send(new Uint8Array([1, 2, 3, 4]).subarray(1, 3));
    near.send(new Uint8Array([5]).buffer);
    await all.promise;
    expect(await (answers[0] as Blob).text()).toBe("a blob");
    expect(answers[1]).toBe("text behind it");
    expect(new Uint8Array(await (answers[2] as Blob).arrayBuffer())).toEqual(new Uint8Array([2, 3]));
  });

  test("in fragments, with a ping between them, which is answered", async () => {
    const { near, socket } = await openPair(await openFar());
    const answer = nextData(near);
    const ponged = once(socket, "pong");
    socket.send("one ", { fin: false });
    socket.ping("still there?");
    socket.send("two ", { fin: false });
    socket.send("three", { fin: true });
    expect(await answer).toBe("one two three");
    expect(String((await ponged)[0])).toBe("still there?");
  });

  test("a server that does not read holds the sender's queue up, and then takes all of it", async () => {
    const { near, socket } = await openPair(await openFar());
    socket.pause();
    const piece = new Uint8Array(MIB);
    const count = 24;
    for (let i = 0; i < count; i++) near.send(piece);
    expect(near.bufferedAmount).toBeGreaterThan((count - 1) * MIB);
    let received = 0;
    const all = deferred();
    socket.on("message", (data: Buffer) => {
      received += data.length;
      if (received === count * MIB) all.resolve();
    });
    socket.resume();
    await all.promise;
    expect(near.bufferedAmount).toBe(0);
  });
});

describe("ends", () => {
  test("with code and reason, from either side", async () => {
    const far = await openFar();
    const ours = await openPair(far);
    const closed = closeOf(ours.near);
    const theirs = once(ours.socket, "close");
    ours.near.send("last words");
    ours.near.close(3001, "grüße");
    expect(ours.near.readyState).toBe(2);
    ours.near.send("too late");
    const [code, reason] = (await theirs) as [number, Buffer];
    expect([code, String(reason)]).toEqual([3001, "grüße"]);
    expect(await closed).toEqual({ code: 3001, reason: "grüße", wasClean: true });
    expect(ours.near.bufferedAmount).toBe("too late".length);

    const second = await openPair(far);
    const over = closeOf(second.near);
    second.socket.close(4000, "restart");
    expect(await over).toEqual({ code: 4000, reason: "restart", wasClean: true });

    const third = await openPair(far);
    const bare = closeOf(third.near);
    third.near.close();
    expect(await bare).toEqual({ code: 1005, reason: "", wasClean: true });
    // The control stream is left.
    await expect.poll(() => far.site.session.streams).toBe(1);
  });

  test("without a word: the server is killed, the session ends", async () => {
    const far = await openFar();
    const first = await openPair(far);
    const cut = closeOf(first.near);
    first.socket.terminate();
    expect(await cut).toEqual({ code: 1006, reason: "", wasClean: false });
    const second = await openPair(far);
    const gone = closeOf(second.near);
    far.site.forward.kill("SIGKILL");
    second.near.close();
    expect((await gone).code).toBe(1006);
  });

  test("of a server that breaks the protocol", async () => {
    const site = await openSite((_request, response) => response.end());
    const server = new WebSocketServer({ noServer: true });
    const said: [number, Promise<unknown[]>][] = [];
    site.server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      server.handleUpgrade(request, socket, head, (ws) => {
        ws.on("error", () => undefined);
        said.push([0, once(ws, "close")]);
        socket.write(Buffer.from(decodeURIComponent(request.url?.slice(1) ?? ""), "hex"));
      });
    });
    for (const [frame, code] of [
      ["c100", 1002], // RSV1
      ["8180aabbccdd", 1002], // masked
      ["0000", 1002], // a continuation of nothing
      ["8301aa", 1002], // an unknown opcode
      ["0900", 1002], // a ping in fragments
      ["8102c328", 1007], // no UTF-8
      ["880203ec", 1002], // close 1004
      ["827f0000000100000000", 1009], // 4 GiB
    ] as const) {
      const near = new site.WebSocket(`/${frame}`);
      const failed = once(near, "error");
      const closed = closeOf(near);
      await failed;
      expect(await closed, frame).toMatchObject({ code: 1006, wasClean: false });
      const [theirs] = (await said.at(-1)?.[1]) ?? [];
      expect(theirs, frame).toBe(code);
    }
  });
});
