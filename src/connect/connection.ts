/**
 * Where signalling, transport and session meet: finds the other side, keeps the session on its feet, gives up when it must.
 *
 *   introducing --a channel stands--> connected --all lanes lost--> reconnecting --a channel stands--> connected
 *        |  timeout                       |  session over                |  --reconnect seconds
 *        v                                v                              v
 *      failed                           closed                         failed: PEER_GONE
 *
 * Two ways are tried at once: packets, by whatever path ICE finds (direct.ts), and the relay of the rendezvous (relay.ts), which gets a
 * later start. The session begins on the one that stands first; from the relay it moves on to the other when that stands, and goes back
 * when that is lost. While it is relayed, the two sides tell each other their addresses over it.
 */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import { Session } from "../session/session.ts";
import type { Channel } from "../transport/channel.ts";
import type { MapPort } from "../transport/mapping.ts";
import type { NatMapping, Punch } from "../transport/nat.ts";
import type { Candidate, PeerPath } from "../transport/peer.ts";
import type { WatchNetwork } from "../transport/watch.ts";
import { MAX_CANDIDATES } from "../wire/candidate.ts";
import { encodeLane, type LaneMessage } from "../wire/lane.ts";
import { Bulk } from "./bulk.ts";
import { Direct, type StunServer } from "./direct.ts";
import type { LinkContext } from "./link.ts";
import { Punching } from "./punching.ts";
import type { RelayPlace } from "./relay.ts";
import { RelayWay } from "./relaying.ts";

/** From here on the handshake's round-trip time, in whole ms, is told as it is; below, the session's own is awaited. */
const KNOWN_RTT_MS = 10;
/** A machine is always reached there by itself. */
const LOOPBACK = /^(127\.|::1$)/;
/** Known addresses get this long, and as much again at random, before the rendezvous is asked to carry new ones. */
const MEET_AGAIN_MS = 1000;
/** A mailbox that has come to an end is opened anew after so long, and as much again at random: the machine may have been offline. */
const REOPEN_MS = 5000;
/** Packets that find their way do so in less, on a short path; then the relay is not troubled. */
const RELAY_LEAD_MS = 100;
/** A session that was direct will be so again, if the other side is there. */
const RELAY_AGAIN_MS = 1500;
/** A session that began on the relay is told of, and may use it for bulk, when it is still there after this. */
const SETTLE_MS = 1500;
/** A path through TURN is looked at again so often, in ms, and so many times: ICE has tried all pairs by then. */
const FOLLOW_MS = 1000;
const FOLLOWED = 30;

export type PathKind = "direct" | "turn" | "relay";

export interface ConnectedPath {
  readonly path: PathKind;
  readonly local: PeerPath["local"] | undefined;
  readonly remote: PeerPath["remote"] | undefined;
  readonly rttMs: number;
}

/** What was tried in vain, and is known of the networks. */
export interface Tried {
  readonly local: readonly Candidate[];
  /** What was heard of the other side. */
  readonly remote: readonly Candidate[];
  /** `off`: no STUN server was to be asked. */
  readonly stun: "answered" | "silent" | "off";
  /** What our NAT does. */
  readonly mapping: NatMapping;
  /** TURN servers that were named, and whether one gave an address. */
  readonly turn: { readonly given: number; readonly relayed: boolean };
  /** The rendezvous' relay: not wanted, not there, not to be had, or without success. */
  readonly relay: "off" | "none" | "unavailable" | "tried";
  readonly signalling: "paste" | "code";
  /** Whether something was heard of the other side that shows that it has our addresses. */
  readonly answered: boolean;
}

export type ConnectionEvent =
  | ({ readonly event: "connected" } & ConnectedPath)
  | ({ readonly event: "path" } & ConnectedPath)
  | { readonly event: "reconnecting"; readonly reason: string }
  /** No path was found: comes before the error. */
  | ({ readonly event: "tried" } & Tried)
  | { readonly event: "log"; readonly text: string };

