/**
 * The receiving half of a stream: frames come in any order over several channels, bytes leave in theirs.
 *
 *   0 ... consumed ........ contiguous ..... holes and early segments ..... limit
 *         |<--- unread ---->|                                               |
 *         |<------------------------- window ------------------------------>|
 *
 * Credit follows consumption, never arrival: a reader that stops stops the far sender, and at most `window` bytes wait here.
 */
import { DcpipeError } from "../errors.ts";

/** Every stream starts with this much credit each way, known to both sides without a word. */
export const INITIAL_WINDOW = 64 * 1024;
/** Enough for 500 Mbit/s over 200 ms, or for a channel that stalls for a second at 100 Mbit/s. */
export const MAX_WINDOW = 16 * 1024 * 1024;
/** A window that is read empty faster than this, plus four round trips, doubles. Milliseconds. */
const GROWTH_MS = 400;
/** Payloads below this are copied together into chunks of JOINED: one-byte frames must not cost a hundred bytes each. */
const SMALL = 4096;
const JOINED = 16 * 1024;
/** Out-of-order segments we keep; an honest sender's come to some hundreds. */
const MAX_EARLY = 65536;

interface Segment {
  readonly offset: number;
  readonly payload: Uint8Array;
}

export interface InboundOwner {
  /** Tells the other side about more credit. */
  grant(limit: number): void;
  /** The reader has taken everything up to the end. */
  consumedAll(): void;
  /** The reader has taken everything up to where the other side broke off. Fails this direction. */
  brokenOff(error: DcpipeError): void;
  /** Bytes by which the window may grow now, at most `wanted`: all streams of a session share a budget. */
  budget(wanted: number): number;
  /** Round-trip time, milliseconds. */
  rtt(): number;
}

export class Inbound {
  /** Offset the other side may send up to. */
  limit = INITIAL_WINDOW;
  /** Bytes that wait for the reader, early ones included. */
  held = 0;
  readonly #owner: InboundOwner;
  #window = INITIAL_WINDOW;
  #contiguous = 0;
  #consumed = 0;
  #final: number | undefined;
  /** What the stream ends with at #final in place of a good end. */
  #broken: DcpipeError | undefined;
  #chunks: Uint8Array[] = [];
  #joined = { bytes: new Uint8Array(0), filled: 0 };
  #early: Segment[] = [];
  #ended = false;
  #error: DcpipeError | undefined;
  #waiting: { resolve: (chunk: Uint8Array | undefined) => void; reject: (error: Error) => void } | undefined;
  #growth = { consumed: 0, time: 0 };

  constructor(owner: InboundOwner) {
    this.#owner = owner;
  }

  get window(): number {
    return this.#window;
  }

