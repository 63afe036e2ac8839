/**
 * Machines that move while bytes flow: two dcpipe processes in a lab, a pipe between them that is written to all the time, and things
 * that happen to their networks. What comes out is compared with what went in, and it is measured how long nothing came.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { undoOnExit } from "../lab/exec.js";
import { createLab } from "./lab.js";

const BIN = fileURLToPath(new URL("../../bin/dcpipe.js", import.meta.url));
/** Written every so many milliseconds, bytes. */
const TICK_MS = 20;
const PIECE = 4000;
/** Nothing came for so long: something has happened to the path, ms. */
const GAP_MS = 500;
/** Bytes that must come before the next thing happens, and after the last. */
const SOME = 100 * PIECE;
/** What takes longer has hung, ms. */
const PATIENCE = 120_000;

/** What may happen to a machine, or to the router in front of it. @type {Record<string, (host: any) => Promise<unknown>>} */
export const EVENTS = {
  "gets another address": (host) => host.move(),
  "gets a better interface": (host) => host.addInterface(),
  "is unplugged for 3 s": (host) => unplug(host, 3000),
  "is unplugged for 8 s": (host) => unplug(host, 8000),
  "sees its NAT boot": (host) => host.routers[0].reboot(),
};

async function unplug(host, milliseconds) {
  await host.unplug();
  await pause(milliseconds);
  await host.plug();
}

/** A dcpipe in the lab, its events, and what comes out of it. */
class Side {
  events = [];
  bytes = 0;
  /** The longest time without a byte since the last call of `fresh`, ms. */
  gap = 0;
  hash = createHash("sha256");
  #last = performance.now();
  #waiters = new Set();

  constructor(host, args) {
    this.child = spawn("ip", ["netns", "exec", host.namespace, process.execPath, BIN, ...args], {
      env: { ...process.env, ...host.env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.child.stdin.on("error", () => {});
    this.undo = undoOnExit(() => this.child.kill("SIGKILL"));
    this.exited = new Promise((resolve) => {
      this.child.on("close", (code, signal) => {
        this.undo();
        this.over = true;
        resolve(code ?? signal);
        this.#wake();
      });
    });
    this.child.stdout.on("data", (chunk) => {
      const now = performance.now();
      if (this.bytes > 0) this.gap = Math.max(this.gap, now - this.#last);
      this.#last = now;
      this.bytes += chunk.length;
      this.hash.update(chunk);
      this.#wake();
    });
    createInterface(this.child.stderr).on("line", (line) => {
      this.events.push({ at: performance.now(), ...(line.startsWith("{") ? JSON.parse(line) : { line }) });
      this.#wake();
    });
  }

  fresh() {
    this.gap = 0;
    this.#last = performance.now();
  }

  /** How long nothing has come. */
  get still() {
    return performance.now() - this.#last;
  }

  /** Resolves when `holds` does. @param {() => unknown} holds */
  async until(holds, what) {
    const started = performance.now();
    while (!holds()) {
      if (this.over) throw new Error(`it ended, and ${what} is awaited\n${this.said}`);
      if (performance.now() - started > PATIENCE) throw new Error(`hangs: ${what} is awaited\n${this.said}`);
      await Promise.race([
        new Promise((resolve) => this.#waiters.add(resolve)),
        pause(1000, undefined, { ref: true }),
      ]);
    }
  }

  async event(name) {
    const find = () => this.events.find(({ event }) => event === name);
    await this.until(find, name);
    return find();
  }

  /** Milliseconds from `start` to the first event of that name after it, undefined when there was none. */
  after(start, ...names) {
    const found = this.events.find(({ event, at }) => at >= start && names.includes(event));
    return found && Math.round(found.at - start);
  }

  get said() {
    return this.events
      .filter(({ event }) => event !== "progress")
      .slice(-40)
      .map((event) => JSON.stringify(event))
      .join("\n");
  }

  #wake() {
    for (const resolve of this.#waiters) resolve();
    this.#waiters.clear();
  }
}

/**
 * @typedef {object} Moved
 * @property {string} what
 * @property {number} gap the longest time for which nothing arrived on either side, ms
 * @property {number | undefined} noticed until the first side said that it reconnects, ms; undefined where the path held
 * @property {string} path how they are connected afterwards
 */

/**
 * @param {{ kinds: [string, string], by: "code" | "token", moves: ["a" | "b", string][], args?: string[] }} options what happens, in
 * this order: names of EVENTS
 * @returns {Promise<Moved[]>} fails when a byte is lost, or the pipe ends
 */
export async function roam({ kinds, by, moves, args = [] }) {
  const lab = await createLab(...kinds);
  const common = ["--json", "-v", "--no-lan", "--stun", lab.stun, ...args];
  common.push(...(by === "code" ? ["--rendezvous", lab.rendezvous.https] : ["--no-rendezvous"]));
  const sides = [new Side(lab.a, ["pipe", ...common])];
  try {
    const [waiting] = sides;
    const first = await waiting.event(by === "code" ? "code" : "offer");
    sides.push(new Side(lab.b, ["pipe", first.code ?? first.token, ...common]));
    await Promise.all(sides.map((side) => side.event("connected")));
    const [stop, sent] = sides.map(feed).reduce(
      ([stops, hashes], { stop, hash }) => [
        [...stops, stop],
        [...hashes, hash],
      ],
      [[], []],
    );
    await grows(sides);
    const moved = [];
    for (const [who, what] of moves) {
      for (const side of sides) side.fresh();
      const start = performance.now();
      await EVENTS[what](lab[who]);
      await grows(sides);
      const noticed = sides.map((side) => side.after(start, "reconnecting")).filter((ms) => ms !== undefined);
      const path = sides.map(({ events }) => events.findLast((event) => event.path)?.path);
      moved.push({
        what: `${who} ${what}`,
        gap: Math.round(Math.max(...sides.map(({ gap }) => gap))),
        noticed: noticed.length > 0 ? Math.min(...noticed) : undefined,
        path: path[0] === path[1] ? path[0] : path.join("/"),
      });
    }
    for (const each of stop) each();
    const statuses = await Promise.all(
      sides.map(async (side) => {
        await side
          .until(() => side.over, "the end")
          .catch((error) => {
            if (!side.over) throw error;
          });
        return side.exited;
      }),
    );
    const faults = sides.flatMap((side, i) => [
      ...(statuses[i] === 0 ? [] : [`status ${statuses[i]}\n${side.said}`]),
      ...(side.hash.digest("hex") === sent[1 - i].digest("hex") ? [] : ["other bytes than were sent"]),
    ]);
    if (faults.length > 0) throw new Error(faults.join("\n"));
    return moved;
  } finally {
    for (const { child } of sides) child.kill("SIGKILL");
    await lab.close();
  }
}

/** Both have received more, and go on receiving: what comes first may have been on its way before. */
async function grows(sides) {
  for (const round of [1, 2])
    await Promise.all(
      sides.map((side) => {
        const before = side.bytes;
        return side.until(() => side.bytes - before > SOME / 2 && side.still < GAP_MS, `more data, ${round}`);
      }),
    );
}

/** Writes all the time. Returns how to stop, and the hash of all that was written. */
function feed({ child: { stdin } }) {
  const hash = createHash("sha256");
  let number = 0;
  const timer = setInterval(() => {
    if (stdin.writableNeedDrain) return;
    const piece = Buffer.alloc(PIECE, `${number++} `);
    hash.update(piece);
    stdin.write(piece);
  }, TICK_MS);
  return {
    hash,
    stop: () => {
      clearInterval(timer);
      stdin.end();
    },
  };
}
