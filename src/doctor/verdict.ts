/** What the findings mean to somebody who wants a connection, and what can be done. */
import type { Report } from "../wire/report.ts";
import { kindOfInterface, scopeOf } from "./address.ts";
import type { Findings } from "./findings.ts";
import { KINDS, kindOf, type NetworkKind } from "./kind.ts";
import { allUnresolved, judgeNat, type Nat } from "./nat.ts";
import { reportOf } from "./report.ts";

export interface Verdict {
  readonly kind: NetworkKind;
  /** What kind of network this is: one sentence in RFC 4787's words and in plain ones. */
  readonly summary: string;
  /** What works, and to whom. */
  readonly works: readonly string[];
  /** What to do, the most useful first. */
  readonly advice: readonly string[];
  /** False when nothing leads out: no UDP, no rendezvous, no TURN server. */
  readonly wayOut: boolean;
}

/** Credentials of a TURN server are good for a time that is told by the clock. */
export const MAX_CLOCK_SECONDS = 60;
/** What IPv6 demands of every link (RFC 8200, section 5), and the control channel's packets are made for. */
export const MIN_MTU = 1280;

export function verdictOf(findings: Findings): Verdict {
  const report = reportOf(findings);
  const kind = kindOf(report);
  const { name, plain } = KINDS[kind];
  const link = ["full-cone", "address-restricted", "port-restricted", "cone", "symmetric", "nat"];
  const summary = `This is ${link.includes(kind) ? "a machine behind " : ""}${name}: ${plain}`;
  const doubt = kind === "udp-blocked" ? blockedHow(findings) : undefined;
  return {
    kind,
    summary: doubt === undefined ? summary : `${summary}${doubt}`,
    works: worksOf(kind, report),
    advice: [...adviceOf(kind, report, findings), ...troubles(findings)],
    wayOut: hasWayOut(kind, report),
  };
}

function blockedHow({ rendezvous, nat }: Findings): string {
  const answers = [...(nat?.ipv4.answers ?? []), ...(nat?.ipv6.answers ?? [])];
  if (answers.some(({ detail }) => detail === "EPERM" || detail === "EACCES"))
    return ": this machine's own firewall does not let the packets out";
  if (rendezvous && !rendezvous.error) return ", while the rendezvous was reached over TCP";
  return ", or none of those that were asked is alive";
}

// ---- what works -----------------------------------------------------------------------------------------------------

const TO_MOST = "Direct connections to every network but those with a symmetric NAT and those that block UDP";
const TO_ALL = "Direct connections to every network that lets UDP out, by one paste when this side waits";

const WORKS: Readonly<Record<NetworkKind, readonly string[]>> = {
  open: [TO_ALL],
  "full-cone": [TO_ALL],
  public: [
    "Direct connections to every network that lets UDP out, unless a firewall is in the way and the other side's NAT is symmetric",
  ],
  firewall: [TO_MOST, "By paste the answer has to be carried back, unless the other side can be reached"],
  "address-restricted": [
    "Direct connections to every network that lets UDP out, symmetric NATs as well",
    "By paste the answer has to be carried back, unless the other side can be reached",
  ],
  "port-restricted": [
    TO_MOST,
    "By paste the answer has to be carried back, unless the other side can be reached",
  ],
  cone: [
    "Direct connections to every network but those that block UDP, and perhaps those with a symmetric NAT",
    "By paste the answer has to be carried back, unless the other side can be reached",
  ],
  symmetric: [
    "Direct connections to machines with a public address, a full-cone or an address-restricted NAT, or a port that their router has opened",
    "To all others only through a TURN server, or by code through the rendezvous' relay",
  ],
  nat: ["Direct connections to machines that can be reached by anybody; to others it depends on this NAT"],
  "ipv6-only": ["Direct connections to machines with IPv6"],
  "udp-blocked": [
    "No direct connection to anywhere outside of this network",
    "By code through the rendezvous' relay, and with a TURN server that is reached over TCP or TLS",
  ],
  offline: ["Connections within this machine only"],
  unknown: ["Connections within this network; what leads out of it was not tried"],
};

function worksOf(kind: NetworkKind, report: Report): string[] {
  const works = report.portMapping === "yes" ? [TO_ALL] : [...WORKS[kind]];
  if (report.portMapping === "yes") works.push("The router opens a port for that by itself");
  if (report.ipv6.udp === "works" && kind !== "ipv6-only")
    works.push("IPv6 gets out: direct connections to every machine with IPv6, whatever the NATs do");
  return works;
}

/** Nothing is said about what nobody tried. */
function hasWayOut(kind: NetworkKind, { rendezvous, turn }: Report): boolean {
  if (turn || rendezvous === "yes") return true;
  return kind !== "udp-blocked" && kind !== "offline";
}

// ---- what to do -----------------------------------------------------------------------------------------------------

const REACHABLE: readonly NetworkKind[] = ["open", "full-cone"];
/** Direct connections are made, but not by one paste. */
const CALLABLE_BACK: readonly NetworkKind[] = ["firewall", "address-restricted", "port-restricted", "cone"];
const BEHIND_NAT: readonly NetworkKind[] = ["address-restricted", "port-restricted", "cone", "symmetric"];

