/** The terminal of a command that runs on: questions get their answers there, and Enter shows how things are. */
import { escapeText, type Question } from "../index.ts";
import { canAsk, openLines, type Lines } from "./prompt.ts";
import type { Ui } from "./ui.ts";

interface Asked {
  readonly text: string;
  readonly resolve: (yes: boolean) => void;
}

export class Console {
  readonly #ui: Ui;
  readonly #signal: AbortSignal;
  #lines: Lines | undefined;
  #onenter: (() => void) | undefined;
  /** The terminal has gone. */
  #ended = false;
  /** The first one is on the screen. */
  #asked: Asked[] = [];

  constructor(ui: Ui, signal: AbortSignal) {
    this.#ui = ui;
    this.#signal = signal;
  }

  /** From now on Enter calls this. Nothing where there is no terminal, and with --json. */
  start(onenter: () => void): void {
    if (!canAsk() || this.#ui.json) return;
    if (this.#onenter) return;
    this.#onenter = onenter;
    this.#open();
    this.#ui.hint("Enter shows what is open, Ctrl-C ends");
  }

  /** Asks whether the other side may. A terminal that has gone says no. */
  async askAccess({ kind, what, allowed }: Question): Promise<boolean> {
    const does =
      kind === "reach"
        ? `wants to reach ${escapeText(what)}`
        : `wants this machine to listen at ${escapeText(what)} for it`;
    const known = allowed ? "" : " (nothing allows it so far)";
    return this.#ask(`The other side ${does}${known}. Allow? [y/N] `);
  }

  #ask(text: string): Promise<boolean> {
    return new Promise((resolve) => {
      if (this.#signal.aborted) {
        resolve(false);
        return;
      }
      this.#open();
      if (this.#ended) {
        resolve(false);
        return;
      }
      this.#asked.push({ text, resolve });
      if (this.#asked.length === 1) this.#lines?.ask(text);
    });
  }

  #open(): void {
    if (this.#lines) return;
    const lines = openLines(false);
    if (!lines) {
      this.#ended = true;
      return;
    }
    this.#lines = lines;
    lines.onLine((line) => {
      this.#take(line);
    });
    const end = (): void => {
      this.#ended = true;
      for (const { resolve } of this.#asked.splice(0)) resolve(false);
    };
    lines.onEnd(end);
    this.#signal.addEventListener("abort", () => {
      lines.close();
      end();
    });
  }

  #take(line: string): void {
    const [first] = this.#asked;
    if (!first) {
      this.#onenter?.();
      return;
    }
    const answer = /^\s*(?:(y|yes)|(n|no|))\s*$/i.exec(line);
    if (answer) {
      this.#asked.shift();
      first.resolve(answer[1] !== undefined);
    }
    const next = this.#asked[0];
    if (next) this.#lines?.ask(next.text);
  }
}
