/**
 * What happens to networks, while connections are forwarded: cables are pulled, addresses change, NATs boot, machines sleep. The
 * connections must not notice more than that it took a while.
 */
import { fileURLToPath } from "node:url";
import { setTimeout as pause } from "node:timers/promises";
import { start } from "./exec.js";
import { createHomes } from "./homes.js";
import { createVeth } from "./veth.js";

const BIN = fileURLToPath(new URL("../../bin/dcpipe.js", import.meta.url));
const TRAFFIC = fileURLToPath(new URL("traffic.js", import.meta.url));
const STUN = fileURLToPath(new URL("stun.js", import.meta.url));
/** What takes longer has hung, ms. A session that has lost its path is back within half a minute. */
const PATIENCE = 120_000;
/** Connections that move data, and bytes a second of each, both ways. */
const MOVERS = 8;
const RATE = 50_000;
/** Bytes that each connection has moved when the traffic counts as going on. */
const SOME = 2 * RATE;
const STUN_PORT = 3478;
/** The connection that is made when all is over. */
const LATE = "E0";

/** @typedef {(world: { network: object, waiting: Program, joining: Program }) => Promise<unknown>} Change */

/** The machine of the joining side is without its cable for so long. */
const down =
  (seconds) =>
  async ({ network }) => {
    await network.cut();
    await pause(seconds * 1000);
    await network.restore();
  };

/** A process stands still for so long: a machine that sleeps. */
const sleep = (who, seconds) => async (world) => {
  const { pid } = world[who];
  process.kill(pid, "SIGSTOP");
  await pause(seconds * 1000);
  process.kill(pid, "SIGCONT");
};

/** Where a rendezvous tells them where they are. @type {Record<string, Change>} */
export const CHANGES = {
  "the link is down for 5 s": down(5),
  "the link is down for 20 s": down(20),
  "the link is down for 60 s": down(60),
  "both machines get other addresses": ({ network }) => Promise.all([network.a.move(), network.b.move()]),
  "both NATs boot, with other ports": ({ network }) => Promise.all([network.a.reboot(), network.b.reboot()]),
  "both NATs boot and get each other's address": ({ network }) => network.swap(),
  "the waiting side sleeps for 30 s": sleep("waiting", 30),
  "the joining side sleeps for 30 s": sleep("joining", 30),
};

/** Where they met by pasting. @type {Record<string, Change>} */
export const PASTE_CHANGES = {
  "the link is down for 5 s": down(5),
  "the link is down for 20 s": down(20),
  "the waiting side sleeps for 30 s": sleep("waiting", 30),
  "the joining side sleeps for 30 s": sleep("joining", 30),
};

/** Two machines that meet by code, each behind a NAT. */
async function byCode(target, programs) {
  const homes = await createHomes();
  const dcpipe = (namespace, args) => launch(programs, namespace, [process.execPath, BIN, ...args]);
  try {
    const stun = launch(programs, homes.hub, [process.execPath, STUN, homes.address, String(STUN_PORT)]);
    await stun.line((line) => (line === "ready" ? true : undefined), PATIENCE, "the STUN server");
    const server = dcpipe(homes.hub, ["rendezvous", "--json", "--listen", `${homes.address}:0`]);
    const { port } = await server.event("listening", PATIENCE);
    const common = ["--json", "--no-lan", "--rendezvous", `http://${homes.address}:${port}/`];
    common.push("--stun", `stun:${homes.address}:${STUN_PORT}`);
    const there = await target(homes.b.namespace);
    const waiting = dcpipe(homes.b.namespace, ["forward", `127.0.0.1:${there}`, ...common]);
    const { code } = await waiting.event("code", PATIENCE);
    const joining = dcpipe(homes.a.namespace, [
      "forward",
      "-L",
      `0:127.0.0.1:${there}`,
      "--to",
      code,
      ...common,
    ]);
    const network = { ...homes, cut: () => homes.a.unplug(), restore: () => homes.a.plug() };
    return { network, waiting, joining, here: homes.a.namespace };
  } catch (error) {
    homes.destroy();
    throw error;
  }
}

/** Two machines and a cable; one paste. */
async function byToken(target, programs) {
  const veth = await createVeth();
  const dcpipe = (namespace, args) =>
    launch(programs, namespace, [
      process.execPath,
      BIN,
      "forward",
      "--json",
      "--no-stun",
      "--no-lan",
      ...args,
    ]);
  try {
    const there = await target(veth.b);
    const waiting = dcpipe(veth.b, [`127.0.0.1:${there}`]);
    const { token } = await waiting.event("offer", PATIENCE);
    const joining = dcpipe(veth.a, ["-L", `0:127.0.0.1:${there}`, "--to", token]);
    return { network: veth, waiting, joining, here: veth.a };
  } catch (error) {
    veth.destroy();
    throw error;
  }
}

function launch(programs, namespace, argv) {
  const program = start(namespace, argv);
  programs.push(program);
  return program;
}

/** Both ends of the traffic, and how far it is. */
class Traffic {
  over = { client: new Map(), server: new Map() };
  #progress = {};
  #slowestEcho = 0;
  #echoes = 0;

