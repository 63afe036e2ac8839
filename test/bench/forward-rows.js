/** The rows of the bench about forwards: dcpipe against `ssh -L` and against no forward at all. */
import { useCubic } from "./files.js";
import {
  inTurns,
  measureEchoBesideBulk,
  measureIdle,
  measureOpenings,
  measureRate,
  measureRequests,
  openRoutes,
} from "./forward.js";
import { onVeth, onWan, rssFigure } from "./shared.js";
import { median, withRuns } from "./statistics.js";

/**
 * @typedef {object} ForwardScale
 * @property {number} runs
 * @property {number} stream seconds of bulk over veth
 * @property {number} wanStream seconds of bulk over the emulated WAN, slow start included
 * @property {number} requests seconds of requests
 * @property {number} openings seconds of openings
 * @property {number} echo seconds of echoes, idle and beside bulk each
 */

/** @type {ForwardScale} */
export const FULL_FORWARD = { runs: 3, stream: 5, wanStream: 10, requests: 5, openings: 4, echo: 5 };

/** @type {ForwardScale} */
export const QUICK_FORWARD = { runs: 1, stream: 2, wanStream: 3, requests: 2, openings: 2, echo: 2 };

const RTT_MS = 40;
const MANY = 32;
const IDLE = 1000;

/** One round trip and what both ends compute meanwhile: well below the two that take ssh and plain TCP. */
const MAX_OPENING_RTT = 1.25;
/** Added by a forward to an echo over a path that takes no time, ms. */
const MAX_ADDED = 1;
/** An echo beside bulk against the same one alone. */
const MAX_BESIDE_BULK = 2;

const SERVERS =
  "One server for all, in one namespace (test/bench/origin.c: epoll, no forward; iperf3 for bulk), and one client in the other: " +
  "directly, through `ssh -L`, and through `dcpipe forward`, started by token, whose defaults it has but for --no-stun and --no-lan. " +
  "The sshd and its keys are the bench's own; cipher aes128-gcm, which is faster here than ssh's default; no compression, no " +
  "ControlMaster. The three take turns, all forwards running meanwhile; every TCP connection uses cubic, also on loopback.";

const HOW =
  `${SERVERS} Throughput: \`iperf3 -R\`, server to client, of all its streams together, what the client received. ` +
  "Requests: `wrk -t1 -cN --latency`, an answer having 1 KiB of body; a failure is whatever wrk counts as an error, timeouts of 2 s " +
  "among them. Openings: connect, one request, its answer, end by the server, 1 or 32 at a time (test/bench/client.c), from the call " +
  "of connect to the first byte of the answer. Echo: one byte every 10 ms on a connection of its own, alone and then beside 32 streams of " +
  "iperf3 through the same forward; of three runs the middle one. Memory: resident set (VmRSS) of the forward's process on the client's " +
  "side and of the one on the server's (of sshd the one for this connection), 3 s after the last of the connections was opened and had a byte " +
  "echoed. Everything shares this machine's cores.";

const WAN_HOW =
  `As over veth, through the emulated path of the pipes with 100 Mbit/s, ${RTT_MS} ms and no loss. An opening takes a client ` +
  "without a forward two round trips: one for TCP's own, one for the request.";

// ---------------------------------------------------------------------------------------------------------------------
// Figures

/** All runs of a route by `show`, and why there are no more. */
function shown({ runs, failure }, show) {
  return [runs.length > 0 ? show(runs) : [], failure ?? []].flat().join(", then ");
}

const named = (result, show) => `${result.name} ${shown(result, show)}`;

/**
 * A figure of one kind of measurement.
 * @param {string} what
 * @param {{ direct: Result, ssh: Result, dcpipe: Result }} results
 * @param {(runs: any[]) => string} show
 * @param {() => { result: string, target: string, met: boolean | undefined }} judge called when all that `needs` names were measured
 * @param {("direct" | "ssh")[]} needs what dcpipe is judged by
 * @returns {import("./page.js").Figure}
 *
 * @typedef {import("./forward.js").Result} Result
 */
function figure(what, { direct, ssh, dcpipe }, show, judge, needs) {
  const base = {
    what,
    dcpipe: shown(dcpipe, show),
    reference: `${named(ssh, show)}; ${named(direct, show)}`,
  };
  const lacking = [dcpipe, ...needs.map((name) => ({ direct, ssh })[name])].find(
    ({ runs }) => runs.length === 0,
  );
  if (lacking) return { ...base, result: `${lacking.name} not measured`, target: "", met: false };
  const judged = judge();
  return { ...base, ...judged, met: dcpipe.failure === undefined ? judged.met : false };
}

