/** What is concluded: verdicts, what two networks make of each other, why a connection failed; and the examination's limits. */
import { describe, expect, test } from "vitest";
import { kindOfInterface, scopeOf } from "../../src/doctor/address.ts";
import { examine, type ExamineOptions, type Probes } from "../../src/doctor/examine.ts";
import { explainFailure, type FailedConnection } from "../../src/doctor/failure.ts";
import type { FamilyObservations, Findings, MappingProbe, StunAnswer } from "../../src/doctor/findings.ts";
import { KINDS, kindOf, type NetworkKind } from "../../src/doctor/kind.ts";
import { predict, type Outcome, type Way } from "../../src/doctor/predict.ts";
import { reportOf, reportOfAddresses } from "../../src/doctor/report.ts";
import { verdictOf } from "../../src/doctor/verdict.ts";
import { DcpipeError } from "../../src/errors.ts";
import type { Candidate } from "../../src/wire/candidate.ts";
import {
  decodeReport,
  encodeReport,
  looksLikeReport,
  placeOf,
  type FamilyReport,
  type Report,
} from "../../src/wire/report.ts";

// ---- reports --------------------------------------------------------------------------------------------------------

const NO_IPV6: FamilyReport = { udp: "none", mapping: "unknown", filtering: "unknown", hairpin: "unknown" };
const NOT_ASKED: FamilyReport = { ...NO_IPV6, udp: "unknown" };

function family(mapping: FamilyReport["mapping"], filtering: FamilyReport["filtering"]): FamilyReport {
  return { udp: "works", mapping, filtering, hairpin: "no" };
}

const IPV4: Readonly<Record<string, FamilyReport>> = {
  open: family("none", "independent"),
  firewall: family("none", "address-and-port"),
  "full-cone": family("independent", "independent"),
  "address-restricted": family("independent", "address"),
  "port-restricted": family("independent", "address-and-port"),
  symmetric: family("dependent", "address-and-port"),
  "udp-blocked": { ...NO_IPV6, udp: "blocked" },
};

/** Each in a place of its own. */
function side(ipv4: FamilyReport, more: Partial<Report> = {}): Report {
  places++;
  return {
    ipv4,
    ipv6: NO_IPV6,
    portMapping: "no",
    rendezvous: "yes",
    turn: false,
    place: places,
    ...more,
  };
}

let places = 0;

function of(kind: string): FamilyReport {
  const found = IPV4[kind];
  if (!found) throw new Error(kind);
  return found;
}

function outcome(here: Report, there: Report, by: "paste" | "code", turn = false): Outcome {
  const found = predict(here, there).outcomes.find((each) => each.by === by && each.turn === turn);
  if (!found) throw new Error("no outcome");
  return found;
}

function ways(here: Report, there: Report): string {
  return predict(here, there)
    .outcomes.map(({ way, atWorst }) => (way === atWorst ? way : `${way}/${atWorst}`))
    .join(" ");
}

/** By paste, by paste with TURN, by code, by code with TURN. */
const DIRECT = "direct direct direct direct";
const RELAYED = "none turn relay turn";

/** RFC 4787 and RFC 5128, for every pair of kinds: whether packets can pass both ways without anybody in between. */
const DIRECT_PAIRS: Readonly<Record<string, readonly string[]>> = {
  open: ["open", "firewall", "full-cone", "address-restricted", "port-restricted", "symmetric"],
  firewall: ["open", "firewall", "full-cone", "address-restricted", "port-restricted"],
  "full-cone": ["open", "firewall", "full-cone", "address-restricted", "port-restricted", "symmetric"],
  "address-restricted": [
    "open",
    "firewall",
    "full-cone",
    "address-restricted",
    "port-restricted",
    "symmetric",
  ],
  "port-restricted": ["open", "firewall", "full-cone", "address-restricted", "port-restricted"],
  symmetric: ["open", "full-cone", "address-restricted"],
  "udp-blocked": [],
};

