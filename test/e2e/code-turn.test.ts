/** TURN servers that the rendezvous lends. */
import { join } from "node:path";
import { expect } from "vitest";
import { pairByCode, startServer } from "./code.ts";
import {
  expectEqualFiles,
  fail,
  makeFile,
  needs,
  Process,
  rootTest,
  start,
  succeed,
  temporaryDirectory,
} from "./dcpipe.ts";
import { createSwitch, type Machine } from "./switch.ts";

const SECRET = "a secret between the two servers";

/** coturn, which takes credentials that expire. */
async function startTurn({ namespace, address }: Machine): Promise<string> {
  const directory = temporaryDirectory();
  const place = ["--listening-ip", address, "--relay-ip", address, "--listening-port", "3478"];
  const quiet = ["-n", "-v", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout"];
  const files = ["--userdb", join(directory, "db"), "--pidfile", join(directory, "pid")];
  const secret = ["--use-auth-secret", "--static-auth-secret", SECRET, "--realm", "dcpipe"];
  // Into a pipe it would say nothing before it has a lot to say.
  const command = ["stdbuf", "-oL", "turnserver", ...quiet, ...place, ...files, ...secret];
  const turn = new Process(["ip", "netns", "exec", namespace, ...command]);
  await turn.printed("Total General servers");
  return `turn:${address}:3478`;
}

rootTest("both sides use the TURN server that the rendezvous lends, and nothing else", async (context) => {
  needs(context, "turnserver");
  const [a, b, c] = (await createSwitch(3)) as [Machine, Machine, Machine];
  const turn = await startTurn(c);
  const server = await startServer(["--turn", turn], {
    namespace: c.namespace,
    address: c.address,
    env: { DCPIPE_TURN_SECRET: SECRET },
  });
  const [source, target] = [makeFile("f", 300_000), temporaryDirectory()];
  const { waiting, joining } = await pairByCode(
    server.url,
    [["send", source, "--relay", "only"], { namespace: a.namespace }],
    [["receive", "-o", target, "--relay", "only"], { namespace: b.namespace }],
  );
  await succeed(waiting, joining);
  expectEqualFiles(join(target, "f"), source);
  for (const side of [waiting, joining])
    expect(side.find("connected")).toMatchObject({ path: "turn", remote: { address: c.address } });
});

rootTest("a side that wants a relay never meets directly, whatever the other one wants", async (context) => {
  needs(context, "turnserver");
  const [a, b, c] = (await createSwitch(3)) as [Machine, Machine, Machine];
  const server = await startServer(["--turn", await startTurn(c), "--turn-secret", SECRET], {
    namespace: c.namespace,
    address: c.address,
  });
  for (const [w, j] of [
    ["only", "auto"],
    ["auto", "only"],
    ["only", "off"],
    ["off", "only"],
  ] as const) {
    const patience = ["--timeout", "8"];
    const { waiting, joining } = await pairByCode(
      server.url,
      [["pipe", "--relay", w, ...patience], { namespace: a.namespace, stdin: Buffer.from("there") }],
      [["pipe", "--relay", j, ...patience], { namespace: b.namespace }],
    );
    await joining.exited;
    // Whether relays can be had in time is not the question here; that nothing else is used is.
    for (const side of [waiting, joining])
      expect(side.events.filter(({ event, path }) => event === "connected" && path === "direct")).toEqual([]);
    if (w === "off" || j === "off") expect(joining.find("connected")).toBeUndefined();
    waiting.kill("SIGKILL");
    await waiting.exited;
  }
});

rootTest("--relay only at a rendezvous that lends none, and does not relay", async () => {
  const [a, b] = (await createSwitch(2)) as [Machine, Machine];
  const server = await startServer(["--no-relay"], { namespace: a.namespace, address: a.address });
  const waiting = start(["pipe", "--rendezvous", server.url], { namespace: a.namespace });
  const joining = start(["pipe", await waiting.code(), "--relay", "only", "--rendezvous", server.url], {
    namespace: b.namespace,
  });
  await fail(joining, 3, /does not relay/);
  await fail(waiting, 6);
  expect(waiting.error).toMatchObject({ code: "INTERRUPTED" });
});

rootTest("--relay only goes by the rendezvous' own relay, whichever side says it", async () => {
  const [a, b, c] = (await createSwitch(3)) as [Machine, Machine, Machine];
  const server = await startServer([], { namespace: c.namespace, address: c.address });
  for (const [w, j] of [
    ["only", "only"],
    ["only", "auto"],
    ["auto", "only"],
  ] as const) {
    const [source, target] = [makeFile("f", 3_000_000), temporaryDirectory()];
    const { waiting, joining } = await pairByCode(
      server.url,
      [["send", source, "--relay", w], { namespace: a.namespace }],
      [["receive", "-o", target, "--relay", j], { namespace: b.namespace }],
    );
    await succeed(waiting, joining);
    expectEqualFiles(join(target, "f"), source);
    for (const side of [waiting, joining])
      expect(side.find("connected")).toMatchObject({ path: "relay", remote: { address: c.address } });
  }
});
