/** Requests of the site, asked over the session. What comes by the port is a script's of the site, for all we know. */
import {
  asDcpipeError,
  decoded,
  decodersFor,
  exchange,
  type HttpField,
  type Opener,
  type Target,
} from "../../browser.ts";
import type { FailedMessage, HeadMessage, RequestMessage } from "../messages.ts";
import { isForeign, requestFields, responseFields, type Places } from "./fields.ts";
import type { Jar } from "./jar.ts";

/** What the parts of one site have in common. */
export interface Ground {
  readonly session: Opener;
  readonly target: Target;
  readonly places: Places;
  readonly jar: Jar;
  /** Where a document was last redirected to, when that is no place of the TARGET's. */
  readonly leads: (url: string) => void;
  readonly led: () => string | undefined;
}

const REDIRECTS = [301, 302, 303, 307, 308];

/** Answers on the port with a head, whose body follows as it is read, or with why not. Never rejects. */
export async function serveRequest(
  ground: Ground,
  request: RequestMessage,
  port: MessagePort,
): Promise<void> {
  const gone = new AbortController();
  // Nothing else is ever said here.
  port.onmessage = () => {
    gone.abort();
  };
  try {
    if (!isRequest(request)) throw new TypeError("no request");
    const head = await ask(ground, request, gone.signal);
    port.postMessage(head, head.body ? [head.body] : []);
  } catch (cause) {
    gone.abort();
    const { code, message } = asDcpipeError(cause, "IO");
    port.postMessage({ type: "failed", code, message } satisfies FailedMessage);
  }
}

async function ask(ground: Ground, request: RequestMessage, signal: AbortSignal): Promise<HeadMessage> {
  const { session, target, places, jar } = ground;
  const { method, path, body, length, credentials, mode, destination } = request;
  const cookie = credentials === "omit" ? "" : jar.text(path, isForeign(request, places));
  const response = await exchange(session, {
    target,
    method,
    path,
    fields: requestFields(request, places, cookie),
    body: body instanceof Blob ? body.stream() : body,
    length: body instanceof Blob ? body.size : length,
    signal,
  });
  const set = response.fields.filter(([name]) => name === "set-cookie").map(([, value]) => value);
  // Documents hear of them before the answer is there.
  if (set.length > 0 && credentials !== "omit") jar.store(path, set);
  let fields = responseFields(response.fields, path, places);
  const location = valueOf(fields, "location");
  if (mode === "navigate" && location !== "" && !location.startsWith(`${places.inner}/`))
    ground.leads(location);
  if (REDIRECTS.includes(response.status) && location !== "" && response.body) {
    // Nobody sees it.
    response.body.cancel().catch(() => undefined);
    return {
      type: "head",
      status: response.status,
      reason: response.reason,
      fields,
      body: null,
      cookies: [],
    };
  }
  const codings = response.body ? decodersFor(valueOf(fields, "content-encoding")) : [];
  if (codings.length > 0)
    fields = fields.filter(([name]) => name !== "content-encoding" && name !== "content-length");
  const { status, reason } = response;
  const content =
    response.body && codings.length > 0 ? decoded(response.body, codings, (error) => error) : response.body;
  const isDocument = mode === "navigate" || destination === "document";
  return { type: "head", status, reason, fields, body: content, cookies: isDocument ? jar.visible() : [] };
}

function valueOf(fields: readonly HttpField[], name: string): string {
  return fields
    .filter(([each]) => each === name)
    .map(([, value]) => value)
    .join(", ");
}

/** Of the shape that its type promises; what stands in its texts is looked at where it is used. */
function isRequest({ method, path, fields, body, length, ...rest }: RequestMessage): boolean {
  const texts: unknown[] = [method, path, rest.referrer, rest.mode, rest.destination, rest.credentials];
  const isField = (field: unknown): boolean =>
    Array.isArray(field) && field.length === 2 && field.every((each) => typeof each === "string");
  return (
    texts.every((each) => typeof each === "string") &&
    path.startsWith("/") &&
    (fields as unknown) instanceof Array &&
    fields.every(isField) &&
    (body === undefined || body instanceof Blob || (body as unknown) instanceof ReadableStream) &&
    (length === undefined || Number.isSafeInteger(length))
  );
}
