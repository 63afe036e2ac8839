/**
 * Visitors of a rendezvous, as many as it takes, at the lowest cost: WebSocket frames written by hand over plain sockets.
 *
 *   node test/bench/visitors.js wait URL COUNT                  so many wait at a nameplate each, until this process is ended
 *   node test/bench/visitors.js introduce URL URL RATE SECONDS  so many introductions a second; waiting sides at the first URL
 *
 * Prints one JSON line with an `event`: "waiting" when all wait, or "introduced" with what came of them and how long each relayed
 * body took. They come from many loopback addresses, so that the limits of one address hold.
 */
import { randomBytes } from "node:crypto";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { CLOSE, decodeServerMessage, encodeClientMessage } from "../../dist/wire/rendezvous.js";
import { toBase64url } from "../../dist/wire/bytes.js";
import { at } from "./statistics.js";

/** Sizes of the bodies of an introduction (section 8 of docs/protocol.md), with eight addresses in each SEALED. */
const HELLO = 65;
const ANSWER = 97;
const CONFIRM = 33;
const SEALED = 120;

/** Introductions are begun in slices of so many ms: smaller ones would only wake us up more often. */
const SLICE = 5;
/** An introduction that is not over so long after the last began is lost, ms. */
const PATIENCE = 15_000;
/** Connections that are being opened at a time, when a crowd gathers. */
const AT_ONCE = 100;

const ADDRESSES = 16_000;
let visitors = 0;

/** One WebSocket. Its messages go to `onmessage`; `onclose` gets the close code, 1006 when there was none, or a system error. */
class Visitor {
  onmessage;
  onclose;
  #socket;
  #rest = Buffer.alloc(0);
  #open = false;
  #code = 1006;

