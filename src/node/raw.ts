/**
 * Plain WebRTC on top of node-datachannel: one connection, one data channel that is announced in band (RFC 8832), and
 * descriptions that travel. What the two ends of it say is nobody's business here.
 */
import { generateKeyPairSync } from "node:crypto";
import { isIP } from "node:net";
import { asDcpipeError, DcpipeError } from "../errors.ts";
import { LOW_WATER, type RawChannel } from "../transport/channel.ts";
import { candidateLine, MAX_MESSAGE_SIZE, parseCandidate } from "../transport/description.ts";
import type { PeerPath, RawPeer, RawPeerConfig } from "../transport/peer.ts";
import {
  finishDescription,
  MAX_REMOTE_CANDIDATES,
  writeDescription,
  type Description,
} from "../transport/sdp.ts";
import { findGround, usable, type Ground } from "./rtc/ground.ts";
import { load, pemOf, type DataChannel, type PeerConnection, type RtcConfig } from "./rtc/library.ts";
import type { Gateway } from "./turn/gateway.ts";

/** Live connections: unreferenced ones are collected and close under way. */
const live = new Set<NodeRawPeer>();

/** Opens a connection. Throws USAGE when the wanted address or port cannot be had, NO_WEBRTC without the native module. */
export async function createRawPeer(config: RawPeerConfig): Promise<RawPeer> {
  load();
  const ground = await findGround({ ...config, relayOnly: false });
  try {
    return new NodeRawPeer(config, ground);
  } catch (error) {
    ground.gateway?.close();
    throw error;
  }
}

class NodeRawPeer implements RawPeer {
  readonly gathered: Promise<void>;
  connected = false;
  onchannel: ((channel: RawChannel) => void) | undefined;
  onlost: ((error: DcpipeError) => void) | undefined;
  readonly #config: RawPeerConfig;
  readonly #gateway: Gateway | undefined;
  readonly #candidates = new Set<string>();
  readonly #remoteCandidates: string[] = [];
  /** Referred to, or they are collected. */
  readonly #dataChannels: DataChannel[] = [];
  #connection: PeerConnection;
  #channel: NodeRawChannel | undefined;
  #gathered!: () => void;
  #remote: Description | undefined;
  /** What the connection is for: the whole; or, when this side offers, to find the path, which another one takes (see `accept`). */
  #stage: "finding" | "taking" | "whole";
  #silent = false;
  #closed = false;

