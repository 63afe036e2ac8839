/** fetch and WebSocket from a page, over a session, to a server behind `dcpipe forward`. */
import { createHash, randomBytes } from "node:crypto";
import type { RequestListener, Server } from "node:http";
import { expect, onTestFinished, test, type TestContext } from "vitest";
import { WebSocketServer } from "ws";
import { startServer } from "../e2e/code.ts";
import { start } from "../e2e/dcpipe.ts";
import { deferred, portOf, serveHttp } from "../e2e/site.ts";
import { KINDS, openPage, type BrowserPage, type Kind } from "./harness.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

/** A page and a forward that have met; `globalThis.http` is what the page has of it. */
async function openVisitor(
  context: TestContext,
  kind: Kind,
  handler: RequestListener,
  waits = false,
): Promise<{ page: BrowserPage; server: Server; host: string }> {
  const page = await openPage(context, kind);
  const rendezvous = await startServer();
  const server = await serveHttp(handler);
  const host = `localhost:${portOf(server)}`;
  const args = ["forward", host, "--rendezvous", rendezvous.url];
  const code = waits ? undefined : await start(args).code();
  const met = page.run(
    async ({ target, ...meeting }) => {
      const { session, role } = await tab.meet({ relay: "off", ...meeting });
      const visiting = dcpipe.visit(session, role);
      visiting.done.catch(() => undefined);
      await visiting.offers;
      globalThis.http = dcpipe.httpOver(session, { target });
    },
    { rendezvous: rendezvous.url, code, target: host },
  );
  if (waits) start([...args, "--to", await page.told<string>("code")]);
  await met;
  return { page, server, host };
}

declare global {
  /** In a page. */
  var http: import("../../src/browser.ts").SessionHttp;
}

