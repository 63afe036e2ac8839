/** The browser's RTCPeerConnection: Peer and Channel on top of it. */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import { LOW_WATER, type Channel } from "../transport/channel.ts";
import { candidateLine, describe, parseCandidate } from "../transport/description.ts";
import { Inbox } from "../transport/inbox.ts";
import type {
  Candidate,
  CreatePeer,
  IceCredentials,
  Peer,
  PeerConfig,
  PeerPath,
  PeerState,
} from "../transport/peer.ts";
import { rtcOf } from "./rtc/certificate.ts";

/** Datagrams that come before anybody listens, in bytes: a moment's worth, the rest is lost like any other. */
const MAX_EARLY = 256 * 1024;
/**
 * Bytes of the longest message in one packet. Browsers choose their packets themselves and tell nobody: Chromium's are of 1,191 bytes
 * and Firefox's of 1,200, SCTP's 28 of headers included.
 */
const PACKET = 1156;

/** Connections that live: nobody else may refer to one whose channel is idle. */
const live = new Set<BrowserPeer>();

/** Opens a peer connection. `ports`, `bind` and `mtu` are the browser's own business. Rejects with NO_WEBRTC, ICE_FAILED. */
export const createPeer: CreatePeer = async (config) => {
  const peer = new BrowserPeer(config);
  try {
    await peer.describe();
    return peer;
  } catch (error) {
    peer.close();
    throw error;
  }
};

class BrowserPeer implements Peer {
  state: PeerState = "checking";
  channel: BrowserChannel | undefined;
  datagrams: BrowserChannel | undefined;
  onstate: ((state: PeerState) => void) | undefined;
  oncandidate: ((candidate: Candidate) => void) | undefined;
  readonly candidates: Candidate[] = [];
  readonly gathered: Promise<void>;
  readonly #config: PeerConfig;
  readonly #connection: RTCPeerConnection;
  #gathered!: () => void;
  #route: Route | undefined;
  #asking = false;
  #closing = false;

  constructor(config: PeerConfig) {
    this.#config = config;
    this.gathered = new Promise((resolve) => (this.#gathered = resolve));
    this.#connection = open(config);
    live.add(this);
    const connection = this.#connection;
    connection.onicecandidate = ({ candidate }) => {
      // An empty one says that no more of a kind will come.
      if (candidate && candidate.candidate !== "") this.#addLocal(candidate.candidate);
    };
    connection.onicegatheringstatechange = () => {
      if (connection.iceGatheringState === "complete") this.#gathered();
    };
    connection.oniceconnectionstatechange = () => {
      const { iceConnectionState: state } = connection;
      // "disconnected" may pass: who is silent for long is missed by the session.
      if (state === "connected" || state === "completed") this.#enter("connected");
      else if (state === "failed") this.#enter("failed");
    };
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === "failed") this.#enter("failed");
      else if (connection.connectionState === "closed") this.close();
    };
    this.#openChannels();
  }

  /** Sets both descriptions: our own with the credentials that the other side knows. */
  async describe(): Promise<void> {
    const { type, local, remote } = this.#config;
    const connection = this.#connection;
    const theirs = {
      type: type === "offer" ? ("answer" as const) : ("offer" as const),
      sdp: describe({ ...remote, type: type === "offer" ? "answer" : "offer" }),
    };
    try {
      if (type === "offer") {
        await connection.setLocalDescription(withCredentials(await connection.createOffer(), local));
        await connection.setRemoteDescription(theirs);
      } else {
        await connection.setRemoteDescription(theirs);
        await connection.setLocalDescription(withCredentials(await connection.createAnswer(), local));
      }
    } catch (cause) {
      throw new DcpipeError("NO_WEBRTC", "this browser does not take the connection as it is described", {
        cause,
      });
    }
  }

  addCandidate(candidate: Candidate): void {
    if (this.#closing) return;
    // What cannot be used, or comes too late, is no loss.
    this.#connection
      .addIceCandidate({ candidate: candidateLine(candidate), sdpMid: "0" })
      .catch(() => undefined);
  }

  get rtt(): number | undefined {
    return this.#closing ? undefined : this.#route?.rtt;
  }

  /** As of the last time it was asked for, or of the moment when the channel opened: browsers do not tell at once. */
  path(): PeerPath | undefined {
    if (this.#closing) return undefined;
    void this.#look();
    return this.#route?.path;
  }

  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    live.delete(this);
    this.#gathered();
    this.#connection.close();
    this.#enter("closed");
    this.channel?.lost();
    this.datagrams?.lost();
  }

  #openChannels(): void {
    const inits: RTCDataChannelInit[] = [
      { negotiated: true, id: 0 },
      ...(this.#config.datagrams ? [{ negotiated: true, id: 1, ordered: false, maxRetransmits: 0 }] : []),
    ];
    let opening = inits.length;
    const [channel, datagrams] = inits.map((init) => {
      const dataChannel = this.#connection.createDataChannel("", init);
      const room = init.ordered === false ? MAX_EARLY : Infinity;
      const made = new BrowserChannel(dataChannel, room, () => {
        this.close();
      });
      dataChannel.onopen = () => {
        if (--opening > 0) return;
        void this.#look().then(() => {
          if (this.#closing) return;
          this.channel = channel;
          this.datagrams = datagrams;
          this.#enter("open");
        });
      };
      return made;
    });
  }

  /** Asks how the packets go. Never rejects. */
  async #look(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      this.#route = routeIn(await this.#connection.getStats()) ?? this.#route;
    } catch {
      // What is known stays.
    } finally {
      this.#asking = false;
    }
  }

  #enter(state: PeerState): void {
    if (ORDER[state] <= ORDER[this.state]) return;
    this.state = state;
    this.onstate?.(state);
    if (state === "failed") this.close();
  }

  #addLocal(line: string): void {
    const candidate = parseCandidate(line);
    if (!candidate || !usable(candidate)) return;
    const { address, port } = candidate;
    if (this.candidates.some((known) => known.address === address && known.port === port)) return;
    this.candidates.push(candidate);
    this.oncandidate?.(candidate);
  }
}

