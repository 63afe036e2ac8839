/** A command over one session: meets the other side, does its work, and closes. */
import type { Role, Session } from "../index.ts";
import type { Command } from "./command.ts";
import { meet } from "./meet.ts";
import { runProcess } from "./process.ts";
import { prepareToRemember, remember } from "./remember.ts";
import type { Ui } from "./ui.ts";
import { verify } from "./verify.ts";

/** Runs `body` over a session and ends the process with the documented status. */
export function runCommand(
  command: Command,
  body: (session: Session, role: Role, ui: Ui) => Promise<void>,
): Promise<never> {
  return runProcess(command, async ({ ui, signal, hold }) => {
    await prepareToRemember(command, ui);
    const met = await meet(command, ui, signal);
    hold(met.session);
    if (command.options.verify) await verify(command, met, ui, signal);
    await remember(command, met, ui);
    await body(met.session, met.role, ui);
    await met.session.close();
  });
}
