/** STUN and TURN servers as people write them. */
import { DcpipeError } from "../errors.ts";
import type { TurnServer } from "../transport/peer.ts";
import { withScheme } from "../wire/code.ts";

export const DEFAULT_STUN: readonly string[] = [
  "stun:stun.l.google.com:19302",
  "stun:stun1.l.google.com:19302",
  "stun:stun2.l.google.com:19302",
  "stun:stun3.l.google.com:19302",
  "stun:stun4.l.google.com:19302",
];

/** Of STUN and TURN alike (RFC 8489, section 8.1; RFC 8656, section 4). */
const STUN_PORT = 3478;
const TURNS_PORT = 5349;

/** `stun:host[:port]`, RFC 7064. Throws USAGE. */
export function parseStunUrl(url: string): { host: string; port: number } {
  const match = /^(?:stun:)?(.+)$/.exec(url);
  const address = match?.[1] === undefined ? undefined : parseHostPort(match[1]);
  if (!address || /^(stuns|turns?|https?|wss?):/.test(url)) {
    throw new DcpipeError("USAGE", `"${url}" is no STUN server: write stun:HOST or stun:HOST:PORT`);
  }
  return address;
}

/**
 * `turn:user:password@host[:port][?transport=udp|tcp]`, or `turns:` for TLS over TCP; user and password may be percent-encoded. Throws
 * USAGE.
 */
export function parseTurnUrl(url: string): TurnServer {
  const [, scheme, user, password, rest] = /^(turns?):([^:@]+):([^@]+)@(.+)$/i.exec(url) ?? [];
  const server = rest === undefined ? undefined : parseTurnAddress(scheme, rest);
  if (!server || user === undefined || password === undefined) {
    throw new DcpipeError(
      "USAGE",
      "no TURN server: write turn:USER:PASSWORD@HOST or turn:USER:PASSWORD@HOST:PORT, with ?transport=tcp for TCP, or turns: for TLS",
    );
  }
  try {
    return { ...server, username: decodeURIComponent(user), password: decodeURIComponent(password) };
  } catch (cause) {
    throw new DcpipeError("USAGE", "the TURN user or password has a broken percent-encoding", { cause });
  }
}

/**
 * The URL of a rendezvous as http or https, with a slash at its end: `example.org` -> `https://example.org/`. A machine's own name needs no
 * certificate: `localhost:8787` -> `http://localhost:8787/`. Throws USAGE.
 */
export function parseRendezvousUrl(text: string): string {
  const bare = text.trim();
  let url: URL;
  try {
    url = new URL(withScheme(bare).replace(/^ws(s?):/i, "http$1:"));
  } catch (cause) {
    throw new DcpipeError("USAGE", `"${text}" is no URL of a rendezvous: write https://HOST`, { cause });
  }
  if (!/^https?:$/.test(url.protocol) || bare === "")
    throw new DcpipeError("USAGE", `"${text}" is no URL of a rendezvous: write https://HOST`);
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "")
    throw new DcpipeError("USAGE", "the URL of a rendezvous has no user, no query and no fragment");
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url.href;
}

/**
 * The URL that a rendezvous says people reach it by, or undefined when it is none: it is shown as part of a command to copy, so nothing may
 * be in it that means something to a shell or a terminal.
 */
export function publicUrl(link: string): string | undefined {
  return /^https?:\/\/[A-Za-z\d.:[\]-]+\/[\w./%~-]*$/.test(link) && URL.canParse(link) ? link : undefined;
}

/** `turn:host[:port][?transport=udp|tcp]` or `turns:`, RFC 7065: credentials come beside it. Throws USAGE. */
export function parseTurnServer(url: string): Pick<TurnServer, "host" | "port" | "transport"> {
  const [, scheme, rest] = /^(turns?):([^@]+)$/i.exec(url) ?? [];
  const server = rest === undefined ? undefined : parseTurnAddress(scheme, rest);
  if (!server)
    throw new DcpipeError("USAGE", "no TURN server: turn:HOST, turn:HOST:PORT, or either with turns: is due");
  return server;
}

/** What stands behind the scheme and the credentials, `host[:port][?transport=udp|tcp]`. Throws USAGE for what cannot be spoken. */
function parseTurnAddress(
  scheme: string | undefined,
  text: string,
): Pick<TurnServer, "host" | "port" | "transport"> | undefined {
  const [, where, transport] = /^([^?]+)(?:\?transport=(udp|tcp))?$/i.exec(text) ?? [];
  const isSecure = scheme?.toLowerCase() === "turns";
  const address = where === undefined ? undefined : parseHostPort(where, isSecure ? TURNS_PORT : STUN_PORT);
  if (!address) return undefined;
  const over = transport?.toLowerCase();
  if (isSecure && over === "udp")
    throw new DcpipeError(
      "USAGE",
      "TURN over DTLS is not supported: write turns: without ?transport=udp, for TLS",
    );
  return { ...address, transport: isSecure ? "tls" : over === "tcp" ? "tcp" : "udp" };
}

function parseHostPort(text: string, defaultPort = STUN_PORT): { host: string; port: number } | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/[\]]+))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? defaultPort : Number(match[3]);
  return host === undefined || port < 1 || port > 65535 ? undefined : { host, port };
}
