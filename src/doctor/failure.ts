/** Why two sides did not connect: the pairs of addresses that were tried, the likely reason, and what to do. */
import type { Candidate } from "../wire/candidate.ts";
import { familyOf, scopeOf } from "./address.ts";

export interface FailedConnection {
  readonly local: readonly Candidate[];
  /** What was heard of the other side: from its token, its answer, or through the rendezvous. */
  readonly remote: readonly Candidate[];
  /** `off`: no STUN server was to be asked. */
  readonly stun: "answered" | "silent" | "off";
  /** What our NAT does, as far as it was seen (RFC 4787, section 4.1). */
  readonly mapping: "independent" | "dependent" | "unknown";
  /** TURN servers that were named here, and whether one gave an address. */
  readonly turn: { readonly given: number; readonly relayed: boolean };
  /** The rendezvous' relay: not wanted, not there (by paste), not to be had, or without success. */
  readonly relay: "off" | "none" | "unavailable" | "tried";
  readonly signalling: "paste" | "code";
  /** Whether the other side is known to have our addresses: its answer has come, or something of it was heard. */
  readonly answered: boolean;
}

export interface Explanation {
  /** `10.0.0.2:5000 -> 203.0.113.5:6000 (host, srflx)`, the likelier ones first. */
  readonly pairs: readonly string[];
  /** In lower case, without a full stop. */
  readonly reason: string;
  readonly hint: string;
}

/** More than this nobody reads, and the first ones tell it all. */
const MAX_PAIRS = 12;

export function explainFailure(failed: FailedConnection): Explanation {
  return { pairs: pairsOf(failed), ...(whyNotTried(failed) ?? whyNotReached(failed)) };
}

type Cause = Omit<Explanation, "pairs">;

// ---- pairs ----------------------------------------------------------------------------------------------------------

function pairsOf({ local, remote }: FailedConnection): string[] {
  const rank = (type: Candidate["type"]): number => ["host", "srflx", "relay"].indexOf(type);
  return local
    .flatMap((own) => remote.map((other) => ({ own, other })))
    .filter(({ own, other }) => familyOf(own.address) === familyOf(other.address))
    .sort((a, b) => rank(a.own.type) + rank(a.other.type) - rank(b.own.type) - rank(b.other.type))
    .slice(0, MAX_PAIRS)
    .map(({ own, other }) => `${place(own)} -> ${place(other)} (${own.type}, ${other.type})`);
}

function place({ address, port }: Candidate): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

// ---- reasons --------------------------------------------------------------------------------------------------------

/** Nothing could come of it, because one side did not know where to call. */
function whyNotTried({ local, remote, stun, signalling, answered }: FailedConnection): Cause | undefined {
  if (remote.length === 0) {
    if (signalling === "code")
      return {
        reason: "the other side told no address at which it can be called",
        hint: "dcpipe doctor on the other side says what its network lets through",
      };
    return {
      reason:
        "this side was never told where the other one is: its answer was not pasted here, and it could not call by itself",
      hint: "paste the answer that the other side shows, or meet by code (--rendezvous URL), where nothing is pasted back",
    };
  }
  if (local.length === 0)
    return {
      reason: "this machine has no address with which it could call anybody",
      hint: "connect it to a network",
    };
  const common = local.some((own) =>
    remote.some((other) => familyOf(own.address) === familyOf(other.address)),
  );
  if (!common)
    return {
      reason: `one side has IPv4 addresses only and the other IPv6 addresses only, so they cannot call each other`,
      hint: "meet by code (--rendezvous URL): the rendezvous' relay joins the two; so does a TURN server that both sides name (--turn)",
    };
  const blocked = stun === "silent" && !isKnownOutside(local);
  if (signalling === "paste" && !answered && !blocked)
    return {
      reason:
        "the other side could not be called, and perhaps does not know where this one is: was the answer pasted there?",
      hint: "paste the answer at the side that printed the offer, within the time of its --timeout",
    };
  return undefined;
}

