/** Peer and Channel on top of node-datachannel. */
import { isIPv4 } from "node:net";
import { LOW_WATER, type Channel } from "../transport/channel.ts";
import { candidateLine, describe, MAX_MESSAGE_SIZE, parseCandidate } from "../transport/description.ts";
import type { Candidate, Peer, PeerConfig, PeerPath, PeerState } from "../transport/peer.ts";
import { findGround, isIPv6Only, usable, type Ground } from "./rtc/ground.ts";
import {
  load,
  pemOf,
  type DataChannel,
  type PeerConnection,
  type SelectedCandidateInfo,
} from "./rtc/library.ts";
import { flushed, type Gateway } from "./turn/gateway.ts";

export { flushed };
export { preload } from "./rtc/library.ts";

/**
 * Live connections. The native objects do not keep their JavaScript halves alive: an unreferenced connection or channel is
 * collected and closes under way (murat-dogan/node-datachannel issues 76, 223, 272).
 */
const live = new Set<NodePeer>();

/**
 * Opens a peer connection. Throws USAGE when the wanted address or port cannot be had, NO_WEBRTC without the native module.
 */
export async function createPeer(config: PeerConfig): Promise<Peer> {
  load();
  const ground = await findGround({ ...config, remotePassword: config.remote.pwd });
  try {
    return new NodePeer(config, ground);
  } catch (error) {
    ground.gateway?.close();
    throw error;
  }
}

class NodePeer implements Peer {
  state: PeerState = "checking";
  channel: NodeChannel | undefined;
  datagrams: NodeChannel | undefined;
  onstate: ((state: PeerState) => void) | undefined;
  oncandidate: ((candidate: Candidate) => void) | undefined;
  readonly candidates: Candidate[] = [];
  readonly gathered: Promise<void>;
  readonly #connection: PeerConnection;
  /** Those below: referred to, or they are collected under way. */
  readonly #dataChannels: DataChannel[] = [];
  readonly #relayOnly: boolean;
  readonly #gateway: Gateway | undefined;
  #gathered!: () => void;
  #closing = false;

  constructor(config: PeerConfig, { settings, gateway }: Ground) {
    this.#gateway = gateway;
    this.gathered = new Promise((resolve) => (this.#gathered = resolve));
    const { local, remote } = config;
    const { certificatePem, keyPem } = pemOf(local.certificate);
    this.#relayOnly = config.relayOnly;
    this.#connection = new (load().PeerConnection)("dcpipe", {
      ...settings,
      certificatePemFile: certificatePem,
      keyPemFile: keyPem,
      maxMessageSize: MAX_MESSAGE_SIZE,
      mtu: config.mtu,
    });
    live.add(this);
    for (const candidate of remote.candidates) this.#permit(candidate);
    if (gateway) {
      gateway.onlost = ({ address, port }) => {
        const local = this.path()?.local;
        if (local?.type === "relay" && local.address === address && local.port === port) this.close();
      };
    }
    this.#connection.onStateChange((state) => {
      this.#onState(state);
    });
    this.#connection.onIceStateChange((state) => {
      if (state !== "connected" && state !== "completed") return;
      gateway?.connected();
      this.#enter("connected");
    });
    this.#connection.onGatheringStateChange((state) => {
      if (state !== "complete" || this.#closing) return;
      this.#addFromDescription(config);
      this.#gathered();
    });
    this.#connection.onLocalCandidate((line) => {
      const candidate = parseCandidate(line);
      if (candidate && usable(candidate)) this.#addLocal(candidate);
    });
    const inits = [
      { negotiated: true, id: 0 },
      ...(config.datagrams ? [{ negotiated: true, id: 1, unordered: true, maxRetransmits: 0 }] : []),
    ];
    let opening = inits.length;
    const [channel, datagrams] = inits.map((init) => {
      const dataChannel = this.#connection.createDataChannel("", init);
      this.#dataChannels.push(dataChannel);
      const room = "unordered" in init ? MAX_EARLY : Infinity;
      const made = new NodeChannel(dataChannel, config.mtu - PACKET_OVERHEAD, room, () => {
        this.close();
      });
      dataChannel.onOpen(() => {
        if (--opening > 0 || this.#closing) return;
        this.channel = channel;
        this.datagrams = datagrams;
        this.#enter("open");
      });
      return made;
    });
    // One local description, ever: a second one ends the whole process (an uncatchable C++ exception).
    const credentials = { iceUfrag: local.ufrag, icePwd: local.pwd };
    const remoteSdp = (): string =>
      describe({
        type: config.type === "offer" ? "answer" : "offer",
        ufrag: remote.ufrag,
        pwd: remote.pwd,
        fingerprint: remote.fingerprint,
        candidates: remote.candidates.filter((candidate) => this.#wants(candidate)),
      });
    if (config.type === "offer") {
      this.#connection.setLocalDescription("offer", credentials);
      this.#connection.setRemoteDescription(remoteSdp(), "answer");
    } else {
      this.#connection.setRemoteDescription(remoteSdp(), "offer");
      this.#connection.setLocalDescription("answer", credentials);
    }
  }

  /**
   * With relays only, other addresses must not even be told to the library: it hides ours, but would call them from our own. A side
   * that has no relay cannot be reached then.
   */
  #wants({ type }: Candidate): boolean {
    return !this.#relayOnly || type === "relay";
  }

  /** It calls our relayed address then, which the library has no part in until it does. */
  #permit({ address }: Candidate): void {
    if (isIPv4(address) && isIPv6Only()) this.#gateway?.permit(address);
  }

  addCandidate(candidate: Candidate): void {
    if (this.#closing || !this.#wants(candidate)) return;
    this.#permit(candidate);
    try {
      this.#connection.addRemoteCandidate(candidateLine(candidate), "0");
    } catch {
      // The connection closed under us; its state says so.
    }
  }

  get rtt(): number | undefined {
    const rtt = this.#closing ? -1 : this.#connection.rtt();
    return rtt < 0 ? undefined : rtt;
  }

  path(): PeerPath | undefined {
    if (this.#closing) return undefined;
    const pair = this.#connection.getSelectedCandidatePair();
    if (!pair) return undefined;
    // The library knows no IPv4 address on a machine that has none, though it goes through a TURN server to one.
    const end = ({ address, port, type }: SelectedCandidateInfo): PeerPath["local"] => ({
      ...(port > 0 ? { address, port } : (this.#candidateOf(type) ?? { address: "unknown", port: 0 })),
      type,
    });
    return { local: end(pair.local), remote: end(pair.remote) };
  }

  #candidateOf(type: string): Candidate | undefined {
    return type === "relay" ? this.candidates.find((candidate) => candidate.type === type) : undefined;
  }

  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#gathered();
    this.#connection.close();
    this.#gateway?.close();
    this.#enter("closed");
    this.channel?.lost();
    this.datagrams?.lost();
  }

  #onState(state: string): void {
    if (state === "failed" || state === "disconnected") this.#enter("failed");
    if (state !== "closed") return;
    this.close();
    live.delete(this);
  }

  #enter(state: PeerState): void {
    if (ORDER[state] <= ORDER[this.state]) return;
    this.state = state;
    this.onstate?.(state);
    if (state === "failed") this.close();
  }

  #addLocal(candidate: Candidate): void {
    const { address, port } = candidate;
    if (this.candidates.some((known) => known.address === address && known.port === port)) return;
    this.candidates.push(candidate);
    this.oncandidate?.(candidate);
  }

  /** Each kind of event has a queue of its own, so "complete" may overtake addresses: the description has them all. */
  #addFromDescription({ relayOnly }: PeerConfig): void {
    const lines = this.#connection.localDescription()?.sdp.split(/\r?\n/) ?? [];
    const all = lines.map(parseCandidate).filter((candidate) => candidate !== undefined);
    for (const candidate of all) if (usable(candidate)) this.#addLocal(candidate);
    // Better an address that serves two processes on this machine than none.
    const port = all.find(({ type }) => type === "host")?.port;
    if (this.candidates.length === 0 && port !== undefined && !relayOnly) {
      this.#addLocal({ type: "host", address: "127.0.0.1", port });
    }
  }
}

