/** The lab of networks (test/netlab) for tests: it goes with the test that made it. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { onTestFinished } from "vitest";

export interface Router {
  readonly namespace: string;
  readonly outer: string | undefined;
  /** Forgets all mappings; inner ports get other outer ones from now on, and opened ports are closed. */
  reboot(): Promise<void>;
  setUdpTimeout(seconds: number): Promise<void>;
  setMtu(bytes: number, options?: { told?: boolean }): Promise<void>;
}

export interface Host {
  readonly namespace: string;
  readonly address: string | undefined;
  readonly address6: string | undefined;
  /** What programs on it need: certificates, a proxy. */
  readonly env: Record<string, string>;
  /** Those on its way to the internet, the nearest first. */
  readonly routers: readonly Router[];
  unplug(): Promise<void>;
  plug(): Promise<void>;
  /** Other addresses on the same network, and only those. */
  move(): Promise<void>;
  /** A second, better interface on the same network. */
  addInterface(): Promise<{ device: string; remove(): Promise<void> }>;
}

export interface Lab {
  readonly a: Host;
  readonly b: Host;
  /** Namespace of the servers. */
  readonly internet: string;
  readonly stun: string;
  readonly turn: { readonly udp: string; readonly tcp: string; readonly tls: string };
  readonly rendezvous: { readonly http: string; readonly https: string };
  readonly ca: string;
  /** Bytes that went each way since the last call. */
  traffic(): Promise<{ direct: number; turn: number; relay: number }>;
  close(): Promise<void>;
}

export interface Services {
  readonly turn?: boolean | { secret?: string };
  readonly rendezvous?: boolean | { args?: string[]; env?: Record<string, string> };
}

export type Means = "paste" | "paste-turn" | "code";

export interface Outcome {
  readonly way: string;
  /** Where the packets of the other side come from, as the waiting and the joining side say. */
  readonly remotes: readonly (string | undefined)[];
  readonly statuses: readonly (number | string)[];
  readonly errors: readonly (string | undefined)[];
  readonly faults: readonly string[];
  readonly said: string;
}

interface Cell {
  readonly waiting: string;
  readonly joining: string;
  readonly means: Means;
  readonly expected: string;
}

// The lab is plain JavaScript: it runs by hand, without a build.
const load = (name: string): Promise<unknown> =>
  import(new URL(`../netlab/${name}`, import.meta.url).href) as Promise<unknown>;
const lab = (await load("lab.js")) as {
  createLab(kindA: string, kindB?: string, services?: Services): Promise<Lab>;
};
const cell = (await load("cell.js")) as {
  runCell(lab: Lab, cell: Cell, options: { waits: "a" | "b" }): Promise<Outcome>;
};
const theory = (await load("expectations.js")) as {
  expectedWay(one: string, other: string, means: Means): string;
};

export async function createLab(kindA: string, kindB?: string, services?: Services): Promise<Lab> {
  const made = await lab.createLab(kindA, kindB, services);
  onTestFinished(() => made.close());
  return made;
}

/** Runs one cell of the grid; `waiting` is the kind of host a. */
export async function runCell(
  made: Lab,
  waiting: string,
  joining: string,
  means: Means,
): Promise<Outcome & { expected: string }> {
  const expected = theory.expectedWay(waiting, joining, means);
  return { expected, ...(await cell.runCell(made, { waiting, joining, means, expected }, { waits: "a" })) };
}

/** Runs a command on a machine of the lab to its end. Returns what it printed. */
export async function runIn(namespace: string, ...argv: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)("ip", ["netns", "exec", namespace, ...argv]);
  return stdout;
}

/** How a UDP port of that host looks to the first or second of the STUN server's addresses: "203.0.113.1:4711". */
export async function reflexive({ namespace }: Host, port: number, server: 1 | 2 = 1): Promise<string> {
  const program = fileURLToPath(new URL("../netlab/reflexive.js", import.meta.url));
  const address = server === 1 ? "203.0.113.10" : "198.51.100.10";
  return (await runIn(namespace, process.execPath, program, address, "3478", String(port))).trim();
}
