/** A command from its first line to its last: what is said and done at an interrupt and at an error, and the exit status. */
import { setMaxListeners } from "node:events";
import { asDcpipeError, settled, type Session } from "../index.ts";
import type { Command } from "./command.ts";
import { VERDICTS } from "./status.ts";
import { delay, FAREWELL_MS } from "./time.ts";
import { Ui } from "./ui.ts";

/** What a command's work needs of the process it runs in. */
export interface Around {
  readonly ui: Ui;
  /** Fires at an interrupt. */
  readonly signal: AbortSignal;
  /** This session is to be told when the command is interrupted or fails. */
  readonly hold: (session: Held) => void;
}

/** What is told of the end: a session, or a plain channel. */
export type Held = Pick<Session, "abort" | "close" | "closed">;

/** Runs `work` and ends the process with the documented status. */
export async function runProcess(command: Command, work: (around: Around) => Promise<void>): Promise<never> {
  const { options } = command;
  const color = options.color && process.env["NO_COLOR"] === undefined;
  const ui = new Ui({ json: options.json, quiet: options.quiet, verbose: options.verbose, color });
  const stop = new AbortController();
  // It stops whatever is under way, and Node would warn of a leak on stderr.
  setMaxListeners(0, stop.signal);
  const sessions = new Set<Held>();
  const watched = watchSignals(() => {
    ui.end();
    const hint = sessions.size > 0 ? command.hints?.INTERRUPTED : undefined;
    if (hint !== undefined) ui.note(hint);
    // The sessions first: what they say to the other side is the reason that counts.
    const farewells = [...sessions].map((session) => session.abort("INTERRUPTED", ""));
    stop.abort();
    return Promise.all(farewells);
  });
  for (const note of command.notes ?? []) ui.note(note);
  try {
    await work({
      ui,
      signal: stop.signal,
      hold: (session) => {
        sessions.add(session);
        const drop = (): void => void sessions.delete(session);
        session.closed.then(drop, drop);
      },
    });
    // Work that ends because of an interrupt does not end well.
    if (watched.interrupted) return await new Promise<never>(() => undefined);
    return await leave(0);
  } catch (cause) {
    if (watched.interrupted) return await new Promise<never>(() => undefined);
    const error = asDcpipeError(cause, "IO");
    ui.end();
    // The stream is gone, the session may stand: let the other side know that all is over.
    const ends = [...sessions].map((session) => session.close().catch(() => undefined));
    await Promise.race([Promise.all(ends), delay(FAREWELL_MS)]);
    if (error.code === "PIPE_CLOSED" && !ui.json && process.platform !== "win32") return await dieOfPipe();
    ui.error(error, command.hints?.[error.code]);
    return await leave(VERDICTS[error.code].status);
  }
}

const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** The first signal ends cleanly, the second at once. */
function watchSignals(end: () => Promise<unknown>): { readonly interrupted: boolean } {
  const state = { interrupted: false };
  for (const [name, status] of Object.entries(SIGNALS)) {
    process.on(name, () => {
      if (state.interrupted) process.exit(status);
      state.interrupted = true;
      void Promise.race([end(), delay(FAREWELL_MS)]).then(() => leave(status));
    });
  }
  return state;
}

/** Leaves when stderr has taken everything, the network the last words of connections, and the router its ports. */
async function leave(status: number): Promise<never> {
  await settled();
  await new Promise<void>((resolve) =>
    process.stderr.write("", () => {
      resolve();
    }),
  );
  process.exit(status);
}

/** The reader of our output has gone: end as `cat` would, by the signal. */
async function dieOfPipe(): Promise<never> {
  await settled();
  // Node ignores SIGPIPE; taking a listener off again puts the default action back.
  const ignore = (): void => undefined;
  process.on("SIGPIPE", ignore);
  process.off("SIGPIPE", ignore);
  process.kill(process.pid, "SIGPIPE");
  await delay(FAREWELL_MS);
  return leave(VERDICTS.PIPE_CLOSED.status);
}
