import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttpServer, type Server as HttpServer } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { connect, createServer, type AddressInfo, type Server, type Socket as TcpSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { WebSocketServer, type ServerOptions, type WebSocket } from "ws";
import { openSocket } from "../../src/node/websocket.ts";
import type { Socket } from "../../src/signalling/socket.ts";

const PROXY_VARIABLES = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];

beforeEach(() => {
  for (const name of PROXY_VARIABLES.flatMap((name) => [name, name.toUpperCase()]))
    vi.stubEnv(name, undefined);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
});

/** Listens on loopback until the test is over, and returns the port. */
async function listen(server: Server): Promise<number> {
  const sockets = new Set<TcpSocket>();
  server.on("connection", (socket: TcpSocket) => sockets.add(socket.on("error", () => undefined)));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

/** A WebSocket server that calls `welcome` for each client. */
async function serve(
  welcome: (client: WebSocket) => void,
  options: ServerOptions = {},
  http: HttpServer = createHttpServer(),
): Promise<number> {
  new WebSocketServer({ ...options, server: http }).on("connection", (client) => {
    client.on("error", () => undefined);
    welcome(client);
  });
  return listen(http);
}

/** A server that says `answer` to whatever comes first. */
function talk(answer: string | Buffer): Promise<number> {
  return listen(createServer((socket) => socket.once("data", () => socket.end(answer))));
}

/** A server that takes connections and says nothing. */
function silent(): Promise<number> {
  return listen(createServer());
}

async function open(url: string, protocols: string[] = []): Promise<Socket> {
  const socket = await openSocket(url, { protocols });
  onTestFinished(() => {
    socket.close();
  });
  return socket;
}

function closed(socket: Socket): Promise<[number, string]> {
  return new Promise((resolve) => {
    socket.onclose = (code, reason) => {
      resolve([code, reason]);
    };
  });
}

/** Rejects with this code and a message like that, which says neither of the secrets used here. */
async function expectFailure(attempt: Promise<unknown>, code: string, message: RegExp): Promise<void> {
  const error: unknown = await attempt.catch((error: unknown) => error);
  expect(error).toMatchObject({
    name: "DcpipeError",
    code,
    message: expect.stringMatching(message) as string,
  });
  expect((error as Error).message).not.toMatch(/secret|\.$|^[A-Z]/);
}

describe("a conversation", () => {
  test.each(["http", "ws"])("%s: messages both ways", async (scheme) => {
    const port = await serve((client) => {
      client.on("message", (data) => {
        client.send(data);
      });
    });
    const socket = await open(`${scheme}://127.0.0.1:${port}/path?query#fragment`);
    const echo = new Promise((resolve) => (socket.onmessage = resolve));
    socket.send(Uint8Array.of(1, 2, 3));
    expect(await echo).toEqual(Uint8Array.of(1, 2, 3));
    expect(socket.protocol).toBe("");
  });

  test("the query is sent, the fragment is not", async () => {
    const seen: unknown[] = [];
    const http = createHttpServer().on("upgrade", ({ url }: { url: string }) => seen.push(url));
    await open(`http://127.0.0.1:${await serve(() => undefined, {}, http)}/path?query#7-guitar`);
    expect(seen).toEqual(["/path?query"]);
  });

  test("the subprotocol is the server's choice, also none", async () => {
    const choose = (protocol: string | false): ServerOptions => ({ handleProtocols: () => protocol });
    const two = await serve(() => undefined, choose("two"));
    expect((await open(`http://127.0.0.1:${two}`, ["one", "two"])).protocol).toBe("two");
    const none = await serve((client) => {
      client.close(4001, "no version in common");
    }, choose(false));
    const socket = await open(`http://127.0.0.1:${none}`, ["one", "two"]);
    expect(socket.protocol).toBe("");
    expect(await closed(socket)).toEqual([4001, "no version in common"]);
  });

  test("early messages wait for a listener, the end waits for them", async () => {
    const port = await serve((client) => {
      client.send(Uint8Array.of(1));
      client.send(Uint8Array.of(2));
      client.close(4000, "enough");
    });
    const socket = await open(`http://127.0.0.1:${port}`);
    const probe = await open(`http://127.0.0.1:${port}`);
    await closed(probe);
    const said: unknown[] = [];
    const end = closed(socket).then((end) => said.push(end));
    socket.onmessage = (message) => said.push(...message);
    await end;
    expect(said).toEqual([1, 2, [4000, "enough"]]);
  });

  test("the end is kept for who asks late, and told once", async () => {
    const port = await serve((client) => {
      client.close();
    });
    const socket = await open(`http://127.0.0.1:${port}`);
    expect(await closed(socket)).toEqual([1006, ""]);
    const again = vi.fn();
    socket.onclose = again;
    socket.close();
    await new Promise(setImmediate);
    expect(again).not.toHaveBeenCalled();
  });

  test("what was sent before close arrives, nothing is received after it", async () => {
    const received: number[] = [];
    const port = await serve((client) => {
      client.on("message", (data: Buffer) => {
        received.push(data.length);
        client.send(data);
      });
    });
    const socket = await open(`http://127.0.0.1:${port}`);
    const late = vi.fn();
    const end = closed(socket);
    for (let count = 0; count < 1000; count++) socket.send(new Uint8Array(10_000));
    socket.close();
    socket.close();
    socket.send(Uint8Array.of(1));
    socket.onmessage = late;
    expect(await end).toEqual([1000, ""]);
    expect(received).toEqual(Array<number>(1000).fill(10_000));
    expect(late).not.toHaveBeenCalled();
  });

  test("a text message ends it", async () => {
    const port = await serve((client) => {
      client.send("hello");
    });
    const socket = await open(`http://127.0.0.1:${port}`);
    const message = vi.fn();
    socket.onmessage = message;
    expect(await closed(socket)).toEqual([1003, ""]);
    expect(message).not.toHaveBeenCalled();
  });

  test("a message of more than 16 KiB ends it", async () => {
    const port = await serve((client) => {
      client.send(new Uint8Array(16 * 1024));
      client.send(new Uint8Array(16 * 1024 + 1));
    });
    const socket = await open(`http://127.0.0.1:${port}`);
    const sizes: number[] = [];
    socket.onmessage = ({ length }) => sizes.push(length);
    expect(await closed(socket)).toEqual([1006, ""]);
    expect(sizes).toEqual([16 * 1024]);
  });

  test("a lost connection is 1006", async () => {
    const port = await serve((client) => {
      client.terminate();
    });
    expect(await closed(await open(`http://127.0.0.1:${port}`))).toEqual([1006, ""]);
  });

  test("silence ends it, a ping does not let it come to that", async () => {
    let client: WebSocket | undefined;
    const port = await serve((each) => (client = each));
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const socket = await open(`http://127.0.0.1:${port}`);
    const end = vi.fn();
    socket.onclose = end;
    vi.advanceTimersByTime(74_000);
    client?.ping();
    await once(client as WebSocket, "pong");
    vi.advanceTimersByTime(74_000);
    await new Promise(setImmediate);
    expect(end).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1_000);
    await once(client as WebSocket, "close");
    expect(end).toHaveBeenCalledExactlyOnceWith(1006, "");
  });

  test("a server that does not answer the good-bye is not waited for", async () => {
    const port = await serve((client) => {
      client.pause();
    });
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const socket = await open(`http://127.0.0.1:${port}`);
    const end = closed(socket);
    socket.close();
    vi.advanceTimersByTime(2_000);
    expect(await end).toEqual([1006, ""]);
  });
});

