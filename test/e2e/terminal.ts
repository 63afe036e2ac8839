/** dcpipe on a pseudo-terminal, which util-linux's `script` makes: what it shows, and what is typed. */
import { tmpdir } from "node:os";
import { BIN, Process, quote } from "./dcpipe.ts";

export interface TerminalOptions {
  readonly namespace?: string;
  /** A shell script around the command, which is "$@" in it. */
  readonly script?: string;
  readonly columns?: number;
  readonly rows?: number;
  readonly env?: Record<string, string>;
}

export class Terminal extends Process {
  #seen = 0;

  constructor(args: readonly string[], options: TerminalOptions = {}) {
    const { namespace, script = '"$@"', columns = 80, rows = 24 } = options;
    const inner = `stty cols ${columns} rows ${rows}; ${script}`;
    const argv = ["bash", "-c", inner, "bash", process.execPath, BIN, ...args];
    const within = namespace === undefined ? [] : ["ip", "netns", "exec", namespace];
    super([...within, "script", "-qec", quote(argv), "/dev/null"], {
      // Its end would be an end of file on the terminal.
      stdin: "pipe",
      cwd: tmpdir(),
      env: { TERM: "xterm-256color", SHELL: "/bin/sh", ...options.env },
    });
  }

  /** Everything that was on the screen, escape sequences and all. */
  get screen(): string {
    return this.stdout.toString();
  }

  /** Resolves when this appears behind what earlier calls have found. */
  shows(what: RegExp): Promise<RegExpExecArray> {
    return this.until(`${what} on the screen`, () => {
      const found = what.exec(this.screen.slice(this.#seen));
      if (!found) return undefined;
      this.#seen += found.index + found[0].length;
      return found;
    });
  }

  /** Types a line, and waits for what it brings about. */
  async type(line: string, effect: RegExp): Promise<RegExpExecArray> {
    this.stdin.write(`${line}\r`);
    return this.shows(effect);
  }
}
