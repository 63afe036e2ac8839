/**
 * How much a rendezvous carries: the server on the first core, its visitors (visitors.js) and Redis on the others.
 *
 *   npm run bench -- --only rendezvous
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { scratch, start } from "../lab/exec.js";

const DCPIPE = fileURLToPath(new URL("../../bin/dcpipe.js", import.meta.url));
const VISITORS = fileURLToPath(new URL("visitors.js", import.meta.url));

/** A program must be ready within this time, ms. */
const PATIENCE = 20_000;
/** For all visitors of a run, ms. */
const RUN_PATIENCE = 300_000;
/** Clock ticks in a second, as /proc counts (sysconf(_SC_CLK_TCK)). */
const TICKS = 100;
/** What a run of introductions must reach: how many a second, and the delay of a body at half of that, ms. */
const RATE = 500;
const MAX_DELAY = 50;
/** Resident memory of a process with everybody waiting, MiB. */
const MAX_RSS = 600;
/** On the first core, or on all others; on a machine with one core all share it. */
function pinned(server, argv) {
  const cores = availableParallelism();
  if (cores < 2) return argv;
  return ["taskset", "-c", server ? "0" : `1-${cores - 1}`, ...argv];
}

async function startServer(store = "memory") {
  const argv = [
    process.execPath,
    DCPIPE,
    "rendezvous",
    "--listen",
    "127.0.0.1:0",
    "--json",
    "--store",
    store,
  ];
  const program = start(null, pinned(true, argv));
  const { port } = await program.event("listening", PATIENCE);
  return { program, url: `http://127.0.0.1:${port}` };
}

/** A Redis that keeps nothing, on a free port. */
async function startRedis() {
  const probe = createServer();
  await new Promise((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  const argv = ["redis-server", "--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--dir", scratch()];
  const program = start(null, pinned(false, argv));
  await program.line((line) => (line.includes("Ready to accept") ? true : undefined), PATIENCE, "Redis");
  return { program, url: `redis://127.0.0.1:${port}` };
}

function visit(...args) {
  return start(null, pinned(false, [process.execPath, VISITORS, ...args.map(String)]));
}

function residentMiB({ pid }) {
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib) / 1024;
}

/** User and system time so far, s. */
function cpuSeconds({ pid }) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

async function crowd(count, hold) {
  const server = await startServer();
  const visitors = visit("wait", server.url, count);
  try {
    const { seconds } = await visitors.event("waiting", RUN_PATIENCE);
    // Pings go out every 30 s; what they cost belongs to it.
    await sleep(hold * 1000);
    const rss = residentMiB(server.program);
    return {
      what: `${count} clients that wait at one process, its memory`,
      dcpipe: `${rss.toFixed(0)} MiB; they came in ${seconds.toFixed(1)} s`,
      reference: "",
      result: `${rss.toFixed(0)} MiB`,
      target: `<= ${MAX_RSS} MiB`,
      met: rss <= MAX_RSS,
    };
  } finally {
    await Promise.all([visitors.kill(), server.program.kill()]);
  }
}

/** One run of introductions over these servers. */
async function introductions(servers, rate, seconds) {
  const before = servers.map(({ program }) => cpuSeconds(program));
  const visitors = visit("introduce", servers[0].url, servers.at(-1).url, rate, seconds);
  try {
    const run = await visitors.event("introduced", RUN_PATIENCE);
    const cpu = servers.reduce((sum, { program }, i) => sum + cpuSeconds(program) - before[i], 0);
    return { ...run, cpu };
  } finally {
    await visitors.kill();
  }
}

function rateFigure(where, { started, results, lost, seconds, cpu }) {
  const { delivered = 0, ...others } = results;
  const refused = Object.entries(others).map(([reason, count]) => `, ${count} ended with ${reason}`);
  const done = delivered / seconds;
  return {
    what: `introductions over ${seconds.toFixed(0)} s, ${where}, on one core`,
    dcpipe:
      `${delivered} of ${started} delivered${refused.join("")}, ${lost} lost; ` +
      `${((cpu / started) * 1000).toFixed(2)} ms of CPU each`,
    reference: "",
    result: `${done.toFixed(0)} a second`,
    target: `>= ${RATE} a second, none lost`,
    // The last ones are begun when the time is up.
    met: lost === 0 && delivered === started && done >= RATE * 0.99,
  };
}

function delayFigure(where, rate, { relayed }) {
  const show = (ms) => ms.toFixed(1);
  return {
    what: `a relayed body at ${rate} introductions a second, ${where}, ms`,
    dcpipe: `median ${show(relayed.median)}, p99 ${show(relayed.p99)}, most ${show(relayed.max)}`,
    reference: "",
    result: `p99 ${show(relayed.p99)} ms`,
    target: `<= ${MAX_DELAY} ms`,
    met: relayed.p99 <= MAX_DELAY,
  };
}

async function rates(where, servers, seconds) {
  const full = await introductions(servers, RATE, seconds);
  const half = await introductions(servers, RATE / 2, seconds);
  return [rateFigure(where, full), delayFigure(where, RATE / 2, half)];
}

/** @returns {Promise<import("./page.js").Figure[]>} */
export async function measureRendezvous({ seconds, visitors, hold }) {
  const figures = [await crowd(visitors, hold)];
  const alone = await startServer();
  try {
    figures.push(...(await rates("one process", [alone], seconds)));
  } finally {
    await alone.program.kill();
  }
  const redis = await startRedis();
  const servers = [];
  try {
    servers.push(await startServer(redis.url), await startServer(redis.url));
    figures.push(...(await rates("two processes and Redis", servers, seconds)));
  } finally {
    await Promise.all(servers.map(({ program }) => program.kill()));
    await redis.program.kill();
  }
  return figures;
}
