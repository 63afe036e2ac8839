/** The lab's networks are what they say they are, and a sample of the grid (npm run soak -- --grid runs all of it). */
import { execFileSync } from "node:child_process";
import { expect } from "vitest";
import { needs, rootTest, start } from "./dcpipe.ts";
import { createLab, type Lab, type Means, type Outcome, reflexive, runCell, runIn } from "./netlab.ts";

const PROGRAMS = ["nft", "conntrack", "turnserver", "openssl", "turnutils_natdiscovery"];

/** Demands what theory says of these two. */
async function expectCell(lab: Lab, waiting: string, joining: string, means: Means): Promise<Outcome> {
  const outcome = await runCell(lab, waiting, joining, means);
  expect(outcome.faults, `${means}, ${outcome.expected} expected\n${outcome.said}`).toEqual([]);
  return outcome;
}

rootTest("each NAT is of its kind, as an RFC 5780 client sees it", async (context) => {
  needs(context, ...PROGRAMS);
  const behaviour = async (host: Lab["a"]): Promise<string[]> => {
    const told = await runIn(host.namespace, "turnutils_natdiscovery", "-m", "-f", "203.0.113.10");
    return [...told.matchAll(/^NAT with (.+)!$/gm)].map(([, what]) => what ?? "");
  };
  const labs = await Promise.all([
    createLab("full-cone", "address-restricted", { rendezvous: false }),
    createLab("port-restricted", "symmetric", { rendezvous: false }),
    createLab("cgn", "cgn-symmetric", { rendezvous: false }),
  ]);
  const told = await Promise.all(labs.flatMap(({ a, b }) => [behaviour(a), behaviour(b)]));
  const [free, bound] = ["Endpoint Independent Mapping", "Address and Port Dependent Mapping"];
  const strict = "Address and Port Dependent Filtering";
  expect(told).toEqual([
    [free, "Endpoint Independent Filtering"],
    [free, "Address Dependent Filtering"],
    [free, strict],
    [bound, strict],
    [free, strict],
    [bound, strict],
  ]);
});

rootTest(
  "a router that boots gives other ports; a host that moves is another one behind them",
  async (context) => {
    needs(context, ...PROGRAMS);
    const { a, b } = await createLab("full-cone", "symmetric", { rendezvous: false });
    const before = await reflexive(a, 4000);
    expect(before).toBe("203.0.113.1:4000");
    expect(await reflexive(a, 4000, 2)).toBe(before);
    expect(await reflexive(b, 4000, 2)).not.toBe(await reflexive(b, 4000));
    await a.routers[0]?.reboot();
    const after = await reflexive(a, 4000);
    expect(after).toMatch(/^203\.0\.113\.1:/);
    expect(after).not.toBe(before);
    expect(await reflexive(a, 4000, 2)).toBe(after);
    await a.move();
    expect(await reflexive(a, 4000)).not.toBe(after);
    await a.unplug();
    expect(execFileSync("ip", ["-n", a.namespace, "route"], { encoding: "utf8" })).toBe("");
    await a.plug();
    expect(await reflexive(a, 4000)).toMatch(/^203\.0\.113\.1:/);
  },
);

rootTest("two home routers", async (context) => {
  needs(context, ...PROGRAMS);
  const lab = await createLab("port-restricted");
  await expectCell(lab, "port-restricted", "port-restricted", "paste");
  await expectCell(lab, "port-restricted", "port-restricted", "code");
});

rootTest("a mobile network and a home router: TURN, or nothing by pasting", async (context) => {
  needs(context, ...PROGRAMS);
  const lab = await createLab("cgn-symmetric", "port-restricted");
  // What has no way only waits for its end, and disturbs nobody.
  await Promise.all(
    (["paste", "paste-turn"] as const).map((means) =>
      expectCell(lab, "cgn-symmetric", "port-restricted", means),
    ),
  );
});

rootTest("a symmetric NAT and a full cone", async (context) => {
  needs(context, ...PROGRAMS);
  await expectCell(await createLab("symmetric", "full-cone"), "symmetric", "full-cone", "paste");
});

rootTest("two machines at home", async (context) => {
  needs(context, ...PROGRAMS);
  const lab = await createLab("same-lan");
  const { remotes } = await expectCell(lab, "same-lan", "same-lan", "code");
  expect(remotes).toEqual([lab.b.address, lab.a.address]);
});

rootTest("one router between two subnets, which hairpins", async (context) => {
  needs(context, ...PROGRAMS);
  const { remotes } = await expectCell(await createLab("hairpin"), "hairpin", "hairpin", "code");
  expect(remotes).toEqual(["203.0.113.1", "203.0.113.1"]);
});

rootTest("IPv6 with a firewall on both sides, one of them without IPv4", async (context) => {
  needs(context, ...PROGRAMS);
  await expectCell(await createLab("ipv6-only", "dual-stack"), "ipv6-only", "dual-stack", "code");
});

rootTest(
  "codes are to be had where only TCP to port 443 gets out, and where only a proxy does",
  async (context) => {
    needs(context, ...PROGRAMS);
    const lab = await createLab("udp-blocked", "proxy-only");
    for (const { namespace, env } of [lab.a, lab.b]) {
      const waiting = start(["pipe", "--rendezvous", lab.rendezvous.https], { namespace, env });
      expect(await waiting.code()).toMatch(/^\d+-/);
      expect(
        await start(["pipe", "--timeout", "1", "--rendezvous", lab.rendezvous.http], { namespace, env })
          .exited,
      ).toMatchObject({ status: 3 });
    }
  },
);
