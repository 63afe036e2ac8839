/**
 * Connections that begin and end in every way that TCP knows, with random data, through a `dcpipe forward` pair; and the same ones
 * through a plain proxy, which says how they look without us.
 *
 *   client --> joining dcpipe ~~~~~ waiting dcpipe --> server        and        client --> proxy --> server
 *
 * Client and server are ends of the same script, here: one does something, and where TCP says what the other sees of it, that is waited
 * for before the next thing happens. So both runs of a script must look the same from both ends.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { connect, createServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { start } from "./exec.js";

const BIN = fileURLToPath(new URL("../../bin/dcpipe.js", import.meta.url));
/** What takes longer has hung, ms. */
const PATIENCE = 20_000;
/** Between two looks at a process, ms. */
const LOOK_MS = 50;
/** A writer that wants to hear of a reset writes so often, ms. */
const NUDGE_MS = 10;
/** Which connection it is: the first bytes of each client. */
const NUMBER_SIZE = 4;
const MAX_CHUNK = 100_000;
/** Streams of a session without connections. */
const CONTROL_STREAMS = 1;
/** Connections before the file descriptors are counted: the lanes that heavy traffic asks for are there then. */
const WARM_UP = 20;

/** A small generator of random numbers in [0, 1) (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

// ---------------------------------------------------------------------------------------------------------------------
// Scripts

/**
 * What both ends do, in turn. `who` is one of the two, or "both" for at the same moment.
 *
 *   write   so many bytes            awaited: all of them at the other end
 *   blurt   the same                 not awaited
 *   end     FIN                      awaited: the other end sees it
 *   reset   RST                      awaited: the other end sees it
 *   abandon RST                      not awaited: Node takes one that comes with data, or after a FIN, for an end
 *   close   both directions at once, as a program that exits: FIN, and RST for what comes
 *   leave   the same                 not awaited
 *   nudge   writes until it hears of a reset
 *   rest    nothing, for a while
 *
 * @typedef {{ who: "client" | "server" | "both", what: string, size?: number, ms?: number }} Act
 */

/** The ends of a script, by how exactly TCP says what is seen of them: `loose` ones may lose data of the last moment. */
const ENDINGS = {
  "FIN by one, then data, then FIN by the other": (one, other, chance) => [
    { who: one, what: "end" },
    ...talk(chance, other),
    { who: other, what: "end" },
  ],
  "FIN by both at once, data before it": (one, other, chance) => [
    { who: one, what: "blurt", size: size(chance) },
    { who: other, what: "blurt", size: size(chance) },
    { who: "both", what: "end" },
  ],
  "RST by one": (one) => [{ who: one, what: "reset" }],
  "FIN by one, then data and RST by the other": (one, other, chance) => [
    { who: one, what: "end" },
    ...talk(chance, other),
    { who: other, what: "reset" },
  ],
  "FIN and then RST by one": (one, other) => [
    { who: one, what: "end" },
    { who: one, what: "abandon" },
    { who: other, what: "nudge" },
  ],
  "a program that exits, and the other one still has something to say": (one, other) => [
    { who: one, what: "close" },
    { who: other, what: "nudge" },
  ],
  "a program that exits in the middle of the other's data": (one, other, chance) => [
    { who: other, what: "blurt", size: 5 * size(chance) },
    { who: one, what: "leave" },
    { who: other, what: "nudge" },
  ],
  "a timeout, and then FIN by both": (one, other, chance) => [
    { who: one, what: "rest", ms: Math.floor(chance() * 400) },
    { who: one, what: "end" },
    { who: other, what: "end" },
  ],
  "a timeout, and then RST": (one, _, chance) => [
    { who: one, what: "rest", ms: Math.floor(chance() * 400) },
    { who: one, what: "reset" },
  ],
  "RST by both at once": () => [{ who: "both", what: "abandon" }],
  "RST by one in the middle of its data": (one, other, chance) => [
    { who: one, what: "blurt", size: 5 * size(chance) },
    { who: one, what: "abandon" },
    { who: other, what: "nudge" },
  ],
  "RST by one in the middle of the other's data": (one, other, chance) => [
    { who: other, what: "blurt", size: 5 * size(chance) },
    { who: one, what: "abandon" },
    { who: other, what: "nudge" },
  ],
};
const LOOSE = new Set([
  "RST by both at once",
  "RST by one in the middle of its data",
  "RST by one in the middle of the other's data",
  "a program that exits in the middle of the other's data",
]);

