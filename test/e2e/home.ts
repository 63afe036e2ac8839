/**
 * A home whose router opens ports: miniupnpd, which speaks PCP, NAT-PMP and UPnP IGD, on nftables.
 *
 *   hosts: 10.88.1.2, 10.88.1.3 ---- 10.88.1.1 :router: 203.0.113.1 ---- 203.0.113.5 :outside
 *
 * What is not mapped is refused by ICMP, so that who knocks gets an answer in either case.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Process, temporaryDirectory } from "./dcpipe.ts";
import { cable, createNamespaces, ip } from "./nat.ts";

export type Speaks = "pcp" | "nat-pmp" | "upnp" | "all" | "nothing";

/** miniupnpd has PCP and NAT-PMP together or not at all: the first byte of a request, its version, tells them apart. */
const SILENCED: Readonly<Record<Speaks, string>> = {
  pcp: "udp dport 5351 @th,64,8 0 drop",
  "nat-pmp": "udp dport 5351 @th,64,8 2 drop",
  upnp: "",
  all: "",
  nothing: "",
};

/**
 * The tables of the router. Those of miniupnpd are its own; in the base chain a mapped packet needs a yes as well, since a chain's
 * accept does not hold in another. After a mapping has gone, its connections live on in conntrack: knock from another port.
 */
const rules = (speaks: Speaks): string => `
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
    iifname wan reject
    ${SILENCED[speaks]}
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ct status dnat accept
    iifname lan accept
  }
}
`;

const MINIUPNPD_TABLE = `
table inet miniupnpd
delete table inet miniupnpd
table inet miniupnpd {
  chain forward {
  }
  chain prerouting {
    type nat hook prerouting priority -105;
  }
  chain postrouting {
    type nat hook postrouting priority 95;
  }
}
`;

/**
 * miniupnpd opens no ports behind an outer address that is reserved, as all are that a lab may have: it is told another one, which it
 * tells on, and which nothing is ever sent to.
 */
export const OUTER = "44.0.0.1";
export const ROUTER = "203.0.113.1";

/** Leases of seconds are allowed here. */
const configuration = (speaks: Speaks): string => `
ext_ifname=wan
ext_ip=${OUTER}
listening_ip=lan
ipv6_disable=yes
enable_natpmp=${speaks === "upnp" ? "no" : "yes"}
enable_upnp=${speaks === "upnp" || speaks === "all" ? "yes" : "no"}
min_lifetime=1
max_lifetime=86400
upnp_table_name=miniupnpd
upnp_nat_table_name=miniupnpd
upnp_forward_chain=forward
upnp_nat_chain=prerouting
upnp_nat_postrouting_chain=postrouting
`;

export interface Home {
  /** Names of namespaces. */
  readonly hosts: readonly [string, string];
  readonly outside: string;
  /** The router forgets everything, and starts anew. */
  reboot(): Promise<void>;
}

/** Goes with the test. */
export async function createHome(speaks: Speaks): Promise<Home> {
  const [a, b, router, outside] = createNamespaces(["a", "b", "router", "outside"]);
  ip("-n", router, "link", "add", "lan", "type", "bridge");
  ip("-n", router, "addr", "add", "10.88.1.1/24", "dev", "lan");
  ip("-n", router, "link", "set", "lan", "up");
  for (const [index, host] of [a, b].entries()) {
    cable([host, "eth0", `10.88.1.${index + 2}`], [router, `port${index}`]);
    ip("-n", router, "link", "set", `port${index}`, "master", "lan");
    ip("-n", host, "route", "add", "default", "via", "10.88.1.1");
  }
  cable([outside, "eth0", "203.0.113.5"], [router, "wan", ROUTER]);
  // Who knocks often gets an answer each time.
  inside(router, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0");
  nft(router, rules(speaks));
  let daemon = await start();
  return {
    hosts: [a, b],
    outside,
    reboot: async () => {
      daemon?.kill("SIGKILL");
      await daemon?.exited;
      daemon = await start();
    },
  };

  async function start(): Promise<Process | undefined> {
    if (speaks === "nothing") return undefined;
    nft(router, MINIUPNPD_TABLE);
    const directory = temporaryDirectory();
    const file = join(directory, "miniupnpd.conf");
    writeFileSync(file, configuration(speaks));
    const started = new Process([
      "ip",
      "netns",
      "exec",
      router,
      "miniupnpd",
      "-d",
      "-f",
      file,
      "-P",
      join(directory, "pid"),
    ]);
    const last = speaks === "upnp" ? "HTTP listening" : "Listening for NAT-PMP/PCP";
    await started.until(last, () => started.stderr.includes(last) || undefined);
    return started;
  }
}

function nft(namespace: string, ruleset: string): void {
  execFileSync("ip", ["netns", "exec", namespace, "nft", "-f", "-"], { input: ruleset });
}

function inside(namespace: string, ...command: readonly string[]): void {
  execFileSync("ip", ["netns", "exec", namespace, ...command], { stdio: ["ignore", "ignore", "inherit"] });
}