describe("what is no URL of a rendezvous", () => {
  test.each([
    ["", /none/],
    ["example.org", /none/],
    ["http://ann:secret@:80", /none/],
    ["ftp://example.org", /not ftp:/],
    ["file:///etc/passwd", /not file:/],
    ["https://ann:secret@example.org", /user name or a password/],
    ["ws://ann@example.org", /user name or a password/],
  ])("%s", async (url, why) => {
    await expectFailure(open(url), "USAGE", why);
  });
});

describe("what answers is no rendezvous", () => {
  test.each([200, 301, 404, 429, 500])("HTTP %d", async (status) => {
    const port = await listen(createHttpServer((_, response) => response.writeHead(status).end("hello")));
    const url = `http://127.0.0.1:${port}/path`;
    await expectFailure(
      open(`${url}?secret`),
      "NO_RENDEZVOUS",
      new RegExp(`^what answers at ${url} is no rendezvous \\(HTTP ${status}\\)$`),
    );
  });

  test.each([502, 503, 504])("HTTP %d comes from a gateway whose rendezvous is down", async (status) => {
    const port = await listen(createHttpServer((_, response) => response.writeHead(status).end()));
    await expectFailure(
      open(`ws://127.0.0.1:${port}`),
      "SIGNALLING",
      new RegExp(`^cannot reach ws://127.0.0.1:${port}: HTTP ${status}$`),
    );
  });

  test.each([
    ["garbage", "SSH-2.0-OpenSSH_9.6\r\n"],
    ["a TLS alert", Buffer.from("15030100020232", "hex")],
    ["another upgrade", "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"],
    ["a wrong key", "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"],
  ])("%s", async (_, answer) => {
    const port = await talk(answer);
    await expectFailure(open(`http://127.0.0.1:${port}`), "NO_RENDEZVOUS", /is no rendezvous$/);
  });

  test("a subprotocol that was not offered", async () => {
    const port = await serve(() => undefined, { handleProtocols: () => "other" });
    await expectFailure(open(`http://127.0.0.1:${port}`, ["one"]), "NO_RENDEZVOUS", /is no rendezvous$/);
  });
});

