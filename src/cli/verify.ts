/** --verify: both people compare a short authentication string, and nothing flows before they have. */
import { DcpipeError } from "../index.ts";
import type { Command, Met } from "./command.ts";
import { openLines } from "./prompt.ts";
import type { Ui } from "./ui.ts";

/** Resolves when the user has said yes. Rejects with AUTH_FAILED when not, USAGE when there is nobody to ask. */
export async function verify(
  { options, stdinIsPayload }: Command,
  { session, verifier }: Met,
  ui: Ui,
  signal: AbortSignal,
): Promise<void> {
  await Promise.race([ui.connected, session.closed.catch(() => undefined)]);
  ui.verifier(verifier);
  if (options.yes) return;
  const lines = openLines(stdinIsPayload);
  if (!lines?.terminal) {
    lines?.close();
    throw new DcpipeError(
      "USAGE",
      "--verify needs a terminal to ask on; with --yes the string is shown only",
    );
  }
  const question = "Does the other side show the same? [y/N] ";
  let stopAsking = (): void => undefined;
  const answer = await new Promise<string | undefined>((resolve) => {
    const leave = (): void => {
      resolve(undefined);
    };
    stopAsking = leave;
    signal.addEventListener("abort", leave);
    session.closed.then(leave, leave);
    lines.onLine(resolve);
    lines.ask(question);
  });
  lines.close();
  signal.removeEventListener("abort", stopAsking);
  if (/^\s*(y|yes)\s*$/i.test(answer ?? "")) return;
  if (answer === undefined) {
    // The session's own end is the reason, when it is that; the user's, when the signal came.
    await session.closed;
    throw new DcpipeError("PEER_GONE", "the other side left before it was verified");
  }
  void session.abort("REFUSED", "the short authentication strings differ");
  throw new DcpipeError("AUTH_FAILED", "not verified: you said that the strings differ");
}
