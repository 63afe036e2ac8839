/**
 * What two networks make of each other (RFC 4787; RFC 5128, section 3.3). A packet passes a NAT from outside
 *
 *   when it filters nobody: a public address, a full cone, a port that the router has opened
 *   when it looks the same to everybody, and has called the address that the packet comes from    address-dependent filtering
 *   the same, with the port, which has to be known beforehand: not behind a symmetric NAT         address- and port-dependent filtering
 *
 * Both sides call, so one direction is enough. What is not known is taken at its best and at its worst.
 */
import type { Answer, FamilyReport, Report } from "../wire/report.ts";

export type Way = "direct" | "turn" | "relay" | "none";

export interface Outcome {
  readonly by: "paste" | "code";
  /** With a TURN server, which is reached over TCP or TLS where UDP is blocked. */
  readonly turn: boolean;
  /** What is to be expected; the best of what may be when not all is known. */
  readonly way: Way;
  readonly why: string;
  /** What else may come, when not all is known; otherwise the same as `way`. */
  readonly atWorst: Way;
  /** Why it may come to that. */
  readonly otherwise: string | undefined;
}

export interface Prediction {
  readonly outcomes: readonly Outcome[];
  /** Whether the other side needs no answer pasted when this one, or that one, waits. */
  readonly onePaste: { readonly here: Answer; readonly there: Answer };
}

/** `here` and `there` are the sides as the texts call them. */
export function predict(here: Report, there: Report): Prediction {
  const best = [complete(here, BEST), complete(there, BEST)] as const;
  const worst = [complete(here, WORST), complete(there, WORST)] as const;
  const outcomes = (["paste", "code"] as const).flatMap((by) =>
    [false, true].map((turn): Outcome => {
      const hoped = expect(...best, { by, turn, sameNetwork: true });
      const feared = expect(...worst, { by, turn, sameNetwork: false });
      return {
        by,
        turn,
        ...hoped,
        atWorst: feared.way,
        otherwise: feared.way === hoped.way ? undefined : feared.why,
      };
    }),
  );
  const answer = (hoped: boolean, sure: boolean): Answer => (sure ? "yes" : hoped ? "unknown" : "no");
  return {
    outcomes,
    onePaste: {
      here: answer(isOpenTo(best[0], best[1]), isOpenTo(worst[0], worst[1])),
      there: answer(isOpenTo(best[1], best[0]), isOpenTo(worst[1], worst[0])),
    },
  };
}

// ---- what is not known ----------------------------------------------------------------------------------------------

/** A family of addresses with which UDP works, and nothing is left open. */
interface Family {
  readonly mapping: "none" | "independent" | "dependent";
  readonly filtering: "independent" | "address" | "address-and-port";
  readonly hairpin: boolean;
  /** A port is open by the router's leave. */
  readonly mapped: boolean;
}

interface Side {
  /** Undefined where UDP does not pass. */
  readonly ipv4: Family | undefined;
  readonly ipv6: Family | undefined;
  /** Families that are there, whatever becomes of UDP. */
  readonly families: readonly (4 | 6)[];
  readonly rendezvous: boolean;
  readonly place: number;
}

const BEST = { udp: true, mapping: "independent", filtering: "independent", yes: true } as const;
const WORST = { udp: false, mapping: "dependent", filtering: "address-and-port", yes: false } as const;

function complete(report: Report, unknown: typeof BEST | typeof WORST): Side {
  const decide = (answer: Answer): boolean => (answer === "unknown" ? unknown.yes : answer === "yes");
  const family = (
    { udp, mapping, filtering, hairpin }: FamilyReport,
    mapped: boolean,
  ): Family | undefined => {
    if (udp === "unknown" ? !unknown.udp : udp !== "works") return undefined;
    return {
      mapping: mapping === "unknown" ? unknown.mapping : mapping,
      filtering: filtering === "unknown" ? unknown.filtering : filtering,
      hairpin: decide(hairpin),
      mapped,
    };
  };
  const { ipv4, ipv6, portMapping } = report;
  return {
    // A router that nobody has asked opens no port.
    ipv4: family(ipv4, portMapping === "yes" || (portMapping === "doubtful" && unknown.yes)),
    ipv6: family(ipv6, false),
    families: [...(ipv4.udp === "none" ? [] : [4 as const]), ...(ipv6.udp === "none" ? [] : [6 as const])],
    // Who thinks of a code has a rendezvous.
    rendezvous: report.rendezvous !== "no",
    place: report.place,
  };
}

// ---- what follows ---------------------------------------------------------------------------------------------------

interface Expected {
  readonly way: Way;
  readonly why: string;
}

interface Manner {
  readonly by: "paste" | "code";
  readonly turn: boolean;
  /** Two sides behind one NAT are on one local network. */
  readonly sameNetwork: boolean;
}

