/**
 * Two machines with a tunnel between them, which carries less than their cables and drops what is larger:
 *
 *   a: eth0 ---- lan :router: tunnel ====== tunnel :router: lan ---- eth0 :b
 *      1500            |        mtu                                 1500
 *                      +-- tells the sender by ICMP, or says nothing (a "black hole", RFC 2923, section 2.1)
 */
import { execFileSync } from "node:child_process";
import { cable, createNamespaces, ip } from "./nat.ts";

/** Routers that say nothing. */
const SILENCE = `
table inet filter {
  chain out {
    type filter hook output priority filter;
    icmp type destination-unreachable drop
    icmpv6 type packet-too-big drop
  }
}
`;

export interface Narrow {
  /** Names of the two namespaces; they go with the test. */
  readonly a: string;
  readonly b: string;
  /** The tunnel carries packets of so many bytes from now on. */
  readonly carry: (mtu: number) => void;
}

export function createNarrow({
  mtu,
  family = 4,
  told = false,
}: {
  readonly mtu: number;
  readonly family?: 4 | 6;
  readonly told?: boolean;
}): Narrow {
  const [a, near, far, b] = createNamespaces(["a", "near", "far", "b"]);
  const sysctl = (namespace: string, ...settings: string[]): void => {
    execFileSync("ip", ["netns", "exec", namespace, "sysctl", "-qw", ...settings]);
  };
  const all = [a, near, far, b];
  for (const name of family === 6 ? all : [])
    sysctl(
      name,
      ...["all", "default"].flatMap((which) => [
        `net.ipv6.conf.${which}.disable_ipv6=0`,
        `net.ipv6.conf.${which}.accept_dad=0`,
      ]),
    );
  cable([a, "eth0"], [near, "lan"]);
  cable([near, "tunnel"], [far, "tunnel"]);
  cable([far, "lan"], [b, "eth0"]);
  const address = (net: number, host: number): string =>
    family === 6 ? `2001:db8:${net}::${host}` : `10.99.${net}.${host}`;
  const give = (namespace: string, device: string, net: number, host: number): void => {
    const size = family === 6 ? 64 : 24;
    ip("-n", namespace, "addr", "add", `${address(net, host)}/${size}`, "dev", device);
  };
  const route = (namespace: string, where: string, via: string): void => {
    ip(`-${family}`, "-n", namespace, "route", "add", where, "via", via);
  };
  give(a, "eth0", 1, 2);
  give(near, "lan", 1, 1);
  give(near, "tunnel", 2, 1);
  give(far, "tunnel", 2, 2);
  give(far, "lan", 3, 1);
  give(b, "eth0", 3, 2);
  route(a, "default", address(1, 1));
  route(near, "default", address(2, 2));
  route(far, "default", address(2, 1));
  route(b, "default", address(3, 1));
  for (const router of [near, far]) {
    sysctl(router, "net.ipv4.ip_forward=1", ...(family === 6 ? ["net.ipv6.conf.all.forwarding=1"] : []));
    if (!told) execFileSync("ip", ["netns", "exec", router, "nft", "-f", "-"], { input: SILENCE });
  }
  const carry = (bytes: number): void => {
    for (const router of [near, far]) ip("-n", router, "link", "set", "tunnel", "mtu", String(bytes));
  };
  carry(mtu);
  return { a, b, carry };
}

/** Two machines and a cable for large frames. */
export function createJumbo(): { readonly a: string; readonly b: string } {
  const [a, b] = createNamespaces(["a", "b"]);
  cable([a, "eth0", "10.99.1.1"], [b, "eth0", "10.99.1.2"]);
  for (const name of [a, b]) ip("-n", name, "link", "set", "eth0", "mtu", "9000");
  return { a, b };
}
