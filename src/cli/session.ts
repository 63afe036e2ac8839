/**
 * From a command line to a session: finds out which side this is, carries the tokens to and fro by whatever means were
 * asked for, and sees to signals and to the end.
 *
 *   PEER, --code-file, --via, an offer file that is there   ->  join: take the offer, give an answer
 *   none of them                                            ->  wait: give an offer, take an answer if one is needed
 */
import { writeSync } from "node:fs";
import {
  asDcpipeError,
  connect,
  DcpipeError,
  findOffer,
  listen,
  looksLikeToken,
  offerTokenFile,
  readTokenFile,
  removeTokenFile,
  runVia,
  writeTokenFile,
  type ConnectOptions,
  type Role,
  type Session,
  type Waiting,
} from "../index.ts";
import { connectOptions, findPeer, type CommonOptions } from "./options.ts";
import { openLines, type Lines } from "./prompt.ts";
import { VERDICTS } from "./status.ts";
import { Ui } from "./ui.ts";

/** One paste is enough when the waiting side can be reached; then the answer need not be shown. Milliseconds. */
const ONE_PASTE_MS = 2500;
/** A farewell must not hold up an exit that the user asked for. */
const FAREWELL_MS = 1000;

export interface Command {
  readonly argument: string | undefined;
  readonly options: CommonOptions;
  /** stdin carries payload, so tokens are read elsewhere. */
  readonly stdinIsPayload: boolean;
  /** The other side's command around its token, e.g. `dcpipe receive TOKEN`. */
  readonly counterpart: (token: string) => string;
}

/** Runs `body` over a session and ends the process with the documented status. */
export async function runCommand(
  command: Command,
  body: (session: Session, role: Role, ui: Ui) => Promise<void>,
): Promise<never> {
  const { options } = command;
  const color = options.color && process.env["NO_COLOR"] === undefined;
  const ui = new Ui({ json: options.json, quiet: options.quiet, verbose: options.verbose, color });
  const stop = new AbortController();
  let session: Session | undefined;
  const watched = watchSignals(() => {
    ui.stopWaiting();
    // The session first: what it says to the other side is the reason that counts.
    const farewell = session?.abort("INTERRUPTED", "");
    stop.abort();
    return farewell;
  });
  try {
    const found = await findSession(command, ui, stop.signal);
    session = found.session;
    await body(session, found.role, ui);
    await session.close();
    return await leave(0);
  } catch (cause) {
    if (watched.interrupted) return await new Promise<never>(() => undefined);
    const error = asDcpipeError(cause, "IO");
    // The stream is gone, the session may stand: let the other side know that all is over.
    if (session) await Promise.race([session.close().catch(() => undefined), delay(FAREWELL_MS)]);
    if (error.code === "PIPE_CLOSED" && !ui.json && process.platform !== "win32") return await dieOfPipe();
    ui.error(error);
    return await leave(VERDICTS[error.code].status);
  }
}

async function findSession(
  command: Command,
  ui: Ui,
  signal: AbortSignal,
): Promise<{ session: Session; role: Role }> {
  const { options, argument } = command;
  const network: ConnectOptions = {
    ...connectOptions(options),
    signal,
    onevent: (event) => {
      ui.connection(event);
    },
  };
  const peer = findPeer(argument, options);
  if (options.via !== undefined)
    return join(await viaOffer(options.via, signal), network, command, ui, signal);
  if (peer !== undefined) return join({ text: checkPeer(peer) }, network, command, ui, signal);
  if (options.offerFile !== undefined) {
    const text = await findOffer(options.offerFile, { signal });
    if (text !== undefined) return join({ text }, network, command, ui, signal);
  }
  return wait(network, command, ui, signal);
}

// ---- joining --------------------------------------------------------------------------------------------------------

interface Offer {
  readonly text: string;
  readonly answer?: (token: string) => void;
  readonly done?: () => void;
}

/** A PEER that is no token gets a better word than "no token". */
function checkPeer(peer: string): string {
  if (!looksLikeToken(peer) && (/^\d+-[a-z]+-[a-z]+/i.test(peer) || peer.includes("/#"))) {
    throw new DcpipeError(
      "USAGE",
      "short codes and links are not supported yet: give the token that the other side printed",
    );
  }
  return peer;
}

