/** What the server answers to plain HTTP: the page, its health, its metrics. Paths match by their end: a proxy may mount it anywhere. */
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { loadPage, type Asset } from "./page.ts";
import type { Sites } from "./site.ts";

export interface Routes {
  readonly healthy: () => boolean;
  readonly metrics: () => string;
  readonly sites: Sites;
}

const TEXT = "text/plain; charset=utf-8";
/** Prometheus' text format. */
const METRICS = "text/plain; version=0.0.4; charset=utf-8";

export function createRoutes({ healthy, metrics, sites }: Routes): RequestListener {
  return (request, response) => {
    request.resume();
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      // What follows may be a long body that nobody wants.
      response.setHeader("connection", "close");
      answer(request, response, 405, TEXT, "method not allowed\n");
      return;
    }
    if (sites.owns(request.headers.host)) {
      sites.serve(request, response);
      return;
    }
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    if (path.endsWith("/healthz")) {
      const well = healthy();
      answer(request, response, well ? 200 : 503, TEXT, well ? "ok\n" : "unavailable\n");
    } else if (path.endsWith("/metrics")) {
      answer(request, response, 200, METRICS, metrics());
    } else if (path.endsWith("/download.js")) {
      response.setHeader("content-security-policy", "default-src 'none'");
      serve(request, response, loadPage().worker);
    } else if (path.endsWith("/site")) {
      sites.enter(request, response);
    } else if (path.endsWith("/")) {
      const { page, policy } = loadPage();
      response.setHeader("content-security-policy", policy(request.headers.host));
      response.setHeader("referrer-policy", "no-referrer");
      response.setHeader("cross-origin-opener-policy", "same-origin");
      response.setHeader("permissions-policy", "camera=(self), microphone=(), geolocation=()");
      serve(request, response, page);
    } else {
      answer(request, response, 404, TEXT, "not found\n");
    }
  };
}

/** A file of the page's: kept by browsers, and asked about each time. */
function serve(request: IncomingMessage, response: ServerResponse, { type, body, gzip, etag }: Asset): void {
  response.setHeader("cache-control", "no-cache");
  response.setHeader("etag", etag);
  response.setHeader("vary", "accept-encoding");
  response.setHeader("x-content-type-options", "nosniff");
  if ((request.headers["if-none-match"] ?? "").includes(etag)) {
    response.writeHead(304).end();
    return;
  }
  const zipped = /\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))/.test(String(request.headers["accept-encoding"]));
  const content = zipped ? gzip : body;
  if (zipped) response.setHeader("content-encoding", "gzip");
  response.writeHead(200, { "content-type": type, "content-length": content.length });
  response.end(request.method === "HEAD" ? undefined : content);
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  type: string,
  body: string,
): void {
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
  });
  response.end(request.method === "HEAD" ? undefined : body);
}
