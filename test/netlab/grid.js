/**
 * The grid: every pair of networks, each of the two waiting, by every means. What happens is compared with what theory says.
 *
 *   sudo node test/netlab/grid.js [--only KIND,KIND...] [--by paste,paste-turn,code] [--repeat 1] [--parallel 3] [--turn udp|tcp|tls]
 *                                 [--without CAPABILITY,...] [--verbose] [--out FILE]
 *
 * --only leaves all pairs out of which one side is not named. --without says what the dcpipe at hand cannot do (expectations.js).
 * The table comes on stdout; --out puts it into that page, too (docs/networks.md). The status is 1 when anything was not as expected.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { runCell } from "./cell.js";
import { CAPABILITIES, expectedWay, MEANS } from "./expectations.js";
import { KINDS, PAIRS } from "./kinds.js";
import { createLab } from "./lab.js";
import { describeMachine, matrices, summarize, writePage } from "./page.js";

const BIN = fileURLToPath(new URL("../../bin/dcpipe.js", import.meta.url));
const STARTS = 5;

/**
 * @typedef {import("./cell.js").Cell & { outcomes: import("./cell.js").Outcome[] }} Result
 *
 * @typedef {object} Choice what is run
 * @property {string[]} [only] kinds; default all
 * @property {import("./expectations.js").Means[]} [means] default all
 * @property {number} [repeat] how often each cell is run
 * @property {number} [parallel] labs at a time
 * @property {"udp" | "tcp" | "tls"} [turn] how a side that may send UDP calls the TURN server
 * @property {string[]} [without] capabilities that are not there
 * @property {(line: string) => void} [onprogress]
 */

/**
 * Runs the grid.
 * @param {Choice} [choice]
 * @returns {Promise<{ results: Result[], failures: { what: string, said: string }[] }>}
 */
export async function runGrid({
  only = [...Object.keys(KINDS), ...Object.keys(PAIRS)],
  means = Object.keys(MEANS),
  repeat = 1,
  parallel = 3,
  turn = "udp",
  without = [],
  onprogress = () => {},
} = {}) {
  check("kind of network", only, { ...KINDS, ...PAIRS });
  check("means", means, MEANS);
  check("capability", without, CAPABILITIES);
  const capabilities = new Set(Object.keys(CAPABILITIES).filter((each) => !without.includes(each)));
  const results = [];
  const troubles = [];
  // What does not know TURN over TLS would not even begin.
  const transports = { turn, blockedTurn: capabilities.has("turn-streams") ? "tls" : "udp" };
  const pairs = pairsOf(only);
  const worker = async () => {
    for (let pair = pairs.shift(); pair; pair = pairs.shift()) {
      const cells = cellsOf(pair, means, capabilities);
      results.push(...cells);
      try {
        await runPair(pair, cells, { repeat, transports, onprogress });
      } catch (error) {
        troubles.push({ what: `${pair.join(" and ")}: no lab`, said: error.message });
        onprogress(`${pair.join(" and ")}: no lab: ${error.message}`);
      }
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  const wrong = results.flatMap((result) =>
    result.outcomes
      .filter(({ faults }) => faults.length > 0)
      .map(({ faults, said }) => ({ what: `${nameOf(result)}: ${faults.join(", ")}`, said })),
  );
  return { results, failures: [...troubles, ...wrong] };
}

function check(what, given, known) {
  for (const each of given) if (!(each in known)) throw new Error(`no such ${what}: ${each}`);
}

/** Every two kinds, and every kind with itself; then those that are pairs by nature. */
function pairsOf(only) {
  const kinds = Object.keys(KINDS).filter((kind) => only.includes(kind));
  const pairs = kinds.flatMap((one, i) => kinds.slice(i).map((other) => [one, other]));
  return [
    ...pairs,
    ...Object.keys(PAIRS)
      .filter((name) => only.includes(name))
      .map((name) => [name, name]),
  ];
}

/** @returns {Result[]} */
function cellsOf([one, other], means, capabilities) {
  const orders =
    one === other
      ? [[one, other]]
      : [
          [one, other],
          [other, one],
        ];
  return means.flatMap((each) =>
    orders.map(([waiting, joining]) => ({
      waiting,
      joining,
      means: each,
      expected: expectedWay(waiting, joining, each, capabilities),
      outcomes: [],
    })),
  );
}

/** Runs all cells of two networks in one lab: one after the other, and at last those that only wait for their ends all at once. */
async function runPair([one, other], cells, { repeat, transports, onprogress }) {
  const lab = await createLab(one, other);
  try {
    const run = async (cell) => {
      const outcome = await runCell(lab, cell, { waits: cell.waiting === one ? "a" : "b", ...transports });
      cell.outcomes.push(outcome);
      const verdict = outcome.faults.length > 0 ? `WRONG: ${outcome.faults.join(", ")}` : outcome.way;
      const first = outcome.first === outcome.told ? "" : `, first ${outcome.first}`;
      onprogress(
        `${nameOf(cell)}: ${verdict}${first}${outcome.seconds ? `, ${outcome.seconds.toFixed(2)} s` : ""}`,
      );
    };
    const runs = Array.from({ length: repeat }, () => cells).flat();
    for (const cell of runs) if (cell.expected !== "none") await run(cell);
    await Promise.all(runs.filter(({ expected }) => expected === "none").map(run));
  } finally {
    await lab.close();
  }
}

function nameOf({ waiting, joining, means }) {
  return `${waiting} waits, ${joining} joins, by ${means}`;
}

/** What it takes to start dcpipe at all, seconds: the best of a few. */
function startOfNode() {
  const times = Array.from({ length: STARTS }, () => {
    const started = performance.now();
    execFileSync(process.execPath, [BIN, "--version"]);
    return (performance.now() - started) / 1000;
  });
  return Math.min(...times);
}

async function main() {
  const list = (text) => text?.split(",").filter(Boolean);
  const { values: options } = parseArgs({
    options: {
      only: { type: "string" },
      by: { type: "string" },
      repeat: { type: "string", default: "1" },
      parallel: { type: "string", default: "3" },
      turn: { type: "string", default: "udp" },
      without: { type: "string" },
      verbose: { type: "boolean", default: false },
      out: { type: "string" },
    },
  });
  const [only, means, without] = [list(options.only), list(options.by), list(options.without)];
  const startSeconds = startOfNode();
  const { results, failures } = await runGrid({
    ...(only ? { only } : {}),
    ...(means ? { means } : {}),
    ...(without ? { without } : {}),
    repeat: Number(options.repeat),
    parallel: Number(options.parallel),
    turn: options.turn,
    onprogress: console.log,
  });
  const facts = [
    ...describeMachine(spawnSync("turnserver", ["--version"], { encoding: "utf8" }).stdout),
    ...summarize(results, startSeconds, without ?? []),
  ];
  const text = matrices(results);
  console.log(`\n${facts.join("\n")}\n\n${text}`);
  for (const { what, said } of failures) console.log(options.verbose ? `\n${what}\n${said}` : what);
  if (options.out !== undefined) await writePage(options.out, facts, text);
  process.exitCode = failures.length > 0 ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