async function viaOffer(command: string, signal: AbortSignal): Promise<Offer> {
  const via = runVia(command, looksLikeToken);
  signal.addEventListener("abort", () => {
    via.kill();
  });
  return { text: await via.offer, answer: via.answer, done: via.release };
}

async function join(
  offer: Offer,
  network: ConnectOptions,
  { options }: Command,
  ui: Ui,
  signal: AbortSignal,
): Promise<{ session: Session; role: Role }> {
  const joining = connect(offer.text, network);
  let connected = false;
  const delivered = joining.answer.then(async (token) => {
    ui.answer(token);
    offer.answer?.(token);
    if (options.answerFile !== undefined)
      await writeTokenFile(options.answerFile, token, { signal: either(signal, joining.session) });
    await Promise.race([delay(ONE_PASTE_MS), joining.session.catch(() => undefined)]);
    if (connected || signal.aborted || offer.answer || options.answerFile !== undefined) return;
    ui.showAnswer(token, network.timeout ?? 60);
    if (options.qr) await ui.qr(token);
    await ui.wait("Waiting for the other side to take the answer");
  });
  const failedDelivery = new Promise<never>((_, reject) => {
    delivered.catch((error: unknown) => {
      // Nobody needs the answer once the connection stands, nor when it failed for a reason of its own.
      if (!connected && error instanceof DcpipeError && error.code === "SIGNALLING") reject(error);
    });
  });
  failedDelivery.catch(() => undefined);
  await ui.wait("Connecting");
  try {
    const session = await Promise.race([joining.session, failedDelivery]);
    connected = true;
    return { session, role: "joining" };
  } catch (error) {
    joining.close();
    throw error;
  } finally {
    offer.done?.();
    ui.stopWaiting();
  }
}

/** A signal for what is of no use any more once the session stands: it fires a moment later, so that a FIFO's reader gets its line. */
function either(signal: AbortSignal, session: Promise<unknown>): AbortSignal {
  const both = new AbortController();
  const abort = (): void => {
    both.abort();
  };
  signal.addEventListener("abort", abort, { once: true });
  session.then(() => delay(FAREWELL_MS).then(abort), abort);
  return both.signal;
}

// ---- waiting --------------------------------------------------------------------------------------------------------

async function wait(
  network: ConnectOptions,
  command: Command,
  ui: Ui,
  signal: AbortSignal,
): Promise<{ session: Session; role: Role }> {
  const { options } = command;
  const waiting = await listen(network);
  const { offer } = waiting;
  // With --stdio-signal no person carries it, and stderr is another command's.
  ui.offer(offer, options.stdioSignal ? undefined : command.counterpart(offer));
  if (options.qr) await ui.qr(offer);
  const over = new AbortController();
  signal.addEventListener("abort", () => {
    over.abort();
  });
  // The first line on stdin is signalling, though nobody needs it any more: payload begins behind it.
  const shared = options.stdioSignal && command.stdinIsPayload;
  const rival = giveOffer(offer, options, over.signal);
  const answers = takeAnswers(waiting, command, ui, shared ? signal : over.signal);
  answers.catch(() => undefined);
  try {
    // The means of signalling may fail; that they end without an answer is no failure.
    const met: string | Session = await Promise.race<string | Session>([
      waiting.session,
      answers.then(() => waiting.session),
      rival.then(async (text): Promise<string | Session> => text ?? (await waiting.session)),
    ]);
    if (typeof met === "string") {
      waiting.close();
      over.abort();
      await answers.catch(() => undefined);
      return await join({ text: met }, network, command, ui, signal);
    }
    if (shared) await answers;
    return { session: met, role: "waiting" };
  } catch (error) {
    waiting.close();
    throw error;
  } finally {
    over.abort();
    if (options.offerFile !== undefined) await removeTokenFile(options.offerFile, offer);
    ui.stopWaiting();
  }
}

/** Offers in the --offer-file. Resolves with the other side's offer when that is to be joined, undefined otherwise. */
async function giveOffer(
  offer: string,
  { offerFile }: CommonOptions,
  signal: AbortSignal,
): Promise<string | undefined> {
  return offerFile === undefined ? undefined : offerTokenFile(offerFile, offer, looksLikeToken, { signal });
}

