/** The doctor names what stands between it and the world, and what it foretells for two networks is what pipe then does. */
import { join } from "node:path";
import { expect, type TestContext } from "vitest";
import { startServer } from "./code.ts";
import { needs, pair, Process, rootTest, start, succeed, temporaryDirectory, type Dcpipe } from "./dcpipe.ts";
import { createNats, type NatKind } from "./nat.ts";

/** coturn at both addresses of the public machine, so that it knows RFC 5780. */
async function startCoturn(namespace: string): Promise<{ stun: string; turn: string }> {
  const directory = temporaryDirectory();
  const addresses = ["203.0.113.5", "203.0.113.6"].flatMap((address) => ["--listening-ip", address]);
  const place = [...addresses, "--relay-ip", "203.0.113.5", "--listening-port", "3478"];
  const quiet = ["-n", "-v", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout"];
  const files = ["--userdb", join(directory, "db"), "--pidfile", join(directory, "pid")];
  const user = ["--lt-cred-mech", "--user", "u:p", "--realm", "test"];
  // Into a pipe it would say nothing before it has a lot to say.
  const command = ["stdbuf", "-oL", "turnserver", ...quiet, ...place, ...files, ...user];
  const server = new Process(["ip", "netns", "exec", namespace, ...command]);
  await server.printed("Total General servers");
  return { stun: "stun:203.0.113.5:3478", turn: "turn:u:p@203.0.113.5:3478" };
}

interface Outcome {
  readonly by: string;
  readonly turn: boolean;
  readonly way: string;
  readonly atWorst: string;
}

interface Diagnosis {
  readonly event: string;
  readonly kind: string;
  readonly report: string;
  readonly wayOut: boolean;
  readonly ipv4: Record<string, unknown>;
  readonly ipv6: Record<string, unknown>;
  readonly rendezvous?: { readonly error?: unknown; readonly health?: { readonly status: number } };
  readonly other?: { readonly outcomes: readonly Outcome[] };
}

async function diagnose(namespace: string, args: readonly string[], status = 0): Promise<Diagnosis> {
  const doctor = start(["doctor", "--json", ...args], { namespace });
  const exit = await doctor.exited;
  expect(exit, exit.stderr).toMatchObject({ status, signal: null, stderr: "" });
  const diagnosis = JSON.parse(exit.stdout.toString()) as Diagnosis;
  expect(Object.keys(diagnosis)[0]).toBe("event");
  return diagnosis;
}

/** One after the other: the tests for filters listen for silence, which a busy machine makes, too. */
async function diagnoseAll(
  insides: readonly string[],
  args: readonly string[],
  blocked: number,
): Promise<Diagnosis[]> {
  const found: Diagnosis[] = [];
  for (const [index, inside] of insides.entries())
    found.push(await diagnose(inside, args, index === blocked ? 3 : 0));
  return found;
}

const KINDS: readonly NatKind[] = ["open", "full cone", "port-restricted", "symmetric", "udp blocked"];

async function lab(context: TestContext): Promise<{
  insides: readonly string[];
  outside: string;
  stun: string;
  turn: string;
}> {
  needs(context, "turnserver", "nft");
  const { insides, outside } = createNats(KINDS);
  return { insides, outside, ...(await startCoturn(outside)) };
}

rootTest("every kind of NAT gets its name", async (context) => {
  const { insides, stun } = await lab(context);
  const found = await diagnoseAll(insides, ["--stun", stun], KINDS.indexOf("udp blocked"));
  expect(found.map(({ kind }) => kind)).toEqual([
    "open",
    "full-cone",
    "port-restricted",
    "symmetric",
    "udp-blocked",
  ]);
  const [open, cone, restricted, symmetric, blocked] = found.map(({ ipv4 }) => ipv4);
  expect(open).toMatchObject({
    udp: "works",
    mapping: "none",
    filtering: "independent",
    outer: { address: "203.0.113.11" },
  });
  expect(cone).toMatchObject({ mapping: "independent", filtering: "independent", tested: true });
  expect(restricted).toMatchObject({
    mapping: "independent",
    filtering: "address-and-port",
    hairpin: "no",
    keepsPort: true,
    tested: true,
    outer: { address: "203.0.113.13" },
  });
  expect(symmetric).toMatchObject({
    mapping: "address-and-port",
    filtering: "address-and-port",
    tested: true,
  });
  expect(blocked).toMatchObject({ udp: "blocked", mapping: "unknown" });
  expect(found.map(({ ipv6 }) => ipv6["udp"])).toEqual(KINDS.map(() => "none"));
  expect(found.at(-1)?.wayOut).toBe(false);
});

rootTest("without RFC 5780 several servers are compared", async (context) => {
  const { insides, outside } = await lab(context);
  const second = new Process([
    ...["ip", "netns", "exec", outside, process.execPath],
    ...[join(import.meta.dirname, "../lab/stun.js"), "203.0.113.6", "4000"],
  ]);
  const first = new Process([
    ...["ip", "netns", "exec", outside, process.execPath],
    ...[join(import.meta.dirname, "../lab/stun.js"), "203.0.113.5", "4000"],
  ]);
  await Promise.all([first.printed("ready"), second.printed("ready")]);
  const args = ["--stun", "stun:203.0.113.5:4000", "--stun", "stun:203.0.113.6:4000"];
  const [, , restricted = "", symmetric = ""] = insides;
  expect(await diagnose(restricted, args)).toMatchObject({
    kind: "cone",
    ipv4: { mapping: "independent", filtering: "unknown", tested: false },
  });
  expect(await diagnose(symmetric, args)).toMatchObject({
    kind: "symmetric",
    ipv4: { mapping: "dependent" },
  });
});

rootTest("where UDP is blocked and a rendezvous is reached, codes are the way out", async (context) => {
  const { insides, outside, stun } = await lab(context);
  const server = await startServer([], { namespace: outside, address: "203.0.113.5" });
  const blocked = insides[KINDS.indexOf("udp blocked")] ?? "";
  const found = await diagnose(blocked, ["--stun", stun, "--rendezvous", server.url]);
  expect(found).toMatchObject({ kind: "udp-blocked", wayOut: true, rendezvous: { health: { status: 200 } } });
  expect(found.rendezvous?.error).toBeUndefined();
  const text = start(["doctor", "--stun", stun, "--rendezvous", server.url], { namespace: blocked });
  const [exit] = await succeed(text);
  expect(exit?.stdout.toString()).toMatch(/blocks UDP.*the rendezvous was reached over TCP/);
  expect(exit?.stdout.toString()).toContain(`dcpipe doctor ${found.report}`);
});

rootTest("what is foretold for two networks is what pipe does", async (context) => {
  const { insides, stun, turn } = await lab(context);
  const found = await diagnoseAll(insides, ["--stun", stun], KINDS.indexOf("udp blocked"));
  const foretell = async (here: NatKind, there: NatKind): Promise<readonly Outcome[]> => {
    const [a, b] = [KINDS.indexOf(here), KINDS.indexOf(there)];
    const { other } = await diagnose(
      insides[a] ?? "",
      ["--stun", stun, found[b]?.report ?? ""],
      here === "udp blocked" ? 3 : 0,
    );
    return other?.outcomes ?? [];
  };
  const tryPaste = async (here: NatKind, there: NatKind, relay: readonly string[]): Promise<string> => {
    const [a, b] = [insides[KINDS.indexOf(here)], insides[KINDS.indexOf(there)]];
    const files = temporaryDirectory();
    const flags = ["--stun", stun, ...relay, "--timeout", relay.length > 0 ? "60" : "15"];
    const args = ["pipe", ...flags, "--answer-file", join(files, "answer")];
    const { waiting, joining } = await pair([args, { namespace: a }], [args, { namespace: b }]);
    await Promise.all([waiting.exited, joining.exited]);
    return wayOf(waiting, joining);
  };
  for (const [here, there, direct] of [
    ["port-restricted", "full cone", true],
    ["symmetric", "full cone", true],
    ["port-restricted", "symmetric", false],
    ["symmetric", "open", true],
    ["udp blocked", "open", false],
  ] as const) {
    const outcomes = await foretell(here, there);
    const pasted = outcomes.find(({ by, turn: with_ }) => by === "paste" && !with_);
    expect(pasted, `${here}, ${there}`).toMatchObject({
      way: direct ? "direct" : "none",
      atWorst: pasted?.way,
    });
    expect(await tryPaste(here, there, []), `${here}, ${there}`).toBe(pasted?.way);
  }
  const relayed = (await foretell("port-restricted", "symmetric")).find(
    ({ by, turn: with_ }) => by === "paste" && with_,
  );
  expect(relayed).toMatchObject({ way: "turn", atWorst: "turn" });
  expect(await tryPaste("port-restricted", "symmetric", ["--turn", turn])).toBe("turn");
});

function wayOf(...sides: readonly Dcpipe[]): string {
  const ways = sides.map((side) => side.find("connected")?.path ?? "none");
  expect(new Set(ways).size, ways.join()).toBe(1);
  for (const side of sides) expect(side.child.exitCode).toBe(ways[0] === "none" ? 3 : 0);
  return ways[0] ?? "none";
}
