/**
 * A hidden frame of the inner origin in the outer page. It registers the service worker, and joins it to the outer page by a channel,
 * anew whenever the worker has been stopped.
 */
import type { AwakeMessage, PortMessage, WantedMessage } from "./messages.ts";

/** Browsers stop a worker that was not spoken to for 30 s. */
const AWAKE_MS = 10_000;
const outer = document.documentElement.dataset["outer"] ?? "";

function join(worker: ServiceWorker): void {
  const { port1, port2 } = new MessageChannel();
  const message: PortMessage = { type: "port" };
  worker.postMessage(message, [port1]);
  parent.postMessage(message, outer, [port2]);
}

async function run(): Promise<void> {
  const registration = await navigator.serviceWorker.register("/.dcpipe/worker.js", {
    scope: "/",
    updateViaCache: "none",
  });
  const worker = await activated(registration);
  navigator.serviceWorker.onmessage = ({ data, source }: MessageEvent<WantedMessage>) => {
    if ((data as Partial<WantedMessage> | null)?.type === "wanted" && source instanceof ServiceWorker)
      join(source);
  };
  setInterval(() => {
    (registration.active ?? worker).postMessage({ type: "awake" } satisfies AwakeMessage);
  }, AWAKE_MS);
  join(worker);
}

function activated(registration: ServiceWorkerRegistration): Promise<ServiceWorker> {
  return new Promise((resolve) => {
    const worker = registration.installing ?? registration.waiting ?? registration.active;
    const look = (): void => {
      if (worker?.state === "activated") resolve(worker);
    };
    worker?.addEventListener("statechange", look);
    look();
  });
}

// A script of the site may open this page by itself; it is of use in the outer page alone.
if (parent !== window) void run();
