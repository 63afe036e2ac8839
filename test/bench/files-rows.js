/** The rows of the bench about files and trees: dcpipe against what else sends them. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { basename, join } from "node:path";
import { MEMORY, run, scratch } from "../lab/exec.js";
import { MIB } from "./drive.js";
import { contest, dcpipe, dcpipePipe, makeTargets, sendTree, useCubic } from "./files.js";
import { startRivals } from "./rivals.js";
import { onVeth, onWan, rssFigure } from "./shared.js";
import { median, withRuns } from "./statistics.js";
import {
  compare,
  filesOf,
  makeEntries,
  makeFile,
  makeModules,
  makeSmallFiles,
  putAll,
  putEveryFifth,
} from "./trees.js";

/** Nothing takes this long but what stands still, s. */
const PATIENCE = 300;
const MILLION_PATIENCE = 900;
/** Memory that either side may use for a million entries, MiB. */
const MAX_MILLION_RSS = 200;
/** Room in memory for one entry, there and here: inodes and, of every tenth, a page. */
const ROOM_PER_ENTRY = 4096;
/** A waiting side that takes longer than this until it waits has it told, s. */
const TOLD = 1;

/**
 * @typedef {object} FilesScale
 * @property {number} runs over veth
 * @property {number} wanRuns over the emulated WAN
 * @property {number} file bytes of the one file
 * @property {number} small how many files of 4 KiB
 * @property {number} modules how many files of node_modules, at least
 * @property {number} limit seconds after which a tree over the emulated WAN is cut off
 * @property {number} entries of the largest tree
 */

/** @type {FilesScale} */
export const FULL_FILES = {
  runs: 3,
  wanRuns: 1,
  file: 1024 * MIB,
  small: 10_000,
  modules: Infinity,
  limit: 90,
  entries: 1_000_000,
};

/** @type {FilesScale} */
export const QUICK_FILES = {
  runs: 1,
  wanRuns: 1,
  file: 32 * MIB,
  small: 500,
  modules: 500,
  limit: 20,
  entries: 20_000,
};

const HOW =
  "Wall time in seconds of one command, as its user waits for it: of `scp -r -q -p` to an sshd and of `rsync -a` to an " +
  "rsync daemon, which run already at the receiver; of `wormhole receive` and `dcpipe receive`, the sender waiting with its " +
  "code or token, from the start of the receiving process until both sides have ended. What the waiting side does before, " +
  "such as wormhole's archive of a directory, is outside of the clock, and told where it takes " +
  `${TOLD} s or more. All with their defaults: scp and wormhole encrypt, rsync does not; wormhole compresses trees, scp and ` +
  "rsync do not. Wormhole's mailbox and transit relay are beside the receiver; with its time stands whether its bytes went " +
  "directly or by that relay. TCP uses cubic. The trees are one file of random bytes, files of 4 KiB of random bytes in 100 " +
  "directories, and this project's own node_modules: to an empty directory, to one that holds every fifth of its files " +
  "already (scp sends those again, wormhole can only replace all), and to one that holds all (rsync alone has something for " +
  "that). They are read from a disk, through a warm cache, and written to the same one; the tools take turns, and what " +
  "arrived is compared each time. Trees are removed only when all is measured, since an ext4 is slow to make files for " +
  "minutes after. `dcpipe pipe` is `dcpipe pipe < FILE` waiting and `dcpipe pipe TOKEN > FILE`, timed like `dcpipe receive`.";

const WAN_HOW =
  "As over veth, through the emulated path of the pipes with 100 Mbit/s, 100 ms and no loss. A tree that takes longer " +
  `than ${FULL_FILES.limit} s is cut off and counts with that time.`;

/** One file against the same one through `dcpipe pipe`, on either path: how many times as fast. */
const OF_PIPE = 0.95;

