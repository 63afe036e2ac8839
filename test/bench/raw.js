/**
 * The yardstick: node-datachannel with nothing of dcpipe around it, set as well as it can be. Two processes, one data
 * channel, bytes out of a buffer on one side and counted on the other.
 *
 *   node test/bench/raw.js receive SOCKET        waits; signalling runs over this unix socket
 *   node test/bench/raw.js send SOCKET BYTES
 *   node test/bench/raw.js echo SOCKET           waits, and sends back what comes on the echo channel
 *   node test/bench/raw.js ping SOCKET SECONDS   times a 1-byte echo, idle and then beside a bulk stream
 *
 * What they report, as JSON lines on standard output: "ready", "end" with the times of the first and the last byte
 * (seconds of CLOCK_MONOTONIC), "latency".
 *
 * The handshake, by JSON lines on the socket, is the one that does not race and seldom stalls: the joining side can not knock
 * before its answer has been taken in, and it alone knocks, so that it is ready for the DTLS flight that follows.
 *
 *   waiting                                  joining
 *   offer (setup:active, no candidates) ---> setRemoteDescription
 *   setRemoteDescription <------------------ answer, no candidates
 *   candidates ----------------------------> addRemoteCandidate; the other learns our address from the checks
 */
import { once } from "node:events";
import { createConnection, createServer } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { PeerConnection } from "node-datachannel";
import { measureLatency } from "./latency.js";

/** Message size: 256 KiB is no faster, and takes four times the receive queue. */
const MESSAGE = 64 * 1024;
/** Filling stops at the high-water mark of the send queue and goes on at the low one. */
const HIGH_WATER = 4 * 1024 * 1024;
const LOW_WATER = 1024 * 1024;

const CONFIGURATION = {
  iceServers: [],
  mtu: 1500, // 10 to 30 % faster than the library's cautious 1280.
  maxMessageSize: 1024 * 1024,
};

