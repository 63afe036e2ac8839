/** The router asked for a port, by each protocol: packets of a stranger come in while the mapping stands, and only then. */
import { join } from "node:path";
import { expect } from "vitest";
import { needs, Process, rootTest } from "./dcpipe.ts";
import { createHome, OUTER, ROUTER, type Home, type Speaks } from "./home.ts";
import { cable, createNamespaces, ip } from "./nat.ts";

const SCRIPT = join(import.meta.dirname, "mapping.js");
const PORT = 41_000;
const REFUSED = "ECONNREFUSED";

type Line = Readonly<Record<string, unknown>>;

/** The script in a namespace. */
class Host extends Process {
  constructor(namespace: string, verb: string, options: Line) {
    super(["ip", "netns", "exec", namespace, process.execPath, SCRIPT, verb, JSON.stringify(options)], {
      stdin: "pipe",
    });
  }

  get lines(): Line[] {
    const whole = this.stdout.toString().split("\n").slice(0, -1);
    return whole.map((line) => JSON.parse(line) as Line);
  }

  /** The value of a key, as soon as it is said for the nth time. */
  says(key: string, { nth = 1, like = /^/ }: { nth?: number; like?: RegExp } = {}): Promise<unknown> {
    return this.until(`${key} ${like.source}`, () => {
      const values = this.lines.filter((line) => key in line).map((line) => line[key]);
      return values.filter((value) => like.test(String(value)))[nth - 1];
    });
  }
}

interface Mapped {
  readonly protocol: string;
  readonly port: number;
  readonly address: string;
}

function map(namespace: string, options: Line): Host {
  return new Host(namespace, "map", { port: PORT, ...options });
}

async function mapped(host: Host): Promise<Mapped> {
  const mapping = await host.says("mapped");
  expect(mapping, host.stdout.toString()).not.toBeNull();
  return mapping as Mapped;
}

/** Who answers a stranger at a port of the router. */
async function knock({ outside }: Home, port: number): Promise<unknown> {
  return new Host(outside, "knock", { address: ROUTER, port }).says("answer");
}

/** Resolves when a stranger gets this answer: a router forgets, or is told again, when its time comes. */
async function answers(home: Home, port: number, answer: string): Promise<void> {
  while ((await knock(home, port)) !== answer);
}

async function release(host: Host): Promise<void> {
  host.stdin.write("release\n");
  await host.says("released");
}

const EACH: readonly Speaks[] = ["pcp", "nat-pmp", "upnp"];

for (const speaks of [...EACH, "all"] as const) {
  rootTest(
    `a router that speaks ${speaks}: open after the mapping, closed after the release`,
    async (context) => {
      needs(context, "miniupnpd", "nft");
      const home = await createHome(speaks);
      expect(await knock(home, PORT)).toBe(REFUSED);
      const host = map(home.hosts[0], { name: "a" });
      const mapping = await mapped(host);
      expect(mapping).toMatchObject({ port: PORT, address: OUTER });
      if (speaks !== "all") expect(mapping.protocol).toBe(speaks);
      expect(await knock(home, PORT)).toBe("a");
      await release(host);
      expect(await knock(home, PORT)).toBe(REFUSED);
      // Nothing of it keeps the process.
      host.stdin.end();
      expect(await host.exited).toMatchObject({ status: 0 });
    },
  );
}

for (const speaks of EACH) {
  rootTest(`${speaks}: two hosts want the same port, and each has one`, async (context) => {
    needs(context, "miniupnpd", "nft");
    const home = await createHome(speaks);
    const [a, b] = home.hosts.map((host, index) => map(host, { name: "ab"[index] })) as [Host, Host];
    const [one, other] = [await mapped(a), await mapped(b)];
    expect(one.port).not.toBe(other.port);
    expect([one.port, other.port]).toContain(PORT);
    expect(await knock(home, one.port)).toBe("a");
    expect(await knock(home, other.port)).toBe("b");
    await release(a);
    expect(await knock(home, one.port)).toBe(REFUSED);
    expect(await knock(home, other.port)).toBe("b");
    await release(b);
    expect(await knock(home, other.port)).toBe(REFUSED);
  });
}

