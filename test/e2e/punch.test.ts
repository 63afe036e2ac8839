/** A symmetric NAT and a port-restricted one: the session begins on the relay of the rendezvous, and goes on through a hole in both. */
import { randomBytes } from "node:crypto";
import { expect, type TestContext } from "vitest";
import { pairByCode, startServer, type Server } from "./code.ts";
import { type Dcpipe, needs, Process, rootTest, sha256, succeed, temporaryDirectory } from "./dcpipe.ts";
import { createNats, type NatKind } from "./nat.ts";
import { join } from "node:path";

const PUBLIC = "203.0.113.5";
const STUN = ["--stun", `stun:${PUBLIC}`];

async function lab(
  context: TestContext,
  kinds: readonly [NatKind, NatKind],
): Promise<{ insides: readonly string[]; server: Server }> {
  needs(context, "turnserver", "nft");
  const { insides, outside } = createNats(kinds);
  const directory = temporaryDirectory();
  const addresses = [PUBLIC, "203.0.113.6"].flatMap((address) => ["--listening-ip", address]);
  const quiet = ["-n", "-v", "--stun-only", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout"];
  const files = ["--userdb", join(directory, "db"), "--pidfile", join(directory, "pid")];
  // Into a pipe it would say nothing before it has a lot to say.
  const stun = new Process([
    "ip",
    "netns",
    "exec",
    outside,
    "stdbuf",
    "-oL",
    "turnserver",
    ...quiet,
    ...addresses,
    ...files,
  ]);
  await stun.printed("Total General servers");
  return { insides, server: await startServer([], { namespace: outside, address: PUBLIC }) };
}

/** Sends so much through a pipe that stays open, and waits until it is there. */
async function carry(from: Dcpipe, to: Dcpipe, already: Buffer, size: number): Promise<Buffer> {
  const bytes = randomBytes(size);
  from.stdin.write(bytes);
  const all = Buffer.concat([already, bytes]);
  await to.printed(all.length);
  return all;
}

for (const [waits, joins] of [
  ["symmetric", "port-restricted"],
  ["port-restricted", "symmetric"],
] as const) {
  rootTest(`${waits} waits, ${joins} joins: direct in the end, and nothing is lost`, async (context) => {
    const { insides, server } = await lab(context, [waits, joins]);
    const { waiting, joining } = await pairByCode(
      server.url,
      [["pipe", ...STUN], { namespace: insides[0], stdin: "pipe" }],
      [["pipe", ...STUN], { namespace: insides[1], stdin: "pipe" }],
    );
    for (const side of [waiting, joining])
      expect(await side.event("connected")).toMatchObject({ path: "relay" });
    let there = await carry(waiting, joining, Buffer.alloc(0), 300_000);
    let back = await carry(joining, waiting, Buffer.alloc(0), 300_000);
    for (const [side, other] of [
      [waiting, 12],
      [joining, 11],
    ] as const)
      expect(await side.event("path")).toMatchObject({
        path: "direct",
        remote: { address: `203.0.113.${other}` },
      });
    [there, back] = await Promise.all([
      carry(waiting, joining, there, 3_000_000),
      carry(joining, waiting, back, 3_000_000),
    ]);
    waiting.stdin.end();
    joining.stdin.end();
    await succeed(waiting, joining);
    expect(sha256(joining.stdout)).toBe(sha256(there));
    expect(sha256(waiting.stdout)).toBe(sha256(back));
  });
}