function report(event, values = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...values })}\n`);
}

function now() {
  return Number(process.hrtime.bigint()) / 1e9;
}

/** A peer connection with one negotiated channel. Both must stay referenced, or they are collected and closed. */
function createPeer(name) {
  const pc = new PeerConnection(name, { ...CONFIGURATION, disableAutoNegotiation: true });
  const channel = pc.createDataChannel("raw", { negotiated: true, id: 0 });
  channel.setBufferedAmountLowThreshold(LOW_WATER);
  const open = new Promise((resolve) => channel.onOpen(resolve));
  // Without these two listeners, native handles of a closed connection keep the process from ending.
  pc.onStateChange(() => {});
  channel.onClosed(() => {});
  const peer = { pc, channel, open, wake: () => {}, close: () => pc.close() };
  channel.onBufferedAmountLow(() => peer.wake());
  return peer;
}

/** The local description once it holds every candidate, in two parts. */
async function describe({ pc }, type) {
  const gathered = new Promise((resolve) =>
    pc.onGatheringStateChange((state) => state === "complete" && resolve()),
  );
  pc.setLocalDescription(type);
  await gathered;
  const lines = pc.localDescription().sdp.trim().split(/\r?\n/);
  const isCandidate = (line) => /^a=(candidate|end-of-candidates)/.test(line);
  return {
    sdp: lines.filter((line) => !isCandidate(line)).join("\r\n") + "\r\n",
    candidates: lines.filter((line) => line.startsWith("a=candidate")),
  };
}

/** The waiting side: `count` peers, described before anyone comes. */
async function wait(socketPath, count) {
  const peers = Array.from({ length: count }, () => createPeer("waiting"));
  const offers = await Promise.all(peers.map((peer) => describe(peer, "offer")));
  const server = createServer().listen(socketPath);
  await once(server, "listening");
  report("ready");
  const [socket] = await once(server, "connection");
  server.close();
  const wire = talk(socket);
  // With `actpass` the joining side's first DTLS flight is often lost, and repeated only after a second.
  wire.send(offers.map(({ sdp }) => sdp.replace("a=setup:actpass", "a=setup:active")));
  const answers = await wire.receive();
  peers.forEach(({ pc }, i) => pc.setRemoteDescription(answers[i], "answer"));
  wire.send(offers.map(({ candidates }) => candidates));
  return { wire, peers };
}

/** The joining side. */
async function join(socketPath) {
  const wire = talk(createConnection(socketPath));
  const offers = await wire.receive();
  const peers = offers.map(() => createPeer("joining"));
  const answers = await Promise.all(
    peers.map((peer, i) => {
      peer.pc.setRemoteDescription(offers[i], "offer");
      return describe(peer, "answer");
    }),
  );
  wire.send(answers.map(({ sdp }) => sdp));
  const candidates = await wire.receive();
  peers.forEach(({ pc }, i) => {
    for (const candidate of candidates[i]) pc.addRemoteCandidate(candidate, "0");
  });
  return { wire, peers };
}

/** JSON values, one a line, over a socket. */
function talk(socket) {
  const lines = createInterface(socket)[Symbol.asyncIterator]();
  return {
    send: (value) => socket.write(`${JSON.stringify(value)}\n`),
    receive: async () => JSON.parse((await lines.next()).value),
    close: () => socket.destroy(),
  };
}

/** Keeps a channel's queue filled with `total` bytes, or until `stopped` says so. */
async function fill(peer, total, stopped = () => false) {
  const message = Buffer.alloc(MESSAGE);
  for (let sent = 0; sent < total && !stopped();) {
    while (peer.channel.bufferedAmount() >= HIGH_WATER) await new Promise((resolve) => (peer.wake = resolve));
    const size = Math.min(MESSAGE, total - sent);
    peer.channel.sendMessageBinary(size === MESSAGE ? message : message.subarray(0, size));
    sent += size;
  }
}

async function receive(socketPath) {
  let total = Infinity;
  let bytes = 0;
  let first;
  let finish;
  const finished = new Promise((resolve) => (finish = resolve));
  const { wire, peers } = await wait(socketPath, 1);
  peers[0].channel.onMessage((message) => {
    const at = now();
    first ??= at;
    bytes += message.length;
    if (bytes >= total) finish(at);
  });
  ({ total } = await wire.receive());
  if (bytes >= total) finish(now());
  const last = await finished;
  wire.send({ done: bytes });
  report("end", { bytes, first, last });
  peers[0].close();
  wire.close();
}

async function send(socketPath, total) {
  const { wire, peers } = await join(socketPath);
  wire.send({ total });
  await peers[0].open;
  await fill(peers[0], total);
  await wire.receive(); // Closing before the other side has all would cut off the tail.
  peers[0].close();
  wire.close();
}

/** Two associations, as bulk on the same one would starve the echo: 0 for the echo, 1 for bulk. */
async function echo(socketPath) {
  const { wire, peers } = await wait(socketPath, 2);
  const [small, bulk] = peers;
  let bytes = 0;
  small.channel.onMessage((message) => small.channel.sendMessageBinary(message));
  bulk.channel.onMessage((message) => (bytes += message.length));
  for (let question; (question = await wire.receive().catch(() => undefined));) {
    if (question === "bytes") wire.send(bytes);
    else break;
  }
  peers.forEach((peer) => peer.close());
  wire.close();
}

async function ping(socketPath, seconds) {
  const { wire, peers } = await join(socketPath);
  const [small, bulk] = peers;
  let answered = () => {};
  small.channel.onMessage(() => answered());
  await Promise.all(peers.map((peer) => peer.open));
  const byte = Buffer.alloc(1);
  report(
    "latency",
    await measureLatency({
      seconds,
      ping: () =>
        new Promise((resolve) => {
          answered = resolve;
          small.channel.sendMessageBinary(byte);
        }),
      fill: (stopped) => fill(bulk, Infinity, stopped),
      delivered: async () => {
        wire.send("bytes");
        return wire.receive();
      },
    }),
  );
  wire.send("end");
  await sleep(100);
  peers.forEach((peer) => peer.close());
  wire.close();
}

const [verb, socketPath, number] = process.argv.slice(2);
const programs = { receive, send, echo, ping };
if (!programs[verb] || !socketPath) {
  console.error("usage: raw.js receive SOCKET | send SOCKET BYTES | echo SOCKET | ping SOCKET SECONDS");
  process.exit(2);
}
await programs[verb](socketPath, Number(number));
