/**
 * Peers without WebRTC, on virtual time: two of them meet when their credentials fit, one knows where the other is, and the
 * ether lets packets through. What a test wants to go wrong, it switches on.
 */
import { DcpipeError } from "../../src/errors.ts";
import type { Platform } from "../../src/connect/options.ts";
import type { Channel } from "../../src/transport/channel.ts";
import { CERTIFICATE_SEED_SIZE, certificateFromSeed } from "../../src/transport/certificate.ts";
import type { Candidate, Peer, PeerConfig, PeerPath, PeerState } from "../../src/transport/peer.ts";
import { sameBytes } from "../../src/wire/bytes.ts";

/** libjuice gives up after this. */
const ICE_MS = 39_500;
/** Without a packet from the other side: consent is lost, and with it the connection. */
const CONSENT_MS = 30_000;

/** What IPv6, UDP, DTLS and SCTP take of a packet. */
const PACKET_OVERHEAD = 124;

class EtherChannel implements Channel {
  readonly bufferedAmount = 0;
  closed = false;
  ondrain: (() => void) | undefined;
  onclose: (() => void) | undefined;
  other: EtherChannel | undefined;
  readonly packet: number;
  readonly #peer: EtherPeer;
  /** Loses and reorders, as the ether says. */
  readonly #lossy: boolean;
  #onmessage: ((message: Uint8Array) => void) | undefined;
  #early: Uint8Array[] = [];

  constructor(peer: EtherPeer, lossy: boolean) {
    this.#peer = peer;
    this.#lossy = lossy;
    this.packet = peer.config.mtu - PACKET_OVERHEAD;
  }

  get onmessage(): ((message: Uint8Array) => void) | undefined {
    return this.#onmessage;
  }

  set onmessage(listener: ((message: Uint8Array) => void) | undefined) {
    this.#onmessage = listener;
    for (const message of this.#early.splice(0)) listener?.(message);
  }

  send(message: Uint8Array): boolean {
    if (this.closed) return false;
    const copy = message.slice();
    const deliver = (): void => this.other?.receive(copy);
    if (this.#lossy) this.#peer.host.ether.scatter(deliver);
    else this.#peer.host.send(this.#peer, Math.min(copy.length, this.packet), deliver);
    return true;
  }

  receive(message: Uint8Array): void {
    if (this.closed) return;
    if (this.#onmessage) this.#onmessage(message);
    else this.#early.push(message);
  }

  close(): void {
    this.#peer.close();
  }

  lost(): void {
    if (this.closed) return;
    this.closed = true;
    this.onclose?.();
  }
}

class EtherPeer implements Peer {
  state: PeerState = "checking";
  channel: EtherChannel | undefined;
  datagrams: EtherChannel | undefined;
  candidates: Candidate[] = [];
  onstate: ((state: PeerState) => void) | undefined;
  oncandidate: ((candidate: Candidate) => void) | undefined;
  readonly gathered: Promise<void>;
  readonly host: Host;
  readonly config: PeerConfig;
  readonly known: Candidate[];
  mate: EtherPeer | undefined;
  #timer: ReturnType<typeof setTimeout>;

  constructor(host: Host, config: PeerConfig) {
    this.host = host;
    this.config = config;
    this.known = [...config.remote.candidates];
    const port = config.ports?.[0] ?? host.nextPort++;
    this.gathered = new Promise((resolve) => {
      setTimeout(() => {
        if (!host.discreet) this.candidates.push({ type: "host", address: host.address, port });
        for (const candidate of this.candidates) this.oncandidate?.(candidate);
        resolve();
      }, 1);
    });
    this.#timer = setTimeout(() => {
      this.enter("failed");
    }, ICE_MS);
  }

  get rtt(): number {
    return Math.floor(2 * this.host.ether.delayMs);
  }

  addCandidate(candidate: Candidate): void {
    this.known.push(candidate);
    this.host.ether.look();
  }

  path(): PeerPath | undefined {
    const [local] = this.candidates;
    const [remote] = this.mate?.candidates ?? [];
    return local && remote && { local, remote };
  }

  /** Whether checks of this peer find the other one. */
  finds(other: EtherPeer): boolean {
    return (
      this.host.ether.up &&
      !other.host.hidden &&
      this.known.some(({ address, port }) =>
        other.candidates.some((candidate) => candidate.address === address && candidate.port === port),
      )
    );
  }

  fits(other: EtherPeer): boolean {
    const [a, b] = [this.config, other.config];
    return (
      a.type !== b.type &&
      a.local.ufrag === b.remote.ufrag &&
      a.remote.ufrag === b.local.ufrag &&
      a.local.pwd === b.remote.pwd &&
      a.remote.pwd === b.local.pwd &&
      sameBytes(a.remote.fingerprint, b.local.certificate.fingerprint) &&
      sameBytes(b.remote.fingerprint, a.local.certificate.fingerprint)
    );
  }

  heard(): void {
    if (this.state === "failed" || this.state === "closed") return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.enter("failed");
    }, CONSENT_MS);
  }

  close(): void {
    this.enter("closed");
  }

  enter(state: PeerState): void {
    if (this.state === "failed" || this.state === "closed") return;
    this.state = state;
    if (state === "failed" || state === "closed") {
      clearTimeout(this.#timer);
      this.host.ether.peers.delete(this);
      const { mate } = this;
      if (mate)
        this.host.send(this, 0, () => {
          mate.close();
        });
    }
    this.onstate?.(state);
    if (state === "failed" || state === "closed") {
      this.channel?.lost();
      this.datagrams?.lost();
    }
  }
}

