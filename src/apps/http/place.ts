/** Which TARGET a URL is for. */
import { DcpipeError } from "../../errors.ts";
import type { Target } from "../../wire/header.ts";
import { parseTarget } from "../forward/spec.ts";
import { hostOf } from "./fields.ts";

/** A TARGET, and the URL at which a browser beside it would find it. */
export interface Place {
  readonly target: Target;
  readonly base: URL;
}

/** What `dcpipe forward` takes as TARGET, `3000`, `host:3000` or `unix:/path`, or one that was offered. Throws USAGE. */
export function placeOf(given: string | Target): Place {
  let target: Target;
  if (typeof given === "string") {
    const [offer, ...more] = parseTarget(given);
    if (offer?.protocol !== "tcp" || more.length > 0)
      throw new DcpipeError("USAGE", `${given}: one TARGET of TCP answers to HTTP`);
    ({ target } = offer);
  } else target = given;
  return { target, base: new URL(`http://${hostOf(target)}/`) };
}

/**
 * The URL with http: in front, and whom to ask for it: `home`, or the host and port that it names. Throws USAGE with the reason, for
 * people who use fetch and WebSocket.
 */
export function locate(
  input: string | URL,
  home: Place | undefined,
): { readonly url: URL; readonly target: Target } {
  let url: URL;
  try {
    url = new URL(input, home?.base);
  } catch (cause) {
    const relative = home ? "" : " without a TARGET";
    throw new DcpipeError("USAGE", `not a URL${relative}: ${String(input)}`, { cause });
  }
  if (url.protocol === "ws:") url.protocol = "http:";
  // The session is what encrypts; TLS to a server on the other side's own machine is not spoken there.
  if (url.protocol !== "http:")
    throw new DcpipeError("USAGE", `a TARGET has an http or ws URL, not ${url.protocol}`);
  if (url.username !== "" || url.password !== "")
    throw new DcpipeError("USAGE", "a URL with a user name or a password");
  if (url.origin === home?.base.origin) return { url, target: home.target };
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  return { url, target: { type: "host", host, port: Number(url.port || 80) } };
}