const middle = (result, key) => median(result.runs.map((run) => run[key]));

/** A target that is none is met by no one and missed by no one. */
const least = (ratio, target) =>
  target === undefined
    ? { target: "none", met: undefined }
    : { target: `>= ${target.toFixed(2)}x`, met: ratio >= target };

const asResults = ([direct, ssh, dcpipe]) => ({ direct, ssh, dcpipe });

/**
 * @typedef {object} Path
 * @property {string} name for --only
 * @property {string} text
 * @property {string} title
 * @property {string} how
 * @property {(measure: (net: import("./drive.js").Net) => Promise<any>) => Promise<any>} on
 * @property {number} [rttMs]
 * @property {number} [rate] target of throughput, as a share of direct TCP's
 * @property {keyof ForwardScale} stream
 */

/** @type {Path[]} */
const PATHS = [
  { name: "veth", text: "veth", title: "Forwards over veth", how: HOW, on: onVeth, stream: "stream" },
  {
    name: "wan",
    text: `100 Mbit/s, RTT ${RTT_MS} ms`,
    title: "Forwards over an emulated WAN",
    how: WAN_HOW,
    on: (measure) => onWan({ rttMs: RTT_MS, mbit: 100 }, measure),
    rttMs: RTT_MS,
    rate: 0.9,
    stream: "wanStream",
  },
];

async function throughput(net, routes, path, scale) {
  const figures = [];
  for (const connections of [1, MANY]) {
    const results = asResults(
      await inTurns(routes, scale.runs, async (route) => ({
        rate: await measureRate(net, route, connections, scale[path.stream]),
      })),
    );
    const show = (runs) => withRuns(runs.map(({ rate }) => rate));
    const what = `forward, ${connections === 1 ? "one stream" : `${connections} streams`} of TCP, ${path.text}, in MiB/s`;
    const judge = () => {
      const ratio = middle(results.dcpipe, "rate") / middle(results.direct, "rate");
      return { result: `${ratio.toFixed(2)}x of direct`, ...least(ratio, path.rate) };
    };
    figures.push(figure(what, results, show, judge, ["direct"]));
  }
  return figures;
}

async function requests(net, routes, path, scale) {
  const figures = [];
  for (const connections of [1, 100, 1000]) {
    const results = asResults(
      await inTurns(routes, scale.runs, (route) => measureRequests(net, route, connections, scale.requests)),
    );
    const failures = ({ runs }) => runs.reduce((sum, { failed }) => sum + failed, 0);
    const show = (runs) => {
      const failed = failures({ runs });
      const at = (key) => median(runs.map((run) => run[key])).toFixed(1);
      const rates = withRuns(runs.map(({ rate }) => rate));
      return `${rates}, p50 ${at("p50")}, p99 ${at("p99")} ms${failed > 0 ? `, ${failed} failed` : ""}`;
    };
    const what = `forward, requests a second on ${connections === 1 ? "one connection" : `${connections} connections`}, ${path.text}`;
    const { ssh, dcpipe } = results;
    const ratio = () => (ssh.runs.length > 0 ? middle(dcpipe, "rate") / middle(ssh, "rate") : NaN);
    const judge = () => ({ result: `${ratio().toFixed(2)}x of ssh -L`, ...least(ratio(), 1) });
    const judgeMany = () => {
      const failed = failures(dcpipe);
      return {
        result: `${failed} failed, ${ratio().toFixed(2)}x of ssh -L`,
        target: "none failed",
        met: failed === 0,
      };
    };
    figures.push(
      connections < 1000
        ? figure(what, results, show, judge, ["ssh"])
        : figure(what, results, show, judgeMany, []),
    );
  }
  return figures;
}