/**
 * @typedef {object} Goals targets of a row's figures; without one they are only reported
 * @property {number} [file] how many times as fast as the fastest of the others one file is
 * @property {number} [tree] a tree
 * @property {number} [scp] many small files, against scp
 * @property {number} [repeat] how many times rsync's time a tree may take of which all is there already
 */

/** @type {Goals} */
const VETH_GOALS = {};
/** @type {Goals} */
const WAN_GOALS = { file: 0.93, tree: 1, scp: 5, repeat: 2 };

const seconds = (sendings) => sendings.map((sending) => sending.seconds);
const time = ({ sendings }) => median(seconds(sendings));

/** All runs of one tool, and what there is to say of them. */
function shown({ sendings, failure }) {
  if (sendings.length === 0) return failure;
  const cut = sendings.some(({ cut }) => cut);
  const ready = sendings.some(({ ready }) => ready === undefined)
    ? 0
    : median(sendings.map(({ ready }) => ready));
  const notes = new Set(sendings.map(({ note }) => note).filter(Boolean));
  return [
    withRuns(seconds(sendings)),
    cut ? "cut off" : [],
    [...notes],
    ready >= TOLD ? `after ${ready.toFixed(1)} of preparing` : [],
    failure ? `then ${failure}` : [],
  ]
    .flat()
    .join(", ");
}

const named = (result) => `${result.name} ${shown(result)}`;

/** A target that is none is met by no one and missed by no one. */
const least = (ratio, target) =>
  target === undefined
    ? { target: "none", met: undefined }
    : { target: `>= ${target.toFixed(2)}x`, met: ratio >= target };

/** How much faster dcpipe was than each of `others`. */
function against(what, ours, others, target) {
  const measured = others.filter(({ sendings }) => sendings.length > 0);
  const base = { what, dcpipe: shown(ours), reference: others.map(named).join("; ") };
  if (ours.sendings.length === 0 || ours.sendings.some(({ cut }) => cut) || measured.length === 0)
    return { ...base, result: "not measured", target: least(0, target).target, met: false };
  const fastest = measured.reduce((a, b) => (time(a) <= time(b) ? a : b));
  const ratio = time(fastest) / time(ours);
  const cut = fastest.sendings.some(({ cut }) => cut) ? "> " : "";
  const ofWhich = others.length > 1 ? ` of ${fastest.name}` : "";
  return { ...base, result: `${cut}${ratio.toFixed(2)}x${ofWhich}`, ...least(ratio, target) };
}

/** The other way around: dcpipe's time as a multiple of the other one's, with a limit. */
function atMost(what, ours, other, target) {
  const base = { what, dcpipe: shown(ours), reference: named(other) };
  const limit = target === undefined ? "none" : `<= ${target}x its time`;
  if ([ours, other].some(({ sendings }) => sendings.length === 0))
    return { ...base, result: "not measured", target: limit, met: false };
  const ratio = time(ours) / time(other);
  const met = target === undefined ? undefined : ratio <= target;
  return { ...base, result: `${ratio.toFixed(2)}x its time`, target: limit, met };
}

/**
 * All cases over one path.
 * @param {import("./drive.js").Net} net
 * @param {string} path names it
 * @param {FilesScale & { runs: number }} scale
 * @param {Goals} goals
 * @param {number} limit
 * @returns {Promise<import("./page.js").Figure[]>}
 */
