/**
 * The sending half of a stream: bytes wait here until a channel takes them, and are kept until the other side has them. What
 * a lost channel had not delivered comes back and goes out again first.
 */
import { DcpipeError } from "../errors.ts";
import { giveBuffer, takeBuffer, type FrameBuffer } from "./frames.ts";
import { INITIAL_WINDOW } from "./inbound.ts";

/** A writer waits while more than this has not left: enough for several frames, little enough for any number of streams. */
export const WRITE_BUFFER = 512 * 1024;

/** A run of bytes inside one buffer. */
export interface Piece {
  readonly buffer: FrameBuffer;
  readonly start: number;
  readonly end: number;
}

/** A run of bytes of the stream on its way. */
export interface Segment {
  readonly offset: number;
  readonly length: number;
  readonly pieces: readonly Piece[];
}

export class Outbound {
  /** Offset up to which the other side has granted credit. */
  limit = INITIAL_WINDOW;
  /** Bytes that the other side is known to have. */
  acknowledged = 0;
  #pieces: Piece[] = [];
  #pending = 0;
  #offset = 0;
  #again: Segment[] = [];
  #againBytes = 0;
  /** The buffer that takes the next bytes. */
  #tail: FrameBuffer | undefined;
  #final: number | undefined;
  #error: DcpipeError | undefined;
  #blocked: { resolve: () => void; reject: (error: Error) => void }[] = [];

  /** Bytes written and not yet handed to a channel, credit or not. */
  get pending(): number {
    return this.#pending;
  }

  /** Bytes that no channel has: not yet, or not any more. */
  get unsent(): number {
    return this.#pending + this.#againBytes;
  }

  /** Bytes with a channel and not acknowledged. */
  get flight(): number {
    return this.#offset - this.#againBytes - this.acknowledged;
  }

  /** Where the next segment begins. */
  get offset(): number {
    return this.#again[0]?.offset ?? this.#offset;
  }

  /** Bytes that may leave now. */
  get sendable(): number {
    return this.#againBytes + Math.min(this.#pending, Math.max(0, this.limit - this.#offset));
  }

  /** The writer has ended; then the length of the stream. */
  get final(): number | undefined {
    return this.#final;
  }

  /** Queues a copy of the chunk. Resolves when there is room for more. */
  write(chunk: Uint8Array): Promise<void> {
    if (this.#error) return Promise.reject(this.#error);
    if (this.#final !== undefined)
      return Promise.reject(new DcpipeError("CLOSED", "write after the end of the stream"));
    for (let at = 0; at < chunk.length;) at += this.#copy(chunk, at);
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

  /** The other side has the segment. */
  delivered(segment: Segment): void {
    this.acknowledged += segment.length;
    for (const { buffer, start, end } of segment.pieces) {
      buffer.held -= end - start;
      if (buffer.held > 0) continue;
      if (buffer === this.#tail) this.#tail = undefined;
      giveBuffer(buffer);
    }
  }

  /** The channel that carried the segment is lost, and the segment with it. */
  takeBack(segment: Segment): void {
    if (this.#error) return;
    this.#againBytes += segment.length;
    const at = this.#again.findIndex(({ offset }) => offset > segment.offset);
    if (at < 0) this.#again.push(segment);
    else this.#again.splice(at, 0, segment);
  }

  /** Ends it all; buffers that are still in flight are left to the garbage collector. */
  fail(error: DcpipeError): void {
    if (this.#error) return;
    this.#error = error;
    this.#pieces = [];
    this.#tail = undefined;
    this.#again = [];
    this.#againBytes = 0;
    this.#pending = 0;
    for (const { reject } of this.#blocked.splice(0)) reject(error);
  }

  /** Copies from `at` on as much as one buffer takes. Returns how much. */
  #copy(chunk: Uint8Array, at: number): number {
    let tail = this.#tail;
    if (!tail || tail.filled === tail.bytes.length) {
      tail = takeBuffer(chunk.length - at + this.#pending);
      this.#tail = tail;
    }
    const start = tail.filled;
    const length = Math.min(chunk.length - at, tail.bytes.length - start);
    tail.bytes.set(at === 0 && length === chunk.length ? chunk : chunk.subarray(at, at + length), start);
    tail.filled += length;
    tail.held += length;
    this.#pending += length;
    const last = this.#pieces.at(-1);
    if (last?.buffer === tail && last.end === start)
      this.#pieces[this.#pieces.length - 1] = { ...last, end: tail.filled };
    else this.#pieces.push({ buffer: tail, start, end: tail.filled });
    return length;
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
function cut(pieces: readonly Piece[], length: number): [Piece[], Piece[]] {
  let at = 0;
  for (const [i, piece] of pieces.entries()) {
    const size = piece.end - piece.start;
    if (at + size < length) {
      at += size;
      continue;
    }
    const middle = piece.start + length - at;
    const head = [...pieces.slice(0, i), { ...piece, end: middle }];
    const rest = pieces.slice(i + 1);
    if (middle < piece.end) rest.unshift({ ...piece, start: middle });
    return [head, rest];
  }
  return [pieces.slice(), []];
}
