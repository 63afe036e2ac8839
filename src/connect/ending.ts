/** How an introduction ends. */
import { DcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";

/** The one end that an introduction comes to: a session, an error, the caller's signal, or the end of time. */
export class Ending {
  readonly session: Promise<Session>;
  /** The short authentication string that goes with the session. */
  readonly verifier: Promise<string>;
  #over = false;
  #settle!: (end: () => void) => void;
  #resolveSession!: (session: Session) => void;
  #rejectSession!: (error: DcpipeError) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #verifier = "";

  /** `late` says what a passed time limit (0 or Infinity for none) is told as. */
  constructor(
    signal: AbortSignal | undefined,
    timeoutMs: number,
    late = () => `the other side did not connect within ${timeoutMs / 1000} s`,
  ) {
    this.session = new Promise((resolve, reject) => {
      this.#resolveSession = resolve;
      this.#rejectSession = reject;
    });
    this.verifier = this.session.then(() => this.#verifier);
    this.verifier.catch(() => undefined);
    const abort = (): void => {
      this.reject(new DcpipeError("ABORTED", "stopped", { cause: signal?.reason }));
    };
    this.#settle = (end) => {
      if (this.#over) return;
      this.#over = true;
      clearTimeout(this.#timer);
      signal?.removeEventListener("abort", abort);
      end();
    };
    if (timeoutMs > 0 && timeoutMs !== Infinity) {
      this.#timer = setTimeout(() => {
        this.reject(new DcpipeError("TIMEOUT", late()));
      }, timeoutMs);
    }
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort);
  }

  readonly resolve = (session: Session, verifier: string): void => {
    this.#settle(() => {
      this.#verifier = verifier;
      this.#resolveSession(session);
    });
  };

  readonly reject = (error: DcpipeError): void => {
    this.#settle(() => {
      this.#rejectSession(error);
    });
  };

  isOver(): boolean {
    return this.#over;
  }

  /** The other side is known: the connection has its own limit. */
  hurry(): void {
    clearTimeout(this.#timer);
  }
}
