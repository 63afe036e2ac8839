/**
 * Real dcpipe processes for the tests: started, their JSON events awaited, their output and status collected. Each test
 * ends what it started and nothing else. Nothing here waits for a time: a process says what it does, or ends.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, watch, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { expect, onTestFailed, onTestFinished, test, type TestContext } from "vitest";

export const BIN = fileURLToPath(new URL("../../bin/dcpipe.js", import.meta.url));

/** Verbs that make a connection: they get --no-stun, --no-lan and --json unless told otherwise. */
const VERBS = new Set(["pipe", "send", "receive", "forward"]);

export interface DcpipeEvent {
  readonly event: string;
  readonly token?: string;
  readonly code?: string;
  readonly message?: string;
  readonly hint?: string;
  readonly bytes?: number;
  readonly total?: number;
  readonly files?: number;
  readonly reason?: string;
  readonly text?: string;
  readonly path?: string;
  readonly [field: string]: unknown;
}

export interface Exit {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface StartOptions {
  /** What comes on stdin: nothing (default), these bytes, an open pipe, or a file descriptor. */
  readonly stdin?: "ignore" | "pipe" | Uint8Array | { readonly fd: number };
  readonly stdout?: { readonly fd: number };
  /** Events on stderr as JSON; default true. */
  readonly json?: boolean;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
  /** Network namespace to run in. */
  readonly namespace?: string | undefined;
  /** Without root's right to pass over file permissions. */
  readonly unprivileged?: boolean;
  /** A bash script around the command, which is "$@" in it. */
  readonly shell?: string;
}

const living = new Set<Process>();
process.on("exit", () => {
  for (const each of living) each.kill("SIGKILL");
});

/** A program with pipes for its three streams, in a session (of terminals) and process group of its own. */
export class Process {
  readonly child: ChildProcess;
  /** Settles when the process has ended and all its output is here. Never rejects. */
  readonly exited: Promise<Exit>;
  readonly what: string;
  stderr = "";
  /** Called at each output, and at the end. */
  readonly listeners = new Set<() => void>();
  gone = false;
  protected onstderr: ((text: string) => void) | undefined;
  #stdout: Buffer[] = [];

  constructor(argv: readonly string[], options: StartOptions = {}) {
    const { stdin = "ignore", stdout, env, cwd } = options;
    this.what = argv.join(" ");
    const [command = "", ...rest] = argv;
    this.child = spawn(command, rest, {
      stdio: [
        stdin === "ignore" ? "ignore" : stdin === "pipe" || ArrayBuffer.isView(stdin) ? "pipe" : stdin.fd,
        stdout?.fd ?? "pipe",
        "pipe",
      ],
      detached: true,
      cwd,
      env: { ...cleanEnvironment(), ...env },
    });
    living.add(this);
    this.child.stdin?.on("error", () => undefined);
    if (ArrayBuffer.isView(stdin)) this.stdin.end(stdin);
    this.child.stdout?.on("data", (chunk: Buffer) => {
      this.#stdout.push(chunk);
      this.#heard();
    });
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
      this.onstderr?.(text);
      this.#heard();
    });
    this.exited = new Promise((resolve) => {
      this.child.on("error", (error) => {
        this.stderr += error.message;
      });
      this.child.on("close", (status, signal) => {
        living.delete(this);
        this.gone = true;
        this.#heard();
        resolve({ status, signal, stdout: this.stdout, stderr: this.stderr });
      });
    });
    onTestFailed(() => {
      const { exitCode, signalCode } = this.child;
      const state = this.gone ? `status ${exitCode ?? signalCode ?? "?"}` : "still running";
      console.error(`--- ${this.what}\n--- ${state}, ${this.stdout.length} bytes on stdout\n${this.stderr}`);
    });
    onTestFinished(async () => {
      this.kill("SIGKILL");
      this.child.stdin?.destroy();
      await this.exited;
    });
  }

  get stdin(): Writable {
    if (!this.child.stdin) throw new Error(`stdin of ${this.what} is no pipe`);
    return this.child.stdin;
  }

  /** The stream itself; its bytes are collected too. */
  get output(): Readable {
    if (!this.child.stdout) throw new Error(`stdout of ${this.what} is no pipe`);
    return this.child.stdout;
  }

  /** What came on stdout up to now. */
  get stdout(): Buffer {
    this.#stdout = [Buffer.concat(this.#stdout)];
    return this.#stdout[0] ?? Buffer.alloc(0);
  }

  /** Sends a signal to the process and, where a shell is around it, its neighbours. */
  kill(signal: NodeJS.Signals): void {
    if (this.gone || this.child.pid === undefined) return;
    try {
      process.kill(-this.child.pid, signal);
    } catch {
      // Gone since.
    }
  }

  /** Resolves with what `find` gives, as soon as it gives anything; rejects when the process ends without. */
  until<T>(what: string, find: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const found = find();
        if (found === undefined && !this.gone) return;
        this.listeners.delete(look);
        if (found !== undefined) resolve(found);
        else reject(new Error(`${this.what} ended without ${what}:\n${this.stderr}`));
      };
      this.listeners.add(look);
      look();
    });
  }

  /** Resolves when so many bytes, or this text, are on stdout. */
  async printed(what: number | string | RegExp): Promise<void> {
    await this.until(`${what} on stdout`, () => {
      if (typeof what === "number") return this.stdout.length >= what || undefined;
      const text = this.stdout.toString();
      return (typeof what === "string" ? text.includes(what) : what.test(text)) || undefined;
    });
  }

  #heard(): void {
    for (const listener of [...this.listeners]) listener();
  }
}

