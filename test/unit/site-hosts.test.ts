/** Names of sites at a rendezvous: what is there, and what is not. */
import { connect } from "node:net";
import { describe, expect, test } from "vitest";
import { parseSiteUrl } from "../../src/cli/rendezvous-options.ts";
import { MemoryStore } from "../../src/server/memory.ts";
import { serve } from "./visitor.ts";

const LABEL = "0123456789abcdef01234567";

/** One request as it stands, and the whole answer. */
function ask(port: number, host: string, path: string, more = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(port, "127.0.0.1", () => {
      socket.write(
        `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${more === "" ? "Connection: close\r\n" : more}\r\n`,
      );
    });
    socket.setEncoding("latin1");
    socket.on("data", (data: string) => {
      text += data;
      // A WebSocket that stands ends only with us.
      if (text.startsWith("HTTP/1.1 101")) socket.destroy();
    });
    socket.on("error", reject);
    socket.on("close", () => {
      resolve(text);
    });
  });
}

const status = (answer: string): number => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);
const policy = (answer: string): string => /^content-security-policy: (.*?)\r$/im.exec(answer)?.[1] ?? "";
const UPGRADE =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: dcpipe-rendezvous.1\r\n";

describe("on this machine", () => {
  test("the outer origin has its page and script, the inner one its bridge and worker, and neither has a rendezvous", async () => {
    const { http } = await serve({ store: new MemoryStore() });
    const port = Number(new URL(http).port);
    const [outer, inner] = [`${LABEL}.localhost:${port}`, `site.${LABEL}.localhost:${port}`];
    const page = await ask(port, outer, "/");
    expect(status(page)).toBe(200);
    expect(policy(page)).toContain(`connect-src ws://localhost:${port};`);
    expect(policy(page)).toContain(`frame-src http://${inner}`);
    expect(policy(page)).toContain("frame-ancestors 'none'");
    expect(policy(page)).not.toMatch(/unsafe|\*/);
    expect(page).toMatch(/^cross-origin-opener-policy: same-origin\r$/im);
    const bridge = await ask(port, inner, "/.dcpipe/bridge");
    expect(status(bridge)).toBe(200);
    expect(policy(bridge)).toContain(`frame-ancestors http://${outer}`);
    expect(bridge).toContain(`data-outer="http://${outer}"`);
    const worker = await ask(port, inner, "/.dcpipe/worker.js");
    expect(worker).toMatch(/^service-worker-allowed: \/\r$/im);
    expect(status(await ask(port, outer, "/.dcpipe/outer.js"))).toBe(200);
    for (const [host, path] of [
      [outer, "/.dcpipe/worker.js"],
      [outer, "/.dcpipe/bridge"],
      [outer, "/healthz"],
      [outer, "/metrics"],
      [outer, "/site"],
    ] as const)
      expect(status(await ask(port, host, path)), `${host}${path}`).toBe(404);
    for (const path of [
      "/",
      "/healthz",
      "/metrics",
      "/site",
      "/.dcpipe/outer.js",
      "/.dcpipe/../metrics",
      "/x.js",
    ]) {
      const absent = await ask(port, inner, path);
      expect(status(absent), path).toBe(503);
      expect(absent).toContain("No connection to the site");
    }
  });

  test.each([
    ["a label that is none", "evil.localhost"],
    ["a short one", "0123.localhost"],
    ["one too deep", `x.site.${LABEL}.localhost`],
    ["the dot of the root", `${LABEL}.localhost.`],
    ["a port that is none", `${LABEL}.localhost:99999999`],
  ])("%s: neither a site nor a rendezvous", async (_, host) => {
    const { http } = await serve({ store: new MemoryStore() });
    const port = Number(new URL(http).port);
    for (const path of ["/", "/metrics", "/site", "/.dcpipe/worker.js"])
      expect(status(await ask(port, host, path)), path).toBe(421);
  });

  test.each([`${LABEL}.localhost`, `site.${LABEL}.localhost`, "evil.localhost", "SITE.EVIL.LOCALHOST:80"])(
    "%s: no WebSocket",
    async (host) => {
      const { http } = await serve({ store: new MemoryStore() });
      const port = Number(new URL(http).port);
      expect(await ask(port, host, "/", UPGRADE)).toContain("there is no rendezvous at this name");
      expect(status(await ask(port, `localhost:${port}`, "/", UPGRADE))).toBe(101);
    },
  );

  test.each([`${LABEL}.localhost.evil.example`, "localhost.evil.example", "xlocalhost", ""])(
    "%s is the rendezvous' own name, and gives no site",
    async (host) => {
      const { http } = await serve({ store: new MemoryStore() });
      const port = Number(new URL(http).port);
      expect(status(await ask(port, host, "/healthz"))).toBe(200);
      const entry = await ask(port, host, "/site");
      expect(entry).toContain("cannot show sites");
      expect(entry).not.toContain("<script");
    },
  );

  test("/site leads to a name of localhost with the port that was asked for", async () => {
    const { http } = await serve({ store: new MemoryStore() });
    const port = Number(new URL(http).port);
    for (const host of [`localhost:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`, `LOCALHOST:${port}`]) {
      const entry = await ask(port, host, "/below/site");
      expect(entry).toContain(`data-outer="http://*.localhost:${port}"`);
      expect(policy(entry)).toMatch(/script-src 'sha256-[^']+'$/);
    }
  });
});