async function measureFiles(net, path, scale, goals, limit) {
  await useCubic(net);
  const targets = makeTargets();
  const sources = mkdtempSync(join(scratch(), "sources-"));
  const ours = dcpipe(net);
  const [rsync, scp, wormhole] = await startRivals(net, targets);
  const compete = (tools, task) => contest(tools, { targets, runs: scale.runs, limit, ...task });

  const file = makeFile(join(sources, "file"), scale.file);
  const one = { source: file, limit: PATIENCE };
  const [sent, piped, ...others] = await compete([ours, dcpipePipe(net), rsync, scp, wormhole], one);
  const figures = [
    against(`one file of ${scale.file / MIB} MiB, ${path}, s`, sent, others, goals.file),
    against("the same against `dcpipe pipe`", sent, [piped], OF_PIPE),
  ];
  rmSync(file);

  const small = makeSmallFiles(join(sources, "small"), scale.small);
  const [many, ...othersMany] = await compete([ours, rsync, scp, wormhole], { source: small });
  figures.push(against(`${scale.small} files of 4 KiB, ${path}, s`, many, othersMany, goals.tree));
  if (goals.scp !== undefined) {
    const byScp = othersMany.filter(({ name }) => name === scp.name);
    figures.push(against("the same against `scp -r`", many, byScp, goals.scp));
  }

  const source = await makeModules(join(sources, "node_modules"), scale.modules);
  const what = `node_modules of ${filesOf(source).length} files, ${path}, s`;
  const [fresh, ...othersFresh] = await compete([ours, rsync, scp, wormhole], { source });
  const [more, ...othersMore] = await compete([ours, rsync, scp], { source, put: putEveryFifth });
  const [again, rsyncAgain] = await compete([ours, rsync], { source, put: putAll });
  figures.push(
    against(what, fresh, othersFresh, goals.tree),
    against("the same, every fifth file there already", more, othersMore, goals.tree),
    atMost("the same, all there already", again, rsyncAgain, goals.repeat),
  );
  return figures;
}

/** Where a tree of so many entries and its copy have room: in memory if they do, else on the disk. */
function roomFor(entries) {
  try {
    const { bsize, bavail, ffree } = statfsSync(MEMORY);
    const free = 1024 * Number(/^MemAvailable:\s+(\d+)/m.exec(readFileSync("/proc/meminfo", "utf8"))[1]);
    const needed = 2 * entries * ROOM_PER_ENTRY;
    if (Math.min(bsize * bavail, free / 2) > needed && ffree > 2.1 * entries) return scratch(MEMORY);
  } catch {
    // There is none.
  }
  return scratch();
}

async function measureMillion(net, entries) {
  const place = join(roomFor(entries), "million");
  const target = join(place, "there");
  mkdirSync(target, { recursive: true });
  try {
    const source = makeEntries(join(place, "tree"), entries);
    const sending = await sendTree(net, source, target, MILLION_PATIENCE, { usage: true });
    if (sending.cut) throw new Error(`not done after ${MILLION_PATIENCE} s`);
    compare(source, join(target, basename(source)), 97);
    const what = `a tree of ${entries} entries (${sending.seconds.toFixed(0)} s), peak memory of sender and receiver in MiB`;
    return [rssFigure(what, [sending.senderRss, sending.receiverRss], MAX_MILLION_RSS)];
  } finally {
    await run("rm", "-rf", place);
  }
}

/** @type {import("./rows.js").Row[]} */
export const FILES_ROWS = [
  {
    name: "files-veth",
    title: "Files over veth",
    how: HOW,
    measure: ({ files }) => onVeth((net) => measureFiles(net, "veth", files, VETH_GOALS, PATIENCE)),
  },
  {
    name: "files-wan",
    title: "Files over an emulated WAN",
    how: WAN_HOW,
    measure: ({ files }) =>
      onWan({ rttMs: 100, mbit: 100 }, (net) =>
        measureFiles(
          net,
          "100 Mbit/s, RTT 100 ms",
          { ...files, runs: files.wanRuns },
          WAN_GOALS,
          files.limit,
        ),
      ),
  },
  {
    name: "files-million",
    title: "A tree of a million entries",
    how:
      "1,000 directories of 999 files each, empty but for every tenth, which has 10 bytes, sent over veth from a file system in " +
      "memory (where that has room) to the same; the largest resident set of each Node process, by GNU time.",
    measure: ({ files }) => onVeth((net) => measureMillion(net, files.entries)),
  },
];