/** A machine. */
export class Host {
  readonly ether: Ether;
  readonly address: string;
  /** Behind a NAT: nobody finds it, it finds others. */
  hidden = false;
  /** What it says is lost; its checks find others all the same. */
  mute = false;
  /** Its peers tell nobody where they are, not even itself, as in a browser. */
  discreet = false;
  /** Milliseconds for which a connection is made, from the description that it had at first. */
  slowness = 0;
  /** The address or port that is asked for cannot be had. */
  unbindable = false;
  nextPort = 5000;
  created = 0;

  constructor(ether: Ether, address: string) {
    this.ether = ether;
    this.address = address;
  }

  get platform(): Platform {
    return {
      createPeer: (config) => {
        if (this.unbindable) return Promise.reject(new DcpipeError("USAGE", "cannot bind"));
        this.created++;
        const peer = new EtherPeer(this, config);
        this.ether.peers.add(peer);
        void peer.gathered.then(() => {
          this.ether.look();
        });
        return new Promise((resolve) => {
          if (this.slowness === 0) resolve(peer);
          else setTimeout(resolve, this.slowness, peer);
        });
      },
      // The platform's own runs beside the event loop, in real time.
      createCertificate: () =>
        Promise.resolve(certificateFromSeed(crypto.getRandomValues(new Uint8Array(CERTIFICATE_SEED_SIZE)))),
      certificateFromSeed,
      findStunServer: () => Promise.resolve(undefined),
      openSocket: () => Promise.reject(new DcpipeError("SIGNALLING", "there is no rendezvous")),
    };
  }

  /** Peers that are not closed. */
  get alive(): number {
    return [...this.ether.peers].filter(({ host }) => host === this).length;
  }

  send(from: EtherPeer, size: number, deliver: () => void): void {
    if (this.mute || size > this.ether.largest) return;
    const arrive = (): void => {
      // SCTP sends again what a cut cable lost, if the cable is mended in time.
      if (!this.ether.up) {
        this.ether.held.push(arrive);
        return;
      }
      from.mate?.heard();
      deliver();
    };
    setTimeout(arrive, this.ether.delayMs);
  }
}

export class Ether {
  readonly peers = new Set<EtherPeer>();
  /** What waits for the cable. */
  held: (() => void)[] = [];
  delayMs = 5;
  /** Messages with larger pieces are lost, the part of a packet that is not theirs not counted. */
  largest = Infinity;
  /** Peers that meet get no further than this. */
  reach: "connected" | "open" = "open";
  /** Milliseconds that a datagram takes, undefined for one that is lost. */
  datagramMs: () => number | undefined = () => this.delayMs;
  #up = true;

  get up(): boolean {
    return this.#up;
  }

  /** Cuts or mends the only cable. */
  set up(up: boolean) {
    this.#up = up;
    if (up) for (const arrive of this.held.splice(0)) arrive();
    this.look();
  }

  /** A datagram goes its own way, and nobody sends it again. */
  scatter(deliver: () => void): void {
    const delay = this.up ? this.datagramMs() : undefined;
    if (delay === undefined) return;
    setTimeout(() => {
      if (this.up) deliver();
    }, delay);
  }

  /** Joins the peers that find each other. */
  look(): void {
    for (const a of this.peers) {
      for (const b of this.peers) {
        if (a.mate || b.mate || a.config.type !== "offer" || !a.fits(b)) continue;
        if (!a.finds(b) && !b.finds(a)) continue;
        [a.mate, b.mate] = [b, a];
        setTimeout(() => {
          this.#join(a, b);
        }, 4 * this.delayMs);
      }
    }
  }

  #join(a: EtherPeer, b: EtherPeer): void {
    if (!this.#up || !this.peers.has(a) || !this.peers.has(b)) {
      a.mate = b.mate = undefined;
      return;
    }
    const { reach } = this;
    const pair = [a, b];
    for (const peer of pair) {
      peer.heard();
      peer.enter("connected");
      if (reach !== "open") continue;
      peer.channel = new EtherChannel(peer, false);
      if (peer.config.datagrams) peer.datagrams = new EtherChannel(peer, true);
    }
    if (a.channel) a.channel.other = b.channel;
    if (b.channel) b.channel.other = a.channel;
    if (a.datagrams) a.datagrams.other = b.datagrams;
    if (b.datagrams) b.datagrams.other = a.datagrams;
    if (reach === "open") for (const peer of pair) peer.enter("open");
  }
}
