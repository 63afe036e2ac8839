/**
 * The sending half of a stream: bytes wait here until a channel takes them, and are kept by the channel until the other side
 * has them. What a lost channel had not delivered comes back and goes out again first.
 */
import { DcpipeError } from "../errors.ts";
import { INITIAL_WINDOW } from "./inbound.ts";

/** A writer waits while more than this has not left: enough for several frames, little enough for any number of streams. */
export const WRITE_BUFFER = 512 * 1024;

/** Writes below this are copied together. */
const SMALL_WRITE = 2048;
const TAIL_SIZE = 16 * 1024;

/** A run of bytes on its way: views on what the writer gave, never copies. */
export interface Segment {
  readonly offset: number;
  readonly length: number;
  readonly pieces: readonly Uint8Array[];
}

export class Outbound {
  /** Offset up to which the other side has granted credit. */
  limit = INITIAL_WINDOW;
  /** Bytes that the other side is known to have. */
  acknowledged = 0;
  #pieces: Uint8Array[] = [];
  #pending = 0;
  #offset = 0;
  #again: Segment[] = [];
  #againBytes = 0;
  /** A buffer of ours that collects small writes; its filled part is the last of the pieces. */
  #tail: { buffer: Uint8Array; start: number; end: number } | undefined;
  #final: number | undefined;
  #error: DcpipeError | undefined;
  #blocked: { resolve: () => void; reject: (error: Error) => void }[] = [];

  /** Bytes written and not yet handed to a channel, credit or not. */
  get pending(): number {
    return this.#pending;
  }

  /** Bytes that may leave now. */
  get sendable(): number {
    return this.#againBytes + Math.min(this.#pending, Math.max(0, this.limit - this.#offset));
  }

  /** The writer has ended; then the length of the stream. */
  get final(): number | undefined {
    return this.#final;
  }

  /** Queues a chunk, which must not change until it is acknowledged. Resolves when there is room for more. */
  write(chunk: Uint8Array): Promise<void> {
    if (this.#error) return Promise.reject(this.#error);
    if (this.#final !== undefined)
      return Promise.reject(new DcpipeError("CLOSED", "write after the end of the stream"));
    if (chunk.length > 0) {
      if (chunk.length < SMALL_WRITE) this.#collect(chunk);
      else this.#pieces.push(chunk);
      this.#pending += chunk.length;
    }
    if (this.#pending < WRITE_BUFFER) return Promise.resolve();
    return new Promise((resolve, reject) => this.#blocked.push({ resolve, reject }));
  }

  /** No more writes. Returns the length of the stream. */
  end(): number {
    this.#final ??= this.#offset + this.#pending;
    return this.#final;
  }

  /** Takes the next segment of at most `max` bytes off the queue, what was lost first. */
  take(max: number): Segment | undefined {
    const again = this.#again[0];
    if (again) {
      const [head, rest] = split(again, max);
      if (rest) this.#again[0] = rest;
      else this.#again.shift();
      this.#againBytes -= head.length;
      return head;
    }
    const length = Math.min(max, this.#pending, this.limit - this.#offset);
    if (length <= 0) return undefined;
    const [head, rest] = cut(this.#pieces, length);
    const segment = { offset: this.#offset, length, pieces: head };
    this.#pieces = rest;
    this.#offset += length;
    this.#pending -= length;
    if (this.#pending < WRITE_BUFFER / 2) {
      for (const { resolve } of this.#blocked.splice(0)) resolve();
    }
    return segment;
  }

  /** The channel that carried the segment is lost, and the segment with it. */
  takeBack(segment: Segment): void {
    if (this.#error) return;
    this.#againBytes += segment.length;
    const at = this.#again.findIndex(({ offset }) => offset > segment.offset);
    if (at < 0) this.#again.push(segment);
    else this.#again.splice(at, 0, segment);
  }

  fail(error: DcpipeError): void {
    if (this.#error) return;
    this.#error = error;
    this.#pieces = [];
    this.#again = [];
    this.#againBytes = 0;
    this.#pending = 0;
    for (const { reject } of this.#blocked.splice(0)) reject(error);
  }

  /** Many small writes make few pieces: half a million one-byte ones must not be half a million objects. */
  #collect(chunk: Uint8Array): void {
    const last = this.#pieces.at(-1);
    let tail = this.#tail;
    const open = tail && last?.buffer === tail.buffer.buffer && tail.end + chunk.length <= tail.buffer.length;
    if (!tail || !open) {
      tail = { buffer: new Uint8Array(TAIL_SIZE), start: 0, end: 0 };
      this.#tail = tail;
    } else {
      this.#pieces.pop();
      tail.start = tail.end - (last?.length ?? 0);
    }
    tail.buffer.set(chunk, tail.end);
    tail.end += chunk.length;
    this.#pieces.push(tail.buffer.subarray(tail.start, tail.end));
  }
}

function split(segment: Segment, max: number): [Segment, Segment | undefined] {
  if (segment.length <= max) return [segment, undefined];
  const [head, rest] = cut(segment.pieces, max);
  return [
    { offset: segment.offset, length: max, pieces: head },
    { offset: segment.offset + max, length: segment.length - max, pieces: rest },
  ];
}

/** Cuts a list of pieces after `length` bytes. */
function cut(pieces: readonly Uint8Array[], length: number): [Uint8Array[], Uint8Array[]] {
  let at = 0;
  for (const [i, piece] of pieces.entries()) {
    if (at + piece.length < length) {
      at += piece.length;
      continue;
    }
    const inside = length - at;
    const head = pieces.slice(0, i);
    head.push(piece.subarray(0, inside));
    const rest = pieces.slice(i + 1);
    if (inside < piece.length) rest.unshift(piece.subarray(inside));
    return [head, rest];
  }
  return [pieces.slice(), []];
}