describe("two networks", () => {
  const kinds = Object.keys(IPV4);
  test.each(kinds.flatMap((here) => kinds.map((there) => [here, there] as const)))(
    "%s and %s",
    (here, there) => {
      const expected = DIRECT_PAIRS[here]?.includes(there) ? DIRECT : RELAYED;
      expect(ways(side(of(here)), side(of(there)))).toBe(expected);
    },
  );

  test("the table holds both ways", () => {
    for (const here of kinds)
      for (const there of kinds)
        expect(DIRECT_PAIRS[here]?.includes(there)).toBe(DIRECT_PAIRS[there]?.includes(here));
  });

  test("IPv6 on both sides is direct whatever the NATs do", () => {
    const ipv6 = family("none", "address-and-port");
    const [here, there] = [side(of("symmetric"), { ipv6 }), side(of("symmetric"), { ipv6 })];
    expect(ways(here, there)).toBe(DIRECT);
    expect(outcome(here, there, "paste").why).toMatch(/IPv6/);
    expect(ways(here, side(of("symmetric")))).toBe(RELAYED);
  });

  test("one family each: a TURN server joins them, or the rendezvous does", () => {
    const none = { ...NO_IPV6 };
    const there = side(none, { ipv6: family("none", "independent") });
    expect(ways(side(of("open")), there)).toBe("none turn relay turn");
    expect(outcome(side(of("open")), there, "paste").why).toMatch(/IPv4 here and over IPv6 there/);
  });

  test("a port that the router opens makes a side reachable for symmetric NATs", () => {
    const mapped = side(of("port-restricted"), { portMapping: "yes" });
    expect(ways(mapped, side(of("symmetric")))).toBe(DIRECT);
    expect(predict(mapped, side(of("symmetric"))).onePaste).toEqual({ here: "yes", there: "no" });
    expect(ways(mapped, side(of("udp-blocked")))).toBe(RELAYED);
    const doubtful = side(of("port-restricted"), { portMapping: "doubtful" });
    expect(ways(doubtful, side(of("symmetric")))).toBe("direct/none direct/turn direct/relay direct/turn");
    // A router that was not asked opens none.
    const unasked = side(of("port-restricted"), { portMapping: "unknown" });
    expect(ways(unasked, side(of("symmetric")))).toBe(RELAYED);
  });

  test("behind the same NAT it depends on the local network and on hairpinning", () => {
    const ipv4 = of("port-restricted");
    const [here, there] = [side(ipv4, { place: 77 }), side(ipv4, { place: 77 })];
    expect(ways(here, there)).toBe("direct/none direct/turn direct/relay direct/turn");
    expect(outcome(here, there, "paste")).toMatchObject({
      why: expect.stringMatching(/same NAT.*local network/) as string,
      otherwise: expect.stringMatching(/does not lead back/) as string,
    });
    const hairpin = { ...ipv4, hairpin: "yes" } as const;
    expect(ways(side(hairpin, { place: 77 }), side(hairpin, { place: 77 }))).toBe(DIRECT);
    // No place is nobody's.
    expect(ways(side(of("symmetric"), { place: 0 }), side(of("symmetric"), { place: 0 }))).toBe(RELAYED);
  });

  test("what is not known is taken at its best and at its worst", () => {
    const cone = side(family("independent", "unknown"));
    expect(ways(cone, side(of("port-restricted")))).toBe(DIRECT);
    expect(ways(cone, side(of("symmetric")))).toBe("direct/none direct/turn direct/relay direct/turn");
    expect(predict(cone, side(of("open"))).onePaste).toEqual({ here: "unknown", there: "yes" });
    expect(ways(side(NOT_ASKED), side(of("open")))).toBe("direct/none direct/turn direct/relay direct/turn");
  });

  test("without the rendezvous there is no code", () => {
    const here = side(of("open"), { rendezvous: "no" });
    expect(ways(here, side(of("open")))).toBe("direct direct none none");
    expect(outcome(here, side(of("open")), "code").why).toMatch(/rendezvous is out of reach here/);
    expect(ways(side(of("open"), { rendezvous: "unknown" }), side(of("symmetric")))).toBe(DIRECT);
  });

  test("reasons name the side", () => {
    const [restricted, symmetric, blocked] = ["port-restricted", "symmetric", "udp-blocked"].map((kind) =>
      side(of(kind)),
    ) as [Report, Report, Report];
    expect(outcome(restricted, symmetric, "paste").why).toMatch(/^the NAT there is symmetric.* here only/);
    expect(outcome(symmetric, restricted, "paste").why).toMatch(/^the NAT here is symmetric.* there only/);
    expect(outcome(symmetric, side(of("symmetric")), "paste").why).toMatch(/both NATs are symmetric/);
    expect(outcome(restricted, blocked, "paste").why).toBe("UDP does not pass there");
    expect(outcome(blocked, restricted, "paste", true).why).toMatch(/named here, over TCP or TLS/);
    expect(outcome(blocked, side(of("udp-blocked")), "code").why).toMatch(/UDP does not pass here and there/);
  });

  test("hole punching is hoped for where one NAT is in the way, and where there is a session to begin with", () => {
    const [restricted, symmetric] = [side(of("port-restricted")), side(of("symmetric"))];
    expect(outcome(restricted, symmetric, "code").why).toMatch(/hole punching may find a direct path/);
    expect(outcome(symmetric, restricted, "code").why).toMatch(/hole punching/);
    for (const [one, other, by] of [
      [symmetric, side(of("symmetric")), "code"],
      [symmetric, side(of("udp-blocked")), "code"],
      [restricted, symmetric, "paste"],
    ] as const)
      expect(outcome(one, other, by).why).not.toMatch(/hole punching/);
  });

  test("one paste is enough where anybody can be called", () => {
    for (const kind of Object.keys(IPV4)) {
      const { onePaste } = predict(side(of(kind)), side(of("port-restricted")));
      expect(onePaste, kind).toEqual({
        here: ["open", "full-cone"].includes(kind) ? "yes" : "no",
        there: "no",
      });
    }
  });
});

