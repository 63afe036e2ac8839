/**
 * npm run soak -- [--transfers 1000] [--kills 200] [--resumes 200] [--guesses 10000] [--connections 10000] [--seed N]
 *                 [--cuts] [--changes] [--roaming N] [--grid [--repeat 1]] [--parallel 8]
 *
 * What the tests do a few times, done often: transfers in which the sender leaves as soon as it may, sides killed at random
 * moments, trees whose transfer is killed again and again and gone on with (--resumes counts the kills; needs root), wrong
 * guesses at codes of clients that wait, forwarded connections that end in every way (compared with a plain proxy), links cut in
 * mid-transfer (--cuts; needs root), networks that change under forwarded connections (--changes; needs root), machines that
 * move or whose NATs boot while a pipe is in use (--roaming counts the moves; needs root), and every pair of networks by every means
 * (--grid, --repeat times each; needs root). 0 leaves one out. Prints a summary; the status is 1 when anything failed.
 */
import { createHash, randomBytes, randomInt } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { CHANGES, PASTE_CHANGES, forwardThroughChanges } from "../lab/changes.js";
import { playConnections } from "../lab/connections.js";
import { scratch, start } from "../lab/exec.js";
import { attack, startRendezvous } from "../lab/guesses.js";
import { SHAPES, describe, killAndResume, summarize } from "../lab/resumes.js";
import { createVeth } from "../lab/veth.js";
import { runGrid } from "../netlab/grid.js";
import { EVENTS, roam } from "../netlab/roaming.js";

const BIN = fileURLToPath(new URL("../../bin/dcpipe.js", import.meta.url));
const KIB = 1024;
const MIB = 1024 * KIB;
/** Sizes at which something changes: a packet, a frame, a read, and their neighbours. */
const EDGES = [
  0,
  1,
  1099,
  1100,
  1101,
  64 * KIB - 1,
  64 * KIB,
  64 * KIB + 1,
  256 * KIB - 1,
  256 * KIB,
  256 * KIB + 1,
];
const MAX_SIZE = 8 * MIB;
/** No single thing takes longer, ms: what does has hung. */
const PATIENCE = 180_000;

const { values: options } = parseArgs({
  options: {
    transfers: { type: "string", default: "1000" },
    kills: { type: "string", default: "200" },
    resumes: { type: "string", default: "200" },
    guesses: { type: "string", default: "10000" },
    connections: { type: "string", default: "10000" },
    seed: { type: "string" },
    cuts: { type: "boolean", default: false },
    changes: { type: "boolean", default: false },
    roaming: { type: "string", default: "0" },
    grid: { type: "boolean", default: false },
    repeat: { type: "string", default: "1" },
    parallel: { type: "string", default: "8" },
  },
});

let directories = 0;

