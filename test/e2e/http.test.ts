/** fetch over a session, to a server behind `dcpipe forward`. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, onTestFinished, test } from "vitest";
import type * as Library from "../../src/index.ts";
import { start, temporaryDirectory } from "./dcpipe.ts";
import { deferred, failureOf, openSite, portOf, serveHttp } from "./site.ts";

const { httpOver, listen } = (await import(
  new URL("../../dist/index.js", import.meta.url).href
)) as typeof Library;

const KIB = 1024;
const MIB = 1024 * KIB;

/** What the server saw, as JSON in the body. */
function mirror(request: IncomingMessage, response: ServerResponse): void {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    const { method, url, rawHeaders } = request;
    if (!response.headersSent) response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ method, url, rawHeaders, body: Buffer.concat(chunks).toString() }));
  });
}

interface Seen {
  readonly method: string;
  readonly url: string;
  readonly rawHeaders: string[];
  readonly body: string;
}

async function seen(response: Promise<Response>): Promise<Seen & { headers: Map<string, string> }> {
  const found = (await (await response).json()) as Seen;
  const headers = new Map<string, string>();
  for (let i = 0; i < found.rawHeaders.length; i += 2)
    headers.set(found.rawHeaders[i]?.toLowerCase() ?? "", found.rawHeaders[i + 1] ?? "");
  return { ...found, headers };
}

/** Resolves when the server's side of an exchange is over without a good end. */
function cutOff(message: IncomingMessage | ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    message.on("error", () => undefined);
    message.on("close", () => {
      resolve();
    });
  });
}

