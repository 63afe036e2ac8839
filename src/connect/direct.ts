/**
 * Looks for a way of packets to the other side, through TURN if need be: one try (link.ts) after another until one stands.
 *
 *   meet() --> try --checking, its time is over--> try --> ... --established--> { channel, epoch }
 *
 * A try lives once and at most 39.5 s without an answer (libjuice), so the side that waits makes a new one again and again: same port,
 * same credentials, same certificate, and the token stays true. Each reconnect is an epoch of its own: its credentials differ, so the
 * dead connection's packets confuse nobody.
 */
import { asDcpipeError } from "../errors.ts";
import type { Channel } from "../transport/channel.ts";
import type { MapPort, PortMapping } from "../transport/mapping.ts";
import type { Hole, NatMapping } from "../transport/nat.ts";
import type { Candidate } from "../transport/peer.ts";
import { MAX_CANDIDATES } from "../wire/candidate.ts";
import { SAFE_MTU } from "./bulk.ts";
import { openLink, type Link, type LinkContext, type LinkTarget } from "./link.ts";
import { FIRST_RELAY_EPOCH } from "./relay.ts";

/** Life of one try. The waiting side renews below libjuice's 39.5 s; the joining side sooner, to keep its checks frequent. */
export const WAIT_MS = 35_000;
const JOIN_MS = 12_000;
/**
 * Life of one try of a reconnect, and the least of it in round trips: a link that comes back is seen within this, and new addresses are
 * used. Twice as much where each try costs an allocation at a TURN server, and after a while.
 */
const RECONNECT_WAIT_MS = 5000;
const RECONNECT_JOIN_MS = 2500;
const RECONNECT_ROUND_TRIPS = 8;
const HASTE_MS = 120_000;
/** A try that has reached ICE or more is not cut off by its life's end, for at most this. */
const GRACE_MS = 8000;
/** Life of a try at a hole: packets pass there at once, or the NATs have changed their minds. */
const HOLE_MS = 5000;
/** A try younger than this checks an address that comes late without delay. */
const YOUNG_MS = 3000;
/** Between two tries that fail at once. */
const PAUSE_MS = 200;
/** A session that gets on without us: after so long there are pauses between the tries. */
const EAGER_MS = 60_000;
const REST_MS = 60_000;
/**
 * A try that got as far as a channel may have been a meeting to the other side, which is an epoch ahead then: every so many tries that
 * epoch is tried. Never back: an epoch's channel numbers are used once.
 */
const AHEAD_EVERY = 3;
/**
 * Addresses of the other side that are kept: those of the start, and the latest. libjuice takes thirty and drops what comes behind, which
 * would be the latest; some are added while it runs.
 */
const MAX_KNOWN = MAX_CANDIDATES + 8;
/** STUN and gathering together must not hold a token up for more than this. */
export const GATHER_MS = 2000;
/** Nor must TURN: a name, TCP, TLS and an allocation, through a proxy, are eight round trips. */
export const TURN_GATHER_MS = 3000;

export interface StunServer {
  readonly host: string;
  readonly port: number;
  /** What the NAT on the way does with IPv4. Never rejects. */
  readonly mapping?: Promise<NatMapping> | undefined;
}

/** Something to do in place of the next try. */
interface Detour {
  readonly epoch: number;
  readonly find: (port: number | undefined) => Promise<Hole | undefined>;
}

export interface DirectOptions {
  readonly context: LinkContext;
  readonly ports: readonly [number, number] | undefined;
  /** Resolves with a STUN server that answers, or undefined; never rejects, and takes at most GATHER_MS or so. */
  readonly stun: Promise<StunServer | undefined>;
  /** The same anew, for another network. */
  readonly findStun: () => Promise<StunServer | undefined>;
  /** Milliseconds for which the first try waits for the STUN server; when it answers later, a second one follows. */
  readonly stunWaitMs: number;
  /** Asks the router for a port; undefined where it is not to be asked. */
  readonly mapPort: MapPort | undefined;
  /** Addresses of the other side known at the start. */
  readonly candidates: readonly Candidate[];
  /** Whether addresses found later can be told: a token holds those of the start. */
  readonly trickles: boolean;
  /** Addresses of this side as they are found; an empty list when a try has found none. */
  readonly onaddresses: (candidates: readonly Candidate[]) => void;
  readonly log: (text: string) => void;
}

