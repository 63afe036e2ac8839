/** dcpipe pipe --raw through a TURN server, where two sides cannot reach each other. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { expect } from "vitest";
import { type Dcpipe, fail, needs, Process, rootTest, start, succeed, temporaryDirectory } from "./dcpipe.ts";
import { ip } from "./nat.ts";
import { createSwitch, type Machine } from "./switch.ts";

/** coturn. */
async function startTurn({ namespace, address }: Machine): Promise<string> {
  const directory = temporaryDirectory();
  const place = ["--listening-ip", address, "--relay-ip", address, "--listening-port", "3478"];
  const quiet = ["-n", "-v", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout"];
  const files = ["--userdb", join(directory, "db"), "--pidfile", join(directory, "pid")];
  const user = ["--lt-cred-mech", "--user", "u:sesame", "--realm", "dcpipe"];
  // Into a pipe it would say nothing before it has a lot to say.
  const command = ["stdbuf", "-oL", "turnserver", ...quiet, ...place, ...files, ...user];
  const turn = new Process(["ip", "netns", "exec", namespace, ...command]);
  await turn.printed("Total General servers");
  return `turn:u:sesame@${address}:3478`;
}

/** Both send and receive. */
async function exchange(
  offering: Machine,
  answering: Machine,
  args: readonly string[],
): Promise<readonly [Dcpipe, Dcpipe]> {
  const directory = temporaryDirectory();
  const [there, back] = [randomBytes(600_000), randomBytes(500_000)];
  const files = (name: string): string[] => [`--${name}-file`, join(directory, name)];
  const offers = start(["pipe", "--raw", ...files("offer"), ...files("answer")], {
    namespace: offering.namespace,
    stdin: there,
  });
  const answers = start(["pipe", "--raw", "-v", ...args, "--to", await offers.offer(), ...files("answer")], {
    namespace: answering.namespace,
    stdin: back,
  });
  await succeed(offers, answers);
  expect(offers.stdout.equals(back)).toBe(true);
  expect(answers.stdout.equals(there)).toBe(true);
  expect(answers.stderr).not.toContain("sesame");
  return [offers, answers];
}

rootTest("no way but by the answering side's TURN server", async (context) => {
  needs(context, "turnserver");
  const [a, b, c] = (await createSwitch(3)) as [Machine, Machine, Machine];
  const turn = await startTurn(c);
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const)
    ip("-n", one.namespace, "route", "add", "unreachable", `${other.address}/32`);
  const [offers, answers] = await exchange(a, b, ["--turn", turn]);
  expect(answers.find("connected")).toMatchObject({ path: "turn", local: { address: c.address } });
  expect(offers.find("connected")).toMatchObject({ path: "direct", remote: { address: c.address } });
});

rootTest("where there is a direct path, the TURN server is not used", async (context) => {
  needs(context, "turnserver");
  const [a, b, c] = (await createSwitch(3)) as [Machine, Machine, Machine];
  const [, answers] = await exchange(a, b, ["--turn", await startTurn(c)]);
  expect(answers.find("connected")).toMatchObject({ path: "direct", remote: { address: a.address } });
});

rootTest("the offering side takes no TURN server, and neither side relay only: both say so", async () => {
  const refused = start(["pipe", "--raw", "--turn", "turn:u:sesame@127.0.0.1:3478"]);
  await fail(refused, 2, /the side that offers takes no TURN server/);
  expect(refused.stderr).not.toContain("sesame");
  await fail(start(["pipe", "--raw", "--relay", "only"]), 2, /relay only does not go with plain WebRTC/);
});