describe("requests", () => {
  test("arrive as a browser beside the server would send them", async () => {
    const { fetch, host, visit } = await openSite(mirror);
    expect(await visit.offers).toEqual([
      { protocol: "tcp", target: { type: "host", host: "localhost", port: Number(host.split(":")[1]) } },
    ]);
    const plain = await seen(fetch("/a/b?c=d#e"));
    expect(plain).toMatchObject({ method: "GET", url: "/a/b?c=d", body: "" });
    expect(plain.headers.get("host")).toBe(host);
    expect(plain.headers.get("accept")).toBe("*/*");
    expect(plain.headers.has("origin")).toBe(false);
    expect(plain.headers.has("content-length")).toBe(false);
    const posted = await seen(
      fetch(`http://${host}/x`, { method: "post", body: "text", headers: { "X-Name": "value" } }),
    );
    expect(posted).toMatchObject({ method: "POST", url: "/x", body: "text" });
    expect(posted.headers.get("content-length")).toBe("4");
    expect(posted.headers.get("content-type")).toBe("text/plain;charset=UTF-8");
    expect(posted.headers.get("origin")).toBe(`http://${host}`);
    expect(posted.headers.get("x-name")).toBe("value");
    const empty = await seen(fetch("/", { method: "POST" }));
    expect(empty.headers.get("content-length")).toBe("0");
  });

  test("carry every kind of body that fetch takes", async () => {
    const { fetch } = await openSite(mirror);
    const post = (body: NonNullable<RequestInit["body"]>) => seen(fetch("/", { method: "POST", body }));
    expect(await post(new Uint8Array([104, 105]))).toMatchObject({ body: "hi" });
    expect(await post(new Blob(["blob"], { type: "x/y" }))).toMatchObject({ body: "blob" });
    const form = await post(new URLSearchParams({ a: "1 2" }));
    expect(form.body).toBe("a=1+2");
    expect(form.headers.get("content-type")).toBe("application/x-www-form-urlencoded;charset=UTF-8");
    const data = new FormData();
    data.set("field", "in a form");
    const multipart = await post(data);
    const boundary = /boundary=(.*)/.exec(multipart.headers.get("content-type") ?? "")?.[1] ?? "none";
    expect(multipart.body).toContain(`--${boundary}`);
    expect(multipart.body).toContain("in a form");
  });

  test("a Request is taken as it is", async () => {
    const { fetch, host } = await openSite(mirror);
    const request = new Request(`http://${host}/r`, {
      method: "PUT",
      body: "of a request",
      headers: { a: "b" },
    });
    const found = await seen(fetch(request));
    expect(found).toMatchObject({ method: "PUT", url: "/r", body: "of a request" });
    expect(found.headers.get("a")).toBe("b");
    expect((await failureOf(fetch(request))).error).toBeInstanceOf(TypeError);
  });

  test("nothing about the connection travels, in either direction", async () => {
    const { fetch } = await openSite((request, response) => {
      response.setHeader("connection", "close, x-mine");
      response.setHeader("x-mine", "1");
      response.setHeader("keep-alive", "timeout=7");
      response.setHeader("proxy-authenticate", "Basic");
      response.setHeader("x-theirs", "2");
      mirror(request, response);
    });
    const response = await fetch("/", {
      headers: {
        connection: "x-own",
        "x-own": "1",
        te: "gzip",
        upgrade: "h2c",
        "x-stays": "2",
        host: "evil",
      },
    });
    const names = [...response.headers.keys()];
    expect(names).toContain("x-theirs");
    for (const name of ["connection", "keep-alive", "x-mine", "proxy-authenticate", "transfer-encoding"])
      expect(names).not.toContain(name);
    const { headers } = await seen(Promise.resolve(response));
    expect(headers.get("x-stays")).toBe("2");
    for (const name of ["x-own", "te", "upgrade"]) expect(headers.has(name), name).toBe(false);
    expect(headers.get("host")).not.toBe("evil");
  });

  test("what would break out of a head is refused, and nothing reaches the server", async () => {
    let requests = 0;
    const { fetch, host } = await openSite((_request, response) => {
      requests++;
      response.end();
    });
    const attempts = [
      fetch("/", { headers: { a: "b\r\nc: d" } }),
      fetch("/", { headers: { "a\r\nb": "c" } }),
      fetch("/", { headers: { a: "\0" } }),
      fetch("/", { method: "GET / HTTP/1.1\r\nX: y" }),
      fetch("/", { method: "CONNECT" }),
      fetch("/", { method: "TRACE" }),
      fetch(`https://${host}/`),
      fetch(`http://user:password@${host}/`),
      fetch("/", { body: "of a GET" }),
    ];
    for (const attempt of attempts) expect((await failureOf(attempt)).error).toBeInstanceOf(TypeError);
    expect(requests).toBe(0);
    // A URL writes these in another way.
    await fetch("/a\r\nb c");
    expect(requests).toBe(1);
  });

  test("a hundred at once", async () => {
    const { fetch } = await openSite(mirror);
    const bodies = Array.from({ length: 100 }, (_, i) => `${i}:${randomBytes(i * 100).toString("hex")}`);
    const answers = await Promise.all(
      bodies.map((body, i) => seen(fetch(`/${i}`, i % 2 === 0 ? {} : { method: "POST", body }))),
    );
    for (const [i, answer] of answers.entries())
      expect(answer).toMatchObject({ url: `/${i}`, body: i % 2 === 0 ? "" : bodies[i] });
  });

  test("an upload is streamed: the next piece when the last one has come", async () => {
    const pieces = 64;
    const arrived: (() => void)[] = [];
    const hash = createHash("sha256");
    const { fetch } = await openSite((request, response) => {
      let size = 0;
      request.on("data", (chunk: Buffer) => {
        hash.update(chunk);
        size += chunk.length;
        while (size >= 16 * KIB) {
          size -= 16 * KIB;
          arrived.shift()?.();
        }
      });
      request.on("end", () => response.end(hash.digest("hex")));
    });
    const content = randomBytes(pieces * 16 * KIB);
    let at = 0;
    let last: Promise<void> = Promise.resolve();
    const body = new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          await last;
          if (at === content.length) {
            controller.close();
            return;
          }
          last = new Promise((resolve) => arrived.push(resolve));
          controller.enqueue(content.subarray(at, (at += 16 * KIB)));
        },
      },
      { highWaterMark: 0 },
    );
    const response = await fetch("/", { method: "POST", body, duplex: "half" });
    expect(await response.text()).toBe(createHash("sha256").update(content).digest("hex"));
  });

  test("a stream for a body needs duplex", async () => {
    const { fetch } = await openSite(mirror);
    const { error } = await failureOf(fetch("/", { method: "POST", body: new ReadableStream() }));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain("duplex");
  });

  test("an upload that the server does not want", async () => {
    const { fetch } = await openSite((_request, response) => {
      response.writeHead(413, { connection: "close" });
      response.end("too large");
    });
    let pulled = 0;
    const cancelled = deferred<unknown>();
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        pulled++;
        controller.enqueue(new Uint8Array(64 * KIB));
      },
      cancel: cancelled.resolve,
    });
    const response = await fetch("/", { method: "POST", body, duplex: "half" });
    expect(response.status).toBe(413);
    expect(await response.text()).toBe("too large");
    await cancelled.promise;
    expect(pulled).toBeGreaterThan(0);
  });

  test("an upload that breaks ends the request on both sides, with its own reason", async () => {
    const over = deferred();
    const begun = deferred();
    const { fetch } = await openSite((request) => {
      request.on("data", begun.resolve);
      void cutOff(request).then(over.resolve);
    });
    const reason = new Error("the disk is gone");
    const body = new ReadableStream<Uint8Array>({
      start: async (controller) => {
        controller.enqueue(new Uint8Array(10));
        await begun.promise;
        controller.error(reason);
      },
    });
    const { error } = await failureOf(fetch("/", { method: "POST", body, duplex: "half" }));
    expect(error).toBeInstanceOf(TypeError);
    expect((error.cause as Error).cause ?? error.cause).toBe(reason);
    await over.promise;
  });
});

