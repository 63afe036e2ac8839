/**
 * More channels for a living session, for bulk and for datagrams: who wants one sends ADD with its addresses over the session,
 * the other side answers with its own. Both know all credentials already, so this is all the signalling a channel needs.
 */
import type { Session } from "../session/session.ts";
import type { Candidate } from "../transport/peer.ts";
import { DcpipeError } from "../errors.ts";
import { decodeLane, encodeLane, type LaneKind, type LaneMessage } from "../wire/lane.ts";
import { MAX_CANDIDATES } from "../wire/candidate.ts";
import { MAX_INDEX } from "../wire/hello.ts";
import { openLink, type Link, type LinkContext } from "./link.ts";

/** The MTU of Ethernet; used for bulk once a packet of that size has been seen to pass both ways. */
export const ETHERNET_MTU = 1500;
/** What every IPv6 path must carry (RFC 8200, section 5). */
export const SAFE_MTU = 1280;
/** New channels under way at once: a burst of sixty sockets looks like an attack to some routers. */
const MAX_PENDING = 8;
/** Bulk channels of both sides together. */
const MAX_LANES = 130;
/** Local addresses of a socket on a known network come at once; reflexive ones are sent after. Milliseconds. */
const GATHER_MS = 30;
/** A channel that does not stand after this has failed. */
const LANE_MS = 10_000;
/** After a failure wait this long, doubled each time. */
const RETRY_MS = 500;
const MAX_RETRY_MS = 30_000;
/** A datagram channel that stood for less than this was no success: another one is asked for after a pause. */
const LASTING_MS = 10_000;

export interface BulkOptions {
  readonly context: LinkContext;
  readonly ports: readonly [number, number] | undefined;
  readonly stun: () => { readonly host: string; readonly port: number } | undefined;
  readonly log: (text: string) => void;
}

/** A channel under way. */
interface Pending {
  readonly kind: LaneKind;
  readonly ours: boolean;
  link: Link | undefined;
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
  #mtu = ETHERNET_MTU;
  readonly #backoff: Readonly<Record<LaneKind, Backoff>> = { bulk: new Backoff(), datagrams: new Backoff() };
  /** When the last datagram channel came, if it has not been missed yet. */
  #datagramsSince: number | undefined;
  #closed = false;

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
    const { bulk, wanted } = this.#session.lanes;
    let ours = 0;
    for (const entry of this.#pending.values()) if (entry.ours && entry.kind === "bulk") ours++;
    for (let missing = wanted - bulk - ours; missing > 0 && ours < MAX_PENDING; missing--) {
      ours++;
      this.#ask("bulk");
    }
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
    this.#ask("datagrams");
  }

  /** All channels are gone and the session goes on in another epoch. */
  restart(epoch: number): void {
    this.#dropAll();
    this.#epoch = epoch;
    this.#seen.clear();
    this.#backoff.datagrams.stop();
    this.#datagramsSince = undefined;
    this.#nextIndex = this.#options.context.role === "waiting" ? 2 : 1;
  }

  /** Takes a message of the other side. Throws PROTOCOL. */
  receive(payload: Uint8Array): void {
    const message = decodeLane(payload);
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
      if (entry.link) for (const candidate of message.candidates) entry.link.peer.addCandidate(candidate);
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
    return this.#closed || state === "down" || state === "closed";
  }

  #pendingDatagrams(): number | undefined {
    for (const [index, { kind }] of this.#pending) if (kind === "datagrams") return index;
    return undefined;
  }

  /** Whether there is room for another bulk channel. */
  get #room(): boolean {
    return this.#pending.size + this.#session.lanes.bulk < MAX_LANES;
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

  #ask(kind: LaneKind): void {
    const index = this.#nextIndex;
    if (index > MAX_INDEX) return;
    this.#nextIndex += 2;
    void this.#make(index, kind, this.#mtu, []);
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
    const entry: Pending = { kind, ours, link: undefined, early: [] };
    this.#pending.set(index, entry);
    const current = (): boolean =>
      !this.#closed && this.#epoch === epoch && this.#pending.get(index) === entry;
    try {
      const { context, ports, stun } = this.#options;
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
      if (ours) this.#failed(kind, mtu, entry.link);
    } finally {
      if (this.#pending.get(index) === entry) this.#pending.delete(index);
    }
    if (ours || kind === "datagrams") this.want();
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

  /** A packet of the larger size did not pass, or the channel did not stand at all: be more modest, or wait. */
  #failed(kind: LaneKind, mtu: number, link: Link | undefined): void {
    const reached = link?.peer.channel !== undefined;
    if (reached && mtu > SAFE_MTU) {
      this.#mtu = SAFE_MTU;
      return;
    }
    this.#pause(kind);
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
