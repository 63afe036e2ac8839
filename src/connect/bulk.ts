/**
 * More channels for a living session, for bulk and for datagrams: who wants one sends ADD with its addresses over the session,
 * the other side answers with its own. Both know all credentials already, so this is all the signalling a channel needs.
 */
import type { Session } from "../session/session.ts";
import type { Candidate } from "../transport/peer.ts";
import { DcpipeError } from "../errors.ts";
import { decodeLane, encodeLane, type LaneKind, type LaneMessage, type NatMessage } from "../wire/lane.ts";
import { MAX_CANDIDATES } from "../wire/candidate.ts";
import { MAX_INDEX } from "../wire/hello.ts";
import { openLink, type Link, type LinkContext } from "./link.ts";
import { ETHERNET_MTU, SAFE_MTU } from "./mtu.ts";
import { FIRST_RELAY_EPOCH, openRelay, type RelayPlace } from "./relay.ts";

export { ETHERNET_MTU, SAFE_MTU };

/** New channels under way at once: a burst of sixty sockets looks like an attack to some routers. */
const MAX_PENDING = 8;
/** Bulk channels of both sides together. */
const MAX_LANES = 130;
/** The same through a relay, where each is a connection to somebody else's server, and one of each side is all that is of use. */
const MAX_RELAYED_LANES = 4;
/** Local addresses of a socket on a known network come at once; reflexive ones are sent after. Milliseconds. */
const GATHER_MS = 30;
/** A channel that does not stand after this has failed. */
const LANE_MS = 10_000;
/** A path on which something was heard within this carries packets; less than a HELLO is waited for. Milliseconds. */
const ALIVE_MS = 1500;
/** After a failure wait this long, doubled each time. */
const RETRY_MS = 500;
const MAX_RETRY_MS = 30_000;
/** A datagram channel that stood for less than this was no success: another one is asked for after a pause. */
const LASTING_MS = 10_000;

export interface BulkOptions {
  readonly context: LinkContext;
  readonly ports: readonly [number, number] | undefined;
  readonly stun: () => { readonly host: string; readonly port: number } | undefined;
  /** Where channels of a relayed session are made. */
  readonly relay: RelayPlace | undefined;
  /** Addresses for the control channel. */
  readonly oncandidates: (candidates: readonly Candidate[]) => void;
  /** The other side is ready to punch. */
  readonly onnat: (message: NatMessage) => void;
  readonly log: (text: string) => void;
}

/** A channel under way. */
interface Pending {
  readonly kind: LaneKind;
  readonly ours: boolean;
  readonly mtu: number;
  link: (Pick<Link, "close"> & Partial<Pick<Link, "peer">>) | undefined;
  /** Addresses of the other side that came before there was a link. */
  readonly early: Candidate[];
}

export class Bulk {
  readonly #session: Session;
  readonly #options: BulkOptions;
  #epoch: number;
  #nextIndex: number;
  /** Channels under way by index; ours and theirs. */
  readonly #pending = new Map<number, Pending>();
  readonly #seen = new Set<number>();
  readonly #backoff: Readonly<Record<LaneKind, Backoff>> = { bulk: new Backoff(), datagrams: new Backoff() };
  /** The shortest round trip that a handshake has seen, ms: what the session measures has busy processes in it. */
  #rtt = Infinity;
  /** When the last datagram channel came, if it has not been missed yet. */
  #datagramsSince: number | undefined;
  #closed = false;
  #held = false;

  constructor(session: Session, epoch: number, options: BulkOptions) {
    this.#session = session;
    this.#options = options;
    this.#epoch = epoch;
    this.#nextIndex = options.context.role === "waiting" ? 2 : 1;
  }