  /** All bytes and the FIN were read, or the stream was reset. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Grants a first, larger window, unless all that is to come has its credit. */
  welcome(window: number): void {
    if (this.#ended || (this.#final !== undefined && this.#final <= this.limit)) return;
    if (window > this.#window) this.#window += this.#owner.budget(Math.floor(window) - this.#window);
    this.limit = this.#window;
    if (this.limit > INITIAL_WINDOW) this.#owner.grant(this.limit);
  }

  /** Takes one DATA frame. Throws PROTOCOL beyond the credit or the end. */
  receive(offset: number, payload: Uint8Array): void {
    const end = offset + payload.length;
    if (end > this.limit) throw new DcpipeError("PROTOCOL", "data beyond its credit");
    if (this.#final !== undefined && end > this.#final)
      throw new DcpipeError("PROTOCOL", "data beyond the end of the stream");
    if (this.#error || end <= this.#contiguous) return;
    // A small view must not keep a large message alive.
    const kept = payload.length * 2 < payload.buffer.byteLength ? payload.slice() : payload;
    if (offset > this.#contiguous) {
      this.#keepEarly({ offset, payload: kept });
      return;
    }
    this.#append(offset, kept);
    this.#joinEarly();
    this.#wake();
  }

  /** Takes a FIN; or a BREAK with its error, which may follow a FIN. Throws PROTOCOL when it contradicts what is known. */
  finish(offset: number, broken?: DcpipeError): void {
    const last = this.#early.at(-1);
    const seen = Math.max(this.#contiguous, last ? last.offset + last.payload.length : 0);
    if (offset < seen || (this.#final !== undefined && this.#final !== offset)) {
      throw new DcpipeError("PROTOCOL", "the stream ends twice or before its data");
    }
    this.#final = offset;
    this.#broken ??= broken;
    this.#wake();
  }

  /** The next chunk, or undefined at the end. One call at a time. */
  read(): Promise<Uint8Array | undefined> {
    if (this.#error) return Promise.reject(this.#error);
    if (this.#waiting) return Promise.reject(new DcpipeError("USAGE", "a read is pending already"));
    const chunk = this.#next();
    // It may have broken off there.
    const error = this.#error as DcpipeError | undefined;
    if (error) return Promise.reject(error);
    if (chunk || this.#ended) return Promise.resolve(chunk);
    return new Promise((resolve, reject) => (this.#waiting = { resolve, reject }));
  }

  fail(error: DcpipeError): void {
    if (this.#error || this.#ended) return;
    this.#error = error;
    this.#ended = true;
    this.#chunks = [];
    this.#early = [];
    this.held = 0;
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }

  #append(offset: number, payload: Uint8Array): void {
    const fresh = payload.subarray(this.#contiguous - offset);
    this.#contiguous += fresh.length;
    this.held += fresh.length;
    // A reader who waits takes it as it is.
    if (fresh.length >= SMALL || (this.#waiting && this.#chunks.length === 0 && this.#early.length === 0))
      this.#chunks.push(fresh);
    else this.#join(fresh);
  }

  /** Puts a small payload behind the last one, in a buffer of ours. What a reader has been given is never written again. */
  #join(fresh: Uint8Array): void {
    let { bytes, filled } = this.#joined;
    const last = this.#chunks.at(-1);
    const follows = last?.buffer === bytes.buffer && filled + fresh.length <= bytes.length;
    if (filled + fresh.length > bytes.length) [bytes, filled] = [new Uint8Array(JOINED), 0];
    bytes.set(fresh, filled);
    const start = follows ? filled - last.length : filled;
    const chunk = bytes.subarray(start, filled + fresh.length);
    if (follows) this.#chunks[this.#chunks.length - 1] = chunk;
    else this.#chunks.push(chunk);
    this.#joined = { bytes, filled: filled + fresh.length };
  }

  #keepEarly(segment: Segment): void {
    if (this.#early.length >= MAX_EARLY) throw new DcpipeError("PROTOCOL", "too many separate segments");
    let low = 0;
    let high = this.#early.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#early[middle]?.offset ?? 0) < segment.offset) low = middle + 1;
      else high = middle;
    }
    const twin = this.#early[low];
    if (twin?.offset === segment.offset && twin.payload.length >= segment.payload.length) return;
    this.#early.splice(low, 0, segment);
    this.held += segment.payload.length;
    // What overlaps would count against the credit once, and be held many times.
    if (this.held > this.limit - this.#consumed) throw new DcpipeError("PROTOCOL", "data that overlaps");
    // Half the window waits behind one slow channel: the reader is not the one who holds things up.
    const early = this.held - (this.#contiguous - this.#consumed);
    if (early > this.#window / 2 && this.#window < MAX_WINDOW) {
      this.#grow();
      this.#extend();
    }
  }

  #joinEarly(): void {
    let used = 0;
    for (const { offset, payload } of this.#early) {
      if (offset > this.#contiguous) break;
      used++;
      this.held -= payload.length;
      if (offset + payload.length > this.#contiguous) this.#append(offset, payload);
    }
    if (used > 0) this.#early.splice(0, used);
  }

  #next(): Uint8Array | undefined {
    const chunk = this.#chunks.shift();
    if (chunk) {
      this.held -= chunk.length;
      this.#consumed += chunk.length;
      this.#extend();
    } else if (this.#final === this.#contiguous && !this.#ended) {
      if (this.#broken) this.#owner.brokenOff(this.#broken);
      else {
        this.#ended = true;
        this.#owner.consumedAll();
      }
    }
    return chunk;
  }

  #wake(): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    const chunk = this.#next();
    if (!chunk && !this.#ended) return;
    this.#waiting = undefined;
    waiting.resolve(chunk);
  }

  #grow(): void {
    this.#window += this.#owner.budget(Math.min(this.#window, MAX_WINDOW - this.#window));
  }

  #extend(): void {
    const read = this.#consumed - this.#growth.consumed;
    if (read >= this.#window) {
      const now = performance.now();
      const quick = now - this.#growth.time < GROWTH_MS + 4 * this.#owner.rtt();
      if (quick && this.#window < MAX_WINDOW) this.#grow();
      this.#growth = { consumed: this.#consumed, time: now };
    }
    // All that is still to come has its credit: the FIN may be far ahead of the data.
    if (this.#final !== undefined && this.limit >= this.#final) return;
    const limit = this.#consumed + this.#window;
    // Half a window at a time while it is small, a quarter when that still saves packets.
    if (limit - this.limit < Math.min(this.#window / 2, 1024 * 1024)) return;
    this.limit = limit;
    this.#owner.grant(limit);
  }
}
