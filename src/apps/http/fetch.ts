/**
 * fetch over a session: the standard's interface and errors (fetch.spec.whatwg.org), to what the other side offers.
 *
 *   URL, fields, body -> exchange -> a redirect within the TARGET: again
 *                               \--> decoded, a Response
 *
 * `mode`, `cache`, `referrer`, `priority` and `keepalive` say nothing here; `integrity` is refused, as nobody would check it.
 */
import { asDcpipeError, DcpipeError } from "../../errors.ts";
import type { Target } from "../../wire/header.ts";
import { isMethod } from "../../wire/http.ts";
import { bodyOf, bodyOfRequest, type Body } from "./body.ts";
import { ACCEPT_ENCODING, decoded, decodersFor } from "./coding.ts";
import { exchange, type ExchangeResponse, type Opener } from "./exchange.ts";
import { fieldOf } from "./fields.ts";
import { locate, placeOf, type Place } from "./place.ts";

/** Keeps cookies between requests. A Response has no Set-Cookie in browsers, so it is shown here. */
export interface CookieJar {
  /** What Cookie says in a request for this URL; undefined for nothing. */
  cookie(url: URL): string | undefined;
  /** Values of Set-Cookie in a response from this URL, also of one that redirects. */
  store(url: URL, values: readonly string[]): void;
}

export interface HttpOptions {
  /** What relative URLs are for: `3000`, `host:3000`, `unix:/path`, or what was offered. A URL with another host and port names a TARGET. */
  readonly target?: string | Target | undefined;
  readonly cookies?: CookieJar | undefined;
  /** Sent with every request, and to open a WebSocket, unless the request has a field of that name: User-Agent, Authorization. */
  readonly headers?: RequestInit["headers"];
}

export type FetchInit = RequestInit & { readonly duplex?: "half" | undefined };

/**
 * Rejects with a TypeError whose `cause` is the DcpipeError, or with the reason of the signal; so does reading the body. With
 * `redirect: "manual"` the Response is the redirect itself, as in Node.
 */
export type Fetch = (input: string | URL | Request, init?: FetchInit) => Promise<Response>;

/** As in browsers (Fetch, section 4.4). */
const MAX_REDIRECTS = 20;
const REDIRECTS = [301, 302, 303, 307, 308];
/** What the standard writes in capitals whatever the caller does. */
const COMMON_METHODS = ["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"];
/** What is said of a body that a redirect leaves behind. */
const BODY_FIELDS = ["content-encoding", "content-language", "content-location", "content-type"];

/** A request on its way through redirects. */
interface Step {
  readonly url: URL;
  readonly target: Target;
  readonly method: string;
  readonly headers: Headers;
  readonly body: Body | undefined;
}

/** Throws USAGE for a target that is none. */
export function createFetch(session: Opener, options: HttpOptions = {}): Fetch {
  const home = options.target === undefined ? undefined : placeOf(options.target);
  return async (input, init = {}) => {
    const given = input instanceof Request ? input : undefined;
    const signal = init.signal === undefined ? given?.signal : init.signal;
    signal?.throwIfAborted();
    try {
      const step = await firstStep(input, init, home, options);
      const redirect = init.redirect ?? given?.redirect ?? "follow";
      const credentials = init.credentials ?? given?.credentials;
      const cookies = credentials === "omit" ? undefined : options.cookies;
      return await follow(session, step, { redirect, cookies, signal });
    } catch (cause) {
      if (signal?.aborted) throw signal.reason;
      throw networkError(cause);
    }
  };
}

async function firstStep(
  input: string | URL | Request,
  init: FetchInit,
  home: Place | undefined,
  options: HttpOptions,
): Promise<Step> {
  const given = input instanceof Request ? input : undefined;
  const { url, target } = locate(given ? given.url : (input as string | URL), home);
  const method = methodOf(init.method ?? given?.method ?? "GET");
  if ((init.integrity ?? "") !== "") throw new DcpipeError("USAGE", "integrity is not checked here");
  const headers = new Headers(init.headers ?? given?.headers);
  for (const [name, value] of new Headers(options.headers)) if (!headers.has(name)) headers.set(name, value);
  let body: Body | undefined;
  if (init.body !== undefined && init.body !== null) {
    if (method === "GET" || method === "HEAD") throw new DcpipeError("USAGE", `${method} with a body`);
    body = bodyOf(init.body, init.duplex);
  } else if (given && init.body === undefined) body = await bodyOfRequest(given);
  return { url, target, method, headers, body };
}

function methodOf(text: string): string {
  const upper = text.toUpperCase();
  const method = COMMON_METHODS.includes(upper) ? upper : text;
  if (!isMethod(method)) throw new DcpipeError("USAGE", "a method that may not be");
  return method;
}