/** A dcpipe process. */
export class Dcpipe extends Process {
  readonly events: DcpipeEvent[] = [];

  constructor(args: readonly string[], options: StartOptions = {}) {
    const [verb = "", ...rest] = args;
    const wanted = VERBS.has(verb) && options.json !== false && !args.includes("--help");
    const json = wanted || args.includes("--json");
    const quiet = ["stun", "lan"].filter((each) => !args.includes(`--${each}`)).map((each) => `--no-${each}`);
    const added = [...(VERBS.has(verb) ? quiet : []), ...(wanted ? ["--json"] : [])];
    let argv = [process.execPath, BIN, ...(verb === "" ? [] : [verb]), ...added, ...rest];
    if (options.unprivileged && process.getuid?.() === 0)
      argv = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", ...argv];
    if (options.namespace !== undefined) argv = ["ip", "netns", "exec", options.namespace, ...argv];
    if (options.shell !== undefined) argv = ["bash", "-c", options.shell, "bash", ...argv];
    super(argv, options);
    if (!json) return;
    let partial = "";
    this.onstderr = (text) => {
      const lines = (partial + text).split("\n");
      partial = lines.pop() ?? "";
      for (const line of lines) {
        try {
          this.events.push(JSON.parse(line) as DcpipeEvent);
        } catch {
          this.events.push({ event: "unparsable", text: line });
        }
      }
    };
  }

  /** The first event of this name, past or to come, that `fits`. Rejects when the process ends without. */
  event(name: string, fits: (event: DcpipeEvent) => boolean = () => true): Promise<DcpipeEvent> {
    return this.until(`the event "${name}"`, () => this.find(name, fits));
  }

  /** The token of the offer it makes. */
  async offer(): Promise<string> {
    return String((await this.event("offer")).token);
  }

  /** The code it waits with. */
  async code(): Promise<string> {
    return String((await this.event("code")).code);
  }

  find(name: string, fits: (event: DcpipeEvent) => boolean = () => true): DcpipeEvent | undefined {
    return this.events.find((event) => event.event === name && fits(event));
  }

  /** The error it ended with. */
  get error(): DcpipeEvent | undefined {
    return this.events.findLast((event) => event.event === "error");
  }
}

export function start(args: readonly string[], options?: StartOptions): Dcpipe {
  return new Dcpipe(args, options);
}

/** Starts a waiting side and, with its offer, a joining side. */
export async function pair(
  waiting: readonly [args: readonly string[], options?: StartOptions | undefined],
  joining: readonly [args: readonly string[], options?: StartOptions | undefined],
): Promise<{ waiting: Dcpipe; joining: Dcpipe }> {
  const waits = start(waiting[0], waiting[1]);
  const offer = await waits.offer();
  return { waiting: waits, joining: start([...joining[0], "--to", offer], joining[1]) };
}

