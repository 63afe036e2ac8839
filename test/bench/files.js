/** Sends trees between two namespaces of the lab, with dcpipe and in turns with it by other means, and measures each run. */
import { mkdirSync, rmSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { now, run, scratch, start } from "../lab/exec.js";
import { DCPIPE, START_PATIENCE, killing } from "./drive.js";
import { untilEnded } from "./rivals.js";
import { reasonOf } from "./shared.js";
import { compare, filesOf } from "./trees.js";

/** @typedef {import("./rivals.js").Tool} Tool */
/** @typedef {import("./rivals.js").Sending} Sending */

const CONGESTION = "cubic";
const COMMON = ["--json", "--no-stun", "--no-lan"];

/** How a tree is sent and taken: `verb`, then what belongs to it. */
const send = (path) => [...DCPIPE, "send", path, ...COMMON];
const receive = (token, directory) => [...DCPIPE, "receive", token, "-o", directory, "--yes", ...COMMON];
const pipe = (...token) => [...DCPIPE, "pipe", ...token, ...COMMON];

/**
 * Has every TCP connection between the two, and within each, use cubic, whatever this machine's default is. By their routes:
 * as its default a namespace can only have an algorithm that the whole machine allows to everybody.
 * @param {import("./drive.js").Net} net
 */
export async function useCubic({ a, b }) {
  const change = (name, ...route) =>
    run("ip", "-n", name, "route", "change", ...route, "congctl", CONGESTION);
  for (const name of [a, b]) {
    for (const { dst, dev, prefsrc } of JSON.parse(await run("ip", "-n", name, "-j", "route")))
      await change(name, dst, "dev", dev, "proto", "kernel", "scope", "link", "src", prefsrc);
    const loopback = ["local", "127.0.0.1", "dev", "lo", "table", "local", "proto", "kernel"];
    await change(name, ...loopback, "scope", "host", "src", "127.0.0.1");
  }
}

/**
 * `dcpipe send PATH` waits in a, `dcpipe receive TOKEN` joins in b; `usage` measures what both use.
 * @param {import("./drive.js").Net} net
 * @returns {Promise<Sending & { senderRss?: number, receiverRss?: number }>}
 */
export async function sendTree(net, source, target, limit, { usage = false } = {}) {
  return joined(
    () => start(net.a, send(source), { usage }),
    (token) => start(net.b, receive(token, target), { usage }),
    limit,
  );
}

/** The same file through `dcpipe pipe < FILE` and `dcpipe pipe TOKEN > FILE`. */
function pipeFile(net, source, target, limit) {
  const drain = ["sh", "-c", 'exec cat > "$0"', join(target, basename(source))];
  return joined(
    () => start(net.a, pipe(), { feed: ["cat", source], discard: true }),
    (token) => start(net.b, pipe(token), { drain }),
    limit,
  );
}

/** The clock runs from the start of the joining side, the other one waiting, until both have ended. */
async function joined(wait, join, limit) {
  const prepared = now();
  const waiting = wait();
  const { token } = await waiting.event("offer", limit * 1000 + START_PATIENCE).catch(killing(waiting));
  const begun = now();
  const joining = join(token);
  const sending = await untilEnded(begun, [joining, waiting], limit);
  const [senderRss, receiverRss] = [waiting, joining].map(
    async (program) => (await program.exited).usage?.rss,
  );
  return {
    ...sending,
    ready: begun - prepared,
    senderRss: await senderRss,
    receiverRss: await receiverRss,
  };
}

/** @param {import("./drive.js").Net} net @returns {Tool} */
export const dcpipe = (net) => ({ name: "dcpipe", send: (...args) => sendTree(net, ...args) });

/** @param {import("./drive.js").Net} net @returns {Tool} */
export const dcpipePipe = (net) => ({ name: "dcpipe pipe", send: (...args) => pipeFile(net, ...args) });

/** The directory below which everything arrives. */
export function makeTargets() {
  const targets = join(scratch(), "targets");
  mkdirSync(targets, { recursive: true });
  return targets;
}

let count = 0;

/**
 * Sends `source` with every tool in turn, `runs` times over. Each time what arrived is compared, outside of the clock. A tool
 * that fails once has no further turn.
 * @param {Tool[]} tools
 * @param {object} task
 * @param {string} task.source
 * @param {string} task.targets
 * @param {number} task.runs
 * @param {number} task.limit seconds after which a run is cut off
 * @param {(source: string, target: string) => void | Promise<void>} [task.put] what is at the receiver beforehand
 * @returns {Promise<Result[]>}
 *
 * @typedef {object} Result
 * @property {string} name
 * @property {Sending[]} sendings
 * @property {string} [failure] why there are no further ones
 */
export async function contest(tools, { source, targets, runs, limit, put }) {
  const results = tools.map(({ name, missing }) => ({ name, sendings: [], failure: missing }));
  for (let turn = 0; turn < runs; turn++) {
    for (const [i, result] of results.entries()) {
      if (result.failure !== undefined) continue;
      try {
        result.sendings.push(await sendOnce(tools[i], { source, targets, limit, put }));
      } catch (error) {
        process.stderr.write(`${result.name} failed: ${error.message}\n`);
        result.failure = reasonOf(error);
      }
    }
  }
  return results;
}

async function sendOnce(tool, { source, targets, limit, put }) {
  const target = join(targets, `run-${++count}`);
  mkdirSync(target);
  try {
    await put?.(source, target);
    await run("sync", "-f", targets); // What is to be written of the one must not slow down the other.
    const sending = await tool.send(source, target, limit);
    const arrived = join(target, basename(source));
    if (!sending.cut) compare(source, arrived);
    else if (!put) sending.note = `${countOf(arrived)} of ${filesOf(source).length} files there`;
    return sending;
  } finally {
    // A tree stays until the bench ends: ext4 looks for a free inode several times as long when there are many that were
    // freed in the last five minutes, and so each run would be slower for the removal of the one before.
    if (statSync(source).isFile()) rmSync(target, { recursive: true, force: true, maxRetries: 10 });
  }
}

/** How many files are there of a tree that was cut off. */
function countOf(path) {
  try {
    return filesOf(path).length;
  } catch {
    return 0;
  }
}
