/**
 * Where signalling, transport and session meet: finds the other side, keeps the session on its feet, gives up when it must.
 *
 *   introducing --link stands--> connected --all lanes lost--> reconnecting --link stands--> connected
 *        |  timeout                  |  session over                |  --reconnect seconds
 *        v                           v                              v
 *      failed                      closed                         failed: PEER_GONE
 *
 * A connection lives once and at most 39.5 s without an answer (libjuice), so the side that waits makes a new one again and
 * again: same port, same credentials, same certificate, and the token stays true. Each reconnect is an epoch of its own:
 * its credentials differ, so the dead connection's packets confuse nobody.
 */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import { Session } from "../session/session.ts";
import type { Candidate, PeerPath } from "../transport/peer.ts";
import type { Channel } from "../transport/channel.ts";
import { MAX_CANDIDATES } from "../wire/candidate.ts";
import { MAX_EPOCH } from "../wire/hello.ts";
import { Bulk, SAFE_MTU } from "./bulk.ts";
import { openLink, type Link, type LinkContext } from "./link.ts";

/** Life of one try. The waiting side renews below libjuice's 39.5 s; the joining side sooner, to keep its checks frequent. */
const WAIT_MS = 35_000;
const JOIN_MS = 12_000;
/** Life of one try of a reconnect: a link that comes back is seen within this, and new addresses are used. */
const RECONNECT_WAIT_MS = 10_000;
const RECONNECT_JOIN_MS = 5000;
/** A try that has reached ICE or more is not cut off by its life's end, for at most this. */
const GRACE_MS = 8000;
/** A try younger than this checks an address that comes late without delay. */
const YOUNG_MS = 3000;
/** From here on the handshake's round-trip time, in whole ms, is told as it is; below, the session's own is awaited. */
const KNOWN_RTT_MS = 10;
/** Known addresses get this long, and as much again at random, before the rendezvous is asked to carry new ones. */
const MEET_AGAIN_MS = 1000;
/** Between two tries that fail at once. */
const PAUSE_MS = 200;
/**
 * Which epoch is tried, relative to the next one: a meeting that only one side noticed leaves it one ahead, and then the
 * other's third try is the one that fits. Never back: an epoch's channel numbers are used once.
 */
const EPOCH_OFFSETS = [0, 0, 1];
/** STUN and gathering together must not hold a token up for more than this. */
export const GATHER_MS = 2000;

export type PathKind = "direct" | "turn" | "relay";

export interface ConnectedPath {
  readonly path: PathKind;
  readonly local: PeerPath["local"] | undefined;
  readonly remote: PeerPath["remote"] | undefined;
  readonly rttMs: number;
}

export type ConnectionEvent =
  | ({ readonly event: "connected" } & ConnectedPath)
  | ({ readonly event: "path" } & ConnectedPath)
  | { readonly event: "reconnecting"; readonly reason: string }
  | { readonly event: "log"; readonly text: string };

export interface StunServer {
  readonly host: string;
  readonly port: number;
}

