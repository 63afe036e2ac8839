/**
 * Asks the router of this network for a port, so that others can call it: by PCP, NAT-PMP and UPnP.
 *
 * All three are asked at once whether they are spoken, by questions that change nothing. The port is then asked for by the first to
 * answer, and by the next one only when that fails: a router that speaks several keeps one table, where a mapping made by one
 * protocol replaces that of another, and deleting either deletes both.
 */
import { DcpipeError } from "../errors.ts";
import type { MapPort, PortMapping, PortMappingOptions } from "../transport/mapping.ts";
import type { FindClient, MappingClient, Router } from "./mapping/client.ts";
import { findGateway, type Gateway } from "./mapping/gateway.ts";
import { keepLease, reason } from "./mapping/lease.ts";
import { findNatPmp } from "./mapping/natpmp.ts";
import { findPcp } from "./mapping/pcp.ts";
import { findUpnp } from "./mapping/upnp.ts";
import { UNSTOPPED, within, type Wait } from "./mapping/wait.ts";

/** RFC 6887, section 19.1; RFC 6886, section 3. */
const PCP_PORT = 5351;
/** UPnP Device Architecture 1.1, section 1. Routers also answer when asked themselves, where a firewall stops answers to a group. */
const SSDP_GROUP = "239.255.255.250";
const SSDP_PORT = 1900;

/** Seconds. A program that dies leaves its port open for no longer. */
const LIFETIME_S = 3_600;

/** A search answers within a second, and the first one may get lost; a description follows. Whoever is silent for so long stays so. */
const FIND_MS = 2_000;
/** For all of it: somebody waits for a connection meanwhile. */
const TOTAL_MS = 2_500;
/** For a protocol that was heard, so that the next one has its turn: three tries of a datagram. UPnP is slow, and heard last. */
const MAP_MS = { pcp: 1_000, "nat-pmp": 1_000, upnp: TOTAL_MS } as const;
/** For taking back what nobody waits for any more. */
const UNDO_MS = 1_000;

/** Whoever answers at once is asked in this order. */
const PROTOCOLS: readonly FindClient[] = [findPcp, findNatPmp, findUpnp];

/** Where an ordinary router is asked. */
export function standardRouter(gateway: Gateway): Router {
  return {
    ...gateway,
    pcpPort: PCP_PORT,
    ssdp: [
      { address: SSDP_GROUP, port: SSDP_PORT },
      { address: gateway.address, port: SSDP_PORT },
    ],
  };
}

/**
 * As `MapPort` says. Only the default gateway is asked, and only when it sees us under a private address; with `bind`, under that one.
 * Nothing here keeps the process alive but `release`, which takes a second at most.
 */
export const mapPort: MapPort = async (options) => {
  const gateway = await findGateway(options.bind);
  if (!gateway || options.signal.aborted) return undefined;
  return mapPortAt(standardRouter(gateway), options);
};

/** The same at a given router, for tests. `lifetime` is in seconds. */
export async function mapPortAt(
  router: Router,
  { port, signal, onlog, lifetime = LIFETIME_S }: Omit<PortMappingOptions, "bind"> & { lifetime?: number },
): Promise<PortMapping | undefined> {
  const asked: MappingClient[] = [];
  const unmap = async (wait: Wait): Promise<void> => {
    const ends = await Promise.allSettled(asked.map((client) => client.unmap(wait)));
    for (const end of ends) if (end.status === "rejected") throw end.reason;
  };
  const mapping = await within(TOTAL_MS, { signal, holds: false }, async (wait) => {
    for await (const client of clientsOf(router, wait, onlog)) {
      asked.push(client);
      try {
        const grant = await within(MAP_MS[client.protocol], wait, (during) =>
          client.map({ port, external: port, lifetime }, during),
        );
        onlog(`port mapping: port ${grant.port} at ${router.address} by ${client.protocol}`);
        return keepLease(client, grant, { port, lifetime, onlog, unmap });
      } catch (error) {
        // A no is clear. Anything else may leave a port behind, which is given back with the one that we get; before that, it could
        // be the same.
        if (error instanceof DcpipeError && error.code === "REFUSED") asked.pop();
        onlog(`port mapping: ${reason(error)}`);
      }
    }
    return undefined;
  });
  if (mapping) return mapping;
  if (!signal.aborted) onlog(`port mapping: the router ${router.address} opens no port`);
  const undone = within(UNDO_MS, { signal: UNSTOPPED, holds: signal.aborted }, unmap).catch(() => undefined);
  // Who leaves waits for this, and nobody else.
  if (signal.aborted) await undone;
  return undefined;
}

/** A client for each protocol that the router speaks, in the order of its answers. */
async function* clientsOf(
  router: Router,
  wait: Wait,
  onlog: (text: string) => void,
): AsyncGenerator<MappingClient, void, undefined> {
  const finding = new Map(
    PROTOCOLS.map((find) => [
      find,
      within(FIND_MS, wait, (during) => find(router, during)).then(
        (client) => ({ find, client }),
        (error: unknown) => {
          // Silence is the rule, and the sum of all is told.
          if (error instanceof DcpipeError && error.code === "REFUSED")
            onlog(`port mapping: ${reason(error)}`);
          return { find, client: undefined };
        },
      ),
    ]),
  );
  while (finding.size > 0) {
    const { find, client } = await Promise.race(finding.values());
    finding.delete(find);
    if (client) yield client;
  }
}

export interface MappingProbe {
  /** The router that was asked; absent when there is none. */
  readonly gateway?: string;
  readonly pcp: boolean;
  readonly natPmp: boolean;
  readonly upnp: boolean;
  /** The router's outer address as it says, by NAT-PMP or UPnP: it may be private, or a lie. */
  readonly address?: string;
}

/** What the router of this network speaks; nothing is changed at it. Takes up to two seconds, for which the process lives. Never rejects. */
export async function probeMapping({
  bind,
  signal,
}: Pick<PortMappingOptions, "bind" | "signal">): Promise<MappingProbe> {
  const gateway = await findGateway(bind);
  return gateway
    ? probeMappingAt(standardRouter(gateway), signal)
    : { pcp: false, natPmp: false, upnp: false };
}

/** The same at a given router, for tests. */
export async function probeMappingAt(router: Router, signal: AbortSignal): Promise<MappingProbe> {
  const clients = await within(FIND_MS, { signal, holds: true }, (wait) =>
    Promise.all(PROTOCOLS.map((find) => find(router, wait).catch(() => undefined))),
  );
  const speaks = (protocol: PortMapping["protocol"]): boolean =>
    clients.some((client) => client?.protocol === protocol);
  const address = clients.map((client) => client?.address).find((each) => each !== undefined);
  return {
    gateway: router.address,
    pcp: speaks("pcp"),
    natPmp: speaks("nat-pmp"),
    upnp: speaks("upnp"),
    ...(address === undefined ? {} : { address }),
  };
}
