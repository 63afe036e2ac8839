/** What a rendezvous answers to a browser, a load balancer and Prometheus. */
import { createHash } from "node:crypto";
import { connect } from "node:net";
import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../src/server/memory.ts";
import { loadPage } from "../../src/server/page.ts";
import { CLOSE } from "../../src/wire/rendezvous.ts";
import { allocate, body, claim, newKey, serve } from "./visitor.ts";

test("the page loads nothing and runs only what it came with", async () => {
  const server = await serve({ store: new MemoryStore() });
  const response = await fetch(`${server.http}somewhere/below/?query`);
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
  const html = await response.text();
  const policy = response.headers.get("content-security-policy") ?? "";
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toContain("unsafe");
  for (const [tag, directive] of [
    ["script", "script-src"],
    ["style", "style-src"],
  ]) {
    const contents = [...html.matchAll(new RegExp(`<${tag}>(.*?)</${tag}>`, "gs"))].map(
      ([, text]) => text ?? "",
    );
    expect(contents).toHaveLength(1);
    const hash = createHash("sha256")
      .update(contents[0] ?? "")
      .digest("base64");
    expect(policy).toContain(`${directive} 'sha256-${hash}'`);
  }
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).toContain("require-trusted-types-for 'script'");
  const host = new URL(server.http).host;
  expect(policy).toContain(`connect-src 'self' ws://${host} wss://${host};`);
  // Nothing is loaded by the document itself, and no handler stands in it.
  const document = html.replace(/<(script|style)>.*?<\/\1>/gs, "");
  expect(document).not.toMatch(/\s(src|srcset|on\w+|style)=/);
  for (const [, href = ""] of document.matchAll(/href="([^"]*)"/g)) expect(href).toMatch(/^data:/);
});

test("a page that is known is not sent again, and goes compressed to who takes that", async () => {
  const server = await serve({ store: new MemoryStore() });
  const ask = (headers: Record<string, string>): Promise<Response> =>
    fetch(server.http, { headers: { connection: "close", ...headers } });
  const zipped = await ask({ "accept-encoding": "br, gzip" });
  expect(zipped.headers.get("content-encoding")).toBe("gzip");
  const plain = await ask({ "accept-encoding": "gzip;q=0" });
  expect(plain.headers.get("content-encoding")).toBeNull();
  const html = await plain.text();
  expect(await zipped.text()).toBe(html);
  expect(Number(zipped.headers.get("content-length"))).toBeLessThan(html.length / 2);
  const etag = plain.headers.get("etag") ?? "";
  const known = await ask({ "if-none-match": etag });
  expect(known.status).toBe(304);
  expect(await known.text()).toBe("");
});

test.each(["evil.example; script-src *", "a b", "", "x".repeat(300) + " *"])(
  "nothing of a Host header gets into the policy but a host: %j",
  (host) => {
    const { policy } = loadPage();
    expect(policy(host)).toContain("connect-src 'self';");
    expect(policy("[::1]:80")).toContain("connect-src 'self' ws://[::1]:80 wss://[::1]:80;");
  },
);

test("the worker for downloads is a script of its own, and may load nothing", async () => {
  const server = await serve({ store: new MemoryStore() });
  const response = await fetch(`${server.http}below/download.js`, { headers: { connection: "close" } });
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("text/javascript; charset=utf-8");
  expect(response.headers.get("content-security-policy")).toBe("default-src 'none'");
  expect(await response.text()).toContain("content-disposition");
});

test.each([
  ["GET", "", 200],
  ["HEAD", "", 200],
  ["GET", "healthz", 200],
  ["GET", "below/healthz", 200],
  ["HEAD", "healthz", 200],
  ["GET", "metrics", 200],
  ["GET", "favicon.ico", 404],
  ["POST", "", 405],
  ["PUT", "metrics", 405],
  ["DELETE", "nothing", 405],
])("%s /%s: %i", async (method, path, status) => {
  const server = await serve({ store: new MemoryStore() });
  const response = await fetch(server.http + path, {
    method,
    ...(method === "POST" || method === "PUT" ? { body: "x".repeat(100_000) } : {}),
  });
  expect(response.status).toBe(status);
  const text = await response.text();
  if (method === "HEAD") expect(text).toBe("");
  if (status === 405) expect(response.headers.get("allow")).toBe("GET, HEAD");
});

