/** WebSockets of a site behind a session, and what developers use them for. */
import { readFileSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createServer as createVite } from "vite";
import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocketServer, type WebSocket as ServerSocket } from "ws";
import { temporaryDirectory } from "../e2e/dcpipe.ts";
import { KINDS } from "./harness.ts";
import { document, openForward, openSite, page, text } from "./sites.ts";

describe.each(KINDS)("%s", (kind) => {
  test("WebSockets: text, binary, protocols, close codes, cookies; the interface of the standard", async (context) => {
    const closed: [number, string][] = [];
    const opened: Record<string, unknown>[] = [];
    const server = new WebSocketServer({
      noServer: true,
      handleProtocols: (offered) => (offered.has("two") ? "two" : false),
    });
    onTestFinished(() => {
      server.close();
    });
    server.on("connection", (socket: ServerSocket) => {
      socket.on("message", (data, isBinary) => {
        if (!isBinary && (data as Buffer).toString() === "bye") socket.close(4001, "see you");
        else socket.send(data as Buffer, { binary: isBinary });
      });
      socket.on("close", (code, reason) => closed.push([code, reason.toString()]));
    });
    const visit = await openSite(
      context,
      kind,
      {
        "/": (_, response) => {
          response.writeHead(200, {
            "content-type": "text/html; charset=utf-8",
            "set-cookie": "s=1; HttpOnly",
          });
          response.end(
            document(async () => {
              await fetch("/ready");
              const socket = new WebSocket("/socket?q=1", ["one", "two"]);
              const next = (type: string): Promise<Event> =>
                new Promise((resolve) => {
                  socket.addEventListener(type, resolve, { once: true });
                });
              const states = [
                socket.readyState,
                WebSocket.CONNECTING,
                socket.CLOSED,
                socket instanceof WebSocket,
              ];
              let early = "";
              try {
                socket.send("too early");
              } catch (error) {
                early = (error as DOMException).name;
              }
              let handled = 0;
              socket.onopen = () => handled++;
              await next("open");
              const facts = [
                socket.readyState,
                socket.protocol,
                socket.extensions,
                new URL(socket.url).pathname,
                handled,
                early,
              ];
              socket.send("hällo");
              const echo = (await next("message")) as MessageEvent<string>;
              socket.send(new Uint8Array([1, 2, 3]).subarray(1));
              const blob = (await next("message")) as MessageEvent<Blob>;
              socket.binaryType = "arraybuffer";
              socket.send(new Blob(["xyz"]));
              const buffer = (await next("message")) as MessageEvent<ArrayBuffer>;
              socket.send(new ArrayBuffer(3 * 1024 * 1024));
              const pending = socket.bufferedAmount;
              const large = (await next("message")) as MessageEvent<ArrayBuffer>;
              while (socket.bufferedAmount > 0) await new Promise((resolve) => setTimeout(resolve, 10));
              socket.send("bye");
              const close = (await next("close")) as CloseEvent;
              await tell("first", {
                states,
                facts,
                echo: [echo.data, echo.origin === location.origin.replace("http", "ws")],
                blob: [blob.data instanceof Blob, ...new Uint8Array(await blob.data.arrayBuffer())],
                buffer: buffer.data.byteLength,
                large: [pending >= 3 * 1024 * 1024, large.data.byteLength],
                close: [close.code, close.reason, close.wasClean, socket.readyState],
              });
              // By the TARGET's own name, as pages with a setting for it do.
              const own = (await (await fetch("/own")).text()).trim();
              const second = new WebSocket(`ws://${own}/socket`);
              await new Promise((resolve) => (second.onopen = resolve));
              second.close(3999, "enough");
              await new Promise((resolve) => (second.onclose = resolve));
              const refused = new WebSocket("/refused");
              const error = await new Promise<CloseEvent>((resolve) => (refused.onclose = resolve));
              const wrong = [
                () => new WebSocket("/socket", ["a", "a"]),
                () => new WebSocket("ftp://localhost/"),
                () => new WebSocket("/socket#part"),
                () => {
                  refused.close(1001);
                },
              ].map((attempt) => {
                try {
                  attempt();
                  return "";
                } catch (cause) {
                  return (cause as DOMException).name;
                }
              });
              await tell("second", { refused: [error.code, error.wasClean], wrong });
              const last = new WebSocket("/socket");
              last.onopen = () => {
                location.href = "/gone";
              };
            }),
          );
        },
        "/own": (request, response) => response.end(request.headers.host),
        "/ready": text("text/plain", ""),
        "/gone": page(() => tell("gone")),
      },
      { expected: [/WebSocket|The connection to|interrupted/] },
    );
    visit.site.on("upgrade", (request, stream, head) => {
      opened.push(request.headers);
      if (request.url === "/refused") stream.end("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n");
      else
        server.handleUpgrade(request, stream, head, (socket) => {
          server.emit("connection", socket, request);
        });
    });
    expect(await visit.told("first")).toEqual({
      states: [0, 0, 3, true],
      facts: [1, "two", "", "/socket", 1, "InvalidStateError"],
      echo: ["hällo", true],
      blob: [true, 2, 3],
      buffer: 3,
      large: [true, 3 * 1024 * 1024],
      close: [4001, "see you", true, 3],
    });
    expect(await visit.told("second")).toEqual({
      refused: [1006, false],
      wrong: ["SyntaxError", "SyntaxError", "SyntaxError", "InvalidAccessError"],
    });
    await visit.told("gone");
    // A page that goes closes what it had.
    await expect.poll(() => closed.length).toBe(3);
    expect(closed.slice(0, 2)).toEqual([
      [4001, ""],
      [3999, "enough"],
    ]);
    expect(opened[0]).toMatchObject({ origin: `http://${visit.host}`, host: visit.host, cookie: "s=1" });
  });

  test("a Vite dev server: modules, and a change that comes without a reload", async (context) => {
    const root = realpathSync(temporaryDirectory());
    const write = (name: string, content: string): void => {
      writeFileSync(join(root, name), content);
    };
    write(
      "index.html",
      `<!doctype html><html><head><link rel="icon" href="data:,"></head><body><p></p><script type="module" src="/main.ts"></script></body></html>`,
    );
    write("package.json", "{}");
    write(
      "main.ts",
      `import { text } from "./text.ts";
       import "./style.css";
       const p = document.querySelector("p")!;
       (globalThis as any).loads = ((globalThis as any).loads ?? 0) + 1;
       p.textContent = text;
       import.meta.hot?.accept("./text.ts", (now) => { p.textContent = now!.text; });`,
    );
    write("text.ts", `export const text: string = "before";`);
    write("style.css", "p { color: rgb(1, 2, 3); }");
    const vite = await createVite({
      root,
      configFile: false,
      logLevel: "silent",
      cacheDir: join(root, ".vite"),
      server: { host: "localhost", port: 0 },
    });
    onTestFinished(() => vite.close());
    await vite.listen();
    const { port } = vite.httpServer?.address() as { port: number };
    const complaints: string[] = [];
    const { tab } = await openForward(context, kind, port, complaints);
    const inner = (): string =>
      tab.frames().find((url) => /^http:\/\/site\.[\da-f]+\.localhost:\d+\/$/.test(url)) ?? "none";
    const shown = (): Promise<unknown> =>
      tab
        .evaluateIn(
          inner(),
          () => {
            const p = globalThis.document.querySelector("p") as HTMLElement;
            return [
              p.textContent,
              getComputedStyle(p).color,
              (globalThis as unknown as { kept: unknown }).kept ?? null,
            ];
          },
          undefined,
        )
        .catch(() => null);
    await expect.poll(shown, { timeout: 60_000 }).toEqual(["before", "rgb(1, 2, 3)", null]);
    await tab.evaluateIn(
      inner(),
      () => ((globalThis as unknown as { kept: boolean }).kept = true),
      undefined,
    );
    // The client is there when its socket is: a change before that would be lost.
    await expect.poll(() => vite.ws.clients.size, { timeout: 60_000 }).toBe(1);
    write("text.ts", `export const text: string = "after";`);
    write("style.css", "p { color: rgb(4, 5, 6); }");
    await expect.poll(shown, { timeout: 60_000 }).toEqual(["after", "rgb(4, 5, 6)", true]);
    expect(readFileSync(join(root, "text.ts"), "utf8")).toContain("after");
  });
});