describe("responses", () => {
  test("8 MiB arrive in pieces: the server sends the next one when the last one was read", async () => {
    const piece = 64 * KIB;
    const count = (8 * MIB) / piece;
    const content = randomBytes(count * piece);
    const more: (() => void)[] = [];
    const { fetch } = await openSite((_request, response) => {
      let i = 0;
      const send = (): void => {
        if (i === count) response.end();
        else response.write(content.subarray(i * piece, ++i * piece));
        more.push(send);
      };
      send();
    });
    const response = await fetch("/");
    const hash = createHash("sha256");
    let size = 0;
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      hash.update(chunk);
      const before = Math.floor(size / piece);
      size += chunk.length;
      for (let i = before; i < Math.floor(size / piece); i++) more.shift()?.();
    }
    expect(size).toBe(content.length);
    expect(hash.digest("hex")).toBe(createHash("sha256").update(content).digest("hex"));
  });

  test("who stops reading stops the server; who cancels ends the request", async () => {
    const piece = Buffer.alloc(64 * KIB);
    let sent = 0;
    const over = deferred();
    const { fetch, forward } = await openSite((request, response) => {
      if (request.url === "/small") {
        response.end("small");
        return;
      }
      void cutOff(response).then(over.resolve);
      const fill = (): void => {
        while (!response.destroyed) {
          sent += piece.length;
          if (!response.write(piece)) return;
        }
      };
      response.on("drain", fill);
      fill();
    });
    const response = await fetch("/");
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    // Nothing of it is read while three hundred others come and go, and it does not hold them up.
    const memory = (): number =>
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${forward.child.pid ?? 0}/status`, "utf8"))?.[1]) *
      KIB;
    const before = memory();
    for (let i = 0; i < 300; i++) expect(await (await fetch("/small")).text()).toBe("small");
    const stopped = sent;
    // Windows, and the buffers of two sockets.
    expect(stopped).toBeLessThan(32 * MIB);
    expect(memory() - before).toBeLessThan(48 * MIB);
    for (let i = 0; i < 100; i++) expect(await (await fetch("/small")).text()).toBe("small");
    expect(sent).toBe(stopped);
    for (let size = 0; size < stopped + MIB;) size += (await reader.read()).value?.length ?? 0;
    expect(sent).toBeGreaterThan(stopped);
    await reader.cancel();
    await over.promise;
  });

  test("without a body: HEAD, 204, 304; and what comes before the response is dropped", async () => {
    const { fetch } = await openSite((request, response) => {
      const status = Number(request.url?.slice(1));
      if (status === 200) {
        response.writeContinue();
        response.writeEarlyHints({ link: "</style.css>; rel=preload" });
      }
      response.writeHead(status, {
        "x-status": String(status),
        ...(status === 200 && { "content-length": "7" }),
      });
      response.end(request.method === "HEAD" || status !== 200 ? undefined : "content");
    });
    const head = await fetch("/200", { method: "HEAD" });
    expect([head.status, head.body, head.headers.get("content-length")]).toEqual([200, null, "7"]);
    for (const status of [204, 304]) {
      const response = await fetch(`/${status}`);
      expect([response.status, response.body, response.headers.get("x-status")]).toEqual([
        status,
        null,
        String(status),
      ]);
    }
    const response = await fetch("/200");
    expect([response.status, response.statusText, await response.text()]).toEqual([200, "OK", "content"]);
    expect(response.headers.has("link")).toBe(false);
  });

  test("encoded ones are decoded, as they come; a part of one is not asked for", async () => {
    const text = "over and over ".repeat(1000);
    const { fetch } = await openSite((request, response) => {
      if (request.url === "/asked") response.end(request.headers["accept-encoding"]);
      else if (request.url === "/broken") {
        response.setHeader("content-encoding", "gzip");
        response.end("this is not gzip");
      } else if (request.url === "/unknown") {
        response.setHeader("content-encoding", "constructor");
        response.end("as it is");
      } else {
        response.setHeader("content-encoding", "gzip");
        response.end(gzipSync(text));
      }
    });
    expect(await (await fetch("/asked")).text()).toBe("gzip, deflate");
    expect(await (await fetch("/asked", { headers: { range: "bytes=0-1" } })).text()).toBe("identity");
    const response = await fetch("/");
    expect(response.headers.has("content-encoding")).toBe(false);
    expect(response.headers.has("content-length")).toBe(false);
    expect(await response.text()).toBe(text);
    expect(await (await fetch("/unknown")).text()).toBe("as it is");
    expect((await failureOf((await fetch("/broken")).text())).error).toBeInstanceOf(TypeError);
  });

  test("ranges", async () => {
    const content = randomBytes(MIB);
    const { fetch } = await openSite((request, response) => {
      const [, from, to] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? [];
      const part = content.subarray(Number(from), Number(to) + 1);
      response.writeHead(206, {
        "content-range": `bytes ${from}-${to}/${content.length}`,
        "content-length": part.length,
      });
      response.end(part);
    });
    const response = await fetch("/video", { headers: { range: "bytes=500000-600000" } });
    expect(response.status).toBe(206);
    expect(response.headers.get("content-range")).toBe(`bytes 500000-600000/${MIB}`);
    expect(response.headers.get("content-length")).toBe("100001");
    expect(Buffer.from(await response.arrayBuffer()).equals(content.subarray(500_000, 600_001))).toBe(true);
  });

  test("events of a server, one by one, until nobody listens any more", async () => {
    const over = deferred();
    let next = (): void => undefined;
    const { fetch } = await openSite((_request, response) => {
      void cutOff(response).then(over.resolve);
      response.writeHead(200, { "content-type": "text/event-stream" });
      let id = 0;
      next = () => response.write(`data: ${id++}\n\n`);
      next();
    });
    const response = await fetch("/events");
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    for (let id = 0; id < 20; id++) {
      const { value } = await reader.read();
      expect(new TextDecoder().decode(value)).toBe(`data: ${id}\n\n`);
      next();
    }
    await reader.cancel();
    await over.promise;
  });

  test("cookies are shown to a jar, at every step", async () => {
    const stored: [string, readonly string[]][] = [];
    const cookies: Library.CookieJar = {
      cookie: (url) => (url.pathname === "/one" ? "a=1" : "a=1; b=2"),
      store: (url, values) => stored.push([url.pathname, values]),
    };
    const { fetch } = await openSite(
      (request, response) => {
        if (request.url === "/one")
          response.writeHead(302, { location: "/two", "set-cookie": ["b=2; HttpOnly", "c=3"] });
        response.end(request.headers.cookie);
      },
      { cookies },
    );
    expect(await (await fetch("/one")).text()).toBe("a=1; b=2");
    expect(stored).toEqual([["/one", ["b=2; HttpOnly", "c=3"]]]);
    expect(await (await fetch("/two", { credentials: "omit" })).text()).toBe("");
  });
});

describe("redirects", () => {
  const site = () =>
    openSite((request, response) => {
      const url = new URL(request.url ?? "/", "http://localhost");
      const status = Number(url.pathname.slice(1));
      if (status >= 300)
        response.writeHead(status, {
          location: url.searchParams.get("to") ?? "/200?landed",
        });
      mirror(request, response);
    });

  test("are followed within the TARGET as fetch does", async () => {
    const { fetch, host } = await site();
    for (const [status, method, after] of [
      [301, "GET", "GET"],
      [301, "POST", "GET"],
      [302, "POST", "GET"],
      [303, "PUT", "GET"],
      [302, "PUT", "PUT"],
      [307, "POST", "POST"],
      [308, "POST", "POST"],
    ] as const) {
      const body = method === "GET" ? null : "content";
      const response = await fetch(`/${status}`, { method, body });
      expect([response.status, response.redirected, response.url]).toEqual([
        200,
        true,
        `http://${host}/200?landed`,
      ]);
      const clone = response.clone();
      expect([clone.redirected, clone.url]).toEqual([true, response.url]);
      const found = await seen(Promise.resolve(response));
      expect([found.method, found.body]).toEqual([after, after === method ? (body ?? "") : ""]);
      expect(found.headers.has("content-type")).toBe(after === method && method !== "GET");
    }
  });

  test("lead nowhere else", async () => {
    const { fetch, host } = await site();
    const to = (url: string) => fetch(`/302?to=${encodeURIComponent(url)}`);
    for (const url of [
      "http://localhost:1/",
      "https://localhost/",
      "//example.com/",
      "javascript:alert(1)",
      `http://u:p@${host}/`,
    ])
      expect(await failureOf(to(url)), url).toMatchObject({
        code: "REFUSED",
        error: expect.any(TypeError) as TypeError,
      });
    expect((await to(`http://${host}/200`)).status).toBe(200);
  });

  test("manual, error, without end, and with a body that is gone", async () => {
    const { fetch } = await site();
    const manual = await fetch("/302?to=/elsewhere", { redirect: "manual" });
    expect([manual.status, manual.headers.get("location")]).toEqual([302, "/elsewhere"]);
    expect((await failureOf(fetch("/302", { redirect: "error" }))).code).toBe("REFUSED");
    expect((await failureOf(fetch("/302?to="))).code).toBe("LIMIT");
    const body = new Blob(["once"]).stream();
    expect((await failureOf(fetch("/307", { method: "POST", body, duplex: "half" }))).code).toBe("REFUSED");
  });
});

