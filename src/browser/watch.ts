/** Sees that the network may be another one. A page is not told its addresses, but when it may have lost or changed them. */
import type { WatchNetwork } from "../transport/watch.ts";

export const watchNetwork: WatchNetwork = (onchange) => {
  const stop = new AbortController();
  const { signal } = stop;
  const changed = (): void => {
    onchange(undefined);
  };
  // A worker has no document.
  const page = typeof document === "undefined" ? undefined : document;
  addEventListener("online", changed, { signal });
  // Timers of a hidden page are slow, and those of a frozen one, or of a machine that sleeps, stand still.
  page?.addEventListener(
    "visibilitychange",
    () => {
      if (page.visibilityState === "visible") changed();
    },
    { signal },
  );
  page?.addEventListener("resume", changed, { signal });
  // From cable to Wi-Fi, in browsers that tell (Chromium).
  (navigator as { connection?: EventTarget }).connection?.addEventListener("change", changed, { signal });
  return () => {
    stop.abort();
  };
};
