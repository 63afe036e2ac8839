/** Both sides get other addresses at the same moment: only the rendezvous knows a place where they can find each other. */
import { expect } from "vitest";
import { pairByCode, startServer } from "./code.ts";
import { type Dcpipe, fail, makeFile, pair, rootTest, sha256, succeed } from "./dcpipe.ts";
import { createSwitch, type Machine } from "./switch.ts";
import { openSync, readFileSync } from "node:fs";

const MIB = 1024 * 1024;

/** In mid-transfer, both at once. */
async function moveBoth(reader: Dcpipe, a: Machine, b: Machine): Promise<void> {
  await reader.event("progress", ({ bytes = 0 }) => bytes > MIB);
  a.move("10.66.0.101");
  b.move("10.66.0.102");
}

for (const who of ["waiting", "joining"] as const) {
  rootTest(
    `both move: they meet again at the rendezvous, and what the ${who} side sends goes on`,
    async () => {
      const [a, b, c] = (await createSwitch(3)) as [Machine, Machine, Machine];
      const server = await startServer([], { namespace: c.namespace, address: c.address });
      const source = makeFile("f", 10 * MIB);
      const sending = ["pipe", "--limit", "2M"];
      const stdin = { fd: openSync(source, "r") };
      const { waiting, joining } = await pairByCode(
        server.url,
        who === "waiting"
          ? [sending, { namespace: a.namespace, stdin }]
          : [["pipe"], { namespace: a.namespace }],
        who === "joining"
          ? [sending, { namespace: b.namespace, stdin }]
          : [["pipe"], { namespace: b.namespace }],
      );
      const [sender, reader] = who === "waiting" ? [waiting, joining] : [joining, waiting];
      await moveBoth(reader, a, b);
      await succeed(sender, reader);
      expect(reader.stdout.length).toBe(10 * MIB);
      expect(sha256(reader.stdout)).toBe(sha256(readFileSync(source)));
      expect(waiting.find("connected")).toMatchObject({ remote: { address: "10.66.0.2" } });
      for (const [side, there] of [
        [waiting, "10.66.0.102"],
        [joining, "10.66.0.101"],
      ] as const) {
        expect(side.find("reconnecting")).toBeDefined();
        expect(side.events.findLast(({ event }) => event === "path")).toMatchObject({
          remote: { address: there },
        });
      }
    },
  );
}

rootTest("the control: without a rendezvous they never find each other again", async () => {
  const [a, b] = (await createSwitch(2)) as [Machine, Machine];
  const { waiting, joining } = await pair(
    [
      ["pipe", "--reconnect", "20", "--limit", "2M"],
      { namespace: a.namespace, stdin: { fd: openSync("/dev/zero", "r") } },
    ],
    [["pipe", "--reconnect", "20"], { namespace: b.namespace }],
  );
  await moveBoth(joining, a, b);
  for (const side of [waiting, joining]) {
    await fail(side, 6);
    expect(side.error).toMatchObject({ code: "PEER_GONE" });
    expect(side.find("reconnecting")).toBeDefined();
    expect(side.find("path")).toBeUndefined();
  }
});
