/** What a connection stands on: a UDP port that is free, an address, a STUN server, and a gateway to TURN servers. */
import { createSocket } from "node:dgram";
import { networkInterfaces } from "node:os";
import { DcpipeError } from "../../errors.ts";
import type { Candidate, PeerConfig } from "../../transport/peer.ts";
import { openGateway, type Gateway } from "../turn/gateway.ts";
import type { RtcConfig } from "./library.ts";

/** What of a connection's settings is about the ground. */
export type GroundConfig = Pick<PeerConfig, "bind" | "ports" | "stun" | "turn" | "relayOnly" | "onlog"> & {
  /** The other side's password in ICE, where it is known beforehand. */
  readonly remotePassword?: string | undefined;
};

/** The library's settings, and the gateway to close with the connection. */
export interface Ground {
  readonly settings: RtcConfig;
  readonly gateway: Gateway | undefined;
}

/** Throws USAGE when the wanted address or port cannot be had. */
export async function findGround(config: GroundConfig): Promise<Ground> {
  const bind = config.bind ?? ((await isLonely()) ? "127.0.0.1" : undefined);
  const port = await freePort({ ...config, bind });
  const gateway =
    config.turn.length === 0
      ? undefined
      : await openGateway({
          servers: config.turn,
          near: isAny(bind) ? (isIPv6Only() ? "::1" : "127.0.0.1") : bind,
          bind: isAny(config.bind) ? undefined : config.bind,
          remotePassword: config.remotePassword ?? "",
          // Where no STUN server is heard, UDP does not get out.
          neighbours: config.relayOnly || config.stun === undefined,
          ports: config.ports,
          onlog: config.onlog,
        });
  const stun = stunServer(config);
  const settings: RtcConfig = {
    iceServers: [
      ...(stun ? [{ hostname: stun.host, port: stun.port }] : []),
      ...(gateway?.endpoints ?? []).map((endpoint) => ({
        hostname: endpoint.host,
        port: endpoint.port,
        username: endpoint.username,
        password: endpoint.password,
        relayType: "TurnUdp" as const,
      })),
    ],
    ...(bind === undefined ? {} : { bindAddress: bind }),
    ...(port === undefined ? {} : { portRangeBegin: port, portRangeEnd: port }),
    iceTransportPolicy: config.relayOnly ? "relay" : "all",
    disableAutoNegotiation: true,
  };
  return { settings, gateway };
}

/** Whether all addresses are meant. */
function isAny(bind: string | undefined): bind is undefined | "0.0.0.0" | "::" {
  return bind === undefined || bind === "0.0.0.0" || bind === "::";
}

/** A TURN server that is called over UDP answers as a STUN server, too (RFC 8656, section 3); with relays only nobody asks. */
function stunServer({ stun, turn, relayOnly }: GroundConfig): GroundConfig["stun"] {
  return stun ?? (relayOnly ? undefined : turn.find(({ transport }) => transport === "udp"));
}

/** An interface that was just set up is seen by Node a while later, a second at most; looked at so often, in ms. */
const SETTLE_MS = 1200;
const LOOK_MS = 50;
let settled = false;

/** A machine without any network: the library finds no address there unless it is told to bind the loopback one. */
async function isLonely(): Promise<boolean> {
  for (let waited = 0; !settled && waited < SETTLE_MS && onlyLoopback(); waited += LOOK_MS)
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  settled = true;
  return onlyLoopback();
}

function onlyLoopback(): boolean {
  return Object.values(networkInterfaces()).every((addresses) =>
    addresses?.every(({ internal }) => internal),
  );
}

/**
 * Whether this machine has IPv6 addresses and no others. The library takes no IPv4 address there, be it one of this machine: it looks
 * them up for the families that are in use (AI_ADDRCONFIG).
 */
export function isIPv6Only(): boolean {
  const families = Object.values(networkInterfaces()).flatMap((addresses) =>
    (addresses ?? []).filter(({ internal }) => !internal).map(({ family }) => family),
  );
  return families.includes("IPv6") && !families.includes("IPv4");
}

/**
 * A port of the wanted range that is free now. The native library must never try one that is taken, nor an address that is
 * not ours: it throws where nobody can catch, and the process ends.
 */
async function freePort({ ports, bind }: Pick<GroundConfig, "ports" | "bind">): Promise<number | undefined> {
  if (!ports && bind === undefined) return undefined;
  const [first, last] = ports ?? [0, 0];
  // A closed connection's socket lives on for some milliseconds.
  for (const patience of first === last ? RELEASE_MS : [0]) {
    for (let port = first; port <= last; port++) {
      if (await bindable(port, bind)) return port === 0 ? undefined : port;
    }
    await new Promise((resolve) => setTimeout(resolve, patience));
  }
  const where = `${bind ?? ""}${bind !== undefined && ports ? ", " : ""}${ports ? `port ${first === last ? first : `${first}-${last}`}` : ""}`;
  throw new DcpipeError("USAGE", `cannot bind UDP ${where}: in use, or not an address of this machine`);
}

/** Waits between looks at a port that was ours a moment ago; two seconds in all. */
const RELEASE_MS = [1, 2, 5, 10, 20, 50, 100, 200, 400, 600, 600];

function bindable(port: number, address: string | undefined): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket(address === undefined || !address.includes(":") ? "udp4" : "udp6");
    const done = (free: boolean): void => {
      socket.removeAllListeners();
      socket.close(() => {
        resolve(free);
      });
    };
    socket.once("error", () => {
      done(false);
    });
    socket.bind({ port, address, exclusive: true }, () => {
      done(true);
    });
  });
}

/** Interfaces of containers and virtual machines: their addresses lead nowhere from another machine. */
const BRIDGES =
  /^(docker\d|br-[0-9a-f]{12}$|virbr\d|lxcbr\d|lxdbr\d|podman\d|cni\d|cni-|flannel|cali|vethernet|vmnet\d|vboxnet\d)/i;

/** Whether another machine could use this address of ours. */
export function usable({ type, address }: Candidate): boolean {
  if (type !== "host") return true;
  if (/^(169\.254\.|fe[89ab]|127\.|::1$)/i.test(address)) return false;
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    if (BRIDGES.test(name) && addresses?.some((entry) => entry.address === address)) return false;
  }
  return true;
}
