/**
 * A channel: messages in order, each whole, until one end closes. Lost messages mean a closed channel. Of a datagram channel only
 * "each whole" is true: its messages may be lost, and overtake each other.
 */
export interface Channel {
  /** Bytes accepted by `send` that have not left this process's queue. */
  readonly bufferedAmount: number;
  readonly closed: boolean;
  /** Bytes of the longest message that travels in one packet; undefined where that is not known. */
  readonly packet?: number | undefined;
  /** Set these before returning to the event loop: messages do not wait for a reader. */
  onmessage: ((message: Uint8Array) => void) | undefined;
  /** `bufferedAmount` fell to a quarter of HIGH_WATER or less. */
  ondrain: (() => void) | undefined;
  onclose: (() => void) | undefined;
  /** Queues a message; the bytes are copied. False when the channel is closed and the message is gone. */
  send(message: Uint8Array): boolean;
  close(): void;
}

/** A data channel to anybody's WebRTC: neither end knows of a message that follows the last one. */
export interface RawChannel extends Omit<Channel, "packet" | "close"> {
  /** Bytes of the longest message that the other side takes. */
  readonly maxMessageSize: number;
  /** Whether the other side has fallen silent, rather than closed; false as long as the channel is open. */
  readonly silent: boolean;
  /** What a message above the limit that we announced is: the library cuts it. */
  onoversize: (() => void) | undefined;
  /**
   * Closes behind everything that was sent; messages of the other side go on coming, until `onclose`. True when it has closed in turn,
   * which it does when it has everything (RFC 8831, section 6.7), or has hung up; false when it has fallen silent, or does not answer.
   * Where the other side has closed first: waits until it has hung up, for a short while, so that our answer reaches it.
   */
  finish(): Promise<boolean>;
}

/** Senders pause above this: more only adds latency and memory (measured: 1 MiB is as fast as 4). */
export const HIGH_WATER = 1024 * 1024;
export const LOW_WATER = HIGH_WATER / 4;

/** What an in-memory channel does to the messages that pass; tests bend it. */
export interface MemoryLink {
  /** Runs `deliver` later; the default keeps order and yields one turn of the event loop. */
  schedule: (deliver: () => void) => void;
}

/** Two ends of an in-memory channel. */
export function channelPair(
  link: MemoryLink = { schedule: (deliver) => setTimeout(deliver, 0) },
): [MemoryChannel, MemoryChannel] {
  const a = new MemoryChannel(link);
  const b = new MemoryChannel(link);
  a.other = b;
  b.other = a;
  return [a, b];
}

/** The in-memory twin of a data channel. `cut` loses everything in flight, as a dead network does. */
export class MemoryChannel implements Channel {
  onmessage: ((message: Uint8Array) => void) | undefined;
  ondrain: (() => void) | undefined;
  onclose: (() => void) | undefined;
  other!: MemoryChannel;
  closed = false;
  bufferedAmount = 0;
  readonly #link: MemoryLink;

  constructor(link: MemoryLink) {
    this.#link = link;
  }

  send(message: Uint8Array): boolean {
    if (this.closed) return false;
    const copy = message.slice();
    this.bufferedAmount += copy.length;
    this.#link.schedule(() => {
      const before = this.bufferedAmount;
      this.bufferedAmount -= copy.length;
      if (!this.other.closed && !this.closed) this.other.onmessage?.(copy);
      if (before > LOW_WATER && this.bufferedAmount <= LOW_WATER) this.ondrain?.();
    });
    return true;
  }

  close(): void {
    this.cut();
  }

  cut(): void {
    for (const end of [this, this.other]) {
      if (end.closed) continue;
      end.closed = true;
      this.#link.schedule(() => end.onclose?.());
    }
  }
}
