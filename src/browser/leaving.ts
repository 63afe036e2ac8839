/** A page that is closed, reloaded or left says good-bye: else the other side waits for it to come back, which it never does. */

/**
 * Without it, Firefox in the middle of a transfer sends nothing any more; with it, nearly always: on a machine that has many times more to do
 * than it can, it may still be too short. Milliseconds; for a tab that closes nobody notices so many.
 */
const LINGER_MS = 250;

/** What is in the way of leaving quietly. */
interface Meeting {
  readonly session: Promise<{
    readonly closed: Promise<void>;
    abort(reason: "INTERRUPTED", text: string): Promise<void>;
  }>;
  close(): void;
}

export function endWithPage(meeting: Meeting): void {
  // A worker has no page that could go.
  if (typeof document === "undefined") return;
  const over = new AbortController();
  let leave = (): void => {
    meeting.close();
  };
  addEventListener(
    "pagehide",
    ({ persisted }) => {
      // One that is kept may come back.
      if (persisted) return;
      leave();
      linger();
    },
    { signal: over.signal },
  );
  meeting.session
    .then(async (session) => {
      leave = () => void session.abort("INTERRUPTED", "");
      await session.closed;
    })
    .catch(() => undefined)
    .finally(() => {
      over.abort();
    });
}

/** The browser sends beside the page, and drops what it has not sent when the page is gone. So the page stays a moment. */
function linger(): void {
  const end = performance.now() + LINGER_MS;
  while (performance.now() < end);
}