async function takeAnswers(waiting: Waiting, command: Command, ui: Ui, signal: AbortSignal): Promise<void> {
  const { options } = command;
  if (options.answerFile !== undefined) {
    await ui.wait("Waiting for the other side");
    await readTokenFile(options.answerFile, (text) => takeAnswer(waiting, text, ui), { signal });
    return;
  }
  if (options.stdioSignal) {
    // Not by process.stdout: the event loop gives a descriptor to one stream only, and the payload needs it next.
    writeSync(1, `${waiting.offer}\n`);
    const line = await firstLine(signal);
    if (line !== undefined) waiting.answer(line);
    return;
  }
  const lines = openLines(command.stdinIsPayload);
  if (!lines) {
    await ui.wait("Waiting for the other side (no terminal to take an answer from; --answer-file F can)");
    return;
  }
  signal.addEventListener("abort", () => {
    if (lines.terminal && !ui.json) process.stderr.write("\n");
    lines.close();
  });
  if (signal.aborted) return;
  await readAnswers(waiting, lines, ui);
}

/** An answer for an older offer lies there still: wait for the right one. */
function takeAnswer(waiting: Waiting, text: string, ui: Ui): boolean {
  try {
    waiting.answer(text);
    return true;
  } catch (error) {
    if (!(error instanceof DcpipeError) || error.code !== "TOKEN_FOREIGN") throw error;
    ui.note(error.message);
    return false;
  }
}

/** Takes lines until one is a good answer. A person is asked again; a script gets an error. */
function readAnswers(waiting: Waiting, lines: Lines, ui: Ui): Promise<void> {
  const question = ui.json ? "" : "If it shows an answer, paste it here: ";
  lines.ask(question);
  return new Promise((resolve, reject) => {
    lines.onLine((line) => {
      if (line.trim() === "") {
        lines.ask(question);
        return;
      }
      // What a script has on its stdin may be meant for somebody else.
      if (!lines.terminal && !looksLikeToken(line)) return;
      try {
        waiting.answer(line);
        resolve();
      } catch (error) {
        if (!lines.terminal || !(error instanceof DcpipeError)) {
          reject(asDcpipeError(error, "SIGNALLING"));
          return;
        }
        ui.error(error);
        lines.ask(question);
      }
    });
  });
}

/** The first line on stdin that holds a token; what follows stays for the command. Undefined at the end of stdin. */
function firstLine(signal: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = "";
    const finish = (line: string | undefined): void => {
      process.stdin.off("data", take);
      process.stdin.pause();
      resolve(line);
    };
    const take = (chunk: Buffer): void => {
      text += chunk.toString("latin1");
      const end = text.indexOf("\n");
      if (end < 0) return;
      // First nobody listens any more: what goes back would come here again.
      finish(text.slice(0, end));
      const rest = text.slice(end + 1);
      if (rest !== "") process.stdin.unshift(Buffer.from(rest, "latin1"));
    };
    process.stdin.on("data", take);
    process.stdin.once("end", () => {
      finish(undefined);
    });
    signal.addEventListener("abort", () => {
      finish(undefined);
    });
  });
}

// ---- the end --------------------------------------------------------------------------------------------------------

const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** The first signal ends cleanly, the second at once. */
function watchSignals(end: () => Promise<void> | undefined): { readonly interrupted: boolean } {
  const state = { interrupted: false };
  for (const [name, status] of Object.entries(SIGNALS)) {
    process.on(name, () => {
      if (state.interrupted) process.exit(status);
      state.interrupted = true;
      void Promise.race([Promise.resolve(end()), delay(FAREWELL_MS)]).then(() => leave(status));
    });
  }
  return state;
}

/** Leaves when stderr has taken everything. */
async function leave(status: number): Promise<never> {
  await new Promise<void>((resolve) =>
    process.stderr.write("", () => {
      resolve();
    }),
  );
  process.exit(status);
}

/** The reader of our output has gone: end as `cat` would, by the signal. */
async function dieOfPipe(): Promise<never> {
  // Node ignores SIGPIPE; taking a listener off again puts the default action back.
  const ignore = (): void => undefined;
  process.on("SIGPIPE", ignore);
  process.off("SIGPIPE", ignore);
  process.kill(process.pid, "SIGPIPE");
  await delay(FAREWELL_MS);
  return leave(VERDICTS.PIPE_CLOSED.status);
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
