/**
 * Two homes, each behind a NAT of its own, and between them a switch with a machine for servers:
 *
 *   a: 10.1.0.2 ---- 10.1.0.1 :nat: 203.0.113.1 ----+
 *                                                   +---- switch, hub: 203.0.113.254
 *   b: 10.2.0.2 ---- 10.2.0.1 :nat: 203.0.113.2 ----+
 *
 * The NATs give each inner port one outer port, and let in only what answers (port-restricted cones, RFC 4787).
 */
import { spawnSync } from "node:child_process";
import { PREFIX, createNamespaces, removeNamespace, run, undoOnExit, untilRunning } from "./exec.js";

const HUB = "203.0.113.254";
/** Outer ports of a NAT after each of its boots: ranges of this size, one after the other. */
const PORTS = 5000;
const FIRST_PORT = 10_000;
const BOOTS = 10;

let count = 0;

/** The ruleset of a NAT in its n-th life. */
function rules(boot) {
  const first = FIRST_PORT + (boot % BOOTS) * PORTS;
  return `
    flush ruleset
    table ip nat {
      chain post {
        type nat hook postrouting priority srcnat;
        oifname wan meta l4proto { tcp, udp } masquerade to :${first}-${first + PORTS - 1}
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
}

/** One home and its NAT. */
class Home {
  /** Name of the namespace of the machine. */
  namespace;
  /** Outer address of the NAT. */
  outer;
  #nat;
  #net;
  #last = 2;
  #boots = 0;

  constructor(namespace, nat, net, outer) {
    this.namespace = namespace;
    this.outer = outer;
    this.#nat = nat;
    this.#net = net;
  }

  async cable(hub, port) {
    const [here, nat] = [this.namespace, this.#nat];
    await run(
      "ip",
      "link",
      "add",
      "eth0",
      "netns",
      here,
      "type",
      "veth",
      "peer",
      "name",
      "lan",
      "netns",
      nat,
    );
    await run("ip", "link", "add", "wan", "netns", nat, "type", "veth", "peer", "name", port, "netns", hub);
    await run("ip", "-n", hub, "link", "set", port, "master", "bridge", "up");
    await run("ip", "-n", nat, "addr", "add", `${this.#net}.1/24`, "dev", "lan");
    await run("ip", "-n", nat, "link", "set", "lan", "up");
    await run("ip", "-n", nat, "addr", "add", `${this.outer}/24`, "dev", "wan");
    await run("ip", "-n", nat, "link", "set", "wan", "up");
    await run("ip", "-n", here, "addr", "add", `${this.#net}.2/24`, "dev", "eth0");
    await run("ip", "netns", "exec", nat, "sysctl", "-qw", "net.ipv4.ip_forward=1");
    this.#load();
    await this.plug();
    await untilRunning(here, "eth0");
    await untilRunning(nat, "wan");
  }

  /** Pulls the machine's cable. */
  unplug() {
    return run("ip", "-n", this.namespace, "link", "set", "eth0", "down");
  }

  async plug() {
    await run("ip", "-n", this.namespace, "link", "set", "eth0", "up");
    await this.#route();
  }

  /** The machine has another address from now on, and only that. */
  async move() {
    const address = `${this.#net}.${++this.#last}`;
    await run("ip", "-n", this.namespace, "addr", "flush", "dev", "eth0");
    await run("ip", "-n", this.namespace, "addr", "add", `${address}/24`, "dev", "eth0");
    await this.#route();
  }

  /** The NAT forgets all it knew, and gives other ports from now on, at another address if one is given. */
  async reboot(outer = this.outer) {
    // Linux drops what it has masqueraded when the interface goes.
    await run("ip", "-n", this.#nat, "link", "set", "wan", "down");
    this.#load();
    await run("ip", "-n", this.#nat, "addr", "flush", "dev", "wan");
    await run("ip", "-n", this.#nat, "addr", "add", `${outer}/24`, "dev", "wan");
    this.outer = outer;
    await run("ip", "-n", this.#nat, "link", "set", "wan", "up");
  }

  #load() {
    const { status, stderr } = spawnSync("ip", ["netns", "exec", this.#nat, "nft", "-f", "-"], {
      input: rules(this.#boots++),
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(`nft: ${stderr}`);
  }

  #route() {
    return run("ip", "-n", this.namespace, "route", "replace", "default", "via", `${this.#net}.1`);
  }
}

export async function createHomes() {
  const name = (what) => `${PREFIX}homes${count}-${what}`;
  count++;
  const names = { a: name("a"), b: name("b"), natA: name("nat-a"), natB: name("nat-b"), hub: name("hub") };
  const undo = undoOnExit(() => Object.values(names).forEach(removeNamespace));
  try {
    await createNamespaces(...Object.values(names));
    await run("ip", "-n", names.hub, "link", "add", "bridge", "type", "bridge");
    await run("ip", "-n", names.hub, "addr", "add", `${HUB}/24`, "dev", "bridge");
    await run("ip", "-n", names.hub, "link", "set", "bridge", "up");
    const a = new Home(names.a, names.natA, "10.1.0", "203.0.113.1");
    const b = new Home(names.b, names.natB, "10.2.0", "203.0.113.2");
    await a.cable(names.hub, "port-a");
    await b.cable(names.hub, "port-b");
    return {
      a,
      b,
      /** Namespace and address of the machine for servers, which both homes can call. */
      hub: names.hub,
      address: HUB,
      /** The two NATs boot at the same moment, and each gets the other's address. */
      swap: async () => {
        const [outerA, outerB] = [a.outer, b.outer];
        await Promise.all([a.reboot(outerB), b.reboot(outerA)]);
      },
      /** Ends every process inside and removes the namespaces. */
      destroy: undo,
    };
  } catch (error) {
    undo();
    throw error;
  }
}
