/** The rows of the bench: what is measured, how, and the target each figure has to meet. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import * as drive from "./drive.js";
import { FILES_ROWS, FULL_FILES, QUICK_FILES } from "./files-rows.js";
import { FORWARD_ROWS, FULL_FORWARD, QUICK_FORWARD } from "./forward-rows.js";
import { FULL_HTTP, HTTP_ROWS, QUICK_HTTP } from "./http-rows.js";
import { measureFarApart, measureFirstByte, measureOnVeth } from "./meeting.js";
import { MTU_ROWS } from "./mtu-rows.js";
import { RELAY_ROWS } from "./relay-rows.js";
import { measureRendezvous } from "./rendezvous.js";
import { onVeth, onWan, rssFigure } from "./shared.js";
import { at, median, withRuns } from "./statistics.js";

const { MIB } = drive;

/**
 * @typedef {object} Scale sizes and repetitions of a run of the bench
 * @property {number} runs of each measurement that counts by its median
 * @property {number} bulk bytes over veth
 * @property {number} wan bytes over the emulated WAN: at 100 Mbit/s, 12 s of them are 143 MiB
 * @property {number} tcp seconds of a TCP stream
 * @property {number} lossy seconds of a TCP stream at 1 % loss, where it is slow and uneven
 * @property {number} still seconds after which a stalled pipe's memory is read
 * @property {number} echo seconds of echoes, idle and loaded each
 * @property {number} starts
 * @property {number} meets
 * @property {number} helps
 * @property {{ seconds: number, visitors: number, hold: number }} rendezvous seconds of each load; how many wait, and how long
 * @property {import("./files-rows.js").FilesScale} files
 * @property {import("./forward-rows.js").ForwardScale} forward
 * @property {import("./http-rows.js").HttpScale} http
 *
 * @typedef {object} Row
 * @property {string} name for --only
 * @property {string} title
 * @property {string} how how it is measured, for the page
 * @property {(scale: Scale) => Promise<import("./page.js").Figure[]>} measure
 */

/** @type {Scale} */
export const FULL = {
  runs: 3,
  bulk: 1024 * MIB,
  wan: 150 * MIB,
  tcp: 12,
  lossy: 20,
  still: 15,
  echo: 8,
  starts: 100,
  meets: 40,
  helps: 20,
  rendezvous: { seconds: 20, visitors: 10_000, hold: 35 },
  files: FULL_FILES,
  forward: FULL_FORWARD,
  http: FULL_HTTP,
};

/** @type {Scale} */
export const QUICK = {
  runs: 1,
  bulk: 128 * MIB,
  wan: 30 * MIB,
  tcp: 3,
  lossy: 5,
  still: 5,
  echo: 2,
  starts: 8,
  meets: 3,
  helps: 5,
  rendezvous: { seconds: 3, visitors: 1000, hold: 1 },
  files: QUICK_FILES,
  forward: QUICK_FORWARD,
  http: QUICK_HTTP,
};

const WAN_HOW =
  "Two namespaces joined by an emulated path (test/lab/wanem.c, in user space and on the same cores) with a drop-tail queue of " +
  "one bandwidth-delay product; random loss hits both directions. `head -c SIZE /dev/zero | dcpipe pipe TOKEN` at one end, " +
  "`dcpipe pipe | meter` at the other, from the first to the last byte received, slow start included; the yardstick is one " +
  "stream of `iperf3 -C cubic` (or bbr) for 12 s, the receiver's figure. SIZE is 150 MiB. At 1 % loss it is 100 MiB, cut off after " +
  "200 s, and cubic gets 20 s.";

const ECHO_HOW =
  "A 1-byte echo every 10 ms on one stream of a session, first alone, then while another stream of the same session carries " +
  "as much as the path takes; the library, not the command (test/bench/echo.js). Medians, with the 99th percentile, of the middle one of three runs. The bare channel has echo and " +
  "bulk on an association each.";

