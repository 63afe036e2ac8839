/**
 * What the parts of a site in a browser say to each other. Three origins take part, and a port is all that joins them:
 *
 *   outer origin   outer/main.ts    has the session; trusts nothing that comes by a port
 *        |  port
 *   inner origin   bridge.ts        a hidden frame in the outer page: registers the worker, and hands it ports of the outer page
 *                  worker/main.ts   the service worker: every request of the site, as a RequestMessage with a port of its own
 *                  page/main.ts     in every HTML document of the site: its WebSockets and cookies, by ports that the worker passes on
 *
 * Scripts of the site are of the inner origin, too: they can say all of this, and get nothing by it that fetch would not give them.
 */
import type { HttpField } from "../wire/http.ts";
import type { Cookie } from "./cookies.ts";

/** Paths below it are ours on both origins; a site's own are out of reach there. */
export const OWN_PATHS = "/.dcpipe/";

/** From the bridge to the outer page and to the worker, each with one end of the same channel. */
export interface PortMessage {
  readonly type: "port";
}

/** From the worker to the bridge: it has no port, since it was stopped and started again. */
export interface WantedMessage {
  readonly type: "wanted";
}

/** From the bridge to the worker, again and again: browsers stop workers that hear nothing. */
export interface AwakeMessage {
  readonly type: "awake";
}

/** From the outer page, first on each port: a site stands, at these origins as its own pages may write them. */
export interface HelloMessage {
  readonly type: "hello";
  readonly origins: readonly string[];
}

/** From the outer page: there will be no answers any more. */
export interface GoneMessage {
  readonly type: "gone";
  readonly text: string;
}

/** From the worker to the outer page, with a port for the answer. */
export interface RequestMessage {
  readonly type: "request";
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly fields: readonly HttpField[];
  /** Bytes of the body, when they are known. */
  readonly length: number | undefined;
  readonly body: ReadableStream<Uint8Array> | Blob | undefined;
  /** The inner URL it comes from, "" when that is not told. */
  readonly referrer: string;
  /** As Request has them. */
  readonly mode: string;
  readonly destination: string;
  readonly credentials: string;
}

export interface HeadMessage {
  readonly type: "head";
  readonly status: number;
  readonly reason: string;
  readonly fields: readonly HttpField[];
  /** Not encoded any more. */
  readonly body: ReadableStream<Uint8Array> | null;
  /** For document.cookie, when a document comes. */
  readonly cookies: readonly Cookie[];
}

export interface FailedMessage {
  readonly type: "failed";
  readonly code: string;
  readonly message: string;
}

/** From a document: it does not wait for the request with that number any more. Chromium's workers are not told. */
export interface StopMessage {
  readonly type: "stop";
  readonly id: string;
}

/** In requests of documents that may say so: its number. It does not leave the worker. */
export const REQUEST_ID = "dcpipe-request";

/** From the worker on the port of a request: nobody wants its answer. */
export interface AbortMessage {
  readonly type: "abort";
}

/** From a document by the worker to the outer page, with a port: a WebSocket. */
export interface SocketMessage {
  readonly type: "socket";
  readonly path: string;
  readonly protocols: readonly string[];
}

export type SocketOrder =
  | { readonly type: "send"; readonly data: string | ArrayBuffer | Blob }
  | { readonly type: "close"; readonly code: number | undefined; readonly reason: string };

export type SocketNews =
  | { readonly type: "open"; readonly protocol: string }
  | { readonly type: "message"; readonly data: string | ArrayBuffer }
  /** Of all that was given to `send`, so many bytes have not left yet. */
  | { readonly type: "buffered"; readonly bytes: number; readonly given: number }
  | { readonly type: "error"; readonly text: string }
  | { readonly type: "close"; readonly code: number; readonly reason: string; readonly wasClean: boolean };

/** From a document by the worker to the outer page, with a port: cookies that scripts may see. */
export interface CookiesMessage {
  readonly type: "cookies";
}

export type CookieOrder =
  { readonly type: "set"; readonly text: string; readonly path: string } | { readonly type: "close" };

export interface CookieNews {
  readonly type: "cookies";
  readonly cookies: readonly Cookie[];
}

/** What the outer page takes on the port of a worker. */
export type WorkerMessage = RequestMessage | SocketMessage | CookiesMessage;
/** What a worker takes on the port of the outer page. */
export type OuterMessage = HelloMessage | GoneMessage;
/** What a worker takes from clients of its origin. */
export type ClientMessage = PortMessage | AwakeMessage | StopMessage | SocketMessage | CookiesMessage;

/** Written into every document before page/main.ts runs. */
export interface PageData {
  readonly origins: readonly string[];
  readonly cookies: readonly Cookie[];
}