/** Both sides called, and nothing came through. */
function whyNotReached(failed: FailedConnection): Cause {
  const { local, remote, stun, mapping } = failed;
  if (!isKnownOutside(remote) && isSameNetwork(local, remote))
    return {
      reason:
        "both sides are in one local network, and nothing came through between them: a firewall on one of the machines, or a Wi-Fi that keeps its clients apart",
      hint: advice(failed, "let UDP in at the side that waits (--port-range names the ports)"),
    };
  if (stun === "silent" && !isKnownOutside(local))
    return {
      reason: "no STUN server answered, so UDP is probably blocked in this network",
      hint: advice(failed, "ask the administrator to let UDP out"),
    };
  if (!isKnownOutside(remote)) {
    const both = !isKnownOutside(local);
    return {
      reason: both
        ? "both sides know only private addresses, of different networks"
        : `the other side knows only private addresses (${hostsOf(remote)}): no STUN server answered there, or none was asked`,
      hint:
        both && stun === "off"
          ? "leave out --no-stun on both sides, so that public addresses are found"
          : advice(failed, "run dcpipe doctor there"),
    };
  }
  if (!isKnownOutside(local))
    return {
      reason: "this side knows only private addresses, because no STUN server was asked",
      hint: "leave out --no-stun, so that a public address is found",
    };
  if (mapping === "dependent")
    return {
      reason:
        "the NAT here is symmetric: it calls from a port that nobody can know beforehand, and the other side lets in only ports it has called",
      hint: advice(failed),
    };
  if (sharedAddress(local, remote))
    return {
      reason:
        "both sides are behind the same NAT, which does not lead back in what goes to its own outer address",
      hint: advice(failed, "put both into the same local network"),
    };
  return {
    reason:
      mapping === "independent"
        ? "this NAT is no obstacle, so the other side's is symmetric, or its network blocks UDP"
        : "one of the two NATs is symmetric, or a firewall blocks UDP between the two",
    hint: advice(failed, "dcpipe doctor on both sides tells which"),
  };
}

/** What still leads through, and what has been tried of it. */
function advice({ turn, relay, signalling }: FailedConnection, first?: string): string {
  const ways: string[] = first === undefined ? [] : [first];
  if (turn.given > 0 && !turn.relayed)
    ways.push(
      "the TURN server gave no address: are it, the user and the password right? dcpipe doctor tries it",
    );
  else if (turn.given === 0) ways.push("name a TURN server (--turn)");
  else ways.push("the TURN server's address did not help: name one at the other side, too");
  if (signalling === "paste") ways.push("meet by code (--rendezvous URL), where the rendezvous relays");
  else if (relay === "off")
    ways.push("leave out --relay off: the rendezvous relays where nothing else leads through");
  else if (relay === "unavailable" || relay === "none")
    ways.push("this rendezvous does not relay: use another one");
  else ways.push("the rendezvous' relay failed as well: is the rendezvous still reached from both sides?");
  return ways.join("; or ");
}

/** Whether anybody outside could know an address of this side. */
function isKnownOutside(candidates: readonly Candidate[]): boolean {
  return candidates.some(({ type, address }) => type !== "host" || scopeOf(address) === "public");
}

/** /24 and /64: what most local networks are. */
function isSameNetwork(local: readonly Candidate[], remote: readonly Candidate[]): boolean {
  const networks = new Set(local.map(({ address }) => networkOf(address)));
  return remote.some(({ address }) => networks.has(networkOf(address)));
}

function networkOf(address: string): string {
  return familyOf(address) === 4 ? address.replace(/\.\d+$/, "") : address.split(":").slice(0, 4).join(":");
}

function sharedAddress(local: readonly Candidate[], remote: readonly Candidate[]): boolean {
  const outer = (list: readonly Candidate[]): string[] =>
    list.filter(({ type }) => type === "srflx").map(({ address }) => address);
  return outer(local).some((address) => outer(remote).includes(address));
}

function hostsOf(candidates: readonly Candidate[]): string {
  const addresses = [...new Set(candidates.map(({ address }) => address))];
  return addresses.slice(0, 3).join(", ") + (addresses.length > 3 ? ", ..." : "");
}
