/** What the three protocols have in common: a client that asks one router for one port. */
import type { PortMapping } from "../../transport/mapping.ts";
import type { Gateway } from "./gateway.ts";
import type { Wait } from "./wait.ts";

/** A router, and where it is asked. */
export interface Router extends Gateway {
  /** UDP port of PCP and NAT-PMP. */
  readonly pcpPort: number;
  /** Where searches for UPnP devices go: the multicast group, and the router itself. */
  readonly ssdp: readonly { readonly address: string; readonly port: number }[];
}

export interface MapRequest {
  /** Our UDP port. */
  readonly port: number;
  /** The port outside that we would like: our own, or the one we have. */
  readonly external: number;
  /** Seconds. */
  readonly lifetime: number;
}

export interface Grant {
  /** The port outside, 1 to 65,535. */
  readonly port: number;
  /** The router's outer address as it says. */
  readonly address: string | undefined;
  /** Seconds until the router forgets, at least 1. */
  readonly lifetime: number;
  /** The router has started anew since it was last asked, and had forgotten the port: this answer has made it again. */
  readonly hasRestarted: boolean;
}

/** Speaks one protocol with a router that was heard to speak it, about one port. */
export interface MappingClient {
  readonly protocol: PortMapping["protocol"];
  /** The router's outer address, if it told already. */
  readonly address: string | undefined;
  /** Asks for a port, or for more time. Rejects with REFUSED, TIMEOUT, PROTOCOL, UNREACHABLE or CONNECTION_REFUSED. */
  map(request: MapRequest, wait: Wait): Promise<Grant>;
  /** Gives back what was mapped, and what may have been mapped by a request without an answer. Rejects as `map`. */
  unmap(wait: Wait): Promise<void>;
}

/** Finds out, without changing anything there, whether a router speaks a protocol. Rejects as `map`. */
export type FindClient = (router: Router, wait: Wait) => Promise<MappingClient>;
