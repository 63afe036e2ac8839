/** A rendezvous behind TLS, and behind proxies. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { connect } from "node:net";
import { join as joinPath } from "node:path";
import type { Duplex } from "node:stream";
import { createServer as createTlsServer } from "node:tls";
import { expect, test } from "vitest";
import { join, listen, type Server, startServer } from "./code.ts";
import { fail, needs, start, succeed, temporaryDirectory } from "./dcpipe.ts";

/** Ends TLS for a server, with a certificate for 127.0.0.1 from an authority of its own, which is at `ca`. */
async function startTls({ port }: Server): Promise<{ url: string; ca: string }> {
  const directory = temporaryDirectory();
  const path = (name: string): string => joinPath(directory, name);
  const openssl = (...args: string[]): unknown => execFileSync("openssl", args, { stdio: "pipe" });
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const authority = ["-x509", "-days", "1", "-subj", "/CN=dcpipe test authority"];
  openssl("req", ...authority, ...curve, "-keyout", path("ca.key"), "-out", path("ca.pem"));
  const names = ["-subj", "/CN=rendezvous", "-addext", "subjectAltName=IP:127.0.0.1"];
  openssl("req", "-new", ...names, ...curve, "-keyout", path("key"), "-out", path("request"));
  const signing = ["-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-CAcreateserial", "-days", "1"];
  const copying = ["-copy_extensions", "copy", "-in", path("request"), "-out", path("cert")];
  openssl("x509", "-req", ...signing, ...copying);
  const tls = createTlsServer(
    { key: readFileSync(path("key")), cert: readFileSync(path("cert")) },
    (client) => {
      join(client, connect(port, "127.0.0.1"));
    },
  );
  // A client that does not trust it hangs up.
  tls.on("tlsClientError", () => undefined);
  return { url: `https://127.0.0.1:${await listen(tls)}/`, ca: path("ca.pem") };
}

/** A proxy for CONNECT; `asked` are the hosts that it was asked for. */
async function startProxy(): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const server = createHttpServer((_, response) => response.writeHead(405).end());
  server.on("connect", ({ url = "" }, client: Duplex) => {
    asked.push(url);
    const { hostname, port } = new URL(`http://${url}`);
    const upstream = connect(Number(port), hostname, () => {
      client.write("HTTP/1.1 200 OK\r\n\r\n");
    });
    join(client, upstream);
  });
  return { url: `http://127.0.0.1:${await listen(server)}`, asked };
}

/** A session from end to end, both sides with the same environment, and one connection for each: a relay would be another. */
async function meet(rendezvous: string, env: Record<string, string>): Promise<void> {
  const waiting = start(["pipe", "--relay", "off"], {
    stdin: Buffer.from("there"),
    env: { ...env, DCPIPE_RENDEZVOUS: rendezvous },
  });
  const link = String((await waiting.event("code"))["link"]);
  expect(link.startsWith(`${rendezvous}#`)).toBe(true);
  const joining = start(["pipe", link, "--relay", "off"], { env });
  await succeed(waiting, joining);
  expect(joining.stdout.toString()).toBe("there");
}

test("over TLS, with a certificate from an authority that the user names", async (context) => {
  needs(context, "openssl");
  const server = await startServer();
  const { url, ca } = await startTls(server);
  await meet(url, { NODE_EXTRA_CA_CERTS: ca });
  await server.counts("dcpipe_matches_total", 1);
});

test("over TLS, with a certificate from an authority that nobody knows: refused, and why", async (context) => {
  needs(context, "openssl");
  const server = await startServer();
  const { url } = await startTls(server);
  const sides = [start(["pipe", "--rendezvous", url]), start(["pipe", `${url}#7-guitar-sandwich`])];
  for (const side of sides) {
    const lost = await side.event("rendezvous", ({ state }) => state === "lost");
    expect(lost.reason).toMatch(/its certificate is signed by an authority that is not known here/);
    await fail(side, 3, /its certificate is signed by an authority that is not known here/);
    expect(side.error).toMatchObject({ code: "SIGNALLING" });
  }
  expect(await server.metric("dcpipe_connections_total")).toBe(0);
});

test("through an HTTP proxy, unless NO_PROXY says otherwise", async () => {
  const server = await startServer();
  const proxy = await startProxy();
  await meet(server.url, { HTTP_PROXY: proxy.url });
  expect(proxy.asked).toEqual([`127.0.0.1:${server.port}`, `127.0.0.1:${server.port}`]);
  await meet(server.url, { HTTP_PROXY: proxy.url, NO_PROXY: "127.0.0.1" });
  await meet(server.url, { HTTPS_PROXY: proxy.url });
  expect(proxy.asked).toHaveLength(2);
  await server.counts("dcpipe_matches_total", 3);
});

test("over TLS through an HTTP proxy", async (context) => {
  needs(context, "openssl");
  const { url, ca } = await startTls(await startServer());
  const proxy = await startProxy();
  await meet(url, { HTTPS_PROXY: proxy.url, NODE_EXTRA_CA_CERTS: ca });
  expect(proxy.asked).toEqual([new URL(url).host, new URL(url).host]);
});

test("a proxy that says no is named, without its password", async () => {
  const server = await startServer();
  const proxy = await listen(
    createHttpServer().on("connect", (_, client: Duplex) => {
      client.end("HTTP/1.1 403 Forbidden\r\n\r\n");
    }),
  );
  const waiting = start(["pipe", "--timeout", "1", "--rendezvous", server.url], {
    env: { HTTP_PROXY: `http://ann:secret@127.0.0.1:${proxy}` },
  });
  const lost = await waiting.event("rendezvous", ({ state }) => state === "lost");
  expect(lost.reason).toBe(`the proxy http://127.0.0.1:${proxy} refuses (HTTP 403)`);
  await fail(waiting, 3);
  expect(waiting.stderr).not.toContain("secret");
});
