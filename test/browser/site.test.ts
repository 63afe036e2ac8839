/** Sites by `dcpipe forward --web` in real browsers: what a page on localhost does, it does behind the session. */
import { createHash, randomBytes } from "node:crypto";
import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocketServer } from "ws";
import { deferred } from "../e2e/site.ts";
import { KINDS } from "./harness.ts";
import { bodyOf, document, openSite, page, text } from "./sites.ts";

const MIB = 1024 * 1024;
/** What Firefox says on its console of each request that is stopped. */
const STOPPED =
  /Failed to load ‘.*’. A ServiceWorker (intercepted the request and encountered an unexpected error|passed an Error Response)/;
const SVG =
  '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><rect width="20" height="10"/></svg>';

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

describe.each(KINDS)("%s", (kind) => {
  test("HTML, modules, style sheets, images and absolute paths; the code leaves the address", async (context) => {
    const visit = await openSite(context, kind, {
      "/": page(
        async () => {
          await new Promise((resolve) => {
            addEventListener("load", resolve);
          });
          const { answer } = globalThis as unknown as { answer: number };
          await tell("page", {
            answer,
            width: globalThis.document.images[0]?.naturalWidth,
            color: getComputedStyle(globalThis.document.body).color,
            href: location.pathname,
            scripts: globalThis.document.scripts.length,
            first: globalThis.document.head.firstElementChild?.tagName,
            lang: globalThis.document.documentElement.lang,
          });
        },
        undefined,
        `<link rel="stylesheet" href="/style.css"><img src="/image.svg"><script type="module" src="/deep/module.js"></script>`,
      ),
      "/style.css": text("text/css", "body { color: rgb(1, 2, 3); }"),
      "/image.svg": text("image/svg+xml", SVG),
      "/deep/module.js": text(
        "text/javascript",
        'import { answer } from "./other.js"; globalThis.answer = answer;',
      ),
      "/deep/other.js": text("text/javascript", "export const answer = 42;"),
    });
    // What runs first has gone again: the page finds itself as its server sent it.
    expect(await visit.told("page")).toEqual({
      answer: 42,
      width: 20,
      color: "rgb(1, 2, 3)",
      href: "/",
      scripts: 2,
      first: "TITLE",
      lang: "en",
    });
    const shown = await visit.tab.evaluate(
      () => ({ href: location.href, state: globalThis.document.getElementById("state")?.textContent }),
      undefined,
    );
    expect(shown).toEqual({ href: `${visit.outer}/`, state: "Connected" });
    const [first] = visit.requests;
    expect(first?.headers).toMatchObject({ host: visit.host, "sec-fetch-dest": "document" });
    // Nothing that the site's server hears names the rendezvous, nor the visit.
    for (const { url, rawHeaders } of visit.requests)
      expect([url, ...rawHeaders].join("\n")).not.toMatch(
        new RegExp(`${visit.rendezvous.port}|[0-9a-f]{24}`),
      );
    const cookies = await (await fetch(`${visit.rendezvous.url}site`)).text();
    expect(cookies).not.toContain(visit.inner);
  });

  test("requests: JSON, a form, HEAD, 204, 304, errors, Origin and Referer", async (context) => {
    const heard: { method: string; body: string; headers: Record<string, unknown> }[] = [];
    const visit = await openSite(
      context,
      kind,
      {
        "/": page(
          async () => {
            const json = await fetch("/json", {
              method: "POST",
              headers: { "content-type": "application/json", "x-own": "1" },
              body: JSON.stringify({ a: "ü" }),
            });
            const head = await fetch("/json", { method: "HEAD" });
            const empty = await fetch("/empty");
            const same = await fetch("/same", { headers: { "if-none-match": '"1"' } });
            const failed = await fetch("/failed");
            await tell("answers", {
              json: [json.status, json.headers.get("x-answer"), await json.json()],
              head: [head.status, head.headers.get("x-answer"), (await head.text()).length],
              empty: [empty.status, (await empty.text()).length],
              same: [same.status, same.headers.get("etag")],
              failed: [failed.status, failed.statusText, await failed.text()],
            });
            (globalThis.document.forms[0] as HTMLFormElement).submit();
          },
          undefined,
          `<form action="/form" method="post"><input name="field" value="ä b&c"></form>`,
        ),
        "/json": (request, response) => {
          void bodyOf(request).then((body) => {
            heard.push({ method: request.method ?? "", body: body.toString(), headers: request.headers });
            response.writeHead(200, { "content-type": "application/json", "x-answer": "yes" });
            response.end(request.method === "HEAD" ? undefined : '{"b":2}');
          });
        },
        "/empty": (_, response) => response.writeHead(204).end(),
        "/same": (_, response) => response.writeHead(304, { etag: '"1"' }).end(),
        "/failed": (_, response) => response.writeHead(503, "Not Now").end("later"),
        "/form": (request, response) => {
          void bodyOf(request).then((body) => {
            heard.push({ method: request.method ?? "", body: body.toString(), headers: request.headers });
            response.writeHead(200, { "content-type": "text/html" });
            response.end(document(() => tell("landed", location.pathname)));
          });
        },
      },
      { expected: [/status of 503/] },
    );
    expect(await visit.told("answers")).toEqual({
      json: [200, "yes", { b: 2 }],
      head: [200, "yes", 0],
      empty: [204, 0],
      same: [304, '"1"'],
      failed: [503, "Not Now", "later"],
    });
    expect(await visit.told("landed")).toBe("/form");
    const [json, head, form] = heard;
    const origin = `http://${visit.host}`;
    expect(json).toMatchObject({
      method: "POST",
      body: '{"a":"ü"}',
      headers: { "x-own": "1", origin, referer: `${origin}/`, "content-length": "10" },
    });
    expect(head?.method).toBe("HEAD");
    expect(form).toMatchObject({
      method: "POST",
      body: "field=%C3%A4+b%26c",
      headers: { origin, referer: `${origin}/`, "sec-fetch-site": "same-origin" },
    });
  }, 120_000);

  test("an answer of 8 MiB arrives in pieces", async (context) => {
    const half = deferred();
    const rest = randomBytes(4 * MIB);
    const visit = await openSite(context, kind, {
      "/": page(async () => {
        const response = await fetch("/large");
        const reader = (response.body as ReadableStream<Uint8Array>).getReader();
        let count = 0;
        let told = false;
        const parts: Uint8Array[] = [];
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          count += value.length;
          parts.push(value);
          if (count >= 4 * 1024 * 1024 && !told) {
            told = true;
            await tell("half", count);
          }
        }
        const bytes = await new Blob(parts as BlobPart[]).arrayBuffer();
        const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
        await tell("all", Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join(""));
      }),
      "/large": (_, response) => {
        response.writeHead(200, { "content-type": "application/octet-stream" });
        response.write(rest);
        void half.promise.then(() => response.end(rest));
      },
    });
    // The second half is not sent before the first one has been read.
    expect(await visit.told("half")).toBe(4 * MIB);
    half.resolve();
    expect(await visit.told("all")).toBe(sha256(Buffer.concat([rest, rest])));
  });

  test("an upload of 32 MiB", async (context) => {
    const visit = await openSite(context, kind, {
      "/": page(async () => {
        const bytes = new Uint8Array(32 * 1024 * 1024);
        for (let at = 0; at < bytes.length; at += 65536)
          crypto.getRandomValues(bytes.subarray(at, at + 65536));
        const response = await fetch("/upload", { method: "PUT", body: new Blob([bytes]) });
        const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
        await tell("sent", [
          Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join(""),
          await response.text(),
        ]);
      }),
      "/upload": (request, response) => {
        const hash = createHash("sha256");
        request.on("data", (chunk: Buffer) => hash.update(chunk));
        request.on("end", () => response.end(hash.digest("hex")));
      },
    });
    const [sent, received] = await visit.told<string[]>("sent");
    expect(received).toBe(sent);
    const upload = visit.requests.find(({ url }) => url === "/upload");
    // Where the browser shows the stream, it goes out as it is read; elsewhere it is known as a whole.
    expect(upload?.headers["content-length"]).toBe(kind === "chromium" ? undefined : String(32 * MIB));
  });

  test("parts of a file: fetch with Range, and seeking in a sound", async (context) => {
    const sound = wav(8 * MIB);
    const ranges: string[] = [];
    const visit = await openSite(
      context,
      kind,
      {
        "/": page(async () => {
          const part = await fetch("/sound.wav", { headers: { range: "bytes=100-109" } });
          await tell("part", [
            part.status,
            part.headers.get("content-range"),
            (await part.arrayBuffer()).byteLength,
          ]);
          const audio = new Audio("/sound.wav");
          await new Promise((resolve, reject) => {
            audio.addEventListener("loadedmetadata", resolve);
            audio.addEventListener("error", () => {
              reject(new Error(`no sound: ${audio.error?.message ?? ""}`));
            });
          });
          await new Promise((resolve) => {
            audio.addEventListener("seeked", resolve);
            audio.currentTime = audio.duration - 1;
          });
          await tell("seeked", Math.round(audio.duration - audio.currentTime));
        }),
        "/sound.wav": (request, response) => {
          const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
          const headers = { "content-type": "audio/wav", "accept-ranges": "bytes" };
          if (from === undefined) {
            response.writeHead(200, { ...headers, "content-length": sound.length }).end(sound);
            return;
          }
          ranges.push(String(request.headers.range));
          const end = to === "" ? sound.length - 1 : Number(to);
          response.writeHead(206, {
            ...headers,
            "content-range": `bytes ${from}-${end}/${sound.length}`,
            "content-length": end - Number(from) + 1,
          });
          response.end(sound.subarray(Number(from), end + 1));
        },
      },
      { expected: [STOPPED] },
    );
    expect(await visit.told("part")).toEqual([206, `bytes 100-109/${sound.length}`, 10]);
    expect(await visit.told("seeked")).toBe(1);
    // Not all of it was read for the end.
    expect(ranges.some((range) => Number(/=(\d+)/.exec(range)?.[1]) > sound.length / 2)).toBe(true);
  });

  test("server-sent events come one by one, and reconnect", async (context) => {
    const closing = deferred();
    let send: ((text: string) => void) | undefined;
    const ids: (string | undefined)[] = [];
    const visit = await openSite(context, kind, {
      "/": page(() => {
        const events = new EventSource("/events");
        events.onmessage = ({ data, lastEventId }) => void tell("event", [data, lastEventId]);
      }),
      "/events": (request, response) => {
        ids.push(request.headers["last-event-id"] as string | undefined);
        response.writeHead(200, { "content-type": "text/event-stream" });
        if (ids.length === 1) {
          send = (data) => response.write(data);
          response.write("retry: 10\nid: 1\ndata: first\n\n");
        } else response.write("id: 3\ndata: again\n\n");
        if (ids.length === 1) void closing.promise.then(() => response.end());
      },
    });
    expect(await visit.told("event")).toEqual(["first", "1"]);
    send?.("id: 2\ndata: second\n\n");
    expect(await visit.told("event")).toEqual(["second", "2"]);
    closing.resolve();
    expect(await visit.told("event")).toEqual(["again", "3"]);
    // Chromium does not show its workers that field.
    expect(ids).toEqual([undefined, kind === "chromium" ? undefined : "2"]);
  });

  test("redirects: relative, to the TARGET by its own name, of a form, in a fetch", async (context) => {
    const visit = await openSite(
      context,
      kind,
      {
        "/": (request, response) => {
          // By another name of the same machine.
          response.writeHead(302, { location: `http://${request.headers.host ?? ""}/a` }).end();
        },
        "/a": (_, response) => response.writeHead(301, { location: "b?x=1#there" }).end(),
        "/b": page(async () => {
          const response = await fetch("/c");
          await tell("fetched", [response.redirected, new URL(response.url).pathname, await response.text()]);
          await tell("at", location.pathname + location.search + location.hash);
          location.href = "/refresh";
        }),
        "/c": (request, response) =>
          response
            .writeHead(307, {
              location: `http://${(request.headers.host ?? "").replace("localhost", "127.0.0.1")}/d`,
            })
            .end(),
        "/d": text("text/plain", "end"),
        "/refresh": (request, response) =>
          response
            .writeHead(200, {
              "content-type": "text/html",
              refresh: `0; url=http://${request.headers.host ?? ""}/last`,
            })
            .end("<!doctype html>one moment"),
        "/last": page(() => tell("last", location.origin)),
      },
      { expected: [STOPPED] },
    );
    expect(await visit.told("fetched")).toEqual([true, "/d", "end"]);
    expect(await visit.told("at")).toBe("/b?x=1#there");
    expect(await visit.told("last")).toBe(visit.inner);
  });

  test("cookies: several, paths, HttpOnly, document.cookie; they stay here", async (context) => {
    const visit = await openSite(context, kind, {
      "/": (_, response) => {
        response.writeHead(200, {
          "content-type": "text/html",
          "set-cookie": [
            "a=1; Path=/",
            "secret=2; HttpOnly",
            "below=3; Path=/below",
            "gone=4; Max-Age=0",
            "s=5; Secure; SameSite=Strict",
          ],
        });
        response.end(
          document(async () => {
            const first = globalThis.document.cookie;
            globalThis.document.cookie = "script=6; path=/; max-age=100";
            globalThis.document.cookie = "secret=7";
            globalThis.document.cookie = "hidden=8; HttpOnly";
            const then = globalThis.document.cookie;
            // What a script sets takes its own way to the outer page, and a request may overtake it.
            await tell("set");
            const sent = await (await fetch("/sent")).text();
            const below = await (await fetch("/below/sent")).text();
            await fetch("/out");
            const after = await (await fetch("/sent")).text();
            const omitted = await (await fetch("/sent", { credentials: "omit" })).text();
            await tell("cookies", { first, then, sent, below, after, omitted });
            const changed = (): void => {
              if (/a=1|secret/.test(globalThis.document.cookie)) setTimeout(changed, 10);
              else void tell("changed", globalThis.document.cookie);
            };
            changed();
          }),
        );
      },
      "/sent": (request, response) => response.end(request.headers.cookie ?? ""),
      "/below/sent": (request, response) => response.end(request.headers.cookie ?? ""),
      "/out": (_, response) =>
        response
          .writeHead(200, {
            "set-cookie": ["a=; expires=Thu, 01 Jan 1970 00:00:00 GMT", "secret=; Max-Age=-1"],
          })
          .end(),
    });
    expect(await visit.told("cookies")).toEqual({
      first: "a=1; s=5",
      then: expect.stringMatching(/^a=1; s=5; script=6/) as string,
      sent: "a=1; secret=2; s=5; script=6",
      below: "below=3; a=1; secret=2; s=5; script=6",
      after: "s=5; script=6",
      omitted: "",
    });
    expect(await visit.told("changed")).toBe("s=5; script=6");
  });

  test("another tab of the same site, by the same session", async (context) => {
    const visit = await openSite(context, kind, {
      "/": page(async () => {
        localStorage.setItem("from", "first");
        await tell("first", location.href);
      }),
      "/second": page(() => tell("second", [localStorage.getItem("from"), window === top])),
    });
    await visit.told("first");
    const tab = await visit.tab.another();
    await tab.goto(`${visit.inner}/second`);
    expect(await visit.told("second")).toEqual(["first", true]);
    await tab.close();
  });

  test("what is aborted in the page ends at the server: before its answer, and within it", async (context) => {
    const [came, cameToo] = [deferred(), deferred()];
    const gone = { silent: deferred(), silentToo: deferred(), endless: deferred(), left: deferred() };
    const visit = await openSite(
      context,
      kind,
      {
        "/": page(async () => {
          const silent = new AbortController();
          const first = fetch("/silent", { signal: silent.signal }).catch(
            (error: unknown) => (error as Error).name,
          );
          await fetch("/silent-came");
          silent.abort();
          const endless = new AbortController();
          const response = await fetch("/endless", { signal: endless.signal });
          const reader = (response.body as ReadableStream<Uint8Array>).getReader();
          await reader.read();
          endless.abort();
          const second = await reader.read().catch((error: unknown) => (error as Error).name);
          await tell("aborted", [await first, second]);
          const request = new XMLHttpRequest();
          request.open("GET", "/silent-too");
          request.send();
          await fetch("/silent-too-came");
          request.abort();
          void fetch("/left");
        }),
        "/silent": (_, response) => {
          came.resolve();
          response.on("close", gone.silent.resolve);
        },
        "/silent-came": (_, response) => void came.promise.then(() => response.end()),
        "/silent-too": (_, response) => {
          cameToo.resolve();
          response.on("close", gone.silentToo.resolve);
        },
        "/silent-too-came": (_, response) => void cameToo.promise.then(() => response.end()),
        "/endless": (_, response) => {
          response.writeHead(200).write("x".repeat(1000));
          response.on("close", gone.endless.resolve);
        },
        "/left": (_, response) => {
          response.writeHead(200).write("x".repeat(1000));
          response.on("close", gone.left.resolve);
          void visit.tab
            .evaluateIn(
              visit.inner,
              () => {
                location.assign("about:blank");
              },
              undefined,
            )
            .catch(() => undefined);
        },
      },
      { expected: [STOPPED, /NetworkError/] },
    );
    expect(await visit.told("aborted")).toEqual(["AbortError", "AbortError"]);
    await Promise.all(Object.values(gone).map(({ promise }) => promise));
  });

  test("a hundred requests at once", async (context) => {
    const routes = { count: 0, most: 0 };
    const all = deferred();
    const visit = await openSite(context, kind, {
      "/": page(async () => {
        const answers = await Promise.all(
          Array.from({ length: 100 }, async (_, index) => (await fetch(`/one?${index}`)).text()),
        );
        await tell("answers", answers);
      }),
      "/one": (request, response) => {
        routes.count++;
        routes.most = Math.max(routes.most, routes.count);
        // None is answered before they are all there.
        if (routes.count === 100) all.resolve();
        void all.promise.then(() => response.end(request.url));
      },
    });
    expect(await visit.told("answers")).toEqual(Array.from({ length: 100 }, (_, index) => `/one?${index}`));
    expect(routes.most).toBe(100);
  });

  test("encodings: gzip, UTF-16, a charset that only <meta> tells; downloads and fragments of HTML stay as they are", async (context) => {
    const { gzipSync } = await import("node:zlib");
    const frames = ["/utf16le", "/utf16be", "/meta", "/gzip"];
    const inner = `<script>parent.postMessage([location.pathname, document.body.textContent, typeof navigator.serviceWorker.controller], "*")</script>`;
    const html = `<!doctype html><html><head></head><body>äé${inner}</body></html>`;
    const visit = await openSite(context, kind, {
      "/": page(async (paths) => {
        const heard: unknown[] = [];
        addEventListener("message", ({ data }) => {
          heard.push(data);
          if (heard.length === paths.length) void tell("frames", heard.sort());
        });
        for (const path of paths) {
          const frame = globalThis.document.createElement("iframe");
          frame.src = path;
          globalThis.document.body.append(frame);
        }
        await tell("fragment", await (await fetch("/fragment")).text());
      }, frames),
      "/utf16le": text("text/html; charset=utf-16", Buffer.from(html, "utf16le")),
      "/utf16be": text(
        "text/html",
        Buffer.concat([Buffer.from([0xfe, 0xff]), Buffer.from(html, "utf16le").swap16()]),
      ),
      "/meta": text(
        "text/html",
        Buffer.from(html.replace("<head>", '<head><meta charset="iso-8859-1">'), "latin1"),
      ),
      "/gzip": text("text/html; charset=utf-8", gzipSync(html), { "content-encoding": "gzip" }),
      "/fragment": text("text/html", "<p>part</p>"),
    });
    expect(await visit.told("fragment")).toBe("<p>part</p>");
    const shown = await visit.told<[string, string, string][]>("frames");
    expect(shown.map(([path]) => path)).toEqual([...frames].sort());
    for (const [path, body] of shown) expect(body, path).toMatch(/^äé/);
  });

  test("a forward that ends is told to the page; a page that closes ends the forward", async (context) => {
    const visit = await openSite(
      context,
      kind,
      { "/": page(() => tell("here")) },
      { expected: [/Failed to load resource/, STOPPED, /NetworkError|Failed to fetch/] },
    );
    await visit.told("here");
    visit.forward.kill("SIGINT");
    await visit.forward.exited;
    await expect
      .poll(() => visit.tab.evaluate(() => globalThis.document.documentElement.dataset["state"], undefined))
      .toBe("lost");
    const said = await visit.tab.evaluate(
      () => globalThis.document.getElementById("said")?.textContent,
      undefined,
    );
    expect(said).toContain("The other side has ended it");
    // What is asked for now is answered at once, with what to do.
    const tab = await visit.tab.another();
    await tab.goto(`${visit.inner}/`);
    expect(await tab.evaluate(() => globalThis.document.body.textContent, undefined)).toContain(
      "No connection to the site",
    );
    await tab.close();

    const again = await openSite(context, kind, { "/": page(() => tell("here")) });
    await again.told("here");
    await again.tab.close();
    // Firefox on a machine under load may not get to say so: then the channel is seen to close.
    const status = again.forward.exited.then((exit) => exit.status);
    const unsaid = again.forward.event("reconnecting").then(
      () => 0,
      () => status,
    );
    expect(await (kind === "chromium" ? status : Promise.race([status, unsaid]))).toBe(0);
  });
});

