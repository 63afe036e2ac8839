/**
 * One WebRTC peer connection with one negotiated data channel (id 0), or two, as the rest of the house sees it. An adapter
 * (node/rtc.ts, browser/rtc.ts) implements it; nothing above knows whose WebRTC it is.
 *
 *   create --> gathering --> checking --> connected --> open --> closed
 *                               |  ICE       |  DTLS, SCTP
 *                               +------------+----> failed
 *
 * A connection is used once: there is no ICE restart below us, so every new try is a new Peer with the same or new
 * credentials. Both descriptions are set at creation, before the other side can send a check.
 */
import type { DcpipeError } from "../errors.ts";
import type { Certificate } from "./certificate.ts";
import type { Channel, RawChannel } from "./channel.ts";
import type { Description } from "./sdp.ts";

/** An address of one end (RFC 8445, section 5.1), UDP only. */
export interface Candidate {
  readonly type: "host" | "srflx" | "relay";
  readonly address: string;
  readonly port: number;
}

/** ICE user name fragment and password (RFC 8839, section 5.4). */
export interface IceCredentials {
  readonly ufrag: string;
  readonly pwd: string;
}

export interface TurnServer {
  readonly host: string;
  readonly port: number;
  /** How the client reaches it; what it relays is UDP in any case. `tls` is TCP with TLS (RFC 7065). */
  readonly transport: "udp" | "tcp" | "tls";
  readonly username: string;
  readonly password: string;
}

export interface PeerConfig {
  /** The waiting side offers: it is the ICE controlling and the DTLS client side. */
  readonly type: "offer" | "answer";
  readonly local: IceCredentials & { readonly certificate: Certificate };
  readonly remote: IceCredentials & {
    readonly fingerprint: Uint8Array;
    readonly candidates: readonly Candidate[];
  };
  /** Local UDP ports to choose from, first and last. */
  readonly ports: readonly [number, number] | undefined;
  /** Local address to bind, undefined for all. */
  readonly bind: string | undefined;
  /** A STUN server that is known to answer. */
  readonly stun: { readonly host: string; readonly port: number } | undefined;
  readonly turn: readonly TurnServer[];
  /** Use TURN only. */
  readonly relayOnly: boolean;
  /** Path MTU in bytes, IP header included. */
  readonly mtu: number;
  /**
   * Whether there is a second negotiated channel, id 1, unordered and without retransmissions. Closing either of the two closes
   * both, with the connection.
   */
  readonly datagrams: boolean;
  /** What is worth knowing about servers that do not do their part, without credentials. */
  readonly onlog?: ((text: string) => void) | undefined;
}

/** How the packets go, as ICE sees it. Browsers keep some addresses to themselves: "", or a name of multicast DNS. */
export interface PeerPath {
  readonly local: { readonly address: string; readonly port: number; readonly type: string };
  readonly remote: { readonly address: string; readonly port: number; readonly type: string };
}

export type PeerState = "checking" | "connected" | "open" | "failed" | "closed";

export interface Peer {
  readonly state: PeerState;
  /** Present once `state` is "open". */
  readonly channel: Channel | undefined;
  /** The channel that may lose and reorder, if it was asked for: present once `state` is "open". */
  readonly datagrams: Channel | undefined;
  /** Local addresses found so far. */
  readonly candidates: readonly Candidate[];
  onstate: ((state: PeerState) => void) | undefined;
  oncandidate: ((candidate: Candidate) => void) | undefined;
  /** Resolves when no more local addresses are to be expected. Never rejects. */
  readonly gathered: Promise<void>;
  addCandidate(candidate: Candidate): void;
  path(): PeerPath | undefined;
  /** Round-trip time in whole ms as the handshake below found it, 0 for less than one; undefined where that is not known. */
  readonly rtt: number | undefined;
  /** Idempotent. What is in flight is lost: close sessions first. */
  close(): void;
}

/** Makes a Peer; waits until the wanted port is free. Throws USAGE when it cannot be had. */
export type CreatePeer = (config: PeerConfig) => Promise<Peer>;

/** What plain WebRTC is made of: the other side's part comes later, or not at all. */
export interface RawPeerConfig extends Pick<
  PeerConfig,
  "type" | "local" | "ports" | "bind" | "stun" | "turn" | "onlog"
> {
  /** Of the channel, when this side makes the offer. Such a side takes no TURN servers. */
  readonly label: string;
  /** The other side's password in ICE, when this side answers. */
  readonly remotePassword: string | undefined;
}

export interface RawPeer {
  /** Resolves when no more local addresses are to be expected. Never rejects. */
  readonly gathered: Promise<void>;
  /** Whether a path has been found. */
  readonly connected: boolean;
  /** The UDP port that is in use, undefined before it is known. */
  readonly port: number | undefined;
  /** Our SDP with the addresses known by now. For an answer, `accept` comes first. */
  describe(): string;
  /** Takes the other side's description, once. Throws TOKEN_MALFORMED when the library does not like it. */
  accept(remote: Description): void;
  /** Takes a candidate attribute; what is none, or cannot be used, is passed over. */
  addCandidate(line: string): void;
  /** The channel is open: the one we made, or the first that came. */
  onchannel: ((channel: RawChannel) => void) | undefined;
  /** The connection is gone before there was a channel. */
  onlost: ((error: DcpipeError) => void) | undefined;
  path(): PeerPath | undefined;
  readonly rtt: number | undefined;
  /** Idempotent. What is in flight is lost. */
  close(): void;
}

/** Makes a RawPeer; waits until the wanted port is free. Throws USAGE when it cannot be had. */
export type CreateRawPeer = (config: RawPeerConfig) => Promise<RawPeer>;