/** Calls each of `measurements` in turn, `runs` times over: A B A B. Whatever else the machine does then meets all alike. */
async function interleave(runs, ...measurements) {
  const results = measurements.map(() => []);
  for (let run = 0; run < runs; run++) {
    for (const [i, measure] of measurements.entries()) results[i].push(await measure());
  }
  return results;
}

const rates = (transfers) => withRuns(transfers.map(({ rate }) => rate));
const rate = (transfers) => median(transfers.map(({ rate }) => rate));
const cutNote = (transfers) => (transfers.some(({ cut }) => cut) ? ", cut off" : "");
const megabytes = (bytes) => `${bytes / MIB} MiB`;

/** Of several runs each, bare channel and dcpipe in turns, the one in the middle. */
async function echoes(net, runs, seconds) {
  const results = await interleave(
    runs,
    () => drive.runRawEcho(net, seconds),
    () => drive.runEcho(net, seconds),
  );
  const extra = ({ idle, loaded }) => loaded.median - idle.median;
  return results.map((each) => each.toSorted((a, b) => extra(a) - extra(b))[Math.floor(each.length / 2)]);
}

function echoFigure(path, ours, raw, result, target, met) {
  const show = ({ idle, loaded, bulkMiBps }) =>
    `${idle.median.toFixed(1)} idle, ${loaded.median.toFixed(1)} (p99 ${loaded.p99.toFixed(0)}) beside ${bulkMiBps.toFixed(1)} MiB/s`;
  return {
    what: `1-byte echo beside bulk, ${path}, ms`,
    dcpipe: show(ours),
    reference: `bare channel ${show(raw)}`,
    result,
    target,
    met,
  };
}

