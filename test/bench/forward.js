/**
 * Three routes from a to the same servers in b: directly, through `ssh -L` and through `dcpipe forward`; and what each of them
 * is put through, once. Servers and clients are the same for all: origin.c, client.c, wrk and iperf3.
 */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { compile, run, start } from "../lab/exec.js";
import { DCPIPE, MIB, START_PATIENCE, killing } from "./drive.js";
import { find, listening, startSshd } from "./rivals.js";
import { reasonOf } from "./shared.js";

const local = (name) => fileURLToPath(new URL(name, import.meta.url));

/** The servers in b. `bulk` is iperf3's own, the others are kinds of origin.c. */
const PORTS = { http: 8080, once: 8081, echo: 7000, bulk: 5201 };
/** Where the two forwards listen in a: so much above. */
const SSH_OFFSET = 10_000;
const DCPIPE_OFFSET = 20_000;

/** A forward's own end is on loopback. */
const LOOPBACK = "127.0.0.1";

/** A measurement that takes so much longer than it should has failed, s. */
const GRACE = 20;
/** What bulk traffic has until echoes beside it count, s; it goes on for as long after them. */
const WARM_UP = 2;
/** After this idle connections are idle: what opening them took has been freed as far as it will be soon, s. */
const SETTLE = 3;

/**
 * @typedef {object} Route
 * @property {string} name
 * @property {string} [missing] why there is nothing to measure
 * @property {string} address where clients in a connect to
 * @property {typeof PORTS} ports
 * @property {() => Promise<number[]>} [pids] the process at either end of the forward
 *
 * @typedef {object} Result what became of one route
 * @property {string} name
 * @property {any[]} runs
 * @property {string} [failure] why there are no further ones
 */

/**
 * Starts the servers and both forwards. They end with the namespaces.
 * @param {import("./drive.js").Net} net
 * @returns {Promise<{ direct: Route, ssh: Route, dcpipe: Route }>}
 */
export async function openRoutes(net) {
  const origin = await compile(local("origin.c"));
  const { bulk, ...ports } = PORTS;
  const servers = start(net.b, [
    origin,
    ...Object.entries(ports).flatMap(([kind, port]) => [kind, `${port}`]),
  ]);
  await servers.event("ready", START_PATIENCE);
  return {
    direct: { name: "direct", address: net.addressB, ports: PORTS },
    ssh: await orMissing("ssh -L", () => openSsh(net)),
    dcpipe: await orMissing("dcpipe", () => openDcpipe(net)),
  };
}

async function orMissing(name, open) {
  try {
    return { name, ...(await open()) };
  } catch (error) {
    process.stderr.write(`${name} failed: ${error.message}\n`);
    return { name, missing: reasonOf(error) };
  }
}

const shifted = (offset) =>
  Object.fromEntries(Object.entries(PORTS).map(([kind, port]) => [kind, port + offset]));

/** -L options for all ports, as ssh and dcpipe both take them. */
const forwards = (offset) =>
  Object.values(PORTS).flatMap((port) => ["-L", `${port + offset}:localhost:${port}`]);

/** An AES in the processor makes this ssh's fastest cipher; its default, ChaCha20, would be a handicap. */
const CIPHER = ["-o", "Ciphers=aes128-gcm@openssh.com"];

async function openSsh(net) {
  const { sshd, options } = await startSshd(net);
  const alone = ["-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes"];
  const client = start(net.a, [
    ...["ssh", "-N", ...options, ...CIPHER, ...alone, ...forwards(SSH_OFFSET)],
    `root@${net.addressB}`,
  ]);
  await listening(net.a, PORTS.http + SSH_OFFSET, client);
  return {
    address: LOOPBACK,
    ports: shifted(SSH_OFFSET),
    pids: async () => {
      const inside = (await run("ip", "netns", "pids", net.b)).split("\n").filter(Boolean).map(Number);
      const servants = inside.filter((pid) => pid !== sshd.pid && nameOf(pid).startsWith("sshd"));
      return [client.pid, ...servants];
    },
  };
}

/** Not with --json: that reports every connection, which nobody has asked for and ssh does not do. */
async function openDcpipe(net) {
  const common = ["--no-stun", "--no-lan"];
  const targets = Object.values(PORTS).map(String);
  const waiting = start(net.b, [...DCPIPE, "forward", ...targets, ...common]);
  const token = await waiting
    .line((line) => /\bdc1[\w-]{40,}/.exec(line)?.[0], START_PATIENCE, "token")
    .catch(killing(waiting));
  const joining = start(net.a, [...DCPIPE, "forward", ...forwards(DCPIPE_OFFSET), ...common, token]);
  const connected = (program) =>
    program.line((line) => /^connected/i.test(line) || undefined, START_PATIENCE);
  await Promise.all([connected(joining), connected(waiting)]).catch(killing(joining, waiting));
  await listening(net.a, PORTS.bulk + DCPIPE_OFFSET, joining);
  return { address: LOOPBACK, ports: shifted(DCPIPE_OFFSET), pids: async () => [joining.pid, waiting.pid] };
}

function nameOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  } catch {
    return ""; // Gone.
  }
}

/**
 * Measures each route in turn, `runs` times over: A B C A B C. One that fails has no further turn.
 * @param {Route[]} routes
 * @param {number} runs
 * @param {(route: Route) => Promise<any>} measure
 * @returns {Promise<Result[]>}
 */
export async function inTurns(routes, runs, measure) {
  const results = routes.map(({ name, missing }) => ({ name, runs: [], failure: missing }));
  for (let turn = 0; turn < runs; turn++) {
    for (const [i, result] of results.entries()) {
      if (result.failure !== undefined) continue;
      try {
        result.runs.push(await measure(routes[i]));
      } catch (error) {
        process.stderr.write(`${result.name} failed: ${error.message}\n`);
        result.failure = reasonOf(error);
      }
    }
  }
  return results;
}

