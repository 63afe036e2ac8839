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
  type ConnectedPath,
  type CodeEvent,
  type ConnectionEvent,
} from "../index.ts";
import { VERDICTS } from "./status.ts";

export interface UiOptions {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly color: boolean;
}

type RendezvousEvent = CodeEvent & { event: "rendezvous" | "warning" };

/** A progress line on a terminal moves this often; elsewhere, and in JSON, it is a line now and then. Milliseconds. */
const FRAME_MS = 100;
const JSON_MS = 500;
const PLAIN_MS = 10_000;
/** The rate shown is the one over the last seconds. */
const RATE_WINDOW_MS = 5000;

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
  #progressTime = 0;
  #rates: { time: number; bytes: number }[] = [];

  constructor(options: UiOptions) {
    this.connected = new Promise((resolve) => (this.#resolveConnected = resolve));
    this.json = options.json;
    this.#quiet = options.quiet;
    this.#verbose = options.verbose;
    this.#terminal = process.stderr.isTTY && !options.json;
    if (!options.color) chalk.level = 0;
    // That nobody listens (a full disk, a reader that went away) is no reason to stop the work.
    process.stderr.on("error", () => undefined);
  }

  /** The offer is ready: says what the other side must run. */
  offer(token: string, command: string | undefined): void {
    this.#event({ event: "offer", token });
    if (command !== undefined) this.#text(`On the other machine, run:\n\n  ${chalk.bold(command)}\n`);
  }

  /** There is a code: says it, what the other side must run, and where a browser shows how. */
  code(code: string, link: string | undefined, command: string): void {
    this.#event({ event: "code", code, ...(link === undefined ? {} : { link }) });
    this.#text(`Code: ${chalk.bold(code)}\n\nOn the other machine, run:\n\n  ${chalk.bold(command)}\n`);
    if (link !== undefined) this.#text(`or open ${link}\n`);
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
    if (this.#lineShown) return;
    this.#spinner ??= ora({ stream: process.stderr, discardStdin: false, hideCursor: false });
    this.#spinner.start(what);
  }

  connection(event: ConnectionEvent | RendezvousEvent): void {
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
    this.stopWaiting();
    this.#event(event.event === "reconnecting" ? event : { ...event, rttMs: round(event.rttMs) });
    if (event.event === "reconnecting")
      this.#text(chalk.yellow(`Connection lost (${event.reason}); reconnecting ...`));
    else
      this.#text(`${event.event === "connected" ? "Connected" : "Connected again"}: ${describePath(event)}`);
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

  /** How far a transfer is; call as often as you like. */
  progress(name: string, bytes: number, total: number | undefined): void {
    const now = performance.now();
    if (now - (this.#rates.at(-1)?.time ?? -Infinity) < FRAME_MS) return;
    this.#rates.push({ time: now, bytes });
    while (this.#rates.length > 2 && now - (this.#rates[0]?.time ?? now) > RATE_WINDOW_MS)
      this.#rates.shift();
    const interval = this.json ? JSON_MS : this.#terminal ? FRAME_MS : PLAIN_MS;
    if (now - this.#progressTime < interval) return;
    const first = this.#progressTime === 0;
    this.#progressTime = now;
    const rate = this.#rate();
    if (this.json) {
      this.#event({
        event: "progress",
        bytes,
        ...(total === undefined ? {} : { total }),
        bytesPerSecond: Math.round(rate),
      });
    } else if (this.#terminal) {
      this.#showLine(progressLine(name, bytes, total, rate, process.stderr.columns));
    } else if (!first) {
      this.#text(progressLine(name, bytes, total, rate, 0));
    }
  }

  /** All is done and acknowledged. */
  done(result: { bytes: number; files: number; [field: string]: unknown }, text: string): void {
    this.stopWaiting();
    const seconds = round((performance.now() - this.#started) / 1000);
    this.#event({ event: "done", ...result, seconds });
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

  note(text: string): void {
    this.#event({ event: "note", text });
    this.#text(chalk.dim(escapeText(text)));
  }

  /** Says what went wrong and what to do. Shown even with -q. */
  error(error: DcpipeError): void {
    this.stopWaiting();
    const { hint } = VERDICTS[error.code];
    if (this.json) {
      this.#event({
        event: "error",
        code: error.code,
        message: error.message,
        ...(hint === undefined ? {} : { hint }),
      });
      return;
    }
    process.stderr.write(`${chalk.red("dcpipe:")} ${escapeText(error.message)}\n`);
    if (hint !== undefined) process.stderr.write(`${chalk.dim(`        ${hint}`)}\n`);
  }

  /** Clears what moves. */
  stopWaiting(): void {
    // ora clears the line even when it does not spin.
    if (this.#spinner?.isSpinning === true) this.#spinner.stop();
    if (this.#lineShown) process.stderr.write("\r\x1b[K");
    this.#lineShown = false;
  }

  #rate(): number {
    const first = this.#rates[0];
    const last = this.#rates.at(-1);
    if (!first || !last || last.time === first.time) return 0;
    return Math.max(0, ((last.bytes - first.bytes) / (last.time - first.time)) * 1000);
  }

  #showLine(line: string): void {
    process.stderr.write(`\r${line}\x1b[K`);
    this.#lineShown = true;
  }

  #event(event: object): void {
    if (this.json) process.stderr.write(`${JSON.stringify(event)}\n`);
  }

  #text(text: string): void {
    if (this.json || this.#quiet) return;
    this.stopWaiting();
    process.stderr.write(`${text}\n`);
  }
}

function describePath({ path, remote, rttMs }: ConnectedPath): string {
  const how = path === "direct" ? "direct" : path === "turn" ? "through a TURN relay" : "through the relay";
  const where = remote ? ` to ${remote.address}` : "";
  return `${how}${where}${rttMs > 0 ? `, ${rttMs < 10 ? rttMs.toFixed(1) : rttMs.toFixed(0)} ms round trip` : ""}`;
}

function progressLine(
  name: string,
  bytes: number,
  total: number | undefined,
  rate: number,
  columns: number,
): string {
  const parts = [
    total === undefined
      ? formatBytes(bytes)
      : `${percent(bytes, total)}  ${formatBytes(bytes)} of ${formatBytes(total)}`,
  ];
  parts.push(`${formatBytes(rate)}/s`);
  if (total !== undefined && rate > 0 && bytes < total)
    parts.push(`${formatSeconds((total - bytes) / rate)} left`);
  const figures = parts.join("  ");
  const room = columns === 0 ? Infinity : columns - figures.length - 3;
  const shown = escapeText(name);
  const short = shown.length <= room ? shown : room > 8 ? `${shown.slice(0, room - 1)}…` : "";
  const line = short === "" ? figures : `${short}  ${figures}`;
  return columns > 0 ? line.slice(0, columns - 1) : line;
}

function percent(bytes: number, total: number): string {
  return `${(total === 0 ? 100 : Math.floor((bytes / total) * 100)).toString().padStart(3)} %`;
}

/** 1536 -> "1.5 KiB" */
export function formatBytes(bytes: number): string {
  let value = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1000) return `${unit === "B" || value >= 100 ? Math.round(value) : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} TiB`;
}

export function formatSeconds(seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
