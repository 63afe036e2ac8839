/** How a rendezvous answers to plain HTTP, and what is told of proxies. */
import { once } from "node:events";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { fetchHealth, proxyOf, proxySettings } from "../../src/node/health.ts";
import { listInterfaces } from "../../src/node/interfaces.ts";

const VARIABLES = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];

beforeEach(() => {
  for (const name of VARIABLES.flatMap((each) => [each, each.toUpperCase()])) vi.stubEnv(name, undefined);
});

afterEach(() => {
  vi.unstubAllEnvs();
});

/** Listens on loopback until the test is over. */
async function listen(server: Server): Promise<string> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket.on("error", () => undefined)));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

function serve(answer: RequestListener): Promise<string> {
  return listen(createHttpServer(answer));
}

const signal = new AbortController().signal;

test("the status, and how far its clock is from ours", async () => {
  const paths: (string | undefined)[] = [];
  const url = await serve((request, response) => {
    paths.push(request.url);
    response.setHeader("date", new Date(Date.now() + 3_600_000).toUTCString());
    response.end("ok\n");
  });
  const health = await fetchHealth(`${url}below/`, signal);
  expect(health.status).toBe(200);
  expect(Math.round((health.clockSeconds ?? 0) / 60)).toBe(60);
  expect(health.roundTripMs).toBeGreaterThan(0);
  expect(paths).toEqual(["/below/healthz"]);
});

test("a server without a clock, in trouble, or one that sends people elsewhere", async () => {
  const elsewhere = vi.fn();
  const other = await serve(elsewhere);
  const url = await serve((request, response) => {
    response.sendDate = false;
    response.writeHead(request.url?.startsWith("/down") ? 503 : 302, { location: other }).end();
  });
  expect(await fetchHealth(`${url}down/`, signal)).toMatchObject({ status: 503, clockSeconds: undefined });
  expect(await fetchHealth(url, signal)).toMatchObject({ status: 302 });
  expect(elsewhere).not.toHaveBeenCalled();
});

test("a clock that is none", async () => {
  const url = await serve((_, response) => {
    response.setHeader("date", "half past eight");
    response.end();
  });
  expect(await fetchHealth(url, signal)).toMatchObject({ status: 200, clockSeconds: undefined });
});

test("a body without an end is not waited for", async () => {
  const url = await serve((_, response) => {
    response.write("o");
  });
  expect(await fetchHealth(url, signal)).toMatchObject({ status: 200 });
});

test("who says nothing is waited for until the signal, and who talks nonsense is no server", async () => {
  const mute = createServer();
  const stop = new AbortController();
  mute.on("connection", () => {
    stop.abort();
  });
  await expect(fetchHealth(await listen(mute), stop.signal)).rejects.toThrow(/abort/i);
  const fool = createServer((socket) => socket.end("SSH-2.0-OpenSSH\r\n"));
  await expect(fetchHealth(await listen(fool), signal)).rejects.toThrow();
});

test("a proxy is used, and named without its password", async () => {
  const url = await serve((_, response) => response.end());
  const asked: string[] = [];
  const proxy = createHttpServer().on("connect", (request, client: Socket) => {
    asked.push(`${request.url ?? ""} ${request.headers["proxy-authorization"] ?? ""}`);
    const server = connect(Number(request.url?.split(":")[1]), "127.0.0.1", () => {
      client.write("HTTP/1.1 200 OK\r\n\r\n");
      server.pipe(client).pipe(server);
    });
    onTestFinished(() => void server.destroy());
    for (const end of [server, client]) end.on("error", () => undefined);
  });
  const at = (await listen(proxy)).replace("http://", "http://user:p%40ss@");
  vi.stubEnv("http_proxy", at);
  expect(await fetchHealth(url, signal)).toMatchObject({ status: 200 });
  const credentials = Buffer.from("user:p@ss").toString("base64");
  expect(asked).toEqual([`${new URL(url).host} Basic ${credentials}`]);
  expect(proxyOf(url)).toBe(at.replace("user:p%40ss@", ""));
});

test("settings of proxies, without credentials, whatever is in them", () => {
  const env = {
    HTTPS_PROXY: "http://user:secret@proxy:3128",
    http_proxy: "user:s/e?c#r@e@t@proxy",
    HTTP_PROXY: "not used",
    NO_PROXY: "localhost",
    all_proxy: "",
  };
  expect(proxySettings(env)).toEqual([
    { name: "HTTPS_PROXY", value: "http://proxy:3128" },
    { name: "http_proxy", value: "proxy" },
    { name: "NO_PROXY", value: "localhost" },
  ]);
  expect(proxyOf("http://example.org/")).toBeUndefined();
});

test("interfaces have addresses, and loopback is none of them", () => {
  for (const { name, address, mtu } of listInterfaces()) {
    expect(name).not.toBe("");
    expect(address).not.toMatch(/^(127\.|::1$)/);
    if (mtu !== undefined) expect(mtu).toBeGreaterThan(0);
  }
});
