/**
 * Transfers of a tree that are killed again and again, and gone on with: both commands are given once more, with a fresh
 * offer, until an undisturbed run ends it. What goes over the wire is counted by the kernel, headers and all.
 */
import { randomInt } from "node:crypto";
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  readdirSync,
  rmSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { run, start } from "./exec.js";
import { compareTrees, makeTree } from "./tree.js";
import { createVeth } from "./veth.js";

const BIN = fileURLToPath(new URL("../../bin/dcpipe.js", import.meta.url));
const MIB = 1024 * 1024;
/** What takes longer has hung, ms. */
const PATIENCE = 120_000;
/** A side that nobody comes to gives up after this, s. */
const TIMEOUT = 15;
/** What may be sent in all: this much of the tree, and so much for each kill. */
const ALLOWED = { share: 1.1, kill: MIB };
/** How often the wire is looked at for the moment of a kill, ms. */
const LOOK_MS = 15;
const PART = /^(.+)\.\d+(?:-\d+)?\.dcpipe-part$/s;

/** Trees of 20 to 60 MB, each with something else that can be lost. */
export const SHAPES = {
  /** Two files that are gone on with in their middle. */
  large: () => ({ small: 10, large: [20_000_000, 20_000_000] }),
  /** Each is lost whole or not at all. */
  small: () => ({ small: 2000, smallSize: 24_000, large: [] }),
  /** As large as files may be that are kept in memory until they are whole. */
  medium: () => ({ small: 20, large: Array.from({ length: 600 }, () => 30_000 + randomInt(35_000)) }),
  mixed: () => ({
    small: 300,
    large: [
      randomInt(30_000_000),
      9_000_000,
      6_000_000,
      ...Array.from({ length: 30 }, () => randomInt(600_000)),
    ],
  }),
};

/**
 * @typedef {object} Round
 * @property {keyof typeof SHAPES} shape
 * @property {number} kills
 * @property {number} [limit] MiB a second; as fast as it goes without
 * @property {boolean} [compress]
 * @property {boolean} [confined] the receiver has no right to pass over file permissions
 *
 * @typedef {object} Kill
 * @property {"sender" | "receiver"} victim
 * @property {number} after ms since both commands were there
 * @property {boolean} met the other side had connected
 * @property {number} status of the other side
 * @property {number} noticed ms until the other side had ended
 * @property {number} wasted bytes on the wire that brought the receiver nothing it still has: packets, names and greetings
 *   included, but not the headers of what it has. Without compression only.
 */

/**
 * Makes a tree, has it sent and killed, and compares it in the end. Throws when anything is not as it should be; when it is only
 * that too much was sent, the error has the figures as `told`.
 * @param {string} room a directory
 * @param {Round} round
 */
export async function killAndResume(room, round) {
  const tree = join(room, "tree");
  const target = join(room, "target");
  const bytes = makeTree(tree, SHAPES[round.shape]());
  const veth = await createVeth();
  const state = { round, veth, tree, target, bytes };
  /** @type {Kill[]} */
  const kills = [];
  try {
    state.whole = await measure({ ...state, target: join(room, "measured") });
    const before = await transmitted(veth);
    let wire = before;
    let has = 0;
    // One that was done before its moment came is nobody's failure, but then there is little left to disturb.
    for (let tries = 0; kills.length < round.kills && tries < round.kills + 3; tries++) {
      const kill = await disturb(state, has);
      const [now, arrived] = [await transmitted(veth), held(tree, target)];
      if (kill) {
        const needed = (state.whole.wire * (arrived - has)) / bytes;
        kills.push({ ...kill, wasted: now - wire - needed });
      }
      [wire, has] = [now, arrived];
    }
    const last = await begin(state);
    for (const side of last) await expectStatus(side, 0, "the last run");
    compare(tree, target);
    wire = (await transmitted(veth)) - before;
    const allowed = ALLOWED.share * bytes + ALLOWED.kill * kills.length;
    const told = { bytes, wire, whole: state.whole, kills };
    if (wire > allowed) {
      const text = `${describe(round, told)}: more than ${mib(allowed)} MiB\n${list(kills)}`;
      throw Object.assign(new Error(text), { told });
    }
    return told;
  } catch (error) {
    error.message = `${describeRound(round)}, after ${kills.length} kills:\n${error.message}`;
    throw error;
  } finally {
    veth.destroy();
  }
}

/** A line about a round. */
export function describe(round, { bytes, wire, whole, kills }) {
  return (
    `${describeRound(round)}: ${mib(bytes)} MiB, ${kills.length} kills, ${mib(wire)} MiB on the wire, ` +
    `${(wire / bytes).toFixed(3)}x (undisturbed ${(whole.wire / bytes).toFixed(3)}x)`
  );
}