/** A directory of its own for one run; returns it and a way to be rid of it. */
function directory() {
  const path = join(scratch(), `run-${++directories}`);
  mkdirSync(path);
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Starts dcpipe, in a namespace or here. */
function dcpipe(namespace, [verb, ...args], programOptions) {
  return start(namespace, [process.execPath, BIN, verb, "--no-stun", "--json", ...args], programOptions);
}

/** Starts a waiting and, with its offer, a joining side. */
async function pair(waitingArgs, joiningArgs, { namespaces = [null, null], feeds = [] } = {}) {
  const waiting = dcpipe(namespaces[0], waitingArgs, { feed: feeds[0] });
  const { token } = await waiting.event("offer", PATIENCE);
  return [waiting, dcpipe(namespaces[1], [...joiningArgs, "--to", token], { feed: feeds[1] })];
}

/** The exit of a program; fails when it hangs. */
async function end(program) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`hangs:\n${program.said}`)), PATIENCE);
  });
  try {
    return await Promise.race([program.exited, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function expectStatus(program, status, what) {
  const exit = await end(program);
  if (exit.code !== status)
    throw new Error(`${what}: status ${exit.code ?? exit.signal} in place of ${status}\n${program.said}`);
}

function sameFiles(one, other) {
  const digest = (path) => createHash("sha256").update(readFileSync(path)).digest("hex");
  if (digest(one) !== digest(other))
    throw new Error(`what arrived differs: ${readFileSync(other).length} bytes`);
}

/** Runs `body` so many times, some at once, and tells how it went. */
async function repeat(name, count, parallel, body) {
  const failures = [];
  const started = performance.now();
  let next = 0;
  let done = 0;
  const worker = async () => {
    while (next < count) {
      const number = ++next;
      const room = directory();
      const programs = [];
      try {
        await body(room.path, programs, number);
      } catch (error) {
        failures.push(`${name} ${number}: ${error.message}`);
        console.log(failures.at(-1));
      } finally {
        await Promise.all(programs.map((program) => program.kill()));
        room.remove();
      }
      if (++done % 100 === 0) console.log(`${name}: ${done} of ${count}, ${failures.length} failed`);
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  return { summary: `${name}: ${count - failures.length} of ${count} good, ${seconds} s`, failures };
}

// ---------------------------------------------------------------------------------------------------------------------

let bytes = 0;

/** One file, one sender that leaves as soon as it may. */
async function transfer(room, programs, number) {
  const size = number % 2 ? EDGES[randomInt(EDGES.length)] : Math.floor(MAX_SIZE * Math.random() ** 3);
  const source = join(room, "source");
  const target = join(room, "target");
  writeFileSync(source, randomBytes(size));
  const sides = [
    ["send", source],
    ["receive", "-o", target],
  ];
  if (randomInt(2)) sides.reverse();
  programs.push(...(await pair(...sides)));
  for (const program of programs) await expectStatus(program, 0, `${size} bytes`);
  sameFiles(source, target);
  bytes += size;
}

let slowest = 0;

/** One side is killed at a random moment, from its very start on. */
async function kill(room, programs) {
  const target = join(room, "target");
  const common = ["--reconnect", "3", "--timeout", "30"];
  const sides = [
    ["send", "-", "--limit", "2M", ...common],
    ["receive", "-o", target, ...common],
  ];
  const feeds = [["cat", "/dev/zero"], undefined];
  if (randomInt(2)) {
    sides.reverse();
    feeds.reverse();
  }
  programs.push(...(await pair(...sides, { feeds })));
  const victim = randomInt(2);
  const [killed, survivor] = [programs[victim], programs[1 - victim]];
  const moment = randomInt(3000);
  await new Promise((resolve) => setTimeout(resolve, moment));
  process.kill(killed.pid, "SIGKILL");
  const at = performance.now();
  await end(killed);
  const what = `${victim ? "joining" : "waiting"} side killed after ${moment} ms`;
  const met = await Promise.race([
    survivor.event("reconnecting", PATIENCE).then(
      () => true,
      () => false,
    ),
    survivor.exited.then(() => survivor.latest("reconnecting") !== undefined),
  ]);
  if (met) slowest = Math.max(slowest, performance.now() - at);
  else if (survivor.latest("connected")) throw new Error(`${what}: no "reconnecting"\n${survivor.said}`);
  await expectStatus(survivor, met ? 6 : 3, what);
  if (existsSync(target)) throw new Error(`${what}: the final name is there`);
  const left = readdirSync(room).filter((name) => !/^target\.\d+-\d+\.dcpipe-part$/.test(name));
  if (left.length > 0) throw new Error(`${what}: ${left.join(", ")} is left`);
}

/** The cable is pulled in mid-transfer. */
async function cut(room, programs, seconds) {
  const veth = await createVeth();
  try {
    const source = join(room, "source");
    const target = join(room, "target");
    writeFileSync(source, randomBytes(40 * MIB));
    const namespaces = [veth.a, veth.b];
    programs.push(
      ...(await pair(["send", source, "--limit", "4M"], ["receive", "-o", target], { namespaces })),
    );
    await programs[1].line(
      (line) => (/"progress".*"bytes":[1-9]\d{6}/.test(line) ? true : undefined),
      PATIENCE,
      "a megabyte",
    );
    await veth.cut();
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    await veth.restore();
    for (const program of programs) await expectStatus(program, 0, `cut for ${seconds} s`);
    sameFiles(source, target);
  } finally {
    veth.destroy();
  }
}

/** So many kills in one tree at most. */
const MAX_KILLS = 6;
/** Resumed transfers keep both sides busy: more of them at a time would disturb each other's moments. */
const MAX_RESUMING = 2;

/** Trees that are killed and gone on with, until there were so many kills. */
async function resumes(count, parallel) {
  if (count > 0 && process.getuid?.() !== 0) {
    const failure = "resumes: they need root, for network namespaces (--resumes 0 leaves them out)";
    return { summary: failure, failures: [failure] };
  }
  const told = [];
  const failures = [];
  let good = 0;
  const started = performance.now();
  let planned = 0;
  let rounds = 0;
  const worker = async () => {
    while (planned < count) {
      const kills = Math.min(1 + randomInt(MAX_KILLS), count - planned);
      planned += kills;
      const number = ++rounds;
      const shapes = Object.keys(SHAPES);
      const round = {
        shape: shapes[number % shapes.length],
        kills,
        limit: randomInt(2) ? 4 + randomInt(9) : undefined,
        compress: randomInt(2) === 1,
        confined: randomInt(2) === 1,
      };
      const room = directory();
      try {
        const outcome = await killAndResume(room.path, round);
        told.push({ round, ...outcome });
        good++;
        planned -= kills - outcome.kills.length;
        console.log(`resumes ${number}: ${describe(round, outcome)}`);
      } catch (error) {
        if (error.told) told.push({ round, ...error.told });
        failures.push(`resumes ${number}: ${error.message}`);
        console.log(failures.at(-1));
      } finally {
        room.remove();
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(parallel, MAX_RESUMING) }, worker));
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  const counts = `${good} of ${rounds} trees good, ${planned} kills, ${seconds} s`;
  return { summary: `resumes: ${counts}\n${count > 0 ? summarize(told) : ""}`.trimEnd(), failures };
}

/** So many connections of one forward at once. */
const CONNECTIONS_AT_ONCE = 32;

/** Forwarded connections that begin and end in every way. */
async function connections(count) {
  if (count === 0) return { summary: "connections: left out", failures: [] };
  return playConnections({
    count,
    parallel: CONNECTIONS_AT_ONCE,
    ...(options.seed === undefined ? {} : { seed: Number(options.seed) }),
    onprogress: (done, failed) => {
      if (done % 1000 === 0) console.log(`connections: ${done} of ${count}, ${failed} failed`);
    },
  });
}

/** How often everything happens to the network of one forward. */
const CHANGE_ROUNDS = 3;

/** Connections that are forwarded while their network changes. */
async function changes(by) {
  const names = Object.keys(by === "code" ? CHANGES : PASTE_CHANGES);
  try {
    await forwardThroughChanges({ by, changes: names, rounds: CHANGE_ROUNDS, onchange: console.log });
    return { summary: `changes, by ${by}: ${names.length * CHANGE_ROUNDS} good`, failures: [] };
  } catch (error) {
    return { summary: `changes, by ${by}: failed`, failures: [`changes, by ${by}: ${error.message}`] };
  }
}

/** So much happens to one session. */
const MOVES = 5;
/** Networks of the two; the first can be called, so there one paste is enough. */
const HOMES = [
  ["full-cone", "port-restricted"],
  ["port-restricted", "port-restricted"],
  ["port-restricted", "symmetric"],
  ["udp-blocked", "port-restricted"],
];

/** Machines that move, so often in all. */
async function roaming(count, parallel) {
  const moved = [];
  const session = async (_room, _programs, number) => {
    const by = number % 5 === 0 ? "token" : "code";
    const kinds = HOMES[by === "token" ? 0 : number % HOMES.length];
    const names = Object.keys(EVENTS);
    const moves = Array.from({ length: Math.min(MOVES, count - (number - 1) * MOVES) }, () => [
      // By pasting, who waits must be found where it was.
      by === "token" ? "b" : ["a", "b"][randomInt(2)],
      names[randomInt(names.length)],
    ]);
    for (const each of await roam({ kinds, by, moves })) {
      console.log(`roaming ${number}, ${by}, ${kinds.join(" and ")}: ${JSON.stringify(each)}`);
      moved.push({ ...each, by });
    }
  };
  const result = await repeat("roaming", Math.ceil(count / MOVES), Math.min(parallel, 3), session);
  const told = ["code", "token"].flatMap((by) => {
    const gaps = moved.filter((each) => each.by === by && each.noticed !== undefined).map(({ gap }) => gap);
    return gaps.length === 0
      ? []
      : [`by ${by} ${seconds(gaps, 0.5)}, p95 ${seconds(gaps, 0.95)}, most ${seconds(gaps, 1)}`];
  });
  return { ...result, summary: `${result.summary}; a lost path was another one after: ${told.join("; ")}` };
}

function seconds(times, share) {
  const sorted = [...times].sort((a, b) => a - b);
  return `${((sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0) / 1000).toFixed(1)} s`;
}

/** Every pair of networks by every means. */
async function grid(repeat) {
  const { results, failures } = await runGrid({ repeat, onprogress: console.log });
  const runs = results.reduce((sum, { outcomes }) => sum + outcomes.length, 0);
  return {
    summary: `grid: ${runs - failures.length} of ${runs} as expected, in ${results.length} cells`,
    failures: failures.map(({ what, said }) => `grid: ${what}\n${said}`),
  };
}

/** So many codes are live at once: each takes four file descriptors of this process while it is guessed at. */
const LIVE_CODES = 1000;

/** One wrong guess at each of so many codes. */
async function guesses(_room, _programs, number) {
  const count = Math.min(LIVE_CODES, Number(options.guesses) - (number - 1) * LIVE_CODES);
  // One address does all of it, so the delays are as good as none.
  const server = await startRendezvous({ firstDelayMs: 1, maxDelayMs: 5 });
  try {
    const told = await attack(server.url, count);
    for (const [side, codes] of Object.entries(told))
      if (codes.CODE_WRONG !== count) throw new Error(`${side}: ${JSON.stringify(codes)} of ${count} codes`);
  } finally {
    await server.close();
  }
}

const parallel = Number(options.parallel);
const results = [await repeat("transfers", Number(options.transfers), parallel, transfer)];
results.push(await repeat("kills", Number(options.kills), parallel, kill));
results.push(await resumes(Number(options.resumes), parallel));
results.push(await connections(Number(options.connections)));
const batches = Math.ceil(Number(options.guesses) / LIVE_CODES);
results.push(await repeat(`${options.guesses} guesses, in batches`, batches, 1, guesses));
if (options.cuts) {
  const lengths = [5, 20, 60];
  const cuts = (room, programs, number) => cut(room, programs, lengths[number - 1]);
  results.push(await repeat("cuts", lengths.length, lengths.length, cuts));
}
if (options.changes) results.push(...(await Promise.all(["code", "token"].map(changes))));

if (Number(options.roaming) > 0) results.push(await roaming(Number(options.roaming), parallel));
if (options.grid) results.push(await grid(Number(options.repeat)));

const failures = results.flatMap((result) => result.failures);
console.log(`\n${results.map(({ summary }) => summary).join("\n")}`);
console.log(
  `${(bytes / MIB).toFixed(0)} MiB arrived; a death was noticed within ${(slowest / 1000).toFixed(1)} s`,
);
if (failures.length > 0) console.log(`\n${failures.join("\n\n")}`);
process.exitCode = failures.length > 0 ? 1 : 0;