const ORDER: Readonly<Record<PeerState, number>> = {
  checking: 0,
  connected: 1,
  open: 2,
  failed: 3,
  closed: 4,
};

/** Throws NO_WEBRTC, and ICE_FAILED for what the browser has no room for. */
function open({ local, stun, turn, relayOnly }: PeerConfig): RTCPeerConnection {
  if (typeof RTCPeerConnection === "undefined")
    throw new DcpipeError("NO_WEBRTC", "this browser has no WebRTC, or it is switched off");
  const iceServers: RTCIceServer[] = stun ? [{ urls: `stun:${place(stun)}` }] : [];
  for (const { transport, username, password, ...at } of turn) {
    const urls = `${transport === "tls" ? "turns" : "turn"}:${place(at)}?transport=${transport === "udp" ? "udp" : "tcp"}`;
    iceServers.push({ urls, username, credential: password });
  }
  try {
    return new RTCPeerConnection({
      iceServers,
      // Calls every address of the other side from our relays, so none has to be kept from the browser.
      iceTransportPolicy: relayOnly ? "relay" : "all",
      certificates: [rtcOf(local.certificate)],
    });
  } catch (cause) {
    throw asDcpipeError(cause, "ICE_FAILED");
  }
}

function place({ host, port }: { readonly host: string; readonly port: number }): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function withCredentials(
  { type, sdp = "" }: RTCSessionDescriptionInit,
  { ufrag, pwd }: IceCredentials,
): RTCSessionDescriptionInit {
  const munged = sdp
    .replace(/^a=ice-ufrag:.*$/gm, () => `a=ice-ufrag:${ufrag}`)
    .replace(/^a=ice-pwd:.*$/gm, () => `a=ice-pwd:${pwd}`);
  return { type, sdp: munged };
}

/** Whether another machine could use this address of ours: names of multicast DNS hide it, and mean nothing to others. */
function usable({ type, address }: Candidate): boolean {
  if (!/^[\d.]+$|:/.test(address)) return false;
  return type !== "host" || !/^(169\.254\.|fe[89ab]|127\.|::1$)/i.test(address);
}

interface Route {
  readonly path: PeerPath;
  readonly rtt: number | undefined;
}

/** What is read of a report, by the names of the specification (webrtc-stats). */
interface Stat {
  readonly type: string;
  readonly selectedCandidatePairId?: string;
  readonly selected?: boolean;
  readonly nominated?: boolean;
  readonly state?: string;
  readonly localCandidateId?: string;
  readonly remoteCandidateId?: string;
  readonly currentRoundTripTime?: number;
  readonly address?: string | null;
  readonly port?: number;
  readonly candidateType?: string;
}

function routeIn(report: RTCStatsReport): Route | undefined {
  const stats = report as unknown as ReadonlyMap<string, Stat>;
  const all = [...stats.values()];
  const transport = all.find(({ type }) => type === "transport");
  const pairs = all.filter(({ type }) => type === "candidate-pair");
  const pair =
    stats.get(transport?.selectedCandidatePairId ?? "") ??
    // Firefox has no entry for the transport.
    pairs.find(({ selected }) => selected === true) ??
    pairs.find(({ nominated, state }) => nominated === true && state === "succeeded");
  if (!pair) return undefined;
  const end = (id: string | undefined): PeerPath["local"] => {
    const { address, port, candidateType } = stats.get(id ?? "") ?? {};
    return { address: address ?? "", port: port ?? 0, type: candidateType ?? "unknown" };
  };
  const { currentRoundTripTime: seconds } = pair;
  return {
    path: { local: end(pair.localCandidateId), remote: end(pair.remoteCandidateId) },
    rtt: seconds === undefined ? undefined : Math.floor(seconds * 1000),
  };
}

class BrowserChannel implements Channel {
  ondrain: (() => void) | undefined;
  onclose: (() => void) | undefined;
  closed = false;
  readonly packet = PACKET;
  readonly #channel: RTCDataChannel;
  readonly #closePeer: () => void;
  readonly #inbox: Inbox;

  constructor(channel: RTCDataChannel, room: number, closePeer: () => void) {
    this.#channel = channel;
    this.#closePeer = closePeer;
    this.#inbox = new Inbox(room);
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = LOW_WATER;
    channel.onbufferedamountlow = () => this.ondrain?.();
    channel.onclose = () => {
      closePeer();
      this.lost();
    };
    channel.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
      if (this.closed) return;
      this.#inbox.take(typeof data === "string" ? new TextEncoder().encode(data) : new Uint8Array(data));
    };
  }

  get onmessage(): ((message: Uint8Array) => void) | undefined {
    return this.#inbox.listener;
  }

  set onmessage(listener: ((message: Uint8Array) => void) | undefined) {
    this.#inbox.listener = listener;
  }

  get bufferedAmount(): number {
    return this.closed ? 0 : this.#channel.bufferedAmount;
  }

  send(message: Uint8Array): boolean {
    if (this.closed || this.#channel.readyState !== "open") return false;
    try {
      // Copied by the browser; none of our messages are in shared memory.
      this.#channel.send(message as Uint8Array<ArrayBuffer>);
      return true;
    } catch {
      return false;
    }
  }

  close(): void {
    this.#closePeer();
    this.lost();
  }

  lost(): void {
    if (this.closed) return;
    this.closed = true;
    this.#inbox.clear();
    this.onclose?.();
  }
}