/** What the lab's networks do, in the lab's words (test/netlab/kinds.js), and what theory says there of two of them. */
interface LabKind {
  readonly ipv4: readonly { readonly mapping: string; readonly filtering: string }[] | undefined;
  readonly ipv6: boolean;
  readonly out: string;
  readonly opensPorts: boolean;
}

const load = (name: string): Promise<unknown> =>
  import(new URL(`../netlab/${name}`, import.meta.url).href) as Promise<unknown>;
const lab = (await load("kinds.js")) as { KINDS: Readonly<Record<string, LabKind>> };
const theory = (await load("expectations.js")) as {
  expectedWay(one: string, other: string, means: "paste" | "paste-turn" | "code"): Way;
};

function reportOfKind({ ipv4, ipv6, out, opensPorts }: LabKind): Report {
  const has = (what: "mapping" | "filtering", value: string): boolean =>
    ipv4?.some((nat) => nat[what] === value) ?? false;
  const udp = out === "all" ? "works" : "blocked";
  const four: FamilyReport = {
    udp: ipv4 ? udp : "none",
    mapping:
      ipv4?.length === 0
        ? "none"
        : has("mapping", "address-and-port-dependent")
          ? "dependent"
          : "independent",
    filtering: has("filtering", "address-and-port-dependent")
      ? "address-and-port"
      : has("filtering", "address-dependent")
        ? "address"
        : "independent",
    hairpin: "no",
  };
  const six: FamilyReport = ipv6 ? family("none", "address-and-port") : NO_IPV6;
  return side(four, { ipv6: six, portMapping: opensPorts ? "yes" : "no" });
}

test("the lab's theory, which knows nothing of this one, says the same", () => {
  const names = Object.keys(lab.KINDS);
  expect(names.length).toBeGreaterThan(10);
  for (const one of names)
    for (const other of names) {
      const [here, there] = [one, other].map((name) => {
        const kind = lab.KINDS[name];
        if (!kind) throw new Error(name);
        return reportOfKind(kind);
      }) as [Report, Report];
      for (const means of ["paste", "paste-turn", "code"] as const) {
        const { way, atWorst } = outcome(
          here,
          there,
          means === "code" ? "code" : "paste",
          means === "paste-turn",
        );
        const expected = theory.expectedWay(one, other, means);
        expect([way, atWorst], `${one}, ${other}, ${means}`).toEqual([expected, expected]);
      }
    }
});

describe("reports", () => {
  test("hold all that a prediction needs, and read the same again", () => {
    for (const ipv4 of Object.values(IPV4))
      for (const portMapping of ["unknown", "yes", "no", "doubtful"] as const)
        for (const rendezvous of ["unknown", "yes", "no"] as const)
          for (const turn of [false, true]) {
            const report = { ...side(ipv4, { portMapping, rendezvous, turn }), place: 4096 };
            expect(decodeReport(encodeReport(report))).toEqual(report);
            expect(encodeReport(report)).toMatch(/^dcr1[\w-]{11}$/);
          }
  });

  test("a place is the same for one address, and no address comes of it", () => {
    expect(placeOf("203.0.113.7")).toBe(placeOf("203.0.113.7"));
    expect(placeOf("203.0.113.7")).not.toBe(placeOf("203.0.113.8"));
    for (const address of ["0.0.0.0", "255.255.255.255", "203.0.113.7", "100.64.0.1"]) {
      expect(placeOf(address)).toBeGreaterThan(0);
      expect(placeOf(address)).toBeLessThanOrEqual(4096);
    }
    expect(placeOf("2001:db8::1")).toBe(0);
    expect(placeOf(undefined)).toBe(0);
    // 4,096 places for so many addresses: a thousand of them stand for at most that many, and several share one.
    const found = new Set(Array.from({ length: 65_536 }, (_, i) => placeOf(`10.7.${i >> 8}.${i & 255}`)));
    expect(found.size).toBeLessThanOrEqual(4096);
    expect(found.size).toBeGreaterThan(2048);
  });

  test("are told from tokens and codes", () => {
    const report = encodeReport(side(of("open")));
    expect(looksLikeReport(`  "${report}"`)).toBe(true);
    for (const text of ["dc1EPDg0MCwoJCAcGBQQDAgEA", "7-guitar-sandwich", "xdcr1abc", ""])
      expect(looksLikeReport(text)).toBe(false);
  });

  test("tokens tell which addresses are public", () => {
    const host = (address: string): Candidate => ({ type: "host", address, port: 5000 });
    const srflx: Candidate = { type: "srflx", address: "198.51.100.7", port: 5000 };
    const relay: Candidate = { type: "relay", address: "198.51.100.9", port: 5000 };
    expect(reportOfAddresses([host("192.168.1.2"), srflx, relay])).toMatchObject({
      ipv4: { udp: "works", mapping: "unknown" },
      ipv6: { udp: "none" },
      turn: true,
      place: placeOf("198.51.100.7"),
    });
    expect(reportOfAddresses([host("203.0.113.4"), host("2001:db8::1")])).toMatchObject({
      ipv4: { udp: "unknown", mapping: "none" },
      ipv6: { udp: "unknown", mapping: "none" },
      place: 0,
    });
    expect(reportOfAddresses([host("192.168.1.2"), host("fd00::1")])).toMatchObject({
      ipv4: { udp: "unknown", mapping: "unknown" },
      ipv6: { udp: "none" },
      turn: false,
    });
    expect(reportOfAddresses([])).toMatchObject({ ipv4: { udp: "none" }, ipv6: { udp: "none" } });
  });
});

