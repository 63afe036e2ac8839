/** Waiting for a router: never for longer than somebody wants the answer, and seldom for longer than the process lives. */
import { setMaxListeners } from "node:events";

/** How long an answer is of use. */
export interface Wait {
  /** Ends it; what is under way then rejects. */
  readonly signal: AbortSignal;
  /** Whether the process stays alive for it. */
  readonly holds: boolean;
}

/** For what nobody stops. */
export const UNSTOPPED: AbortSignal = new AbortController().signal;
setMaxListeners(0, UNSTOPPED);

/** Runs `work` with a wait that ends after `ms`, when `outer` does, and when `work` has settled. */
export async function within<T>(
  ms: number,
  { signal, holds }: Wait,
  work: (wait: Wait) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  // More than ten sockets may be in use at a time, which Node takes for a leak.
  setMaxListeners(0, stop.signal);
  const end = (): void => {
    stop.abort();
  };
  const timer = setTimeout(end, ms);
  if (!holds) timer.unref();
  signal.addEventListener("abort", end, { once: true });
  if (signal.aborted) end();
  try {
    return await work({ signal: stop.signal, holds });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
    end();
  }
}
