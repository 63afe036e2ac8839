/** By token: carries offer and answer to and fro by whatever means were asked for. */
import { writeSync } from "node:fs";
import {
  asDcpipeError,
  connect,
  DcpipeError,
  decodeToken,
  listen,
  looksLikeToken,
  offerTokenFile,
  readTokenFile,
  removeTokenFile,
  runVia,
  writeTokenFile,
  type ConnectOptions,
  type Session,
  type Waiting,
} from "../index.ts";
import type { Command, Met } from "./command.ts";
import type { CommonOptions } from "./options.ts";
import { openLines, type Lines } from "./prompt.ts";
import { delay, FAREWELL_MS } from "./time.ts";
import type { Ui } from "./ui.ts";

/** One paste is enough when the waiting side can be reached; then the answer need not be shown. Milliseconds. */
const ONE_PASTE_MS = 2500;

export interface Offer {
  readonly text: string;
  readonly answer?: (token: string) => void;
  readonly done?: () => void;
}

export async function viaOffer(command: string, signal: AbortSignal): Promise<Offer> {
  const via = runVia(command, looksLikeToken);
  signal.addEventListener("abort", () => {
    via.kill();
  });
  return { text: await via.offer, answer: via.answer, done: via.release };
}

export async function joinByToken(
  offer: Offer,
  network: ConnectOptions,
  { options }: Command,
  ui: Ui,
  signal: AbortSignal,
): Promise<Met> {
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
    return { session, role: "joining", verifier: joining.verifier, joined: true };
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

export async function waitByToken(
  network: ConnectOptions,
  command: Command,
  ui: Ui,
  signal: AbortSignal,
): Promise<Met> {
  const { options } = command;
  const waiting = await listen(network);
  const { offer } = waiting;
  // With --stdio-signal no person carries it, and stderr is another command's.
  ui.offer(offer, options.stdioSignal ? undefined : command.counterpart(offer));
  const { candidates } = decodeToken(offer, "offer");
  if (options.bind === undefined && candidates.every(({ address }) => address.startsWith("127.")))
    ui.note("this machine has no network at the moment: only its own processes can use this token");
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
      return await joinByToken({ text: met }, network, command, ui, signal);
    }
    if (shared) await answers;
    return { session: met, role: "waiting", verifier: waiting.verifier, joined: false };
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
export function firstLine(signal: AbortSignal): Promise<string | undefined> {
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