// ---- verdicts -------------------------------------------------------------------------------------------------------

const SERVER = { host: "stun.example", port: 3478 };
const OUTER = { address: "198.51.100.7", port: 40_000 };

function answer(more: Partial<StunAnswer> = {}): StunAnswer {
  return {
    server: SERVER,
    address: "203.0.113.1",
    outcome: "answered",
    mapped: OUTER,
    roundTripMs: 20,
    ...more,
  };
}

function seen(more: Partial<FamilyObservations> = {}): FamilyObservations {
  return {
    localPort: 40_000,
    answers: [answer()],
    mappings: undefined,
    admits: undefined,
    hairpin: undefined,
    ...more,
  };
}

const UNSEEN = seen({ localPort: undefined, answers: [] });

/** As RFC 5780 finds it: the same outer port everywhere, or another one at each place. */
function tested(
  mapping: "same" | "per address" | "per place",
  admits: { otherAddress: boolean; otherPort: boolean },
): FamilyObservations {
  const port = (n: number): { address: string; port: number } => ({ ...OUTER, port: OUTER.port + n });
  const [a, b] = { same: [0, 0], "per address": [1, 1], "per place": [1, 2] }[mapping] as [number, number];
  const mappings = {
    seen: OUTER,
    otherAddress: port(a),
    otherAddressAndPort: port(b),
    otherPort: undefined,
  };
  return seen({ mappings, admits, hairpin: false });
}

const ALL = { otherAddress: true, otherPort: true };
const PORTS = { otherAddress: false, otherPort: true };
const NOBODY = { otherAddress: false, otherPort: false };

function found(ipv4: FamilyObservations, more: Partial<Findings> = {}): Findings {
  return {
    interfaces: [{ name: "eth0", address: "192.168.1.2", mtu: 1500 }],
    nat: { ipv4, ipv6: UNSEEN, unresolved: [] },
    mapping: undefined,
    turn: [],
    rendezvous: undefined,
    proxies: [],
    milliseconds: 100,
    ...more,
  };
}

const PUBLIC = [{ name: "eth0", address: OUTER.address, mtu: 1500 }];
const SILENT = seen({ answers: [answer({ outcome: "silent", mapped: undefined })] });

function reached(more: object = {}): NonNullable<Findings["rendezvous"]> {
  return {
    url: "https://rendezvous.example/",
    proxy: undefined,
    health: { status: 200, clockSeconds: 0.3, roundTripMs: 30 },
    roundTripMs: 60,
    error: undefined,
    ...more,
  };
}

