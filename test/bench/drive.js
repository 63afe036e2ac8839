/** Runs dcpipe, the bare channel and iperf3 between two namespaces of the lab, once each, and measures that run. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { TimeoutError, compile, scratch, start } from "../lab/exec.js";

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
export const DCPIPE = [process.execPath, path("../../bin/dcpipe.js")];
const RAW = [process.execPath, path("raw.js")];
const ECHO = [process.execPath, path("echo.js")];

export const MIB = 2 ** 20;

/** A program must be waiting within this time, ms. */
export const START_PATIENCE = 20_000;
/** After the last byte both sides must have ended within this time, ms. */
const END_PATIENCE = 20_000;

/**
 * @typedef {object} Net two namespaces, as veth.js and wan.js make them
 * @property {string} a
 * @property {string} b
 * @property {string} addressB
 *
 * @typedef {object} Transfer
 * @property {number} rate MiB/s from the first to the last byte that arrived
 * @property {number} seconds
 * @property {number} cpu user and system time of both ends, s/GiB
 * @property {number} senderRss peak, MiB
 * @property {number} receiverRss peak, MiB
 */

/** The C program that ends every measured pipe. */
export const meter = () => compile(path("meter.c"));

/** What a missing build would otherwise say less clearly. */
export function checkBuild() {
  if (!existsSync(path("../../dist/cli/main.js"))) throw new Error("dcpipe is not built: npm run build");
}

function pipe(...options) {
  return [...DCPIPE, "pipe", ...options, "--json", "--no-stun"];
}

/** Starts a waiting `dcpipe pipe` in b; by code, with the flags for that. */
async function waitingPipe(net, options, flags = []) {
  const receiver = start(net.b, pipe(...flags), options);
  const name = flags.length > 0 ? "code" : "offer";
  const { token, code } = await receiver.event(name, START_PATIENCE).catch(killing(receiver));
  return { receiver, token: token ?? code };
}

/** A rendezvous in b. */
export async function startRendezvous(net) {
  const server = start(net.b, [...DCPIPE, "rendezvous", "--json", "--listen", `${net.addressB}:0`]);
  const { port } = await server.event("listening", START_PATIENCE).catch(killing(server));
  return { url: `http://${net.addressB}:${port}/`, stop: () => server.kill() };
}

/** For a failure while programs run: they end first. */
export function killing(...programs) {
  return async (error) => {
    await Promise.all(programs.map((program) => program.kill()));
    throw error;
  };
}

/** Both sides must end by themselves, well. */
async function bothEnd(sender, receiver) {
  const exits = Promise.all([sender.exited, receiver.exited]);
  const timer = new AbortController();
  const late = sleep(END_PATIENCE, undefined, { signal: timer.signal }).catch(() => {});
  const ended = await Promise.race([exits, late]);
  timer.abort();
  const wrong = (side, { code, signal }, { said }) => `the ${side} ended with ${signal ?? code}:\n${said}`;
  if (!ended) {
    await killing(
      sender,
      receiver,
    )(new Error(`not ended ${END_PATIENCE / 1000} s after the last byte:\n${sender.said}\n${receiver.said}`));
  }
  const [sent, received] = ended;
  if (sent.code !== 0) throw new Error(wrong("sender", sent, sender));
  if (received.code !== 0) throw new Error(wrong("receiver", received, receiver));
  return { sent, received };
}

/** @returns {Transfer} */
function transfer({ bytes, first, last }, expected, { sent, received }) {
  if (bytes !== expected) throw new Error(`${bytes} of ${expected} bytes arrived`);
  return {
    seconds: last - first,
    rate: bytes / MIB / (last - first),
    // Without usage: killed hard, at the end of a transfer that was cut off.
    cpu: (sent.usage?.cpu + received.usage?.cpu) / (bytes / 2 ** 30),
    senderRss: sent.usage?.rss,
    receiverRss: received.usage?.rss,
  };
}

/**
 * `head -c BYTES /dev/zero | dcpipe pipe TOKEN` in a against `dcpipe pipe | meter` in b. A transfer that takes longer than
 * `limit` seconds is cut off there and counts with what it had moved, `cut` then being true. With `flags` by code.
 * @param {Net} net
 * @returns {Promise<Transfer & { cut?: boolean }>}
 */
export async function runPipe(net, bytes, { limit = 300, flags = [] } = {}) {
  const { receiver, token } = await waitingPipe(net, { drain: [await meter()], usage: true }, flags);
  const sender = start(net.a, pipe(token, ...flags), {
    feed: ["head", "-c", String(bytes), "/dev/zero"],
    discard: true,
    usage: true,
  });
  try {
    const first = await Promise.race([receiver.event("first", START_PATIENCE), failure(sender)]);
    const end = await Promise.race([receiver.event("end", limit * 1000), failure(sender)]).catch((error) => {
      if (!(error instanceof TimeoutError)) throw error;
    });
    if (end) return transfer(end, bytes, await bothEnd(sender, receiver));
    const sample = receiver.latest("sample") ?? first;
    const [sent, received] = await Promise.all([sender.kill(), receiver.kill()]);
    const moved = { bytes: sample.bytes, first: first.at, last: sample.at };
    return { ...transfer(moved, sample.bytes, { sent, received }), cut: true };
  } catch (error) {
    return killing(sender, receiver)(error);
  }
}

