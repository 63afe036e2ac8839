/**
 * The service worker of an inner origin: each request of the site goes to the outer page, which has the session. Browsers stop and start
 * it as they like; all that it knows is a port, and that it asks the bridge for.
 */
import type {
  ClientMessage,
  FailedMessage,
  HeadMessage,
  OuterMessage,
  PageData,
  RequestMessage,
  WantedMessage,
} from "../messages.ts";
import { OWN_PATHS, REQUEST_ID } from "../messages.ts";
import { noConnection, page } from "./answers.ts";
import { bodyFor } from "./body.ts";
import { openDocument, prescan } from "./html.ts";
import { amendPolicy, framePolicy } from "./policy.ts";
import type { Client, FetchEvent, WorkerScope } from "./scope.ts";

/** page/main.ts, built: bundle.js puts it here. */
declare const PAGE_SCRIPT: string;
const scope = globalThis as unknown as WorkerScope;

/** A bridge that is asked for a port answers within this, or there is none that could. Milliseconds. */
const BRIDGE_MS = 10_000;
/** A status that comes without a body (Fetch, section 2.2.3). */
const NULL_BODY = [204, 205, 304];
/** Of Response. */
const MAX_STATUS = 599;

interface Link {
  readonly port: MessagePort;
  /** The bridge's client: when that is gone, so is the outer page. */
  readonly bridge: string;
  /** Origins that stand for the TARGET. */
  readonly origins: readonly string[];
  over: boolean;
}

let link: Link | undefined;
/** How requests end that have no answer yet, by their client and number. */
const pending = new Map<string, () => void>();
let unnumbered = 0;
let wanted: { promise: Promise<void>; resolve: () => void } | undefined;

scope.addEventListener("install", (event) => {
  event.waitUntil(scope.skipWaiting());
});
scope.addEventListener("activate", (event) => {
  event.waitUntil(scope.clients.claim());
});

scope.addEventListener<ClientMessage>("message", (event) => {
  const { data, source } = event;
  const [port] = event.ports;
  if (data.type === "port" && port && source && isBridge(source)) take(port, source.id);
  else if (data.type === "stop" && source) pending.get(`${source.id} ${data.id}`)?.();
  else if (data.type === "awake") event.waitUntil(stopForsaken());
  else if ((data.type === "socket" || data.type === "cookies") && port)
    event.waitUntil(
      find().then((found) => {
        if (found) found.port.postMessage(data, [port]);
        else port.postMessage({ type: "close", code: 1006, reason: "", wasClean: false });
      }),
    );
});

/** Chromium's worker is not told of a client that closes either, before there is an answer. */
async function stopForsaken(): Promise<void> {
  for (const [key, stop] of pending) {
    const [client = ""] = key.split(" ");
    if (client !== "" && (await scope.clients.get(client)) === undefined) stop();
  }
}

function isBridge({ url }: Client): boolean {
  return new URL(url).pathname === `${OWN_PATHS}bridge`;
}

/** The port counts once the outer page has said hello on it. */
function take(port: MessagePort, bridge: string): void {
  port.onmessage = ({ data }: MessageEvent<OuterMessage>) => {
    if (data.type === "hello") {
      link?.port.close();
      link = { port, bridge, origins: data.origins, over: false };
      wanted?.resolve();
    } else if (link?.port === port) {
      link.over = true;
      wanted?.resolve();
    }
  };
}

/** The way to the outer page; undefined when there is none. */
async function find(): Promise<Link | undefined> {
  if (link && (await scope.clients.get(link.bridge)) === undefined) link = undefined;
  if (link) return link.over ? undefined : link;
  const bridges = await bridgesThere();
  if (bridges.length === 0) return undefined;
  if (!wanted) {
    let resolve!: () => void;
    const promise = new Promise<void>((done) => (resolve = done));
    wanted = { promise, resolve };
    const late = setTimeout(resolve, BRIDGE_MS);
    void promise.then(() => {
      clearTimeout(late);
      wanted = undefined;
    });
  }
  for (const bridge of bridges) bridge.postMessage({ type: "wanted" } satisfies WantedMessage);
  await wanted.promise;
  // It has come meanwhile.
  const found = link as Link | undefined;
  return found?.over === false ? found : undefined;
}

async function bridgesThere(): Promise<Client[]> {
  const all = await scope.clients.matchAll({ includeUncontrolled: true, type: "window" });
  return all.filter(isBridge);
}

scope.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  const own = url.origin === scope.location.origin;
  // What is ours comes from the rendezvous, and other origins' is not ours to answer.
  if (own ? url.pathname.startsWith(OWN_PATHS) : link && !link.origins.includes(url.origin)) return;
  event.respondWith(own ? answer(event, url) : answerOther(event, url));
});

/** Whether another origin is the TARGET is not known before there is a port. */
async function answerOther(event: FetchEvent, url: URL): Promise<Response> {
  const found = await find();
  return found?.origins.includes(url.origin) ? answer(event, url) : fetch(event.request);
}

