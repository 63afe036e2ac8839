/** What a doctor has found: for people in lines, for scripts as one event. */
import {
  escapeText,
  judgeNat,
  KINDS,
  kindOf,
  kindOfInterface,
  scopeOf,
  type Findings,
  type Nat,
  type Outcome,
  type Prediction,
  type Report,
  type Verdict,
} from "../index.ts";

export interface Diagnosis {
  readonly findings: Findings;
  readonly verdict: Verdict;
  /** As text, for the other side. */
  readonly report: string;
  /** When there is something to compare with. */
  readonly other: { readonly report: Report; readonly prediction: Prediction } | undefined;
}

// ---- for people -----------------------------------------------------------------------------------------------------

/** Lines with their ends. Whatever stands in them, nothing in it means anything to a terminal. */
export function reportLines(diagnosis: Diagnosis): string[] {
  const { findings, verdict, report, other } = diagnosis;
  const lines = [
    ...section("Addresses", table(interfaceRows(findings))),
    ...section("UDP over IPv4", table(natRows(judgeNat(findings, 4)))),
    ...section("UDP over IPv6", table(natRows(judgeNat(findings, 6)))),
    ...section("STUN servers", table(stunRows(findings))),
    ...section("Router", [routerLine(findings)]),
    ...section("TURN servers", table(turnRows(findings)), "none is named (--turn URL)"),
    ...section("Rendezvous", rendezvousLines(findings)),
    ...section(
      "Proxies in the environment",
      table(findings.proxies.map(({ name, value }) => [name, value])),
      "none",
    ),
    ...section("Packets", [mtuLine(findings)]),
    `${verdict.summary}.`,
    "",
    ...section("What works", bullets(verdict.works)),
    ...section("What to do", bullets(verdict.advice), "nothing: this network is as good as they come"),
    ...(other ? pairLines(other) : []),
    "For the other side (what this network does, and no address):",
    "",
    `  dcpipe doctor ${report}`,
  ];
  return lines.map((line) => `${escapeText(line)}\n`);
}

function section(title: string, lines: readonly string[], none = "none"): string[] {
  return [title, ...(lines.length > 0 ? lines : [none]).map((line) => `  ${line}`), ""];
}

function bullets(texts: readonly string[]): string[] {
  return texts.map((text) => `- ${text}`);
}

function table(rows: readonly (readonly string[])[]): string[] {
  const width = (column: number): number => Math.max(...rows.map((row) => (row[column] ?? "").length));
  return rows.map((row) =>
    row
      .map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(width(i))))
      .join("   ")
      .trimEnd(),
  );
}

const SCOPES = {
  public: "public",
  private: "private",
  carrier: "between the provider's NAT and this network (RFC 6598)",
  "link-local": "this link only",
} as const;

function interfaceRows({ interfaces }: Findings): string[][] {
  const kinds = { vpn: ", looks like a VPN", virtual: ", for containers or virtual machines" };
  return interfaces.map(({ name, address }) => {
    const kind = kindOfInterface(name);
    return [name, address, `${SCOPES[scopeOf(address)]}${kind ? kinds[kind] : ""}`];
  });
}

const UDP = {
  unknown: "not tried",
  none: "no address, or no way out for it",
  blocked: "no STUN server answered",
  works: "goes out, and answers come in",
} as const;
const MAPPINGS = {
  unknown: "unknown",
  none: "none: there is no NAT",
  independent: "endpoint-independent: the same outer port for every destination",
  address: "address-dependent: another outer port for every address",
  "address-and-port": "address- and port-dependent: another outer port for every destination",
  dependent: "dependent on the destination: servers see different outer ports",
} as const;
const FILTERINGS = {
  unknown: "unknown: no server here could test it",
  independent: "endpoint-independent: anybody gets in",
  address: "address-dependent: any port of an address that was called gets in",
  "address-and-port": "address- and port-dependent: only what was called gets in",
} as const;

function natRows({ udp, outer, mapping, filtering, hairpin, keepsPort, tested }: Nat): string[][] {
  if (udp !== "works") return [["UDP", UDP[udp]]];
  const port = keepsPort === undefined ? "" : keepsPort ? ", our own port" : ", another port than ours";
  const seen = mapping === "independent" && !tested ? " (as far as seen, without a test of RFC 5780)" : "";
  return [
    ["UDP", UDP[udp]],
    ["outer address", outer ? `${formatPlace(outer)}${port}` : "unknown"],
    ["mapping", `${MAPPINGS[mapping]}${seen}`],
    ["filtering", FILTERINGS[filtering]],
    ...(mapping === "none" ? [] : [["hairpinning", hairpin]]),
  ];
}

function stunRows({ nat }: Findings): string[][] {
  if (!nat) return [["none was to be asked"]];
  const answers = [...nat.ipv4.answers, ...nat.ipv6.answers].map(
    ({ server, address, outcome, detail, mapped, roundTripMs, discovers }) => {
      const what =
        mapped === undefined
          ? { ...FAILED_STUN, answered: "" }[outcome] + (detail === undefined ? "" : ` (${detail})`)
          : `sees ${formatPlace(mapped)}${discovers ? ", knows RFC 5780" : ""}`;
      const at = address === server.host || address === undefined ? "" : address;
      return [formatPlace({ address: server.host, port: server.port }), at, formatMs(roundTripMs), what];
    },
  );
  const unresolved = nat.unresolved.map(({ host, port }) => [
    `${host}:${port}`,
    "",
    "",
    FAILED_STUN.unresolved,
  ]);
  return [...answers, ...unresolved];
}

