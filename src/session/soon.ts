/**
 * When a session sends: after what came in at the same moment has been seen. In Node that is the end of the event loop's turn, so that
 * what a hundred sockets have brought in goes into a few packets; elsewhere, a microtask later.
 */
type Immediate = (run: () => void) => unknown;

export function soon(run: () => void): void {
  const { setImmediate } = globalThis as { setImmediate?: Immediate };
  if (setImmediate) setImmediate(run);
  else queueMicrotask(run);
}