describe("aborts", () => {
  test("before it begins, with the signal's own reason", async () => {
    const { fetch } = await openSite(mirror);
    const reason = new Error("never mind");
    await expect(fetch("/", { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await expect(fetch("/", { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: "AbortError" });
  });

  test("while the server thinks, while the request is sent, and while the response comes", async () => {
    const controllers = new Map<string, AbortController>();
    const ends: Promise<void>[] = [];
    const { fetch, session } = await openSite((request, response) => {
      ends.push(cutOff(request.url === "/upload" ? request : response));
      if (request.url === "/response") response.write("a beginning");
      if (request.url === "/upload") request.on("data", () => controllers.get("/upload")?.abort());
      if (request.url === "/think") controllers.get("/think")?.abort();
    });
    const go = (path: string, init: Library.FetchInit = {}) => {
      const controller = new AbortController();
      controllers.set(path, controller);
      return fetch(path, { ...init, signal: controller.signal });
    };
    await expect(go("/think")).rejects.toMatchObject({ name: "AbortError" });
    const cancelled = deferred<unknown>();
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        controller.enqueue(new Uint8Array(1000));
      },
      cancel: cancelled.resolve,
    });
    await expect(go("/upload", { method: "POST", body, duplex: "half" })).rejects.toMatchObject({
      name: "AbortError",
    });
    await cancelled.promise;
    const response = await go("/response");
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("a beginning");
    const next = reader.read();
    controllers.get("/response")?.abort(new Error("enough"));
    await expect(next).rejects.toThrow("enough");
    await Promise.all(ends);
    expect(ends.length).toBe(3);
    // The control stream is left.
    await expect.poll(() => session.streams).toBe(1);
  });
});

describe("failures", () => {
  test("say what happened", async () => {
    const closed = await serveHttp(mirror);
    const nobody = portOf(closed);
    closed.close();
    const odd = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", () => socket.end("SSH-2.0-OpenSSH\r\n"));
    }).listen(0, "127.0.0.1");
    await once(odd, "listening");
    onTestFinished(() => {
      odd.close();
    });
    const oddPort = (odd.address() as { port: number }).port;
    const { fetch, forward } = await openSite(mirror, {
      target: "localhost:1",
      args: [`127.0.0.1:${nobody}`, `127.0.0.1:${oddPort}`],
    });
    const down = await failureOf(fetch(`http://127.0.0.1:${nobody}/`));
    expect(down).toMatchObject({ code: "CONNECTION_REFUSED", error: expect.any(TypeError) as TypeError });
    expect(down.error.message).toContain("nothing listens");
    const refused = await failureOf(fetch("/"));
    expect(refused.code).toBe("REFUSED");
    expect(refused.error.message).toContain("--allow localhost:1");
    await forward.event("refused");
    expect((await failureOf(fetch(`http://127.0.0.1:${oddPort}/`))).code).toBe("PROTOCOL");
    expect((await failureOf(fetch("http://[::1]:80/"))).code).toBe("REFUSED");
  });

  test("of a response that is cut off: what came is read first", async () => {
    const { fetch } = await openSite((request, response) => {
      response.writeHead(200, { "content-length": "1000" });
      response.write("the first words", () => {
        if (request.url === "/cut") response.destroy();
      });
    });
    const reader = ((await fetch("/cut")).body as ReadableStream<Uint8Array>).getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("the first words");
    const { code, error } = await failureOf(reader.read());
    expect(error).toBeInstanceOf(TypeError);
    expect(code).toBe("CONNECTION_RESET");
  });

  test("of a head that is more than may travel", async () => {
    const { fetch } = await openSite((request, response) => {
      if (request.url === "/many") for (let i = 0; i < 300; i++) response.setHeader(`x-${i}`, "y");
      else response.setHeader("x", "y".repeat(70 * KIB));
      response.end();
    });
    expect((await failureOf(fetch("/many"))).code).toBe("LIMIT");
    expect((await failureOf(fetch("/long"))).code).toBe("LIMIT");
    expect((await failureOf(fetch("/", { headers: { x: "y".repeat(40 * KIB) } }))).error).toBeInstanceOf(
      TypeError,
    );
  });

  test("of a session that ends", async () => {
    const asked = deferred();
    const { fetch, forward } = await openSite(() => {
      asked.resolve();
    });
    const attempt = failureOf(fetch("/"));
    await asked.promise;
    forward.kill("SIGINT");
    expect((await attempt).error).toBeInstanceOf(TypeError);
  });
});

test("a connection that the server has closed meanwhile is not noticed", async () => {
  const { fetch, server } = await openSite(mirror);
  for (let i = 0; i < 20; i++) {
    expect((await seen(fetch(`/${i}`))).url).toBe(`/${i}`);
    server.closeIdleConnections();
  }
});

test("a server at a unix socket", async () => {
  const path = join(temporaryDirectory(), "s");
  await serveHttp(mirror, path);
  const { fetch } = await openSite(mirror, { args: [`unix:${path}`], target: `unix:${path}` });
  const found = await seen(fetch("/over/a/socket"));
  expect(found.url).toBe("/over/a/socket");
  expect(found.headers.get("host")).toBe("localhost");
});

test("the waiting side asks the joining one", async () => {
  const server = await serveHttp(mirror);
  const host = `127.0.0.1:${portOf(server)}`;
  const waiting = await listen({ stun: [] });
  start(["forward", host, "--to", waiting.offer]);
  const session = await waiting.session;
  onTestFinished(() => {
    session.fail(new Error("the test is over") as never);
  });
  const { fetch } = httpOver(session, { target: host });
  expect((await seen(fetch("/back"))).url).toBe("/back");
});