async function follow(
  session: Opener,
  first: Step,
  {
    redirect,
    cookies,
    signal,
  }: {
    readonly redirect: string;
    readonly cookies: CookieJar | undefined;
    readonly signal: AbortSignal | null | undefined;
  },
): Promise<Response> {
  let step = first;
  for (let count = 0; ; count++) {
    const response = await send(session, step, cookies, signal);
    const location = fieldOf(response.fields, "location");
    if (!REDIRECTS.includes(response.status) || redirect === "manual" || location === undefined)
      return toResponse(response, step.url, count > 0);
    // Nobody reads it; that it ends badly is no news.
    response.body?.cancel().catch(() => undefined);
    if (redirect === "error") throw new DcpipeError("REFUSED", "a redirect, and redirect is error");
    if (count >= MAX_REDIRECTS) throw new DcpipeError("LIMIT", `more than ${MAX_REDIRECTS} redirects`);
    step = redirected(step, response.status, location);
  }
}

async function send(
  session: Opener,
  { url, target, method, headers, body }: Step,
  cookies: CookieJar | undefined,
  signal: AbortSignal | null | undefined,
): Promise<ExchangeResponse> {
  const sent = body?.open();
  const all = new Headers(headers);
  const fallback = (name: string, value: string | undefined): void => {
    if (value !== undefined && !all.has(name)) all.set(name, value);
  };
  fallback("accept", "*/*");
  // A part of what is encoded cannot be decoded (as in Fetch, section 4.6).
  fallback("accept-encoding", all.has("range") ? "identity" : ACCEPT_ENCODING);
  fallback("content-type", sent?.type);
  if (method !== "GET" && method !== "HEAD") fallback("origin", url.origin);
  fallback("cookie", cookies?.cookie(url));
  const response = await exchange(session, {
    target,
    method,
    path: url.pathname + url.search,
    fields: all,
    body: sent?.stream,
    length: sent?.length,
    signal,
    failure: networkError,
  });
  const values = response.fields.filter(([name]) => name === "set-cookie").map(([, value]) => value);
  if (values.length > 0) cookies?.store(url, values);
  return response;
}

/** The next step (Fetch, section 4.4). Throws REFUSED when it leads elsewhere: what may be asked for elsewhere is not the server's to say. */
function redirected(step: Step, status: number, location: string): Step {
  const { url: from, method, body, target } = step;
  if (!URL.canParse(location, from.href)) throw new DcpipeError("PROTOCOL", "a redirect to what is no URL");
  const url = new URL(location, from);
  if (url.origin !== from.origin)
    throw new DcpipeError("REFUSED", `a redirect to another origin, ${url.origin}`);
  if (url.username !== "" || url.password !== "")
    throw new DcpipeError("REFUSED", "a redirect with a user name or a password");
  if (url.hash === "") url.hash = from.hash;
  const toGet =
    (status === 303 && method !== "GET" && method !== "HEAD") || (status < 303 && method === "POST");
  if (!toGet) {
    if (status !== 303 && body?.repeatable === false)
      throw new DcpipeError("REFUSED", "a redirect of a request whose body can be sent once");
    return { ...step, url };
  }
  const headers = new Headers(step.headers);
  for (const name of BODY_FIELDS) headers.delete(name);
  return { url, target, method: "GET", headers, body: undefined };
}

function toResponse(
  { status, reason, fields, body }: ExchangeResponse,
  url: URL,
  isRedirected: boolean,
): Response {
  const headers = new Headers();
  for (const [name, value] of fields) headers.append(name, value);
  const decoders = body ? decodersFor(headers.get("content-encoding")) : [];
  const stream = body && decoders.length > 0 ? decoded(body, decoders, networkError) : body;
  if (decoders.length > 0) {
    // They are about the bytes that came: whoever passes the Response on would lie.
    headers.delete("content-encoding");
    headers.delete("content-length");
  }
  let response: Response;
  try {
    response = new Response(stream, { status, statusText: reason, headers });
  } catch (cause) {
    body?.cancel().catch(() => undefined);
    throw new DcpipeError("PROTOCOL", `a response with status ${status}`, { cause });
  }
  return told(response, url.href.replace(/#.*/s, ""), isRedirected);
}

/** A Response that was made, not fetched, knows neither. */
function told(response: Response, url: string, redirected: boolean): Response {
  return Object.defineProperties(response, {
    url: { value: url },
    redirected: { value: redirected },
    clone: { value: () => told(Response.prototype.clone.call(response), url, redirected) },
  });
}

/** What fetch rejects with for whatever is no abort. */
export function networkError(cause: unknown): TypeError {
  if (cause instanceof TypeError) return cause;
  const error = asDcpipeError(cause, "IO");
  return new TypeError(`fetch failed: ${error.message}`, { cause: error });
}