describe("with --site-url", () => {
  test("one label for each name, and the rendezvous at its own", async () => {
    const { http } = await serve({
      store: new MemoryStore(),
      publicUrl: "https://pipes.example.org/here/",
      siteUrl: "https://*.sites.example.org:8443",
    });
    const port = Number(new URL(http).port);
    const [outer, inner] = [`${LABEL}.sites.example.org:8443`, `${LABEL}-site.sites.example.org:8443`];
    const page = await ask(port, outer, "/");
    expect(status(page)).toBe(200);
    expect(page).toContain('data-rendezvous="https://pipes.example.org/here/"');
    expect(policy(page)).toContain("connect-src wss://pipes.example.org;");
    expect(policy(page)).toContain(`frame-src https://${inner}`);
    expect(policy(await ask(port, inner, "/.dcpipe/bridge"))).toContain(`frame-ancestors https://${outer}`);
    expect(await ask(port, "pipes.example.org", "/here/site")).toContain(
      'data-outer="https://*.sites.example.org:8443"',
    );
    for (const host of [
      "evil.sites.example.org:8443",
      `a.${outer}`,
      `${LABEL}.sites.example.org`,
      `${LABEL}.sites.example.org.`,
    ]) {
      expect(status(await ask(port, host, "/metrics")), host).toBe(421);
      expect(status(await ask(port, host, "/", UPGRADE)), host).toBe(400);
    }
    expect(status(await ask(port, "notsites.example.org", "/healthz"))).toBe(200);
  });

  test.each([
    ["https://*.sites.example.org", "https://example.org/", "https://*.sites.example.org"],
    ["https://*.Sites.example.org:8443/", "https://example.org/", "https://*.sites.example.org:8443"],
    ["http://*.sites.example.org:80", "http://example.org/", "http://*.sites.example.org"],
  ])("%s", (text, publicUrl, parsed) => {
    expect(parseSiteUrl(text, publicUrl)).toBe(parsed);
  });

  test.each([
    ["https://sites.example.org", "https://example.org/", /write https/],
    ["https://*.org", "https://example.org/", /write https/],
    ["https://a*.example.org", "https://example.org/", /write https/],
    ["https://*.sites.example.org/x", "https://example.org/", /write https/],
    ["https://*.sites.example.org", undefined, /needs --public-url/],
    ["http://*.sites.example.org", "https://example.org/", /both https/],
    ["https://*.example.org", "https://pipes.example.org/", /the rendezvous itself/],
    ["https://*.example.org", "https://example.org/", /the rendezvous itself/],
  ])("%s is refused", (text, publicUrl, message) => {
    expect(() => parseSiteUrl(text, publicUrl)).toThrow(message);
  });
});
