/**
 * A home network in namespaces, without STUN in reach: what is inside cannot be called from outside.
 *
 *   inside: 10.88.1.2 ---- 10.88.1.1 :router: 203.0.113.1 ---- 203.0.113.5 :outside
 *
 * The router masquerades what goes out, and lets in only what answers it (a port-restricted cone).
 */
import { execFileSync } from "node:child_process";
import { onTestFinished } from "vitest";

let count = 0;

const RULES = `
table ip nat {
  chain post {
    type nat hook postrouting priority srcnat;
    oifname wan masquerade
  }
}
table inet filter {
  chain in {
    type filter hook input priority filter;
    ct state established,related accept
    iifname wan drop
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname lan accept
  }
}
`;

/** Names of the two namespaces; they go with the test. */
export function createNat(): { inside: string; outside: string } {
  const [inside, router, outside] = ["inside", "router", "outside"].map(
    (name) => `dce-${process.pid}-${++count}-${name}`,
  ) as [string, string, string];
  const ip = (...args: string[]): unknown =>
    execFileSync("ip", args, { stdio: ["ignore", "ignore", "inherit"] });
  onTestFinished(() => {
    for (const name of [inside, router, outside]) {
      try {
        execFileSync("ip", ["netns", "del", name], { stdio: "ignore" });
      } catch {
        // It was never made.
      }
    }
  });
  for (const name of [inside, router, outside]) {
    ip("netns", "add", name);
    // IPv6 addresses would take seconds of duplicate address detection.
    execFileSync("ip", ["netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
    ip("-n", name, "link", "set", "lo", "up");
  }
  const cable = (
    a: string,
    aName: string,
    aAddress: string,
    b: string,
    bName: string,
    bAddress: string,
  ): void => {
    ip("link", "add", aName, "netns", a, "type", "veth", "peer", "name", bName, "netns", b);
    ip("-n", a, "addr", "add", `${aAddress}/24`, "dev", aName);
    ip("-n", b, "addr", "add", `${bAddress}/24`, "dev", bName);
    ip("-n", a, "link", "set", aName, "up");
    ip("-n", b, "link", "set", bName, "up");
  };
  cable(inside, "eth0", "10.88.1.2", router, "lan", "10.88.1.1");
  cable(outside, "eth0", "203.0.113.5", router, "wan", "203.0.113.1");
  ip("-n", inside, "route", "add", "default", "via", "10.88.1.1");
  execFileSync("ip", ["netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
  execFileSync("ip", ["netns", "exec", router, "nft", "-f", "-"], { input: RULES });
  return { inside, outside };
}