export interface DirectChannel {
  readonly channel: Channel;
  readonly epoch: number;
  /** It goes through a hole, where other sockets do not get through. */
  readonly alone: boolean;
}

export class Direct {
  /** Resolves with this side's addresses, for a token. Never rejects. */
  readonly candidates: Promise<readonly Candidate[]>;
  /** The try under way, or the one that stands. */
  link: Link | undefined;
  /** Round-trip time of the session, 0 while unknown: what a try must be given at least. */
  rtt = 0;
  /** How many tries there were since the last meeting. */
  tries = 0;
  /** The session has another way meanwhile. */
  relaxed = false;
  /** What the NAT in front of us does, as far as STUN servers have shown. */
  mapping: NatMapping = "unknown";
  /** Where the last tries were seen from outside over IPv4, or their own address where nothing else is known. */
  outer: Candidate | undefined;
  readonly #options: DirectOptions;
  readonly #remote: Candidate[];
  #resolveCandidates!: (candidates: readonly Candidate[]) => void;
  #stun: StunServer | undefined;
  #stunKnown = false;
  #port: number | undefined;
  /** The mapping, or the asking for it: one for each network. */
  #portMapping: PortMapping | symbol | undefined;
  #mapped: Candidate | undefined;
  /** Our address that the router sends to. */
  #mappedFor: string | undefined;
  readonly #abort = new AbortController();
  /** The last epoch in which both sides have met, -1 before the first. */
  #epoch = -1;
  #linkTime = 0;
  #since = performance.now();
  /** The last epoch in which a try got as far as a channel, -1 before the first. */
  #opened = -1;
  #detour: Detour | undefined;
  /** Ends the try under way, or the pause before the next. */
  #restart: (() => void) | undefined;
  #ready: Promise<void>;
  #gatheredResolve!: (candidates: readonly Candidate[]) => void;
  readonly #firstGathered = new Promise<readonly Candidate[]>((resolve) => (this.#gatheredResolve = resolve));