  /** Makes as many channels as the session wants and lacks. */
  want(): void {
    this.wantDatagrams();
    if (this.#idle || this.#backoff.bulk.waiting) return;
    const { bulk } = this.#session.lanes;
    // Through a relay one more is as good as many.
    const wanted = Math.min(this.#session.lanes.wanted, this.#relayed ? 1 : Infinity);
    const { pathMtu } = this.#options.context;
    let ours = 0;
    // Whether a larger size passes is not known yet: nothing waits for it.
    for (const { ours: asked, kind, mtu } of this.#pending.values())
      if (asked && kind === "bulk" && mtu <= pathMtu.bulk) ours++;
    for (let missing = wanted - bulk - ours; missing > 0 && ours < MAX_PENDING; missing--) {
      ours++;
      this.#ask("bulk", pathMtu.bulk);
    }
    if (this.#relayed || bulk === 0) return;
    const larger = pathMtu.larger(Math.min(this.#rtt, this.#session.leastRtt));
    if (larger !== undefined) this.#ask("bulk", larger);
  }

  /** Makes a datagram channel if the session wants one, has none, and none is under way. */
  wantDatagrams(): void {
    const { datagramsWanted, datagramsReady } = this.#session;
    const backoff = this.#backoff.datagrams;
    if (
      this.#idle ||
      !datagramsWanted ||
      datagramsReady ||
      backoff.waiting ||
      this.#pendingDatagrams() !== undefined
    )
      return;
    const since = this.#datagramsSince;
    this.#datagramsSince = undefined;
    if (since !== undefined) {
      if (performance.now() - since < LASTING_MS) {
        this.#pause("datagrams");
        return;
      }
      backoff.succeed();
    }
    this.#ask("datagrams", Math.min(ETHERNET_MTU, this.#options.context.pathMtu.bulk));
  }

  /** The session may leave the relay any moment, or other channels do not get where its control channel does: none are asked for. */
  hold(): void {
    this.#held = true;
  }

  release(): void {
    this.#held = false;
    this.want();
  }

  /** All channels are gone, or soon will be, and the session goes on in another epoch. */
  restart(epoch: number): void {
    this.#dropAll();
    this.#held = false;
    this.#epoch = epoch;
    this.#options.context.pathMtu.renew();
    this.#rtt = Infinity;
    this.#seen.clear();
    this.#backoff.datagrams.stop();
    this.#datagramsSince = undefined;
    this.#nextIndex = this.#options.context.role === "waiting" ? 2 : 1;
  }

  /** Takes a message of the other side. Throws PROTOCOL. */
  receive(payload: Uint8Array): void {
    const message = decodeLane(payload);
    if (message.type === "NAT") {
      this.#options.onnat(message);
      return;
    }
    if (message.type === "CANDIDATES" && message.index === 0) {
      this.#options.oncandidates(message.candidates);
      return;
    }
    if (message.epoch !== this.#epoch || this.#closed) return;
    const entry = this.#pending.get(message.index);
    if (message.type === "ADD") {
      const parity = this.#options.context.role === "waiting" ? 1 : 0;
      if (message.index === 0 || message.index % 2 !== parity)
        throw new DcpipeError("PROTOCOL", "a channel number of the wrong side");
      if (this.#seen.has(message.index)) return;
      this.#seen.add(message.index);
      if (message.kind === "datagrams" ? this.#yields() : this.#room)
        void this.#make(message.index, message.kind, message.mtu, message.candidates);
      else this.#tell({ type: "REFUSE", ...this.#at(message.index) });
    } else if (message.type === "CANDIDATES") {
      if (!entry) return;
      if (entry.link) for (const candidate of message.candidates) entry.link.peer?.addCandidate(candidate);
      else if (entry.early.length < MAX_CANDIDATES) entry.early.push(...message.candidates);
    } else if (entry) {
      entry.link?.close();
    }
  }

  close(): void {
    this.#closed = true;
    for (const backoff of Object.values(this.#backoff)) backoff.stop();
    this.#dropAll();
  }

  /** Nothing can be asked for now. */
  get #idle(): boolean {
    const { state } = this.#session;
    return this.#closed || this.#held || state === "down" || state === "closed";
  }

  get #relayed(): boolean {
    return this.#epoch >= FIRST_RELAY_EPOCH;
  }

  #pendingDatagrams(): number | undefined {
    for (const [index, { kind }] of this.#pending) if (kind === "datagrams") return index;
    return undefined;
  }

  /** Whether there is room for another bulk channel. */
  get #room(): boolean {
    return this.#pending.size + this.#session.lanes.bulk < (this.#relayed ? MAX_RELAYED_LANES : MAX_LANES);
  }

  /**
   * Makes way for a datagram channel that the other side asks for: one is enough, so where both ask at the same moment the waiting
   * side's is made. A later one of the other side's replaces its earlier one, but no faster than they are made. False to refuse.
   */
  #yields(): boolean {
    const index = this.#pendingDatagrams();
    const entry = index === undefined ? undefined : this.#pending.get(index);
    if (index === undefined || !entry) return true;
    if (entry.ours ? this.#options.context.role === "waiting" : !entry.link) return false;
    this.#pending.delete(index);
    entry.link?.close();
    return true;
  }

  #ask(kind: LaneKind, mtu: number): void {
    const index = this.#nextIndex;
    if (index > MAX_INDEX) return;
    this.#nextIndex += 2;
    void this.#make(index, kind, this.#relayed ? SAFE_MTU : mtu, []);
  }

  #dropAll(): void {
    for (const { link } of this.#pending.values()) link?.close();
    this.#pending.clear();
  }

  #at(index: number): { epoch: number; index: number } {
    return { epoch: this.#epoch, index };
  }

  #tell(message: LaneMessage): void {
    this.#session.signal(encodeLane(message));
  }

  async #make(index: number, kind: LaneKind, mtu: number, remote: readonly Candidate[]): Promise<void> {
    const ours = index % 2 === this.#nextIndex % 2;
    const epoch = this.#epoch;
    const entry: Pending = { kind, ours, mtu, link: undefined, early: [] };
    this.#pending.set(index, entry);
    const current = (): boolean =>
      !this.#closed && this.#epoch === epoch && this.#pending.get(index) === entry;
    try {
      const { context, ports, stun } = this.#options;
      if (this.#relayed) {
        await this.#relay(index, kind, ours, entry, current);
        return;
      }
      const datagrams = kind === "datagrams";
      const target = { epoch, index, mtu, datagrams, ports, stun: stun(), candidates: remote };
      const link = await openLink(context, target);
      if (!current()) {
        link.close();
        return;
      }
      entry.link = link;
      for (const candidate of entry.early) link.peer.addCandidate(candidate);
      await Promise.race([link.peer.gathered, delay(GATHER_MS)]);
      if (current()) this.#introduce(index, kind, mtu, ours, link);
      const timer = setTimeout(() => {
        link.close();
      }, LANE_MS);
      try {
        const channel = await link.established;
        if (!current()) {
          link.close();
          return;
        }
        this.#pending.delete(index);
        this.#rtt = Math.min(this.#rtt, link.peer.rtt ?? Infinity);
        if (ours) this.#stood(mtu);
        const id = epoch * 65536 + index;
        if (datagrams) {
          this.#datagramsSince = performance.now();
          this.#session.attachDatagrams(channel, id);
        } else {
          this.#backoff.bulk.succeed();
          this.#session.attach(channel, id, "bulk");
        }
      } finally {
        clearTimeout(timer);
      }
    } catch (error) {
      if (!current()) return;
      this.#options.log(`${kind} channel ${index}: ${String(error)}`);
      if (ours) this.#failed(kind, mtu, entry.link?.peer);
    } finally {
      if (this.#pending.get(index) === entry) this.#pending.delete(index);
    }
    if (ours || kind === "datagrams") this.want();
  }

  /** Makes a channel through the relay: the other side goes there when it is told. */
  async #relay(
    index: number,
    kind: LaneKind,
    ours: boolean,
    entry: Pending,
    current: () => boolean,
  ): Promise<void> {
    const { relay, context } = this.#options;
    if (!relay) throw new DcpipeError("PROTOCOL", "no relay is known");
    const stop = new AbortController();
    entry.link = {
      close: () => {
        stop.abort();
      },
    };
    if (ours) this.#tell({ type: "ADD", ...this.#at(index), kind, mtu: SAFE_MTU, candidates: [] });
    const timer = setTimeout(() => {
      stop.abort();
    }, LANE_MS);
    try {
      const { channel } = await openRelay(relay, context, this.#at(index), stop.signal);
      if (!current()) {
        channel.close();
        return;
      }
      const id = this.#epoch * 65536 + index;
      if (kind === "datagrams") {
        this.#datagramsSince = performance.now();
        this.#session.attachDatagrams(channel, id);
      } else {
        this.#backoff.bulk.succeed();
        this.#session.attach(channel, id, "bulk", true);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends the addresses known now, and later ones as they come. */
  #introduce(index: number, kind: LaneKind, mtu: number, ours: boolean, link: Link): void {
    const candidates = link.peer.candidates.slice(0, MAX_CANDIDATES);
    const at = this.#at(index);
    this.#tell(
      ours ? { type: "ADD", ...at, kind, mtu, candidates } : { type: "CANDIDATES", ...at, candidates },
    );
    link.peer.oncandidate = (candidate) => {
      if (this.#pending.get(index)?.link === link)
        this.#tell({ type: "CANDIDATES", ...at, candidates: [candidate] });
    };
  }

  #stood(mtu: number): void {
    const { pathMtu } = this.#options.context;
    const before = pathMtu.bulk;
    pathMtu.bulkStood(mtu);
    if (pathMtu.bulk !== before) this.#options.log(`packets of ${mtu} bytes pass`);
  }

  /** A packet of that size did not pass, or the channel did not stand at all: be more modest, or wait. */
  #failed(kind: LaneKind, mtu: number, peer: Link["peer"] | undefined): void {
    const { pathMtu } = this.#options.context;
    if (mtu > pathMtu.bulk) return;
    // Where nothing passes, the size is not to blame.
    const reached = peer?.channel !== undefined && this.#session.silence < ALIVE_MS;
    if (!reached || !pathMtu.bulkFailed(mtu)) this.#pause(kind);
    else this.#options.log(`packets of ${mtu} bytes do not pass, ${pathMtu.bulk} are tried`);
  }

  #pause(kind: LaneKind): void {
    this.#backoff[kind].fail(() => {
      this.want();
    });
  }
}

/** The pause between two tries, doubled with each failure in a row. */
class Backoff {
  #failures = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  get waiting(): boolean {
    return this.#timer !== undefined;
  }

  fail(again: () => void): void {
    this.#failures++;
    this.#timer ??= setTimeout(
      () => {
        this.#timer = undefined;
        again();
      },
      Math.min(MAX_RETRY_MS, RETRY_MS * 2 ** this.#failures),
    );
  }

  succeed(): void {
    this.#failures = 0;
  }

  stop(): void {
    this.#failures = 0;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
