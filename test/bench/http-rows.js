/** The row of the bench about fetch over a session, against fetch without one. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { connect, httpOver } from "../../dist/index.js";
import * as drive from "./drive.js";
import { at, median, withRuns } from "./statistics.js";

/** @typedef {{ runs: number, fetches: number }} HttpScale */

/** @type {HttpScale} */
export const FULL_HTTP = { runs: 5, fetches: 500 };
/** @type {HttpScale} */
export const QUICK_HTTP = { runs: 3, fetches: 200 };

const MAX_RATIO = 3;
const MAX_ADDED_MS = 5;

/** The first line on this output that `read` makes something of. The rest is read and dropped. */
async function lineOf(output, read) {
  const lines = createInterface(output);
  for await (const line of lines) {
    const found = read(line);
    if (found === undefined) continue;
    lines.close();
    output.resume();
    return found;
  }
  throw new Error("the program has ended");
}

/** Milliseconds of each fetch, one after the other, its body read. */
async function timeFetches(fetchOne, count) {
  const times = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    await (await fetchOne()).arrayBuffer();
    times.push(performance.now() - start);
  }
  return times;
}

async function measureFetch({ http: { runs, fetches } }) {
  const origin = spawn(process.execPath, [fileURLToPath(new URL("http-origin.js", import.meta.url))], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const programs = [origin];
  let session;
  try {
    const port = Number(await lineOf(origin.stdout, (line) => line));
    const target = `127.0.0.1:${port}`;
    const [node, bin] = drive.DCPIPE;
    const forward = spawn(node, [bin, "forward", target, "--json", "--no-stun", "--no-lan"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    programs.push(forward);
    const offer = await lineOf(forward.stderr, (line) => JSON.parse(line).token);
    session = await connect(offer, { stun: [] }).session;
    const over = httpOver(session, { target });
    const direct = () => fetch(`http://${target}/`);
    const forwarded = () => over.fetch("/");
    for (const each of [direct, forwarded]) await timeFetches(each, fetches);
    const [without, within, tails] = [[], [], []];
    for (let run = 0; run < runs; run++) {
      without.push(median(await timeFetches(direct, fetches)));
      const times = await timeFetches(forwarded, fetches);
      within.push(median(times));
      tails.push(at(times, 0.95));
    }
    const start = performance.now();
    await Promise.all(Array.from({ length: 100 }, async () => (await forwarded()).arrayBuffer()));
    const parallel = performance.now() - start;
    const ratio = median(within) / median(without);
    const added = median(within) - median(without);
    return [
      {
        what: `fetch of 1 KiB, median of ${fetches}, ms`,
        dcpipe: withRuns(within),
        reference: `direct ${withRuns(without)}`,
        result: `${ratio.toFixed(2)}x, ${added.toFixed(2)} more`,
        target: `<= ${MAX_RATIO}x, <= ${MAX_ADDED_MS} more`,
        met: ratio <= MAX_RATIO && added <= MAX_ADDED_MS,
      },
      {
        what: "95 of 100 fetches within, ms",
        dcpipe: withRuns(tails),
        reference: "-",
        result: "-",
        target: "-",
        met: undefined,
      },
      {
        what: "100 fetches at once, all of them, ms",
        dcpipe: parallel.toFixed(0),
        reference: "-",
        result: "-",
        target: "-",
        met: undefined,
      },
    ];
  } finally {
    await session?.close().catch(() => undefined);
    for (const program of programs) {
      if (program.exitCode !== null || program.signalCode !== null) continue;
      program.kill("SIGKILL");
      await once(program, "exit");
    }
  }
}

/** @type {import("./rows.js").Row[]} */
export const HTTP_ROWS = [
  {
    name: "fetch",
    title: "fetch over a session",
    how:
      "A Node server with 1 KiB for every request, `dcpipe forward` in front of it, and the library in a third process, all on loopback and " +
      "on the same cores. GET by the library's fetch, and by Node's own without a session, one after the other, bodies read; each warmed up " +
      "first, runs in turns.",
    measure: measureFetch,
  },
];