async function answer({ request, clientId }: FetchEvent, url: URL): Promise<Response> {
  const navigates = request.mode === "navigate";
  const found = await find();
  if (!found) return navigates ? noConnection() : Response.error();
  const said = await ask(found, request, url, clientId);
  if (said.type === "failed") {
    if (!navigates) return Response.error();
    return page(502, "The site does not answer", `${said.message} (${said.code})`);
  }
  try {
    return await responseTo(found, request, said);
  } catch (cause) {
    void said.body?.cancel().catch(() => undefined);
    if (!navigates) return Response.error();
    return page(502, "The site's answer cannot be shown", (cause as Error).message);
  }
}

async function ask(
  { port }: Link,
  request: Request,
  url: URL,
  client: string,
): Promise<HeadMessage | FailedMessage> {
  const { body, length } = await bodyFor(request);
  const fields = [...request.headers].filter(([name]) => name !== REQUEST_ID);
  // Others never have a minus.
  const key = `${client} ${request.headers.get(REQUEST_ID) ?? String(--unnumbered)}`;
  // What the browser does by itself for its own cache.
  if (request.cache === "no-store" || request.cache === "reload") fields.push(["cache-control", "no-cache"]);
  else if (request.cache === "no-cache" && !request.headers.has("cache-control"))
    fields.push(["cache-control", "max-age=0"]);
  const message: RequestMessage = {
    type: "request",
    method: request.method,
    path: url.pathname + url.search,
    fields,
    length,
    body,
    referrer: request.referrer,
    mode: request.mode,
    destination: request.destination,
    credentials: request.credentials,
  };
  const { port1, port2 } = new MessageChannel();
  const abort = (): void => {
    port1.postMessage({ type: "abort" });
  };
  pending.set(key, abort);
  return new Promise((resolve) => {
    port1.onmessage = ({ data }: MessageEvent<HeadMessage | FailedMessage>) => {
      pending.delete(key);
      resolve(data);
    };
    if (request.signal.aborted) abort();
    else request.signal.addEventListener("abort", abort);
    port.postMessage(message, body instanceof ReadableStream ? [port2, body] : [port2]);
  });
}

async function responseTo(
  { origins }: Link,
  request: Request,
  { status, reason, fields, body, cookies }: HeadMessage,
): Promise<Response> {
  if (status > MAX_STATUS) throw new RangeError(`a status that no browser knows: ${status}`);
  const headers = new Headers();
  const policies = ["content-security-policy", "content-security-policy-report-only"];
  for (const [name, value] of fields) if (!policies.includes(name)) headers.append(name, value);
  const init = { status, statusText: reason, headers };
  const isDocument = request.mode === "navigate";
  let content = body;
  let hash: string | undefined;
  if (isDocument && body && isHtml(headers) && !NULL_BODY.includes(status)) {
    const charset = charsetOf(headers.get("content-type") ?? "");
    const document = await openDocument(body, charset);
    const found = charset ?? prescan(document.start);
    if (charset === undefined && found !== undefined)
      headers.set("content-type", `text/html; charset=${found}`);
    const script = scriptFor({ origins, cookies });
    hash = await hashOf(script);
    headers.delete("content-length");
    content = document.with(`<script>${script}</script>`);
  }
  for (const [name, value] of fields) {
    if (!policies.includes(name)) continue;
    const amended = amendPolicy(value, hash);
    if (amended !== "") headers.append(name, amended);
  }
  if (isDocument) headers.append("content-security-policy", framePolicy(outerOrigin()));
  return new Response(NULL_BODY.includes(status) ? null : content, init);
}

function isHtml(headers: Headers): boolean {
  const [type = ""] = (headers.get("content-type") ?? "").split(";", 1);
  const disposition = headers.get("content-disposition") ?? "";
  return type.trim().toLowerCase() === "text/html" && !/^\s*attachment/i.test(disposition);
}

function charsetOf(type: string): string | undefined {
  return /;\s*charset\s*=\s*"?([^\s";]+)/i.exec(type)?.[1];
}

/** Of a script in HTML: what would end it there does not stand in it. */
function scriptFor(data: PageData): string {
  const json = JSON.stringify(data).replace(
    /[<>\u2028\u2029]/g,
    (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  // In UTF-16 and in any other encoding: ASCII alone.
  const ascii = json.replace(
    /[\x7f-\uffff]/g,
    (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return `(function(){var DCPIPE_PAGE=${ascii};${PAGE_SCRIPT}})();document.currentScript.remove()`;
}

async function hashOf(script: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(script));
  return `sha256-${btoa(String.fromCharCode(...new Uint8Array(digest)))}`;
}

/** By the names that server/site.ts gives: `site.LABEL.HOST` and `LABEL.HOST`, or `LABEL-site.HOST` and `LABEL.HOST`. */
function outerOrigin(): string {
  const { protocol, host } = scope.location;
  return `${protocol}//${host.replace(/^site\./, "").replace(/^([\da-f]+)-site\./, "$1.")}`;
}
