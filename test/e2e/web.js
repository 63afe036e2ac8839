/**
 * A web server and its visitor, each for a machine of its own: a page, a WebSocket, server-sent events.
 *
 *   node web.js serve PORT      says "ready" when it listens on 127.0.0.1
 *   node web.js visit PORT      prints what it saw as one JSON object
 */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { WebSocket, WebSocketServer } from "ws";

const EVENTS = 20;
const PAGE = 2_000_000;
/** WebSocket messages, from less than a packet to more than a window. */
const SIZES = [0, 1, 125, 126, 1200, 65_535, 65_536, 1_000_000];

const [verb, port] = process.argv.slice(2);
await (verb === "serve" ? serve(Number(port)) : visit(Number(port)));

async function serve(listening) {
  const page = randomBytes(PAGE);
  let stream;
  let sent = 0;
  // Each event is asked for when the one before has come: held back until the end, none would come at all.
  const next = () => {
    if (sent === EVENTS) stream.end();
    else stream.write(`id: ${++sent}\ndata: event ${sent}\n\n`);
  };
  const server = createServer((request, response) => {
    switch (request.url) {
      case "/events":
        stream = response.writeHead(200, { "content-type": "text/event-stream" });
        next();
        break;
      case "/next":
        next();
        response.end();
        break;
      default:
        response.writeHead(200, { digest: sha256(page) }).end(page);
    }
  });
  new WebSocketServer({ server }).on("connection", (socket) => {
    socket.on("message", (data, isBinary) => {
      if (!isBinary && data.toString() === "close") socket.close(4001, "enough");
      else socket.send(data, { binary: isBinary });
    });
  });
  server.listen(listening, "127.0.0.1");
  await once(server, "listening");
  console.log("ready");
}

async function visit(at) {
  const origin = `http://127.0.0.1:${at}`;
  const pages = await Promise.all(Array.from({ length: 8 }, () => fetchPage(`${origin}/page`)));
  const seen = { pages, events: await watchEvents(origin), webSocket: await talk(`ws://127.0.0.1:${at}/`) };
  console.log(JSON.stringify(seen));
}

async function fetchPage(url) {
  const response = await fetch(url);
  const body = Buffer.from(await response.arrayBuffer());
  return response.headers.get("digest") === sha256(body) && body.length === PAGE;
}

async function watchEvents(origin) {
  const events = [];
  const response = await fetch(`${origin}/events`);
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    for (const [, data] of chunk.matchAll(/^data: (.*)$/gm)) {
      events.push(data);
      await fetch(`${origin}/next`, { method: "POST" });
    }
  }
  return events;
}

async function talk(url) {
  const socket = new WebSocket(url);
  await once(socket, "open");
  const echoes = [];
  for (const size of SIZES) {
    const data = randomBytes(size);
    socket.send(data);
    const [answer] = await once(socket, "message");
    echoes.push(data.equals(answer));
  }
  socket.ping("are you there");
  const [pong] = await once(socket, "pong");
  socket.send("close");
  const [code, reason] = await once(socket, "close");
  return { echoes, pong: pong.toString(), code, reason: reason.toString() };
}

function sha256(bytes) {
  return createHash("sha256").update(bytes).digest("hex");
}
