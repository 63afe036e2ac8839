/**
 * Machines on one switch, without a way to anywhere else:
 *
 *   10.66.0.1 ---- switch ---- 10.66.0.2, 10.66.0.3, ...
 */
import { execFileSync } from "node:child_process";
import { onTestFinished, vi } from "vitest";

/** The kernel takes up to a second to call an interface running; a machine under load longer. */
const PATIENCE_MS = 20_000;

let switches = 0;

export class Machine {
  /** Name of its network namespace. */
  readonly namespace: string;
  address: string;

  constructor(namespace: string, address: string) {
    this.namespace = namespace;
    this.address = address;
  }

  /** Has another address from now on, and only that. */
  move(address: string): void {
    ip("-n", this.namespace, "addr", "flush", "dev", "eth0");
    ip("-n", this.namespace, "addr", "add", `${address}/24`, "dev", "eth0");
    this.address = address;
  }
}

/** They go with the test. */
export async function createSwitch(count: number): Promise<Machine[]> {
  const prefix = `dcs-${process.pid}-${++switches}-`;
  const hub = `${prefix}switch`;
  const machines = Array.from(
    { length: count },
    (_, index) => new Machine(`${prefix}${index + 1}`, `10.66.0.${index + 1}`),
  );
  const names = [hub, ...machines.map(({ namespace }) => namespace)];
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
    for (const which of ["all", "default"])
      execFileSync("ip", ["netns", "exec", name, "sysctl", "-qw", `net.ipv6.conf.${which}.disable_ipv6=1`]);
    ip("-n", name, "link", "set", "lo", "up");
  }
  ip("-n", hub, "link", "add", "bridge", "type", "bridge");
  ip("-n", hub, "link", "set", "bridge", "up");
  for (const [index, { namespace, address }] of machines.entries()) {
    const port = `port${index + 1}`;
    ip("link", "add", "eth0", "netns", namespace, "type", "veth", "peer", "name", port, "netns", hub);
    ip("-n", hub, "link", "set", port, "master", "bridge", "up");
    ip("-n", namespace, "addr", "add", `${address}/24`, "dev", "eth0");
    ip("-n", namespace, "link", "set", "eth0", "up");
  }
  for (const { namespace } of machines)
    await vi.waitUntil(() => isRunning(namespace), { timeout: PATIENCE_MS });
  return machines;
}

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "inherit"] });
}

function isRunning(namespace: string): boolean {
  const text = execFileSync("ip", ["-n", namespace, "-j", "link", "show", "eth0"], { encoding: "utf8" });
  return (JSON.parse(text) as { operstate: string }[])[0]?.operstate === "UP";
}
