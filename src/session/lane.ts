/**
 * A lane is one channel and its accounts. Both sides count the messages of each channel; ACK tells the sender how many came,
 * and when the channel dies LOST tells it exactly which did not. So nothing is lost and nothing comes twice, whatever dies.
 */
import type { Channel } from "../transport/channel.ts";
import { HIGH_WATER } from "../transport/channel.ts";
import { MAX_CONTROL_MESSAGE } from "../wire/frame.ts";
import type { Segment } from "./outbound.ts";
import type { Stream } from "./stream.ts";

/** A control frame that must arrive. */
export interface Notice {
  readonly bytes: Uint8Array;
  /** Worth nothing on another lane: not sent again. */
  readonly once?: boolean;
  /** It opens this stream. */
  readonly opens?: Stream;
  /** Runs when it has gone out on a lane. */
  sent?: (lane: Lane) => void;
  /** Runs when the other side is known to have it. */
  arrived?: () => void;
}

/** One message that the other side has not acknowledged. */
interface InFlight {
  readonly number: number;
  /** When it was sent, and how much had been delivered by then. */
  readonly time: number;
  readonly delivered: number;
  readonly size: number;
  readonly notices: readonly Notice[];
  readonly segments: readonly { readonly stream: Stream; readonly segment: Segment }[];
}

/** Unacknowledged bytes a lane may always have: two full frames, so that slow start has something to grow on. */
const MIN_FLIGHT = 128 * 1024;
/** Beyond this more only waits in the queue below: an association moves at most 0.64 MiB a round trip. */
const MAX_FLIGHT = 3 * 1024 * 1024;
/** Milliseconds added to the round trip when a lane's rate is turned into bytes: acknowledgements wait a little. */
const ACK_SLACK_MS = 20;
/**
 * Flight over the bandwidth-delay product. With 1 a lane could not speed up; with 2, as in BBR, which paces besides, the lanes
 * of a path together overflow a queue of one such product, and some then crawl for many seconds.
 */
const GAIN = 1.3;
const MODEST_GAIN = 1.5;
const MAX_MODEST = 768 * 1024;
/** The best rate of this long ago still counts: a lane that had nothing to do has not become slow. Milliseconds. */
const RATE_MEMORY_MS = 1000;

export class Lane {
  readonly id: number;
  readonly channel: Channel;
  /** Large messages go here; the other kind keeps every message within one packet. */
  bulk: boolean;
  /** Goes through a relay: there only until a path without one stands. */
  readonly relayed: boolean;
  /** Takes nothing new; closes when all it carries has arrived. */
  draining = false;
  /** Messages and bytes received, and how many of them were acknowledged. */
  received = 0;
  acknowledged = 0;
  unacknowledgedBytes = 0;
  ackDue = false;
  /** Bytes sent and not acknowledged. */
  flight = 0;
  /** Control frames sent and not acknowledged that must arrive in order, on this lane or another. */
  notices = 0;
  /** When the lane last had nothing in flight or an acknowledgement came. */
  progress = performance.now();
  #sent = 0;
  #confirmed = 0;
  #inFlight: InFlight[] = [];
  #head = 0;
  #delivered = 0;
  /** Best delivery rates, bytes a millisecond, of this stretch of time and the one before. */
  #rate = { since: performance.now(), now: 0, before: 0 };

  constructor(id: number, channel: Channel, bulk: boolean, relayed = false) {
    this.id = id;
    this.relayed = relayed;
    this.channel = channel;
    this.bulk = bulk;
  }

  /** The longest message that may go here while this is the control lane. */
  get packet(): number {
    return Math.min(MAX_CONTROL_MESSAGE, this.channel.packet ?? MAX_CONTROL_MESSAGE);
  }

  /** Bytes acknowledged since the start. */
  get delivered(): number {
    return this.#delivered;
  }