describe("verdicts", () => {
  test.each<[NetworkKind, Findings, RegExp]>([
    ["open", found(tested("same", ALL), { interfaces: PUBLIC }), /public address without NAT or firewall/],
    ["firewall", found(tested("same", NOBODY), { interfaces: PUBLIC }), /stateful firewall/],
    ["public", found(seen(), { interfaces: PUBLIC }), /public address without NAT/],
    ["full-cone", found(tested("same", ALL)), /endpoint-independent mapping and filtering/],
    ["address-restricted", found(tested("same", PORTS)), /address-dependent filtering/],
    ["port-restricted", found(tested("same", NOBODY)), /address- and port-dependent filtering/],
    ["symmetric", found(tested("per place", NOBODY)), /symmetric NAT/],
    ["symmetric", found(tested("per address", NOBODY)), /symmetric NAT/],
    ["nat", found(seen()), /NAT of unknown behaviour/],
    ["cone", found(seen({ answers: [answer(), answer({ address: "203.0.113.2" })] })), /as far as seen/],
    ["udp-blocked", found(SILENT), /blocks UDP/],
    ["unknown", found(UNSEEN, { nat: undefined }), /no STUN server was asked/],
    ["offline", found(UNSEEN, { nat: undefined, interfaces: [] }), /without a network/],
  ])("%s", (kind, findings, words) => {
    const verdict = verdictOf(findings);
    expect(verdict.kind).toBe(kind);
    expect(verdict.summary).toMatch(words);
    expect(verdict.summary).toContain(KINDS[kind].plain);
    expect(verdict.works.length).toBeGreaterThan(0);
    expect(kindOf(decodeReport(encodeReport(reportOf(findings))))).toBe(kind);
  });

  test("a way out is UDP, a rendezvous or a TURN server; nobody says what nobody tried", () => {
    const turn = [{ server: { ...SERVER, transport: "tls" as const }, ok: true }];
    expect(verdictOf(found(SILENT)).wayOut).toBe(false);
    expect(verdictOf(found(SILENT, { rendezvous: reached() })).wayOut).toBe(true);
    expect(verdictOf(found(SILENT, { turn })).wayOut).toBe(true);
    expect(verdictOf(found(UNSEEN, { nat: undefined, interfaces: [] })).wayOut).toBe(false);
    expect(verdictOf(found(UNSEEN, { nat: undefined })).wayOut).toBe(true);
    const error = new DcpipeError("SIGNALLING", "cannot reach it");
    expect(verdictOf(found(SILENT, { rendezvous: reached({ error }) })).wayOut).toBe(false);
  });

  test("UDP is blocked when the rendezvous is reached over TCP; then codes are the advice", () => {
    const { summary, advice } = verdictOf(found(SILENT, { rendezvous: reached() }));
    expect(summary).toMatch(/blocks UDP.*while the rendezvous was reached over TCP/);
    expect(advice[0]).toMatch(/codes.*relay/);
    expect(advice.join("\n")).toMatch(/administrator to let UDP out/);
    expect(verdictOf(found(SILENT)).summary).toMatch(/or none of those that were asked is alive/);
  });

  test("a machine's own firewall, and names that cannot be looked up, are told apart from the network", () => {
    const forbidden = answer({ outcome: "unreachable", mapped: undefined, detail: "EPERM" });
    expect(verdictOf(found(seen({ answers: [forbidden] }))).summary).toMatch(/own firewall/);
    const nat = { ipv4: UNSEEN, ipv6: UNSEEN, unresolved: [SERVER] };
    const { kind, advice } = verdictOf(found(UNSEEN, { nat }));
    expect(kind).toBe("udp-blocked");
    expect(advice.join()).toMatch(/name server/);
  });

  test("without a route there is no network, however many addresses there are", () => {
    const unreachable = answer({ outcome: "unreachable", mapped: undefined, detail: "ENETUNREACH" });
    expect(verdictOf(found(seen({ answers: [unreachable] }))).kind).toBe("offline");
  });

  test("IPv6 alone, and beside IPv4", () => {
    const ipv6 = seen({ answers: [answer({ mapped: { address: "2001:db8::2", port: 1 } })] });
    const interfaces = [{ name: "eth0", address: "2001:db8::2", mtu: 1500 }];
    const nat = { ipv4: UNSEEN, ipv6, unresolved: [] };
    expect(verdictOf(found(UNSEEN, { nat, interfaces })).kind).toBe("ipv6-only");
    const both = verdictOf(found(seen(), { nat: { ipv4: seen(), ipv6, unresolved: [] }, interfaces }));
    expect(both.kind).toBe("nat");
    expect(both.works.join()).toMatch(/IPv6 gets out/);
  });

  const gateway = "192.168.1.1";
  const speaks = (address?: string): MappingProbe => ({
    gateway,
    pcp: false,
    natPmp: false,
    upnp: true,
    address,
  });

  test("a router that opens ports makes this side the one that waits, unless there is a second NAT", () => {
    const with_ = (mapping: MappingProbe): ReturnType<typeof verdictOf> & { report: Report } => {
      const findings = found(tested("same", NOBODY), { mapping });
      return { ...verdictOf(findings), report: reportOf(findings) };
    };
    const good = with_(speaks(OUTER.address));
    expect(good.report.portMapping).toBe("yes");
    expect(good.advice[0]).toMatch(/Let this side wait/);
    for (const [inner, whose] of [
      ["192.168.178.1", /another router's NAT/],
      ["100.64.3.4", /the provider's NAT/],
    ] as const) {
      const double = with_(speaks(inner));
      expect(double.report.portMapping).toBe("no");
      expect(double.advice.join()).toMatch(whose);
    }
    const other = with_(speaks("203.0.113.99"));
    expect(other.report.portMapping).toBe("doubtful");
    expect(other.advice.join()).toMatch(/203\.0\.113\.99, and the world sees 198\.51\.100\.7/);
    expect(with_(speaks()).report.portMapping).toBe("doubtful");
    const mute = with_({ gateway, pcp: false, natPmp: false, upnp: false });
    expect(mute.report.portMapping).toBe("no");
    expect(mute.advice.join()).toMatch(/Switch on UPnP/);
    const none = with_({ pcp: false, natPmp: false, upnp: false });
    expect(none.report.portMapping).toBe("no");
    expect(none.advice.join()).not.toMatch(/UPnP/);
    expect(reportOf(found(seen())).portMapping).toBe("unknown");
  });

  test.each<[string, Partial<Findings>, RegExp]>([
    [
      "a clock that is late",
      { rendezvous: reached({ health: { status: 200, clockSeconds: 3600, roundTripMs: 1 } }) },
      /Set the clock: it is 3600 s behind/,
    ],
    [
      "a clock that is early",
      { rendezvous: reached({ health: { status: 200, clockSeconds: -61, roundTripMs: 1 } }) },
      /61 s ahead of/,
    ],
    [
      "a rendezvous that is not there",
      {
        rendezvous: reached({
          health: undefined,
          error: new DcpipeError("SIGNALLING", "its certificate has expired"),
        }),
      },
      /rendezvous is out of reach: its certificate has expired/,
    ],
    [
      "a proxy that lets no WebSocket through",
      {
        rendezvous: reached({
          proxy: "http://proxy:3128",
          error: new DcpipeError("NO_RENDEZVOUS", "HTTP 400"),
        }),
      },
      /no WebSocket comes through, through the proxy http:\/\/proxy:3128/,
    ],
    [
      "a TURN server that does not work",
      { turn: [{ server: { ...SERVER, transport: "udp" }, ok: false, error: "wrong password" }] },
      /TURN server stun\.example:3478 cannot be used: wrong password/,
    ],
    ["a VPN", { interfaces: [{ name: "wg0", address: "10.9.0.2", mtu: 1420 }] }, /wg0 looks like a VPN/],
    [
      "small packets",
      { interfaces: [{ name: "ppp7", address: "10.9.0.2", mtu: 1200 }] },
      /ppp7 carries packets of 1200 bytes only/,
    ],
  ])("%s is told", (_, more, words) => {
    expect(verdictOf(found(seen(), more)).advice.join("\n")).toMatch(words);
  });

  test("a clock that is right, and a server that works, are not told", () => {
    const turn = [{ server: { ...SERVER, transport: "udp" as const }, ok: true }];
    const advice = verdictOf(found(tested("same", ALL), { rendezvous: reached(), turn })).advice.join("\n");
    expect(advice).not.toMatch(/clock|TURN|rendezvous/);
  });

  test("servers that lie or talk nonsense are named", () => {
    const liar = { server: { host: "liar.example", port: 1 }, mapped: { ...OUTER, address: "192.0.2.9" } };
    const fool = {
      server: { host: "fool.example", port: 2 },
      outcome: "garbage" as const,
      mapped: undefined,
    };
    const answers = [answer(), answer({ address: "203.0.113.2" }), answer(liar), answer(fool)];
    const { advice, kind } = verdictOf(found(seen({ answers })));
    expect(kind).toBe("cone");
    expect(advice.join("\n")).toMatch(/liar\.example:1 sees another address/);
    expect(advice.join("\n")).toMatch(/fool\.example:2 is no STUN server/);
  });
});

test.each([
  ["10.1.2.3", "private"],
  ["172.31.0.1", "private"],
  ["172.32.0.1", "public"],
  ["192.168.0.1", "private"],
  ["100.64.0.1", "carrier"],
  ["100.127.255.255", "carrier"],
  ["100.128.0.1", "public"],
  ["169.254.1.1", "link-local"],
  ["127.0.0.1", "link-local"],
  ["0.0.0.0", "link-local"],
  ["224.0.0.1", "link-local"],
  ["8.8.8.8", "public"],
  ["2001:db8::1", "public"],
  ["64:ff9b::808:808", "public"],
  ["fd00::1", "private"],
  ["fe80::1%eth0", "link-local"],
  ["::1", "link-local"],
  ["ff02::1", "link-local"],
  ["no address", "link-local"],
])("%s is %s", (address, scope) => {
  expect(scopeOf(address)).toBe(scope);
});

test("names of interfaces", () => {
  for (const name of ["wg0", "tun0", "utun3", "tailscale0", "ppp0"])
    expect(kindOfInterface(name)).toBe("vpn");
  for (const name of ["docker0", "br-1234", "veth12", "virbr0"])
    expect(kindOfInterface(name)).toBe("virtual");
  for (const name of ["eth0", "wlan0", "en0", "enp3s0", "Wi-Fi"])
    expect(kindOfInterface(name)).toBeUndefined();
});

// ---- failures -------------------------------------------------------------------------------------------------------

const HOST: Candidate = { type: "host", address: "192.168.1.2", port: 5000 };
const MINE: Candidate = { type: "srflx", address: "198.51.100.7", port: 5000 };
const THEIR_HOST: Candidate = { type: "host", address: "10.0.0.9", port: 6000 };
const THEIRS: Candidate = { type: "srflx", address: "203.0.113.5", port: 6000 };
const IPV6: Candidate = { type: "host", address: "2001:db8::5", port: 6000 };

function failed(more: Partial<FailedConnection> = {}): FailedConnection {
  return {
    local: [HOST, MINE],
    remote: [THEIR_HOST, THEIRS],
    stun: "answered",
    mapping: "independent",
    turn: { given: 0, relayed: false },
    relay: "none",
    signalling: "paste",
    answered: true,
    ...more,
  };
}

describe("failures", () => {
  test.each<[string, Partial<FailedConnection>, RegExp, RegExp]>([
    [
      "its answer was not pasted",
      { remote: [], answered: false },
      /answer was not pasted here/,
      /paste the answer/,
    ],
    [
      "by code the other side told nothing",
      { remote: [], signalling: "code", answered: false },
      /told no address/,
      /doctor on the other side/,
    ],
    ["no network here", { local: [] }, /no address/, /connect it/],
    ["one family each", { remote: [IPV6] }, /IPv4 addresses only/, /--rendezvous/],
    ["perhaps not pasted there", { answered: false }, /was the answer pasted there/, /printed the offer/],
    [
      "UDP blocked here, whatever was pasted",
      { local: [HOST], stun: "silent", answered: false },
      /UDP is probably blocked in this network/,
      /administrator/,
    ],
    [
      "private addresses of different networks, without STUN",
      { local: [HOST], remote: [THEIR_HOST], stun: "off" },
      /only private addresses, of different networks/,
      /--no-stun/,
    ],
    [
      "one local network",
      { local: [HOST], remote: [{ ...HOST, address: "192.168.1.77" }], stun: "off" },
      /one local network.*firewall/,
      /let UDP in/,
    ],
    [
      "the other side without STUN",
      { remote: [THEIR_HOST] },
      /other side knows only private addresses \(10\.0\.0\.9\)/,
      /doctor there/,
    ],
    ["this side without STUN", { local: [HOST], stun: "off" }, /no STUN server was asked/, /--no-stun/],
    ["symmetric", { mapping: "dependent" }, /NAT here is symmetric/, /--turn/],
    [
      "the same NAT",
      { remote: [THEIR_HOST, { ...MINE, port: 7000 }] },
      /behind the same NAT/,
      /same local network/,
    ],
    [
      "the other side's NAT",
      {},
      /other side's is symmetric, or its network blocks UDP/,
      /doctor on both sides/,
    ],
    ["nobody knows", { mapping: "unknown" }, /one of the two NATs is symmetric/, /doctor/],
    [
      "TURN without an address",
      { turn: { given: 1, relayed: false }, mapping: "dependent" },
      /symmetric/,
      /TURN server gave no address/,
    ],
    [
      "TURN in vain",
      { turn: { given: 1, relayed: true }, mapping: "dependent" },
      /symmetric/,
      /name one at the other side/,
    ],
    [
      "relays not wanted",
      { relay: "off", signalling: "code", mapping: "dependent" },
      /symmetric/,
      /leave out --relay off/,
    ],
    [
      "no relay to be had",
      { relay: "unavailable", signalling: "code" },
      /other side's is symmetric/,
      /does not relay/,
    ],
    ["the relay failed, too", { relay: "tried", signalling: "code" }, /symmetric/, /relay failed as well/],
    ["by paste, codes help", { mapping: "dependent" }, /symmetric/, /meet by code/],
  ])("%s", (_, more, reason, hint) => {
    const explained = explainFailure(failed(more));
    expect(explained.reason).toMatch(reason);
    expect(explained.hint).toMatch(hint);
    for (const text of [explained.reason, explained.hint]) expect(text).toMatch(/^[a-zIU].*[^.]$/s);
  });

  test("pairs of one family, hosts first, and not too many", () => {
    const { pairs } = explainFailure(failed({ remote: [THEIRS, THEIR_HOST, IPV6] }));
    expect(pairs).toEqual([
      "192.168.1.2:5000 -> 10.0.0.9:6000 (host, host)",
      "192.168.1.2:5000 -> 203.0.113.5:6000 (host, srflx)",
      "198.51.100.7:5000 -> 10.0.0.9:6000 (srflx, host)",
      "198.51.100.7:5000 -> 203.0.113.5:6000 (srflx, srflx)",
    ]);
    const many = Array.from({ length: 15 }, (_, i): Candidate => ({
      ...IPV6,
      address: `2001:db8::${i + 1}`,
    }));
    const { pairs: long } = explainFailure(failed({ local: many, remote: many }));
    expect(long.length).toBeLessThan(20);
    expect(long[0]).toBe("[2001:db8::1]:6000 -> [2001:db8::1]:6000 (host, host)");
  });

  test("every combination has a reason and a hint", () => {
    const lists = [[], [HOST], [HOST, MINE], [IPV6], [THEIR_HOST, THEIRS]];
    for (const local of lists)
      for (const remote of lists)
        for (const stun of ["answered", "silent", "off"] as const)
          for (const mapping of ["independent", "dependent", "unknown"] as const)
            for (const signalling of ["paste", "code"] as const)
              for (const relay of ["off", "none", "unavailable", "tried"] as const)
                for (const answered of [false, true]) {
                  const all = failed({ local, remote, stun, mapping, signalling, relay, answered });
                  const { reason, hint } = explainFailure(all);
                  expect(reason.length).toBeGreaterThan(10);
                  expect(hint.length).toBeGreaterThan(10);
                }
  });
});

// ---- the examination ------------------------------------------------------------------------------------------------

/** For ever, whatever happens. */
function never<T>(): Promise<T> {
  return new Promise<T>(() => undefined);
}

const OPTIONS: ExamineOptions = {
  stun: [SERVER],
  turn: [{ ...SERVER, transport: "udp", username: "u", password: "secret" }],
  rendezvous: "https://rendezvous.example/",
  bind: undefined,
  ports: undefined,
};

const PROBES: Probes = {
  listInterfaces: () => [],
  observeNat: () => Promise.resolve({ ipv4: seen(), ipv6: UNSEEN, unresolved: [] }),
  probeMapping: () => Promise.resolve({ pcp: true, natPmp: false, upnp: false }),
  probeTurn: () => Promise.resolve({ ok: true, roundTripMs: 3 }),
  openSocket: () => Promise.resolve({ close: () => undefined }),
  fetchHealth: () => Promise.resolve({ status: 200, clockSeconds: 0, roundTripMs: 1 }),
  proxyOf: () => undefined,
  proxySettings: () => [],
};

describe("the examination", () => {
  test("finds what the probes find, and keeps no password", async () => {
    const findings = await examine(PROBES, OPTIONS);
    expect(findings).toMatchObject({
      nat: { ipv4: { localPort: 40_000 } },
      mapping: { pcp: true },
      turn: [{ ok: true, server: { host: "stun.example", port: 3478, transport: "udp" } }],
      rendezvous: { health: { status: 200 }, error: undefined },
    });
    expect(findings.rendezvous?.roundTripMs).toBeGreaterThanOrEqual(0);
    expect(JSON.stringify(findings)).not.toContain("secret");
  });

  test("without STUN neither servers nor the router are asked", async () => {
    let asked = 0;
    const count = (): Promise<never> => {
      asked++;
      return never();
    };
    const findings = await examine(
      { ...PROBES, observeNat: count, probeMapping: count },
      { ...OPTIONS, stun: [], turn: [], rendezvous: undefined },
    );
    expect(asked).toBe(0);
    expect(findings).toMatchObject({ nat: undefined, mapping: undefined, turn: [], rendezvous: undefined });
  });

  test("what cannot be checked is not called checked", async () => {
    const findings = await examine({ ...PROBES, probeTurn: undefined, probeMapping: undefined }, OPTIONS);
    expect(findings).toMatchObject({ turn: undefined, mapping: undefined });
  });

  test("probes that never come back are left behind", async () => {
    const probes = {
      ...PROBES,
      observeNat: never,
      probeMapping: never,
      probeTurn: never,
      openSocket: never,
      fetchHealth: never,
    } as unknown as Probes;
    const { turn, nat, rendezvous } = await examine(probes, OPTIONS);
    expect(nat).toBeUndefined();
    expect(turn).toMatchObject([{ ok: false, error: expect.stringMatching(/no answer/) as string }]);
    expect(rendezvous).toMatchObject({
      health: undefined,
      error: { code: "SIGNALLING", message: expect.stringMatching(/no answer in 5 s/) as string },
    });
  });

  test("probes that fail are findings, not errors", async () => {
    const fails = (): Promise<never> => Promise.reject(new Error("broken"));
    const refused = new DcpipeError("SIGNALLING", "cannot reach it: the connection was refused");
    const findings = await examine(
      {
        ...PROBES,
        observeNat: fails,
        probeMapping: fails,
        probeTurn: fails,
        fetchHealth: fails,
        openSocket: () => Promise.reject(refused),
        proxyOf: () => {
          throw new Error("no URL");
        },
      },
      OPTIONS,
    );
    expect(findings).toMatchObject({
      nat: undefined,
      mapping: undefined,
      turn: [{ ok: false }],
      rendezvous: { error: refused, health: undefined, proxy: undefined },
    });
  });

  test("probes hear when the caller has had enough", async () => {
    const stop = new AbortController();
    const started = examine(
      {
        ...PROBES,
        observeNat: ({ signal }) =>
          new Promise((resolve) => {
            signal.addEventListener("abort", () => {
              resolve({ ipv4: SILENT, ipv6: UNSEEN, unresolved: [] });
            });
            stop.abort();
          }),
      },
      { ...OPTIONS, signal: stop.signal },
    );
    expect((await started).nat?.ipv4.answers).toMatchObject([{ outcome: "silent" }]);
  });
});

/** Ways are what JSON says: they stay as they are. */
test("the ways", () => {
  const all = new Set<Way>();
  for (const kind of Object.keys(IPV4))
    for (const { way } of predict(side(of(kind)), side(of("symmetric"))).outcomes) all.add(way);
  expect(all).toEqual(new Set(["direct", "turn", "relay", "none"]));
});
