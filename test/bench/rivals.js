/**
 * What else sends files between two machines: `scp -r`, `rsync -a` to a daemon, and magic-wormhole. Their servers run in b,
 * in a scratch directory, and end with the namespace; nothing of the system's own configuration is read or written.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { now, run, scratch, start, undoOnExit } from "../lab/exec.js";
import { START_PATIENCE, killing } from "./drive.js";
import { reasonOf } from "./shared.js";

const SSH_PORT = 2222;
const RSYNC_PORT = 8730;
const MAILBOX_PORT = 4000;
const TRANSIT_PORT = 4001;

const SSHD = "/usr/sbin/sshd";
/** Where sshd keeps an empty directory, without which it does not start. */
const SSHD_EMPTY = "/run/sshd";
/** What starts Twisted's plugins, by distribution. */
const TWISTD = ["twistd3", "twistd", "twist"];

const UTF8 = { LC_ALL: "C.UTF-8" };

/**
 * @typedef {object} Sending
 * @property {number} seconds from the start of the one command, the other side waiting, until both have ended well
 * @property {boolean} cut it took longer than the limit, and was ended then
 * @property {number} [ready] seconds that the waiting side took until it waited
 * @property {string} [note] what else there is to say
 *
 * @typedef {object} Tool
 * @property {string} name
 * @property {string} [missing] why there is nothing to measure
 * @property {(source: string, target: string, limit: number) => Promise<Sending>} [send] a file or directory in a, into a
 *   directory in b
 */

/** The versions of those that are installed, for the page. */
export function versions() {
  const say = (command, ...args) => {
    const { stdout = "", stderr = "" } = spawnSync(command, args, {
      encoding: "utf8",
      env: { ...process.env, ...UTF8 },
    });
    return `${stdout ?? ""}${stderr ?? ""}`.split("\n")[0];
  };
  const ssh = /OpenSSH_[^\s,]+/.exec(say("ssh", "-V"))?.[0] ?? "no OpenSSH";
  const rsync = /version (\S+)/.exec(say("rsync", "--version"))?.[1];
  const wormhole = say("wormhole", "--version");
  const wrk = /^wrk (\S+)/.exec(say("wrk", "-v"))?.[0];
  return `${ssh}, ${rsync ? `rsync ${rsync}` : "no rsync"}, ${wormhole || "no magic-wormhole"}, ${wrk ?? "no wrk"}`;
}

/** Where a program is, if it is installed. */
export function find(...names) {
  for (const name of names) {
    const { status, stdout } = spawnSync("sh", ["-c", 'command -v "$0"', name], { encoding: "utf8" });
    if (status === 0) return stdout.trim();
  }
  throw new Error(`${names.join(" or ")} not installed`);
}

/** Resolves when somebody listens on a TCP port in a namespace; fails when `program`, who should, has ended. */
export async function listening(namespace, port, program) {
  const deadline = now() + START_PATIENCE / 1000;
  let gone = false;
  void program.exited.then(() => (gone = true));
  while (!gone && now() < deadline) {
    if (await run("ip", "netns", "exec", namespace, "ss", "-Hltn", `sport = :${port}`)) return;
    await sleep(50);
  }
  await killing(program)(new Error(`nobody listens on port ${port}:\n${program.said}`));
}

/**
 * Waits until all programs have ended, well; after `limit` seconds they are ended. If one fails, so do the others.
 * @param {number} begun
 * @param {ReturnType<typeof start>[]} programs
 * @param {number} limit
 * @returns {Promise<Sending>}
 */
export async function untilEnded(begun, programs, limit) {
  const well = programs.map(async (program) => {
    const { code, signal } = await program.exited;
    if (code !== 0) throw new Error(`ended with ${signal ?? code}: ${program.said}`);
    return now();
  });
  const ends = Promise.all(well);
  const timer = new AbortController();
  const late = sleep(limit * 1000, undefined, { signal: timer.signal }).catch(() => {});
  try {
    const ended = await Promise.race([ends, late]);
    if (ended) return { seconds: Math.max(...ended) - begun, cut: false };
    ends.catch(() => {}); // We end them.
    await Promise.all(programs.map((program) => program.kill()));
    return { seconds: limit, cut: true };
  } catch (error) {
    return killing(...programs)(error);
  } finally {
    timer.abort();
  }
}

/** A command in a that does everything. */
async function command(net, argv, limit) {
  const begun = now();
  return untilEnded(begun, [start(net.a, argv)], limit);
}

/**
 * Starts the servers of all that are installed.
 * @param {import("./drive.js").Net} net
 * @param {string} targets the directory below which all targets are
 * @returns {Promise<Tool[]>}
 */
export async function startRivals(net, targets) {
  const tools = [];
  for (const [name, prepare] of [
    ["rsync -a", () => rsync(net, targets)],
    ["scp -r", () => scp(net)],
    ["wormhole", () => wormhole(net)],
  ]) {
    try {
      tools.push({ name, send: await prepare() });
    } catch (error) {
      tools.push({ name, missing: reasonOf(error) });
    }
  }
  return tools;
}