export interface ConnectionOptions {
  readonly context: LinkContext;
  readonly ports: readonly [number, number] | undefined;
  /** Resolves with a STUN server that answers, or undefined; never rejects, and takes at most GATHER_MS or so. */
  readonly stun: Promise<StunServer | undefined>;
  /** Milliseconds for which the first try waits for the STUN server; when it answers later, a second one follows. */
  readonly stunWaitMs: number;
  /** Addresses of the other side known at the start. */
  readonly candidates: readonly Candidate[];
  /** Milliseconds after which an absent peer is given up; 0 for never. */
  readonly timeoutMs: number;
  /** Milliseconds of reconnecting after which a vanished peer is given up; Infinity for never. */
  readonly reconnectMs: number;
  readonly onevent: (event: ConnectionEvent) => void;
  /** Addresses of this side as they are found, for signalling that takes them one by one. */
  readonly oncandidates?: ((candidates: readonly Candidate[]) => void) | undefined;
  /** A way to exchange addresses anew when all channels are lost. */
  readonly meetAgain?: ((oncandidates: (candidates: readonly Candidate[]) => void) => Meeting) | undefined;
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
  readonly #remote: Candidate[];
  #resolveSession!: (session: Session) => void;
  #rejectSession!: (error: Error) => void;
  #resolveCandidates!: (candidates: readonly Candidate[]) => void;
  #rejectCandidates!: (error: Error) => void;
  #session: Session | undefined;
  #bulk: Bulk | undefined;
  #link: Link | undefined;
  #linkTime = 0;
  #meeting: Meeting | undefined;
  #restart: (() => void) | undefined;
  #port: number | undefined;
  #stun: StunServer | undefined;
  #stunKnown = false;
  /** The last epoch in which both sides have met, -1 before the first. */
  #epoch = -1;
  /** It has been said that the two are connected. */
  #told = false;
  #tries = 0;
  #opened = false;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #error: DcpipeError | undefined;
  #stopped = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#remote = [...options.candidates];
    this.session = new Promise((resolve, reject) => {
      this.#resolveSession = resolve;
      this.#rejectSession = reject;
    });
    this.session.catch(() => undefined);
    this.candidates = new Promise((resolve, reject) => {
      this.#resolveCandidates = resolve;
      this.#rejectCandidates = reject;
    });
    this.candidates.catch(() => undefined);
    if (options.timeoutMs > 0 && options.timeoutMs !== Infinity) {
      this.#deadline = setTimeout(() => {
        const seconds = options.timeoutMs / 1000;
        const what =
          this.#tries > 0
            ? `the other side did not connect within ${seconds} s`
            : `not ready within ${seconds} s`;
        this.fail(new DcpipeError("TIMEOUT", what));
      }, options.timeoutMs);
    }
    void this.#introduce();
  }

  /** How the packets go, as far as is known. */
  get path(): PathKind {
    const path = this.#link?.peer.path();
    return path?.local.type === "relay" || path?.remote.type === "relay" ? "turn" : "direct";
  }

  /** Addresses of the other side that came later, from its answer. */
  addCandidates(candidates: readonly Candidate[]): void {
    const fresh = this.#learn(candidates);
    const peer = this.#link?.peer;
    if (peer?.state !== "checking") return;
    if (performance.now() - this.#linkTime < YOUNG_MS)
      for (const candidate of fresh) peer.addCandidate(candidate);
    // A fresh try checks all pairs at once instead of in the slow rhythm of an old one.
    else this.#restart?.();
  }

  /** Stops looking for the other side, or ends the session badly. */
  fail(error: DcpipeError): void {
    if (this.#stopped) return;
    this.#error = error;
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

  async #introduce(): Promise<void> {
    try {
      await this.#firstStun();
      const channel = await this.#meet();
      if (this.#stopped || !channel) return;
      clearTimeout(this.#deadline);
      const session = new Session(this.#options.context.role);
      this.#session = session;
      this.#bulk = new Bulk(session, this.#epoch, {
        context: this.#options.context,
        ports: this.#options.ports,
        stun: () => this.#stun,
        log: (text) => {
          this.#log(text);
        },
      });
      this.#watch(session, this.#bulk);
      const rtt = this.#link?.peer.rtt ?? 0;
      if (rtt >= KNOWN_RTT_MS) {
        queueMicrotask(() => {
          this.#report("connected", rtt);
        });
      } else
        session.onrtt = () => {
          if (!this.#told) this.#report("connected");
        };
      session.attach(channel, this.#epoch * 65536, "control");
      this.#resolveSession(session);
    } catch (error) {
      this.fail(asDcpipeError(error, "ICE_FAILED"));
    }
  }

  async #firstStun(): Promise<void> {
    const { stun, stunWaitMs } = this.#options;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<"late">((resolve) => {
      if (stunWaitMs !== Infinity) timer = setTimeout(resolve, stunWaitMs, "late");
    });
    const first = await Promise.race([stun, late]);
    clearTimeout(timer);
    if (first === "late") void this.#refine();
    else {
      this.#stun = first;
      this.#stunKnown = true;
    }
  }

  /** The first try went out without STUN; when a server answers and nobody has come yet, try again with reflexive addresses. */
  async #refine(): Promise<void> {
    this.#stun = await this.#options.stun;
    this.#stunKnown = true;
    if (!this.#stun) {
      const first = await this.#firstGathered;
      this.#resolveCandidates(first);
    } else if (this.#link?.peer.state === "checking" || !this.#link) {
      this.#restart?.();
    } else {
      this.#resolveCandidates(this.#link.peer.candidates);
    }
  }

  #gatheredResolve!: (candidates: readonly Candidate[]) => void;
  readonly #firstGathered = new Promise<readonly Candidate[]>((resolve) => (this.#gatheredResolve = resolve));

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
    session.onlane = (id, left, reason) => {
      this.#log(`channel ${id} is gone (${reason}), ${left} left`);
      if (left === 0) void this.#reconnect(reason);
      else bulk.want();
    };
    session.onclosed = () => {
      this.#stop();
    };
  }

  async #reconnect(reason: string): Promise<void> {
    const { reconnectMs, onevent } = this.#options;
    const session = this.#session;
    if (!session || this.#stopped) return;
    // A peer may be gone before its round-trip time is known.
    if (!this.#told) this.#report("connected");
    onevent({ event: "reconnecting", reason });
    this.#bulk?.restart(this.#epoch + 1);
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
    this.#tries = 0;
    const again = setTimeout(
      () => {
        this.#meeting = this.#options.meetAgain?.((candidates) => {
          this.addCandidates(candidates);
        });
        this.#meeting?.post(this.#link?.peer.candidates ?? []);
      },
      MEET_AGAIN_MS * (1 + Math.random()),
    );
    try {
      const channel = await this.#meet();
      if (!channel) return;
      clearTimeout(this.#deadline);
      this.#bulk?.restart(this.#epoch);
      session.attach(channel, this.#epoch * 65536, "control");
      this.#report("path");
      this.#bulk?.want();
    } catch (error) {
      this.fail(asDcpipeError(error, "PEER_GONE"));
    } finally {
      clearTimeout(again);
      this.#meeting?.close(!this.#stopped);
      this.#meeting = undefined;
    }
  }

  /** Tries until a control channel stands. Rejects only with what trying again cannot mend. */
  async #meet(): Promise<Channel | undefined> {
    while (!this.#stopped) {
      // Before the first meeting only a try that got as far as a channel can have moved the other side on.
      const wander = this.#epoch >= 0 || this.#opened;
      const offset = wander ? (EPOCH_OFFSETS[this.#tries % EPOCH_OFFSETS.length] ?? 0) : 0;
      const epoch = Math.min(MAX_EPOCH, this.#epoch + 1 + offset);
      this.#tries++;
      try {
        const channel = await this.#try(epoch);
        if (channel) {
          this.#epoch = epoch;
          return channel;
        }
      } catch (error) {
        const failure = asDcpipeError(error, "ICE_FAILED");
        this.#log(`try ${this.#tries}: ${failure.message}`);
        if (FATAL.has(failure.code)) throw failure;
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
    return undefined;
  }

  /** One try: undefined when its time was over or another was asked for. */
  async #try(epoch: number): Promise<Channel | undefined> {
    const { context, ports } = this.#options;
    const link = await openLink(context, {
      epoch,
      index: 0,
      mtu: SAFE_MTU,
      datagrams: false,
      ports: this.#port === undefined ? ports : [this.#port, this.#port],
      stun: this.#stun,
      candidates: this.#remote,
    });
    if (this.#stopped) {
      link.close();
      return undefined;
    }
    this.#link = link;
    this.#linkTime = performance.now();
    link.peer.oncandidate = (candidate) => {
      this.#tell([candidate]);
    };
    if (link.peer.candidates.length > 0) this.#tell(link.peer.candidates);
    void this.#gather(link);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const over = new Promise<undefined>((resolve) => {
      const end = (): void => {
        resolve(undefined);
      };
      this.#restart = end;
      timer = setTimeout(() => {
        if (link.peer.state === "checking") end();
        else timer = setTimeout(end, GRACE_MS);
      }, this.#life());
    });
    try {
      const channel = await Promise.race([link.established, over]);
      if (!channel) link.close();
      return channel;
    } finally {
      clearTimeout(timer);
      this.#restart = undefined;
      if (link.peer.channel) this.#opened = true;
    }
  }

  #life(): number {
    const joining = this.#options.context.role === "joining";
    if (this.#epoch < 0) return joining ? JOIN_MS : WAIT_MS;
    return joining ? RECONNECT_JOIN_MS : RECONNECT_WAIT_MS;
  }

  /**
   * Whether every try uses the port of the first. A TURN server still holds that port's allocation (RFC 8656, section 7.2) and gives
   * no second one; so where new addresses can be told, and with relays only, each try has a port of its own.
   */
  get #pinned(): boolean {
    const { context, oncandidates } = this.#options;
    return !context.relayOnly && (context.turn.length === 0 || oncandidates === undefined);
  }

  /** Learns our own addresses and pins the port, so that they stay true for every later try. */
  async #gather(link: Link): Promise<void> {
    const stun = this.#stun;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await Promise.race([
      link.peer.gathered,
      new Promise(
        (resolve) =>
          (timer = setTimeout(
            resolve,
            stun || this.#options.context.turn.length > 0 ? GATHER_MS / 2 : GATHER_MS,
          )),
      ),
    ]);
    clearTimeout(timer);
    const found = link.peer.candidates;
    const socket = found.find(({ type }) => type === "host") ?? found[0];
    if (!socket) return;
    if (this.#pinned) this.#port ??= socket.port;
    this.#gatheredResolve(found);
    if (this.#stunKnown || stun) this.#resolveCandidates(found);
  }

  #tell(candidates: readonly Candidate[]): void {
    this.#options.oncandidates?.(candidates);
    this.#meeting?.post(candidates);
  }

  /** Remembers addresses of the other side; returns those that are new. */
  #learn(candidates: readonly Candidate[]): Candidate[] {
    const fresh: Candidate[] = [];
    for (const { type, address, port } of candidates) {
      if (this.#remote.some((known) => known.address === address && known.port === port)) continue;
      if (this.#remote.length >= 2 * MAX_CANDIDATES) this.#remote.splice(MAX_CANDIDATES, 1);
      this.#remote.push({ type, address, port });
      fresh.push({ type, address, port });
    }
    return fresh;
  }

  #report(event: "connected" | "path", rtt = this.#session?.rtt ?? 0): void {
    this.#told = true;
    const path = this.#link?.peer.path();
    if (path) {
      // Where the packets really come from: the address to call when the connection must be made anew.
      this.#learn([
        {
          type: path.remote.type === "relay" ? "relay" : "srflx",
          address: path.remote.address,
          port: path.remote.port,
        },
      ]);
    }
    this.#options.onevent({
      event,
      path: this.path,
      local: path?.local,
      remote: path?.remote,
      rttMs: rtt,
    });
  }

  #log(text: string): void {
    this.#options.onevent({ event: "log", text });
  }

  #stop(): void {
    this.#stopped = true;
    clearTimeout(this.#deadline);
    this.#restart?.();
    this.#bulk?.close();
    if (!this.#session || this.#error) this.#link?.close();
  }
}

/** Failures that another try would only repeat. */
const FATAL: ReadonlySet<string> = new Set(["USAGE", "NO_WEBRTC", "AUTH_FAILED", "VERSION"]);
