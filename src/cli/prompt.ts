/** Lines typed or pasted by a person, or piped in, while something else is awaited. */
import { closeSync, openSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { ReadStream } from "node:tty";
import { completeWord, DcpipeError, escapeText, parsePeer } from "../index.ts";

export interface Lines {
  /** A person sits there and can be asked again. */
  readonly terminal: boolean;
  onLine(listener: (line: string) => void): void;
  /** The input has ended, or `close` was called. */
  onEnd(listener: () => void): void;
  ask(question: string): void;
  close(): void;
}

/**
 * Where answers come from: stdin when it carries no payload, else the terminal itself. Undefined when there is neither.
 */
export function openLines(stdinIsPayload: boolean): Lines | undefined {
  if (!stdinIsPayload) return readLines(process.stdin, process.stdin.isTTY);
  if (!process.stderr.isTTY) return undefined;
  const terminal = openTerminal();
  return terminal && readLines(terminal, true);
}

/** Whether a person can be asked: stdin and stderr are terminals. */
export function canAsk(): boolean {
  return process.stdin.isTTY && process.stderr.isTTY;
}

/**
 * Asks on the terminal until `read` makes something of the answer. Undefined at the end of input, and when `gone` settles: then
 * the question is of no use any more.
 */
export async function ask<T>(
  question: string,
  read: (answer: string) => T | undefined,
  gone: Promise<unknown>,
): Promise<T | undefined> {
  const lines = openLines(false);
  if (!lines) return undefined;
  const answer = await new Promise<T | undefined>((resolve) => {
    const leave = (): void => {
      resolve(undefined);
    };
    gone.then(leave, leave);
    lines.onEnd(leave);
    lines.onLine((line) => {
      const understood = read(line.trim().toLowerCase());
      if (understood === undefined) lines.ask(question);
      else resolve(understood);
    });
    lines.ask(question);
  });
  lines.close();
  return answer;
}

/**
 * Asks for a code at the terminal until it is one, with Tab completion of its words. Undefined where there is no terminal. Rejects with
 * CODE_MALFORMED at the end of input.
 */
export function askCode(stdinIsPayload: boolean): Promise<string | undefined> {
  const input = process.stdin.isTTY ? process.stdin : stdinIsPayload ? openTerminal() : undefined;
  if (!input || !process.stderr.isTTY) return Promise.resolve(undefined);
  const reader = createInterface({ input, output: process.stderr, terminal: true, completer: complete });
  // The line editor has taken Ctrl-C away from the terminal.
  reader.on("SIGINT", () => {
    process.stderr.write("\n");
    process.kill(process.pid, "SIGINT");
  });
  reader.setPrompt("Code of the other side (Tab completes): ");
  reader.prompt();
  return new Promise((resolve, reject) => {
    let answer: string | undefined;
    reader.on("line", (line) => {
      try {
        if (line.trim() !== "") {
          parsePeer(line);
          answer = line;
          reader.close();
          return;
        }
      } catch (error) {
        // What was pasted may be somebody else's text.
        process.stderr.write(`${escapeText((error as Error).message)}\n`);
      }
      reader.prompt();
    });
    reader.on("close", () => {
      if (input === process.stdin) input.pause();
      else input.destroy();
      if (answer === undefined) reject(new DcpipeError("CODE_MALFORMED", "no code given"));
      else resolve(answer);
    });
  });
}

/** Completes the word at the end of the line. */
export function complete(line: string): [string[], string] {
  const start = /^\s*\d+(?:[-\s]+[a-z]+)*[-\s]+([a-z]*)$/i.exec(line)?.[1];
  if (start === undefined) return [[], line];
  return [completeWord(start).slice(), start];
}

function openTerminal(): ReadStream | undefined {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(process.platform === "win32" ? "CONIN$" : "/dev/tty", "r");
    return new ReadStream(descriptor);
  } catch {
    if (descriptor !== undefined) closeSync(descriptor);
    return undefined;
  }
}

/** Who reads stdin at this moment: a question may come while another reader stays. */
const readers = new Set<object>();

function readLines(input: Readable, terminal: boolean): Lines {
  // The terminal's own line editing does; then Ctrl-C stays a signal.
  const reader = createInterface({ input, terminal: false, crlfDelay: Infinity });
  input.on("error", () => {
    reader.close();
  });
  if (input === process.stdin) readers.add(reader);
  reader.on("close", () => readers.delete(reader));
  return {
    terminal,
    onLine: (listener) => {
      reader.on("line", listener);
    },
    onEnd: (listener) => {
      if (input.readableEnded || input.destroyed) listener();
      else reader.on("close", listener);
    },
    ask: (question) => {
      if (terminal) process.stderr.write(question);
    },
    close: () => {
      reader.close();
      if (input !== process.stdin) input.destroy();
      // Closing has paused it for all.
      else if (readers.size > 0) input.resume();
      else input.pause();
    },
  };
}