/** Runs a client in a to its end, which must come and be a good one. */
async function finish(client, seconds) {
  const limit = seconds + GRACE;
  const timer = new AbortController();
  const late = sleep(limit * 1000, undefined, { signal: timer.signal }).catch(() => {});
  const exit = await Promise.race([client.exited, late]);
  timer.abort();
  if (!exit) await killing(client)(new Error(`not done after ${limit} s:\n${client.said}`));
  if (exit.code !== 0) throw new Error(`ended with ${exit.signal ?? exit.code}:\n${client.said}`);
  return exit;
}

async function runClient(net, route, verb, kind, ...numbers) {
  const where = [route.address, String(route.ports[kind])];
  return start(net.a, [await compile(local("client.c")), verb, ...where, ...numbers.map(String)]);
}

/**
 * `connections` TCP streams from b to a at once.
 * @param {import("./drive.js").Net} net
 * @param {Route} route
 * @returns {Promise<number>} what all of them brought, MiB/s
 */
export async function measureRate(net, route, connections, seconds) {
  const server = start(net.b, ["iperf3", "-s", "-1", "--forceflush"]);
  try {
    await server.line((line) => line.includes("listening") || undefined, START_PATIENCE);
    const where = ["-c", route.address, "-p", String(route.ports.bulk)];
    const how = ["-R", "-P", String(connections), "-t", String(seconds), "-C", "cubic", "-J"];
    const client = start(net.a, ["iperf3", ...where, ...how]);
    const { stdout } = await finish(client, seconds);
    const { error, end } = JSON.parse(stdout);
    if (error) throw new Error(`iperf3: ${error}`);
    return end.sum_received.bits_per_second / 8 / MIB;
  } finally {
    await server.kill();
  }
}

const UNITS = { us: 1e-3, ms: 1, s: 1e3, m: 60e3 };

/** A figure of wrk's report, such as 812.00us, in ms. */
function milliseconds(report, pattern) {
  const [, number, unit] = pattern.exec(report) ?? [];
  if (number === undefined) throw new Error(`no ${pattern} in what wrk said:\n${report}`);
  return Number(number) * UNITS[unit];
}

/**
 * Requests over `connections` keep-alive connections, each with one under way.
 * @param {import("./drive.js").Net} net
 * @param {Route} route
 * @returns {Promise<{ rate: number, p50: number, p99: number, failed: number }>} requests a second, ms
 */
export async function measureRequests(net, route, connections, seconds) {
  const load = ["-t1", `-c${connections}`, `-d${seconds}s`, "--latency"];
  const url = `http://${route.address}:${route.ports.http}/`;
  const { stdout } = await finish(start(net.a, [find("wrk"), ...load, url]), seconds);
  const numbers = (pattern) => (pattern.exec(stdout)?.[1] ?? "").match(/\d+/g)?.map(Number) ?? [];
  const errors = numbers(/Socket errors: (.*)/);
  const wrong = numbers(/Non-2xx or 3xx responses: (.*)/);
  return {
    rate: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]),
    p50: milliseconds(stdout, /50%\s+([\d.]+)(us|ms|s|m)/),
    p99: milliseconds(stdout, /99%\s+([\d.]+)(us|ms|s|m)/),
    failed: [...errors, ...wrong].reduce((sum, count) => sum + count, 0),
  };
}

/**
 * Connections one after the other, `parallel` at a time: connect, one request, its answer, end.
 * @param {import("./drive.js").Net} net
 * @param {Route} route
 * @returns {Promise<{ rate: number, median: number, p99: number, failed: number }>} connections a second; ms from the call of
 *   connect to the first byte of the answer
 */
export async function measureOpenings(net, route, parallel, seconds) {
  const client = await runClient(net, route, "open", "once", parallel, seconds);
  await finish(client, seconds);
  return client.latest("open");
}

/**
 * Resident memory of a forward's processes before and while so many connections are open, of which nothing is heard.
 * @param {import("./drive.js").Net} net
 * @param {Route} route
 * @returns {Promise<{ before: number[], after: number[] }>} MiB: of the process in a, then of the one in b
 */
export async function measureIdle(net, route, connections) {
  const before = (await route.pids()).map(residentMemory);
  const client = await runClient(net, route, "hold", "echo", connections);
  try {
    const { count } = await client.event("held", GRACE * 1000);
    if (count !== connections) throw new Error(`${count} of ${connections} connections held`);
    await sleep(SETTLE * 1000);
    return { before, after: (await route.pids()).map(residentMemory) };
  } finally {
    await client.kill();
  }
}

/** What a process has in memory now, MiB. */
function residentMemory(pid) {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024;
}

/**
 * One byte there and back every 10 ms on a connection of its own.
 * @param {import("./drive.js").Net} net
 * @param {Route} route
 * @returns {Promise<{ median: number, p99: number }>} ms
 */
export async function measureEcho(net, route, seconds) {
  const client = await runClient(net, route, "ping", "echo", seconds);
  await finish(client, seconds);
  return client.latest("ping");
}

/**
 * The echo alone, and then beside so many connections at full speed.
 * @param {import("./drive.js").Net} net
 * @param {Route} route
 */
export async function measureEchoBesideBulk(net, route, connections, seconds) {
  const idle = await measureEcho(net, route, seconds);
  const bulk = measureRate(net, route, connections, WARM_UP + seconds + WARM_UP);
  bulk.catch(() => {}); // Awaited below.
  await sleep(WARM_UP * 1000);
  const loaded = await measureEcho(net, route, seconds);
  return { idle, loaded, bulk: await bulk };
}
