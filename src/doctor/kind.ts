/** The kinds of network that matter to two peers, with their names: RFC 4787's, those of RFC 3489 that everybody knows, and plain ones. */
import type { FamilyReport, Report } from "../wire/report.ts";

export type NetworkKind =
  | "open"
  | "firewall"
  | "public"
  | "full-cone"
  | "address-restricted"
  | "port-restricted"
  | "cone"
  | "symmetric"
  | "nat"
  | "ipv6-only"
  | "udp-blocked"
  | "offline"
  | "unknown";

export interface KindWords {
  /** Behind "is", or "is behind". */
  readonly name: string;
  readonly plain: string;
}

export const KINDS: Readonly<Record<NetworkKind, KindWords>> = {
  open: {
    name: "a public address without NAT or firewall",
    plain: "anybody can reach this machine by UDP",
  },
  firewall: {
    name: "a public address behind a stateful firewall",
    plain: "what this machine has called may answer, and nobody else",
  },
  public: {
    name: "a public address without NAT",
    plain: "no server here could tell whether a firewall is in the way",
  },
  "full-cone": {
    name: "a full-cone NAT (endpoint-independent mapping and filtering)",
    plain: "once this machine has sent anything, anybody can reach it",
  },
  "address-restricted": {
    name: "an address-restricted cone NAT (endpoint-independent mapping, address-dependent filtering)",
    plain: "addresses that this machine has called may answer, from any port",
  },
  "port-restricted": {
    name: "a port-restricted cone NAT (endpoint-independent mapping, address- and port-dependent filtering)",
    plain: "what this machine has called may answer, and it looks the same to everybody",
  },
  cone: {
    name: "a cone NAT (endpoint-independent mapping, as far as seen)",
    plain: "this machine looks the same to everybody; no server here could tell whom the NAT lets in",
  },
  symmetric: {
    name: "a symmetric NAT (the outer port depends on the destination)",
    plain: "this machine looks different to everybody it calls, so nobody can be told where it is",
  },
  nat: {
    name: "a NAT of unknown behaviour",
    plain: "one address of one server is too little to tell what it does",
  },
  "ipv6-only": {
    name: "a network that carries UDP over IPv6 only",
    plain: "direct connections are possible to machines with IPv6",
  },
  "udp-blocked": {
    name: "a network that blocks UDP",
    plain: "no STUN server answered",
  },
  offline: {
    name: "a machine without a network",
    plain: "no interface has an address with which it could call anybody",
  },
  unknown: {
    name: "a network that was not looked into",
    plain: "no STUN server was asked",
  },
};

export function kindOf({ ipv4, ipv6 }: Pick<Report, "ipv4" | "ipv6">): NetworkKind {
  if (ipv4.udp === "works") return kindOfFamily(ipv4);
  if (ipv6.udp === "works") return "ipv6-only";
  const states = [ipv4.udp, ipv6.udp];
  if (states.includes("blocked")) return "udp-blocked";
  return states.includes("unknown") ? "unknown" : "offline";
}

function kindOfFamily({ mapping, filtering }: FamilyReport): NetworkKind {
  switch (mapping) {
    case "none":
      return filtering === "unknown" ? "public" : filtering === "independent" ? "open" : "firewall";
    case "independent":
      return filtering === "unknown" ? "cone" : CONES[filtering];
    case "dependent":
      return "symmetric";
    case "unknown":
      return "nat";
  }
}

const CONES = {
  independent: "full-cone",
  address: "address-restricted",
  "address-and-port": "port-restricted",
} as const;