let count = 0;

function ownDirectory(name) {
  const directory = join(scratch(), `${name}-${++count}`);
  mkdirSync(directory, { mode: 0o700 });
  return directory;
}

/**
 * Starts an sshd in b, with keys and a configuration of its own.
 * @param {import("./drive.js").Net} net
 * @returns {Promise<{ sshd: ReturnType<typeof start>, options: string[] }>} `options`: of every ssh and scp that is to log in there
 */
export async function startSshd(net) {
  find("ssh");
  find(SSHD);
  const directory = ownDirectory("ssh");
  const key = join(directory, "key");
  const hostKey = join(directory, "host-key");
  for (const file of [key, hostKey]) await run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file);
  const config = join(directory, "sshd_config");
  writeFileSync(
    config,
    `ListenAddress ${net.addressB}:${SSH_PORT}
HostKey ${hostKey}
AuthorizedKeysFile ${key}.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
Subsystem sftp internal-sftp
`,
  );
  if (!existsSync(SSHD_EMPTY)) {
    mkdirSync(SSHD_EMPTY, { mode: 0o755 });
    undoOnExit(() => rmdirSync(SSHD_EMPTY));
  }
  const sshd = start(net.b, [SSHD, "-D", "-e", "-f", config]);
  await listening(net.b, SSH_PORT, sshd);
  const settings = [
    `Port=${SSH_PORT}`,
    "IdentitiesOnly=yes",
    "BatchMode=yes",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
  ];
  return { sshd, options: ["-F", "/dev/null", "-i", key, ...settings.flatMap((setting) => ["-o", setting])] };
}

async function scp(net) {
  find("scp");
  const { options } = await startSshd(net);
  return (source, target, limit) =>
    command(net, ["scp", "-r", "-q", "-p", ...options, source, `root@${net.addressB}:${target}/`], limit);
}

async function rsync(net, targets) {
  find("rsync");
  const directory = ownDirectory("rsync");
  const config = join(directory, "rsyncd.conf");
  writeFileSync(
    config,
    `pid file = ${join(directory, "pid")}
lock file = ${join(directory, "lock")}
log file = ${join(directory, "log")}
reverse lookup = no
use chroot = no
munge symlinks = no
uid = root
gid = root
[targets]
path = ${targets}
read only = no
`,
  );
  const where = ["--address", net.addressB, "--port", String(RSYNC_PORT)];
  const daemon = start(net.b, ["rsync", "--daemon", "--no-detach", "--config", config, ...where]);
  await listening(net.b, RSYNC_PORT, daemon);
  return (source, target, limit) => {
    const url = `rsync://${net.addressB}:${RSYNC_PORT}/targets/${relative(targets, target)}/`;
    return command(net, ["rsync", "-a", source, url], limit);
  };
}

async function wormhole(net) {
  const program = find("wormhole");
  const twistd = find(...TWISTD);
  const directory = ownDirectory("wormhole");
  const plugin = (name, port, ...options) => {
    const foreground =
      basename(twistd) === "twist" ? [] : ["-n", "--pidfile", join(directory, `${name}.pid`)];
    const endpoint = ["--port", `tcp:${port}:interface=${net.addressB}`];
    return start(net.b, [twistd, ...foreground, name, ...endpoint, ...options], { env: UTF8 });
  };
  const database = ["--channel-db", join(directory, "mailbox.sqlite")];
  await listening(net.b, MAILBOX_PORT, plugin("wormhole-mailbox", MAILBOX_PORT, ...database));
  await listening(net.b, TRANSIT_PORT, plugin("transitrelay", TRANSIT_PORT));
  const argv = [
    program,
    ...["--relay-url", `ws://${net.addressB}:${MAILBOX_PORT}/v1`],
    ...["--transit-helper", `tcp:${net.addressB}:${TRANSIT_PORT}`],
  ];
  return async (source, target, limit) => {
    const prepared = now();
    const sender = start(net.a, [...argv, "send", "--hide-progress", source], { env: UTF8 });
    // The mailbox gives the code out, and so the sender waits there. Before that it has made its archive of a directory.
    const said = (line) => /^Wormhole code is: (\S+)/.exec(line)?.[1];
    const code = await sender.line(said, limit * 1000, "code").catch(killing(sender));
    const begun = now();
    const place = ["-o", join(target, basename(source))];
    const receiver = start(net.b, [...argv, "receive", "--hide-progress", "--accept-file", ...place, code], {
      env: UTF8,
    });
    const path = receiver.line((line) => /^Receiving \((.+)\)\.\./.exec(line)?.[1], limit * 1000, "path");
    path.catch(() => {});
    const sending = await untilEnded(begun, [receiver, sender], limit);
    const relayed = (await path.catch(() => "")).includes("relay:");
    return { ...sending, ready: begun - prepared, note: relayed ? "by its relay" : "directly" };
  };
}