/** Waits for the ends of processes that must do their work. Checks what holds for every good end. */
export async function succeed(...processes: readonly Process[]): Promise<Exit[]> {
  const exits: Exit[] = [];
  for (const each of processes) {
    const exit = await each.exited;
    expect(exit, `${each.what}\n${exit.stderr}`).toMatchObject({ status: 0, signal: null });
    if (each instanceof Dcpipe) checkEvents(each);
    exits.push(exit);
  }
  return exits;
}

/** Waits for the end of a process that must fail, with a message and no stack trace. */
export async function fail(failing: Dcpipe, status: number, message?: RegExp): Promise<Exit> {
  const exit = await failing.exited;
  expect(exit, `${failing.what}\n${exit.stderr}`).toMatchObject({ status, signal: null });
  expect(exit.stderr).not.toMatch(/^\s+at /m);
  checkEvents(failing);
  if (message !== undefined) {
    const text = failing.events.length > 0 ? String(failing.error?.message) : exit.stderr;
    expect(text).toMatch(message);
  }
  return exit;
}

/** With --json stderr is JSON lines and nothing else, `event` first in each. */
export function checkEvents({ events, stderr, what }: Dcpipe): void {
  expect(
    events.filter(({ event }) => event === "unparsable"),
    `${what}\n${stderr}`,
  ).toEqual([]);
  for (const event of events) expect(Object.keys(event)[0]).toBe("event");
}

/** A directory that goes with the test. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "dcpipe-e2e-"));
  onTestFinished(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

/** A file of random bytes, or of the given ones, in a directory of its own. */
export function makeFile(name: string, content: number | Uint8Array): string {
  const path = join(temporaryDirectory(), name);
  writeFileSync(path, typeof content === "number" ? randomBytes(content) : content);
  return path;
}

/** Resolves when `holds` is true of what is on disk below the directory; looks again at every change. */
export function onDisk(directory: string, holds: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!holds()) return;
      watcher.close();
      resolve();
    };
    const watcher = watch(directory, look);
    look();
  });
}

/** What is in a directory of a file that is not whole: the names of its parts. */
export function partsOf(path: string): string[] {
  const pattern = /^(.*)\.\d+-\d+\.dcpipe-part$/s;
  return readdirSync(dirname(path)).filter((name) => pattern.exec(name)?.[1] === basename(path));
}

/** Bytes of the only part of a file; undefined when there is none, or more than one. */
export function partSize(path: string): number | undefined {
  const [part, ...others] = partsOf(path);
  if (part === undefined || others.length > 0) return undefined;
  return statSync(join(dirname(path), part), { throwIfNoEntry: false })?.size;
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Compares files without printing megabytes. */
export function expectEqualFiles(actual: string, expected: string): void {
  const [a, b] = [readFileSync(actual), readFileSync(expected)];
  expect(a.length).toBe(b.length);
  expect(sha256(a)).toBe(sha256(b));
}

/** A test that needs network namespaces or mounts. Without root it is skipped on a desk, and fails in CI. */
export function rootTest(
  name: string,
  body: (context: TestContext) => Promise<void>,
  timeout?: number,
): void {
  test(
    name,
    async (context) => {
      if (process.getuid?.() !== 0 && process.env["CI"] !== "true")
        context.skip("needs root, for network namespaces and mounts");
      await body(context);
    },
    timeout,
  );
}

/** Whether these commands are here. Without one of them a test is skipped on a desk, and fails in CI. */
export function needs(context: TestContext, ...commands: readonly string[]): void {
  for (const command of commands) {
    const found = spawnSync("sh", ["-c", 'command -v "$1"', "sh", command], { stdio: "ignore" }).status === 0;
    if (!found && process.env["CI"] !== "true") context.skip(`needs ${command}`);
    expect(found, `${command} is missing`).toBe(true);
  }
}

/** An argument list as shell words. */
export function quote(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
}

/** Nothing of the caller's settings may change what is tested. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const environment = { ...process.env };
  for (const name of Object.keys(environment)) {
    if (
      /^(DCPIPE_|CI$|NO_COLOR$|FORCE_COLOR$|COLUMNS$|LINES$|NODE_OPTIONS$|NODE_EXTRA_CA_CERTS$|https?_proxy$|no_proxy$|all_proxy$)/i.test(
        name,
      )
    )
      Reflect.deleteProperty(environment, name);
  }
  // Nor any config file, or peer.
  environment["XDG_CONFIG_HOME"] = "/nonexistent";
  environment["XDG_STATE_HOME"] = "/nonexistent";
  return environment;
}