describe("what cannot be reached", () => {
  test("a name that nobody has", async () => {
    // RFC 6761: no resolver finds it. One that is out of reach says so.
    const message =
      /^cannot reach http:\/\/no\.invalid: (there is no host of this name|its name cannot be looked up)/;
    await expectFailure(open("http://no.invalid"), "SIGNALLING", message);
  });

  test("a port where nobody listens", async () => {
    const server = createServer();
    const port = await listen(server);
    server.close();
    await once(server, "close");
    await expectFailure(
      open(`http://127.0.0.1:${port}`),
      "SIGNALLING",
      new RegExp(`^cannot reach http://127.0.0.1:${port}: the connection was refused$`),
    );
  });

  test("a server that hangs up", async () => {
    await expectFailure(
      open(`http://127.0.0.1:${await talk("")}`),
      "SIGNALLING",
      /: the connection was cut$/,
    );
  });

  test("a server that says nothing", async () => {
    const port = await silent();
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const attempt = open(`http://127.0.0.1:${port}`);
    const failure = expectFailure(attempt, "SIGNALLING", /: no answer in 10 s$/);
    await vi.waitUntil(() => vi.getTimerCount() > 0);
    vi.advanceTimersByTime(10_000);
    await failure;
  });

  test("no TLS", async () => {
    const port = await listen(createHttpServer());
    await expectFailure(open(`https://127.0.0.1:${port}`), "SIGNALLING", /: it does not speak TLS$/);
  });
});

describe("the caller's signal", () => {
  test("before", async () => {
    const attempt = openSocket("http://127.0.0.1:9", { protocols: [], signal: AbortSignal.abort() });
    await expectFailure(attempt, "ABORTED", /^stopped$/);
  });

  test("under way", async () => {
    const stop = new AbortController();
    const port = await listen(
      createServer((socket) => {
        socket.on("data", () => {
          stop.abort();
        });
      }),
    );
    const attempt = openSocket(`http://127.0.0.1:${port}`, { protocols: [], signal: stop.signal });
    await expectFailure(attempt, "ABORTED", /^stopped$/);
  });

  test("afterwards it means nothing", async () => {
    const stop = new AbortController();
    const port = await serve((client) => {
      client.on("message", (data) => {
        client.send(data);
      });
    });
    const socket = await openSocket(`http://127.0.0.1:${port}`, { protocols: [], signal: stop.signal });
    stop.abort();
    const echo = new Promise((resolve) => (socket.onmessage = resolve));
    socket.send(Uint8Array.of(1));
    expect(await echo).toEqual(Uint8Array.of(1));
    socket.close();
  });
});