function size(chance) {
  return 1 + Math.floor(chance() ** 3 * MAX_CHUNK);
}

/** Some words of one of them, or of both by turns. */
function talk(chance, who) {
  const ends = ["client", "server"];
  return Array.from({ length: Math.floor(chance() * 4) }, () => ({
    who: who ?? ends[Math.floor(chance() * 2)],
    what: "write",
    size: size(chance),
  }));
}

/** The script of the connection with this number. @returns {{ ending: string, loose: boolean, acts: Act[] }} */
export function scriptOf(seed, number) {
  const chance = random(seed + 7919 * number);
  const endings = Object.keys(ENDINGS);
  const ending = endings[number % endings.length];
  const sides = chance() < 0.5 ? ["client", "server"] : ["server", "client"];
  const acts = [...talk(chance), ...ENDINGS[ending](...sides, chance)];
  return { ending: `${ending} (${sides[0]} first)`, loose: LOOSE.has(ending), acts };
}

// ---------------------------------------------------------------------------------------------------------------------
// Ends

/** One end of a connection, and what it sees. */
class End {
  sent = createHash("sha256");
  sentBytes = 0;
  received = 0;
  ended = false;
  closed = false;
  /** It heard of a reset, or of a broken pipe, which is how a writer hears of one. */
  wasReset = false;
  #hash = createHash("sha256");
  #listeners = new Set();
  #chance;

  constructor(socket, seed) {
    this.socket = socket;
    this.#chance = random(seed);
    socket.on("data", (chunk) => this.take(chunk));
    socket.on("end", () => {
      this.ended = true;
      this.#heard();
    });
    socket.on("error", (error) => {
      if (error.code !== "ECONNRESET" && error.code !== "EPIPE") this.strange = error.message;
      this.wasReset = true;
    });
    socket.on("close", () => {
      this.closed = true;
      this.#heard();
    });
  }

  take(chunk) {
    this.received += chunk.length;
    this.#hash.update(chunk);
    this.#heard();
  }

  /** Resolves when it is so; rejects when it takes too long. */
  until(what, holds) {
    return new Promise((resolve, reject) => {
      const settle = (then, value) => {
        clearTimeout(timer);
        this.#listeners.delete(look);
        then(value);
      };
      const look = () => holds() && settle(resolve);
      const timer = setTimeout(
        () => settle(reject, new Error(`no ${what} (${JSON.stringify(this.outcome())})`)),
        PATIENCE,
      );
      this.#listeners.add(look);
      look();
    });
  }

  write(length) {
    const chunk = Buffer.alloc(length);
    for (let at = 0; at < length; at++) chunk[at] = this.#chance() * 256;
    this.sent.update(chunk);
    this.sentBytes += length;
    this.socket.write(chunk);
  }

  async nudge() {
    while (!this.closed) {
      this.socket.write("x");
      await pause(NUDGE_MS);
    }
  }

  outcome() {
    const { received, ended, wasReset, closed, strange } = this;
    return {
      received,
      digest: this.#hash.copy().digest("hex").slice(0, 16),
      ended,
      wasReset,
      closed,
      strange,
    };
  }

  #heard() {
    for (const look of [...this.#listeners]) look();
  }
}

/** Resets it. While a FIN is on its way to the kernel libuv refuses to, and Node would leave the socket open for ever. */
function reset(socket) {
  if (socket.writableEnded && socket.writableLength === 0 && !socket.writableFinished)
    socket.once("finish", () => socket.resetAndDestroy());
  else socket.resetAndDestroy();
}

/** Acts the script; returns what both ends have seen when all is over. */
async function act(acts, ends) {
  const others = { client: ends.server, server: ends.client };
  const perform = async (end, other, { what, size, ms }) => {
    switch (what) {
      case "write":
        end.write(size);
        await other.until(`${end.sentBytes} bytes`, () => other.received >= end.sentBytes);
        break;
      case "blurt":
        end.write(size);
        break;
      case "end":
        end.socket.end();
        await other.until("end", () => other.ended || other.closed);
        break;
      case "reset":
        reset(end.socket);
        await other.until("reset", () => other.closed);
        break;
      case "abandon":
        reset(end.socket);
        break;
      case "leave":
        end.socket.destroy();
        break;
      case "close":
        end.socket.destroy();
        await other.until("end", () => other.ended || other.closed);
        break;
      case "nudge":
        await Promise.race([end.nudge(), end.until("reset", () => end.closed)]);
        break;
      case "rest":
        await pause(ms);
    }
  };
  for (const each of acts) {
    const names = each.who === "both" ? ["client", "server"] : [each.who];
    await Promise.all(names.map((name) => perform(ends[name], others[name], each)));
  }
  for (const end of Object.values(ends)) {
    end.socket.end();
    await end.until("close", () => end.closed);
  }
  return { client: ends.client.outcome(), server: ends.server.outcome() };
}

/** The server of all scripts: hands each connection to the one who asked for it by its number. */
class Stage {
  #awaited = new Map();
  #server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#greet(socket));