async function openings(net, routes, path, scale) {
  const figures = [];
  for (const parallel of [1, MANY]) {
    const results = asResults(
      await inTurns(routes, scale.runs, (route) => measureOpenings(net, route, parallel, scale.openings)),
    );
    const failed = (runs) => runs.reduce((sum, { failed }) => sum + failed, 0);
    const failures = (runs) => (failed(runs) > 0 ? `, ${failed(runs)} failed` : "");
    const { ssh, dcpipe } = results;
    if (parallel === 1) {
      const show = (runs) =>
        `${withRuns(runs.map((run) => run.median))}, p99 ${median(runs.map(({ p99 }) => p99)).toFixed(1)}${failures(runs)}`;
      const judge = () => {
        const took = middle(dcpipe, "median");
        if (path.rttMs === undefined) {
          const slower = took - middle(ssh, "median");
          const text = `${Math.abs(slower).toFixed(2)} ms ${slower > 0 ? "slower" : "faster"} than ssh -L`;
          return { result: text, target: "none", met: failed(dcpipe.runs) > 0 ? false : undefined };
        }
        const trips = took / path.rttMs;
        return {
          result: `${trips.toFixed(2)} RTT`,
          target: `<= ${MAX_OPENING_RTT} RTT`,
          met: trips <= MAX_OPENING_RTT && failed(dcpipe.runs) === 0,
        };
      };
      const what = `forward, connect to first byte of an answer, ${path.text}, ms`;
      figures.push(figure(what, results, show, judge, path.rttMs === undefined ? ["ssh"] : []));
    } else {
      const show = (runs) => withRuns(runs.map(({ rate }) => rate)) + failures(runs);
      const judge = () => {
        const ratio = middle(dcpipe, "rate") / middle(ssh, "rate");
        const met = failed(dcpipe.runs) > 0 ? false : undefined;
        return { result: `${ratio.toFixed(2)}x of ssh -L`, target: "none", met };
      };
      const what = `forward, new connections a second, ${parallel} at a time, ${path.text}`;
      figures.push(figure(what, results, show, judge, ["ssh"]));
    }
  }
  return figures;
}

async function echoes(net, routes, path, scale) {
  const results = asResults(
    await inTurns(routes, scale.runs, (route) => measureEchoBesideBulk(net, route, MANY, scale.echo)),
  );
  const ratio = ({ idle, loaded }) => loaded.median / idle.median;
  // The middle run as a whole: its echo and its bulk belong together.
  const typical = (runs) => runs.toSorted((a, b) => ratio(a) - ratio(b))[Math.floor(runs.length / 2)];
  const idle = ({ runs }) => median(runs.map(({ idle }) => idle.median));
  const showIdle = (runs) =>
    `${withRuns(runs.map(({ idle }) => idle.median))}, p99 ${median(runs.map(({ idle }) => idle.p99)).toFixed(2)}`;
  const judgeIdle = () => {
    const added = idle(results.dcpipe) - idle(results.direct);
    const target = path.rttMs === undefined ? `<= ${MAX_ADDED} ms` : "none";
    const met = path.rttMs === undefined ? added <= MAX_ADDED : undefined;
    return { result: `${added.toFixed(2)} ms added`, target, met };
  };
  const show = (runs) => {
    const { idle, loaded, bulk } = typical(runs);
    return `${idle.median.toFixed(2)} idle, ${loaded.median.toFixed(2)} (p99 ${loaded.p99.toFixed(1)}) beside ${bulk.toFixed(1)} MiB/s`;
  };
  const judge = () => {
    const times = ratio(typical(results.dcpipe.runs));
    return {
      result: `${times.toFixed(1)}x idle`,
      target: `<= ${MAX_BESIDE_BULK}x idle`,
      met: times <= MAX_BESIDE_BULK,
    };
  };
  return [
    figure(`forward, 1-byte echo, ${path.text}, ms`, results, showIdle, judgeIdle, ["direct"]),
    figure(`the same beside ${MANY} streams at full speed`, results, show, judge, []),
  ];
}

/** Not of direct connections: they belong to no process but client and server. */
async function idleMemory(net, [, ssh, dcpipe]) {
  const [ours, others] = await inTurns([dcpipe, ssh], 1, (route) => measureIdle(net, route, IDLE));
  const show = ([{ before, after }]) =>
    after.map((mib, i) => `${mib.toFixed(0)} (${before[i].toFixed(0)} before)`).join(" and ");
  const what = `forward, ${IDLE} idle connections, memory of its two processes in MiB`;
  const columns = { dcpipe: shown(ours, show), reference: named(others, show) };
  if (ours.runs.length === 0)
    return [{ what, ...columns, result: "dcpipe not measured", target: "", met: false }];
  return [{ ...rssFigure(what, ours.runs[0].after), ...columns }];
}

/** What is measured, by the row's name. */
const PARTS = { rate: throughput, requests, open: openings, echo: echoes, idle: idleMemory };

/** @type {import("./rows.js").Row[]} */
export const FORWARD_ROWS = PATHS.flatMap((path) =>
  Object.entries(PARTS)
    // Memory is the same whatever the path.
    .filter(([part]) => part !== "idle" || path.rttMs === undefined)
    .map(([part, measure]) => ({
      name: `forward-${path.name}-${part}`,
      title: path.title,
      how: path.how,
      measure: ({ forward }) =>
        path.on(async (net) => {
          await useCubic(net);
          const { direct, ssh, dcpipe } = await openRoutes(net);
          return measure(net, [direct, ssh, dcpipe], path, forward);
        }),
    })),
);
