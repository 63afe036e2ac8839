/** What a doctor looks at, and what it has found: facts, before anybody draws conclusions. */
import type { DcpipeError } from "../errors.ts";

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

export interface Server {
  readonly host: string;
  readonly port: number;
}

export interface TurnServer extends Server {
  readonly transport: "udp" | "tcp" | "tls";
  readonly username: string;
  readonly password: string;
}

/** One address of one network interface, as the system lists it; loopback is left out. */
export interface InterfaceAddress {
  readonly name: string;
  readonly address: string;
  /** Bytes of a packet, undefined where the system does not tell. */
  readonly mtu: number | undefined;
}

/** What became of a Binding request. */
export interface StunAnswer {
  readonly server: Server;
  /** The address that was asked; undefined when the name stands for none. */
  readonly address: string | undefined;
  readonly outcome: "answered" | "refused" | "garbage" | "silent" | "unreachable" | "unresolved";
  /** An error code of STUN, or the system's name of an error. */
  readonly detail?: string | undefined;
  readonly mapped?: Endpoint | undefined;
  readonly roundTripMs?: number | undefined;
  /** The server knows RFC 5780. */
  readonly discovers?: boolean | undefined;
}

/** What one socket of a family of addresses saw, and what a second one did. */
export interface FamilyObservations {
  /** The first socket's own port; undefined when there is no such family here. */
  readonly localPort: number | undefined;
  /** Of the first socket. */
  readonly answers: readonly StunAnswer[];
  /** Where the first socket's packets came from, as seen at other places of a server that has given `seen`. Undefined where nobody answered. */
  readonly mappings:
    | {
        readonly seen: Endpoint;
        readonly otherAddress: Endpoint | undefined;
        readonly otherAddressAndPort: Endpoint | undefined;
        readonly otherPort: Endpoint | undefined;
      }
    | undefined;
  /** Whether answers from places that were never called came in at the second socket; undefined when that could not be tested. */
  readonly admits: { readonly otherAddress: boolean; readonly otherPort: boolean } | undefined;
  /** Whether the two sockets reached each other by their outer addresses; undefined when that could not be tested. */
  readonly hairpin: boolean | undefined;
}

export interface NatObservations {
  readonly ipv4: FamilyObservations;
  readonly ipv6: FamilyObservations;
  readonly unresolved: readonly Server[];
}

/** What the router of this network says about opening ports. */
export interface MappingProbe {
  readonly gateway?: string | undefined;
  readonly pcp: boolean;
  readonly natPmp: boolean;
  readonly upnp: boolean;
  /** Its outer address, as it says. */
  readonly address?: string | undefined;
}

export interface TurnProbe {
  readonly ok: boolean;
  readonly roundTripMs?: number | undefined;
  readonly relayed?: Endpoint | undefined;
  readonly error?: string | undefined;
}

/** How a rendezvous answers to plain HTTP. */
export interface Health {
  readonly status: number;
  /** Its clock less ours, in seconds; undefined when it does not tell the time. */
  readonly clockSeconds: number | undefined;
  readonly roundTripMs: number;
}

export interface RendezvousFinding {
  readonly url: string;
  /** Without credentials; undefined for none. */
  readonly proxy: string | undefined;
  /** `/healthz`; undefined when it did not answer. */
  readonly health: Health | undefined;
  /** Until the WebSocket stood; undefined when it did not. */
  readonly roundTripMs: number | undefined;
  /** Why it did not. */
  readonly error: DcpipeError | undefined;
}

export interface TurnFinding extends TurnProbe {
  readonly server: Pick<TurnServer, "host" | "port" | "transport">;
}

/** An environment variable that names a proxy, without credentials. */
export interface ProxySetting {
  readonly name: string;
  readonly value: string;
}

export interface Findings {
  readonly interfaces: readonly InterfaceAddress[];
  /** Undefined when no STUN server was to be asked. */
  readonly nat: NatObservations | undefined;
  /** Undefined when the router was not asked. */
  readonly mapping: MappingProbe | undefined;
  /** Undefined when there is nothing to check them with. */
  readonly turn: readonly TurnFinding[] | undefined;
  /** Undefined when none is named. */
  readonly rendezvous: RendezvousFinding | undefined;
  readonly proxies: readonly ProxySetting[];
  readonly milliseconds: number;
}
