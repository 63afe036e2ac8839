/** Phones turn their screen off, and stop pages then: not while something is under way, where the browser lets us ask for that. */

/** Until the function that it returns is called. Never rejects: it is a courtesy. */
export function stayAwake(): () => void {
  // Typed as always there; it is not in a page that is not secure.
  const locks = navigator.wakeLock as WakeLock | undefined;
  let held: WakeLockSentinel | undefined;
  let wanted = true;
  const ask = (): void => {
    if (!wanted || document.hidden) return;
    locks?.request("screen").then(
      (lock) => {
        if (wanted) held = lock;
        else void lock.release();
      },
      () => undefined,
    );
  };
  // It is taken away from a page that is hidden.
  document.addEventListener("visibilitychange", ask);
  ask();
  return () => {
    wanted = false;
    document.removeEventListener("visibilitychange", ask);
    void held?.release();
  };
}