export interface ConnectionOptions {
  readonly context: LinkContext;
  readonly ports: readonly [number, number] | undefined;
  /** Resolves with a STUN server that answers, or undefined; never rejects, and takes at most GATHER_MS or so. */
  readonly stun: Promise<StunServer | undefined>;
  /** The same anew, for another network. */
  readonly findStun: () => Promise<StunServer | undefined>;
  /** STUN servers are asked at all. */
  readonly asksStun: boolean;
  /** Milliseconds for which the first try waits for the STUN server; when it answers later, a second one follows. */
  readonly stunWaitMs: number;
  /** Asks the router for a port. */
  readonly mapPort: MapPort | undefined;
  /** Looks for a hole through both NATs. */
  readonly punch: Punch | undefined;
  readonly watchNetwork: WatchNetwork | undefined;
  /** Addresses of the other side known at the start. */
  readonly candidates: readonly Candidate[];
  /** Milliseconds after which an absent peer is given up; 0 for never. */
  readonly timeoutMs: number;
  /** Milliseconds of reconnecting after which a vanished peer is given up; Infinity for never. */
  readonly reconnectMs: number;
  readonly onevent: (event: ConnectionEvent) => void;
  /** Addresses of this side as they are found, for signalling that takes them one by one; an empty list when there are none. */
  readonly oncandidates?: ((candidates: readonly Candidate[]) => void) | undefined;
  /** A way to exchange addresses anew when all channels are lost. */
  readonly meetAgain?: ((events: MeetingEvents) => Meeting) | undefined;
  readonly signalling: Tried["signalling"];
  /** Why there is no relay, where there is none. */
  readonly withoutRelay?: "off" | "none" | undefined;
  /** A relay that may be used. */
  readonly relay?: RelayPlace | undefined;
  /** Nothing but that relay may be used. */
  readonly onlyRelay?: boolean | undefined;
}

export interface MeetingEvents {
  /** Addresses of the other side. */
  readonly oncandidates: (candidates: readonly Candidate[]) => void;
  /** It has come to an end that was not of our making. */
  readonly onover: () => void;
}

/** A place where both sides of a lost session tell each other their addresses of the moment. */
export interface Meeting {
  post(candidates: readonly Candidate[]): void;
  /** Idempotent; `met` when the session stands again. */
  close(met: boolean): void;
}

