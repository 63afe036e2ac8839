/**
 * Home networks in namespaces, without STUN in reach unless the test has a server: what is inside cannot be called from outside.
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
  const [inside, router, outside] = createNamespaces(["inside", "router", "outside"]);
  cable([inside, "eth0", "10.88.1.2"], [router, "lan", "10.88.1.1"]);
  cable([outside, "eth0", "203.0.113.5"], [router, "wan", "203.0.113.1"]);
  route(inside, router, "10.88.1.1", RULES);
  return { inside, outside };
}

/**
 * What a NAT does with a port that sends to several places (RFC 4787, section 4), and whom it lets in:
 *
 *   full cone          one port outside for each port inside, open to everybody
 *   port-restricted    one port outside for each port inside, open to those places only
 *   symmetric          another port outside for each place, open to that one only
 */
export type NatKind = "full cone" | "port-restricted" | "symmetric";

const KINDS: Readonly<Record<NatKind, (inside: string) => string>> = {
  "full cone": (inside) => `
    table ip open {
      chain pre {
        type nat hook prerouting priority dstnat;
        iifname wan udp dport 1024-65535 dnat to ${inside}
      }
    }
    ${RULES.replace("iifname lan accept", "iifname lan accept; iifname wan meta l4proto udp accept")}`,
  "port-restricted": () => RULES,
  symmetric: () => RULES.replace("masquerade", "masquerade fully-random"),
};

/**
 * A network for each kind, 10.88.N.0/24 behind a router with 203.0.113.(10 + N), and a public machine:
 *
 *   inside N: 10.88.N.2 ---- 10.88.N.1 :router N: 203.0.113.(10 + N) ---- 203.0.113.5 and .6 :outside
 */
export function createNats(kinds: readonly NatKind[]): { insides: readonly string[]; outside: string } {
  const [outside] = createNamespaces(["outside"]);
  ip("-n", outside, "link", "add", "public", "type", "bridge");
  // Two of them: a STUN server with one address cannot tell what a NAT does (RFC 5780, section 4).
  for (const address of ["203.0.113.5/24", "203.0.113.6/24"])
    ip("-n", outside, "addr", "add", address, "dev", "public");
  ip("-n", outside, "link", "set", "public", "up");
  // Elsewhere is nobody, which a sender on the internet is not told: a TURN server ends allocations whose sends fail.
  ip("-n", outside, "route", "add", "default", "dev", "lo");
  const insides = kinds.map((kind, index) => {
    const [inside, router] = createNamespaces(["inside", "router"]);
    const [lan, port] = [`10.88.${index + 1}`, `port${index + 1}`];
    cable([inside, "eth0", `${lan}.2`], [router, "lan", `${lan}.1`]);
    cable([router, "wan", `203.0.113.${index + 11}`], [outside, port]);
    ip("-n", outside, "link", "set", port, "master", "public");
    route(inside, router, `${lan}.1`, KINDS[kind](`${lan}.2`));
    return inside;
  });
  return { insides, outside };
}

/** They go with the test. */
export function createNamespaces<const T extends readonly string[]>(roles: T): { [I in keyof T]: string } {
  const names = roles.map((role) => `dce-${process.pid}-${++count}-${role}`);
  onTestFinished(() => {
    for (const name of names) {
      try {
        execFileSync("ip", ["netns", "del", name], { stdio: "ignore" });
      } catch {
        // It was never made.
      }
    }
  });
  for (const name of names) {
    ip("netns", "add", name);
    // IPv6 addresses would take seconds of duplicate address detection.
    execFileSync("ip", ["netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
    ip("-n", name, "link", "set", "lo", "up");
  }
  return names as { [I in keyof T]: string };
}

export type Plug = readonly [namespace: string, device: string, address?: string];

export function cable(a: Plug, b: Plug): void {
  ip("link", "add", a[1], "netns", a[0], "type", "veth", "peer", "name", b[1], "netns", b[0]);
  for (const [namespace, device, address] of [a, b]) {
    if (address !== undefined) ip("-n", namespace, "addr", "add", `${address}/24`, "dev", device);
    ip("-n", namespace, "link", "set", device, "up");
  }
}

function route(inside: string, router: string, gateway: string, rules: string): void {
  ip("-n", inside, "route", "add", "default", "via", gateway);
  execFileSync("ip", ["netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
  execFileSync("ip", ["netns", "exec", router, "nft", "-f", "-"], { input: rules });
}

export function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "inherit"] });
}