  /** The best delivery rate of late, bytes a millisecond. */
  get rate(): number {
    return Math.max(this.#rate.now, this.#rate.before);
  }

  /** Whether the lane should be given another message, at a round-trip time of `rtt` ms. */
  room(rtt: number): boolean {
    return this.flight < this.allowance(rtt) && this.channel.bufferedAmount < HIGH_WATER;
  }

  /** Bytes the lane may have in flight at a path whose empty round trip is `rtt` ms. */
  allowance(rtt: number): number {
    return Math.min(MAX_FLIGHT, Math.max(MIN_FLIGHT, GAIN * this.rate * (rtt + ACK_SLACK_MS)));
  }

  /** The same for a lane that must keep its own queue short, because control frames wait in it too. */
  modestAllowance(rtt: number): number {
    return Math.min(MAX_MODEST, MIN_FLIGHT / 2 + MODEST_GAIN * this.rate * rtt);
  }

  /** Sends one message and keeps what it carries until it is acknowledged. False when the channel is gone. */
  send(message: Uint8Array, notices: readonly Notice[], segments: InFlight["segments"]): boolean {
    const number = this.#sent + 1;
    if (!this.channel.send(message)) return false;
    this.#sent = number;
    if (notices.length > 0 || segments.length > 0) {
      if (this.flight === 0) this.progress = performance.now();
      this.flight += message.length;
      this.notices += lasting(notices).length;
      const [time, delivered, size] = [performance.now(), this.#delivered, message.length];
      this.#inFlight.push({ number, time, delivered, size, notices, segments });
    }
    return true;
  }

  /** The other side has `count` messages. False when that cannot be. */
  confirm(count: number, rtt: number): boolean {
    if (count > this.#sent) return false;
    if (count <= this.#confirmed) return true;
    this.#confirmed = count;
    this.progress = performance.now();
    const last = this.#release(count);
    if (last) this.#measure(last, rtt);
    return true;
  }

  /** Ends the accounts: `count` messages arrived, the rest comes back. */
  settle(count: number): { notices: Notice[]; segments: { stream: Stream; segment: Segment }[] } {
    this.#release(count);
    const rest = this.#inFlight.slice(this.#head);
    this.#inFlight = [];
    this.#head = 0;
    this.flight = 0;
    this.notices = 0;
    return {
      notices: rest.flatMap(({ notices }) => lasting(notices)),
      segments: rest.flatMap(({ segments }) => segments),
    };
  }

  get sent(): number {
    return this.#sent;
  }

  /** Delivery rate over the flight of one message, as BBR samples it: it doubles with each round trip of a slow start. */
  #measure({ time, delivered }: InFlight, rtt: number): void {
    const now = performance.now();
    const rate = (this.#delivered - delivered) / Math.max(1, now - time);
    if (now - this.#rate.since > Math.max(RATE_MEMORY_MS, 4 * rtt)) {
      this.#rate = { since: now, now: 0, before: this.#rate.now };
    }
    this.#rate.now = Math.max(this.#rate.now, rate);
  }

  /** Lets go of the first `count` messages; returns the last of them. */
  #release(count: number): InFlight | undefined {
    let last: InFlight | undefined;
    for (
      let entry = this.#inFlight[this.#head];
      entry && entry.number <= count;
      entry = this.#inFlight[this.#head]
    ) {
      last = entry;
      this.#head++;
      this.flight -= entry.size;
      this.notices -= lasting(entry.notices).length;
      this.#delivered += entry.size;
      for (const notice of entry.notices) notice.arrived?.();
      for (const { stream, segment } of entry.segments) stream.delivered(segment);
    }
    if (this.#head > 1024 || this.#head === this.#inFlight.length) {
      this.#inFlight = this.#inFlight.slice(this.#head);
      this.#head = 0;
    }
    return last;
  }
}

function lasting(notices: readonly Notice[]): Notice[] {
  return notices.filter(({ once }) => !once);
}
