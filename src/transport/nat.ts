/** What the NAT in front of this machine does, and how two sides get through one that is in their way. */

/** Which outer port a socket of ours gets (RFC 4787, section 4.1): one whatever it calls, or another for each place. */
export type NatMapping = "independent" | "dependent" | "unknown";

/** The two datagrams that a side of one attempt sends: what they hold says who has sent them, and nothing else. */
export interface PunchTags {
  /** Opens the way, or finds that it is open. */
  readonly call: Uint8Array;
  /** A call has arrived; of the side with the one socket: this is the way to use. */
  readonly answer: Uint8Array;
}

interface PunchAttempt {
  readonly ours: PunchTags;
  readonly theirs: PunchTags;
  /** The local address to bind, undefined for all. */
  readonly bind: string | undefined;
  /** Ends the attempt. */
  readonly signal: AbortSignal;
}

/** The side whose NAT's mapping depends on the destination: calls one place from many sockets, so that many outer ports are open to it. */
export interface PunchFromMany extends PunchAttempt {
  readonly from: "many";
  /** Local ports to choose from, first and last. */
  readonly ports: readonly [number, number] | undefined;
  /** The other side's outer address, IPv4, and port. */
  readonly address: string;
  readonly port: number;
}

/** The other side: calls many ports of one address from its one socket. */
export interface PunchFromOne extends PunchAttempt {
  readonly from: "one";
  /** Our port, to which the outer one belongs that the other side calls. It may be in use for a moment yet. */
  readonly local: number;
  /** The other side's outer address, IPv4. */
  readonly address: string;
}

/** A port of ours and a place that packets have come from to it: both NATs let them through for a while. */
export interface Hole {
  readonly local: number;
  readonly address: string;
  readonly port: number;
}

/**
 * Looks for a pair of ports that packets pass between. Both sides run it at the same time. Resolves within PUNCH_MS, with undefined when
 * there is none; the sockets are closed by then, so that the hole's port can be bound. Never rejects.
 */
export type Punch = (attempt: PunchFromMany | PunchFromOne) => Promise<Hole | undefined>;

/**
 * So many sockets at once. Of 64,512 ports 256 are open then, so 1,000 calls hit one with a probability of 0.98, and 1,500 with 0.997,
 * however the NAT picks its ports; and it is what fits into the smaller tables of mappings.
 */
export const PUNCH_SOCKETS = 256;
/** An attempt takes no longer. */
export const PUNCH_MS = 6000;
