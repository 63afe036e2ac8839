/** TURN over TCP and TLS, where nothing else gets out, and TURN servers that are of no use. */
import { expect } from "vitest";
import { type Dcpipe, fail, needs, Process, rootTest, start, succeed } from "./dcpipe.ts";
import { createLab, type Host, type Lab, type Services } from "./netlab.ts";

const PROGRAMS = ["nft", "conntrack", "turnserver", "openssl"];
const SECRET = "a secret between the two servers";
/** No way around TURN. */
const NO_RELAY = { rendezvous: { args: ["--no-relay"] } };

interface Side {
  readonly host: Host;
  readonly args?: readonly string[];
  readonly env?: Record<string, string>;
  readonly rendezvous?: string;
}

/** Two sides that meet by code, and what each of them sends to the other. */
async function meet(lab: Lab, waiting: Side, joining: Side): Promise<{ waiting: Dcpipe; joining: Dcpipe }> {
  const launch = (
    { host, args = [], env = host.env, rendezvous = lab.rendezvous.https }: Side,
    said: string,
    more: readonly string[] = [],
  ): Dcpipe => {
    const common = ["-v", "--stun", lab.stun, "--rendezvous", rendezvous];
    const stdin = Buffer.from(said.repeat(20_000));
    return start(["pipe", ...common, ...args, ...more], { namespace: host.namespace, env, stdin });
  };
  const waits = launch(waiting, "waiting");
  const joins = launch(joining, "joining", ["--to", await waits.code()]);
  const [w, j] = await succeed(waits, joins);
  expect(w?.stdout.equals(Buffer.from("joining".repeat(20_000)))).toBe(true);
  expect(j?.stdout.equals(Buffer.from("waiting".repeat(20_000)))).toBe(true);
  return { waiting: waits, joining: joins };
}

function expectTurn(...sides: readonly Dcpipe[]): void {
  for (const side of sides) {
    expect(side.find("connected")?.path, side.stderr).toBe("turn");
    expect(side.stderr).not.toContain("sesame");
  }
}

/** What it says about TURN servers. */
function notes({ events }: Dcpipe): string[] {
  return events.flatMap(({ event, text }) =>
    event === "note" && text?.startsWith("TURN server") ? [text] : [],
  );
}

async function blocked(other: string, services: Services = NO_RELAY): Promise<Lab> {
  return createLab("udp-blocked", other, services);
}

rootTest(
  "one side gets out by TCP to port 443 alone: by TLS, by TCP, whichever side waits",
  async (context) => {
    needs(context, ...PROGRAMS);
    const lab = await blocked("port-restricted");
    const tls = { host: lab.a, args: ["--turn", lab.turn.tls] };
    const tcp = { host: lab.a, args: ["--turn", `${lab.turn.tls.replace("turns:", "turn:")}?transport=tcp`] };
    const free = { host: lab.b };
    for (const [waiting, joining] of [
      [tls, free],
      [free, tls],
      [tcp, free],
    ] as const) {
      const sides = await meet(lab, waiting, joining);
      expectTurn(sides.waiting, sides.joining);
      for (const side of [sides.waiting, sides.joining]) expect(notes(side)).toEqual([]);
    }
  },
);

rootTest(
  "both sides get out by TLS alone, one of them through a proxy; with relays only, too",
  async (context) => {
    needs(context, ...PROGRAMS);
    const lab = await blocked("proxy-only");
    for (const relay of ["auto", "only"]) {
      const args = ["--turn", lab.turn.tls, "--relay", relay];
      const { waiting, joining } = await meet(lab, { host: lab.a, args }, { host: lab.b, args });
      expectTurn(waiting, joining);
      for (const side of [waiting, joining]) {
        const { local, remote } = side.find("connected") as unknown as Record<
          "local" | "remote",
          { address: string }
        >;
        expect([local.address, remote.address]).toEqual(["198.51.100.10", "198.51.100.10"]);
      }
    }
  },
);

rootTest("one paste is enough where both sides use the same server", async (context) => {
  needs(context, ...PROGRAMS);
  const lab = await createLab("udp-blocked", "udp-blocked", { rendezvous: false });
  const args = ["pipe", "--turn", lab.turn.tls];
  const side = (host: Host, said: string): Parameters<typeof start>[1] => ({
    namespace: host.namespace,
    env: host.env,
    stdin: Buffer.from(said),
  });
  const waiting = start(args, side(lab.a, "waiting"));
  const joining = start([...args, await waiting.offer()], side(lab.b, "joining"));
  await succeed(waiting, joining);
  expectTurn(waiting, joining);
  expect(joining.stdout.toString()).toBe("waiting");
});

