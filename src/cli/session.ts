/** A command from its first line to its last: a session, what is done over it, signals, and the exit status. */
import { asDcpipeError, type Role, type Session } from "../index.ts";
import type { Command } from "./command.ts";
import { meet } from "./meet.ts";
import { prepareToRemember, remember } from "./remember.ts";
import { VERDICTS } from "./status.ts";
import { delay, FAREWELL_MS } from "./time.ts";
import { Ui } from "./ui.ts";
import { verify } from "./verify.ts";

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
    ui.end();
    const hint = session && command.hints?.INTERRUPTED;
    if (hint !== undefined) ui.note(hint);
    // The session first: what it says to the other side is the reason that counts.
    const farewell = session?.abort("INTERRUPTED", "");
    stop.abort();
    return farewell;
  });
  for (const note of command.notes ?? []) ui.note(note);
  try {
    await prepareToRemember(command, ui);
    const met = await meet(command, ui, stop.signal);
    session = met.session;
    if (options.verify) await verify(command, met, ui, stop.signal);
    await remember(command, met, ui);
    await body(session, met.role, ui);
    await session.close();
    return await leave(0);
  } catch (cause) {
    if (watched.interrupted) return await new Promise<never>(() => undefined);
    const error = asDcpipeError(cause, "IO");
    ui.end();
    // The stream is gone, the session may stand: let the other side know that all is over.
    if (session) await Promise.race([session.close().catch(() => undefined), delay(FAREWELL_MS)]);
    if (error.code === "PIPE_CLOSED" && !ui.json && process.platform !== "win32") return await dieOfPipe();
    ui.error(error, command.hints?.[error.code]);
    return await leave(VERDICTS[error.code].status);
  }
}

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
