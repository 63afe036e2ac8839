/**
 * Signalling over the standard streams of a command (`--via 'ssh box dcpipe receive --stdio-signal'`): its first line that
 * holds a token is the other side's offer, and our answer is one line back. The data goes direct.
 */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { DcpipeError } from "../errors.ts";

/** Log-in messages before the token are skipped; a command that talks on and on is not what was meant. */
const MAX_LINES = 1000;

export interface Via {
  /** The first line for which `isToken` holds. Rejects with SIGNALLING when the command ends before. */
  readonly offer: Promise<string>;
  /** Hands over the answer; a command that has gone already does not need it. */
  answer: (token: string) => void;
  /** Ends the command's input; its remaining output goes to our stderr. */
  release: () => void;
  kill: () => void;
}

/** `onmore` is given the lines behind the offer, until it is released. */
export function runVia(
  command: string,
  isToken: (line: string) => boolean,
  onmore: (line: string) => void = () => undefined,
): Via {
  const child = spawn(command, { shell: true, stdio: ["pipe", "pipe", "inherit"] });
  let released = false;
  child.stdin.on("error", () => undefined);
  const offer = new Promise<string>((resolve, reject) => {
    let lines = 0;
    let found = false;
    const reader = createInterface({ input: child.stdout, crlfDelay: Infinity });
    reader.on("line", (line) => {
      if (!found && isToken(line)) {
        found = true;
        resolve(line);
      } else if (released) {
        process.stderr.write(`${line}\n`);
      } else if (found) {
        onmore(line);
      } else if (++lines > MAX_LINES) {
        child.kill();
        reject(new DcpipeError("SIGNALLING", "the --via command prints no token"));
      }
    });
    child.on("error", (cause) => {
      reject(new DcpipeError("SIGNALLING", `cannot run the --via command: ${cause.message}`, { cause }));
    });
    child.on("close", (status, signal) => {
      const how = signal === null ? `with status ${String(status)}` : `by ${signal}`;
      reject(new DcpipeError("SIGNALLING", `the --via command ended ${how} before it printed a token`));
    });
  });
  offer.catch(() => undefined);
  return {
    offer,
    answer: (token) => {
      if (child.stdin.writable) child.stdin.write(`${token}\n`);
    },
    release: () => {
      released = true;
      child.stdin.end();
      child.unref();
    },
    kill: () => {
      child.kill();
    },
  };
}