  constructor(options: DirectOptions) {
    this.#options = options;
    this.#remote = [...options.candidates];
    this.candidates = new Promise((resolve) => (this.#resolveCandidates = resolve));
    this.#ready = this.#firstStun();
  }

  get stun(): StunServer | undefined {
    return this.#stun;
  }

  /** Whether a STUN server has answered; undefined while that is not known. */
  get stunAnswered(): boolean | undefined {
    return this.#stunKnown ? this.#stun !== undefined : undefined;
  }

  /** Addresses of this side now. */
  get local(): readonly Candidate[] {
    return [...(this.link?.peer.candidates ?? []), ...(this.#mapped ? [this.#mapped] : [])];
  }

  /** Addresses of the other side, as far as they are known. */
  get remote(): readonly Candidate[] {
    return this.#remote;
  }

  /** Whether the packets go through a TURN server, ours or the other side's. */
  get relayed(): boolean {
    const path = this.link?.peer.path();
    if (!path) return false;
    const { local, remote } = path;
    if (local.type === "relay" || remote.type === "relay") return true;
    // One of a pasted token hears of the other side's relayed address by its packets only: they come from a machine that is a TURN
    // server, and not from a port at which somebody there said to be.
    const known = this.#remote.find(
      ({ address, port }) => address === remote.address && port === remote.port,
    );
    if (known) return known.type === "relay";
    return [...this.local, ...this.#remote].some(
      ({ type, address }) => type === "relay" && address === remote.address,
    );
  }

  /** The epoch that comes next. */
  get nextEpoch(): number {
    return this.#epoch + 1;
  }

  /** The port of all tries, once there is one. */
  get port(): number | undefined {
    return this.#port;
  }

  /** Addresses of the other side that came later. */
  addCandidates(candidates: readonly Candidate[]): void {
    const fresh = this.learn(candidates);
    const peer = this.link?.peer;
    if (!peer) this.#restart?.();
    if (fresh.length === 0 || peer?.state !== "checking") return;
    if (performance.now() - this.#linkTime < YOUNG_MS)
      for (const candidate of fresh) peer.addCandidate(candidate);
    // A fresh try checks all pairs at once instead of in the slow rhythm of an old one.
    else this.#restart?.();
  }

  /** Remembers addresses of the other side; returns those that are new. */
  learn(candidates: readonly Candidate[]): Candidate[] {
    const fresh: Candidate[] = [];
    for (const { type, address, port } of candidates) {
      if (this.#remote.some((known) => known.address === address && known.port === port)) continue;
      if (this.#remote.length >= MAX_KNOWN) this.#remote.splice(MAX_CANDIDATES, 1);
      this.#remote.push({ type, address, port });
      fresh.push({ type, address, port });
    }
    return fresh;
  }

  /** This machine has these addresses now, as far as they can be known. */
  async networkChanged(addresses: ReadonlySet<string> | undefined): Promise<void> {
    // One that comes beside the one that is in use changes nothing at the router.
    if (this.#mappedFor === undefined || !addresses?.has(this.#mappedFor)) this.#forgetMapping();
    this.outer = undefined;
    const stun = await this.#options.findStun();
    if (this.#abort.signal.aborted) return;
    this.#use(stun);
    this.#since = performance.now();
    if (!this.link || this.link.peer.state === "checking") this.#restart?.();
  }

  /**
   * Frees the port of the tries for `find`, in place of the next one; the hole that it finds is tried, in this epoch or a later one. `find`
   * never rejects.
   */
  detour(epoch: number, find: Detour["find"]): void {
    this.#detour = { epoch, find };
    // A try that has got on is worth more.
    if (!this.link || this.link.peer.state === "checking") this.#restart?.();
  }

  /** Tries until a control channel stands; undefined when stopped. Rejects only with what trying again cannot mend. */
  async meet(): Promise<DirectChannel | undefined> {
    this.tries = 0;
    this.#since = performance.now();
    await this.#ready;
    for (;;) {
      const detour = this.#detour;
      this.#detour = undefined;
      const hole = await detour?.find(this.#port);
      if (this.#stopped) return undefined;
      const ahead = this.tries % AHEAD_EVERY === AHEAD_EVERY - 1 ? this.#opened + 1 : 0;
      const wanted = Math.max(this.nextEpoch, hole && detour ? detour.epoch : ahead);
      const epoch = Math.min(FIRST_RELAY_EPOCH - 1, wanted);
      this.tries++;
      try {
        const channel = await this.#try(epoch, hole);
        if (channel) {
          this.#epoch = epoch;
          return { channel, epoch, alone: hole !== undefined };
        }
        if (this.relaxed && performance.now() - this.#since > EAGER_MS) await this.#pause(REST_MS);
      } catch (error) {
        const failure = asDcpipeError(error, "ICE_FAILED");
        this.#options.log(`try ${this.tries}: ${failure.message}`);
        // An address or port that we had comes back, or there is another one; that of a hole may be somebody else's by now.
        const mayReturn = failure.code === "USAGE" && (this.#epoch >= 0 || hole !== undefined);
        if (FATAL.has(failure.code) && !mayReturn) throw failure;
        if (mayReturn && !hole) this.#port = undefined;
        await this.#pause(PAUSE_MS);
      }
    }
  }

  /** No more tries; a channel that stands goes on, unless `all`. */
  stop(all: boolean): void {
    this.#abort.abort();
    this.#forgetMapping();
    this.#restart?.();
    if (all) this.link?.close();
  }

  get #stopped(): boolean {
    return this.#abort.signal.aborted;
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
      this.#use(first);
      this.#stunKnown = true;
    }
  }

  #use(stun: StunServer | undefined): void {
    this.#stun = stun;
    this.mapping = "unknown";
    void stun?.mapping?.then((mapping) => {
      if (this.#stun === stun) this.mapping = mapping;
    });
  }

  /** The first try went out without STUN; when a server answers and nobody has come yet, try again with reflexive addresses. */
  async #refine(): Promise<void> {
    this.#use(await this.#options.stun);
    this.#stunKnown = true;
    if (!this.#stun) {
      this.#resolveCandidates(await this.#firstGathered);
    } else if (this.link?.peer.state === "checking" || !this.link) {
      this.#restart?.();
    } else {
      this.#resolveCandidates(this.link.peer.candidates);
    }
  }

  /** One try: undefined when its time was over or another was asked for. */
  async #try(epoch: number, hole: Hole | undefined): Promise<Channel | undefined> {
    const { context } = this.#options;
    const known = [...this.#remote];
    const link = await openLink(context, {
      epoch,
      index: 0,
      mtu: SAFE_MTU,
      datagrams: false,
      ...(hole ? through(hole, context.role) : this.#everywhere()),
    });
    if (this.#stopped || this.#detour) {
      link.close();
      return undefined;
    }
    this.link = link;
    this.#linkTime = performance.now();
    if (!hole) {
      // Some platforms take their time to make a connection, and addresses come meanwhile.
      for (const candidate of this.#remote) if (!known.includes(candidate)) link.peer.addCandidate(candidate);
      link.peer.oncandidate = (candidate) => {
        this.#options.onaddresses([candidate]);
      };
      if (this.local.length > 0) this.#options.onaddresses(this.local);
      void this.#gather(link);
    }
    let timer: ReturnType<typeof setTimeout> | undefined;
    const over = new Promise<undefined>((resolve) => {
      const end = (): void => {
        resolve(undefined);
      };
      this.#restart = end;
      timer = setTimeout(
        () => {
          if (link.peer.state === "checking") end();
          else timer = setTimeout(end, GRACE_MS);
        },
        hole ? HOLE_MS : this.#life(),
      );
    });
    try {
      const channel = await Promise.race([link.established, over]);
      if (!channel) link.close();
      // From here packets get through, as long as the NATs remember.
      else if (hole && this.#pinned) this.#port = hole.local;
      return channel;
    } finally {
      clearTimeout(timer);
      this.#restart = undefined;
      if (link.peer.channel) this.#opened = Math.max(this.#opened, epoch);
      if (this.link === link && link.peer.state !== "open") this.link = undefined;
    }
  }

  #everywhere(): Pick<LinkTarget, "ports" | "stun" | "candidates"> {
    return {
      ports: this.#port === undefined ? this.#options.ports : [this.#port, this.#port],
      stun: this.#stun,
      candidates: [...this.#remote],
    };
  }

  #life(): number {
    const { role, turn } = this.#options.context;
    const joining = role === "joining";
    if (this.#epoch < 0) return joining ? JOIN_MS : WAIT_MS;
    const slow = turn.length > 0 || performance.now() - this.#since > HASTE_MS ? 2 : 1;
    const least = RECONNECT_ROUND_TRIPS * this.rtt * (joining ? 1 : 2);
    return Math.max(least, slow * (joining ? RECONNECT_JOIN_MS : RECONNECT_WAIT_MS));
  }

  /** Ended early by whatever restarts a try. */
  #pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#restart = undefined;
        resolve();
      };
      const timer = setTimeout(end, milliseconds);
      this.#restart = end;
    });
  }

  /**
   * Whether every try uses the port of the first. A TURN server still holds that port's allocation (RFC 8656, section 7.2) and gives
   * no second one; so where new addresses can be told, and with relays only, each try has a port of its own.
   */
  get #pinned(): boolean {
    const { context, trickles } = this.#options;
    return !context.relayOnly && (context.turn.length === 0 || !trickles);
  }

  /** Learns our own addresses and pins the port, so that they stay true for every later try. */
  async #gather(link: Link): Promise<void> {
    const stun = this.#stun;
    const { turn, relayOnly } = this.#options.context;
    const mapped = this.#map(link);
    await within(link.peer.gathered, turn.length > 0 ? TURN_GATHER_MS : stun ? GATHER_MS / 2 : GATHER_MS);
    // With relays only there is nothing to tell before one is there.
    if (relayOnly && link.peer.candidates.length === 0) await link.peer.gathered;
    const found = link.peer.candidates;
    // As in a browser, which hides its own: whoever waits for them need not.
    if (found.length === 0) this.#options.onaddresses([]);
    const socket = found.find(({ type }) => type === "host") ?? found[0];
    if (!socket) return;
    if (this.#pinned) this.#port ??= socket.port;
    const ipv4 = found.filter(({ address }) => !address.includes(":"));
    const reflexive = ipv4.find(({ type }) => type === "srflx");
    this.outer = reflexive ?? this.outer ?? ipv4.find(({ type }) => type === "host");
    this.#gatheredResolve(found);
    // A try that was begun before the server was found, and gave way to another one, knows too little.
    if (!stun && (!this.#stunKnown || this.#stun)) return;
    // What does not trickle must be complete.
    if (!this.#options.trickles) await within(mapped, GATHER_MS / 2);
    this.#resolveCandidates(
      this.link === link ? this.local : [...found, ...(this.#mapped ? [this.#mapped] : [])],
    );
  }

  // ---- a port of the router's ---------------------------------------------------------------------------------------

  /** Asks the router, once for each network, for the port that all tries use. */
  async #map(link: Link): Promise<void> {
    const { mapPort, context } = this.#options;
    if (!mapPort || !this.#pinned || this.#portMapping !== undefined || !this.#stun) return;
    const asking = Symbol();
    this.#portMapping = asking;
    const host = await hostOf(link);
    if (this.#stopped || this.#portMapping !== asking) return;
    if (!host) {
      // The next try may have one.
      this.#portMapping = undefined;
      return;
    }
    const mapping = await mapPort({
      port: host.port,
      bind: context.bind,
      signal: this.#abort.signal,
      onlog: this.#options.log,
    });
    // The network may have changed under us.
    if (this.#abort.signal.aborted || this.#portMapping !== asking) {
      void mapping?.release();
      return;
    }
    if (!mapping) return;
    this.#portMapping = mapping;
    this.#mappedFor = host.address;
    await within(link.peer.gathered, GATHER_MS / 2);
    // What STUN sees is the outer end of all NATs there are; the router knows of its own only, if it tells the truth.
    const seen = link.peer.candidates.find(({ type, address }) => type === "srflx" && !address.includes(":"));
    const address = seen?.address ?? mapping.address;
    if (address === undefined) return;
    if (link.peer.candidates.some((known) => known.address === address && known.port === mapping.port))
      return;
    this.#mapped = { type: "srflx", address, port: mapping.port };
    this.#options.onaddresses([this.#mapped]);
  }

  #forgetMapping(): void {
    if (typeof this.#portMapping === "object") void this.#portMapping.release();
    this.#portMapping = undefined;
    this.#mapped = this.#mappedFor = undefined;
  }
}

/**
 * The waiting side is called: it must be connected last, and when both call, that is left to chance (docs/architecture.md).
 */
function through(
  { local, address, port }: Hole,
  role: LinkContext["role"],
): Pick<LinkTarget, "ports" | "stun" | "candidates"> {
  const candidates = role === "waiting" ? [] : [{ type: "srflx", address, port } as const];
  return { ports: [local, local], stun: undefined, candidates };
}

/** The first address of its own that a try finds. */
async function hostOf({ peer }: Link): Promise<Candidate | undefined> {
  const find = (): Candidate | undefined =>
    peer.candidates.find(({ type, address }) => type === "host" && !address.includes(":"));
  if (!find()) await within(peer.gathered, GATHER_MS / 2);
  return find();
}

/** Resolves when the promise does, or after so many milliseconds. */
async function within(promise: Promise<unknown>, milliseconds: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  await Promise.race([promise, new Promise((resolve) => (timer = setTimeout(resolve, milliseconds)))]);
  clearTimeout(timer);
}

/** Failures that another try would only repeat. */
const FATAL: ReadonlySet<string> = new Set(["USAGE", "NO_WEBRTC", "AUTH_FAILED", "VERSION"]);