function adviceOf(kind: NetworkKind, report: Report, findings: Findings): string[] {
  const advice: string[] = [];
  const { rendezvous, turn, portMapping } = report;
  if (REACHABLE.includes(kind) || portMapping === "yes")
    advice.push("Let this side wait (start it without PEER): then one paste is enough");
  if (kind === "udp-blocked") {
    advice.push(
      rendezvous === "yes"
        ? "Use codes: the rendezvous' relay carries what UDP cannot"
        : "Use codes with a rendezvous over https (--rendezvous URL): its relay carries what UDP cannot",
    );
    if (!turn) advice.push("Or name a TURN server that listens at TCP port 443 (--turn turns:...)");
    advice.push("Ask the administrator to let UDP out: connections are direct then, and faster");
  }
  if (kind === "symmetric" && portMapping !== "yes" && !turn)
    advice.push(
      "Name a TURN server (--turn), or meet by code: without one, two symmetric NATs have no path by paste",
    );
  if (CALLABLE_BACK.includes(kind) && portMapping !== "yes")
    advice.push(
      rendezvous === "yes"
        ? "Meet by code: then nothing has to be pasted back"
        : "Meet by code (--rendezvous URL): then nothing has to be pasted back, and the rendezvous relays for symmetric NATs",
    );
  if (BEHIND_NAT.includes(kind) && portMapping === "no" && findings.mapping?.gateway !== undefined)
    advice.push(
      doubleNat(findings) ?? "Switch on UPnP, NAT-PMP or PCP in the router: then it can be reached",
    );
  if (kind === "offline") advice.push("Connect this machine to a network");
  if (kind === "unknown") advice.push("Leave out --no-stun, or name a server with --stun, to learn more");
  if (kind === "public" || kind === "cone" || kind === "nat")
    advice.push("To learn more, name a STUN server that knows RFC 5780 (--stun), such as your own coturn");
  return advice;
}

/** Why what the router opens leads nowhere. */
function doubleNat({ mapping }: Findings): string | undefined {
  if (mapping?.address === undefined || scopeOf(mapping.address) === "public") return undefined;
  const whose = scopeOf(mapping.address) === "carrier" ? "the provider's" : "another router's";
  return `The router opens ports, but its own outer address ${mapping.address} is behind ${whose} NAT: put that one into bridge mode, or ask the provider for a public address`;
}

/** What is not as it should be, whatever the kind of network. */
function troubles(findings: Findings): string[] {
  const { interfaces, nat, mapping, turn = [], rendezvous } = findings;
  const [ipv4, ipv6] = [judgeNat(findings, 4), judgeNat(findings, 6)];
  const found: string[] = [];
  for (const { host, port } of [...ipv4.odd, ...ipv6.odd])
    found.push(
      `The STUN server ${host}:${port} sees another address than the others: leave it out, unless this network has several ways out`,
    );
  const answers = [...(nat?.ipv4.answers ?? []), ...(nat?.ipv6.answers ?? [])];
  for (const { server, outcome } of answers)
    if (outcome === "garbage" || outcome === "refused")
      found.push(`${server.host}:${server.port} is no STUN server: leave it out`);
  if (nat && allUnresolved(nat))
    found.push("No name of a STUN server could be looked up: is there a name server?");
  for (const { server, ok, error } of turn)
    if (!ok)
      found.push(`The TURN server ${server.host}:${server.port} cannot be used: ${error ?? "no answer"}`);
  if (rendezvous?.error) found.push(rendezvousTrouble(rendezvous));
  const clock = rendezvous?.health?.clockSeconds ?? 0;
  if (Math.abs(clock) > MAX_CLOCK_SECONDS)
    found.push(
      `Set the clock: it is ${Math.round(Math.abs(clock))} s ${clock > 0 ? "behind" : "ahead of"} the rendezvous', and credentials of TURN servers and certificates depend on it`,
    );
  if (mapping?.address !== undefined && isDoubtful(mapping.address, ipv4))
    found.push(
      `The router says that its outer address is ${mapping.address}, and the world sees ${ipv4.outer?.address ?? "another one"}: ports that it opens may not be reachable`,
    );
  for (const name of new Set(interfaces.map((each) => each.name)))
    if (kindOfInterface(name) === "vpn")
      found.push(`${name} looks like a VPN: if it is the way out, this is the network behind it`);
  for (const { name, mtu } of interfaces)
    if (mtu !== undefined && mtu < MIN_MTU && !found.some((text) => text.startsWith(`${name} carries`)))
      found.push(`${name} carries packets of ${mtu} bytes only; less than ${MIN_MTU} may be too little`);
  return found;
}

function rendezvousTrouble({ error, health, proxy }: NonNullable<Findings["rendezvous"]>): string {
  const way = proxy === undefined ? "" : `, through the proxy ${proxy}`;
  if (health?.status === 200)
    return `The rendezvous answers, but no WebSocket comes through${way}: something in between may not know them (${error?.message ?? ""})`;
  return `The rendezvous is out of reach${way}: ${error?.message ?? "no answer"}`;
}

function isDoubtful(address: string, { outer }: Nat): boolean {
  return scopeOf(address) === "public" && outer !== undefined && outer.address !== address;
}