// Firefox reads on, whether its page does or not, also from a server that it talks to by itself.
test("chromium: a page that does not read stops the server", async (context) => {
  let written = 0;
  const visit = await openSite(context, "chromium", {
    "/": page(async () => {
      const response = await fetch("/flood");
      const reader = (response.body as ReadableStream<Uint8Array>).getReader();
      await reader.read();
      // Other requests are the clock: when many of them see the same count, no more is taken.
      for (let [count, same] = ["", 0]; same < 200;) {
        const now = await (await fetch("/count")).text();
        same = now === count ? same + 1 : 0;
        count = now;
      }
      await reader.cancel();
      await tell("over");
    }),
    "/flood": (_, response) => {
      const chunk = Buffer.alloc(64 * 1024);
      const write = (): void => {
        if (response.destroyed) return;
        do written += chunk.length;
        while (response.write(chunk));
        response.once("drain", write);
      };
      response.writeHead(200);
      write();
    },
    "/count": (_, response) => response.end(String(written)),
  });
  await visit.told("over");
  // Chromium itself reads some 64 MiB ahead (without dcpipe it takes 80); on top of that, credit of the stream and buffers of sockets.
  expect(written).toBeLessThan(128 * MIB);
});

test("chromium: a worker that was stopped finds the session again, and WebSockets do not need it", async (context) => {
  const sockets = new WebSocketServer({ noServer: true });
  onTestFinished(() => {
    sockets.close();
  });
  sockets.on("connection", (socket) => {
    socket.on("message", (data) => {
      socket.send((data as Buffer).toString());
    });
  });
  const visit = await openSite(context, "chromium", {
    "/": page(async () => {
      const socket = new WebSocket("/socket");
      await new Promise((resolve) => (socket.onopen = resolve));
      Object.assign(globalThis, { socket });
      globalThis.document.cookie = "kept=1";
      await tell("here");
    }),
    "/cookies": (request, response) => response.end(request.headers.cookie),
  });
  visit.site.on("upgrade", (request, stream, head) => {
    sockets.handleUpgrade(request, stream, head, (socket) => sockets.emit("connection", socket, request));
  });
  await visit.told("here");
  for (let round = 0; round < 3; round++) {
    await visit.tab.stopWorkers();
    const answers = await visit.tab.evaluateIn(
      `${visit.inner}/`,
      async () => {
        const { socket } = globalThis as unknown as { socket: WebSocket };
        const echo = new Promise((resolve) => {
          socket.onmessage = ({ data }) => {
            resolve(data);
          };
        });
        socket.send("again");
        return [await echo, await (await fetch("/cookies")).text()];
      },
      undefined,
    );
    expect(answers).toEqual(["again", "kept=1"]);
  }
});

/** A sound of so many bytes: silence, 8 bit, 8 kHz, with some noise so that nothing is guessed. */
function wav(size: number): Buffer {
  const bytes = randomBytes(size);
  bytes.write("RIFF", 0, "latin1");
  bytes.writeUInt32LE(size - 8, 4);
  bytes.write("WAVEfmt ", 8, "latin1");
  bytes.writeUInt32LE(16, 16);
  bytes.writeUInt16LE(1, 20);
  bytes.writeUInt16LE(1, 22);
  bytes.writeUInt32LE(44_100, 24);
  bytes.writeUInt32LE(88_200, 28);
  bytes.writeUInt16LE(2, 32);
  bytes.writeUInt16LE(16, 34);
  bytes.write("data", 36, "latin1");
  bytes.writeUInt32LE(size - 44, 40);
  return bytes;
}
