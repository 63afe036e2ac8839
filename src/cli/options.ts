/** Options that every command shares, and what they mean to the library. */
import { readFileSync } from "node:fs";
import type { Argv } from "yargs";
import { DcpipeError } from "../errors.ts";
import { parseRendezvousUrl, readConfig, type ConnectOptions } from "../index.ts";
import { askCode } from "./prompt.ts";

export interface CommonOptions {
  readonly to?: string | undefined;
  readonly codeFile?: string | undefined;
  readonly offerFile?: string | undefined;
  readonly answerFile?: string | undefined;
  /** `--no-rendezvous` gives false. */
  readonly rendezvous?: string | false | undefined;
  readonly lan?: boolean | undefined;
  readonly codeLength?: number | undefined;
  readonly remember?: string | undefined;
  /** `--no-known` gives false. */
  readonly known?: boolean | undefined;
  readonly verify: boolean;
  readonly via?: string | undefined;
  readonly stdioSignal: boolean;
  readonly stun?: readonly string[] | undefined;
  readonly turn?: readonly string[] | undefined;
  readonly relay: "auto" | "only" | "off";
  readonly portRange?: string | undefined;
  readonly bind?: string | undefined;
  readonly timeout?: number | undefined;
  readonly reconnect?: number | undefined;
  readonly limit?: string | undefined;
  readonly qr: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly yes: boolean;
  readonly color: boolean;
}

/**
 * Declares the shared options; what fewer people need shows under --help-all, so that --help fits a screen. `--no-stun` and
 * `--no-color` come as false by yargs' own rule.
 */
export function commonOptions<T>(yargs: Argv<T>): Argv<T & CommonOptions> {
  const hidden = !process.argv.includes("--help-all");
  return yargs
    .option("to", {
      type: "string",
      describe: "join this PEER: code, link, token or NAME",
      requiresArg: true,
    })
    .option("rendezvous", {
      type: "string",
      describe: "meet by a short code through this URL",
      requiresArg: true,
    })
    .option("lan", { type: "boolean", describe: "meet by a short code on this network" })
    .option("code-length", {
      hidden,
      type: "number",
      describe: "words in a code  [2]",
      requiresArg: true,
    })
    .option("verify", {
      hidden,
      type: "boolean",
      default: false,
      describe: "compare a short string before anything flows",
    })
    .option("remember", {
      hidden,
      type: "string",
      describe: "both keep keys: PEER is NAME from then on",
      requiresArg: true,
    })
    .option("known", {
      hidden,
      type: "boolean",
      describe: "while waiting by code, let remembered peers in",
    })
    .option("code-file", {
      hidden,
      type: "string",
      describe: "read PEER from a file",
      requiresArg: true,
      normalize: true,
    })
    .option("offer-file", {
      hidden,
      type: "string",
      describe: "write the offer to a file, or join by it",
      requiresArg: true,
    })
    .option("answer-file", {
      hidden,
      type: "string",
      describe: "read or write the answer there",
      requiresArg: true,
    })
    .option("via", {
      hidden,
      type: "string",
      describe: "exchange tokens with a command",
      requiresArg: true,
    })
    .option("stdio-signal", {
      hidden,
      type: "boolean",
      default: false,
      describe: "exchange tokens on stdin, stdout",
    })
    .option("stun", {
      hidden,
      type: "string",
      array: true,
      nargs: 1,
      describe: "STUN server; --no-stun for none",
    })
    .option("turn", {
      hidden,
      type: "string",
      array: true,
      nargs: 1,
      describe: "TURN server turn:user:pass@host",
    })
    .option("relay", {
      hidden,
      choices: ["auto", "only", "off"] as const,
      default: "auto" as const,
      describe: "auto, only, off: use of TURN",
    })
    .option("port-range", {
      hidden,
      type: "string",
      describe: "local UDP ports, A-B",
      requiresArg: true,
    })
    .option("bind", { hidden, type: "string", describe: "local address", requiresArg: true })
    .option("timeout", {
      hidden,
      type: "number",
      describe: "give up when nobody connects, seconds",
      requiresArg: true,
    })
    .option("reconnect", {
      hidden,
      type: "number",
      describe: "retry a lost peer, seconds  [90]",
      requiresArg: true,
    })
    .option("limit", { hidden, type: "string", describe: "bytes a second, e.g. 2M", requiresArg: true })
    .option("qr", {
      hidden,
      type: "boolean",
      default: false,
      describe: "draw the link or token as a QR code",
    })
    .option("json", { type: "boolean", default: false, describe: "events as JSON lines on stderr" })
    .option("quiet", { alias: "q", type: "boolean", default: false, describe: "errors only" })
    .option("verbose", { alias: "v", type: "boolean", default: false, describe: "say more" })
    .option("yes", { hidden, type: "boolean", default: false, describe: "never ask" })
    .option("color", { type: "boolean", default: true, hidden: true }) as unknown as Argv<T & CommonOptions>;
}

/** Options that those have who talk to a person, or to a script, and to nobody else. */
export interface SpeechOptions {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly color: boolean;
}

