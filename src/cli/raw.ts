/** dcpipe pipe --raw: one plain data channel to any WebRTC peer; offer and answer travel as lines of JSON. */
import { writeSync } from "node:fs";
import {
  answerRaw,
  DcpipeError,
  findOffer,
  looksLikeDescription,
  offerRaw,
  pipeRaw,
  readTokenFile,
  removeTokenFile,
  runVia,
  writeTokenFile,
  type ConnectOptions,
  type RawChannel,
  type RawConnection,
} from "../index.ts";
import type { Command } from "./command.ts";
import { networkOf } from "./network.ts";
import { findPeer, type CommonOptions } from "./options.ts";
import type { PipeArguments } from "./pipe.ts";
import { runProcess, type Around } from "./process.ts";
import { openLines, type Lines } from "./prompt.ts";
import { RAW_HINTS } from "./status.ts";
import { pipeDone, standardStreams } from "./streams.ts";
import { firstLine } from "./token.ts";
import type { Ui } from "./ui.ts";

/** Options that mean something between two dcpipes only. */
const FOREIGN: readonly (keyof PipeArguments)[] = [
  "rendezvous",
  "lan",
  "codeLength",
  "remember",
  "known",
  "verify",
  "reconnect",
  "qr",
  "target",
];

export async function runRaw(options: PipeArguments): Promise<never> {
  for (const name of FOREIGN) {
    // `--no-lan` and the like only say what holds anyway.
    if (options[name] === undefined || options[name] === false) continue;
    const flag = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw new DcpipeError("USAGE", `--${flag} does not go with --raw: the other side is no dcpipe`);
  }
  const command: Command = {
    argument: options.peer,
    options,
    purpose: "pipe",
    meets: "pipe",
    stdinIsPayload: true,
    counterpart: () => "dcpipe pipe --raw",
    hints: RAW_HINTS,
  };
  return runProcess(command, async (around) => {
    const { ui, signal, hold } = around;
    const { connection, channel } = await meet(command, around);
    const closed = new Promise<void>((resolve) => {
      signal.addEventListener("abort", () => {
        resolve();
      });
    });
    const close = (): Promise<void> => {
      connection.close();
      return Promise.resolve();
    };
    hold({ closed, close, abort: close });
    const carried = await pipeRaw(channel, standardStreams(options, ui));
    connection.close();
    pipeDone(carried, ui);
  });
}

interface Met {
  readonly connection: RawConnection;
  readonly channel: RawChannel;
}

async function meet(command: Command, { ui, signal }: Around): Promise<Met> {
  const { options } = command;
  const network = networkOf(command, ui, signal);
  if (options.via !== undefined) return joinVia(options.via, network, ui, signal);
  const offer = await findRawOffer(command, ui, signal);
  if (offer === undefined) return waitForAnswer(network, options, ui, signal);
  const connection = await answerRaw(offer, network);
  ui.answer(connection.description);
  if (options.answerFile === undefined) {
    ui.rawDescription("Answer, for the other side", connection.description);
    return takeLines(connection, options, ui, "");
  }
  await writeTokenFile(options.answerFile, connection.description, { signal });
  return open(connection, ui);
}

/** The offer to answer; undefined when this side makes one. Throws USAGE. */
async function findRawOffer(command: Command, ui: Ui, signal: AbortSignal): Promise<string | undefined> {
  const { options, argument } = command;
  if ((argument ?? options.to) === "-") return askOffer(options, ui);
  const text = await findPeer(argument, options, true);
  if (text !== undefined || options.offerFile === undefined) return text;
  return findOffer(options.offerFile, { signal });
}

