/** What a hostile site, or a hostile server behind it, tries in the browser of its visitor. */
import { createServer } from "node:net";
import { describe, expect, test } from "vitest";
import { listen } from "../e2e/code.ts";
import { portOf, serveHttp } from "../e2e/site.ts";
import { KINDS } from "./harness.ts";
import { openForward, openSite, page, text } from "./sites.ts";

/** What browsers say of what they do not let happen. */
const PREVENTED =
  /Refused|Blocked|blocked|violates|Unsafe attempt|sandbox|frame-ancestors|Permission denied|ServiceWorker|SecurityError|Failed to load|Loading failed|Cross-Origin|CORS|Framing/;

describe.each(KINDS)("%s", (kind) => {
  test("a script of the site gets at neither the outer page, nor the code, nor a worker", async (context) => {
    const visit = await openSite(
      context,
      kind,
      {
        "/": page(async () => {
          const attempt = async (body: () => unknown): Promise<string> => {
            try {
              return `done: ${String(await body())}`;
            } catch (error) {
              return (error as Error).name;
            }
          };
          const outer = location.origin.replace("//site.", "//");
          const top = globalThis.top as Window;
          const blank = globalThis.document.createElement("iframe");
          globalThis.document.body.append(blank);
          const fresh = blank.contentWindow as Window & typeof globalThis;
          const register = (container: ServiceWorkerContainer, url: string): Promise<unknown> =>
            container.register(url);
          await tell("attempts", {
            href: await attempt(() => top.location.href),
            document: await attempt(() => top.document.title),
            hash: await attempt(() => top.location.hash),
            storage: await attempt(() => top.localStorage.length),
            history: await attempt(() => top.history.length),
            domain: await attempt(() => {
              // eslint-disable-next-line @typescript-eslint/no-deprecated -- an attack of old.
              globalThis.document.domain = location.hostname.replace("site.", "");
              return top.document.title;
            }),
            fetched: await attempt(async () => (await fetch(`${outer}/`)).text()),
            metrics: await attempt(async () =>
              (await fetch(`http://localhost:${location.port}/metrics`)).text(),
            ),
            worker: await attempt(() => register(navigator.serviceWorker, "/evil.js")),
            nativeWorker: await attempt(() => register(fresh.navigator.serviceWorker, "/evil.js")),
            blobWorker: await attempt(() =>
              register(
                fresh.navigator.serviceWorker,
                URL.createObjectURL(new Blob(["1"], { type: "text/javascript" })),
              ),
            ),
          });
          await tell("seen", [
            globalThis.document.referrer,
            globalThis.window.name,
            globalThis.document.cookie,
          ]);
          await attempt(() => {
            top.location.href = "/elsewhere";
          });
          const frame = globalThis.document.createElement("iframe");
          frame.src = `${outer}/`;
          const loaded = new Promise((resolve) => {
            frame.onload = resolve;
          });
          globalThis.document.body.append(frame);
          await loaded;
          await tell("framed", await attempt(() => (frame.contentWindow as Window).document.title));
          // In the bridge's place: garbage on a port of the outer page.
          for (const message of [
            null,
            5,
            {},
            { type: "request" },
            { type: "request", method: {}, path: 5, fields: [[1]], referrer: 1 },
            {
              type: "request",
              method: "GET",
              path: "//evil/",
              fields: [["a\r\nb", "c\r\nd"]],
              referrer: "",
              mode: "",
              destination: "",
              credentials: "",
            },
            { type: "socket", path: 5, protocols: 5 },
            { type: "socket", path: "/x", protocols: ["a b"] },
            { type: "cookies" },
          ]) {
            const channel = new MessageChannel();
            top.postMessage({ type: "port" }, "*", [channel.port2]);
            const answer = new MessageChannel();
            answer.port1.start();
            channel.port1.postMessage(message, [answer.port2]);
            for (const order of [
              null,
              5,
              { type: "set" },
              { type: "set", path: 1, text: 2 },
              { type: "send" },
              { type: "close", code: 1 },
            ])
              answer.port1.postMessage(order);
            channel.port1.postMessage("no port");
          }
          await fetch("/still");
          await tell("still");
        }),
        "/evil.js": text("text/javascript", "addEventListener('fetch', () => {})"),
        "/still": text("text/plain", "here"),
      },
      { expected: [PREVENTED] },
    );
    const attempts = await visit.told<Record<string, string>>("attempts");
    expect(attempts["history"]).toMatch(/^(SecurityError|TypeError)$/);
    for (const [name, outcome] of Object.entries(attempts)) expect(outcome, name).not.toMatch(/^done/);
    expect(attempts["worker"]).toBe("NotSupportedError");
    expect(await visit.told("seen")).toEqual(["", "", ""]);
    expect(await visit.told("framed")).not.toMatch(/^done: dcpipe/);
    await visit.told("still");
    expect(visit.tab.frames()[0]).toBe(`${visit.outer}/`);
    expect(
      await visit.tab.evaluate(() => globalThis.document.documentElement.dataset["state"], undefined),
    ).toBe("shown");
    // The code is nowhere in what the site's server heard.
    const [, code = "none"] = visit.web.split("#");
    for (const { url, rawHeaders } of visit.requests) expect([url, ...rawHeaders].join()).not.toContain(code);
  });

  test("one site does not reach another: storage, cookies, requests, frames", async (context) => {
    const first = await openSite(context, kind, {
      "/": page(async () => {
        localStorage.setItem("secret", "1");
        globalThis.document.cookie = "secret=1";
        await tell("here");
      }),
    });
    await first.told("here");
    const second = await openSite(
      context,
      kind,
      {
        "/": page(() => tell("here")),
        "/attack": page(async () => {
          const other = decodeURIComponent(location.search.slice(1));
          const frame = globalThis.document.createElement("iframe");
          frame.src = `${other}/`;
          const loaded = new Promise((resolve) => {
            frame.onload = resolve;
          });
          globalThis.document.body.append(frame);
          await loaded;
          let framed = "";
          try {
            framed = (frame.contentWindow as Window).localStorage.getItem("secret") ?? "none";
          } catch (error) {
            framed = (error as Error).name;
          }
          const fetched = await fetch(`${other}/`).then(
            (response) => response.text(),
            (error: unknown) => (error as Error).name,
          );
          await tell("attack", [localStorage.getItem("secret"), globalThis.document.cookie, framed, fetched]);
        }),
      },
      { expected: [PREVENTED] },
    );
    await second.told("here");
    const tab = await second.tab.another();
    await tab.goto(`${second.inner}/attack?${encodeURIComponent(first.inner)}`);
    expect(await second.told("attack")).toEqual([null, "", "SecurityError", "TypeError"]);
    expect(first.requests.map(({ url }) => url)).toEqual(["/"]);
    await tab.close();
  });

  test("redirects to scripts and to other places; the outer page says where the site leads", async (context) => {
    let reached = 0;
    const other = await serveHttp((_, response) => {
      reached++;
      response.writeHead(200, { "content-type": "text/html" }).end("elsewhere");
    });
    const elsewhere = `http://127.0.0.1:${portOf(other)}/path`;
    const visit = await openSite(
      context,
      kind,
      {
        "/": page(async (url) => {
          const outcome = (path: string): Promise<string> =>
            fetch(path).then(
              (response) => `status ${response.status}`,
              () => "failed",
            );
          await tell("fetched", [
            await outcome("/script"),
            await outcome("/data"),
            await outcome("/elsewhere"),
          ]);
          const { referrerPolicy } = globalThis.document.createElement("a");
          await tell("policy", referrerPolicy);
          location.href = `/leave?${url}`;
        }, elsewhere),
        "/script": (_, response) => response.writeHead(302, { location: "javascript:alert(1)" }).end(),
        "/data": (_, response) => response.writeHead(302, { location: "data:text/html,hello" }).end(),
        "/elsewhere": (_, response) => response.writeHead(302, { location: elsewhere }).end(),
        "/leave": (_, response) => response.writeHead(302, { location: elsewhere }).end(),
      },
      { expected: [PREVENTED, /status of 302/, /Content-Security-Policy|Content Security Policy/] },
    );
    const [script, data, away] = await visit.told<string[]>("fetched");
    expect([script, data]).toEqual(["status 302", "status 302"]);
    expect(away).toBe("failed");
    await expect
      .poll(
        () =>
          visit.tab.evaluate(
            () => (globalThis.document.getElementById("leave") as HTMLAnchorElement).href,
            undefined,
          ),
        { timeout: 30_000 },
      )
      .toContain(`127.0.0.1:${portOf(other)}`);
    // Only the fetch, which any page may make, has reached it.
    expect(reached).toBe(1);
  });

  test("a server that speaks no proper HTTP: no head breaks out of its place", async (context) => {
    const answers: Record<string, string> = {
      "/": "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\nX-Frame-Options: DENY\r\nClear-Site-Data: \"*\"\r\nService-Worker-Allowed: /\r\nContent-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n\r\nhi",
      "/cr": "HTTP/1.1 200 OK\r\nX-A: a\rSet-Cookie: evil=1\r\nContent-Length: 2\r\n\r\nhi",
      "/nul": "HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\nhi",
      "/name": "HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 2\r\n\r\nhi",
      "/status": "HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nhi",
      "/many": `HTTP/1.1 200 OK\r\n${"X-A: b\r\n".repeat(2000)}Content-Length: 2\r\n\r\nhi`,
      "/nothing": "",
      "/html": "<script>alert(1)</script>",
      "/fine": "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
    };
    const server = createServer((socket) => {
      socket.once("data", (head: Buffer) => {
        const path = /^\S+ ([^\s?]+)/.exec(head.toString("latin1"))?.[1] ?? "";
        socket.end(
          (answers[path] ?? "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").replace(
            "\r\n",
            "\r\nConnection: close\r\n",
          ),
          "latin1",
        );
      });
    });
    const complaints: string[] = [];
    const { tab } = await openForward(context, kind, await listen(server), complaints, {
      expected: [/status of|favicon|Failed to load/],
    });
    const isInner = (url: string): boolean => /^http:\/\/site\.[\da-f]+\.localhost:\d+\/$/.test(url);
    await expect.poll(() => tab.frames().some(isInner), { timeout: 30_000 }).toBe(true);
    const inner = new URL(tab.frames().find(isInner) ?? "").origin;
    // What forbids frames forbids others' ones.
    await expect
      .poll(
        () =>
          tab.evaluateIn(`${inner}/`, () => globalThis.document.body.textContent, undefined).catch(() => ""),
        { timeout: 30_000 },
      )
      .toBe("hi");
    const other = await tab.another();
    const shown: Record<string, string> = {};
    for (const path of Object.keys(answers).slice(1)) {
      await other.goto(inner + path);
      shown[path] = await other.evaluate(
        () =>
          `${globalThis.document.body.textContent} ${globalThis.document.cookie} ${globalThis.document.scripts.length}`,
        undefined,
      );
    }
    for (const path of ["/cr", "/nul", "/name", "/many", "/nothing", "/html"])
      expect(shown[path], path).toMatch(/^The site does not answer.* {2}0$/);
    expect(shown["/status"]).toMatch(/^The site's answer cannot be shown.* {2}0$/);
    expect(shown["/fine"]).toBe("hi  0");
    await other.close();
  });
});