rootTest("leases of seconds are renewed; those of a program that left end by themselves", async (context) => {
  needs(context, "miniupnpd", "nft");
  await Promise.all(
    EACH.map(async (speaks) => {
      const home = await createHome(speaks);
      const stays = map(home.hosts[0], { name: "a", lifetime: 6 });
      const leaves = map(home.hosts[1], { name: "b", port: PORT + 1, lifetime: 6 });
      await mapped(stays);
      const { port } = await mapped(leaves);
      expect(await knock(home, port)).toBe("b");
      // It has a lease to renew, and is not kept by it.
      leaves.stdin.end();
      expect(await leaves.exited).toMatchObject({ status: 0 });
      await answers(home, port, REFUSED);
      // No two renewals are less than four seconds apart.
      await stays.says("log", { nth: 2, like: /port \d+ renewed/ });
      expect(await knock(home, PORT), speaks).toBe("a");
    }),
  );
});

rootTest("a router that has started anew is told again", async (context) => {
  needs(context, "miniupnpd", "nft");
  await Promise.all(
    EACH.map(async (speaks) => {
      const home = await createHome(speaks);
      const host = map(home.hosts[0], { name: "a", lifetime: 6 });
      await mapped(host);
      expect(await knock(home, PORT)).toBe("a");
      // Its tables are new, and its UPnP is at another port.
      await home.reboot();
      await answers(home, PORT, "a");
    }),
  );
});

rootTest("a program that was killed does not stand in the way of the next", async (context) => {
  needs(context, "miniupnpd", "nft");
  for (const speaks of EACH) {
    const home = await createHome(speaks);
    const killed = map(home.hosts[0], { name: "a" });
    await mapped(killed);
    killed.kill("SIGKILL");
    await killed.exited;
    const next = map(home.hosts[0], { name: "b" });
    const { port } = await mapped(next);
    expect(await knock(home, port), speaks).toBe("b");
  }
});

rootTest("the probe says what a router speaks, and opens nothing", async (context) => {
  needs(context, "miniupnpd", "nft");
  const home = await createHome("all");
  expect(await new Host(home.hosts[0], "probe", {}).says("probe")).toEqual({
    gateway: "10.88.1.1",
    pcp: true,
    natPmp: true,
    upnp: true,
    address: OUTER,
  });
  expect(await knock(home, PORT)).toBe(REFUSED);
});

rootTest("a router that opens no ports, and none at all", async () => {
  const home = await createHome("nothing");
  const [a, b] = home.hosts;
  const nobody = { pcp: false, natPmp: false, upnp: false };
  expect(await new Host(a, "probe", {}).says("probe")).toEqual({ gateway: "10.88.1.1", ...nobody });
  const host = map(a, {});
  expect(await host.says("mapped")).toBeNull();
  ip("-n", b, "route", "del", "default");
  expect(await new Host(b, "probe", {}).says("probe")).toEqual(nobody);
});

rootTest("only the address that is bound, where it is one that the router sees", async (context) => {
  needs(context, "miniupnpd", "nft");
  const home = await createHome("all");
  const [host] = home.hosts;
  ip("-n", host, "addr", "add", "10.88.1.77/24", "dev", "eth0");
  ip("-n", host, "link", "add", "other", "type", "bridge");
  ip("-n", host, "addr", "add", "10.99.0.1/24", "dev", "other");
  const second = map(host, { name: "second", bind: "10.88.1.77" });
  await mapped(second);
  expect(await knock(home, PORT)).toBe("second");
  await release(second);
  const elsewhere = map(host, { name: "elsewhere", bind: "10.99.0.1" });
  expect(await elsewhere.says("mapped")).toBeNull();
});

rootTest("nobody but the router's network hears of it, and a VPN hides the router", async (context) => {
  needs(context, "miniupnpd", "nft");
  const home = await createHome("upnp");
  const [host] = home.hosts;
  const [other] = createNamespaces(["other"]);
  cable([host, "eth1", "10.99.0.1"], [other, "eth0", "10.99.0.2"]);
  const group = { group: "239.255.255.250", port: 1900 };
  // The system would send multicast this way.
  ip("-n", host, "route", "add", "224.0.0.0/4", "dev", "eth1");
  const listener = new Host(other, "hear", { ...group, local: "10.99.0.2" });
  await listener.says("ready");
  await mapped(map(host, { name: "a" }));
  const marker = new Host(host, "shout", { ...group, local: "10.99.0.1", text: "marker" });
  await marker.exited;
  expect(await listener.says("heard")).toBe("marker");

  for (const half of ["0.0.0.0/1", "128.0.0.0/1"]) ip("-n", host, "route", "add", half, "via", "10.99.0.2");
  expect(await new Host(host, "probe", {}).says("probe")).toEqual({ pcp: false, natPmp: false, upnp: false });
});
