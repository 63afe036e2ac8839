/**
 * Runs first in every HTML document of a site. What a browser would do by itself at the TARGET, and cannot at this origin, is replaced:
 * WebSockets, document.cookie, service workers, and the TARGET's own origin in links. Nothing here protects anything: the document's
 * scripts are the site's, and whatever they may not have is not in this origin at all.
 */
import type { CookiesMessage, PageData, SocketMessage, StopMessage } from "../messages.ts";
import { shimCookies } from "./cookies.ts";
import { numberRequests } from "./requests.ts";
import { mapLinks } from "./links.ts";
import { createSocketClass } from "./socket.ts";

declare const DCPIPE_PAGE: PageData;

/** The browser's own, which the site's scripts do not see any more. */
const container = navigator.serviceWorker;
const worker = (): ServiceWorker | null => CONTROLLER.call(container);
const CONTROLLER = own(ServiceWorkerContainer.prototype, "controller");

function own(prototype: object, name: string): (this: ServiceWorkerContainer) => ServiceWorker | null {
  // eslint-disable-next-line @typescript-eslint/unbound-method -- it is called with its object.
  return Object.getOwnPropertyDescriptor(prototype, name)?.get as never;
}

/** Opens a port to the outer page; undefined when there is no worker. */
function connect(message: SocketMessage | CookiesMessage): MessagePort | undefined {
  const to = worker();
  if (!to) return undefined;
  const { port1, port2 } = new MessageChannel();
  to.postMessage(message, [port2]);
  return port1;
}

/** The path that a URL of the TARGET's, or of this origin, has there; undefined for other places. */
function pathOf(url: URL): string | undefined {
  const origin = url.origin.replace(/^ws/, "http");
  const ours = origin === location.origin || DCPIPE_PAGE.origins.includes(origin);
  return ours ? url.href.slice(url.href.indexOf("/", url.protocol.length + 2)) : undefined;
}

function hideWorkers(): void {
  const refuse = (): Promise<never> =>
    Promise.reject(
      new DOMException(
        "a site that is shown by dcpipe has no service worker of its own",
        "NotSupportedError",
      ),
    );
  const define = (name: string, descriptor: PropertyDescriptor): void => {
    Object.defineProperty(ServiceWorkerContainer.prototype, name, { configurable: true, ...descriptor });
  };
  define("register", { value: refuse, writable: true });
  // Many a site clears away what it once registered: ours is not its to end.
  define("getRegistration", { value: () => Promise.resolve(undefined), writable: true });
  define("getRegistrations", { value: () => Promise.resolve([]), writable: true });
  define("controller", { get: () => null });
  define("ready", { get: () => new Promise(() => undefined) });
}

globalThis.WebSocket = createSocketClass(globalThis.WebSocket, connect, pathOf);
shimCookies(DCPIPE_PAGE.cookies, connect);
mapLinks((url) => {
  const path = DCPIPE_PAGE.origins.includes(url.origin) ? pathOf(url) : undefined;
  return path === undefined ? undefined : location.origin + path;
});
numberRequests(pathOf, (id) => {
  worker()?.postMessage({ type: "stop", id } satisfies StopMessage);
});
hideWorkers();