test("a WebSocket of somebody else is told what this is", async () => {
  const server = await serve({ store: new MemoryStore() });
  const answer = await new Promise<string>((resolve) => {
    const socket = connect(Number(new URL(server.http).port), "127.0.0.1");
    let text = "";
    socket.write(
      "GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
    );
    socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
    socket.on("close", () => {
      resolve(text);
    });
  });
  expect(answer).toMatch(/^HTTP\/1.1 400 /);
  expect(answer).toMatch(/\r\n\r\nthis is a dcpipe rendezvous.*\n$/);
});

test("any path, IPv6", async () => {
  const server = await serve({ store: new MemoryStore() }, "::1");
  const { visitor } = await allocate({ ...server, url: `${server.url}below/this` });
  await visitor.say({ type: "RELEASE", outcome: "left" });
  expect(await visitor.closed).toBe(CLOSE.RELEASED);
});

describe("metrics", () => {
  test("count what happens, in Prometheus' format", async () => {
    const server = await serve({ store: new MemoryStore() });
    const { visitor: waiting, nameplate } = await allocate(server);
    await waiting.say({ type: "POST", index: 0, body: body("hello") });
    const { visitor: joining } = await claim(server, nameplate);
    await server.visit({ first: { type: "CLAIM", key: newKey(), nameplate } }).closed;
    await server.visit({ first: { type: "CLAIM", key: newKey(), nameplate: 555 } }).closed;
    await allocate(server);
    await joining.say({ type: "RELEASE", outcome: "turn" });
    await Promise.all([waiting.closed, joining.closed]);
    let samples: Map<string, number>;
    do {
      const text = await (await fetch(`${server.http}metrics`)).text();
      for (const line of text.trimEnd().split("\n"))
        expect(line).toMatch(/^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="[a-z_]+"\})? \d+(\.\d+)?)$/);
      samples = new Map(
        text
          .split("\n")
          .filter((line) => /^dcpipe/.test(line))
          .map((line) => [line.split(" ")[0] ?? "", Number(line.split(" ")[1])]),
      );
    } while (samples.get("dcpipe_connections") !== 1);
    expect(Object.fromEntries(samples)).toMatchObject({
      dcpipe_connections: 1,
      dcpipe_connections_total: 5,
      dcpipe_mailboxes: 1,
      dcpipe_claims_delayed: 0,
      dcpipe_messages_total: 7,
      dcpipe_matches_total: 1,
      'dcpipe_outcomes_total{outcome="turn"}': 1,
      'dcpipe_outcomes_total{outcome="direct"}': 0,
      'dcpipe_refused_total{reason="used"}': 1,
      'dcpipe_refused_total{reason="unknown"}': 1,
      'dcpipe_refused_total{reason="protocol"}': 0,
    });
    expect([...samples.keys()]).not.toContain('dcpipe_refused_total{reason="released"}');
  });

  test("an outcome counts once, whoever says it first", async () => {
    const server = await serve({ store: new MemoryStore() });
    const { visitor: waiting, nameplate } = await allocate(server);
    const { visitor: joining } = await claim(server, nameplate);
    await Promise.all([
      waiting.say({ type: "RELEASE", outcome: "direct" }),
      joining.say({ type: "RELEASE", outcome: "direct" }),
    ]);
    await Promise.all([waiting.closed, joining.closed]);
    const text = await (await fetch(`${server.http}metrics`)).text();
    expect(text).toContain('dcpipe_outcomes_total{outcome="direct"} 1\n');
  });
});

test("a server that drains says so, sends everybody away, and ends", async () => {
  const server = await serve({ store: new MemoryStore(), limits: { drainMs: 100 } });
  const visitors = await Promise.all(
    Array.from({ length: 30 }, async () => (await allocate(server)).visitor),
  );
  const drained = server.rendezvous.drain();
  expect((await fetch(`${server.http}healthz`)).status).toBe(503);
  const late = server.visit({ first: { type: "ALLOCATE", key: newKey(), nameplate: 0 } });
  const codes = await Promise.all([...visitors, late].map(({ closed }) => closed));
  expect(new Set(codes)).toEqual(new Set([CLOSE.GOING_AWAY]));
  await drained;
  await expect(fetch(`${server.http}healthz`)).rejects.toThrow();
});