describe("TLS", () => {
  /** A server at 127.0.0.1 whose self-signed certificate, at `path`, is for `name` and for so many days. */
  async function serveTls(name: string, days = 1): Promise<{ url: string; path: string }> {
    const directory = mkdtempSync(join(tmpdir(), "dcpipe-tls-"));
    onTestFinished(() => {
      rmSync(directory, { recursive: true });
    });
    const [key, request, path] = ["key", "request", "cert"].map((file) => join(directory, file)) as [
      string,
      string,
      string,
    ];
    const openssl = (...args: string[]): unknown => execFileSync("openssl", args, { stdio: "pipe" });
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    const names = ["-subj", "/CN=test", "-addext", `subjectAltName=${name}`];
    openssl("req", "-new", ...curve, ...names, "-keyout", key, "-out", request);
    const sign = ["-signkey", key, "-copy_extensions", "copy", "-days", String(days)];
    openssl("x509", "-req", "-in", request, ...sign, "-out", path);
    const port = await serve(
      (client) => {
        client.close(4000);
      },
      {},
      createHttpsServer({ key: readFileSync(key), cert: readFileSync(path) }),
    );
    return { url: `https://127.0.0.1:${port}`, path };
  }

  const HERE = "IP:127.0.0.1";
  const ELSEWHERE = "DNS:example.org";

  /** Opens in a process that trusts the certificate; what it got. */
  async function trusting(path: string, url: string, env: NodeJS.ProcessEnv = {}): Promise<string> {
    const script = `
      import { openSocket } from ${JSON.stringify(new URL("../../dist/node/websocket.js", import.meta.url).href)};
      await openSocket(process.argv[1], { protocols: [] }).then(
        (socket) => (socket.onclose = (code) => console.log(code)),
        ({ code, message }) => console.log(code + " " + message),
      );`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script, url], {
      env: { ...process.env, NODE_EXTRA_CA_CERTS: path, ...env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
    expect(await once(child, "close")).toEqual([0, null]);
    return said.trim();
  }

  test("a certificate that nobody vouches for", async () => {
    const { url } = await serveTls(HERE);
    await expectFailure(open(url), "SIGNALLING", /: its certificate is self-signed$/);
    await expectFailure(open(url.replace("https", "wss")), "SIGNALLING", /reach wss:.*self-signed$/);
  });

  test("a certificate that is trusted, directly and through a proxy", async () => {
    const { url, path } = await serveTls(HERE);
    expect(await trusting(path, url)).toBe("4000");
    const { proxy, asked } = await serveProxy();
    expect(await trusting(path, url, { https_proxy: proxy })).toBe("4000");
    expect(asked).toEqual([new URL(url).host]);
  });

  test("a certificate for another host", async () => {
    const { url, path } = await serveTls(ELSEWHERE);
    const failure = `SIGNALLING cannot reach ${url}: its certificate is for another host`;
    expect(await trusting(path, url)).toBe(failure);
    expect(await trusting(path, url, { https_proxy: (await serveProxy()).proxy })).toBe(failure);
  });

  test("a certificate that has expired", async () => {
    const { url, path } = await serveTls(HERE, -1);
    expect(await trusting(path, url)).toBe(`SIGNALLING cannot reach ${url}: its certificate has expired`);
  });
});

/** A proxy for CONNECT; `asked` are the hosts that it was asked for. */
async function serveProxy(): Promise<{ proxy: string; asked: string[]; credentials: unknown[] }> {
  const asked: string[] = [];
  const credentials: unknown[] = [];
  const server = createHttpServer((_, response) => response.writeHead(405).end());
  server.on("connect", ({ url = "", headers }, client: TcpSocket) => {
    asked.push(url);
    credentials.push(headers["proxy-authorization"]);
    const { hostname, port } = new URL(`http://${url}`);
    const upstream = connect(Number(port), hostname, () => {
      client.write("HTTP/1.1 200 OK\r\n\r\n");
      client.pipe(upstream).pipe(client);
    });
    upstream.on("error", () => client.destroy());
    client.on("close", () => upstream.destroy());
  });
  return { proxy: `http://127.0.0.1:${await listen(server)}`, asked, credentials };
}

describe("a proxy", () => {
  const echo = (): Promise<number> =>
    serve((client) => {
      client.close(4000);
    });

  test.each([
    ["http", "HTTP_PROXY"],
    ["ws", "http_proxy"],
    ["ws", "ALL_PROXY"],
  ])("%s with %s", async (scheme, variable) => {
    const port = await echo();
    const { proxy, asked, credentials } = await serveProxy();
    vi.stubEnv(variable, proxy.replace("//", "//ann:secret@"));
    expect(await closed(await open(`${scheme}://127.0.0.1:${port}`))).toEqual([4000, ""]);
    expect(asked).toEqual([`127.0.0.1:${port}`]);
    expect(credentials).toEqual([`Basic ${Buffer.from("ann:secret").toString("base64")}`]);
  });

  test("NO_PROXY, and a proxy for another scheme", async () => {
    const port = await echo();
    vi.stubEnv("HTTP_PROXY", "http://no.invalid");
    vi.stubEnv("NO_PROXY", "127.0.0.1");
    await open(`http://127.0.0.1:${port}`);
    vi.unstubAllEnvs();
    vi.stubEnv("HTTPS_PROXY", "http://no.invalid");
    await open(`ws://127.0.0.1:${port}`);
  });

  test("what comes through it is told apart from the proxy", async () => {
    const port = await listen(createHttpServer((_, response) => response.end("hello")));
    vi.stubEnv("HTTP_PROXY", (await serveProxy()).proxy);
    await expectFailure(open(`http://127.0.0.1:${port}`), "NO_RENDEZVOUS", /is no rendezvous \(HTTP 200\)$/);
  });

  test.each([
    ["refuses (HTTP 403)", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"],
    ["refuses (HTTP 407)", "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\n\r\n"],
    ["refuses (HTTP 502)", "HTTP/1.1 502 Bad Gateway\r\n\r\n"],
    ["is no proxy", "SSH-2.0-OpenSSH_9.6\r\n\r\n"],
  ])("it %s", async (what, answer) => {
    const port = await talk(answer);
    vi.stubEnv("ALL_PROXY", `http://ann:secret@127.0.0.1:${port}`);
    const message = new RegExp(`^the proxy http://127.0.0.1:${port} ${what.replace(/[()]/g, "\\$&")}$`);
    await expectFailure(open("http://192.0.2.1"), "SIGNALLING", message);
    await expectFailure(open("https://192.0.2.1"), "SIGNALLING", message);
  });

  test("it cannot be reached", async () => {
    vi.stubEnv("HTTP_PROXY", `http://ann:secret@127.0.0.1:${await talk("")}`);
    const message = /^cannot reach the proxy http:\/\/127\.0\.0\.1:\d+: /;
    await expectFailure(open("http://192.0.2.1"), "SIGNALLING", message);
    vi.stubEnv("HTTP_PROXY", "http://ann:secret@no.invalid");
    await expectFailure(
      open("http://192.0.2.1"),
      "SIGNALLING",
      /^cannot reach the proxy http:\/\/no\.invalid: /,
    );
  });

  test("it says nothing: the connection is given up", async () => {
    const hungUp = vi.fn();
    const server = createServer((socket) => {
      socket.on("close", hungUp).on("data", () => {
        vi.advanceTimersByTime(10_000);
      });
    });
    vi.stubEnv("HTTP_PROXY", `http://ann:secret@127.0.0.1:${await listen(server)}`);
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    await expectFailure(
      open("http://192.0.2.1"),
      "SIGNALLING",
      /^cannot reach the proxy .*: no answer in 10 s$/,
    );
    vi.useRealTimers();
    await vi.waitUntil(() => hungUp.mock.calls.length === 1);
  });

  test.each(["socks5://127.0.0.1:1080", "http://"])("%s is none", async (setting) => {
    vi.stubEnv("HTTP_PROXY", setting);
    await expectFailure(open("ws://192.0.2.1"), "USAGE", /^the proxy set for ws:\/\/192\.0\.2\.1 is no http/);
  });
});