/** What kills cost, by who died and how fast it went. */
export function summarize(told) {
  const groups = new Map();
  let noticed = 0;
  const ends = new Map();
  for (const { round, kills } of told) {
    for (const kill of kills) {
      noticed = Math.max(noticed, kill.noticed);
      const end = `${kill.met ? "met" : "never met"}: status ${kill.status}`;
      ends.set(end, (ends.get(end) ?? 0) + 1);
      if (round.compress) continue;
      for (const name of [
        `${round.limit ? "limited" : "full speed"}, ${kill.victim} killed`,
        `${round.limit ? "limited" : "full speed"}, ${round.shape}`,
      ])
        groups.set(name, [...(groups.get(name) ?? []), kill.wasted]);
    }
  }
  const lines = [...groups].sort().map(([name, wasted]) => {
    const sorted = wasted.toSorted((a, b) => a - b);
    const at = (share) => mib(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);
    return `  ${name.padEnd(30)} ${String(sorted.length).padStart(4)} kills: median ${at(0.5)}, 90% ${at(0.9)}, most ${at(1)} MiB`;
  });
  return [
    "wasted by a kill, without compression:",
    ...lines,
    `the survivors: ${[...ends].map(([end, count]) => `${end}: ${count} times`).join("; ")}; ended within ${(noticed / 1000).toFixed(1)} s`,
  ].join("\n");
}

// ---------------------------------------------------------------------------------------------------------------------

/** An undisturbed transfer: how long it takes, and what it puts on the wire. */
async function measure(state) {
  const before = await transmitted(state.veth);
  // At full speed, whatever the round's is: what is limited takes a time that is known.
  const sides = await begin({ ...state, round: { ...state.round, limit: undefined } });
  const started = performance.now();
  await sides[1].program.event("connected", PATIENCE);
  const connected = performance.now() - started;
  for (const side of sides) await expectStatus(side, 0, "an undisturbed run");
  const took = performance.now() - started;
  compare(state.tree, state.target);
  rmSync(state.target, { recursive: true });
  return { wire: (await transmitted(state.veth)) - before, connected, took };
}

/** Starts both commands, with a fresh offer; either side may be the one that waits. */
async function begin({ round, veth, tree, target }, options = []) {
  const confine = round.confined ? ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] : [];
  const limit = round.limit ? ["--limit", `${round.limit}M`] : [];
  const sides = [
    {
      who: "sender",
      namespace: veth.a,
      args: ["send", tree, "--compress", round.compress ? "auto" : "off", ...limit],
      before: [],
    },
    { who: "receiver", namespace: veth.b, args: ["receive", "-o", `${target}/`], before: confine },
  ];
  if (randomInt(2)) sides.reverse();
  let token;
  for (const side of sides) {
    const [verb, ...args] = side.args;
    const common = ["--no-stun", "--no-rendezvous", "--json", ...options];
    const to = token === undefined ? [] : ["--to", token];
    const argv = [...side.before, process.execPath, BIN, verb, ...common, ...args, ...to];
    side.program = start(side.namespace, argv);
    // Asked for at once: what is said later drives it out of what is kept.
    side.met = side.program.event("connected", PATIENCE).then(
      () => true,
      () => false,
    );
    token ??= (await side.program.event("offer", PATIENCE)).token;
  }
  return sides;
}

/** One run in which a side is killed. Undefined when it was done before. */
async function disturb(state, has) {
  const { veth, tree, target } = state;
  const sides = await begin(state, ["--reconnect", "1", "--timeout", String(TIMEOUT)]);
  const started = performance.now();
  const done = Promise.all(sides.map(({ program }) => program.exited)).then(() => "done");
  if ((await Promise.race([moment(state, has), done])) === "done") {
    for (const side of sides) await expectStatus(side, 0, "a run that nothing disturbed");
    return undefined;
  }
  if (randomInt(2)) sides.reverse();
  const [victim, survivor] = sides;
  // It may be gone by itself, just before the other.
  kill(victim.program.pid);
  const killed = performance.now();
  const after = killed - started;
  const fell = await end(victim);
  const what = `${victim.who} killed after ${after.toFixed(0)} ms, of ${(veth && estimate(state, has)).toFixed(0)}`;
  if (fell.signal === null && fell.code !== 0)
    throw new Error(`${what}: it had ended with ${fell.code}\n${victim.program.said}`);
  const { code } = await end(survivor, what);
  const noticed = performance.now() - killed;
  const met = await survivor.met;
  if (code === 0) compare(tree, target, `${what}, and the other side ended with 0`);
  else if (code !== (met ? 6 : 3))
    throw new Error(
      `${what}: status ${code} of the ${survivor.who}, which had ${met ? "" : "not "}met\n${survivor.program.said}`,
    );
  if (code === 6 && survivor.program.latest("error")?.code !== "PEER_GONE")
    throw new Error(`${what}: another error than PEER_GONE\n${survivor.program.said}`);
  return { victim: victim.who, after, met, status: code, noticed };
}

