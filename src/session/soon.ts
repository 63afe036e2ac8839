/**
 * When a session sends: after what came in at the same moment has been seen. In Node that is the end of the event loop's turn, so that
 * what a hundred sockets have brought in goes into a few packets. In browsers it is the next task: a message to oneself is one, and unlike
 * a timer it is not slowed down in hidden pages.
 */
type Immediate = (run: () => void) => unknown;

const { setImmediate } = globalThis as { setImmediate?: Immediate };

export const soon: (run: () => void) => void = setImmediate ? (run) => void setImmediate(run) : nextTask();

function nextTask(): (run: () => void) => void {
  const due: (() => void)[] = [];
  const { port1, port2 } = new MessageChannel();
  port1.addEventListener("message", () => due.shift()?.());
  port1.start();
  return (run) => {
    due.push(run);
    port2.postMessage(null);
  };
}
