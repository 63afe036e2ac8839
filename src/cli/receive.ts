/** dcpipe receive */
import { join } from "node:path";
import {
  asDcpipeError,
  codec,
  createDigest,
  DcpipeError,
  diskTarget,
  escapeText,
  findPlace,
  receiveFiles,
  stdoutSink,
  stdoutTarget,
  type Conflict,
  type Listed,
  type Offer,
  type Session,
  type Sink,
  type TargetDirectory,
} from "../index.ts";
import { askApproval, askConflict } from "./approve.ts";
import { Clock } from "./clock.ts";
import { finish } from "./finish.ts";
import { countOf, formatBytes } from "./format.ts";
import { chooser } from "./globs.ts";
import { parseRate, type CommonOptions } from "./options.ts";
import { canAsk } from "./prompt.ts";
import { runCommand } from "./session.ts";
import { RECEIVE_HINTS } from "./status.ts";
import type { Ui } from "./ui.ts";

export interface ReceiveArguments extends CommonOptions {
  readonly peer?: string | undefined;
  readonly output?: string | undefined;
  readonly overwrite?: boolean | undefined;
  readonly rename?: boolean | undefined;
  readonly skip?: boolean | undefined;
  readonly list?: boolean | undefined;
  readonly only?: readonly string[] | undefined;
}

/** Where it goes. */
interface Place {
  readonly target: TargetDirectory;
  readonly name: string | undefined;
  /** For the question: `into photos/`, `as photo.jpg`. */
  readonly words: string;
}

export async function runReceive(options: ReceiveArguments): Promise<never> {
  const limit = parseRate(options.limit);
  const chosen = chooser(options.only ?? []);
  const conflict = givenConflict(options);
  const { output, list = false } = options;
  const toStdout = output === "-" && !list;
  const place = list ? nowhere() : toStdout ? onStdout() : await onDisk(output ?? ".");
  const asks = canAsk() && !options.yes && !options.json && !toStdout && !list;
  const command = {
    argument: options.peer,
    options,
    purpose: "receive" as const,
    meets: "send" as const,
    stdinIsPayload: false,
    counterpart: (token: string) => `dcpipe send PATH --to ${token}`,
    hints: RECEIVE_HINTS,
  };
  return runCommand(command, async (session, role, ui) => {
    // That the two are connected, and how, comes before what there is to look at.
    if (asks || list) await Promise.race([ui.connected, session.closed.catch(() => undefined)]);
    const clock = new Clock();
    const names = new Names();
    const listing = new Listing();
    const question = asks ? new Question(place.words, chosen, ui, session) : undefined;
    const result = await receiveFiles(session, role, {
      target: place.target,
      name: place.name,
      approve:
        question &&
        (async (offer) => {
          const yes = await question.ask(offer);
          clock.begin();
          return yes;
        }),
      conflict: conflict ?? (asks ? (path) => clock.without(askConflict(path, ui, session)) : "refuse"),
      wanted: (path) => {
        if (!chosen(path)) return false;
        names.see(path);
        return true;
      },
      onlisted: list
        ? (entry) => {
            if (!chosen(entry.path)) return;
            listing.see(entry);
            ui.listed(entry);
          }
        : undefined,
      ontext: output === undefined && !list ? (text) => printText(text, ui) : undefined,
      windows: process.platform === "win32",
      // What goes to stdout has an order.
      stores: toStdout ? 1 : undefined,
      createDigest,
      codec,
      limit,
      onprogress: (progress) => {
        if (options.json || !toStdout || !process.stdout.isTTY) ui.progress(progress);
      },
      oncounting: (entries, bytes) => {
        ui.counting(entries, bytes);
      },
    }).catch((cause: unknown) => {
      if (question?.declined !== true || asDcpipeError(cause, "IO").code !== "REFUSED") throw cause;
      throw new DcpipeError("REFUSED", "you refused it: nothing was written", { cause });
    });
    const ending = {
      side: "receive" as const,
      what: place.name ?? names.only ?? (result.files === 1 && output === undefined ? "a text" : undefined),
      disk: !toStdout,
      seconds: clock.seconds,
      path: ui.path,
      result,
    };
    finish(ending, ui, list ? listing.text : undefined);
  });
}