  async listen() {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return this.#server.address().port;
  }

  /** Plays a connection with the client at this port. */
  async play(port, seed, number, { acts }) {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
    const client = new End(socket, seed + 2 * number);
    const head = Buffer.alloc(NUMBER_SIZE);
    head.writeUInt32BE(number);
    const server = new Promise((resolve) => this.#awaited.set(number, resolve));
    socket.write(head);
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`nobody came to the server: ${JSON.stringify(client.outcome())}`)),
        PATIENCE,
      );
    });
    try {
      const [there, rest] = await Promise.race([server, late]);
      const ends = { client, server: new End(there, seed + 2 * number + 1) };
      if (rest.length > 0) ends.server.take(rest);
      there.resume();
      return await act(acts, ends);
    } finally {
      clearTimeout(timer);
      this.#awaited.delete(number);
      socket.destroy();
    }
  }

  close() {
    this.#server.close();
  }

  #greet(socket) {
    const early = () => {};
    socket.on("error", early);
    socket.on("readable", function read() {
      const head = socket.read(NUMBER_SIZE);
      if (!head) return;
      socket.off("readable", read);
      socket.off("error", early);
      const rest = socket.read() ?? Buffer.alloc(0);
      const take = stage.#awaited.get(head.readUInt32BE());
      if (take) take([socket, rest]);
      else socket.destroy();
    });
    const stage = this;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Ways from a client to the server

