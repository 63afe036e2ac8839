/**
 * Sites: pages that show what a `dcpipe forward --web` offers (docs/browsers.md). Each visit has two origins of its own, beside that of the
 * rendezvous:
 *
 *   main    /site                 draws a LABEL, and goes to the outer origin, with the code in the fragment
 *   outer   LABEL.HOST            has the session, and a frame around the site
 *   inner   site.LABEL.HOST       the site; everything but OWN_PATHS is the service worker's to answer
 *
 * HOST is localhost, whose names browsers take for this machine, or what `siteUrl` says. There the names have one label, as wildcard
 * certificates do: LABEL.HOST and LABEL-site.HOST. At these origins there is no rendezvous, no health and no metrics.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { gzipSync } from "node:zlib";
import {
  ABSENT_PAGE,
  bridgePage,
  NO_SITES_PAGE,
  outerPage,
  STYLE,
  TO_OUTER_SCRIPT,
  toOuterPage,
} from "./site-pages.ts";

export interface SiteOptions {
  /** `https://*.sites.example.org`: origins for sites, one label for the asterisk. */
  readonly siteUrl?: string | undefined;
  /** What people reach the rendezvous by, for the pages of sites at `siteUrl`. */
  readonly publicUrl?: string | undefined;
  /** The directory with what src/bundle.js has built for them. */
  readonly scripts?: URL | undefined;
}

/** A visit's origins, by the name that was asked for. */
export interface SitePlace {
  readonly kind: "outer" | "inner";
  readonly outer: string;
  readonly inner: string;
  /** URL of the rendezvous. */
  readonly rendezvous: string;
}

export interface Sites {
  /** Whether the name that was asked for belongs to sites: then nothing else of the server is there. */
  owns(host: string | undefined): boolean;
  /** Answers at such a name. */
  serve(request: IncomingMessage, response: ServerResponse): void;
  /** Answers for /site at the rendezvous' own name. */
  enter(request: IncomingMessage, response: ServerResponse): void;
}

/** 64 bits or more, drawn by the page: nobody guesses another visit's. */
const LABEL = "[0-9a-f]{16,32}";
const LOCAL_PLACE = new RegExp(`^(site\\.)?(${LABEL})\\.localhost((?::\\d{1,5})?)$`);
const LOCAL_MAIN = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])((?::\d{1,5})?)$/;
const SCRIPTS: Readonly<Record<string, "outer" | "inner">> = {
  "outer.js": "outer",
  "bridge.js": "inner",
  "worker.js": "inner",
};
const HTML = "text/html; charset=utf-8";

export function createSites(options: SiteOptions): Sites {
  const { siteUrl, publicUrl } = options;
  const configured = siteUrl === undefined ? undefined : configuredPlaces(siteUrl, publicUrl);
  const assets = new Map<string, { readonly plain: Buffer; readonly packed: Buffer }>();
  /** Read when they are asked for: who serves no sites needs none of them. */
  const asset = (name: string): { readonly plain: Buffer; readonly packed: Buffer } => {
    let found = assets.get(name);
    if (!found) {
      const directory = options.scripts ?? new URL("../../dist/site/", import.meta.url);
      const plain = readFileSync(new URL(name, directory));
      assets.set(name, (found = { plain, packed: gzipSync(plain) }));
    }
    return found;
  };
  const placeOf = (host: string): SitePlace | undefined => localPlace(host) ?? configured?.place(host);

  const serve = (request: IncomingMessage, response: ServerResponse): void => {
    const place = placeOf(nameOf(request.headers.host));
    const [path = ""] = (request.url ?? "").split("?", 1);
    if (!place) {
      send(
        request,
        response,
        421,
        "text/plain; charset=utf-8",
        "there is no site of this name\n",
        "default-src 'none'",
      );
      return;
    }
    const script = /^\/\.dcpipe\/([a-z]+\.js)$/.exec(path)?.[1];
    if (script !== undefined && SCRIPTS[script] === place.kind) {
      const { plain, packed } = asset(script);
      const gzip = /\bgzip\b/.test(request.headers["accept-encoding"] ?? "");
      if (gzip) response.setHeader("content-encoding", "gzip");
      response.setHeader("vary", "accept-encoding");
      // Its scope is all of the inner origin.
      if (script === "worker.js") response.setHeader("service-worker-allowed", "/");
      send(
        request,
        response,
        200,
        "text/javascript; charset=utf-8",
        gzip ? packed : plain,
        workerPolicy(place),
      );
    } else if (place.kind === "outer") {
      if (path !== "/") {
        send(request, response, 404, "text/plain; charset=utf-8", "not found\n", "default-src 'none'");
        return;
      }
      response.setHeader("cross-origin-opener-policy", "same-origin");
      send(request, response, 200, HTML, outerPage(place), outerPolicy(place));
    } else if (path === "/.dcpipe/bridge") {
      send(request, response, 200, HTML, bridgePage(place), bridgePolicy(place));
    } else {
      // What should have been the worker's.
      send(
        request,
        response,
        503,
        HTML,
        ABSENT_PAGE,
        pagePolicy(`frame-ancestors ${place.outer} ${place.inner}`),
      );
    }
  };

  const enter = (request: IncomingMessage, response: ServerResponse): void => {
    const port = LOCAL_MAIN.exec(nameOf(request.headers.host))?.[1];
    const pattern = port === undefined ? configured?.pattern : `http://*.localhost${port}`;
    if (pattern === undefined) send(request, response, 200, HTML, NO_SITES_PAGE, pagePolicy());
    else
      send(
        request,
        response,
        200,
        HTML,
        toOuterPage(pattern),
        `${pagePolicy()}; script-src ${hash(TO_OUTER_SCRIPT)}`,
      );
  };

  const owns = (host: string | undefined): boolean => {
    const name = nameOf(host);
    return /\.localhost\.?(?::\d*)?$/.test(name) || configured?.owns(name) === true;
  };
  return { owns, serve, enter };
}

