/**
 * Namespaces and cables: two hosts, the routers in front of them, and an internet which is a router with the servers' addresses.
 *
 *   a: 192.168.1.2 --- lan, 192.168.1.1 :home: wan, 203.0.113.1 ---+
 *                                                                  +--- 203.0.113.254 :internet: 203.0.113.10, 198.51.100.10
 *   b: 192.168.2.2 --- lan, 192.168.2.1 :home: wan, 203.0.113.2 ---+                             2001:db8::10, 2001:db8::20
 *
 * Without NAT a host is plugged into the internet, at 203.0.113.66 or 203.0.113.130. A carrier's NAT stands between home and internet;
 * the home's outer address is 100.64.1.2 then. With IPv6 a LAN has 2001:db8:1::/64. All of this is in namespaces: many labs live side
 * by side.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { createNamespaces, run, untilRunning } from "../lab/exec.js";
import { countingRules, internetRules, rules } from "./rules.js";

/** Addresses of the server, IPv4 and IPv6: the first for the rendezvous and STUN, the second for TURN and STUN's other address. */
export const FIRST = ["203.0.113.10", "2001:db8::10"];
export const SECOND = ["198.51.100.10", "2001:db8::20"];
/** Who has which of them. */
const NAMES = { "rendezvous.test": FIRST, "stun.test": FIRST, "turn.test": SECOND };