/** What a proxy makes of a connection when it does nothing but pass on. */
async function startProxy(target) {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (here) => {
    const there = connect({ port: target, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
    for (const [from, to] of [
      [here, there],
      [there, here],
    ]) {
      from.on("data", (chunk) => {
        if (to.write(chunk)) return;
        from.pause();
        to.once("drain", () => from.resume());
      });
      from.on("end", () => to.end());
      from.on("error", () => reset(to));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { port: server.address().port, close: () => server.close() };
}

/** Both sides of a forward, on loopback, and what is open in them. */
async function startForward(target) {
  const programs = [];
  const launch = (args) => {
    const side = new Side([process.execPath, BIN, "forward", "--json", "--no-stun", "--no-lan", ...args]);
    programs.push(side);
    return side;
  };
  try {
    const waiting = launch([`127.0.0.1:${target}`]);
    const { token } = await waiting.program.event("offer", PATIENCE);
    const joining = launch(["-L", `0:127.0.0.1:${target}`, "--to", token]);
    const { port } = await joining.program.event("listening", PATIENCE);
    await Promise.all(programs.map(({ program }) => program.event("connected", PATIENCE)));
    return {
      port,
      sides: { waiting, joining },
      close: () => Promise.all(programs.map(({ program }) => program.kill())),
    };
  } catch (error) {
    await Promise.all(programs.map(({ program }) => program.kill()));
    throw error;
  }
}

/** One process of a forward. */
class Side {
  opened = 0;
  closed = 0;
  status;
  trouble = [];

  constructor(argv) {
    this.program = start(null, argv);
    this.program
      .line(
        (line) => {
          const event = parse(line);
          if (event?.event === "opened") this.opened++;
          else if (event?.event === "closed") this.closed++;
          else if (event?.event === "status") this.status = event;
          else if (event?.event === "reconnecting" || event?.event === "error") this.trouble.push(line);
        },
        2 ** 31 - 1,
        "nothing",
      )
      .catch(() => {});
  }

  /** Resolves when its status says that nothing is open. */
  async idle() {
    const deadline = performance.now() + PATIENCE;
    for (;;) {
      const { connections, streams } = await this.#ask();
      if (connections.length === 0 && streams === CONTROL_STREAMS) return;
      if (performance.now() > deadline)
        throw new Error(`${connections.length} connections and ${streams} streams are open`);
      await pause(LOOK_MS);
    }
  }

  /** Its status as of now. */
  async #ask() {
    const deadline = performance.now() + PATIENCE;
    this.status = undefined;
    process.kill(this.program.pid, "SIGUSR1");
    while (!this.status) {
      if (performance.now() > deadline) throw new Error("no status");
      await pause(LOOK_MS);
    }
    return this.status;
  }

  /** File descriptors, without those of UDP: the lanes of a session come and go. */
  descriptors() {
    const { pid } = this.program;
    const udp = new Set();
    for (const name of ["udp", "udp6"]) {
      const path = `/proc/${pid}/net/${name}`;
      if (!existsSync(path)) continue;
      for (const line of readFileSync(path, "utf8").split("\n").slice(1))
        udp.add(line.trim().split(/\s+/)[9]);
    }
    let count = 0;
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      try {
        const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
        if (inode === undefined || !udp.has(inode)) count++;
      } catch {
        // Closed since.
      }
    }
    return count;
  }

  /** Resolves when there are no more file descriptors than that. */
  async releases(count) {
    const deadline = performance.now() + PATIENCE;
    while (this.descriptors() > count) {
      if (performance.now() > deadline)
        throw new Error(`${this.descriptors()} file descriptors are open in place of ${count}`);
      await pause(LOOK_MS);
    }
  }
}

function parse(line) {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

// ---------------------------------------------------------------------------------------------------------------------

/**
 * Plays so many connections both ways and compares.
 * @param {{ count: number, seed?: number, parallel?: number, onprogress?: (done: number, failures: number) => void }} options
 * @returns {Promise<{ summary: string, failures: string[] }>}
 */
export async function playConnections({ count, seed = Date.now() % 2 ** 31, parallel = 32, onprogress }) {
  const stage = new Stage();
  const target = await stage.listen();
  const proxy = await startProxy(target);
  const failures = [];
  const endings = new Map();
  const started = performance.now();
  let forward;
  let bytes = 0;
  let number = 0;
  let done = 0;
  const one = async (number) => {
    const script = scriptOf(seed, number);
    const fail = (text) => failures.push(`connection ${number} of seed ${seed}, ${script.ending}: ${text}`);
    try {
      const play = (port, way) =>
        stage.play(port, seed, number, script).catch((error) => {
          throw new Error(`through the ${way}: ${error.message}`, { cause: error });
        });
      const expected = await play(proxy.port, "proxy");
      const got = await play(forward.port, "forward");
      bytes += got.client.received + got.server.received;
      endings.set(script.ending, (endings.get(script.ending) ?? 0) + 1);
      const [a, b] = [expected, got].map((outcome) => JSON.stringify(script.loose ? ends(outcome) : outcome));
      if (a !== b) fail(`a proxy gives ${a}, the forward ${b}`);
    } catch (error) {
      fail(error.message);
    }
    done++;
    onprogress?.(done, failures.length);
  };
  const many = async (until) => {
    const worker = async () => {
      while (number < until) await one(number++);
    };
    await Promise.all(Array.from({ length: parallel }, worker));
  };
  try {
    forward = await startForward(target);
    const sides = Object.entries(forward.sides);
    await many(Math.min(WARM_UP, count));
    for (const [, side] of sides) await side.idle();
    const before = sides.map(([, side]) => side.descriptors());
    await many(count);
    for (const [i, [name, side]] of sides.entries()) {
      try {
        await side.idle();
        await side.releases(before[i]);
        if (side.opened !== side.closed) throw new Error(`${side.opened} opened, ${side.closed} closed`);
        if (side.trouble.length > 0) throw new Error(side.trouble.join("\n"));
      } catch (error) {
        failures.push(`the ${name} side at the end: ${error.message}\n${side.program.said}`);
      }
    }
  } catch (error) {
    failures.push(error.message);
  } finally {
    await forward?.close();
    proxy.close();
    stage.close();
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  return {
    summary:
      `connections: ${done - Math.min(done, failures.length)} of ${done} as through a proxy, ${endings.size} endings, ` +
      `${(bytes / 2 ** 20).toFixed(0)} MiB, ${seconds} s (seed ${seed})`,
    failures,
  };
}

/** Of data that was cut off in the middle only this is sure: all is over. */
function ends({ client, server }) {
  return [client, server].map(({ closed, strange }) => ({ closed, strange }));
}