/** Throws USAGE. */
function givenConflict({ overwrite, rename, skip }: ReceiveArguments): Conflict | undefined {
  const given: Conflict[] = [];
  if (overwrite === true) given.push("overwrite");
  if (rename === true) given.push("rename");
  if (skip === true) given.push("skip");
  if (given.length > 1)
    throw new DcpipeError("USAGE", "--overwrite, --rename and --skip exclude each other: give one of them");
  return given[0];
}

async function onDisk(output: string): Promise<Place> {
  const { directory, name } = await findPlace(output);
  const words = name === undefined ? `into ${directory.replace(/\/*$/, "/")}` : `as ${join(directory, name)}`;
  return { target: await diskTarget(directory), name, words: escapeText(words) };
}

function onStdout(): Place {
  return { target: stdoutTarget(stdoutSink()), name: undefined, words: "" };
}

/** For --list: takes nothing, and touches nothing. */
function nowhere(): Place {
  const sink: Sink = { write: () => Promise.resolve(), end: () => Promise.resolve() };
  return { target: stdoutTarget(sink), name: undefined, words: "" };
}

/** Asks about what --only leaves of an offer. */
class Question {
  declined = false;
  readonly #into: string;
  readonly #chosen: (path: string) => boolean;
  readonly #ui: Ui;
  readonly #session: Session;

  constructor(into: string, chosen: (path: string) => boolean, ui: Ui, session: Session) {
    this.#into = into;
    this.#chosen = chosen;
    this.#ui = ui;
    this.#session = session;
  }

  async ask(offer: Offer): Promise<boolean> {
    const entries = offer.entries.filter(({ path }) => this.#chosen(path));
    const left =
      entries.length === offer.entries.length
        ? offer
        : { ...offer, entries, total: totalOf(entries), unknown: offer.unknown || !offer.complete };
    // Nothing of it is wanted: nothing to ask.
    if (offer.complete && left.total.entries === 0) return true;
    const yes = await askApproval(left, this.#into, this.#ui, this.#session);
    this.declined = !yes;
    return yes;
  }
}

function totalOf(entries: readonly Listed[]): { entries: number; bytes: number } {
  return { entries: entries.length, bytes: entries.reduce((sum, { size = 0 }) => sum + size, 0) };
}

/** What comes, when it is one thing at the top. */
class Names {
  #first: string | undefined;
  #several = false;

  see(path: string): void {
    const top = path.split("/", 1)[0] ?? "";
    this.#first ??= top;
    if (top !== this.#first) this.#several = true;
  }

  get only(): string | undefined {
    return this.#several ? undefined : this.#first;
  }
}

/** What --list ends with. */
class Listing {
  #files = 0;
  #directories = 0;
  #bytes = 0;

  see({ kind, size = 0 }: Listed): void {
    if (kind === "directory") this.#directories++;
    else this.#files++;
    this.#bytes += size;
  }

  get text(): string {
    const directories =
      this.#directories === 0 ? "" : `, ${countOf(this.#directories, "directory", "directories")}`;
    return `${countOf(this.#files, "file")}${directories}, ${formatBytes(this.#bytes)}; nothing was written`;
  }
}

/** A text goes to stdout, as a line; a terminal must not take it for commands. */
async function printText(text: string, ui: Ui): Promise<void> {
  const shown = process.stdout.isTTY ? text.replace(/[^\n\t]+/g, escapeText) : text;
  ui.stopWaiting();
  await stdoutSink().write(Buffer.from(shown.endsWith("\n") ? shown : `${shown}\n`));
}
