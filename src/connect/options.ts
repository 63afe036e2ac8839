/** What callers choose, and what a platform brings. */
import { DcpipeError } from "../errors.ts";
import type { OpenSocket } from "../signalling/socket.ts";
import type { Certificate } from "../transport/certificate.ts";
import type { MapPort } from "../transport/mapping.ts";
import type { Punch } from "../transport/nat.ts";
import type { CreatePeer, TurnServer } from "../transport/peer.ts";
import type { WatchNetwork } from "../transport/watch.ts";
import { MAX_CANDIDATES, type Candidate } from "../wire/candidate.ts";
import type { Code } from "../wire/code.ts";
import type { Connection, ConnectionEvent, ConnectionOptions } from "./connection.ts";
import { GATHER_MS, type StunServer } from "./direct.ts";
import { DEFAULT_STUN, parseStunUrl, parseTurnUrl } from "./servers.ts";

/** How two sides on the same network find each other: by multicast DNS, with a mailbox that the waiting side holds itself. */
export interface Lan {
  /**
   * Holds a mailbox for the client with that key, at that nameplate (a free one for 0), and announces it. Resolves with its URL for
   * this machine. Rejects with SIGNALLING.
   */
  readonly hold: (options: {
    readonly nameplate: number;
    readonly key: Uint8Array;
    readonly bind: string | undefined;
    readonly onlog: (text: string) => void;
  }) => Promise<{ readonly url: string; readonly nameplate: number; readonly close: () => void }>;
  /** Looks for who announces that nameplate, until stopped; each URL is found once. Never rejects. */
  readonly find: (options: {
    readonly nameplate: number;
    readonly bind: string | undefined;
    readonly signal: AbortSignal;
    readonly onfound: (url: string) => void;
    readonly onlog: (text: string) => void;
  }) => Promise<void>;
}

export const DEFAULT_TIMEOUT_JOINING = 60;
export const DEFAULT_RECONNECT = 90;
/** The probe leaves the rest of GATHER_MS to gathering itself. */
export const PROBE_MS = GATHER_MS * 0.6;

export interface ConnectOptions {
  /** STUN servers as `stun:host:port`; an empty list for none. Default: Google's. */
  readonly stun?: readonly string[] | undefined;
  /** TURN servers as `turn:user:password@host:port`. */
  readonly turn?: readonly string[] | undefined;
  /** "only" never connects directly, "off" never through TURN or a rendezvous. Default "auto". */
  readonly relay?: "auto" | "only" | "off" | undefined;
  /** Local UDP ports to use, first and last. */
  readonly portRange?: readonly [number, number] | undefined;
  /** Local address to bind. */
  readonly bind?: string | undefined;
  /** Seconds after which an absent peer is given up, 0 for never. Default: 0 when waiting, 60 when joining. */
  readonly timeout?: number | undefined;
  /** Seconds of reconnecting after which a vanished peer is given up; Infinity for never. Default 90. */
  readonly reconnect?: number | undefined;
  /** Ends the wait, or the session, with ABORTED. */
  readonly signal?: AbortSignal | undefined;
  /** What happens on the way: "connected", "path", "reconnecting", "log". */
  readonly onevent?: ((event: ConnectionEvent) => void) | undefined;
}

export type CodeEvent =
  | ConnectionEvent
  /** Something a person should know of. */
  | { readonly event: "warning"; readonly text: string }
  /** The rendezvous is out of reach, or back (no `trouble`). */
  | { readonly event: "rendezvous"; readonly trouble: string | undefined }
  /** The code, again when it had to change. */
  | { readonly event: "code"; readonly code: Code; readonly rendezvous: string | undefined };

export interface CodeOptions extends ConnectOptions {
  /** URL of the rendezvous; without one only the local network is called. */
  readonly rendezvous?: string | undefined;
  /** Whether the local network is called, too. Default true for joining, and for waiting with a rendezvous. */
  readonly lan?: boolean | undefined;
  readonly onevent?: ((event: CodeEvent) => void) | undefined;
}

