/** HTTP with a router that does not keep to it: each request ends by itself, not only when nobody waits any more. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { exchangeHttp, type HttpAnswer } from "../../src/node/mapping/http.ts";
import { UNSTOPPED } from "../../src/node/mapping/wait.ts";

const HOST = "127.0.0.1";

async function get(
  answer: (response: ServerResponse, request: IncomingMessage) => unknown,
  signal: AbortSignal = UNSTOPPED,
): Promise<HttpAnswer> {
  const server = createServer((request, response) => {
    answer(response, request);
  });
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = new URL(`http://${HOST}:${(server.address() as AddressInfo).port}/x?y=z`);
  return exchangeHttp({ url, local: HOST, method: "GET" }, { signal, holds: true });
}

test("an answer, whatever its status", async () => {
  let asked: string | undefined;
  const answer = await get((response, { url }) => {
    asked = url;
    response.writeHead(302, { location: `http://${HOST}:1/` }).end("öffnen");
  });
  expect(answer).toEqual({ status: 302, body: "öffnen" });
  expect(asked).toBe("/x?y=z");
});

const long = "x".repeat(16 * 1024);

test.each<[string, (response: ServerResponse) => unknown]>([
  ["another protocol", ({ socket }) => socket?.end("220 router FTP\r\n")],
  [
    "a change of protocol",
    ({ socket }) => socket?.write("HTTP/1.1 101 So\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
  ],
  ["endless headers", ({ socket }) => socket?.write(`HTTP/1.1 200 OK\r\nx: ${long}`)],
  ["no answer", ({ socket }) => socket?.end()],
  ["a reset", ({ socket }) => socket?.resetAndDestroy()],
  [
    "an answer that is cut off",
    (response) => {
      response.writeHead(200, { "content-length": "1000" });
      response.write("<root>", () => response.destroy());
    },
  ],
  [
    "an answer without an end",
    (response) => {
      const more = (): void => {
        while (!response.destroyed && response.write(long));
      };
      response.on("drain", more);
      more();
    },
  ],
  ["an answer that is too long", (response) => response.end("x".repeat(128 * 1024 + 1))],
])("%s", async (_, answer) => {
  await expect(get(answer)).rejects.toMatchObject({
    code: expect.stringMatching(/^(PROTOCOL|CONNECTION_RESET|IO)$/) as unknown,
  });
});

test("the longest answer", async () => {
  const { body } = await get((response) => response.end("x".repeat(128 * 1024)));
  expect(body.length).toBe(128 * 1024);
});

test("nobody waits any more", async () => {
  const stop = new AbortController();
  const answer = get(() => {
    stop.abort();
  }, stop.signal);
  await expect(answer).rejects.toMatchObject({ code: "TIMEOUT" });
});
