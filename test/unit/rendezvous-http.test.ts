/** What a rendezvous answers to a browser, a load balancer and Prometheus. */
import { createHash } from "node:crypto";
import { connect } from "node:net";
import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../src/server/memory.ts";
import { PAGE } from "../../src/server/page.ts";
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
  // No attribute that loads, no inline handler, and text is set as text.
  expect(html).not.toMatch(
    /\s(src|srcset|on\w+|style)=|innerHTML|outerHTML|insertAdjacent|document\.write|eval/,
  );
  expect([...html.matchAll(/href="([^"]*)"/g)].map(([, href]) => href)).toEqual(["data:,"]);
  expect(html).not.toMatch(/https?:\/\//);
});

/** The page's script in a browser that has nothing but what the script uses; `show` is a change of the address' fragment. */
function browse(path: string): {
  show: (hash: string) => Record<string, { textContent: string; hidden: boolean }>;
} {
  const elements: Record<string, { textContent: string; hidden: boolean }> = {};
  for (const [, id = ""] of PAGE.matchAll(/ id="([a-z]+)"/g))
    elements[id] = { textContent: "", hidden: false };
  const location = { origin: "https://meet.example", pathname: path, hash: "" };
  let onhashchange: (() => void) | undefined;
  runInNewContext(/<script>(.*?)<\/script>/s.exec(PAGE)?.[1] ?? "", {
    location,
    document: { getElementById: (id: string) => elements[id], querySelectorAll: () => [], title: "" },
    addEventListener: (_: string, listener: () => void) => (onhashchange = listener),
  });
  return {
    show: (hash) => {
      location.hash = hash;
      onhashchange?.();
      return elements;
    },
  };
}

describe("the page shows", () => {
  test("a code and what to type", () => {
    const page = browse("/below/").show("#7-guitar-sandwich");
    expect(page["with"]?.hidden).toBe(false);
    expect(page["bad"]?.hidden).toBe(true);
    expect(page["code"]?.textContent).toBe("7-guitar-sandwich");
    const at = "--rendezvous https://meet.example/below/";
    expect(page["receive"]?.textContent).toBe(`dcpipe receive 7-guitar-sandwich ${at}`);
    expect(page["send"]?.textContent).toBe(`dcpipe send FILE --to 7-guitar-sandwich ${at}`);
    expect(page["pipe"]?.textContent).toBe(`dcpipe pipe 7-guitar-sandwich ${at}`);
    expect(page["forward"]?.textContent).toBe(`dcpipe forward 7-guitar-sandwich ${at}`);
  });

  test.each(["#7", "#guitar-sandwich", "#0-a-b", "#7-a-b;reboot", "#7-a-$(x)", "#<b>", "#%E0%A4%A"])(
    "%s as no code",
    (hash) => {
      const page = browse("/").show(hash);
      expect(page["with"]?.hidden).toBe(true);
      expect(page["bad"]?.hidden).toBe(false);
      expect(page["code"]?.textContent).toBe("");
    },
  );

  test("what this is, without a code, and the next code when the fragment changes", () => {
    const { show } = browse("/");
    expect(show("")).toMatchObject({
      with: { hidden: true },
      bad: { hidden: true },
      without: { hidden: false },
    });
    expect(show("#12-a-b")).toMatchObject({ with: { hidden: false }, code: { textContent: "12-a-b" } });
  });

  test("nothing that a shell would run", () => {
    const page = browse("/$(reboot)/;`x`&'\"|%PATH%/%41/").show("#7-a-b");
    expect(page["receive"]?.textContent).toMatch(
      /^dcpipe receive 7-a-b --rendezvous https:\/\/meet.example[\w/.~%-]+$/,
    );
    expect(page["receive"]?.textContent).toContain("%25PATH%25/%41/");
  });
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
