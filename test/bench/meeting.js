/** How long two processes take to meet by code, and by token, whatever else is measured of them. */
import { fileURLToPath } from "node:url";
import { start } from "../lab/exec.js";
import { at, median } from "./statistics.js";

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const PATIENCE = 20_000;

/** A rendezvous in b, and a way to it for the waiting side that is `delayMs` longer each way. */
async function startRendezvous(net, delayMs) {
  const server = start(net.b, [
    process.execPath,
    path("../../bin/dcpipe.js"),
    "rendezvous",
    ...["--listen", `${net.addressB}:0`, "--json"],
  ]);
  const { port } = await server.event("listening", PATIENCE);
  const url = `http://${net.addressB}:${port}/`;
  if (delayMs === 0) return { near: url, far: url, stop: () => server.kill() };
  const delay = start(net.b, [
    process.execPath,
    path("delay.js"),
    net.addressB,
    String(port),
    String(delayMs),
  ]);
  const { port: longer } = await delay.event("port", PATIENCE);
  return {
    near: `http://${net.addressB}:${longer}/`,
    far: url,
    stop: () => Promise.all([server.kill(), delay.kill()]),
  };
}

/** Milliseconds from the code or token in the joining process' hands to its session, and to the other side's first byte. */
async function meetOnce(net, kind, urls) {
  const meet = [process.execPath, path("meet.js")];
  const waiting = start(net.b, [...meet, "wait", kind, urls.near]);
  let joining;
  try {
    const { peer } = await waiting.event("peer", PATIENCE);
    joining = start(net.a, [...meet, "join", kind, urls.far], {
      feed: ["sh", "-c", `sleep 1; echo ${peer}`],
    });
    return await joining.event("met", PATIENCE);
  } finally {
    await Promise.all([waiting.kill(), joining?.kill()]);
  }
}

const shown = (times) => `${median(times).toFixed(0)}, p95 ${at(times, 0.95).toFixed(0)}`;

/** What is measured of each kind: ms to the session, and to the first byte. */
async function measure(net, runs, delayMs, kinds = ["code", "token"]) {
  const urls = await startRendezvous(net, delayMs);
  const times = Object.fromEntries(kinds.map((kind) => [kind, []]));
  const bytes = Object.fromEntries(kinds.map((kind) => [kind, []]));
  try {
    for (let run = 0; run < runs; run++)
      for (const kind of kinds) {
        const { ms, byte } = await meetOnce(net, kind, urls);
        times[kind].push(ms);
        bytes[kind].push(byte);
      }
  } finally {
    await urls.stop();
  }
  return { ...times, bytes };
}

export async function measureOnVeth(net, runs) {
  const { code, token } = await measure(net, runs, 0);
  const ratio = median(code) / median(token);
  return {
    what: `code to session over veth, ms, median of ${runs}`,
    dcpipe: shown(code),
    reference: `by token ${shown(token)}`,
    result: `${ratio.toFixed(2)}x`,
    target: "<= 1.5x",
    met: ratio <= 1.5,
  };
}

export async function measureFarApart(net, runs, rttMs) {
  const { code, token } = await measure(net, runs, rttMs / 2);
  const trips = (times) => median(times) / rttMs;
  return {
    what: `code to session, ${rttMs} ms to server and peer, ms`,
    dcpipe: shown(code),
    reference: `by token ${shown(token)}, ${trips(token).toFixed(1)} RTT`,
    result: `${trips(code).toFixed(1)} RTT`,
    target: "<= 8 RTT",
    met: trips(code) <= 8,
  };
}

/** So much beside the round trips: the work of both sides. */
const WORK_MS = 200;

/** The first byte, by each way, and by the one that comes first. */
export async function measureFirstByte(net, runs, rttMs) {
  const { bytes } = await measure(net, runs, rttMs / 2, ["code", "direct", "relay"]);
  const row = (kind, what, trips) => {
    const limit = trips * rttMs + WORK_MS;
    return {
      what: `code to first byte, ${what}, ${rttMs} ms to server and peer, ms`,
      dcpipe: shown(bytes[kind]),
      reference: "",
      result: `${(median(bytes[kind]) / rttMs).toFixed(1)} RTT`,
      target: `<= ${trips} RTT + ${WORK_MS} ms`,
      met: median(bytes[kind]) <= limit,
    };
  };
  return [
    row("code", "whichever way is first", 6),
    row("direct", "--relay off", 6),
    row("relay", "--relay only", 4),
  ];
}
