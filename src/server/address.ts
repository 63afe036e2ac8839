/** Where a client comes from, as far as limits are concerned. */
import type { IncomingMessage } from "node:http";
import { isIPv4, isIPv6 } from "node:net";

/**
 * The address to count a request under: IPv4 as it is, IPv6 as its /64 (one customer has at least that). `trustProxy`: the last
 * entry of X-Forwarded-For, which the proxy in front wrote, counts in place of the socket's; those before it are anybody's.
 */
export function countedAddress(request: IncomingMessage, trustProxy: boolean): string {
  const forwarded = trustProxy ? lastForwarded(request) : undefined;
  return addressGroup(forwarded ?? request.socket.remoteAddress ?? "");
}

function lastForwarded(request: IncomingMessage): string | undefined {
  const header = request.headers["x-forwarded-for"];
  const last = (Array.isArray(header) ? header.join(",") : header)?.split(",").at(-1)?.trim() ?? "";
  const bare = last.replace(/^\[(.*)\](?::\d+)?$/, "$1").replace(/^([\d.]+):\d+$/, "$1");
  return isIPv4(bare) || isIPv6(bare) ? bare : undefined;
}

/** `192.0.2.1` -> itself, `::ffff:192.0.2.1` -> `192.0.2.1`, `2001:db8::1` -> `2001:db8:0:0::/64`. */
export function addressGroup(address: string): string {
  const bare = address.replace(/%.*$/, "");
  const mapped = /^::ffff:([\d.]+)$/i.exec(bare)?.[1];
  if (mapped !== undefined || !isIPv6(bare)) return mapped ?? bare;
  const [head = "", tail] = bare.toLowerCase().split("::");
  const groups = head === "" ? [] : head.split(":");
  const behind =
    tail === undefined || tail === "" ? 0 : tail.split(":").length + (tail.includes(".") ? 1 : 0);
  if (tail !== undefined) {
    const end = tail.split(":");
    const zeros = 8 - groups.length - behind;
    groups.push(...Array.from({ length: zeros }, () => "0"), ...end);
  }
  const network = groups.slice(0, 4).map((group) => parseInt(group, 16).toString(16));
  return `${network.join(":")}::/64`;
}
