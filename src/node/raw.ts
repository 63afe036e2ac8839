/**
 * Plain WebRTC on top of node-datachannel: one connection, one data channel that is announced in band (RFC 8832), and
 * descriptions that travel. What the two ends of it say is nobody's business here.
 */
import { isIP } from "node:net";
import { asDcpipeError, DcpipeError } from "../errors.ts";
import { LOW_WATER, type RawChannel } from "../transport/channel.ts";
import { candidateLine, MAX_MESSAGE_SIZE, parseCandidate } from "../transport/description.ts";
import type { Candidate, PeerPath, RawPeer, RawPeerConfig } from "../transport/peer.ts";
import {
  finishDescription,
  MAX_REMOTE_CANDIDATES,
  writeDescription,
  type Description,
} from "../transport/sdp.ts";
import { findGround, usable, type Ground } from "./rtc/ground.ts";
import { load, pemOf, type DataChannel, type PeerConnection, type RtcConfig } from "./rtc/library.ts";

/** Live connections: unreferenced ones are collected and close under way. */
const live = new Set<NodeRawPeer>();

/** Opens a connection. Throws USAGE when the wanted address or port cannot be had, NO_WEBRTC without the native module. */
export async function createRawPeer(config: RawPeerConfig): Promise<RawPeer> {
  load();
  const ground = await findGround(config);
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
  readonly #ground: Ground;
  readonly #candidates = new Set<string>();
  /** Who has called before the answer came, by the ICE user name fragment; of the offering side. */
  readonly #callers = new Map<string, Candidate[]>();
  /** Referred to, or they are collected. */
  readonly #dataChannels: DataChannel[] = [];
  /** Undefined between the one that waited and the one that connects. */
  #connection: PeerConnection | undefined;
  #channel: NodeRawChannel | undefined;
  #gathered!: () => void;
  #remote: Description | undefined;
  /** What came before the connection could take it. */
  #pending: string[] | undefined = [];
  #remoteCandidates = 0;
  #turnedAway = false;
  #silent = false;
  #closed = false;

  constructor(config: RawPeerConfig, ground: Ground) {
    this.#config = config;
    this.#ground = ground;
    this.gathered = new Promise((resolve) => (this.#gathered = resolve));
    this.#connection = this.#connect(ground.settings);
    live.add(this);
    if (config.type === "answer") return;
    if (!ground.gateway) overhear(config.local.ufrag, this.#callers);
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
      keyPemFile: keyPem,
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
      if (state === "connected" || state === "completed") {
        this.connected = true;
        this.#ground.gateway?.connected();
      }
      if (state === "failed" || state === "disconnected") this.#silent = true;
    });
    connection.onStateChange((state) => {
      // One that was replaced has nothing to say.
      if (connection !== this.#connection) return;
      if (state === "failed" || state === "disconnected" || state === "closed") this.#end(state);
    });
    connection.onDataChannel((dataChannel) => {
      // One channel is what was agreed on; further ones of the other side are sent back.
      if (this.#config.type === "offer" || this.#dataChannels.length > 0) {
        if (!this.#turnedAway) this.#config.onlog?.("the other side opens further channels: they are closed");
        this.#turnedAway = true;
        dataChannel.close();
        return;
      }
      this.#dataChannels.push(dataChannel);
      this.#open(new NodeRawChannel(dataChannel));
    });
    return connection;
  }

  /** The offering side's channel. */
  #announce(): void {
    const dataChannel = this.#connection?.createDataChannel(this.#config.label);
    if (!dataChannel) return;
    this.#dataChannels.push(dataChannel);
    // Firefox sends data before it says that the channel is open, and may have closed it by the time we hear of that.
    const channel = new NodeRawChannel(dataChannel);
    dataChannel.onOpen(() => {
      this.#open(channel);
    });
  }

  get port(): number | undefined {
    const lines = [...this.#candidates].map(parseCandidate);
    return lines.find((candidate) => candidate?.type === "host")?.port;
  }

  describe(): string {
    const sdp = this.#connection?.localDescription()?.sdp ?? "";
    // Each kind of event has a queue of its own, so "complete" may overtake addresses: the description has them all.
    for (const line of sdp.split(/\r?\n/)) if (line.startsWith("a=candidate:")) this.#addLocal(line.slice(2));
    const all = [...this.#candidates].map(parseCandidate).filter((candidate) => candidate !== undefined);
    const good = all.filter(usable);
    // Better an address that serves two processes on this machine than none.
    const shown = good.length > 0 || this.#config.relayOnly ? good : all;
    return finishDescription(sdp, shown.map(candidateLine), MAX_MESSAGE_SIZE);
  }

  accept(remote: Description): void {
    this.#remote = remote;
    for (const line of remote.candidates) this.addCandidate(line);
    const { port } = this;
    if (remote.type === "answer" && !this.#ground.gateway && port !== undefined) {
      void this.#replace(remote, port);
      return;
    }
    this.#describeRemote(remote);
    if (remote.type === "offer") this.#connection?.setLocalDescription("answer", this.#credentials);
    this.#takePending();
  }

  /**
   * The library hands the answer to ICE before it stores it. The other side has called for as long as it waits, so the
   * connection may stand in between, and its DTLS handshake finds no fingerprint to compare with (11 of 28 connects on one
   * machine failed so). Therefore what waited gives way, on the same port with the same credentials and certificate, to a
   * connection that has the other side's description before it has a socket: to the library it answers an offer, one of
   * ice-lite, which leaves the controlling part to us. A relay would be lost by that; with one, the path is seldom so short.
   * Whoever has called and was answered does not call again: that is where the new one calls.
   */
  async #replace(remote: Description, port: number): Promise<void> {
    const old = this.#connection;
    // From here on the old one is not ours any more, and its state of no interest.
    this.#connection = undefined;
    this.#dataChannels.length = 0;
    old?.close();
    silence();
    try {
      const ports = [port, port] as const;
      const { settings } = await findGround({ ...this.#config, stun: undefined, turn: [], ports });
      if (this.#closed) return;
      this.#connection = this.#connect(settings);
      this.#announce();
      this.#describeRemote({ ...remote, type: "offer" }, true);
      this.#connection.setLocalDescription("answer", this.#credentials);
      for (const caller of this.#callers.get(remote.ufrag) ?? []) this.#tell(candidateLine(caller));
      this.#takePending();
    } catch (error) {
      this.#fail(asDcpipeError(error, "IO"));
    }
  }

  /** Throws TOKEN_MALFORMED. */
  #describeRemote(remote: Description, lite = false): void {
    try {
      this.#connection?.setRemoteDescription(writeDescription(remote, lite), remote.type);
    } catch (cause) {
      throw new DcpipeError("TOKEN_MALFORMED", `the ${remote.type} cannot be used`, { cause });
    }
  }

  addCandidate(line: string): void {
    if (this.#closed) return;
    if (this.#pending) this.#pending.push(line);
    else this.#tell(line);
  }

  #takePending(): void {
    const pending = this.#pending ?? [];
    this.#pending = undefined;
    for (const line of pending) this.#tell(line);
  }

  #tell(line: string): void {
    const candidate = parseCandidate(line);
    // A name would be looked up, wherever the other side wants that: those that browsers make up are of no use here.
    if (!candidate || isIP(candidate.address) === 0 || this.#remoteCandidates >= MAX_REMOTE_CANDIDATES)
      return;
    // With relays only the library would call others from our own addresses.
    if (this.#config.relayOnly && candidate.type !== "relay") return;
    this.#remoteCandidates++;
    try {
      this.#connection?.addRemoteCandidate(candidateLine(candidate), this.#remote?.mid ?? "0");
    } catch {
      // The connection closed under us; its state says so.
    }
  }

  path(): PeerPath | undefined {
    const pair = this.#closed ? null : this.#connection?.getSelectedCandidatePair();
    if (!pair) return undefined;
    const [local, remote] = [pair.local, pair.remote].map(({ address, port, type }) => ({
      address,
      port,
      type,
    }));
    return local && remote && { local, remote };
  }

  get rtt(): number | undefined {
    const rtt = this.#closed ? -1 : (this.#connection?.rtt() ?? -1);
    return rtt < 0 ? undefined : rtt;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#gathered();
    this.#connection?.close();
    this.#ground.gateway?.close();
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

/** Addresses that are kept of one caller, and callers. */
const MAX_CALLS = 8;

/**
 * Notes from where somebody calls the waiting connection with our user name fragment and password: the binding has no event
 * for it, the library's log says it. One waits at a time in a process.
 */
function overhear(ufrag: string, callers: Map<string, Candidate[]>): void {
  let from: Candidate | undefined;
  let caller = "";
  load().initLogger("Verbose", (_level, text) => {
    const [, address, port] = /Received STUN datagram from (\S+):(\d{1,5})\s*$/.exec(text) ?? [];
    if (address !== undefined) {
      from = { type: "host", address: address.replace(/^\[|\]$/g, ""), port: Number(port) };
      caller = "";
    }
    const [, to, name] = /Got username: ([^:\s]+):(\S+)\s*$/.exec(text) ?? [];
    if (to === ufrag && name !== undefined) caller = name;
    if (!from || caller === "" || !text.includes("STUN message integrity check succeeded")) return;
    const calls = callers.get(caller) ?? [];
    const { address: known, port: at } = from;
    const isNew =
      calls.length < MAX_CALLS && calls.every((call) => call.address !== known || call.port !== at);
    if (isNew && callers.size < MAX_CALLS) callers.set(caller, [...calls, from]);
  });
}

/** Nobody reads the library's log any more. */
function silence(): void {
  load().initLogger("Fatal", () => undefined);
}

/** Turns of the event loop without anything new after which nothing is on its way from the library's threads. */
const QUIET_TURNS = 3;

function whenQuiet(count: () => number, then: () => void): void {
  let seen = count();
  let quiet = 0;
  const turn = (): void => {
    quiet = count() === seen ? quiet + 1 : 0;
    seen = count();
    if (quiet < QUIET_TURNS) setImmediate(turn);
    else then();
  };
  setImmediate(turn);
}

/** Nothing tells of the end of a channel that does not throw queued messages away (see below); looking so often costs nothing. */
const LOOK_MS = 20;
/** All of the last MiB on a slow path, and the acknowledgement; SCTP itself gives up after some 13 s without an answer. */
const FINISH_MS = 30_000;
/** What the library's log says when a reset of our stream was answered, which comes behind all data (RFC 6525, section 5.2.2). */
const ACKNOWLEDGED = /SCTP reset event, flags=[\w,]*outgoing/;

/**
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
  readonly #channel: DataChannel;
  #look: NodeJS.Timeout | undefined;
  #early: Uint8Array[] = [];
  #onmessage: ((message: Uint8Array) => void) | undefined;
  #messages = 0;
  #lines = 0;
  #ending = false;
  #finished: ((acknowledged: boolean) => void) | undefined;

  constructor(channel: DataChannel) {
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
    this.#look = setInterval(() => {
      if (!this.#isOpen()) this.ended(false);
    }, LOOK_MS);
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
    try {
      return this.#channel.bufferedAmount();
    } catch {
      return 0;
    }
  }

  send(message: Uint8Array): boolean {
    if (this.closed || this.#ending || !this.#isOpen()) return false;
    try {
      // False only means "queued" here; the message is not lost.
      this.#channel.sendMessageBinary(message);
      return true;
    } catch {
      return false;
    }
  }

  finish(): Promise<boolean> {
    if (this.closed || this.#ending || !this.#isOpen()) return Promise.resolve(false);
    clearInterval(this.#look);
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#finished?.(false), FINISH_MS);
      this.#finished = (acknowledged) => {
        clearTimeout(timer);
        this.#finished = undefined;
        silence();
        this.#ending = true;
        this.closed = true;
        resolve(acknowledged);
      };
      // The binding has no event for it. One channel at a time is closed in a process.
      load().initLogger("Verbose", (_level, text) => {
        this.#lines++;
        if (ACKNOWLEDGED.test(text)) this.#finished?.(true);
      });
      this.#channel.close();
    });
  }

  /** The channel is closed, or the connection under it: what has arrived is delivered, then `onclose` called. */
  ended(silent: boolean): void {
    if (this.#finished) {
      // What the log has said before waits in a queue of its own.
      whenQuiet(
        () => this.#lines,
        () => this.#finished?.(false),
      );
      return;
    }
    if (this.#ending) return;
    this.#ending = true;
    this.silent = silent;
    clearInterval(this.#look);
    whenQuiet(
      () => this.#messages,
      () => {
        this.closed = true;
        this.onclose?.();
      },
    );
  }

  #isOpen(): boolean {
    try {
      return this.#channel.isOpen();
    } catch {
      return false;
    }
  }
}
