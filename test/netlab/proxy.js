/**
 * An HTTP proxy as companies have it: CONNECT to port 443, and nothing else.
 *
 *   node test/netlab/proxy.js ADDRESS PORT      says "ready", and then a line for each request: "allowed HOST:PORT", "refused HOST:PORT"
 */
import { createServer } from "node:http";
import { connect } from "node:net";
import { join } from "./join.js";

const ALLOWED_PORT = "443";

const [address, port] = process.argv.slice(2);
const server = createServer((request, response) => {
  console.log(`refused ${request.url}`);
  response.writeHead(405, { allow: "CONNECT" }).end();
});
server.on("connect", ({ url = "" }, client) => {
  const [, host, to] = /^\[?([^\]]+?)\]?:(\d+)$/.exec(url) ?? [];
  client.on("error", () => {});
  if (to !== ALLOWED_PORT) {
    console.log(`refused ${url}`);
    client.end("HTTP/1.1 403 Forbidden\r\n\r\n");
    return;
  }
  console.log(`allowed ${url}`);
  const upstream = connect(Number(to), host);
  upstream.once("connect", () => {
    client.write("HTTP/1.1 200 Connection established\r\n\r\n");
    join(client, upstream);
  });
  upstream.on("error", () => client.end("HTTP/1.1 502 Bad Gateway\r\n\r\n"));
});
server.listen(Number(port), address, () => console.log("ready"));