async function askOffer(options: CommonOptions, ui: Ui): Promise<string> {
  const lines = openLines(true);
  if (!lines)
    throw new DcpipeError(
      "USAGE",
      "no terminal to read the offer from: give it as PEER, by --code-file or --offer-file",
    );
  if (!options.json) lines.ask("Offer of the other side: ");
  const line = await new Promise<string>((resolve) => {
    lines.onLine((text) => {
      if (text.trim() !== "") resolve(text);
    });
    lines.onEnd(() => {
      resolve("");
    });
  });
  lines.close();
  ui.stopWaiting();
  return line;
}

async function joinVia(via: string, network: ConnectOptions, ui: Ui, signal: AbortSignal): Promise<Met> {
  let connection: RawConnection | undefined;
  const early: string[] = [];
  const more = (line: string): void => {
    if (!/^\s*(\{|null\s*$)/.test(line)) return;
    if (connection) connection.take(line);
    else early.push(line);
  };
  const command = runVia(via, looksLikeDescription, (line) => {
    try {
      more(line);
    } catch (error) {
      ui.note(`a line of the --via command was passed over: ${(error as Error).message}`);
    }
  });
  signal.addEventListener("abort", () => {
    command.kill();
  });
  try {
    connection = await answerRaw(await command.offer, network);
    for (const line of early) connection.take(line);
    ui.answer(connection.description);
    command.answer(connection.description);
    return await open(connection, ui);
  } catch (error) {
    connection?.close();
    throw error;
  } finally {
    command.release();
  }
}

async function waitForAnswer(
  network: ConnectOptions,
  options: CommonOptions,
  ui: Ui,
  signal: AbortSignal,
): Promise<Met> {
  const { answerFile, offerFile, stdioSignal } = options;
  const connection = await offerRaw(network);
  const offer = connection.description;
  try {
    ui.offer(offer, undefined);
    if (stdioSignal) {
      // Not by process.stdout: the event loop gives a descriptor to one stream only, and the payload needs it next.
      writeSync(1, `${offer}\n`);
      const line = await firstLine(signal);
      if (line === undefined)
        throw new DcpipeError("SIGNALLING", "stdin ended before there was an answer on it");
      connection.take(line);
      return await open(connection, ui);
    }
    if (offerFile === undefined) ui.rawDescription("Offer, for the other side", offer);
    else await writeTokenFile(offerFile, offer, { signal });
    if (answerFile === undefined) return await takeLines(connection, options, ui, "Its answer: ");
    await ui.wait("Waiting for the answer");
    await readTokenFile(answerFile, (text) => (connection.take(text), true), { signal });
    return await open(connection, ui);
  } catch (error) {
    connection.close();
    throw error;
  } finally {
    if (offerFile !== undefined) await removeTokenFile(offerFile, offer);
  }
}

/** Takes lines from the terminal until the channel is open. `question` asks for one that must come, if it is not empty. */
async function takeLines(
  connection: RawConnection,
  options: CommonOptions,
  ui: Ui,
  question: string,
): Promise<Met> {
  const lines = openLines(true);
  if (!lines && question !== "")
    throw new DcpipeError(
      "USAGE",
      "no terminal to read the answer from: --answer-file F reads it from a file, --stdio-signal from stdin",
    );
  if (lines) listen(connection, lines, options.json ? "" : question, ui);
  try {
    return await open(connection, ui);
  } finally {
    lines?.close();
  }
}

/** What a person pastes wrongly is said, and asked for again. */
function listen(connection: RawConnection, lines: Lines, question: string, ui: Ui): void {
  if (question !== "") lines.ask(question);
  lines.onLine((line) => {
    if (line.trim() === "") return;
    try {
      connection.take(line);
    } catch (error) {
      if (!(error instanceof DcpipeError)) throw error;
      ui.error(error);
      if (question !== "") lines.ask(question);
    }
  });
}

async function open(connection: RawConnection, ui: Ui): Promise<Met> {
  await ui.wait("Connecting");
  try {
    return { connection, channel: await connection.channel };
  } catch (error) {
    connection.close();
    throw error;
  } finally {
    ui.stopWaiting();
  }
}