const FAILED_STUN = {
  refused: "refuses",
  garbage: "answers, but not with STUN",
  silent: "does not answer",
  unreachable: "cannot be called",
  unresolved: "has a name that cannot be looked up",
} as const;

function routerLine({ mapping, nat }: Findings): string {
  if (!mapping) return nat ? "not checked" : "not asked";
  const spoken = [
    ...(mapping.pcp ? ["PCP"] : []),
    ...(mapping.natPmp ? ["NAT-PMP"] : []),
    ...(mapping.upnp ? ["UPnP"] : []),
  ];
  const where = mapping.gateway === undefined ? "" : ` at ${mapping.gateway}`;
  if (spoken.length === 0 && mapping.gateway === undefined) return "there is none that could be asked";
  if (spoken.length === 0) return `the one${where} opens no ports (PCP, NAT-PMP, UPnP)`;
  const outer = mapping.address === undefined ? "" : `; says that its outer address is ${mapping.address}`;
  return `the one${where} opens ports by ${spoken.join(", ")}${outer}`;
}

function turnRows({ turn }: Findings): string[][] {
  if (!turn) return [["not checked"]];
  return turn.map(({ server, ok, roundTripMs, relayed, error }) => [
    `${formatPlace({ address: server.host, port: server.port })} over ${server.transport}`,
    formatMs(roundTripMs),
    ok ? `works${relayed ? `, lends ${formatPlace(relayed)}` : ""}` : (error ?? "does not answer"),
  ]);
}

function rendezvousLines({ rendezvous }: Findings): string[] {
  if (!rendezvous) return ["none is named (--rendezvous URL)"];
  const { url, proxy, health, roundTripMs, error } = rendezvous;
  const lines = [`${url}${proxy === undefined ? "" : `, through the proxy ${proxy}`}`];
  lines.push(
    error
      ? `WebSocket: ${error.message}`
      : `WebSocket: stands after ${formatMs(roundTripMs)}, so that codes work`,
  );
  if (!health) return [...lines, "HTTP: no answer"];
  lines.push(`HTTP: status ${health.status} after ${formatMs(health.roundTripMs)}`);
  if (health.clockSeconds !== undefined)
    lines.push(`clock: ${describeClock(health.clockSeconds)} the rendezvous'`);
  return lines;
}

/** The header that tells the time has whole seconds. */
function describeClock(seconds: number): string {
  if (Math.abs(seconds) < 2) return "the same as";
  return `${Math.round(Math.abs(seconds))} s ${seconds > 0 ? "behind" : "ahead of"}`;
}

function mtuLine({ interfaces }: Findings): string {
  const known = new Map(interfaces.flatMap(({ name, mtu }) => (mtu === undefined ? [] : [[name, mtu]])));
  const sizes = [...known].map(([name, mtu]) => `${name} ${mtu}`).join(", ");
  return sizes === ""
    ? "the system does not tell its MTU, and the path's was not measured"
    : `MTU ${sizes} bytes; the path's own was not measured`;
}

function pairLines({ report, prediction }: NonNullable<Diagnosis["other"]>): string[] {
  const { name } = KINDS[kindOf(report)];
  const { onePaste, outcomes } = prediction;
  const rows = outcomes.map(({ by, turn, way, atWorst }) => [
    `by ${by}${turn ? ", with TURN" : ""}`,
    way === atWorst ? WAYS[way] : `${WAYS[way]}, or else ${WAYS[atWorst]}`,
  ]);
  const reasons = [...new Set(outcomes.map(reasonOf))];
  const sides = (["here", "there"] as const).filter((side) => onePaste[side] === "yes");
  const paste =
    sides.length === 0 ? [] : [`- One paste is enough when the side ${sides.join(", or the one ")} waits`];
  return [...section(`With the other side: ${name}`, [...table(rows), ...bullets(reasons), ...paste])];
}

const WAYS = { direct: "direct", turn: "through TURN", relay: "through the relay", none: "no path" } as const;

function reasonOf({ why, way, atWorst, otherwise }: Outcome): string {
  if (way === atWorst || otherwise === undefined) return why;
  return `${why}, if all that is not known is as one hopes; else ${otherwise}`;
}

function formatPlace({ address, port }: { readonly address: string; readonly port: number }): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

function formatMs(ms: number | undefined): string {
  if (ms === undefined) return "";
  return `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
}

// ---- for scripts ----------------------------------------------------------------------------------------------------

export function reportEvent({ findings, verdict, report, other }: Diagnosis): object {
  const { interfaces, nat, mapping, turn, rendezvous, proxies, milliseconds } = findings;
  return {
    event: "doctor",
    ...verdict,
    report,
    ipv4: familyFields(judgeNat(findings, 4)),
    ipv6: familyFields(judgeNat(findings, 6)),
    interfaces: interfaces.map((each) => ({
      ...each,
      scope: scopeOf(each.address),
      kind: kindOfInterface(each.name),
    })),
    stun: nat && [...nat.ipv4.answers, ...nat.ipv6.answers, ...nat.unresolved.map(unresolvedFields)],
    router: mapping,
    turn,
    rendezvous: rendezvous && {
      ...rendezvous,
      error: rendezvous.error && { code: rendezvous.error.code, message: rendezvous.error.message },
    },
    proxies,
    ...(other ? { other: { kind: kindOf(other.report), ...other.prediction } } : {}),
    seconds: milliseconds / 1000,
  };
}

function familyFields({ udp, outer, mapping, filtering, hairpin, keepsPort, tested, odd }: Nat): object {
  return { udp, outer, mapping, filtering, hairpin, keepsPort, tested, odd };
}

function unresolvedFields(server: { readonly host: string; readonly port: number }): object {
  return { server, outcome: "unresolved" };
}