const ORDER: Readonly<Record<PeerState, number>> = {
  checking: 0,
  connected: 1,
  open: 2,
  failed: 3,
  closed: 4,
};

/** Datagrams that come before anybody listens, in bytes: a moment's worth, the rest is lost like any other. */
const MAX_EARLY = 256 * 1024;
/** What a message that waits costs at least: an empty one is not free. */
const MIN_COST = 512;

/** What libdatachannel sets aside in a packet: IPv6 40, UDP 8, DTLS 48, SCTP 12 and its chunk header 16. */
const PACKET_OVERHEAD = 124;

class NodeChannel implements Channel {
  ondrain: (() => void) | undefined;
  onclose: (() => void) | undefined;
  closed = false;
  readonly packet: number;
  readonly #channel: DataChannel;
  readonly #closePeer: () => void;
  /** Messages that came before anyone listened, and room for more. */
  #early: Uint8Array[] = [];
  #room: number;
  #onmessage: ((message: Uint8Array) => void) | undefined;

  constructor(channel: DataChannel, packet: number, room: number, closePeer: () => void) {
    this.#channel = channel;
    this.packet = packet;
    this.#room = room;
    this.#closePeer = closePeer;
    channel.setBufferedAmountLowThreshold(LOW_WATER);
    channel.onBufferedAmountLow(() => this.ondrain?.());
    channel.onClosed(() => {
      closePeer();
      this.lost();
    });
    channel.onMessage((message) => {
      const bytes =
        typeof message === "string"
          ? Buffer.from(message)
          : message instanceof ArrayBuffer
            ? new Uint8Array(message)
            : message;
      if (this.#onmessage) this.#onmessage(bytes);
      else if (!this.closed && bytes.length <= this.#room) {
        this.#room -= Math.max(bytes.length, MIN_COST);
        this.#early.push(bytes);
      }
    });
  }

  get onmessage(): ((message: Uint8Array) => void) | undefined {
    return this.#onmessage;
  }

  set onmessage(listener: ((message: Uint8Array) => void) | undefined) {
    this.#onmessage = listener;
    const early = this.#early;
    this.#early = [];
    for (const message of early) listener?.(message);
  }

  get bufferedAmount(): number {
    return this.closed ? 0 : this.#channel.bufferedAmount();
  }

  send(message: Uint8Array): boolean {
    if (this.closed || !this.#channel.isOpen()) return false;
    try {
      // False only means "queued" here; the message is not lost.
      this.#channel.sendMessageBinary(message);
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
    this.#early = [];
    this.onclose?.();
  }
}
