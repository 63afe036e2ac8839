/** A port that the router of this network has opened for one of ours (RFC 6887, RFC 6886, UPnP IGD). */
export interface PortMapping {
  readonly protocol: "pcp" | "nat-pmp" | "upnp";
  /** The UDP port outside. */
  readonly port: number;
  /** The router's outer address as it says: it may be private (another NAT follows), or a lie. Undefined when it does not say. */
  readonly address: string | undefined;
  /** Gives the port back. Idempotent, never rejects. */
  release(): Promise<void>;
}

export interface PortMappingOptions {
  /** Our UDP port. */
  readonly port: number;
  /** The local address it is bound to, undefined for all. */
  readonly bind: string | undefined;
  /** Stops the attempt, and does not release a mapping that stands. */
  readonly signal: AbortSignal;
  readonly onlog: (text: string) => void;
}

/**
 * Asks the router for a port, by all protocols it may speak at once. Resolves within some two seconds, with undefined when there is no
 * router that opens ports. A mapping is renewed until it is released. Never rejects.
 */
export type MapPort = (options: PortMappingOptions) => Promise<PortMapping | undefined>;
