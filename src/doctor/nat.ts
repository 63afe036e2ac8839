/** From what sockets saw to what a NAT does, in the words of RFC 4787, sections 4 to 6. */
import { familyOf, scopeOf } from "./address.ts";
import type {
  Endpoint,
  FamilyObservations,
  Findings,
  InterfaceAddress,
  NatObservations,
  Server,
  StunAnswer,
} from "./findings.ts";

export interface Nat {
  /** `none`: this family is not there; `unknown`: nobody was asked. */
  readonly udp: "unknown" | "none" | "blocked" | "works";
  /** Where we come from, as the servers see it. */
  readonly outer: Endpoint | undefined;
  /** `none`: no NAT. `dependent`: the outer port differs, and nobody could tell on what it depends. */
  readonly mapping: "unknown" | "none" | "independent" | "address" | "address-and-port" | "dependent";
  readonly filtering: "unknown" | "independent" | "address" | "address-and-port";
  readonly hairpin: "unknown" | "yes" | "no";
  /** Whether the outer port is our own; undefined without a NAT. */
  readonly keepsPort: boolean | undefined;
  /** Servers that see another address than most. */
  readonly odd: readonly Server[];
  /** By the tests of RFC 5780, not only by comparing what several servers saw. */
  readonly tested: boolean;
}

const NOT_ASKED: Nat = {
  udp: "unknown",
  outer: undefined,
  mapping: "unknown",
  filtering: "unknown",
  hairpin: "unknown",
  keepsPort: undefined,
  odd: [],
  tested: false,
};

/** System errors that mean: no address of this family, or no way for it. */
const NO_FAMILY = ["ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT", "EHOSTUNREACH"];

export function judgeNat(findings: Findings, family: 4 | 6): Nat {
  const { nat, interfaces } = findings;
  const seen = nat?.[family === 4 ? "ipv4" : "ipv6"];
  if (seen && seen.answers.length > 0) return judge(seen, interfaces, family);
  if (!hasFamily(interfaces, family)) return { ...NOT_ASKED, udp: "none" };
  // Without a name server nobody is reached, whatever else there is.
  return nat && allUnresolved(nat) ? { ...NOT_ASKED, udp: "blocked" } : NOT_ASKED;
}

export function allUnresolved({ ipv4, ipv6, unresolved }: NatObservations): boolean {
  return unresolved.length > 0 && ipv4.answers.length === 0 && ipv6.answers.length === 0;
}

/** Whether there is an address with which one could get out. */
function hasFamily(interfaces: readonly InterfaceAddress[], family: 4 | 6): boolean {
  const wanted = family === 4 ? ["public", "private", "carrier"] : ["public"];
  return interfaces.some(({ address }) => familyOf(address) === family && wanted.includes(scopeOf(address)));
}

type Answered = StunAnswer & { readonly mapped: Endpoint };

function judge(seen: FamilyObservations, interfaces: readonly InterfaceAddress[], family: 4 | 6): Nat {
  const all = seen.answers.filter((answer): answer is Answered => answer.mapped !== undefined);
  if (all.length === 0) {
    const none = seen.answers.every(({ detail = "" }) => NO_FAMILY.includes(detail));
    return { ...NOT_ASKED, udp: none ? "none" : "blocked" };
  }
  const answered = all.filter((answer) => isCredible(answer, family));
  const address = mostSeen(answered.map(({ mapped }) => mapped.address));
  const agreeing = answered.filter(({ mapped }) => mapped.address === address);
  const { mapping, outer, tested } = judgeMapping(seen, agreeing);
  // Where most agree on a port, who sees another one is wrong, too.
  const odd = all.filter(
    ({ mapped }) => mapped.address !== address || (mapping === "independent" && mapped.port !== outer?.port),
  );
  const direct = outer !== undefined && isOwn(outer.address, interfaces);
  return {
    udp: "works",
    outer,
    mapping: direct ? "none" : mapping,
    filtering: judgeFiltering(seen.admits),
    hairpin: direct || seen.hairpin === undefined ? "unknown" : seen.hairpin ? "yes" : "no",
    keepsPort: direct || !outer ? undefined : outer.port === seen.localPort,
    odd: odd.map(({ server }) => server),
    tested,
  };
}

function judgeMapping(
  { mappings }: FamilyObservations,
  agreeing: readonly Answered[],
): { mapping: Nat["mapping"]; outer: Endpoint | undefined; tested: boolean } {
  const ports = agreeing.map(({ mapped }) => mapped.port);
  const port = mostSeen(ports);
  const outer = agreeing.find(({ mapped }) => mapped.port === port)?.mapped;
  if (!outer) return { mapping: "unknown", outer, tested: false };
  // RFC 5780, section 4.3, with a server that sees what most see.
  if (mappings?.otherAddress && mappings.seen.address === outer.address) {
    const { seen, otherAddress, otherAddressAndPort } = mappings;
    if (same(seen, otherAddress)) return { mapping: "independent", outer: seen, tested: true };
    const mapping = !otherAddressAndPort
      ? "dependent"
      : same(otherAddress, otherAddressAndPort)
        ? "address"
        : "address-and-port";
    return { mapping, outer: seen, tested: true };
  }
  const places = new Set(agreeing.map(({ address }) => address));
  const agreed = agreeing.filter(({ mapped }) => mapped.port === port);
  if (new Set(agreed.map(({ address }) => address)).size > 1)
    return { mapping: "independent", outer, tested: false };
  if (places.size > 1) return { mapping: "dependent", outer, tested: false };
  if (mappings?.otherPort)
    return {
      mapping: same(mappings.seen, mappings.otherPort) ? "independent" : "address-and-port",
      outer,
      tested: false,
    };
  return { mapping: "unknown", outer, tested: false };
}

/** RFC 5780, section 4.4. */
function judgeFiltering(admits: FamilyObservations["admits"]): Nat["filtering"] {
  if (!admits) return "unknown";
  if (admits.otherAddress) return "independent";
  return admits.otherPort ? "address" : "address-and-port";
}

/** The value that stands there most often, the first of several. */
function mostSeen<T>(values: readonly T[]): T | undefined {
  const count = (value: T): number => values.filter((each) => each === value).length;
  return values.reduce<T | undefined>(
    (best, value) => (best === undefined || count(value) > count(best) ? value : best),
    undefined,
  );
}

/** No server sees us at an address that leads nowhere, unless it is on this machine itself. */
function isCredible({ mapped, address = "" }: Answered, family: 4 | 6): boolean {
  if (familyOf(mapped.address) !== family) return false;
  return scopeOf(mapped.address) !== "link-local" || scopeOf(address) === "link-local";
}

/** A server on this machine sees us on loopback, which is no interface worth listing. */
const LOOPBACK = ["127.0.0.1", "::1"];

function isOwn(address: string, interfaces: readonly InterfaceAddress[]): boolean {
  return LOOPBACK.includes(address) || interfaces.some((each) => each.address === address);
}

function same(a: Endpoint, b: Endpoint): boolean {
  return a.address === b.address && a.port === b.port;
}
