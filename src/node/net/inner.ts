/** Addresses that lead to this machine or stay within its network: who is outside has no business to send us there. */
import { BlockList, isIPv6 } from "node:net";

const INNER = new BlockList();
for (const [network, bits] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.168.0.0", 16],
  ["224.0.0.0", 3],
] as const)
  INNER.addSubnet(network, bits, "ipv4");
for (const [network, bits] of [
  ["::", 96],
  ["fc00::", 7],
  ["fe80::", 10],
  ["ff00::", 8],
] as const)
  INNER.addSubnet(network, bits, "ipv6");

export function isInner(address: string): boolean {
  return INNER.check(address, isIPv6(address) ? "ipv6" : "ipv4");
}
