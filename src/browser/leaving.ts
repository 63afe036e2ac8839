/** A page that is closed, reloaded or left says good-bye: else the other side waits for it to come back, which it never does. */

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
  const { signal } = over;
  const onleave = (leave: () => void): void => {
    addEventListener(
      "pagehide",
      ({ persisted }) => {
        // One that is kept may come back.
        if (!persisted) leave();
      },
      { signal },
    );
  };
  onleave(() => {
    meeting.close();
  });
  meeting.session
    .then(async (session) => {
      onleave(() => void session.abort("INTERRUPTED", ""));
      await session.closed;
    })
    .catch(() => undefined)
    .finally(() => {
      over.abort();
    });
}