  watch(role, program) {
    program
      .line(
        (line) => {
          const event = parse(line);
          if (event?.event === "progress") this.#progress[role] = event.received;
          else if (event?.event === "over" && event.name !== LATE) this.over[role].set(event.name, event);
          else if (event?.event === "echo") {
            this.#echoes++;
            this.#slowestEcho = Math.max(this.#slowestEcho, event.ms);
          }
        },
        2 ** 31 - 1,
        "nothing",
      )
      .catch(() => {});
  }

  /** Milliseconds of the slowest echo since the last call. */
  slowestEcho() {
    const slowest = this.#slowestEcho;
    this.#slowestEcho = 0;
    return slowest;
  }

  /** Resolves when every connection has moved data both ways since now. Rejects when one is over, or nothing goes on. */
  async goesOn() {
    const before = structuredClone(this.#progress);
    const echoes = this.#echoes;
    const deadline = performance.now() + PATIENCE;
    for (;;) {
      for (const [role, over] of Object.entries(this.over))
        for (const end of over.values())
          throw new Error(`a connection is over (${role}): ${JSON.stringify(end)}`);
      const names = Array.from({ length: MOVERS }, (_, i) => `M${i}`);
      const moves = ["client", "server"].every((role) =>
        names.every((name) => (this.#progress[role]?.[name] ?? 0) >= (before[role]?.[name] ?? 0) + SOME),
      );
      if (moves && this.#echoes > echoes) return;
      if (performance.now() > deadline)
        throw new Error(`nothing goes on: ${JSON.stringify(before)} then ${JSON.stringify(this.#progress)}`);
      await pause(100);
    }
  }

  /** Compares what both ends have sent and received. */
  check() {
    const { client, server } = this.over;
    if (client.size !== MOVERS + 1 || server.size !== MOVERS + 1)
      throw new Error(`${client.size} and ${server.size} connections have ended in place of ${MOVERS + 1}`);
    for (const [name, here] of client) {
      const there = server.get(name);
      for (const [from, to, way] of [
        [here, there, "there"],
        [there, here, "back"],
      ])
        if (from.sentDigest !== to.receivedDigest || from.error || to.error)
          throw new Error(`${name}, ${way}: ${JSON.stringify(from)} and ${JSON.stringify(to)}`);
    }
    return [...client.values()].reduce((sum, { sent, received }) => sum + sent + received, 0);
  }
}

function parse(line) {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/**
 * Forwards connections while all these things happen, one after the other.
 * @param {{ by: "code" | "token", changes: string[], rounds?: number, onchange?: (text: string) => void }} options
 * @returns {Promise<string[]>} a line for each change
 */
export async function forwardThroughChanges({ by, changes, rounds = 1, onchange }) {
  const programs = [];
  const lines = [];
  const tell = (line) => {
    lines.push(line);
    onchange?.(line);
  };
  const traffic = new Traffic();
  const serve = async (namespace) => {
    const server = launch(programs, namespace, [process.execPath, TRAFFIC, "server"]);
    traffic.watch("server", server);
    return (await server.event("listening", PATIENCE)).port;
  };
  let world;
  try {
    world = await (by === "code" ? byCode : byToken)(serve, programs);
    const { joining, waiting, here } = world;
    const { port } = await joining.event("listening", PATIENCE);
    const { path } = await joining.event("connected", PATIENCE);
    const client = launch(programs, here, [
      process.execPath,
      TRAFFIC,
      "client",
      ...[port, MOVERS, RATE].map(String),
    ]);
    traffic.watch("client", client);
    await traffic.goesOn();
    tell(
      `${by}, ${path}: ${MOVERS} connections at ${RATE / 1000} KB/s both ways; echo ${traffic.slowestEcho()} ms`,
    );
    for (let round = 0; round < rounds; round++) {
      for (const name of changes) {
        const started = performance.now();
        await (by === "code" ? CHANGES : PASTE_CHANGES)[name](world);
        const changed = performance.now();
        await traffic.goesOn().catch((error) => {
          throw new Error(`${name}: ${error.message}\nwaiting: ${waiting.said}\njoining: ${joining.said}`, {
            cause: error,
          });
        });
        const [took, back] = [changed - started, performance.now() - changed].map((ms) =>
          (ms / 1000).toFixed(1),
        );
        tell(
          `${by}: ${name}: took ${took} s, all went on ${back} s later; an echo took ${seconds(traffic.slowestEcho())} s`,
        );
      }
    }
    // The port is still the one it was, and takes new connections.
    const again = launch(programs, here, [process.execPath, TRAFFIC, "client", String(port), "0", "0"]);
    await again.event("echo", PATIENCE);
    const events = [joining, waiting].map((side) => side.latest("error"));
    if (events.some(Boolean)) throw new Error(`an error: ${JSON.stringify(events)}`);
    await again.kill();
    process.kill(client.pid, "SIGUSR2");
    const { code, signal } = await client.exited;
    if (code !== 0) throw new Error(`the client ended with ${code ?? signal}:\n${client.said}`);
    await ended(traffic);
    tell(`${by}: ${(traffic.check() / 2 ** 20).toFixed(1)} MiB arrived as they were sent`);
    return lines;
  } finally {
    await Promise.all(programs.map((program) => program.kill()));
    world?.network.destroy();
  }
}

/** Resolves when the server has seen the end of all connections too. */
async function ended(traffic) {
  const deadline = performance.now() + PATIENCE;
  while (traffic.over.server.size < MOVERS + 1 && performance.now() < deadline) await pause(50);
}

function seconds(ms) {
  return (ms / 1000).toFixed(1);
}