rootTest("TLS servers that the rendezvous lends", async (context) => {
  needs(context, ...PROGRAMS);
  const lend = ["--turn", "turns:turn.test:443", "--turn-secret", SECRET];
  const lab = await blocked("udp-blocked", {
    turn: { secret: SECRET },
    rendezvous: { args: ["--no-relay", ...lend] },
  });
  const { waiting, joining } = await meet(lab, { host: lab.a }, { host: lab.b });
  expectTurn(waiting, joining);
  // Credentials of the user's own that are over, beside those that are lent.
  const expired = ["--turn", "turns:1700000000%3Aann:sesame@turn.test:443"];
  const again = await meet(lab, { host: lab.a, args: expired }, { host: lab.b });
  expectTurn(again.waiting, again.joining);
  expect(notes(again.waiting)).toEqual([
    "TURN server turns:turn.test:443: these credentials expired at 2023-11-14T22:13:20.000Z (401)",
  ]);
});

rootTest("a server that is of no use is named, and gives way to the next one", async (context) => {
  needs(context, ...PROGRAMS);
  const lab = await createLab("port-restricted", "port-restricted", NO_RELAY);
  const listening = `require("net").createServer(() => {}).listen(9, "203.0.113.10", () => console.log("ready"))`;
  const silent = new Process(["ip", "netns", "exec", lab.internet, process.execPath, "-e", listening]);
  await silent.printed("ready");
  const place = "turn.test:443";
  const useless = [
    [`turns:ann:wrong@${place}`, "turns:turn.test:443: it does not accept these credentials (401)"],
    ["turns:ann:sesame@198.51.100.10:443", "turns:198.51.100.10:443: its certificate is for another host"],
    ["turn:ann:sesame@203.0.113.10:9?transport=tcp", "turn:203.0.113.10:9?transport=tcp: no answer in 5 s"],
    ["turns:ann:sesame@203.0.113.10:10", "turns:203.0.113.10:10: the connection was refused"],
    ["turn:ann:wrong@turn.test", "turn:turn.test:3478: it does not accept these credentials (401)"],
    ["turns:ann:sesame@rendezvous.test:443", "turns:rendezvous.test:443: what answers is no TURN server"],
  ] as const;
  const relayed = { host: lab.b, args: ["--turn", lab.turn.udp, "--relay", "only"] };
  for (const [url, text] of useless) {
    const args = ["--relay", "only", "--turn", url, "--turn", lab.turn.tls];
    const { waiting, joining } = await meet(lab, { host: lab.a, args }, relayed);
    expectTurn(waiting, joining);
    // A slow server need not have failed when the other one was used.
    if (!text.endsWith("5 s")) expect(notes(waiting)).toEqual([`TURN server ${text}`]);
  }
  // Nobody vouches for the certificate where the lab's authority is not known.
  const args = ["--relay", "only", "--turn", lab.turn.tls, "--turn", lab.turn.udp];
  const ignorant = { host: lab.a, args, env: {}, rendezvous: lab.rendezvous.http };
  const { waiting, joining } = await meet(lab, ignorant, relayed);
  expectTurn(waiting, joining);
  expect(notes(waiting)).toEqual([
    `TURN server turns:${place}: its certificate is signed by an authority that is not known here, or comes without those in between`,
  ]);
});

rootTest("with no server that works the command ends as it always does", async (context) => {
  needs(context, ...PROGRAMS);
  const lab = await blocked("udp-blocked");
  const wrong = ["--turn", "turns:ann:wrong@turn.test:443", "--timeout", "5"];
  const common = ["pipe", "-v", "--rendezvous", lab.rendezvous.https, ...wrong];
  const side = ({ namespace, env }: Host): Parameters<typeof start>[1] => ({ namespace, env });
  const waiting = start(common, side(lab.a));
  const joining = start([...common, "--to", await waiting.code()], side(lab.b));
  await fail(joining, 3);
  await waiting.exited;
  expect(notes(joining)).toEqual([
    "TURN server turns:turn.test:443: it does not accept these credentials (401)",
  ]);
  expect(joining.stderr).not.toContain("wrong");
});

rootTest("a session outlives the connection to the server", async (context) => {
  needs(context, ...PROGRAMS);
  const lab = await blocked("udp-blocked");
  const args = ["pipe", "--turn", lab.turn.tls, "--rendezvous", lab.rendezvous.https];
  const side = ({ namespace, env }: Host): Parameters<typeof start>[1] => ({ namespace, env, stdin: "pipe" });
  const waiting = start(args, side(lab.a));
  const joining = start([...args, "--to", await waiting.code()], side(lab.b));
  waiting.stdin.write("before");
  await joining.printed("before");
  await lab.a.routers[0]?.reboot();
  waiting.stdin.write("after");
  await joining.printed("beforeafter");
  const told = await Promise.race([waiting.event("path"), joining.event("path")]);
  expect(told).toMatchObject({ path: "turn" });
  for (const each of [waiting, joining]) each.stdin.end();
  await succeed(waiting, joining);
});
