/**
 * The router of this network: the default gateway, as the system's routing table has it. Node does not tell. Linux has a file;
 * elsewhere the system's own command prints the table.
 */
import { execFile } from "node:child_process";
import { createSocket } from "node:dgram";
import { readFile } from "node:fs/promises";
import { BlockList, isIPv4 } from "node:net";
import { endianness, networkInterfaces } from "node:os";
import { join } from "node:path";

/** A router, and our address that it sees. Both IPv4. */
export interface Gateway {
  readonly address: string;
  readonly local: string;
}

/** The command only prints; one that takes longer hangs. */
const COMMAND_MS = 1_000;
/** A table is some lines; a full one of a backbone router is nothing we search. */
const MAX_TABLE = 1024 * 1024;

/** An address on the internet that is nobody's (RFC 5737): nothing is sent to it, the system only says which way it would go. */
const ELSEWHERE = "192.0.2.1";
/** Discard. Nothing is sent. */
const ANY_PORT = 9;

/** Addresses behind a NAT: RFC 1918, and RFC 6598 for those of carriers. A link-local one (169.254) means that there is no router. */
const PRIVATE = new BlockList();
PRIVATE.addSubnet("10.0.0.0", 8);
PRIVATE.addSubnet("172.16.0.0", 12);
PRIVATE.addSubnet("192.168.0.0", 16);
PRIVATE.addSubnet("100.64.0.0", 10);

/**
 * The router that our packets to the internet go through, if it sees us under a private address; with `bind`, one that sees that
 * address. Undefined when there is none. A VPN that takes all traffic hides the router: a port of it would be of no use then, and
 * its address is nobody's business. Never rejects.
 */
export async function findGateway(bind: string | undefined): Promise<Gateway | undefined> {
  const isAny = bind === undefined || bind === "0.0.0.0" || bind === "::";
  if (!isAny && !(isIPv4(bind) && PRIVATE.check(bind))) return undefined;
  for (const address of await readGateways()) {
    const local = await localTowards(address);
    if (local === undefined || !PRIVATE.check(local)) continue;
    if (!isAny) {
      if (bind === local || isNeighbour(bind, local)) return { address, local: bind };
    } else if (((await localTowards(ELSEWHERE)) ?? local) === local) {
      return { address, local };
    }
  }
  return undefined;
}

/** Addresses of the default gateways, the preferred one first. */
async function readGateways(): Promise<readonly string[]> {
  try {
    switch (process.platform) {
      case "linux":
      case "android":
        return parseProcRoute(await readFile("/proc/net/route", "latin1"), endianness());
      case "win32": {
        const root = process.env["SystemRoot"] ?? "C:\\Windows";
        return parseRoutePrint(await run(join(root, "System32", "route.exe"), ["print", "-4", "0.0.0.0"]));
      }
      case "darwin":
      case "freebsd":
      case "openbsd":
      case "netbsd":
        return parseNetstat(await run("netstat", ["-rn", "-f", "inet"]));
      default:
        return [];
    }
  } catch {
    // Not told is as good as none.
    return [];
  }
}

const RTF_UP = 0x0001;
const RTF_GATEWAY = 0x0002;
const RTF_REJECT = 0x0200;

/** Linux, /proc/net/route: addresses are hexadecimal words of the machine, flags as in <linux/route.h>. */
export function parseProcRoute(table: string, order: "BE" | "LE"): string[] {
  const found: { address: string; metric: number }[] = [];
  for (const line of table.split("\n").slice(1)) {
    const [, destination = "", gateway = "", flags = "", , , metric, mask] = line.trim().split(/\s+/);
    if (destination !== "00000000" || mask !== "00000000" || !/^[0-9A-F]{8}$/i.test(gateway)) continue;
    if ((Number.parseInt(flags, 16) & (RTF_UP | RTF_GATEWAY | RTF_REJECT)) !== (RTF_UP | RTF_GATEWAY))
      continue;
    const octets = [...Buffer.from(gateway, "hex")];
    found.push({
      address: (order === "LE" ? octets.reverse() : octets).join("."),
      metric: Number(metric),
    });
  }
  return found.sort((a, b) => a.metric - b.metric).map(({ address }) => address);
}

/** macOS and the BSDs, `netstat -rn -f inet`: `default 192.168.1.1 UGScg en0`; the first one is the one in use. */
export function parseNetstat(table: string): string[] {
  return table.split("\n").flatMap((line) => {
    const [destination, gateway = ""] = line.trim().split(/\s+/);
    return destination === "default" && isIPv4(gateway) ? [gateway] : [];
  });
}

/** Windows, `route print -4`: destination, mask, gateway, interface, metric. All of it but these numbers is in the user's language. */
export function parseRoutePrint(table: string): string[] {
  const found: { address: string; metric: number }[] = [];
  for (const line of table.split("\n")) {
    const [destination, mask, address = "", , metric] = line.trim().split(/\s+/);
    if (destination !== "0.0.0.0" || mask !== "0.0.0.0" || !isIPv4(address)) continue;
    // Persistent routes are listed once more, without an interface.
    if (metric !== undefined && /^\d+$/.test(metric)) found.push({ address, metric: Number(metric) });
  }
  return found.sort((a, b) => a.metric - b.metric).map(({ address }) => address);
}

function run(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      command,
      args,
      {
        encoding: "latin1",
        maxBuffer: MAX_TABLE,
        windowsHide: true,
        signal: AbortSignal.timeout(COMMAND_MS),
        killSignal: "SIGKILL",
      },
      (error, output) => {
        if (error) reject(new Error(command, { cause: error }));
        else resolve(output);
      },
    );
  });
}

/** Our address on packets to `address`, as the system would choose it. Nothing is sent. Undefined when no way leads there. */
function localTowards(address: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket("udp4").unref();
    let isSettled = false;
    const settle = (local?: string): void => {
      if (isSettled) return;
      isSettled = true;
      socket.close();
      resolve(local);
    };
    socket.on("error", () => {
      settle();
    });
    socket.connect(ANY_PORT, address, (error?: unknown) => {
      settle(error === undefined || error === null ? socket.address().address : undefined);
    });
  });
}

/** Whether two addresses of ours belong to the same interface. */
function isNeighbour(one: string, other: string): boolean {
  return Object.values(networkInterfaces()).some((all) =>
    [one, other].every((wanted) => all?.some(({ address }) => address === wanted)),
  );
}
