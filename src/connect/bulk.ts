/**
 * Bulk channels for a living session: who wants one sends ADD with its addresses over the session, the other side answers
 * with its own. Both know all credentials already, so this is all the signalling a channel needs.
 */
import type { Session } from "../session/session.ts";
import type { Candidate } from "../transport/peer.ts";
import { DcpipeError } from "../errors.ts";
import { decodeLane, encodeLane, type LaneMessage } from "../wire/lane.ts";
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

export interface BulkOptions {
  readonly context: LinkContext;
  readonly ports: readonly [number, number] | undefined;
  readonly stun: () => { readonly host: string; readonly port: number } | undefined;
  readonly log: (text: string) => void;
}

export class Bulk {
  readonly #session: Session;
  readonly #options: BulkOptions;
  #epoch: number;
  #nextIndex: number;
  /** Channels under way by index; ours and theirs. */
  readonly #pending = new Map<number, { link: Link | undefined; early: Candidate[]; ours: boolean }>();
  readonly #seen = new Set<number>();
  #mtu = ETHERNET_MTU;
  #failures = 0;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(session: Session, epoch: number, options: BulkOptions) {
    this.#session = session;
    this.#options = options;
    this.#epoch = epoch;
    this.#nextIndex = options.context.role === "waiting" ? 2 : 1;
  }

  /** Makes as many channels as the session wants and lacks. */
  want(): void {
    if (
      this.#closed ||
      this.#retryTimer ||
      this.#session.state === "down" ||
      this.#session.state === "closed"
    )
      return;
    const { bulk, wanted } = this.#session.lanes;
    let ours = 0;
    for (const entry of this.#pending.values()) if (entry.ours) ours++;
    for (
      let missing = wanted - bulk - ours;
      missing > 0 && ours < MAX_PENDING && this.#nextIndex <= MAX_INDEX;
      missing--
    ) {
      ours++;
      const index = this.#nextIndex;
      this.#nextIndex += 2;
      void this.#make(index, this.#mtu, []);
    }
  }

  /** All channels are gone and the session goes on in another epoch. */
  restart(epoch: number): void {
    this.#dropAll();
    this.#epoch = epoch;
    this.#seen.clear();
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
      if (this.#pending.size + this.#session.lanes.bulk >= MAX_LANES)
        this.#tell({ type: "REFUSE", ...this.#at(message.index) });
      else void this.#make(message.index, message.mtu, message.candidates);
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
    clearTimeout(this.#retryTimer);
    this.#dropAll();
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

  async #make(index: number, mtu: number, remote: readonly Candidate[]): Promise<void> {
    const ours = index % 2 === this.#nextIndex % 2;
    const epoch = this.#epoch;
    const entry: { link: Link | undefined; early: Candidate[]; ours: boolean } = {
      link: undefined,
      early: [],
      ours,
    };
    this.#pending.set(index, entry);
    const current = (): boolean =>
      !this.#closed && this.#epoch === epoch && this.#pending.get(index) === entry;
    try {
      const { context, ports, stun } = this.#options;
      const link = await openLink(context, { epoch, index, mtu, ports, stun: stun(), candidates: remote });
      if (!current()) {
        link.close();
        return;
      }
      entry.link = link;
      for (const candidate of entry.early) link.peer.addCandidate(candidate);
      await Promise.race([link.peer.gathered, delay(GATHER_MS)]);
      if (current()) this.#introduce(index, mtu, ours, link);
      const timer = setTimeout(() => {
        link.close();
      }, LANE_MS);
      try {
        const channel = await link.established;
        if (!current()) {
          link.close();
          return;
        }
        this.#failures = 0;
        this.#pending.delete(index);
        this.#session.attach(channel, epoch * 65536 + index, "bulk");
      } finally {
        clearTimeout(timer);
      }
    } catch (error) {
      if (!current()) return;
      this.#options.log(`bulk channel ${index}: ${String(error)}`);
      if (ours) this.#failed(mtu, entry.link);
    } finally {
      if (this.#pending.get(index) === entry) this.#pending.delete(index);
    }
    if (ours) this.want();
  }

  /** Sends the addresses known now, and later ones as they come. */
  #introduce(index: number, mtu: number, ours: boolean, link: Link): void {
    const candidates = link.peer.candidates.slice(0, MAX_CANDIDATES);
    const at = this.#at(index);
    this.#tell(ours ? { type: "ADD", ...at, mtu, candidates } : { type: "CANDIDATES", ...at, candidates });
    link.peer.oncandidate = (candidate) => {
      if (this.#pending.get(index)?.link === link)
        this.#tell({ type: "CANDIDATES", ...at, candidates: [candidate] });
    };
  }

  /** A packet of the larger size did not pass, or the channel did not stand at all: be more modest, or wait. */
  #failed(mtu: number, link: Link | undefined): void {
    const reached = link?.peer.channel !== undefined;
    if (reached && mtu > SAFE_MTU) {
      this.#mtu = SAFE_MTU;
      return;
    }
    this.#failures++;
    this.#retryTimer ??= setTimeout(
      () => {
        this.#retryTimer = undefined;
        this.want();
      },
      Math.min(MAX_RETRY_MS, RETRY_MS * 2 ** this.#failures),
    );
  }
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
