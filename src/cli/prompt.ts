/** Lines typed or pasted by a person, or piped in, while something else is awaited. */
import { closeSync, openSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { ReadStream } from "node:tty";

export interface Lines {
  /** A person sits there and can be asked again. */
  readonly terminal: boolean;
  onLine(listener: (line: string) => void): void;
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

function readLines(input: Readable, terminal: boolean): Lines {
  // The terminal's own line editing does; then Ctrl-C stays a signal.
  const reader = createInterface({ input, terminal: false, crlfDelay: Infinity });
  input.on("error", () => {
    reader.close();
  });
  return {
    terminal,
    onLine: (listener) => {
      reader.on("line", listener);
    },
    ask: (question) => {
      if (terminal) process.stderr.write(question);
    },
    close: () => {
      reader.close();
      if (input === process.stdin) input.pause();
      else input.destroy();
    },
  };
}
