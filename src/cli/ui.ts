/**
 * Everything a person or a script sees. The rules: stdout is payload and nothing else; all here goes to stderr. With --json
 * each thing is one object a line and no text; with -q only errors. Colour and movement on a terminal only. Whatever comes
 * from the other side is escaped before it is shown.
 */
import { chalkStderr as chalk } from "chalk";
import type { Ora } from "ora";
import {
  DcpipeError,
  escapeText,
  explainFailure,
  type ConnectedPath,
  type CodeEvent,
  type ConnectionEvent,
  type Tried,
  type Listed,
  type Problem,
  type Progress,
} from "../index.ts";
import { listLine } from "./listing.ts";
import { ProgressShow } from "./progress.ts";
import { VERDICTS } from "./status.ts";
import { TransferError } from "./summary.ts";

export interface UiOptions {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly color: boolean;
}

/** One line of --json. */
export interface UiEvent {
  readonly event: string;
  readonly [field: string]: unknown;
}

type RendezvousEvent = CodeEvent & { event: "rendezvous" | "warning" };

export class Ui {
  readonly json: boolean;
  readonly #quiet: boolean;
  readonly #verbose: boolean;
  readonly #terminal: boolean;
  readonly #started = performance.now();
  /** Resolves when it has been said that the two are connected. */
  readonly connected: Promise<void>;
  #resolveConnected!: () => void;
  #spinner: Ora | undefined;
  #lineShown = false;
  #asking = false;
  #path: ConnectedPath["path"] | undefined;
  #lost = false;
  #tried: Tried | undefined;
  readonly #progress: ProgressShow;

  constructor(options: UiOptions) {
    this.connected = new Promise((resolve) => (this.#resolveConnected = resolve));
    this.json = options.json;
    this.#quiet = options.quiet;
    this.#verbose = options.verbose;
    this.#terminal = process.stderr.isTTY && !options.json;
    if (!options.color) chalk.level = 0;
    this.#progress = new ProgressShow({
      style: this.json ? "json" : this.#terminal ? "terminal" : "plain",
      columns: () => process.stderr.columns || 80,
      line: (text) => {
        this.#showLine(text);
      },
      event: (event) => {
        this.#event(event);
      },
    });
    // That nobody listens (a full disk, a reader that went away) is no reason to stop the work.
    process.stderr.on("error", () => undefined);
  }

  /** The offer is ready: says what the other side must run. */
  offer(token: string, command: string | undefined): void {
    this.#event({ event: "offer", token });
    if (command !== undefined) this.#text(`On the other machine, run:\n\n  ${chalk.bold(command)}\n`);
  }

