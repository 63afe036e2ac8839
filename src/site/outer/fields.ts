/** Heads between the inner origin and the TARGET: each side is to see itself, and nothing of the other. */
import type { HttpField } from "../../wire/http.ts";
import type { RequestMessage } from "../messages.ts";

/** Where the site is for its server, and where for the browser. */
export interface Places {
  /** `http://localhost:3000` */
  readonly target: string;
  /** Origins that pages may write for the TARGET: itself, and other names of the same loopback address. */
  readonly aliases: readonly string[];
  /** `http://site.LABEL.localhost:8787` */
  readonly inner: string;
  /** What the browser says of itself, and does not show in requests. */
  readonly browser: { readonly userAgent: string; readonly languages: readonly string[] };
}

/** What a page's request does not say of itself here: it is drawn up anew, as a browser beside the TARGET would. */
const REDRAWN =
  /^(?:cookie2?|host|origin|referer|accept-encoding|accept-charset|connection|via|forwarded|x-forwarded-.*|sec-.*|proxy-.*)$/;
/**
 * What an answer may not say to the browser: it would be about this origin, which is not the TARGET's (its TLS, its workers, its storage,
 * its reports), or is seen to here.
 */
const DROPPED = new Set([
  "accept-ch",
  "alt-svc",
  "clear-site-data",
  "critical-ch",
  "expect-ct",
  "nel",
  "public-key-pins",
  "public-key-pins-report-only",
  "referrer-policy",
  "report-to",
  "reporting-endpoints",
  "service-worker-allowed",
  "set-cookie",
  "set-cookie2",
  "strict-transport-security",
  "x-frame-options",
]);
/** More would tell who somebody is. */
const MAX_LANGUAGES = 8;
const SAFE_METHODS = ["GET", "HEAD", "OPTIONS"];
const ACCEPTED_CODINGS = "gzip, deflate";

/** Whether another site may have begun the request, so that it must not count as the user's own deed. */
export function isForeign({ method, mode, referrer }: RequestMessage, { inner }: Places): boolean {
  // What is no navigation comes from documents of the inner origin alone.
  return mode === "navigate" && !SAFE_METHODS.includes(method) && !isBelow(referrer, inner);
}

/** Fields as a browser beside the TARGET would send them. `cookie`: "" for none. */
export function requestFields(request: RequestMessage, places: Places, cookie: string): HttpField[] {
  const { method, referrer, mode, destination, fields } = request;
  const kept = fields.filter(([name]) => !REDRAWN.test(name.toLowerCase()));
  const has = (name: string): boolean => kept.some(([each]) => each.toLowerCase() === name);
  const foreign = isForeign(request, places);
  const own = isBelow(referrer, places.inner);
  const added: HttpField[] = [];
  if (!has("accept")) added.push(["accept", "*/*"]);
  // A part of what is encoded cannot be decoded (as in Fetch, section 4.6).
  added.push(["accept-encoding", has("range") ? "identity" : ACCEPTED_CODINGS]);
  if (!has("accept-language"))
    added.push(["accept-language", places.browser.languages.slice(0, MAX_LANGUAGES).join(", ")]);
  if (!has("user-agent")) added.push(["user-agent", places.browser.userAgent]);
  if (!SAFE_METHODS.includes(method)) added.push(["origin", foreign ? "null" : places.target]);
  if (own) added.push(["referer", places.target + referrer.slice(places.inner.length).replace(/#.*$/s, "")]);
  // A document that no other one of the site asks for is what stands alone at the TARGET.
  const alone = destination === "iframe" && !own;
  added.push(["sec-fetch-dest", alone ? "document" : destination === "" ? "empty" : destination]);
  added.push(["sec-fetch-mode", mode]);
  added.push([
    "sec-fetch-site",
    own || mode !== "navigate" ? "same-origin" : foreign ? "cross-site" : "none",
  ]);
  if (cookie !== "") added.push(["cookie", cookie]);
  return [...kept, ...added].filter(([, value]) => isValue(value));
}

/** Fields as the browser may have them; `path` is what was asked for. */
export function responseFields(fields: readonly HttpField[], path: string, places: Places): HttpField[] {
  const kept: HttpField[] = [];
  for (const [name, value] of fields) {
    if (DROPPED.has(name)) continue;
    if (name === "location" || name === "content-location") {
      const mapped = mapUrl(value, path, places);
      if (mapped !== undefined) kept.push([name, mapped]);
    } else if (name === "refresh") {
      const mapped = mapRefresh(value, path, places);
      if (mapped !== undefined) kept.push([name, mapped]);
    } else kept.push([name, value]);
  }
  // Other sites that the page links to need not know the name that this visit has.
  kept.push(["referrer-policy", "same-origin"]);
  return kept;
}

/** A URL of the TARGET's becomes the inner origin's, other ones stay as they are; undefined for what is no http or https URL. */
export function mapUrl(value: string, path: string, { target, aliases, inner }: Places): string | undefined {
  const text = asUtf8(value);
  const base = target + path;
  if (!URL.canParse(text, base)) return undefined;
  const url = new URL(text, base);
  if (url.protocol !== "http:" && url.protocol !== "https:") return undefined;
  if (!aliases.includes(url.origin)) return url.href;
  return inner + url.href.slice(url.href.indexOf("/", url.protocol.length + 2));
}

/** `5; url=/next` */
function mapRefresh(value: string, path: string, places: Places): string | undefined {
  const [, delay, url] = /^\s*([\d.]+)\s*(?:[;,]?\s*(?:url\s*=\s*)?(.*))?$/is.exec(value) ?? [];
  if (delay === undefined) return undefined;
  if (url === undefined || url === "") return delay;
  const mapped = mapUrl(url.replace(/^(['"])(.*?)\1?$/s, "$2"), path, places);
  return mapped === undefined ? undefined : `${delay}; url=${mapped}`;
}

/** Bytes come a character each; what is UTF-8 is read as that, as browsers do. */
function asUtf8(value: string): string {
  if (!/[\x80-\xff]/.test(value)) return value;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(
      Uint8Array.from(value, (each) => each.charCodeAt(0)),
    );
  } catch {
    return value;
  }
}

/** What may stand in a field, as a character for each byte. */
function isValue(value: string): boolean {
  return value !== "" && /^[\t\x20-\x7e\x80-\xff]*$/.test(value);
}

function isBelow(url: string, origin: string): boolean {
  return url === origin || url.startsWith(`${origin}/`);
}
