/** What an address, or the name of an interface, says about itself. */
import { parseAddress } from "../wire/candidate.ts";

export type Scope =
  | "public"
  /** RFC 1918, and fc00::/7 of RFC 4193. */
  | "private"
  /** Between a provider's NAT and its customers (RFC 6598). */
  | "carrier"
  /** Of one link only, or no address that anybody could call. */
  | "link-local";

export function familyOf(address: string): 4 | 6 {
  return address.includes(":") ? 6 : 4;
}

/** Where an address can be reached from. */
export function scopeOf(address: string): Scope {
  const bytes = parseAddress(address.replace(/%.*/, ""));
  const [a = 0, b = 0] = bytes ?? [];
  if (bytes?.length === 16) {
    if ((a & 0xfe) === 0xfc) return "private";
    // 2000::/3 is what is given out (RFC 4291); 64:ff9b::/96 leads to IPv4 (RFC 6052).
    return (a & 0xe0) === 0x20 || (a === 0 && b === 0x64) ? "public" : "link-local";
  }
  if (a === 10 || (a === 172 && (b & 0xf0) === 16) || (a === 192 && b === 168)) return "private";
  if (a === 100 && (b & 0xc0) === 64) return "carrier";
  return !bytes || a === 0 || a === 127 || a >= 224 || (a === 169 && b === 254) ? "link-local" : "public";
}

/** Names that VPNs give to their interfaces. */
const VPN = /^(tun|tap|wg|ppp|utun|ipsec|tailscale|zt|nordlynx|proton|mullvad|warp|gpd|cscotun|wt\d)/i;
/** Bridges and cables to containers and virtual machines: no way out of this machine. */
const VIRTUAL = /^(docker|br-|veth|virbr|vmnet|vboxnet|lxcbr|lxdbr|podman|cni|cali|flannel|vEthernet)/i;

export type InterfaceKind = "vpn" | "virtual" | undefined;

/** What the name of an interface looks like; only a guess. */
export function kindOfInterface(name: string): InterfaceKind {
  if (VPN.test(name)) return "vpn";
  return VIRTUAL.test(name) ? "virtual" : undefined;
}
