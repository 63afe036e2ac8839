/**
 * Over which sessions a forward goes, and when it is over:
 *
 *   one()   a stranger:          meet --> until it leaves, for good
 *           a remembered peer:   meet --> it leaves, restarts, or stays away --> the side that joined knocks again,
 *                                         the side that waited opens when it knocks  --> ...
 *   many()  meet --> meet the next --> ...; remembered peers come and go
 *
 * Whatever happens, the ports of the forward stay bound.
 */
import { asDcpipeError, DcpipeError, type ErrorCode, type Forwarding, type Session } from "../index.ts";
import type { Command, Met } from "./command.ts";
import { joinAgain, waitForRemembered } from "./known.ts";
import { meet } from "./meet.ts";
import { networkOf } from "./network.ts";
import { findRendezvous } from "./options.ts";
import type { Around } from "./process.ts";
import { remember } from "./remember.ts";
import { delay } from "./time.ts";
import { verify } from "./verify.ts";

/** Sessions that lost their connection and have not come back: beyond so many the oldest is given up. */
const MAX_DOWN = 64;
/** A remembered peer that has been away for so long may have been started anew: then it is met anew. Milliseconds. */
const DOWN_MS = 2000;
/** A session is looked at so often, in milliseconds. */
const LOOK_MS = 500;
/** Between two tries to meet it, in milliseconds. */
const AGAIN_MS = 2000;
/** One who wanted to join did not get in; the next one may. */
const MISSED: readonly ErrorCode[] = [
  "CODE_WRONG",
  "ICE_FAILED",
  "TIMEOUT",
  "PEER_GONE",
  "INTERRUPTED",
  "AUTH_FAILED",
];
/** Each new code is another guess for whoever tries them: so many wrong ones are let pass. */
const MAX_GUESSES = 3;
/** Failures that another meeting would only repeat. */
const FATAL: readonly ErrorCode[] = ["USAGE", "REFUSED", "AUTH_FAILED", "VERSION", "PROTOCOL", "NO_WEBRTC"];

export class Serving {
  readonly #command: Command;
  readonly #forwarding: Forwarding;
  readonly #around: Around;
  readonly #onsession: (session: Session) => void;
  readonly #sessions = new Set<Session>();
  #doors: { close(): void } | undefined;

  /** `onsession` is told of each session that our own ports lead to. */
  constructor(
    command: Command,
    forwarding: Forwarding,
    around: Around,
    onsession: (session: Session) => void,
  ) {
    this.#command = command;
    this.#forwarding = forwarding;
    this.#around = around;
    this.#onsession = onsession;
  }

  /** Serves one other side. Resolves when it has left, and is a stranger. */
  async one(): Promise<void> {
    const met = await this.#meet();
    const { ready, done } = this.#take(met);
    // A port that the other side cannot give is an error, as a busy one here would be.
    try {
      await Promise.race([leftInOrder(ready), done]);
    } catch (cause) {
      const { code, message } = asDcpipeError(cause, "IO");
      // The other side is not to wait for one that is gone.
      void met.session.abort(code === "REFUSED" ? "REFUSED" : "ABORTED", message);
      throw cause;
    }
    const remembered = (): void => {
      if (!met.joined) this.#open(met.peer);
    };
    met.onremembered = remembered;
    if (met.peer !== undefined) remembered();
    if (met.joined) await this.#stayWith(met, done);
    else await this.#waitFor(met, done);
  }