export class Connection {
  /** Resolves with the session when the other side is there; rejects when it does not come. */
  readonly session: Promise<Session>;
  /** Resolves with this side's addresses, for a token. */
  readonly candidates: Promise<readonly Candidate[]>;
  readonly #options: ConnectionOptions;
  readonly #direct: Direct;
  readonly #relay: RelayWay | undefined;
  readonly #punching: Punching | undefined;
  #resolveSession!: (session: Session) => void;
  #rejectSession!: (error: Error) => void;
  #rejectCandidates!: (error: Error) => void;
  #session: Session | undefined;
  #bulk: Bulk | undefined;
  #meeting: Meeting | undefined;
  #meetTimer: ReturnType<typeof setTimeout> | undefined;
  #settleTimer: ReturnType<typeof setTimeout> | undefined;
  #answered = false;
  /** The path may be dead. */
  #suspicious = false;
  #onRelay = false;
  /** Packets are being tried. */
  #pursuing = false;
  /** It has been said that the two are connected ... */
  #told = false;
  /** ... and how, unless that was lost since. */
  #toldPath: PathKind | undefined;
  /** There was a direct path once. */
  #wasDirect = false;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #unwatch: (() => void) | undefined;
  #error: DcpipeError | undefined;
  #stopped = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    const { context, relay, timeoutMs } = options;
    const log = (text: string): void => {
      this.#log(text);
    };
    this.#direct = new Direct({
      ...options,
      trickles: options.oncandidates !== undefined,
      onaddresses: (candidates) => {
        this.#tell(candidates);
      },
      log,
    });
    this.#relay = relay && new RelayWay(relay, context, log);
    const { punch, ports, asksStun, onlyRelay } = options;
    if (relay && punch && asksStun && !onlyRelay && !context.relayOnly) {
      this.#punching = new Punching({
        context,
        ports,
        punch,
        direct: this.#direct,
        tell: (message) => {
          this.#signal(message);
        },
        log,
      });
    }
    this.session = new Promise((resolve, reject) => {
      this.#resolveSession = resolve;
      this.#rejectSession = reject;
    });
    this.session.catch(() => undefined);
    const failed = new Promise<never>((_, reject) => (this.#rejectCandidates = reject));
    this.candidates = Promise.race([this.#direct.candidates, failed]);
    this.candidates.catch(() => undefined);
    if (timeoutMs > 0 && timeoutMs !== Infinity) {
      this.#deadline = setTimeout(() => {
        const seconds = timeoutMs / 1000;
        const tried = this.#direct.tries > 0 || relay !== undefined;
        const what = tried
          ? `the other side did not connect within ${seconds} s`
          : `not ready within ${seconds} s`;
        this.fail(new DcpipeError("TIMEOUT", what));
      }, timeoutMs);
    }
    this.#unwatch = options.watchNetwork?.((addresses) => {
      this.#networkChanged(addresses);
    });
    this.#pursue();
    void this.#call(RELAY_LEAD_MS);
  }

  /** How the packets go, as far as is known. */
  get path(): PathKind {
    if (this.#onRelay) return "relay";
    return this.#direct.relayed ? "turn" : "direct";
  }

  /** Addresses of the other side that came later, from its answer. */
  addCandidates(candidates: readonly Candidate[]): void {
    this.#answered = true;
    this.#direct.addCandidates(candidates);
  }

  /** Stops looking for the other side, or ends the session badly. */
  fail(error: DcpipeError): void {
    if (this.#stopped) return;
    this.#error = error;
    if (!this.#session) this.#tellTried();
    this.#stop();
    this.#rejectSession(error);
    this.#rejectCandidates(error);
    this.#session?.fail(error);
  }

  /** Ends everything by the caller's wish; a session that stands tells the other side. */
  abort(error: DcpipeError): void {
    if (this.#session) void this.#session.abort("ABORTED", "stopped", error);
    else this.fail(error);
  }

  // ---- the two ways -------------------------------------------------------------------------------------------------

  /** Looks for a path of packets until there is one. */
  #pursue(): void {
    if (this.#pursuing || this.#stopped || this.#options.onlyRelay) return;
    this.#pursuing = true;
    this.#direct.relaxed = this.#session?.relayed === true;
    this.#direct.rtt = this.#session?.rtt ?? 0;
    void this.#direct.meet().then(
      (met) => {
        this.#pursuing = false;
        if (!met) return;
        const { channel, epoch, alone } = met;
        if (this.#stopped) {
          channel.close();
          return;
        }
        this.#relay?.stop();
        this.#wasDirect = true;
        this.#stand(channel, epoch, false, alone);
      },
      (error: unknown) => {
        this.#pursuing = false;
        const failure = asDcpipeError(error, "ICE_FAILED");
        if (this.#session?.relayed) this.#log(`it stays with the relay: ${failure.message}`);
        else this.fail(failure);
      },
    );
  }

  /** Goes to the relay after so many ms, unless packets have found their way by then. */
  async #call(leadMs: number): Promise<void> {
    const relay = this.#relay;
    if (!relay) return;
    const { onlyRelay, stun, asksStun } = this.#options;
    if (!onlyRelay && leadMs > 0) {
      const timer = delay(leadMs);
      // Where no STUN server is heard, UDP does not get out.
      const silent = asksStun && !this.#session ? stun.then((server) => (server ? timer : undefined)) : timer;
      await Promise.race([timer, silent]);
      if (this.#session?.connected === true) return;
    }
    if (this.#stopped) return;
    const relayed = await relay.meet();
    if (!relayed || this.#isOver()) {
      relayed?.channel.close();
      if (!relayed && onlyRelay && !this.#isOver() && relay.refusal)
        this.fail(
          new DcpipeError(
            "ICE_FAILED",
            `only a relay may be used, and there is none: ${relay.refusal.message}`,
          ),
        );
      return;
    }
    const { channel, epoch } = relayed;
    // It may have been too late by a moment.
    if (this.#session?.connected === true) {
      channel.close();
      return;
    }
    this.#direct.relaxed = true;
    this.#stand(channel, epoch, true);
    this.#tell(this.#direct.local);
    this.#pursue();
  }

  /** A control channel stands: the first of the session, or the first after all were lost, or one better than the relay. */
  #stand(channel: Channel, epoch: number, relayed: boolean, alone = false): void {
    clearTimeout(this.#deadline);
    clearTimeout(this.#settleTimer);
    const session = this.#session ?? this.#begin(epoch);
    this.#bulk?.restart(epoch);
    if (alone) this.#bulk?.hold();
    session.attach(channel, epoch * 65536, "control", relayed);
    // Else it was over before it began, as the session has said, and what follows is under way.
    if (session.connected) {
      this.#endMeeting(true);
      this.#onRelay = session.relayed;
      if (session.relayed) {
        this.#settle();
        this.#punching?.begin();
      } else {
        this.#punching?.end();
        this.#stood(session);
      }
      // The other side has given up this direct path already: the next one is looked for.
      if (session.relayed && !relayed) this.#pursue();
    }
    this.#resolveSession(session);
  }

  #begin(epoch: number): Session {
    const { context, ports, relay } = this.#options;
    const session = new Session(context.role);
    this.#session = session;
    this.#bulk = new Bulk(session, epoch, {
      context,
      ports,
      relay,
      stun: () => this.#direct.stun,
      oncandidates: (candidates) => {
        this.#direct.addCandidates(candidates);
      },
      onnat: (message) => {
        this.#punching?.receive(message);
      },
      log: (text) => {
        this.#log(text);
      },
    });
    this.#watch(session, this.#bulk);
    return session;
  }

  /** The session goes on without a relay. */
  #stood(session: Session): void {
    // ICE takes the first pair that answers, and goes on to better ones.
    if (this.path === "turn" && !this.#options.context.relayOnly) {
      this.#settleTimer = setTimeout(() => {
        this.#tellStood(session);
        this.#follow(FOLLOWED);
      }, SETTLE_MS);
      this.#bulk?.want();
    } else this.#tellStood(session);
  }

  /** Tells of a path through TURN that gives way to a direct one. */
  #follow(times: number): void {
    if (times === 0 || this.#onRelay) return;
    this.#settleTimer = setTimeout(() => {
      if (this.#toldPath === "turn" && this.path === "direct") this.#report("path");
      else this.#follow(times - 1);
    }, FOLLOW_MS);
  }

  #tellStood(session: Session): void {
    if (this.#told) {
      this.#report("path");
      this.#bulk?.want();
      return;
    }
    const rtt = this.#direct.link?.peer.rtt ?? 0;
    if (rtt >= KNOWN_RTT_MS) {
      queueMicrotask(() => {
        if (!this.#told) this.#report("connected", rtt);
      });
    } else if (session.rtt > 0) this.#report("connected");
    else
      session.onrtt = () => {
        if (!this.#told) this.#report("connected");
      };
    this.#bulk?.want();
  }

  /** The session goes by the relay, for the moment or for long. */
  #settle(): void {
    this.#bulk?.hold();
    // Where nothing else may be used there is nothing to wait for but the first sign of life.
    const wait = this.#options.onlyRelay ? 0 : SETTLE_MS;
    this.#settleTimer = setTimeout(() => {
      if (!this.#session?.relayed) return;
      if (this.#toldPath !== "relay") this.#report(this.#told ? "path" : "connected");
      this.#bulk?.release();
    }, wait);
  }

  // ---- a session and its losses -------------------------------------------------------------------------------------

  #watch(session: Session, bulk: Bulk): void {
    session.onwant = () => {
      bulk.want();
    };
    session.onwantdatagrams = () => {
      bulk.wantDatagrams();
    };
    session.onsignal = (payload) => {
      bulk.receive(payload);
    };
    session.onstreamgone = () => {
      // What is done was done by some path: say first which.
      if (!this.#told) this.#report("connected");
    };
    session.onsuspicion = (suspicious) => {
      this.#suspicious = suspicious;
      if (suspicious) this.#look();
      else if (session.state !== "down") this.#endMeeting(true);
    };
    session.onlane = (id, left, reason) => {
      this.#log(`channel ${id} is gone (${reason}), ${left} left`);
      if (left === 0) this.#reconnect(reason);
      else if (session.relayed && !this.#onRelay && session.state === "running") this.#fallBack();
      else bulk.want();
    };
    session.onclosed = () => {
      // A peer may be gone before its round-trip time is known.
      if (!this.#told && !this.#error) this.#report("connected");
      this.#stop();
    };
  }

  /** The direct path is gone before the relay was left. */
  #fallBack(): void {
    this.#onRelay = true;
    this.#report(this.#told ? "path" : "connected");
    this.#pursue();
    this.#punching?.begin();
  }

  #reconnect(reason: string): void {
    const { reconnectMs, onevent } = this.#options;
    if (!this.#session || this.#stopped) return;
    clearTimeout(this.#settleTimer);
    // A relay that was left for a path that the other side had first, or for which it was too late, has not been told of.
    if (!this.#told && !this.#onRelay) this.#report("connected");
    if (this.#toldPath !== undefined) onevent({ event: "reconnecting", reason });
    this.#toldPath = undefined;
    this.#punching?.end();
    this.#bulk?.restart(this.#direct.nextEpoch);
    clearTimeout(this.#deadline);
    if (reconnectMs !== Infinity) {
      this.#deadline = setTimeout(() => {
        this.fail(
          new DcpipeError(
            "PEER_GONE",
            `the other side fell silent and did not come back within ${reconnectMs / 1000} s`,
          ),
        );
      }, reconnectMs);
    }
    if (!this.#meeting) this.#meetIn(MEET_AGAIN_MS);
    this.#direct.relaxed = false;
    this.#pursue();
    void this.#call(this.#wasDirect ? RELAY_AGAIN_MS : 0);
  }

  /** The other side does not answer: perhaps it is somewhere else, and looks for us. */
  #look(): void {
    if (this.#stopped || this.#meeting) return;
    this.#openMeeting();
  }

  /** Opens the mailbox after so many ms, and as many again at random. */
  #meetIn(milliseconds: number): void {
    clearTimeout(this.#meetTimer);
    this.#meetTimer = setTimeout(
      () => {
        this.#openMeeting();
      },
      milliseconds * (1 + Math.random()),
    );
  }

  #openMeeting(): void {
    clearTimeout(this.#meetTimer);
    if (this.#meeting || this.#stopped) return;
    const meeting = this.#options.meetAgain?.({
      oncandidates: (candidates) => {
        this.#direct.addCandidates(candidates);
        // It is there, but not where we listen.
        if (this.#suspicious && this.#session?.connected === true)
          this.#session.drop("the other side looks for us");
      },
      onover: () => {
        if (this.#meeting !== meeting) return;
        this.#meeting = undefined;
        this.#meetIn(REOPEN_MS);
      },
    });
    this.#meeting = meeting;
    meeting?.post(this.#direct.local);
  }

  #endMeeting(met: boolean): void {
    clearTimeout(this.#meetTimer);
    this.#meeting?.close(met);
    this.#meeting = undefined;
  }

  #networkChanged(addresses: ReadonlySet<string> | undefined): void {
    this.#log("this machine's network has changed");
    void this.#direct.networkChanged(addresses);
    const session = this.#session;
    if (!session || session.state === "down" || session.state === "closed") return;
    const hosts = this.#direct.local.filter(
      ({ type, address }) => type === "host" && !LOOPBACK.test(address),
    );
    const gone = addresses && hosts.length > 0 && hosts.every(({ address }) => !addresses.has(address));
    if (!session.relayed && gone) session.drop("this machine has another address");
    else session.probe();
  }

  // ---- what is told -------------------------------------------------------------------------------------------------

  #tell(candidates: readonly Candidate[]): void {
    this.#options.oncandidates?.(candidates);
    if (candidates.length === 0) return;
    this.#meeting?.post(candidates);
    this.#signal({
      type: "CANDIDATES",
      epoch: 0,
      index: 0,
      candidates: candidates.slice(0, MAX_CANDIDATES),
    });
  }

  /** What concerns the direct path is told over the relay, as long as it is used. */
  #signal(message: LaneMessage): void {
    if (this.#session?.relayed && this.#session.state === "running")
      this.#session.signal(encodeLane(message));
  }

  #report(event: "connected" | "path", rtt = this.#session?.rtt ?? 0): void {
    this.#told = true;
    const { path: kind } = this;
    this.#toldPath = kind;
    const path = kind === "relay" ? this.#relay?.path : this.#direct.link?.peer.path();
    if (path && path.remote.port > 0 && path.remote.address !== "" && kind !== "relay") {
      // Where the packets really come from: the address to call when the connection must be made anew.
      this.#direct.learn([
        {
          type: kind === "turn" && path.local.type !== "relay" ? "relay" : "srflx",
          address: path.remote.address,
          port: path.remote.port,
        },
      ]);
    }
    this.#options.onevent({ event, path: kind, local: path?.local, remote: path?.remote, rttMs: rtt });
  }

  #tellTried(): void {
    const { context, asksStun, onevent, withoutRelay = "none", signalling } = this.#options;
    if (this.#direct.tries === 0 && !this.#relay) return;
    const { local, remote } = this.#direct;
    onevent({
      event: "tried",
      local,
      remote,
      stun: !asksStun ? "off" : this.#direct.stunAnswered ? "answered" : "silent",
      mapping: this.#direct.mapping,
      turn: { given: context.turn.length, relayed: local.some(({ type }) => type === "relay") },
      relay: this.#relay ? (this.#relay.refusal ? "unavailable" : "tried") : withoutRelay,
      signalling,
      answered: this.#answered,
    });
  }

  /** Asked anew after each wait. */
  #isOver(): boolean {
    return this.#stopped;
  }

  #log(text: string): void {
    this.#options.onevent({ event: "log", text });
  }

  #stop(): void {
    this.#stopped = true;
    clearTimeout(this.#deadline);
    clearTimeout(this.#settleTimer);
    this.#punching?.end();
    this.#unwatch?.();
    this.#endMeeting(false);
    this.#relay?.stop();
    this.#bulk?.close();
    this.#direct.stop(!this.#session || this.#error !== undefined);
  }
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
