/**
 * Two network namespaces joined by an emulated long path (wanem.c): delay, rate, queue and random loss.
 *
 *   a: wan0 10.77.1.1/24 ---- wanem ---- wan0 10.77.1.2/24 :b
 *
 * As a program, for trying things by hand (namespaces dcw-a and dcw-b):
 *
 *   node test/lab/wan.js up [RTT_MS MBIT LOSS_PCT [QUEUE_BYTES]]
 *   node test/lab/wan.js set RTT_MS MBIT LOSS_PCT [QUEUE_BYTES]
 *   node test/lab/wan.js cut | restore | stats | down
 *   ip netns exec dcw-a COMMAND
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createConnection } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { PREFIX, compile, createNamespaces, removeNamespace, run, scratch, undoOnExit } from "./exec.js";

const ADDRESS_A = "10.77.1.1";
const ADDRESS_B = "10.77.1.2";

/** Smallest queue in bytes, 20 packets: a shorter one drops packets at any burst, which no real router does. */
const MIN_QUEUE = 30_000;

const EMULATOR = fileURLToPath(new URL("wanem.c", import.meta.url));

let count = 0;

/**
 * @typedef {object} Path
 * @property {number} [rttMs] round-trip time, half of it each way
 * @property {number} [mbit] rate in Mbit/s of each direction; 0 for no limit
 * @property {number} [lossPct] random loss in percent, in each direction
 * @property {number} [queueBytes] drop-tail queue before the bottleneck; default one bandwidth-delay product
 */

/** @param {Path} [path] */
export async function createWan(path) {
  const names = { a: `${PREFIX}wan${++count}-a`, b: `${PREFIX}wan${count}-b` };
  const socket = join(scratch(), `wan-${count}.socket`);
  const undo = undoOnExit(() => {
    removeNamespace(names.a);
    removeNamespace(names.b); // The emulator lives in b, and ends with it.
  });
  try {
    await bringUp(names, socket, []);
    await set(socket, path);
  } catch (error) {
    undo();
    throw error;
  }
  return {
    /** Names of the two namespaces. */
    ...names,
    addressA: ADDRESS_A,
    addressB: ADDRESS_B,
    /** Another delay, rate or loss, from now on; the counters begin again. @param {Path} path */
    set: (path) => set(socket, path),
    /** Drops every packet in both directions, those under way included. The interfaces stay up. */
    cut: () => command(socket, "cut"),
    restore: () => command(socket, "restore"),
    /** Counters of both directions since the last `set`. */
    stats: () => command(socket, "stats"),
    /** Ends every process inside and removes the namespaces. */
    destroy: undo,
  };
}

async function bringUp({ a, b }, socket, emulatorOptions) {
  const emulator = await compile(EMULATOR);
  await createNamespaces(a, b);
  const stays = emulatorOptions.length > 0;
  // Our end of its standard input closes when we end, however we end, and then it ends too.
  const child = spawn(emulator, [a, b, socket, ...emulatorOptions], {
    stdio: [stays ? "ignore" : "pipe", "pipe", "inherit"],
    detached: true,
  });
  const [said] = await Promise.race([once(child.stdout, "data"), once(child, "exit")]);
  if (String(said).trim() !== "ready") throw new Error("the WAN emulator did not start");
  child.unref();
  child.stdout.destroy();
  child.stdin?.unref();
  for (const [name, address] of Object.entries({ [a]: ADDRESS_A, [b]: ADDRESS_B })) {
    await run("ip", "-n", name, "addr", "add", `${address}/24`, "dev", "wan0");
    // The only queue is to be the emulator's: the device's own must never be the one that drops.
    await run("ip", "-n", name, "link", "set", "wan0", "txqueuelen", "20000", "mtu", "1500", "up");
  }
}

/** @param {Path} [path] */
function set(socket, { rttMs = 20, mbit = 100, lossPct = 0, queueBytes } = {}) {
  const queue = queueBytes ?? Math.max(MIN_QUEUE, Math.round((rttMs / 1000) * ((mbit * 1e6) / 8)));
  return command(socket, `set ${rttMs / 2} ${lossPct} ${mbit} ${queue}`);
}

/** One command to the emulator, and its answer. */
async function command(socket, line) {
  const connection = createConnection(socket);
  connection.write(`${line}\n`);
  try {
    const [answer] = await once(createInterface(connection), "line");
    const { ok, ...rest } = JSON.parse(answer);
    if (!ok) throw new Error(`the WAN emulator did not understand: ${line}`);
    return rest;
  } finally {
    connection.destroy();
  }
}

/** Where the emulator of the command line listens: it outlives the command that starts it. */
const SOCKET = "/run/dcpipe-wan.socket";
const NAMES = { a: "dcw-a", b: "dcw-b" };

async function main([verb, ...numbers]) {
  const [rttMs, mbit, lossPct, queueBytes] = numbers.map(Number);
  const path = { rttMs, mbit, lossPct, queueBytes };
  switch (verb) {
    case "up":
      await bringUp(NAMES, SOCKET, ["stay"]);
      await set(SOCKET, path);
      console.log(`${NAMES.a} ${ADDRESS_A}\n${NAMES.b} ${ADDRESS_B}`);
      break;
    case "set":
      await set(SOCKET, path);
      break;
    case "cut":
    case "restore":
      await command(SOCKET, verb);
      break;
    case "stats":
      console.log(JSON.stringify(await command(SOCKET, "stats"), null, 2));
      break;
    case "down":
      await command(SOCKET, "quit").catch(() => {});
      removeNamespace(NAMES.a);
      removeNamespace(NAMES.b);
      break;
    default:
      console.error("usage: wan.js up|set RTT_MS MBIT LOSS_PCT [QUEUE_BYTES] | cut | restore | stats | down");
      process.exitCode = 2;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