/** The internet's end of every line. */
const GATEWAY_OUTSIDE = "203.0.113.254";
/** A network's gateway has the first address. */
const GATEWAY = 1;
const FORWARDING = { "net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1 };
/** As long as Linux keeps a UDP mapping with traffic both ways, seconds. */
const UDP_TIMEOUT = 120;
/** Metrics of default routes as NetworkManager gives them: a cable is better than Wi-Fi. */
const WIFI_METRIC = 600;
const CABLE_METRIC = 100;

/** Runs a command inside a namespace, with this on its standard input. */
async function feed(namespace, argv, input) {
  const child = spawn("ip", ["netns", "exec", namespace, ...argv], { stdio: ["pipe", "ignore", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (said += text));
  child.stdin.end(input);
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`${argv.join(" ")}: ${said.trim()}\n${input}`);
}

/** Many ip(8) commands in one process. */
function batch(namespace, commands) {
  return feed(namespace, ["ip", "-batch", "-"], commands.map((each) => `${each}\n`).join(""));
}

/** Loads nftables rules. */
export function load(namespace, ruleset) {
  return feed(namespace, ["nft", "-f", "-"], ruleset);
}

/** Settings that this kernel does not know are passed over. */
function set(namespace, settings) {
  const words = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
  return run("ip", "netns", "exec", namespace, "sysctl", "-eqw", ...words);
}

/** A veth pair; both ends are up. */
async function cable(one, other) {
  const [[here, device], [there, port]] = [one, other];
  await run("ip", "link", "add", device, "netns", here, "type", "veth", "peer", "name", port, "netns", there);
  await run("ip", "-n", there, "link", "set", port, "up");
  await run("ip", "-n", here, "link", "set", device, "up");
}

/** Makes a namespace, with what its programs need to know of names. */
async function make(name, { ipv4, ipv6 }) {
  await createNamespaces(name);
  const families = [ipv4, ipv6];
  const hosts = Object.entries(NAMES).flatMap(([name, addresses]) =>
    addresses.filter((_, family) => families[family]).map((address) => `${address} ${name}\n`),
  );
  // `ip netns exec` mounts these over those in /etc. Nobody answers for other names: a resolver must not wait for long.
  const etc = `/etc/netns/${name}`;
  mkdirSync(etc, { recursive: true });
  writeFileSync(`${etc}/hosts`, `127.0.0.1 localhost\n::1 localhost\n${hosts.join("")}`);
  writeFileSync(`${etc}/resolv.conf`, `nameserver ${FIRST[0]}\noptions timeout:1 attempts:1\n`);
  const six = ipv6 ? 0 : 1;
  await set(name, {
    "net.ipv6.conf.all.disable_ipv6": six,
    "net.ipv6.conf.default.disable_ipv6": six,
    // Duplicate address detection takes seconds.
    "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0,
  });
}

/** Addresses of one network. The gateway has the first of them. */
class Subnet {
  ipv4;
  ipv6;
  #four;
  #six;

  /** @param {{ four?: { net: string, base: number, length: number }, six?: string }} prefixes such as 192.168.1, 0, 24 and 2001:db8:1 */
  constructor({ four, six }) {
    this.ipv4 = four !== undefined;
    this.ipv6 = six !== undefined;
    this.#four = four;
    this.#six = six;
  }

  address(number) {
    return this.#four && `${this.#four.net}.${this.#four.base + number}`;
  }

  address6(number) {
    return this.#six && `${this.#six}::${number}`;
  }

  /** Commands that give a device the addresses of that number. */
  configure(device, number) {
    return [
      ...(this.ipv4 ? [`addr add ${this.address(number)}/${this.#four.length} dev ${device}`] : []),
      ...(this.ipv6 ? [`addr add ${this.address6(number)}/64 dev ${device} nodad`] : []),
    ];
  }

  /** Commands that lead all else to the gateway. */
  route(device, metric) {
    const rest = `dev ${device} metric ${metric}`;
    return [
      ...(this.ipv4 ? [`route replace default via ${this.address(GATEWAY)} ${rest}`] : []),
      ...(this.ipv6 ? [`route replace ::/0 via ${this.address6(GATEWAY)} ${rest}`] : []),
    ];
  }
}

/** A bridge of a router into which hosts are plugged. */
class Lan {
  subnet;
  #namespace;
  #bridge;
  #ports = 0;

  constructor(namespace, bridge, subnet) {
    this.subnet = subnet;
    this.#namespace = namespace;
    this.#bridge = bridge;
  }

  async build() {
    const bridge = this.#bridge;
    await batch(this.#namespace, [
      `link add ${bridge} type bridge`,
      `link set ${bridge} up`,
      ...this.subnet.configure(bridge, GATEWAY),
    ]);
    // Where br_netfilter is loaded, the router's rules would see frames on the bridge, and what is to go back to its sender be lost there.
    const passing = "net.bridge.bridge-nf-call-iptables=0";
    await run("ip", "netns", "exec", this.#namespace, "sysctl", "-eqw", passing);
  }

  async plug(namespace, device) {
    const port = `${this.#bridge}-${++this.#ports}`;
    await cable([namespace, device], [this.#namespace, port]);
    await run("ip", "-n", this.#namespace, "link", "set", port, "master", this.#bridge);
  }
}

/** The router between all of them, which has the servers' addresses. */
export class Internet {
  namespace;

  constructor(namespace) {
    this.namespace = namespace;
  }

  async build() {
    const { namespace } = this;
    await make(namespace, { ipv4: true, ipv6: true });
    await set(namespace, FORWARDING);
    await this.setTold(true);
    await load(namespace, countingRules(FIRST, SECOND));
    await batch(namespace, [
      ...[...FIRST, ...SECOND].map((address) => `addr add ${address} dev lo`),
      // A server's packets to nowhere get lost as everybody's do, and are no error to it: TURN servers end allocations for errors.
      "route add default dev lo",
    ]);
  }

  /** Whether senders are told of packets that were too large for a link. */
  setTold(told) {
    return load(this.namespace, internetRules({ told }));
  }

  /**
   * Bytes since the last call, headers and all: UDP from home to home, all that came to the TURN server, and to https://rendezvous.test/.
   * @returns {Promise<{ direct: number, turn: number, relay: number }>}
   */
  async traffic() {
    const counters = ["-j", "reset", "counters", "table", "inet", "count"];
    const { nftables } = JSON.parse(await run("ip", "netns", "exec", this.namespace, "nft", ...counters));
    return Object.fromEntries(
      nftables.flatMap(({ counter }) => (counter ? [[counter.name, counter.bytes]] : [])),
    );
  }

  /** A network of public addresses for the side of that number. */
  async createLan(n) {
    const lan = new Lan(
      this.namespace,
      `public${n}`,
      new Subnet({ four: { net: "203.0.113", base: 64 * n, length: 26 } }),
    );
    await lan.build();
    return lan;
  }

  /** Connects a router's "wan", at that address; with IPv6, 2001:db8:N::/64 is behind it. */
  async connect(namespace, { n, address, ipv6 }) {
    const port = `to-${n}`;
    await cable([namespace, "wan"], [this.namespace, port]);
    const [here, there] = [[], []];
    if (address !== undefined) {
      there.push(`addr add ${GATEWAY_OUTSIDE} peer ${address} dev ${port}`);
      here.push(`addr add ${address} peer ${GATEWAY_OUTSIDE} dev wan`);
      here.push(`route add default via ${GATEWAY_OUTSIDE}`);
    }
    if (ipv6) {
      const uplink = new Subnet({ six: `2001:db8:f${n}` });
      there.push(
        ...uplink.configure(port, GATEWAY),
        `route add 2001:db8:${n}::/64 via ${uplink.address6(2)}`,
      );
      here.push(...uplink.configure("wan", 2), `route add ::/0 via ${uplink.address6(GATEWAY)}`);
    }
    await batch(this.namespace, there);
    await batch(namespace, here);
    return port;
  }
}

/** A NAT, a firewall, or both: outside is its "wan", inside are those whose names begin with "lan". */
export class Router {
  namespace;
  /** The outer IPv4 address; private behind a carrier. */
  outer;
  /** What must be started again after a boot. @type {() => Promise<unknown>} */
  onboot = async () => {};
  #routing;
  #internet;
  #port;

  /** @param {Partial<import("./rules.js").Routing>} routing */
  constructor(namespace, outer, routing) {
    this.namespace = namespace;
    this.outer = outer;
    this.#routing = {
      nat: undefined,
      out: "all",
      hairpin: false,
      boots: 0,
      udpTimeout: UDP_TIMEOUT,
      told: true,
      outer,
      ...routing,
    };
  }

  async build(families) {
    await make(this.namespace, families);
    await set(this.namespace, FORWARDING);
    await this.#load();
  }

  /** @param {Subnet} subnet */
  async createLan(bridge, subnet) {
    const lan = new Lan(this.namespace, bridge, subnet);
    await lan.build();
    return lan;
  }

  async connect(internet, n, ipv6) {
    this.#internet = internet;
    this.#port = await internet.connect(this.namespace, { n, address: this.outer, ipv6 });
  }

  /** Connects a home to this carrier. */
  async connectHome(home, n) {
    const inner = new Subnet({ four: { net: `100.64.${n}`, base: 0, length: 24 } });
    await cable([home.namespace, "wan"], [this.namespace, "lan"]);
    await batch(this.namespace, inner.configure("lan", GATEWAY));
    await batch(home.namespace, [...inner.configure("wan", 2), ...inner.route("wan", 0)]);
  }

  /** Forgets all mappings, as if it had booted: inner ports get other outer ones from now on, and opened ports are closed. */
  async reboot() {
    this.#routing.boots++;
    await this.#load();
    await run("ip", "netns", "exec", this.namespace, "conntrack", "-F");
    await this.onboot();
  }

  /** UDP mappings without traffic live for so many seconds. What a cone NAT lets strangers use is closed until the host sends again. */
  async setUdpTimeout(seconds) {
    this.#routing.udpTimeout = seconds;
    await set(this.namespace, {
      "net.netfilter.nf_conntrack_udp_timeout": seconds,
      "net.netfilter.nf_conntrack_udp_timeout_stream": seconds,
    });
    await this.#load();
  }

  /**
   * The largest packet that passes to the internet and back, bytes. With `told` senders of larger ones learn so, as they should
   * (RFC 1191, RFC 8201); without, nobody on this internet is told of any.
   */
  async setMtu(mtu, { told = true } = {}) {
    if (!this.#internet) throw new Error("only what is connected to the internet itself has an MTU here");
    this.#routing.told = told;
    await this.#load();
    await this.#internet.setTold(told);
    await run("ip", "-n", this.#internet.namespace, "link", "set", this.#port, "mtu", String(mtu));
    await run("ip", "-n", this.namespace, "link", "set", "wan", "mtu", String(mtu));
  }

  #load() {
    return load(this.namespace, rules(this.#routing));
  }
}

/** One of the two machines. */
export class Host {
  /** Name of its namespace. */
  namespace;
  /** Its IPv4 and IPv6 addresses, where it has any. @type {string | undefined} */
  address;
  /** @type {string | undefined} */
  address6;
  /** The routers on its way, the nearest first. @type {Router[]} */
  routers;
  /** What programs on it need in their environment. @type {Record<string, string>} */
  env = {};
  #lan;
  #last;
  #devices = 0;

  /** @param {number} first number of its first address */
  constructor(namespace, lan, routers, first = GATEWAY + 1) {
    this.namespace = namespace;
    this.routers = routers;
    this.#lan = lan;
    this.#last = first - 1;
  }

  async build() {
    await make(this.namespace, this.#lan.subnet);
    // Otherwise a cable that is pulled takes IPv6 addresses with it; IPv4 ones stay anyway.
    await set(this.namespace, { "net.ipv6.conf.all.keep_addr_on_down": 1 });
    await this.#lan.plug(this.namespace, "eth0");
    await this.#configure("eth0", WIFI_METRIC);
    // The kernel takes up to a second to call it running, and until then nobody sees its addresses.
    await untilRunning(this.namespace, "eth0");
  }

  /** Pulls the cable. */
  unplug() {
    return run("ip", "-n", this.namespace, "link", "set", "eth0", "down");
  }

  async plug() {
    await run("ip", "-n", this.namespace, "link", "set", "eth0", "up");
    await batch(this.namespace, this.#lan.subnet.route("eth0", WIFI_METRIC));
    await untilRunning(this.namespace, "eth0");
  }

  /** Has other addresses on its network from now on, and only those. */
  async move() {
    await run("ip", "-n", this.namespace, "addr", "flush", "dev", "eth0", "scope", "global");
    await this.#configure("eth0", WIFI_METRIC);
  }

  /** A second interface on the same network, preferred to the first: a cable for a laptop with Wi-Fi. */
  async addInterface() {
    const device = `eth${++this.#devices}`;
    await this.#lan.plug(this.namespace, device);
    await this.#configure(device, CABLE_METRIC);
    await untilRunning(this.namespace, device);
    return {
      device,
      address: this.address,
      address6: this.address6,
      remove: () => run("ip", "-n", this.namespace, "link", "del", device),
    };
  }

  /** Gives a device the next addresses. */
  async #configure(device, metric) {
    const { subnet } = this.#lan;
    const number = ++this.#last;
    this.address = subnet.address(number);
    this.address6 = subnet.address6(number);
    await batch(this.namespace, [...subnet.configure(device, number), ...subnet.route(device, metric)]);
  }
}

/** The network of a home. */
export function homeSubnet(n, { ipv4, ipv6 }) {
  return new Subnet({
    ...(ipv4 ? { four: { net: `192.168.${n}`, base: 0, length: 24 } } : {}),
    ...(ipv6 ? { six: `2001:db8:${n}` } : {}),
  });
}
