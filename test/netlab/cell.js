/** One cell of the grid: two real dcpipe processes in a lab meet, send each other some bytes, and part. */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { scratch, start } from "../lab/exec.js";
import { expectedEnd, sendsUdp } from "./expectations.js";
import { KINDS } from "./kinds.js";

const BIN = fileURLToPath(new URL("../../bin/dcpipe.js", import.meta.url));
const ENDPOINT = fileURLToPath(new URL("endpoint.js", import.meta.url));

/** Each side sends so many bytes at once; enough to tell them from the packets that keep paths open. */
const SIZE = 100_000;
/** The first burst goes as soon as there is a way, the second when the session has found its last one. */
const BURSTS = 2;
/** Both sides give up after so many seconds; what can connect is given more than it will ever need. */
const TIMEOUT_SECONDS = 60;
const HOPELESS_SECONDS = 15;
/** A session that stands on another way than theory says has so long to change over, ms. */
const CHANGE_MS = 15_000;
/** What is not over by then has hung, ms. */
const PATIENCE = 180_000;

/**
 * @typedef {"udp" | "tcp" | "tls"} Transport
 *
 * @typedef {object} Cell
 * @property {string} waiting kind of network of the side that waits
 * @property {string} joining
 * @property {import("./expectations.js").Means} means
 * @property {import("./expectations.js").Way} expected
 *
 * @typedef {object} Outcome
 * @property {string} first the way that dcpipe told of first, "none" if it never connected; of both sides, if they differ: "turn/direct"
 * @property {string} told the way that it told of last
 * @property {string} way the way that the second burst went: what the internet has seen
 * @property {(string | undefined)[]} remotes addresses that the other side's packets come from, as the waiting and the joining side say
 * @property {(number | string)[]} statuses exit statuses, or signals, of the waiting and the joining side
 * @property {(string | undefined)[]} errors codes of their errors
 * @property {number | undefined} seconds from the start of the joining side until both have the first byte of the other
 * @property {string[]} faults what is not as it should be; empty for a good cell
 * @property {string} said the last words of both
 */

/**
 * @param {import("./lab.js").Lab} lab
 * @param {Cell} cell
 * @param {{ waits?: "a" | "b", turn?: Transport, blockedTurn?: Transport }} [options] which host waits; how the TURN server is called, from where UDP gets out and from elsewhere
 * @returns {Promise<Outcome>}
 */
export async function runCell(
  lab,
  { waiting, joining, means, expected },
  { waits = "a", turn = "udp", blockedTurn = "tls" } = {},
) {
  const [here, there] = waits === "a" ? [lab.a, lab.b] : [lab.b, lab.a];
  const directory = mkdtempSync(join(scratch(), "cell-"));
  const patience = String(expected === "none" ? HOPELESS_SECONDS : TIMEOUT_SECONDS);
  const common = ["--json", "--no-lan", "--timeout", patience, "--stun", lab.stun];
  const files = ["--offer-file", join(directory, "offer"), "--answer-file", join(directory, "answer")];
  const meet = means === "code" ? ["--rendezvous", lab.rendezvous.https] : files;
  const launch = (host, kind, peer = []) => {
    const blocked = kind in KINDS && !sendsUdp(KINDS[kind]);
    const relay = means === "paste-turn" ? ["--turn", lab.turn[blocked ? blockedTurn : turn]] : [];
    const argv = [process.execPath, BIN, "pipe", ...common, ...meet, ...relay, ...peer];
    const task = { argv, env: host.env, size: SIZE, bursts: BURSTS };
    return start(host.namespace, [process.execPath, ENDPOINT, JSON.stringify(task)]);
  };
  const sides = [launch(here, waiting)];
  try {
    const ready = await sides[0].event(means === "code" ? "code" : "offer", PATIENCE);
    sides.push(launch(there, joining, means === "code" ? ["--to", ready.code] : []));
    const way = await exchange(lab, sides, expected);
    const overs = await Promise.all(sides.map((side) => side.event("over", PATIENCE)));
    return judge(sides, overs, way, expected);
  } catch (error) {
    return { ...observe(sides), way: "none", statuses: [], errors: [], faults: [firstLine(error.message)] };
  } finally {
    await Promise.all(sides.map((side) => side.kill()));
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Both bursts and the end. Resolves with the way that the second burst went. */
async function exchange(lab, sides, expected) {
  const over = Promise.race(sides.map((side) => side.event("over", PATIENCE))).then(() => true);
  const all = (wait) => Promise.race([over, Promise.all(sides.map(wait)).then(() => false)]);
  const received = (burst) =>
    all((side) =>
      side.line((line) => (line.includes(`"burst":${burst}`) ? true : undefined), PATIENCE, `burst ${burst}`),
    );
  const next = () => {
    for (const { pid } of sides) signal(pid);
  };
  if (await received(1)) return "none";
  const arrived = (side) =>
    side.line((line) => (pathOf(line) === expected ? true : undefined), CHANGE_MS, "its way");
  await all((side) => arrived(side).catch(() => {}));
  await lab.traffic();
  next();
  if (await received(2)) return "none";
  const bytes = await lab.traffic();
  next();
  const ways = Object.keys(bytes).filter((way) => bytes[way] >= SIZE / 2);
  // What does not leave a home is seen by nobody.
  return ways.join("+") || "direct";
}

/** The way that a "connected" or "path" event tells of. */
function pathOf(line) {
  const [, path] = /^\{"event":"(?:connected|path)","path":"(\w+)"/.exec(line) ?? [];
  return path;
}

function signal(pid) {
  try {
    process.kill(pid, "SIGUSR2");
  } catch {
    // Gone.
  }
}

function observe(sides) {
  const latest = (side, ...names) => names.map((name) => side.latest(name)).find((event) => event);
  const path = (...names) => joined(sides.map((side) => latest(side, ...names)?.path ?? "none"));
  const firsts = sides.map((side) => side.latest("first")?.at);
  const begun = sides[1]?.latest("started")?.at;
  return {
    first: path("connected"),
    told: path("path", "connected"),
    remotes: sides.map((side) => latest(side, "path", "connected")?.remote?.address),
    seconds: firsts.includes(undefined) || firsts.length < 2 ? undefined : Math.max(...firsts) - begun,
    said: sides.map((side, i) => `${i === 0 ? "waiting" : "joining"}:\n${side.said}`).join("\n"),
  };
}

/** @returns {Outcome} */
function judge(sides, overs, way, expected) {
  const observed = observe(sides);
  const end = expectedEnd(expected);
  const statuses = overs.map(({ status, signal }) => status ?? signal);
  const errors = sides.map((side) => side.latest("error")?.code);
  const [w, j] = overs;
  const faults = [];
  if (way !== expected) faults.push(`goes ${way} in place of ${expected}`);
  if (observed.told !== way) faults.push(`says ${observed.told} and goes ${way}`);
  if (statuses.some((status) => status !== end.status))
    faults.push(`status ${joined(statuses)} in place of ${end.status}`);
  if (errors.some((code) => !end.errors.includes(code))) faults.push(`error ${joined(errors)}`);
  if (end.status === 0 && !(w.sent === j.received && j.sent === w.received))
    faults.push("what arrived differs");
  return { ...observed, way, statuses, errors, faults };
}

/** The rest of it is what the sides said, which is told anyway. */
function firstLine(text) {
  return text.split("\n")[0];
}

/** What both have, or each. */
function joined([one, other]) {
  return String(one) === String(other) ? String(one) : `${one ?? "none"}/${other ?? "none"}`;
}