  constructor(url, ...first) {
    const { hostname, port } = new URL(url);
    const n = visitors++ % ADDRESSES;
    const localAddress = `127.9.${n >> 8}.${n & 255}`;
    this.#socket = connect({ host: hostname, port: Number(port), localAddress, noDelay: true });
    const offered = first.map((message) => `, dcpipe-first.${toBase64url(encodeClientMessage(message))}`);
    this.#socket.write(
      `GET / HTTP/1.1\r\nHost: ${hostname}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" +
        `Sec-WebSocket-Protocol: dcpipe-rendezvous.1${offered.join("")}\r\n\r\n`,
    );
    this.#socket.on("data", (chunk) => this.#read(chunk));
    this.#socket.on("error", ({ code }) => (this.#code = code));
    this.#socket.on("close", () => this.onclose?.(this.#code));
  }

  send(...messages) {
    this.#socket.write(Buffer.concat(messages.map((message) => frame(0x82, encodeClientMessage(message)))));
  }

  #read(chunk) {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    if (!this.#open) {
      const end = this.#rest.indexOf("\r\n\r\n");
      if (end < 0) return;
      if (!this.#rest.subarray(0, 12).equals(Buffer.from("HTTP/1.1 101"))) return void this.#socket.destroy();
      this.#open = true;
      this.#rest = this.#rest.subarray(end + 4);
    }
    // RFC 6455, section 5.2: the server's frames have no mask, and none of ours is longer than 65,535 bytes.
    while (this.#rest.length >= 2) {
      const short = this.#rest[1] & 0x7f;
      const head = short === 126 ? 4 : 2;
      if (this.#rest.length < head) return;
      const length = short === 126 ? this.#rest.readUInt16BE(2) : short;
      if (this.#rest.length < head + length) return;
      const opcode = this.#rest[0] & 0x0f;
      const payload = this.#rest.subarray(head, head + length);
      this.#rest = this.#rest.subarray(head + length);
      if (opcode === 2) this.onmessage?.(decodeServerMessage(new Uint8Array(payload)));
      else if (opcode === 9) this.#socket.write(frame(0x8a, payload));
      else if (opcode === 8) {
        this.#code = payload.readUInt16BE(0);
        this.#socket.end(frame(0x88, payload));
      }
    }
  }
}

/** A client's frame; its mask is all zeros, which the server applies like any other. */
function frame(first, payload) {
  const short = payload.length < 126;
  const head = Buffer.alloc(short ? 6 : 8);
  head[0] = first;
  head[1] = 0x80 | (short ? payload.length : 126);
  if (!short) head.writeUInt16BE(payload.length, 2);
  return Buffer.concat([head, payload]);
}

const newKey = () => new Uint8Array(randomBytes(16));

async function gather(url, count) {
  const crowd = [];
  const arrive = async () => {
    while (crowd.length < count) {
      const visitor = new Visitor(url, { type: "ALLOCATE", key: newKey(), nameplate: 0 });
      crowd.push(visitor);
      await new Promise((resolve, reject) => {
        visitor.onmessage = ({ type }) => type === "ATTACHED" && resolve();
        visitor.onclose = (code) => reject(new Error(`one that waits was closed with ${code}`));
      });
    }
  };
  const begun = performance.now();
  await Promise.all(Array.from({ length: AT_ONCE }, arrive));
  console.log(JSON.stringify({ event: "waiting", count, seconds: (performance.now() - begun) / 1000 }));
}

/** When each relayed body was sent, to the one when it came: ms. */
const delays = [];

/** One introduction as two dcpipes do it. Resolves with "delivered", or with the close code that ended it. */
function introduce(waitingUrl, joiningUrl) {
  return new Promise((resolve) => {
    const sent = { waiting: [], joining: [] };
    const heard = { waiting: 0, joining: 0 };
    const closed = {};
    const sides = {};
    const body = (side, size) => {
      sent[side].push(performance.now());
      return { type: "POST", index: sent[side].length - 1, body: new Uint8Array(size) };
    };
    const over = (side, code) => {
      closed[side] = code;
      if (closed.waiting === undefined || (sides.joining && closed.joining === undefined)) return;
      const good = heard.waiting === 4 && heard.joining === 3;
      const codes = Object.values(closed);
      const bad = codes.find((each) => each !== CLOSE.RELEASED);
      resolve(bad ?? (good ? "delivered" : "incomplete"));
    };
    const open = (side, url, ...first) => {
      const visitor = new Visitor(url, ...first);
      visitor.onclose = (code) => over(side, code);
      sides[side] = visitor;
      return visitor;
    };
    const hear = (side, from, index) => {
      // The first travels in the request that opens the connection.
      if (side === "joining" || index > 0) delays.push(performance.now() - sent[from][index]);
      heard[side]++;
    };
    const waiting = open("waiting", waitingUrl, { type: "ALLOCATE", key: newKey(), nameplate: 0 });
    waiting.onmessage = (message) => {
      if (message.type === "ALLOCATED") join(message.nameplate);
      if (message.type !== "MESSAGE") return;
      hear("waiting", "joining", message.index);
      if (heard.waiting === 1) waiting.send(body("waiting", ANSWER), body("waiting", SEALED));
      else if (heard.waiting === 3) waiting.send(body("waiting", SEALED));
      else if (heard.waiting === 4) finish();
    };
    const join = (nameplate) => {
      const claim = { type: "CLAIM", key: newKey(), nameplate };
      const joining = open("joining", joiningUrl, claim, body("joining", HELLO));
      joining.onmessage = (message) => {
        if (message.type !== "MESSAGE") return;
        hear("joining", "waiting", message.index);
        if (heard.joining === 1) joining.send(body("joining", CONFIRM), body("joining", SEALED));
        else if (heard.joining === 2) joining.send(body("joining", SEALED));
        else if (heard.joining === 3) finish();
      };
    };
    const finish = () => {
      if (heard.waiting === 4 && heard.joining === 3) waiting.send({ type: "RELEASE", outcome: "direct" });
    };
  });
}

async function load(waitingUrl, joiningUrl, rate, seconds) {
  const results = new Map();
  const running = new Set();
  const times = [];
  const begun = performance.now();
  let started = 0;
  while (performance.now() - begun < seconds * 1000) {
    const due = Math.floor(((performance.now() - begun) / 1000) * rate);
    for (; started < due; started++) {
      const start = performance.now();
      const one = introduce(waitingUrl, joiningUrl).then((result) => {
        running.delete(one);
        times.push(performance.now() - start);
        results.set(result, (results.get(result) ?? 0) + 1);
      });
      running.add(one);
    }
    await sleep(SLICE);
  }
  const ended = performance.now();
  await Promise.race([Promise.all(running), sleep(PATIENCE, undefined, { ref: false })]);
  const share = (values) => ({ median: at(values, 0.5), p99: at(values, 0.99), max: at(values, 1) });
  console.log(
    JSON.stringify({
      event: "introduced",
      started,
      lost: running.size,
      results: Object.fromEntries(results),
      seconds: (ended - begun) / 1000,
      tail: (performance.now() - ended) / 1000,
      relayed: share(delays),
      whole: share(times),
      cpu: (process.cpuUsage().user + process.cpuUsage().system) / 1e6,
    }),
  );
  process.exit(0);
}

const [mode, ...args] = process.argv.slice(2);
if (mode === "wait") await gather(args[0], Number(args[1]));
else await load(args[0], args[1], Number(args[2]), Number(args[3]));
