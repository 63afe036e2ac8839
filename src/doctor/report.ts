/** What of the findings goes into a report, and what an offer token tells of its maker's network. */
import type { Candidate } from "../wire/candidate.ts";
import { placeOf, type FamilyReport, type Report } from "../wire/report.ts";
import { familyOf, scopeOf } from "./address.ts";
import type { Findings } from "./findings.ts";
import { judgeNat, type Nat } from "./nat.ts";

export function reportOf(findings: Findings): Report {
  const [ipv4, ipv6] = [judgeNat(findings, 4), judgeNat(findings, 6)];
  return {
    ipv4: familyReport(ipv4),
    ipv6: familyReport(ipv6),
    portMapping: portMappingOf(findings, ipv4),
    rendezvous: findings.rendezvous ? (findings.rendezvous.error ? "no" : "yes") : "unknown",
    turn: (findings.turn ?? []).some(({ ok }) => ok),
    // Without a NAT nobody can be behind the same one.
    place: ipv4.mapping === "none" ? 0 : placeOf(ipv4.outer?.address),
  };
}

function familyReport({ udp, mapping, filtering, hairpin }: Nat): FamilyReport {
  const dependent = mapping === "address" || mapping === "address-and-port";
  return { udp, mapping: dependent ? "dependent" : mapping, filtering, hairpin };
}

/**
 * Whether ports that the router opens are open to the internet. Not behind a second NAT, which shows when the router's outer address
 * is one of an inner network. Where it tells none, or another one than the servers see, that is doubtful: routers are wrong about
 * themselves, and providers have NATs.
 */
export function portMappingOf({ mapping }: Findings, { outer }: Nat): Report["portMapping"] {
  if (!mapping) return "unknown";
  if (!mapping.pcp && !mapping.natPmp && !mapping.upnp) return "no";
  const { address } = mapping;
  if (address !== undefined && scopeOf(address) !== "public") return "no";
  return address !== undefined && address === outer?.address ? "yes" : "doubtful";
}

/** What the addresses in a token tell: whether there are public ones. */
export function reportOfAddresses(candidates: readonly Candidate[]): Report {
  const reflexive = candidates.find(({ type, address }) => type === "srflx" && familyOf(address) === 4);
  return {
    ipv4: familyOfAddresses(candidates, 4),
    ipv6: familyOfAddresses(candidates, 6),
    portMapping: "unknown",
    rendezvous: "unknown",
    turn: candidates.some(({ type }) => type === "relay"),
    place: placeOf(reflexive?.address),
  };
}

function familyOfAddresses(candidates: readonly Candidate[], family: 4 | 6): FamilyReport {
  const own = candidates.filter(({ type, address }) => type !== "relay" && familyOf(address) === family);
  const open = own.some(({ type, address }) => type === "host" && scopeOf(address) === "public");
  const reflexive = own.some(({ type }) => type === "srflx");
  const unknown = { filtering: "unknown", hairpin: "unknown" } as const;
  if (reflexive) return { udp: "works", mapping: open ? "none" : "unknown", ...unknown };
  if (open) return { udp: "unknown", mapping: "none", ...unknown };
  // IPv6 addresses that are not public lead nowhere; IPv4 ones have a NAT that was not asked, or does not let UDP through.
  return { udp: family === 6 || own.length === 0 ? "none" : "unknown", mapping: "unknown", ...unknown };
}