/** @type {Row[]} */
export const ROWS = [
  {
    name: "pipe",
    title: "A pipe over veth",
    how:
      "`head -c SIZE /dev/zero | dcpipe pipe TOKEN` in one namespace, `dcpipe pipe | meter` in the other, joined by a " +
      "veth pair with an MTU of 1500. The bare channel is test/bench/raw.js: node-datachannel alone, one association, MTU " +
      "1500, 64 KiB messages, water marks of 4 and 1 MiB, bytes from a buffer and only counted at the other side. Rate from " +
      "the first to the last byte received; CPU is user and system time of the two Node processes from start to end; " +
      "memory is their largest resident set. Both ends share this machine's cores.",
    measure: ({ runs, bulk }) =>
      onVeth(async (net) => {
        const [raw, pipe] = await interleave(
          runs,
          () => drive.runRaw(net, bulk),
          () => drive.runPipe(net, bulk),
        );
        const cpu = (transfers) => transfers.map(({ cpu }) => cpu);
        const speed = rate(pipe) / rate(raw);
        const cost = median(cpu(pipe)) / median(cpu(raw));
        const rss = [
          Math.max(...pipe.map(({ senderRss }) => senderRss)),
          Math.max(...pipe.map(({ receiverRss }) => receiverRss)),
        ];
        return [
          {
            what: `pipe of ${megabytes(bulk)} over veth, rate in MiB/s`,
            dcpipe: rates(pipe),
            reference: `bare channel ${rates(raw)}`,
            result: `${speed.toFixed(2)}x`,
            target: ">= 0.90x",
            met: speed >= 0.9,
          },
          {
            what: "the same, CPU of both ends in s/GiB",
            dcpipe: withRuns(cpu(pipe)),
            reference: `bare channel ${withRuns(cpu(raw))}`,
            result: `${cost.toFixed(2)}x`,
            target: "<= 1.20x",
            met: cost <= 1.2,
          },
          rssFigure("the same, peak memory of sender and receiver in MiB", rss),
        ];
      }),
  },
  {
    name: "stalled",
    title: "A reader that stops",
    how:
      "The receiver's reader takes 1 MiB and then never reads again while the sender has 1 GiB to push; peak resident set " +
      "(VmHWM) of both processes 15 s later.",
    measure: ({ bulk, still }) =>
      onVeth(async (net) => {
        const { senderRss, receiverRss } = await drive.runStalled(net, bulk, still);
        return [
          rssFigure("reader stopped after 1 MiB, peak memory of sender and receiver in MiB", [
            senderRss,
            receiverRss,
          ]),
        ];
      }),
  },
  ...[20, 100, 200].map((rttMs) => ({
    name: `wan-${rttMs}`,
    title: "Pipes over an emulated WAN",
    how: WAN_HOW,
    measure: ({ runs, wan, tcp }) =>
      onWan({ rttMs, mbit: 100 }, async (net) => {
        const [cubic, pipe] = await interleave(
          runs,
          () => drive.runTcp(net, "cubic", tcp),
          () => drive.runPipe(net, wan),
        );
        const ratio = rate(pipe) / rate(cubic);
        return [
          {
            what: `pipe over 100 Mbit/s, RTT ${rttMs} ms, no loss, in MiB/s`,
            dcpipe: rates(pipe) + cutNote(pipe),
            reference: `TCP cubic ${rates(cubic)}`,
            result: `${ratio.toFixed(2)}x`,
            target: ">= 0.95x",
            met: ratio >= 0.95,
          },
        ];
      }),
  })),
  ...[
    { lossPct: 0.1, factor: 2, share: 1 },
    { lossPct: 1, factor: 10, share: 2 / 3 },
  ].map(({ lossPct, factor, share }) => ({
    name: `loss-${lossPct}`,
    title: "Pipes over an emulated WAN",
    how: WAN_HOW,
    measure: ({ runs, wan, tcp, lossy }) =>
      onWan({ rttMs: 50, mbit: 100, lossPct }, async (net) => {
        const seconds = lossPct < 1 ? tcp : lossy;
        const [cubic, pipe, bbr] = await interleave(
          runs,
          () => drive.runTcp(net, "cubic", seconds),
          () => drive.runPipe(net, Math.round(wan * share), { limit: 10 * seconds }),
          () => drive.runTcp(net, "bbr", tcp),
        );
        const what = `pipe over 100 Mbit/s, RTT 50 ms, ${lossPct} % loss, in MiB/s`;
        const overCubic = rate(pipe) / rate(cubic);
        const ofBbr = rate(pipe) / rate(bbr);
        return [
          {
            what,
            dcpipe: rates(pipe) + cutNote(pipe),
            reference: `TCP cubic ${rates(cubic)}`,
            result: `${overCubic.toFixed(1)}x`,
            target: `>= ${factor}x`,
            met: overCubic >= factor,
          },
          {
            what: "the same against BBR",
            dcpipe: rates(pipe) + cutNote(pipe),
            reference: `TCP BBR ${rates(bbr)}`,
            result: `${ofBbr.toFixed(2)}x`,
            target: "aim 0.70x",
            met: ofBbr >= 0.7 ? true : undefined, // An aim, no requirement.
          },
        ];
      }),
  })),
  {
    name: "echo-veth",
    title: "Echo beside bulk",
    how: ECHO_HOW,
    measure: ({ runs, echo }) =>
      onVeth(async (net) => {
        const [raw, ours] = await echoes(net, runs, echo);
        const extra = ours.loaded.median - ours.idle.median;
        return [echoFigure("veth", ours, raw, `+${extra.toFixed(1)} ms`, "<= 25 ms over idle", extra <= 25)];
      }),
  },
  {
    name: "echo-wan",
    title: "Echo beside bulk",
    how: ECHO_HOW,
    measure: ({ runs, echo }) =>
      onWan({ rttMs: 20, mbit: 100 }, async (net) => {
        const [raw, ours] = await echoes(net, runs, echo);
        const ratio = ours.loaded.median / 20;
        return [
          echoFigure("100 Mbit/s, RTT 20 ms", ours, raw, `${ratio.toFixed(2)} RTT`, "<= 2 RTT", ratio <= 2),
        ];
      }),
  },
  {
    name: "start",
    title: "Process start",
    how:
      "From the execution of the joining process (`node bin/dcpipe.js pipe TOKEN`) to its first byte at the waiting side's " +
      "reader, over veth, the waiting side being up; started by token, no answer carried back. The bare channel likewise, " +
      "signalling over a unix socket. A stall is a start of 900 ms or more: a DTLS flight that had to be repeated.",
    measure: ({ starts }) =>
      onVeth(async (net) => {
        const [raw, pipe] = await interleave(
          starts,
          () => drive.startRaw(net),
          () => drive.startPipe(net),
        );
        const ms = (times) =>
          `${(median(times) * 1000).toFixed(0)}, p95 ${(at(times, 0.95) * 1000).toFixed(0)}`;
        const stalls = (times) => times.filter((time) => time >= 0.9).length;
        const allowed = starts * 0.05;
        return [
          {
            what: `process start to first byte, ms, median of ${starts}`,
            dcpipe: ms(pipe),
            reference: `bare channel ${ms(raw)}`,
            result: `${(median(pipe) * 1000).toFixed(0)} ms, ${(median(pipe) / median(raw)).toFixed(2)}x`,
            target: "<= 274 ms",
            met: median(pipe) <= 0.274,
          },
          {
            what: `starts of ${starts} that stalled`,
            dcpipe: String(stalls(pipe)),
            reference: `bare channel ${stalls(raw)}`,
            result: String(stalls(pipe)),
            target: `<= ${allowed}`,
            met: stalls(pipe) <= allowed,
          },
        ];
      }),
  },
  {
    name: "help",
    title: "`dcpipe --help`",
    how: "Wall time of the whole process, alternating; medians.",
    measure: async ({ helps }) => {
      const time = (...args) => {
        const begun = performance.now();
        const { status } = spawnSync(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
        if (status !== 0) throw new Error(`node ${args.join(" ")} ended with ${status}`);
        return performance.now() - begun;
      };
      const program = fileURLToPath(new URL("../../bin/dcpipe.js", import.meta.url));
      const [bare, help] = await interleave(
        helps,
        () => time("-e", "0"),
        () => time(program, "--help"),
      );
      const limit = 1.5 * median(bare) + 100;
      return [
        {
          what: "`dcpipe --help`, ms",
          dcpipe: median(help).toFixed(0),
          reference: `\`node -e 0\` ${median(bare).toFixed(0)}`,
          result: `${median(help).toFixed(0)} ms`,
          target: `<= 1.5x + 100 = ${limit.toFixed(0)} ms`,
          met: median(help) <= limit,
        },
      ];
    },
  },
  {
    name: "meet",
    title: "Meeting by code",
    how:
      "Both processes run and have loaded everything (test/bench/meet.js, the library); from the code in the joining one's hands " +
      "to its session, fresh WebSocket included; by token, one paste, in turns with it. The rendezvous runs beside the waiting " +
      "side; at 50 ms its way there is made 50 ms long too (test/bench/delay.js), and the joining side is behind the emulated path.",
    measure: async ({ meets }) => [
      await onVeth((net) => measureOnVeth(net, meets)),
      await onWan({ rttMs: 50, mbit: 100 }, (net) => measureFarApart(net, meets, 50)),
      ...(await onWan({ rttMs: 50, mbit: 100 }, (net) => measureFirstByte(net, meets, 50))),
    ],
  },
  {
    name: "rendezvous",
    title: "A rendezvous",
    how:
      "`dcpipe rendezvous` on the first core; its visitors (test/bench/visitors.js, WebSocket frames by hand, from many loopback " +
      "addresses) and Redis on the others. First so many clients come and wait; resident memory 35 s later. Then introductions at a " +
      "fixed rate, whatever becomes of the ones before: ALLOCATE and CLAIM on a connection each, seven bodies of the sizes that dcpipe " +
      "posts, RELEASE; each counts as delivered when both sides have all bodies and were closed with RELEASED, by its close " +
      "code otherwise, and as lost when neither has come 15 s after the last. With Redis the two sides are at different processes. A body's delay is from its " +
      "writing at one visitor to its reading at the other, in the same process, the seconds after the start of the server included.",
    measure: ({ rendezvous }) => measureRendezvous(rendezvous),
  },
  ...MTU_ROWS,
  ...RELAY_ROWS,
  ...FILES_ROWS,
  ...FORWARD_ROWS,
  ...HTTP_ROWS,
];
