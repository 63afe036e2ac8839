/** How a stream ends whose own end here has broken. */
import type { Stream } from "../session/stream.ts";
import type { Reason } from "../wire/frame.ts";

/** What came before a reset has so long to be read at the other side, or nobody there reads: as systems do for ends nobody holds. Milliseconds. */
const LAST_WORDS_MS = 60_000;

/** Lets the other side have what came before the break, and ends the stream at the latest after LAST_WORDS_MS. */
export function breakOff(stream: Stream, reason: Reason, text: string): void {
  stream.breakOff(reason, text);
  const timer = setTimeout(() => {
    stream.reset(reason, text);
  }, LAST_WORDS_MS);
  const stop = (): void => {
    clearTimeout(timer);
  };
  stream.closed.then(stop, stop);
}
