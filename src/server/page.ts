/**
 * The page at the rendezvous' URL: a dcpipe of its own, for people without one (src/page). It is one file that holds its script and its
 * style, so that anybody can compare its hash with that of `dcpipe page --out`; beside it only the service worker for downloads.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

/** What is made by `npm run bundle`; the same from src/ and from dist/. */
const ASSETS = new URL("../../dist/page/", import.meta.url);

export interface Asset {
  readonly type: string;
  readonly body: Buffer;
  readonly gzip: Buffer;
  /** For If-None-Match (RFC 9110, section 8.8.3). */
  readonly etag: string;
}

export interface Page {
  readonly page: Asset;
  readonly worker: Asset;
  /** The page's Content-Security-Policy when it was asked for at this host: its own, and nothing but this rendezvous to talk to. */
  readonly policy: (host: string | undefined) => string;
}

let loaded: Page | undefined;

/** The page's bytes, as they are served and written. Throws when they were never made. */
export function readPage(): Buffer {
  return readFileSync(new URL("page.html", ASSETS));
}

/** Read when somebody asks for it first: a waiting side that holds its own mailbox has no use for it. */
export function loadPage(): Page {
  return (loaded ??= load());
}

function load(): Page {
  const body = readPage();
  const own = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(body.toString())?.[1] ?? "";
  return {
    page: asset("text/html; charset=utf-8", body),
    worker: asset("text/javascript; charset=utf-8", readFileSync(new URL("download.js", ASSETS))),
    policy: (host) => {
      // Not every browser takes 'self' for WebSockets, too. A host is whatever the client says.
      const sockets = /^[\w.-]+(:\d+)?$|^\[[\da-f:.]+\](:\d+)?$/i.test(host ?? "")
        ? ` ws://${host} wss://${host}`
        : "";
      return `${own.replace(/connect-src [^;]*/, `connect-src 'self'${sockets}`)}; frame-ancestors 'none'`;
    },
  };
}

function asset(type: string, body: Buffer): Asset {
  const etag = `"${createHash("sha256").update(body).digest("base64url")}"`;
  return { type, body, gzip: gzipSync(body, { level: 9 }), etag };
}