/** What the platform brings: WebRTC, WebSockets, a way to find a STUN server that lives, and the local network. */
export interface Platform {
  readonly createPeer: CreatePeer;
  /** A certificate with a random key. */
  readonly createCertificate: () => Promise<Certificate>;
  /** The one whose key is made of these 48 bytes. Undefined where a key cannot be brought along: such a side cannot join by token. */
  readonly certificateFromSeed?: ((seed: Uint8Array) => Certificate) | undefined;
  readonly openSocket: OpenSocket;
  /** Undefined where there is no way to call the local network, as in browsers. */
  readonly lan?: Lan | undefined;
  readonly findStunServer: (
    servers: readonly StunServer[],
    timeoutMs: number,
    bind: string | undefined,
  ) => Promise<StunServer | undefined>;
  /** Undefined where no router can be asked for a port. */
  readonly mapPort?: MapPort | undefined;
  /** Undefined where there are no plain sockets. */
  readonly punch?: Punch | undefined;
  /** Undefined where changes of the network cannot be seen. */
  readonly watchNetwork?: WatchNetwork | undefined;
}

export function parseNetwork(options: ConnectOptions): ParsedNetwork {
  const relay = options.relay ?? "auto";
  const turn = relay === "off" ? [] : (options.turn ?? []).map(parseTurnUrl);
  const stun = (options.stun ?? DEFAULT_STUN).map(parseStunUrl);
  // Who goes by relays only has no use for addresses of its own, and may not want to show them.
  return { stun: relay === "only" ? [] : stun, turn, relay };
}

export interface ParsedNetwork {
  readonly stun: readonly StunServer[];
  readonly turn: readonly TurnServer[];
  readonly relay: "auto" | "only" | "off";
}

/** Whether only relays may be used. Throws USAGE when there is none. `rendezvous`: one that may relay. */
export function relayOnly(
  relay: ParsedNetwork["relay"],
  turn: readonly TurnServer[],
  rendezvous: boolean,
): boolean {
  if (relay === "only" && turn.length === 0 && !rendezvous)
    throw new DcpipeError("USAGE", "relay only, but neither a TURN server nor a rendezvous is named");
  return relay === "only";
}

/** What connections of all kinds take from the platform and the caller. */
export function surroundings(
  platform: Platform,
  options: ConnectOptions,
  { stun }: ParsedNetwork,
): Pick<
  ConnectionOptions,
  "ports" | "asksStun" | "findStun" | "mapPort" | "punch" | "watchNetwork" | "reconnectMs" | "onevent"
> {
  return {
    ports: options.portRange,
    asksStun: stun.length > 0,
    findStun: () => platform.findStunServer(stun, PROBE_MS, options.bind),
    // Who wants no server asked for addresses wants no router asked either.
    mapPort: stun.length > 0 ? platform.mapPort : undefined,
    punch: platform.punch,
    watchNetwork: platform.watchNetwork,
    reconnectMs: seconds(options.reconnect, DEFAULT_RECONNECT, "reconnect"),
    onevent: (event) => options.onevent?.(event),
  };
}

/** Milliseconds of an option in seconds. */
export function seconds(value: number | undefined, fallback: number, name: string): number {
  const chosen = value ?? fallback;
  if (Number.isNaN(chosen) || chosen < 0) throw new DcpipeError("USAGE", `${name}: not a number of seconds`);
  // Timers hold 24 days; more means for ever.
  return chosen > 2_000_000 ? Infinity : chosen * 1000;
}

/** The addresses that go into a token: relays and reflexive ones never fall off the end of a long list of interfaces. */
export function best(candidates: readonly Candidate[]): Candidate[] {
  const hosts = candidates.filter(({ type }) => type === "host");
  const others = candidates.filter(({ type }) => type !== "host");
  return [...hosts.slice(0, MAX_CANDIDATES - others.length), ...others].slice(0, MAX_CANDIDATES);
}

export function follow(connection: Connection, signal: AbortSignal | undefined): void {
  if (!signal) return;
  const abort = (): void => {
    const error = new DcpipeError("ABORTED", "stopped", { cause: signal.reason });
    connection.abort(error);
  };
  if (signal.aborted) {
    abort();
    return;
  }
  signal.addEventListener("abort", abort);
  // One signal may see many connections come and go.
  const stop = (): void => {
    signal.removeEventListener("abort", abort);
  };
  connection.session.then((session) => session.closed).then(stop, stop);
}