  /** There is a code: says it, what the other side must run, where a browser shows how, and where one shows the site that is offered. */
  code(code: string, link: string | undefined, command: string, web?: string): void {
    this.#event({
      event: "code",
      code,
      ...(link === undefined ? {} : { link }),
      ...(web === undefined ? {} : { web }),
    });
    this.#text(`Code: ${chalk.bold(code)}\n\nOn the other machine, run:\n\n  ${chalk.bold(command)}\n`);
    if (web !== undefined) this.#text(`or open the site in a browser:\n\n  ${chalk.bold(web)}\n`);
    else if (link !== undefined) this.#text(`or open ${link}\n`);
  }

  /** The short authentication string. */
  verifier(words: string): void {
    this.#event({ event: "verify", words });
    this.#text(`Compare with the other side: ${chalk.bold(words)}`);
  }

  /** The answer is ready; `show` it to people only where one paste was not enough. */
  answer(token: string): void {
    this.#event({ event: "answer", token });
  }

  showAnswer(token: string, seconds: number): void {
    const patience = seconds > 0 ? ` within ${seconds} s (--timeout)` : "";
    this.#text(
      `The other side cannot be reached from here alone. Paste this answer there${patience}:\n\n  ${chalk.bold(token)}\n`,
    );
  }

  /** An offer or answer of plain WebRTC: one line of its own, however long, and nothing around it. */
  rawDescription(what: string, line: string): void {
    this.#text(`${what}, one line:\n\n${line}\n`);
  }

  /** Draws a QR code of a token. */
  async qr(text: string): Promise<void> {
    if (this.json || this.#quiet) return;
    const { default: qrcode } = await import("qrcode-terminal");
    const picture = await new Promise<string>((resolve) => {
      qrcode.generate(text, { small: true }, resolve);
    });
    this.#text(picture);
  }

  /** Shows that something is awaited. */
  async wait(what: string): Promise<void> {
    if (this.json || this.#quiet) return;
    if (!this.#terminal || process.env["CI"]) {
      this.#text(`${what} ...`);
      return;
    }
    const { default: ora } = await import("ora");
    // What was awaited may have come meanwhile.
    if (this.#path !== undefined || this.#lineShown || this.#asking) return;
    this.#spinner ??= ora({ stream: process.stderr, discardStdin: false, hideCursor: false });
    this.#spinner.start(what);
  }

  /** `peer` is the name of a remembered one. */
  connection(event: ConnectionEvent | RendezvousEvent, peer?: string): void {
    if (event.event === "log") {
      if (this.#verbose) this.note(event.text);
      return;
    }
    if (event.event === "warning") {
      this.note(event.text);
      return;
    }
    if (event.event === "rendezvous") {
      this.#rendezvous(event.trouble);
      return;
    }
    if (event.event === "tried") {
      this.#tried = event;
      return;
    }
    this.stopWaiting();
    if (event.event !== "reconnecting") this.#path = event.path;
    const known = peer === undefined ? {} : { peer };
    this.#event(
      event.event === "reconnecting"
        ? { ...event, ...known }
        : { ...event, rttMs: round(event.rttMs), ...known },
    );
    if (event.event === "reconnecting")
      this.#text(chalk.yellow(`Connection lost (${event.reason}); reconnecting ...`));
    else
      this.#text(
        `${event.event === "connected" ? "Connected" : this.#lost ? "Connected again" : "Now connected"}${peer === undefined ? "" : ` with ${peer}`}: ${describePath(event)}`,
      );
    this.#lost = event.event === "reconnecting";
    if (event.event === "connected") this.#resolveConnected();
  }

  #rendezvous(trouble: string | undefined): void {
    this.#event({ event: "rendezvous", state: trouble === undefined ? "back" : "lost", reason: trouble });
    const waited = this.#spinner?.isSpinning === true ? this.#spinner.text : undefined;
    this.#text(
      trouble === undefined
        ? "The rendezvous is back"
        : chalk.yellow(`${escapeText(trouble)}; trying again ...`),
    );
    if (waited !== undefined) this.#spinner?.start(waited);
  }

  /** How the two sides are connected; undefined before they are. */
  get path(): ConnectedPath["path"] | undefined {
    return this.#path;
  }

  /** How far a transfer is; call as often as you like. */
  progress(progress: Progress): void {
    this.#progress.update(progress);
  }

  /** What a sender has found until now. */
  counting(entries: number, bytes: number): void {
    this.#progress.counting(entries, bytes);
  }

  /** A question is on the terminal, which has it for itself until it is answered; undefined when it is not. */
  async asking<T>(lines: readonly string[], question: () => Promise<T | undefined>): Promise<T | undefined> {
    this.stopWaiting();
    for (const line of lines) process.stderr.write(`${line}\n`);
    this.#asking = true;
    try {
      const answer = await question();
      if (answer === undefined) this.#leaveQuestion();
      return answer;
    } finally {
      this.#asking = false;
    }
  }

  /** One entry of a --list. Said even with -q: it is what was asked for. */
  listed(entry: Listed): void {
    const { path, kind, size, target, mtime } = entry;
    this.#event({ event: "entry", path, kind, size, target, mtime });
    this.#always(listLine(entry));
  }

  /** What was refused, or failed. Said even with -q. */
  problems(problems: readonly Problem[], lines: readonly string[]): void {
    for (const { name, reason, text } of problems)
      this.#event({ event: "problem", path: name, reason, text });
    for (const line of lines) this.#always(`  ${line}`);
  }

  /** All is done and acknowledged. */
  done(result: { bytes: number; files: number; [field: string]: unknown }, text: string): void {
    this.#progress.stop();
    this.stopWaiting();
    const seconds = round((performance.now() - this.#started) / 1000);
    const { bytes, files, ...more } = result;
    this.#event({ event: "done", bytes, files, seconds, ...more });
    this.#text(chalk.green(text));
  }

  /** A server, or a forwarded port, can be reached. */
  listening(
    where: { readonly protocol: string; readonly address: string; readonly port: number },
    text: string,
  ): void {
    const { protocol, address, port } = where;
    this.#event({ event: "listening", protocol, address, port });
    this.#text(text);
  }

  /** A peer is stored. */
  remembered(name: string, host: string): void {
    this.#event({ event: "remembered", name, host });
    this.#text(`Remembered as ${chalk.bold(name)}: from now on --to ${name} is enough`);
  }

  /** An event with its line, which is escaped already. */
  said(event: UiEvent, line: string): void {
    this.#event(event);
    this.#text(line);
  }

  /** The same, for those who want to know more (-v). */
  detail(event: UiEvent, line: string): void {
    this.#event(event);
    if (this.#verbose) this.#text(chalk.dim(escapeText(line)));
  }

  /** The same, for what did not work and is no end. */
  warning(event: UiEvent, line: string): void {
    this.#event(event);
    this.#text(chalk.yellow(escapeText(line)));
  }

  /** What was asked for: shown even with -q. */
  report(event: UiEvent, lines: readonly string[]): void {
    this.#event(event);
    for (const line of lines) this.#always(line);
  }

  /** What a person at a terminal may do; scripts need not know. */
  hint(text: string): void {
    this.#text(chalk.dim(text));
  }

  note(text: string): void {
    this.#event({ event: "note", text });
    this.#text(chalk.dim(escapeText(text)));
  }

  /** Says what went wrong and what to do about it. Shown even with -q. */
  error(error: DcpipeError, given = VERDICTS[error.code].hint): void {
    const why = this.#tried && NO_PATH.has(error.code) ? explainFailure(this.#tried) : undefined;
    const hint = why ? `${why.hint}; dcpipe doctor says more` : given;
    this.#event({
      event: "error",
      code: error.code,
      message: error.message,
      ...(hint === undefined ? {} : { hint }),
      ...(why ? { reason: why.reason, pairs: why.pairs } : {}),
      ...(error instanceof TransferError ? error.fields : {}),
    });
    this.#always(`${chalk.red("dcpipe:")} ${escapeText(error.message)}`);
    if (why) {
      this.#always(`        ${why.reason}`);
      const { pairs } = why;
      const shown = this.#verbose || pairs.length <= FEW_PAIRS ? pairs : pairs.slice(0, FEW_PAIRS - 1);
      for (const pair of shown) this.#always(chalk.dim(`        tried ${pair}`));
      if (shown.length < pairs.length)
        this.#always(chalk.dim(`        and ${pairs.length - shown.length} others (-v shows them)`));
    }
    if (hint !== undefined) this.#always(chalk.dim(`        ${hint}`));
  }

  /** Nothing moves from now on, and no question needs an answer. */
  end(): void {
    this.#progress.stop();
    this.stopWaiting();
    this.#leaveQuestion();
  }

  /** No Enter was typed: what follows begins a line of its own. */
  #leaveQuestion(): void {
    if (this.#asking) process.stderr.write("\n");
    this.#asking = false;
  }

  /** Clears what moves. */
  stopWaiting(): void {
    this.#stopSpinner();
    if (this.#lineShown) process.stderr.write("\r\x1b[K");
    this.#lineShown = false;
  }

  #showLine(line: string): void {
    if (this.#quiet || this.#asking) return;
    if (this.#terminal) {
      this.#stopSpinner();
      process.stderr.write(`\r${line}\x1b[K`);
      this.#lineShown = true;
    } else this.#text(line);
  }

  #event(event: object): void {
    if (this.json) process.stderr.write(`${escapeJson(JSON.stringify(event))}\n`);
  }

  #text(text: string): void {
    if (!this.#quiet) this.#always(text);
  }

  #always(text: string): void {
    if (this.json) return;
    this.stopWaiting();
    process.stderr.write(`${text}\n`);
  }

  #stopSpinner(): void {
    // ora clears the line even when it does not spin.
    if (this.#spinner?.isSpinning === true) this.#spinner.stop();
  }
}

/** Pairs of addresses that people are shown unasked. */
const FEW_PAIRS = 4;
/** Errors of a connection that did not come about. */
const NO_PATH: ReadonlySet<string> = new Set(["ICE_FAILED", "TIMEOUT"]);

/** JSON lets characters stand as they are that a terminal takes for commands. */
export function escapeJson(json: string): string {
  return json.replace(
    /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function describePath({ path, remote, rttMs }: ConnectedPath): string {
  const how = path === "direct" ? "direct" : path === "turn" ? "through a TURN relay" : "through the relay";
  const where = remote ? ` to ${remote.address}` : "";
  return `${how}${where}${rttMs > 0 ? `, ${rttMs < 10 ? rttMs.toFixed(1) : rttMs.toFixed(0)} ms round trip` : ""}`;
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
