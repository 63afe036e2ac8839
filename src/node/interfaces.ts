/** The addresses of this machine's network interfaces. */
import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import type { InterfaceAddress } from "../doctor/findings.ts";

/** Loopback is left out. */
export function listInterfaces(): InterfaceAddress[] {
  return Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) => {
    const outer = addresses.filter(({ internal }) => !internal);
    const mtu = outer.length > 0 ? readMtu(name) : undefined;
    return outer.map(({ address }) => ({ name, address, mtu }));
  });
}

/** Node does not tell it; Linux has it in a file. */
function readMtu(name: string): number | undefined {
  if (process.platform !== "linux" || name.includes("/")) return undefined;
  try {
    const mtu = Number(readFileSync(`/sys/class/net/${name}/mtu`, "utf8"));
    return Number.isSafeInteger(mtu) && mtu > 0 ? mtu : undefined;
  } catch {
    return undefined;
  }
}