export function speechOptions<T>(yargs: Argv<T>): Argv<T & SpeechOptions> {
  return yargs
    .option("json", { type: "boolean", default: false, describe: "JSON lines in place of text" })
    .option("quiet", { alias: "q", type: "boolean", default: false, describe: "errors only" })
    .option("verbose", { alias: "v", type: "boolean", default: false, describe: "say more" })
    .option("color", { type: "boolean", default: true, hidden: true });
}

/** The library's options. Throws USAGE. */
export function connectOptions(options: CommonOptions): ConnectOptions {
  return {
    stun: stunServers(options),
    turn: options.turn,
    relay: options.relay,
    portRange: parsePortRange(options.portRange),
    bind: options.bind,
    timeout: parseSeconds("--timeout", options.timeout),
    reconnect: parseSeconds("--reconnect", options.reconnect),
  };
}

/** None for `--no-stun`, undefined for the default. */
export function stunServers(options: Pick<CommonOptions, "stun">): string[] | undefined {
  // `--no-stun` gives [false], or false, whichever way yargs read it.
  const stun = options.stun as readonly (string | boolean)[] | boolean | undefined;
  const none = stun === false || (Array.isArray(stun) && stun.includes(false));
  return none ? [] : Array.isArray(stun) ? stun.map(String) : undefined;
}

function parseSeconds(name: string, value: number | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (Number.isNaN(value) || value < 0) throw new DcpipeError("USAGE", `${name} needs a number of seconds`);
  return value;
}

/** `40000-40009`, or one port. Throws USAGE. */
export function parsePortRange(text: string | undefined): [number, number] | undefined {
  if (text === undefined) return undefined;
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  if (!match || first < 1 || last > 65535 || first > last) {
    throw new DcpipeError("USAGE", `--port-range ${text}: write A-B, ports from 1 to 65535`);
  }
  return [first, last];
}

/** `2M` -> 2,097,152 bytes a second. Throws USAGE, in the name of the option. */
export function parseRate(text: string | undefined, option = "--limit"): number | undefined {
  const rate = parseAmount(text?.replace(/\/s$/i, ""));
  if (Number.isNaN(rate))
    throw new DcpipeError("USAGE", `${option} ${text}: write bytes a second, such as 500k or 2M`);
  return rate;
}

/** `10G` -> 10,737,418,240 bytes. Throws USAGE, in the name of the option. */
export function parseSize(text: string | undefined, option: string): number | undefined {
  const size = parseAmount(text);
  if (Number.isNaN(size))
    throw new DcpipeError("USAGE", `${option} ${text}: write bytes, such as 500M or 10G`);
  return size;
}

/** At least 1; NaN for what is none. */
function parseAmount(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const match = /^(\d+(?:\.\d+)?)([kmg]?)(?:i?b)?$/i.exec(text);
  const amount = Number(match?.[1]) * 1024 ** " kmg".indexOf((match?.[2] ?? "").toLowerCase() || " ");
  return amount >= 1 ? amount : NaN;
}

/** The rendezvous: --rendezvous, DCPIPE_RENDEZVOUS, the config file. Undefined for none. Throws USAGE. */
export function findRendezvous({ rendezvous }: Pick<CommonOptions, "rendezvous">): string | undefined {
  if (rendezvous === false) return undefined;
  const text = rendezvous ?? (process.env["DCPIPE_RENDEZVOUS"] || undefined) ?? readConfig().rendezvous;
  return text === undefined ? undefined : parseRendezvousUrl(text);
}

/**
 * The PEER to join, from wherever it may come: argument, --to, --code-file, DCPIPE_CODE, and for `-` a prompt. Undefined for the
 * waiting side. Throws USAGE.
 */
export async function findPeer(
  argument: string | undefined,
  options: CommonOptions,
  stdinIsPayload: boolean,
): Promise<string | undefined> {
  const sources = [argument, options.to, options.codeFile].filter((source) => source !== undefined);
  if (sources.length > 1) throw new DcpipeError("USAGE", "PEER is given more than once");
  if (options.via !== undefined && sources.length > 0)
    throw new DcpipeError("USAGE", "--via brings the PEER itself; leave the other out");
  if (options.stdioSignal && (sources.length > 0 || options.via !== undefined)) {
    throw new DcpipeError("USAGE", "--stdio-signal is for the waiting side, which takes no PEER");
  }
  if (sources[0] === "-") {
    const asked = await askCode(stdinIsPayload);
    if (asked !== undefined) return asked;
    if (stdinIsPayload)
      throw new DcpipeError(
        "USAGE",
        "no terminal to ask for a code on: give it as PEER, by --code-file, or in DCPIPE_CODE",
      );
    return readFileSync(0, "utf8");
  }
  if (options.codeFile !== undefined) return readCodeFile(options.codeFile);
  if (options.via !== undefined || options.stdioSignal) return undefined;
  return argument ?? options.to ?? process.env["DCPIPE_CODE"];
}

function readCodeFile(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? "there is no such file" : code === "EACCES" ? "not allowed" : message;
    throw new DcpipeError("USAGE", `cannot read ${file}: ${why}`, { cause });
  }
}