for (const kind of KINDS) {
  for (const side of ["joins", "waits"] as const) {
    test(`${kind} ${side}: requests, a hundred of them at once, and what is refused`, async (context) => {
      const { page } = await openVisitor(
        context,
        kind,
        (request, response) => {
          const chunks: Buffer[] = [];
          request.on("data", (chunk: Buffer) => chunks.push(chunk));
          request.on("end", () => {
            const { method, url = "" } = request;
            if (url === "/moved") response.writeHead(302, { location: "/there?a=b" }).end();
            else if (url === "/none") response.writeHead(404, { "x-why": "gone" }).end("none");
            else response.end(JSON.stringify({ method, url, body: Buffer.concat(chunks).toString() }));
          });
        },
        side === "waits",
      );
      const found = await page.run(async () => {
        const posted = await http.fetch("/post", { method: "POST", body: new URLSearchParams({ a: "1 2" }) });
        const moved = await http.fetch("/moved");
        const none = await http.fetch("/none");
        const many = await Promise.all(
          Array.from(
            { length: 100 },
            async (_, i) => (await http.fetch(`/${i}`)).json() as Promise<{ url: string }>,
          ),
        );
        const refused = await http.fetch("http://localhost:9/").catch((error: unknown) => error as TypeError);
        const cause = (refused as TypeError).cause as { code: string };
        return {
          posted: (await posted.json()) as unknown,
          moved: [moved.redirected, new URL(moved.url).pathname],
          none: [none.status, none.headers.get("x-why"), await none.text()],
          many: many.map(({ url }) => url),
          refused: [refused instanceof TypeError, cause.code],
        };
      }, null);
      expect(found.posted).toEqual({ method: "POST", url: "/post", body: "a=1+2" });
      expect(found.moved).toEqual([true, "/there"]);
      expect(found.none).toEqual([404, "gone", "none"]);
      expect(found.many).toEqual(Array.from({ length: 100 }, (_, i) => `/${i}`));
      expect(found.refused).toEqual([true, "REFUSED"]);
    });
  }

  test(`${kind}: 8 MiB arrive in pieces, and go in pieces`, async (context) => {
    const piece = 64 * KIB;
    const count = (8 * MIB) / piece;
    const content = randomBytes(count * piece);
    const turns: (() => void)[] = [];
    let at = 0;
    const uploaded = createHash("sha256");
    const { page } = await openVisitor(context, kind, (request, response) => {
      // The page asks for each piece when it has read the one before: nothing here is collected on the way.
      if (request.url === "/next") {
        response.end();
        turns.shift()?.();
      } else if (request.url === "/down") {
        const send = (): void => {
          if (at === count) response.end();
          else response.write(content.subarray(at * piece, ++at * piece));
          turns.push(send);
        };
        send();
      } else {
        // Each piece is confirmed when it has come.
        let size = 0;
        response.flushHeaders();
        request.on("data", (chunk: Buffer) => {
          uploaded.update(chunk);
          const before = Math.floor(size / piece);
          size += chunk.length;
          response.write(".".repeat(Math.floor(size / piece) - before));
        });
        request.on("end", () => response.end());
      }
    });
    const down = await page.run(async (size) => {
      const response = await http.fetch("/down");
      const parts: Uint8Array<ArrayBuffer>[] = [];
      const reader = (response.body as ReadableStream<Uint8Array<ArrayBuffer>>).getReader();
      let got = 0;
      for (let turn = 1; ;) {
        const { value } = await reader.read();
        if (!value) break;
        parts.push(value);
        got += value.length;
        for (; turn * size <= got; turn++) await http.fetch("/next");
      }
      return tab.sha256(await new Blob(parts).arrayBuffer());
    }, piece);
    expect(down).toBe(createHash("sha256").update(content).digest("hex"));
    const up = await page.run(
      async ([size, pieces]) => {
        const bytes = tab.random(size * pieces);
        let confirmed: (() => void) | undefined;
        let sent = 0;
        let come = 0;
        const body = new ReadableStream<Uint8Array>(
          {
            pull: async (controller) => {
              while (come < sent) await new Promise<void>((resolve) => (confirmed = resolve));
              if (sent === pieces) controller.close();
              else controller.enqueue(bytes.subarray(sent * size, ++sent * size));
            },
          },
          { highWaterMark: 0 },
        );
        const response = await http.fetch("/up", { method: "POST", body, duplex: "half" });
        const reader = (response.body as ReadableStream<Uint8Array>).getReader();
        for (;;) {
          const { value } = await reader.read();
          if (!value) break;
          come += value.length;
          confirmed?.();
        }
        return { come, hash: await tab.sha256(bytes) };
      },
      [piece, count] as const,
    );
    expect(up.come).toBe(count);
    expect(up.hash).toBe(uploaded.digest("hex"));
  });

  test(`${kind}: a page that does not read stops the server; one that gives up ends the request`, async (context) => {
    const piece = Buffer.alloc(64 * KIB);
    let sent = 0;
    const over = deferred();
    const { page } = await openVisitor(context, kind, (request, response) => {
      if (request.url === "/small") {
        response.end("small");
        return;
      }
      response.on("close", () => {
        over.resolve();
      });
      response.on("error", () => undefined);
      const fill = (): void => {
        while (!response.destroyed) {
          sent += piece.length;
          if (!response.write(piece)) return;
        }
      };
      response.on("drain", fill);
      fill();
    });
    const small = (count: number): Promise<void> =>
      page.run(async (rounds) => {
        for (let i = 0; i < rounds; i++) await (await http.fetch("/small")).text();
      }, count);
    await page.run(async () => {
      const stop = new AbortController();
      const response = await http.fetch("/", { signal: stop.signal });
      const reader = (response.body as ReadableStream<Uint8Array>).getReader();
      await reader.read();
      globalThis.giveUp = stop;
    }, null);
    // Nothing of it is read while three hundred others come and go.
    await small(300);
    const stopped = sent;
    // Windows, and the buffers of two sockets.
    expect(stopped).toBeLessThan(32 * MIB);
    await small(100);
    expect(sent).toBe(stopped);
    await page.run(() => {
      globalThis.giveUp.abort();
    }, null);
    await over.promise;
  });

  test(`${kind}: WebSockets`, async (context) => {
    const { page, server } = await openVisitor(context, kind, (_request, response) => {
      response.writeHead(404).end();
    });
    const sockets = new WebSocketServer({ server, handleProtocols: (offered) => offered.has("b") && "b" });
    sockets.on("connection", (socket) => {
      socket.on("message", (data: Buffer, binary) => {
        if (!binary && data.toString() === "close") socket.close(4001, "as you wish");
        else socket.send(data, { binary });
      });
    });
    onTestFinished(() => {
      for (const client of sockets.clients) client.terminate();
    });
    const found = await page.run(async () => {
      const socket = new http.WebSocket("/ws", ["a", "b"]);
      socket.binaryType = "arraybuffer";
      const next = (name: string): Promise<Event> =>
        new Promise((resolve) => {
          socket.addEventListener(name, resolve, { once: true });
        });
      await next("open");
      const echo = async (data: string | Uint8Array): Promise<unknown> => {
        const message = next("message");
        socket.send(data);
        return ((await message) as MessageEvent).data;
      };
      const text = await echo("grüße");
      const bytes = tab.random(1024 * 1024);
      const back = (await echo(bytes)) as ArrayBuffer;
      const same = (await tab.sha256(back)) === (await tab.sha256(bytes));
      const closed = next("close");
      socket.send("close");
      const { code, reason, wasClean } = (await closed) as CloseEvent;
      return { protocol: socket.protocol, text, same, close: [code, reason, wasClean] };
    }, null);
    expect(found).toEqual({
      protocol: "b",
      text: "grüße",
      same: true,
      close: [4001, "as you wish", true],
    });
  });
}

declare global {
  /** In a page. */
  var giveUp: AbortController;
}