/** How long a run with so much there already takes, ms. */
function estimate({ round, bytes, whole }, has) {
  const content = round.limit ? (bytes / round.limit / MIB) * 1000 : whole.took - whole.connected;
  return whole.connected + content * (1 - has / bytes) + 200;
}

/** Resolves at a random moment of a run: of its time, or of what is to be sent. */
async function moment(state, has) {
  const { veth, whole, bytes } = state;
  const time = estimate(state, has);
  if (randomInt(2)) {
    await new Promise((resolve) => setTimeout(resolve, Math.random() * time));
    return "now";
  }
  const from = await transmitted(veth);
  const share = Math.random() * whole.wire * (1 - has / bytes);
  const patience = performance.now() + 3 * time;
  while ((await transmitted(veth)) - from < share && performance.now() < patience)
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  return "now";
}

/** Bytes that the sender's interface has transmitted. */
async function transmitted(veth) {
  const [link] = JSON.parse(await run("ip", "-n", veth.a, "-s", "-j", "link", "show", "eth0"));
  return link.stats64.tx.bytes;
}

/** Content bytes of the tree that the receiver has on disk, under their names or as partial files. */
function held(tree, target) {
  if (!existsSync(target)) return 0;
  let bytes = 0;
  const best = new Map();
  for (const entry of readdirSync(target, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const base = PART.exec(entry.name)?.[1];
    const name = join(entry.parentPath, base ?? entry.name);
    // The target holds the tree under its own name.
    const source = join(dirname(tree), name.slice(target.length));
    if (base === undefined) {
      bytes += lstatSync(path).size;
    } else if (!existsSync(name) && existsSync(source)) {
      if (!begins(source, path)) throw new Error(`${entry.name} is not how its file begins`);
      best.set(name, Math.max(best.get(name) ?? 0, lstatSync(path).size));
    }
  }
  for (const size of best.values()) bytes += size;
  return bytes;
}

/** Whether a file begins with the content of the other. */
function begins(file, other) {
  const fds = [openSync(file), openSync(other)];
  const [a, b] = [Buffer.alloc(MIB), Buffer.alloc(MIB)];
  try {
    for (let at = 0; ;) {
      const length = readSync(fds[1], b, 0, MIB, at);
      if (length === 0) return true;
      if (readSync(fds[0], a, 0, length, at) !== length) return false;
      if (!a.subarray(0, length).equals(b.subarray(0, length))) return false;
      at += length;
    }
  } finally {
    fds.forEach((fd) => closeSync(fd));
  }
}

/** Throws when anything differs, or is there that was not sent: a partial file, say. */
function compare(tree, target, what = "in the end") {
  const beside = readdirSync(target).filter((name) => name !== basename(tree));
  const lines = [
    ...beside.map((name) => `${name} beside it`),
    ...compareTrees(tree, join(target, basename(tree))),
  ];
  if (lines.length === 0) return;
  throw new Error(`${what}, the trees differ:\n${lines.slice(0, 10).join("\n")}\n(${lines.length} lines)`);
}

async function expectStatus(side, status, what) {
  const { code, signal } = await end(side, what);
  if (code !== status)
    throw new Error(`${what}: status ${code ?? signal} of the ${side.who}\n${side.program.said}`);
}

/** The exit of a side; throws when it hangs. */
async function end({ who, program }, what = "") {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: the ${who} hangs:\n${program.said}`)), PATIENCE);
  });
  try {
    return await Promise.race([program.exited, late]);
  } finally {
    clearTimeout(timer);
  }
}

function kill(pid) {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone.
  }
}

function describeRound({ shape, limit, compress, confined }) {
  return [
    shape,
    limit ? `${limit} MiB/s` : "full speed",
    compress ? "compressed" : "not compressed",
    ...(confined ? ["confined"] : []),
  ].join(", ");
}

function list(kills) {
  return kills
    .map(
      ({ victim, after, status, wasted }) =>
        `  ${victim} after ${after.toFixed(0)} ms: status ${status}, ${mib(wasted)} MiB wasted`,
    )
    .join("\n");
}

const mib = (bytes) => (bytes / MIB).toFixed(2);