  /**
   * Serves one after the other, for as long as somebody may come; each has a session of its own. When nobody can come any more, those
   * who are there are served to their end: a stranger that tries a wrong code must not end their sessions.
   */
  async many(): Promise<never> {
    try {
      for (let guesses = 0; ;) {
        try {
          const met = await this.#meet();
          this.#note(met, this.#take(met).done);
        } catch (cause) {
          const error = asDcpipeError(cause, "IO");
          if (error.code === "CODE_WRONG") guesses++;
          const asked = error.code === "TIMEOUT" && (this.#command.options.timeout ?? 0) > 0;
          const missed = MISSED.includes(error.code) && guesses <= MAX_GUESSES && !asked;
          if (this.#isInterrupted() || !missed) throw error;
          this.#around.ui.note(`somebody did not come in: ${error.message}`);
          await delay(AGAIN_MS);
        }
      }
    } catch (cause) {
      if (!this.#isInterrupted() && this.#sessions.size > 0) {
        this.#around.ui.note(`nobody else can join: ${asDcpipeError(cause, "IO").message}`);
        await Promise.allSettled([...this.#sessions].map(({ closed }) => closed));
      }
      throw cause;
    }
  }

  close(): void {
    this.#doors?.close();
  }

  #isInterrupted(): boolean {
    return this.#around.signal.aborted;
  }

  // ---- meeting ------------------------------------------------------------------------------------------------------

  async #meet(): Promise<Met> {
    const { ui, signal } = this.#around;
    const met = await meet(this.#command, ui, signal);
    await this.#prepare(met);
    return met;
  }

  async #prepare(met: Met): Promise<void> {
    const { ui, signal, hold } = this.#around;
    hold(met.session);
    if (this.#command.options.verify) await verify(this.#command, met, ui, signal);
    await remember(this.#command, met, ui);
  }

  #take({ session, role, peer }: Met): { readonly ready: Promise<void>; readonly done: Promise<void> } {
    this.#onsession(session);
    this.#sessions.add(session);
    const { ready, done } = this.#forwarding.add(session, role, peer);
    const over = leftInOrder(done).finally(() => this.#sessions.delete(session));
    over.catch(() => undefined);
    const down = [...this.#sessions].filter(({ state }) => state === "down");
    if (down.length > MAX_DOWN) void down[0]?.abort("CLOSED", "too many sessions wait for their other side");
    return { ready, done: over };
  }

  /** What becomes of a session that others do not depend on. */
  #note({ peer = "one of the others" }: Met, done: Promise<void>): void {
    const { ui, signal } = this.#around;
    done.then(
      () => {
        if (!signal.aborted) ui.note(`${peer} has left`);
      },
      (cause: unknown) => {
        ui.note(`the session with ${peer} ended: ${asDcpipeError(cause, "IO").message}`);
      },
    );
  }

  // ---- the side that waited -----------------------------------------------------------------------------------------

  /** Until a stranger has left; for a remembered peer, which may come back, until the command is interrupted. */
  async #waitFor(met: Met, done: Promise<void>): Promise<void> {
    try {
      await done;
    } catch (cause) {
      if (met.peer === undefined) throw cause;
    }
    if (met.peer === undefined || this.#around.signal.aborted) return;
    this.#note(met, done);
    await new Promise((resolve) => {
      this.#around.signal.addEventListener("abort", resolve);
    });
  }

  /** From now on that peer may come in by itself: with another process, or after a restart. */
  #open(peer: string | undefined): void {
    if (this.#doors || peer === undefined || this.#around.signal.aborted) return;
    const { ui, signal } = this.#around;
    const { options } = this.#command;
    this.#doors = waitForRemembered({
      rendezvous: findRendezvous(options),
      network: networkOf(this.#command, ui, signal),
      command: this.#command,
      ui,
      only: peer,
      many: true,
      onmet: (met) => {
        void this.#prepare(met).then(
          () => {
            this.#note(met, this.#take(met).done);
          },
          (cause: unknown) => {
            ui.note(`${peer} came, and: ${asDcpipeError(cause, "IO").message}`);
          },
        );
      },
    });
  }

  // ---- the side that joined -----------------------------------------------------------------------------------------

  /** With a stranger, until the session ends. A remembered peer is met again whenever it leaves, or stays away. */
  async #stayWith(first: Met, firstDone: Promise<void>): Promise<void> {
    const { ui, signal } = this.#around;
    let [current, done] = [first.session, firstDone];
    for (;;) {
      const failure = await this.#away(current, done, () => first.peer !== undefined);
      const { peer } = first;
      if (peer === undefined || this.#isInterrupted()) return done;
      if (failure && FATAL.includes(failure.code)) throw failure;
      if (current.state === "closed") ui.note(`${peer} has left; waiting until it is back`);
      const back = new AbortController();
      const watch = setInterval(() => {
        if (current.state === "running") back.abort();
      }, LOOK_MS);
      try {
        const met = await joinAgain(peer, this.#command, ui, AbortSignal.any([signal, back.signal]));
        await this.#prepare(met);
        void current.abort("CLOSED", "a new session has taken its place");
        [current, done] = [met.session, this.#take(met).done];
      } catch (cause) {
        const error = asDcpipeError(cause, "SIGNALLING");
        if (this.#isInterrupted()) return;
        if (FATAL.includes(error.code)) throw error;
        if (!back.signal.aborted) {
          ui.note(`${peer} was not met: ${error.message}; trying again`);
          await delay(AGAIN_MS);
        }
      } finally {
        clearInterval(watch);
      }
    }
  }

  /** Resolves when the session has ended, with its error if it had one; or has been down for a while, if that matters. */
  #away(session: Session, done: Promise<void>, matters: () => boolean): Promise<DcpipeError | undefined> {
    return new Promise((resolve) => {
      let since = Infinity;
      const watch = setInterval(() => {
        if (session.state !== "down") since = Infinity;
        else since = Math.min(since, performance.now());
        if (performance.now() - since > DOWN_MS && matters()) end(undefined);
      }, LOOK_MS);
      const end = (error: DcpipeError | undefined): void => {
        clearInterval(watch);
        resolve(error);
      };
      done.then(
        () => {
          end(undefined);
        },
        (cause: unknown) => {
          end(asDcpipeError(cause, "IO"));
        },
      );
    });
  }
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