/** Names have no case. One with the dot of the root is another origin, and none of ours. */
function nameOf(host: string | undefined): string {
  return (host ?? "").toLowerCase();
}

function localPlace(host: string): SitePlace | undefined {
  const [, inner, label, port = ""] = LOCAL_PLACE.exec(host) ?? [];
  if (label === undefined) return undefined;
  return {
    kind: inner === undefined ? "outer" : "inner",
    outer: `http://${label}.localhost${port}`,
    inner: `http://site.${label}.localhost${port}`,
    rendezvous: `http://localhost${port}/`,
  };
}

function configuredPlaces(
  siteUrl: string,
  publicUrl: string | undefined,
): {
  readonly pattern: string;
  place(host: string): SitePlace | undefined;
  owns(host: string): boolean;
} {
  const [scheme = "", behind = ""] = siteUrl.replace(/\/$/, "").toLowerCase().split("*");
  const domain = behind.replace(/:\d+$/, "");
  const form = new RegExp(`^(${LABEL})(-site)?${behind.replace(/[.[\]]/g, "\\$&")}$`);
  return {
    pattern: `${scheme}*${behind}`,
    place: (host) => {
      const [, label, inner] = form.exec(host) ?? [];
      if (label === undefined) return undefined;
      return {
        kind: inner === undefined ? "outer" : "inner",
        outer: `${scheme}${label}${behind}`,
        inner: `${scheme}${label}-site${behind}`,
        rendezvous: publicUrl ?? "",
      };
    },
    owns: (host) => host.replace(/\.?(?::\d*)?$/, "").endsWith(domain),
  };
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  type: string,
  body: string | Buffer,
  policy: string,
): void {
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "content-security-policy": policy,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "origin-agent-cluster": "?1",
    "cache-control": "no-store",
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

function hash(text: string): string {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

/** Of a page that shows a text. */
function pagePolicy(frames = "frame-ancestors 'none'"): string {
  return `default-src 'none'; style-src ${hash(STYLE)}; img-src data:; base-uri 'none'; form-action 'none'; ${frames}`;
}

function outerPolicy({ inner, rendezvous }: SitePlace): string {
  const socket = new URL(rendezvous).origin.replace(/^http/, "ws");
  return `${pagePolicy()}; script-src 'self'; connect-src ${socket}; frame-src ${inner}`;
}

function bridgePolicy({ outer }: SitePlace): string {
  return `default-src 'none'; script-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors ${outer}`;
}

/** A worker fetches what documents of the site ask of other origins; what those may ask, their own policies say. */
function workerPolicy({ kind }: SitePlace): string {
  return kind === "inner" ? "default-src 'none'; connect-src *" : "default-src 'none'";
}