/** Rejects when the program ends badly; else never settles. */
async function failure(program) {
  const { code, signal } = await program.exited;
  if (code === 0) return new Promise(() => {});
  throw new Error(`ended with ${signal ?? code}:\n${program.said}`);
}

/** The same bytes over the bare channel. @param {Net} net @returns {Promise<Transfer>} */
export async function runRaw(net, bytes) {
  const socket = rawSocket();
  const receiver = start(net.b, [...RAW, "receive", socket], { usage: true });
  await receiver.event("ready", START_PATIENCE).catch(killing(receiver));
  const sender = start(net.a, [...RAW, "send", socket, String(bytes)], { discard: true, usage: true });
  try {
    const end = await Promise.race([receiver.event("end", 300_000), failure(sender)]);
    return transfer(end, bytes, await bothEnd(sender, receiver));
  } catch (error) {
    return killing(sender, receiver)(error);
  }
}

let sockets = 0;
const rawSocket = () => join(scratch(), `raw-${++sockets}.socket`);

/**
 * One TCP stream of `seconds` from a to b with the named congestion control.
 * @param {Net} net
 * @returns {Promise<{ rate: number }>} what the receiver got, MiB/s
 */
export async function runTcp(net, congestion, seconds) {
  const server = start(net.b, ["iperf3", "-s", "-1", "--forceflush"]);
  await server.line((line) => line.includes("listening") || undefined, START_PATIENCE).catch(killing(server));
  const options = ["-c", net.addressB, "-C", congestion, "-t", String(seconds), "-J"];
  const client = start(net.a, ["iperf3", ...options]);
  const { code, stdout } = await client.exited;
  await server.kill();
  const { error, end } = JSON.parse(stdout || '{"error":"no output"}');
  if (code !== 0 || error) throw new Error(`iperf3: ${error ?? client.said}`);
  return { rate: end.sum_received.bits_per_second / 8 / MIB };
}

/**
 * Peak memory of both sides of a pipe whose reader takes 1 MiB and then nothing more, `seconds` after it stopped.
 * @param {Net} net
 */
export async function runStalled(net, bytes, seconds) {
  const { receiver, token } = await waitingPipe(net, { drain: [await meter(), "stop", String(MIB)] });
  const sender = start(net.a, pipe(token), {
    feed: ["head", "-c", String(bytes), "/dev/zero"],
    discard: true,
  });
  try {
    await Promise.race([receiver.event("stopped", START_PATIENCE), failure(sender)]);
    await Promise.race([sleep(seconds * 1000), endless(sender), endless(receiver)]);
    return { senderRss: sender.peakRss(), receiverRss: receiver.peakRss() };
  } finally {
    await Promise.all([sender.kill(), receiver.kill()]);
  }
}

/** Rejects when the program ends at all. */
async function endless(program) {
  await program.exited;
  throw new Error(`ended while its reader stood still:\n${program.said}`);
}

/**
 * Seconds from the start of the joining process to its first byte at the other side's reader, the waiting side being up.
 * @param {Net} net
 */
export async function startPipe(net) {
  const { receiver, token } = await waitingPipe(net, { drain: [await meter()] });
  const sender = start(net.a, [await meter(), "stamp", ...pipe(token)], {
    feed: ["head", "-c", "1", "/dev/zero"],
    discard: true,
  });
  return startTime(sender, receiver);
}

/** The same for the bare channel. @param {Net} net */
export async function startRaw(net) {
  const socket = rawSocket();
  const receiver = start(net.b, [...RAW, "receive", socket]);
  await receiver.event("ready", START_PATIENCE).catch(killing(receiver));
  const sender = start(net.a, [await meter(), "stamp", ...RAW, "send", socket, "1"], { discard: true });
  return startTime(sender, receiver);
}

async function startTime(sender, receiver) {
  try {
    const [executed, end] = await Promise.all([
      sender.event("exec", START_PATIENCE),
      Promise.race([receiver.event("end", START_PATIENCE), failure(sender)]),
    ]);
    await bothEnd(sender, receiver);
    return end.first - executed.at;
  } catch (error) {
    return killing(sender, receiver)(error);
  }
}

/** The 1-byte echo over a session of dcpipe, idle and beside bulk: what latency.js reports. @param {Net} net */
export async function runEcho(net, seconds) {
  const waiting = start(net.b, [...ECHO, "wait"]);
  const { token } = await waiting.event("offer", START_PATIENCE).catch(killing(waiting));
  const joining = start(net.a, [...ECHO, "join", token, String(seconds)]);
  return latency(joining, waiting, seconds);
}

/** The same over the bare channel, echo and bulk on an association each. @param {Net} net */
export async function runRawEcho(net, seconds) {
  const socket = rawSocket();
  const waiting = start(net.b, [...RAW, "echo", socket]);
  await waiting.event("ready", START_PATIENCE).catch(killing(waiting));
  const joining = start(net.a, [...RAW, "ping", socket, String(seconds)]);
  return latency(joining, waiting, seconds);
}

async function latency(joining, waiting, seconds) {
  try {
    const patience = 2 * seconds * 1000 + START_PATIENCE;
    const result = await Promise.race([joining.event("latency", patience), failure(joining)]);
    await bothEnd(joining, waiting);
    return result;
  } catch (error) {
    return killing(joining, waiting)(error);
  }
}
