import type { TurnServer } from "../../transport/peer.ts";

/** Names have 253 characters at most (RFC 1035, section 2.3.4). */
const MAX_HOST = 253;

/** The server as people write it (RFC 7065), without credentials; who lends one may have put anything into its host. */
export function nameOf({ host, port, transport }: Pick<TurnServer, "host" | "port" | "transport">): string {
  const shown = host.slice(0, MAX_HOST).replace(/[^\p{L}\p{N}.:_-]/gu, "?");
  const place = shown.includes(":") ? `[${shown}]:${port}` : `${shown}:${port}`;
  return transport === "tls"
    ? `turns:${place}`
    : `turn:${place}${transport === "tcp" ? "?transport=tcp" : ""}`;
}