  constructor(config: RawPeerConfig, { settings, gateway }: Ground) {
    this.#config = config;
    this.#gateway = gateway;
    this.gathered = new Promise((resolve) => (this.#gathered = resolve));
    this.#stage = config.type === "offer" ? "finding" : "whole";
    this.#connection = this.#connect(settings);
    live.add(this);
    if (config.type === "answer") return;
    this.#announce();
    this.#connection.setLocalDescription("offer", this.#credentials);
  }

  get #credentials(): { iceUfrag: string; icePwd: string } {
    return { iceUfrag: this.#config.local.ufrag, icePwd: this.#config.local.pwd };
  }

  #connect(settings: RtcConfig): PeerConnection {
    const { certificatePem, keyPem } = pemOf(this.#config.local.certificate);
    const connection = new (load().PeerConnection)("dcpipe", {
      ...settings,
      certificatePemFile: certificatePem,
      keyPemFile: this.#stage === "finding" ? foreignKey() : keyPem,
      // The library cuts what is longer, and says nothing: one byte more than was announced shows it.
      maxMessageSize: MAX_MESSAGE_SIZE + 1,
    });
    connection.onGatheringStateChange((state) => {
      if (state === "complete") this.#gathered();
    });
    connection.onLocalCandidate((line) => {
      this.#addLocal(line);
    });
    connection.onIceStateChange((state) => {
      if (connection !== this.#connection || this.#stage === "taking") return;
      if (state === "connected" || state === "completed") this.#onPath();
      if (state === "failed" || state === "disconnected") this.#silent = true;
    });
    connection.onStateChange((state) => {
      // One that gives way has nothing to say, and one that finds fails at DTLS, as it should.
      if (connection !== this.#connection || this.#stage === "taking") return;
      if (state === "failed" && this.#stage === "finding") return;
      if (state === "failed" || state === "disconnected" || state === "closed") this.#end(state);
    });
    connection.onDataChannel((dataChannel) => {
      // One channel is what was agreed on; further ones of the other side are sent back.
      if (this.#dataChannels.length > 0) {
        dataChannel.close();
        return;
      }
      this.#dataChannels.push(dataChannel);
      this.#open(new NodeRawChannel(connection, dataChannel));
    });
    return connection;
  }

  /** The offering side's channel. */
  #announce(): void {
    const dataChannel = this.#connection.createDataChannel(this.#config.label);
    this.#dataChannels.push(dataChannel);
    // Firefox sends data before it says that the channel is open, and may have closed it by the time we hear of that.
    const channel = new NodeRawChannel(this.#connection, dataChannel);
    dataChannel.onOpen(() => {
      this.#open(channel);
    });
  }

  get port(): number | undefined {
    const lines = [...this.#candidates].map(parseCandidate);
    return lines.find((candidate) => candidate?.type === "host")?.port;
  }

  describe(): string {
    const sdp = this.#connection.localDescription()?.sdp ?? "";
    // Each kind of event has a queue of its own, so "complete" may overtake addresses: the description has them all.
    for (const line of sdp.split(/\r?\n/)) if (line.startsWith("a=candidate:")) this.#addLocal(line.slice(2));
    const all = [...this.#candidates].map(parseCandidate).filter((candidate) => candidate !== undefined);
    const good = all.filter(usable);
    // Better an address that serves two processes on this machine than none.
    const shown = good.length > 0 ? good : all;
    return finishDescription(sdp, shown.map(candidateLine), MAX_MESSAGE_SIZE);
  }

  /**
   * The library hands an answer to ICE before it stores it. The other side has called for as long as it waits, so the path may stand in
   * between, and the DTLS handshake finds no fingerprint to compare with: 25 of 85 connects on one machine failed so, with "unknown CA".
   * Therefore the connection that has waited only finds the path. Its key does not belong to its certificate, so that it can begin no
   * handshake, and hears of none. Then it gives way to one that has the description before it has a socket.
   */
  accept(remote: Description): void {
    this.#describeRemote(remote);
    if (remote.type === "offer") this.#connection.setLocalDescription("answer", this.#credentials);
    this.#remote = remote;
    for (const line of [...remote.candidates, ...this.#remoteCandidates.splice(0)]) this.addCandidate(line);
  }

  #onPath(): void {
    this.connected = true;
    this.#gateway?.connected();
    if (this.#stage !== "finding" || !this.#remote) return;
    this.#stage = "taking";
    void this.#take(this.#remote);
  }

  /**
   * Takes the path that was found: on the same port with the same credentials and certificate. To the library the new connection answers an
   * offer, one of ice-lite, which leaves the controlling part to us. Firefox does not call twice; but it is known now where it is.
   */
  async #take(remote: Description): Promise<void> {
    const old = this.#connection;
    const found = old.getSelectedCandidatePair()?.remote;
    const { port } = this;
    old.close();
    try {
      if (!found || port === undefined) throw new DcpipeError("ICE_FAILED", "the path was lost at once");
      const ports = [port, port] as const;
      const { settings } = await findGround({ ...this.#config, relayOnly: false, stun: undefined, ports });
      if (this.#closed) return;
      this.#dataChannels.length = 0;
      this.#stage = "whole";
      this.#connection = this.#connect(settings);
      this.#announce();
      this.#describeRemote({ ...remote, type: "offer" }, true);
      this.#connection.setLocalDescription("answer", this.#credentials);
      const { address, port: at } = found;
      for (const line of [
        candidateLine({ type: "host", address, port: at }),
        ...this.#remoteCandidates.splice(0),
      ])
        this.addCandidate(line);
    } catch (error) {
      this.#fail(asDcpipeError(error, "IO"));
    }
  }

  /** Throws TOKEN_MALFORMED. */
  #describeRemote(remote: Description, lite = false): void {
    try {
      this.#connection.setRemoteDescription(writeDescription(remote, lite), remote.type);
    } catch (cause) {
      throw new DcpipeError("TOKEN_MALFORMED", `the ${remote.type} cannot be used`, { cause });
    }
  }

  addCandidate(line: string): void {
    const candidate = parseCandidate(line);
    // A name would be looked up, wherever the other side wants that: those that browsers make up are of no use here.
    if (this.#closed || !candidate || isIP(candidate.address) === 0) return;
    if (this.#remoteCandidates.length >= MAX_REMOTE_CANDIDATES) return;
    this.#remoteCandidates.push(line);
    if (!this.#remote) return;
    try {
      this.#connection.addRemoteCandidate(candidateLine(candidate), this.#remote.mid);
    } catch {
      // The connection closed under us; its state says so.
    }
  }

  path(): PeerPath | undefined {
    const pair = this.#closed ? null : this.#connection.getSelectedCandidatePair();
    if (!pair) return undefined;
    const [local, remote] = [pair.local, pair.remote].map(({ address, port, type }) => ({
      address,
      port,
      type,
    }));
    return local && remote && { local, remote };
  }

  get rtt(): number | undefined {
    const rtt = this.#closed ? -1 : this.#connection.rtt();
    return rtt < 0 ? undefined : rtt;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#gathered();
    this.#connection.close();
    this.#gateway?.close();
    this.#channel?.ended(this.#silent);
    live.delete(this);
  }

  #addLocal(line: string): void {
    const candidate = parseCandidate(line);
    if (candidate) this.#candidates.add(candidateLine(candidate));
  }

  #open(channel: NodeRawChannel): void {
    if (this.#closed) return;
    channel.opened();
    this.#channel = channel;
    this.onchannel?.(channel);
  }

  #end(state: string): void {
    if (this.#closed) return;
    if (this.#channel) {
      this.#channel.ended(this.#silent);
      return;
    }
    this.#fail(
      this.connected
        ? new DcpipeError("PEER_GONE", "the other side has closed the connection before a channel was open")
        : new DcpipeError("ICE_FAILED", `no path to the other side was found (${state})`),
    );
  }

  #fail(error: DcpipeError): void {
    this.onlost?.(error);
    this.close();
  }
}

/** PEM of a key that belongs to nothing. */
function foreignKey(): string {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return privateKey.export({ type: "pkcs8", format: "pem" }).toString();
}

/** Turns of the event loop without a new message after which none is on its way from the library's threads. */
const QUIET_TURNS = 3;
/** Nothing tells of the end of a channel that does not throw queued messages away (see below); looking so often costs nothing. */
const LOOK_MS = 20;
/** More often where a page may hang up as soon as it has answered: it needs one round trip for that. */
const LOOK_CLOSELY_MS = 2;
/**
 * What the other side gets to acknowledge our last bytes: the MiB that the library below may hold, at 140 kbit/s. A path that is dead
 * ends the connection long before, so only a side that lives and does not answer is given up so.
 */
const FINISH_MS = 60_000;
/**
 * Who has closed first hangs up when it hears our answer. One that does not is left after that time: the answer has then gone out, three
 * times if need be.
 */
const PARTING_MS = 2000;
/**
 * Who hangs up as soon as he has answered, and on so short a path that the answer was not seen, does it at once. What ends later was given
 * up by SCTP, 12.6 s after the first of our bytes that nobody has acknowledged.
 */
const PROMPT_MS = 5000;

/**
 * The channel is closed by a second handle on the same stream, made for that: it resets our stream behind all data, and this one goes on
 * hearing, until the other side resets its own, as it must when it has seen ours (RFC 8831, section 6.7). So what comes last is not lost,
 * and everything is known to have arrived.
 *
 * `onClosed` of the binding is not used: with it the binding throws away what it has not yet delivered (murat-dogan/node-datachannel
 * issue 375).
 */
class NodeRawChannel implements RawChannel {
  ondrain: (() => void) | undefined;
  onclose: (() => void) | undefined;
  onoversize: (() => void) | undefined;
  closed = false;
  silent = false;
  maxMessageSize = 0;
  readonly #connection: PeerConnection;
  readonly #channel: DataChannel;
  #look: NodeJS.Timeout | undefined;
  #early: Uint8Array[] = [];
  #onmessage: ((message: Uint8Array) => void) | undefined;
  #messages = 0;
  #ending = false;
  #hungUp = false;
  /** When `finish` was called. */
  #since = Infinity;
  #finishing: Promise<boolean> | undefined;
  #finish: ((acknowledged: boolean) => void) | undefined;

  constructor(connection: PeerConnection, channel: DataChannel) {
    this.#connection = connection;
    this.#channel = channel;
    channel.setBufferedAmountLowThreshold(LOW_WATER);
    channel.onBufferedAmountLow(() => this.ondrain?.());
    channel.onMessage((message) => {
      this.#messages++;
      const bytes = typeof message === "string" ? Buffer.from(message) : new Uint8Array(message);
      if (bytes.length > MAX_MESSAGE_SIZE) this.onoversize?.();
      else if (this.#onmessage) this.#onmessage(bytes);
      else this.#early.push(bytes);
    });
  }

  /** Known by now: what the other side takes. */
  opened(): void {
    if (this.#isOpen()) this.maxMessageSize = this.#channel.maxMessageSize();
    this.#watch(LOOK_MS);
  }

  #watch(ms: number): void {
    clearInterval(this.#look);
    this.#look = setInterval(() => {
      if (!this.#isOpen()) this.ended(false);
    }, ms);
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
    return this.#channel.bufferedAmount();
  }

  send(message: Uint8Array): boolean {
    if (this.#finishing || !this.#isOpen()) return false;
    try {
      // False only means "queued" here; the message is not lost.
      this.#channel.sendMessageBinary(message);
      return true;
    } catch {
      return false;
    }
  }

  finish(): Promise<boolean> {
    if (this.#hungUp) return Promise.resolve(false);
    this.#finishing ??= new Promise((resolve) => {
      const timer = setTimeout(() => this.#finish?.(false), this.#ending ? PARTING_MS : FINISH_MS);
      this.#finish = (acknowledged) => {
        clearTimeout(timer);
        resolve(acknowledged);
      };
      if (!this.#ending) this.#closeOurs();
    });
    return this.#finishing;
  }

  #closeOurs(): void {
    this.#since = performance.now();
    this.#watch(LOOK_CLOSELY_MS);
    try {
      this.#connection.createDataChannel("", { negotiated: true, id: this.#channel.getId() }).close();
    } catch {
      // The connection closed under us: `ended` comes.
    }
  }

  /** The channel is closed, or the connection under it: what has arrived is delivered, then `onclose` called. */
  ended(silent: boolean): void {
    this.#hungUp = this.#connection.state() !== "connected";
    if (this.#ending) {
      if (this.closed) this.#finish?.(false);
      return;
    }
    this.#ending = true;
    this.silent = silent || (this.#hungUp && performance.now() - this.#since > PROMPT_MS);
    clearInterval(this.#look);
    let [seen, quiet] = [this.#messages, 0];
    const turn = (): void => {
      quiet = this.#messages === seen ? quiet + 1 : 0;
      seen = this.#messages;
      if (quiet < QUIET_TURNS) {
        setImmediate(turn);
        return;
      }
      this.closed = true;
      this.#finish?.(!this.silent);
      this.onclose?.();
    };
    setImmediate(turn);
  }

  #isOpen(): boolean {
    return this.#channel.isOpen();
  }
}
