/**
 * dcpipe forward
 *
 *   bind our ports -> meet -> forward over the session until it ends -> [--multi: meet the next one meanwhile]
 */
import { asDcpipeError, DcpipeError, formatTarget, Forwarding, network, type Session } from "../index.ts";
import type { Command, Met } from "./command.ts";
import { Console } from "./console.ts";
import { planOf, type ForwardArguments, type ForwardPlan } from "./forward-options.ts";
import { ForwardReport } from "./forward-report.ts";
import { meet } from "./meet.ts";
import { parseRate } from "./options.ts";
import { runProcess, type Around } from "./process.ts";
import { canAsk } from "./prompt.ts";
import { verify } from "./verify.ts";

/** Sessions of --multi that lost their connection and have not come back: beyond so many the oldest is given up. */
const MAX_DOWN = 64;

export async function runForward(given: ForwardArguments): Promise<never> {
  // A forward is there to stay: it waits for a peer that fell silent as long as it takes.
  const options = { ...given, reconnect: given.reconnect ?? Infinity };
  const plan = planOf(options);
  const bytesPerSecond = parseRate(options.limit);
  if (options.ask && !options.yes && !canAsk())
    throw new DcpipeError("USAGE", "--ask needs a terminal to ask on; --allow names what may be reached");
  const command: Command = {
    argument: plan.peer,
    options,
    stdinIsPayload: false,
    counterpart: (peer) => `dcpipe forward ${counterTargets(plan)}${peer}`,
  };
  return runProcess(command, async (around) => {
    const { ui, signal } = around;
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
    try {
      await forwarding.start();
      await (options.multi
        ? serveMany(command, forwarding, around)
        : serveOne(command, forwarding, around, report, console));
    } finally {
      await forwarding.close();
    }
    report.done();
  });
}

/** What the other side has to offer so that our own ports lead somewhere. */
function counterTargets({ locals }: ForwardPlan): string {
  const targets = new Set(locals.map(({ target, protocol }) => formatTarget(target, protocol)));
  return [...targets].map((target) => `${target} `).join("");
}

async function serveOne(
  command: Command,
  forwarding: Forwarding,
  around: Around,
  report: ForwardReport,
  console: Console,
): Promise<void> {
  const met = await meetNext(command, around);
  report.session(met.session);
  console.start(() => {
    report.status();
  });
  const { ready, done } = forwarding.add(met.session, met.role);
  // A port that the other side cannot give is an error, as a busy one here would be.
  ready.catch((cause: unknown) => {
    const error = asDcpipeError(cause, "IO");
    void met.session.abort(error.code === "REFUSED" ? "REFUSED" : "ABORTED", error.message, error);
  });
  await leftInOrder(done);
}

/** Meets one after the other, for as long as somebody may come; each has a session of its own. */
async function serveMany(command: Command, forwarding: Forwarding, around: Around): Promise<never> {
  const sessions = new Set<Session>();
  for (;;) {
    const { session, role } = await meetNext(command, around);
    sessions.add(session);
    const { done } = forwarding.add(session, role);
    leftInOrder(done)
      .then(
        () => {
          around.ui.note("one of the others has left");
        },
        (cause: unknown) => {
          around.ui.note(`a session ended: ${asDcpipeError(cause, "IO").message}`);
        },
      )
      .finally(() => sessions.delete(session))
      .catch(() => undefined);
    const down = [...sessions].filter(({ state }) => state === "down");
    if (down.length > MAX_DOWN) void down[0]?.abort("CLOSED", "too many sessions wait for their other side");
  }
}

async function meetNext(command: Command, around: Around): Promise<Met> {
  const met = await meet(command, around.ui, around.signal);
  around.hold(met.session);
  if (command.options.verify) await verify(command, met, around.ui, around.signal);
  return met;
}

/** That the user at the other side has ended it is a good end. */
async function leftInOrder(done: Promise<void>): Promise<void> {
  try {
    await done;
  } catch (cause) {
    if (!(cause instanceof DcpipeError) || (cause.code !== "INTERRUPTED" && cause.code !== "CLOSED"))
      throw cause;
  }
}
