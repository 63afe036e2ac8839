/**
 * dcpipe forward
 *
 * Binds our ports, then meets the other side, or several, as serving.ts has it.
 */
import { DcpipeError, formatTarget, Forwarding, network } from "../index.ts";
import type { Command } from "./command.ts";
import { Console } from "./console.ts";
import { planOf, type ForwardArguments, type ForwardPlan } from "./forward-options.ts";
import { ForwardReport } from "./forward-report.ts";
import { findRendezvous, parseRate } from "./options.ts";
import { runProcess } from "./process.ts";
import { canAsk } from "./prompt.ts";
import { prepareToRemember } from "./remember.ts";
import { Serving } from "./serving.ts";

export async function runForward(given: ForwardArguments): Promise<never> {
  // A forward is there to stay: it waits for a peer that fell silent as long as it takes.
  const options = { ...given, reconnect: given.reconnect ?? Infinity };
  const plan = planOf(options);
  if (options.web && findRendezvous(options) === undefined)
    throw new DcpipeError(
      "USAGE",
      "--web needs a rendezvous, whose page the link opens: add --rendezvous URL; dcpipe rendezvous runs one",
    );
  const bytesPerSecond = parseRate(options.limit);
  if (options.ask && !options.yes && !canAsk())
    throw new DcpipeError("USAGE", "--ask needs a terminal to ask on; --allow names what may be reached");
  const command: Command = {
    argument: plan.peer,
    options,
    purpose: "forward",
    meets: "forward",
    stdinIsPayload: false,
    web: options.web,
    counterpart: (peer) => `dcpipe forward ${counterTargets(plan)}${peer}`,
  };
  return runProcess(command, async (around) => {
    const { ui, signal } = around;
    await prepareToRemember(command, ui);
    const console = new Console(ui, signal);
    const forwarding = new Forwarding({
      network,
      offers: plan.offers,
      allow: plan.allow,
      locals: plan.locals,
      remotes: plan.remotes,
      dynamics: plan.dynamics,
      takeOffers: plan.locals.length === 0 && !options.multi,
      gateway: options.gateway,
      bytesPerSecond,
      ask: options.ask && !options.yes ? (question) => console.askAccess(question) : undefined,
      onevent: (event) => {
        report.take(event);
      },
    });
    const report = new ForwardReport(ui, forwarding);
    report.watch(signal);
    const serving = new Serving(command, forwarding, around, (session) => {
      report.session(session);
      console.start(() => {
        report.status();
      });
    });
    try {
      await forwarding.start().catch((cause: unknown) => {
        throw suggestAnotherPort(cause);
      });
      if (plan.dynamics.length > 0)
        ui.note(
          "-D reaches what the other side offers, or names with --allow HOST:PORT; '*:*' is everything",
        );
      await (options.multi ? serving.many() : serving.one());
    } finally {
      serving.close();
      await forwarding.close();
    }
    if (!signal.aborted) report.done();
  });
}

/** What the other side has to offer so that our own ports lead somewhere. */
function counterTargets({ offers, locals, remotes, dynamics, allow }: ForwardPlan): string {
  // With nothing given here, something has to be given there.
  if ([offers, locals, remotes, dynamics, allow].every(({ length }) => length === 0)) return "TARGET ";
  const targets = new Set(locals.map(({ target, protocol }) => formatTarget(target, protocol)));
  return [...targets].map((target) => `${target} `).join("");
}

/** A port of -L or -D that cannot be had: the user knows which, and is told what else would do. */
function suggestAnotherPort(cause: unknown): unknown {
  if (!(cause instanceof DcpipeError) || cause.code !== "USAGE") return cause;
  const { code } = (cause.cause ?? {}) as NodeJS.ErrnoException;
  if (code !== "EADDRINUSE" && code !== "EACCES") return cause;
  return new DcpipeError("USAGE", `${cause.message}; name another port, or 0, which picks one`, { cause });
}
