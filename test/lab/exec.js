/**
 * Programs for the lab and the bench: started inside a network namespace, their output read line by line, their CPU time
 * and memory measured, and all of them gone when we are, whatever ended us.
 */
import { execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";

/** Names of the lab's namespaces begin with this and the process id of whoever made them, so that two labs never meet. */
export const PREFIX = `dcw-${process.pid}-`;

/** How long a program has to end after SIGTERM, ms, before it gets SIGKILL. */
const KILL_PATIENCE = 2_000;

/** Lines of standard error kept for a failure's message. */
const KEPT_LINES = 200;

// ---------------------------------------------------------------------------------------------------------------------
// Cleaning up

/** What must be undone before this process ends, oldest first. Synchronous, since an "exit" handler can not wait. */
const undos = new Set();
let armed = false;

/**
 * Has `undo` called once: by the function returned, or else when this process ends, be it by an uncaught error or a signal.
 * (SIGKILL excepted: what that leaves behind, `sweep` finds the next time.)
 * @param {() => void} undo synchronous
 * @returns {() => void}
 */
export function undoOnExit(undo) {
  if (!armed) {
    armed = true;
    process.on("exit", () => {
      for (const each of [...undos].reverse()) each();
    });
    for (const [signal, number] of Object.entries({ SIGINT: 2, SIGTERM: 15, SIGHUP: 1 })) {
      process.once(signal, () => process.exit(128 + number));
    }
  }
  const each = () => {
    if (!undos.delete(each)) return;
    try {
      undo();
    } catch {
      // The next one still gets its turn; there is nobody left to tell.
    }
  };
  undos.add(each);
  return each;
}

/** A file system in memory, where there is one. */
export const MEMORY = "/dev/shm";

const directories = new Map();

/**
 * A directory for sockets, measurements and compiled helpers; it goes when this process ends.
 * @param {string} [parent] elsewhere than where temporary files are
 * @returns {string}
 */
export function scratch(parent = tmpdir()) {
  if (!directories.has(parent)) {
    const directory = mkdtempSync(join(parent, `dcpipe-lab-${process.pid}-`));
    undoOnExit(() => rmSync(directory, { recursive: true, force: true }));
    directories.set(parent, directory);
  }
  return directories.get(parent);
}

// ---------------------------------------------------------------------------------------------------------------------
// Short commands

const execute = promisify(execFile);

/** Runs a command to its end and returns its standard output; fails with its standard error. */
export async function run(command, ...args) {
  try {
    return (await execute(command, args)).stdout;
  } catch (error) {
    throw new Error(`${command} ${args.join(" ")}: ${error.stderr?.trim() || error.message}`, {
      cause: error,
    });
  }
}

const compiled = new Map();

/** Compiles one C file (once) and returns the program's path. */
export function compile(source) {
  if (!compiled.has(source)) {
    const program = join(scratch(), basename(source, ".c"));
    compiled.set(
      source,
      run("gcc", "-O2", "-Wall", "-o", program, source).then(() => program),
    );
  }
  return compiled.get(source);
}

/** Seconds on the clock that every process of this machine shares (CLOCK_MONOTONIC). */
export function now() {
  return Number(process.hrtime.bigint()) / 1e9;
}

// ---------------------------------------------------------------------------------------------------------------------
// Namespaces

/** Makes namespaces with loopback up and without IPv6 (whose duplicate address detection takes seconds). */
export async function createNamespaces(...names) {
  if (process.getuid?.() !== 0) throw new Error("the lab needs root, for network namespaces");
  sweep();
  for (const name of names) {
    await run("ip", "netns", "add", name);
    // Without the last one TCP hands what it learnt about a path to its next connection: runs would not be independent.
    const settings = ["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"];
    await run("ip", "netns", "exec", name, "sysctl", "-qw", ...settings, "net.ipv4.tcp_no_metrics_save=1");
    await run("ip", "-n", name, "link", "set", "lo", "up");
  }
}

/** Resolves when the kernel calls a device running. */
export async function untilRunning(namespace, device) {
  const argv = ["-n", namespace, "-j", "link", "show", device];
  for (;;) {
    const [link] = JSON.parse(spawnSync("ip", argv, { encoding: "utf8" }).stdout);
    if (link.operstate === "UP") return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Ends every process inside a namespace, by id, and removes it, with what `ip netns exec` shows there as /etc. */
export function removeNamespace(name) {
  rmSync(`/etc/netns/${name}`, { recursive: true, force: true });
  if (!existsSync(`/run/netns/${name}`)) return;
  const pids = spawnSync("ip", ["netns", "pids", name], { encoding: "utf8" }).stdout ?? "";
  for (const pid of pids.split("\n").filter(Boolean)) kill(Number(pid), "SIGKILL");
  spawnSync("ip", ["netns", "del", name]);
}

/** Removes what labs left behind whose process is no more. */
function sweep() {
  const orphans = (folder, pattern) =>
    (existsSync(folder) ? readdirSync(folder) : []).filter((name) => {
      const owner = pattern.exec(name)?.[1];
      return owner !== undefined && !existsSync(`/proc/${owner}`);
    });
  orphans("/run/netns", /^dcw-(\d+)-/).forEach(removeNamespace);
  for (const parent of [tmpdir(), MEMORY])
    for (const name of orphans(parent, /^dcpipe-lab-(\d+)-/)) rmSync(join(parent, name), { recursive: true });
}

/** Sends a signal to a process, or with a negative id to a group; one that is gone already is no error. */
function kill(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone.
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Programs

/**
 * @typedef {object} Options
 * @property {string[]} [feed] a command whose output becomes standard input, over a real pipe; else it is empty
 * @property {string[]} [drain] a command that reads standard output, over a real pipe; its own output is read in its place
 * @property {boolean} [discard] standard output goes to /dev/null
 * @property {boolean} [usage] measure CPU time and memory of the whole run (not of feed and drain)
 * @property {Record<string, string>} [env] additions to the environment
 *
 * @typedef {object} Usage what the program and all its finished children used
 * @property {number} cpu user and system time, s
 * @property {number} rss largest resident set, MiB
 *
 * @typedef {object} Exit
 * @property {number | null} code
 * @property {string | null} signal
 * @property {string} stdout
 * @property {Usage} [usage]
 */

/**
 * Starts a program, inside a namespace or (with null) here. Feed and drain run outside of it.
 * @param {string | null} namespace
 * @param {string[]} argv
 * @param {Options} [options]
 */
export function start(namespace, argv, options = {}) {
  return new Program(namespace, argv, options);
}

export class TimeoutError extends Error {}

class Program {
  /** Every line of both outputs, oldest first: the last KEPT_LINES of them. */
  #lines = [];
  #listeners = new Set();
  #stdout = "";
  #child;
  #gone = false;
  #usageFile;
  #forget;

  constructor(namespace, argv, { feed, drain, discard, usage, env }) {
    let command = argv;
    if (usage) {
      this.#usageFile = join(scratch(), `usage-${++Program.#count}`);
      command = ["/usr/bin/time", "-o", this.#usageFile, "-f", "%U %S %M", ...command];
    }
    if (namespace) command = ["ip", "netns", "exec", namespace, ...command];
    // Node would connect two children by socket pairs; bash makes the pipes that a user's shell makes. Neither helper may
    // hold the other's pipe open, hence the closing.
    if (feed || drain) {
      const script =
        (drain ? `exec 4> >(${quote(drain)}); ` : "") +
        (feed ? `exec 3< <(${quote(feed)} 2>/dev/null 4>&-); ` : "") +
        `exec "$@" ${feed ? "<&3 3<&-" : ""} ${drain ? ">&4 4>&-" : ""}`;
      command = ["bash", "-c", script, "bash", ...command];
    }
    this.#child = spawn(command[0], command.slice(1), {
      stdio: ["ignore", discard ? "ignore" : "pipe", "pipe"],
      detached: true, // A process group of its own: the whole of it can be ended, and a terminal's Ctrl-C comes to us alone.
      env: { ...process.env, ...env },
    });
    this.#forget = undoOnExit(() => kill(-this.pid, "SIGKILL"));
    this.#read(this.#child.stdout, (text) => (this.#stdout += text));
    this.#read(this.#child.stderr, () => {});
    /** Settles when the program and its drain have ended. Never rejects. @type {Promise<Exit>} */
    this.exited = this.#end();
  }

  static #count = 0;

  /** The program's own process id (with `usage`: that of `time`, whose child it is). */
  get pid() {
    return this.#child.pid;
  }

  /** The last lines it said, for a failure's message. */
  get said() {
    return this.#lines.slice(-8).join("\n");
  }

  /**
   * The first line, past or to come, that `match` makes something of. Fails when the program ends without one, or (with a
   * TimeoutError) after `timeout` ms.
   * @template T
   * @param {(line: string) => T | undefined} match
   * @param {number} timeout
   * @param {string} what names what is awaited, for the failure's message
   * @returns {Promise<T>}
   */
  line(match, timeout, what = "a line") {
    return new Promise((resolve, reject) => {
      const settle = (then, value) => {
        clearTimeout(timer);
        this.#listeners.delete(listener);
        then(value);
      };
      const listener = (line) => {
        if (line === undefined) return settle(reject, new Error(`ended without ${what}:\n${this.said}`));
        const found = match(line);
        if (found !== undefined) settle(resolve, found);
      };
      const timer = setTimeout(
        () => settle(reject, new TimeoutError(`no ${what} in ${timeout / 1000} s:\n${this.said}`)),
        timeout,
      );
      this.#listeners.add(listener);
      for (const line of [...this.#lines]) if (this.#listeners.has(listener)) listener(line);
      if (this.#gone && this.#listeners.has(listener)) listener(undefined);
    });
  }

  /** The first JSON line with this `event`. */
  event(name, timeout) {
    return this.line((line) => parseEvent(line, name), timeout, `"${name}" event`);
  }

  /** The newest JSON line with this `event`, if there was one. */
  latest(name) {
    return this.#lines.map((line) => parseEvent(line, name)).findLast((event) => event !== undefined);
  }

  /** Largest resident set so far of the process `pid`, MiB; undefined when it is gone. Not with `usage`. */
  peakRss() {
    try {
      const kib = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))?.[1];
      return kib === undefined ? undefined : Number(kib) / 1024;
    } catch {
      return undefined;
    }
  }

  /** Ends the program, its feed and its drain: SIGTERM (SIGINT for one under `time`, which survives that), then SIGKILL. */
  async kill() {
    // Its process id may be somebody else's by now.
    if (this.#gone) return this.exited;
    kill(-this.pid, this.#usageFile ? "SIGINT" : "SIGTERM");
    const timer = setTimeout(() => kill(-this.pid, "SIGKILL"), KILL_PATIENCE);
    const exit = await this.exited;
    clearTimeout(timer);
    return exit;
  }

  #read(stream, also) {
    let rest = "";
    stream?.setEncoding("utf8").on("data", (text) => {
      also(text);
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      for (const line of lines) this.#hear(line);
    });
    stream?.on("end", () => rest && this.#hear(rest));
  }

  #hear(line) {
    this.#lines.push(line);
    if (this.#lines.length > KEPT_LINES) this.#lines.shift();
    for (const listener of [...this.#listeners]) listener(line);
  }

  async #end() {
    let code = null;
    let signal = null;
    try {
      [code, signal] = await once(this.#child, "close");
    } catch (error) {
      this.#hear(error.message);
    }
    this.#gone = true;
    this.#forget();
    for (const listener of [...this.#listeners]) listener(undefined);
    return { code, signal, stdout: this.#stdout, usage: this.#usage() };
  }

  /** `time` writes a remark before the figures when the program failed, so the last line counts. */
  #usage() {
    if (!this.#usageFile || !existsSync(this.#usageFile)) return undefined;
    const figures = readFileSync(this.#usageFile, "utf8").trim().split("\n").at(-1).split(" ").map(Number);
    rmSync(this.#usageFile);
    const [user, system, kib] = figures;
    return figures.length === 3 ? { cpu: user + system, rss: kib / 1024 } : undefined;
  }
}

function parseEvent(line, name) {
  if (!line.startsWith("{")) return undefined;
  try {
    const value = JSON.parse(line);
    return value.event === name ? value : undefined;
  } catch {
    return undefined;
  }
}

/** An argument list as shell words. */
function quote(argv) {
  return argv.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
}