function expect(here: Side, there: Side, { by, turn, sameNetwork }: Manner): Expected {
  const unmet = [here, there].map(({ rendezvous }, i) => (rendezvous ? [] : [WHERE[i]])).flat();
  if (by === "code" && unmet.length > 0)
    return { way: "none", why: `the rendezvous is out of reach ${unmet.join(" and ")}` };
  const { direct, why, punchable = false } = tryDirect(here, there, sameNetwork);
  if (direct) return { way: "direct", why };
  // A relayed address is one of both families' world: IPv4, lent over IPv6 as well.
  if (turn && here.families.length > 0 && there.families.length > 0)
    return { way: "turn", why: `${why}; a TURN server carries it${overStreams(here, there)}` };
  // From one socket to 256 of the other side's: connect/punching.ts.
  const later = punchable ? ", and after some seconds hole punching may find a direct path" : "";
  if (by === "code") return { way: "relay", why: `${why}; the rendezvous carries it, sealed${later}` };
  return { way: "none", why };
}

const WHERE = ["here", "there"] as const;

function overStreams(here: Side, there: Side): string {
  const blocked = [here, there].map(({ ipv4, ipv6 }, i) => (ipv4 || ipv6 ? [] : [WHERE[i]])).flat();
  return blocked.length === 0 ? "" : `, which has to be named ${blocked.join(" and ")}, over TCP or TLS`;
}

interface Direct {
  readonly direct: boolean;
  readonly why: string;
  /** Only one of the two NATs is in the way. */
  readonly punchable?: boolean;
}

function tryDirect(here: Side, there: Side, sameNetwork: boolean): Direct {
  const yes = (why: string): Direct => ({ direct: true, why });
  const no = (why: string): Direct => ({ direct: false, why });
  if (here.ipv6 && there.ipv6 && (admits(here.ipv6, there.ipv6) || admits(there.ipv6, here.ipv6)))
    return yes("both have IPv6");
  const [a, b] = [here.ipv4, there.ipv4];
  const sameNat = here.place !== 0 && here.place === there.place;
  if (sameNat && sameNetwork) return yes("both seem to be behind the same NAT, in one local network");
  if (!a || !b) return no(noFamily(here, there));
  if (sameNat && !a.hairpin && !b.hairpin)
    return no(
      "both seem to be behind the same NAT, which does not lead back in what goes to its own outer address",
    );
  for (const [side, where] of [
    [a, "here"],
    [b, "there"],
  ] as const) {
    if (side.mapped) return yes(`the router ${where} opens a port to everybody`);
    if (side.filtering === "independent") return yes(`anybody can reach the side ${where}`);
  }
  const [symmetricHere, symmetricThere] = [a.mapping === "dependent", b.mapping === "dependent"];
  if (admits(a, b) || admits(b, a)) {
    if (!symmetricHere && !symmetricThere)
      return yes("both sides look the same to everybody, so that each can open the way for the other");
    const [symmetric, other] = symmetricHere ? WHERE : [WHERE[1], WHERE[0]];
    return yes(
      `the NAT ${symmetric} is symmetric, but ${other} any port of an address that was called is let in`,
    );
  }
  if (symmetricHere && symmetricThere)
    return no("both NATs are symmetric: neither side can know from which port the other calls");
  const [symmetric, other] = symmetricHere ? WHERE : [WHERE[1], WHERE[0]];
  return {
    direct: false,
    why: `the NAT ${symmetric} is symmetric: it calls from a port that nobody knows beforehand, and ${other} only known ports are let in`,
    punchable: true,
  };
}

/** Whether what `from` sends to the address that `to` told it comes in, once `to` has called the address that `from` told. */
function admits(to: Family, from: Family): boolean {
  if (to.mapped || to.filtering === "independent") return true;
  // What it has opened by calling is another port than the one it told.
  if (to.mapping === "dependent") return false;
  return to.filtering === "address" || from.mapping !== "dependent";
}

/** Whether `to` can be called without having called anybody. */
function isOpenTo(to: Side, from: Side): boolean {
  const open = (own: Family | undefined, other: Family | undefined): boolean =>
    own !== undefined && other !== undefined && (own.mapped || own.filtering === "independent");
  return open(to.ipv4, from.ipv4) || open(to.ipv6, from.ipv6);
}

function noFamily(here: Side, there: Side): string {
  const lacking = [here, there].map(({ ipv4, ipv6 }, i) => (ipv4 || ipv6 ? [] : [WHERE[i]])).flat();
  if (lacking.length > 0) return `UDP does not pass ${lacking.join(" and ")}`;
  return `UDP passes over ${here.ipv4 ? "IPv4" : "IPv6"} here and over ${there.ipv4 ? "IPv4" : "IPv6"} there, which do not meet`;
}
