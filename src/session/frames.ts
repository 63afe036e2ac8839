/**
 * Buffers for bytes on their way out. They come back when the other side has what was in them, so a sender at full speed
 * makes no garbage, and a writer may use its own buffer again at once.
 */

/** A stream with much to send fills large buffers, one with little small ones: a thousand idle streams must stay cheap. */
export const LARGE_BUFFER = 64 * 1024;
export const SMALL_BUFFER = 2 * 1024;
/** Buffers kept for later: more than one fast stream has in flight would only sit there. */
const KEPT_LARGE = 64;
const KEPT_SMALL = 256;

export interface FrameBuffer {
  readonly bytes: Uint8Array;
  /** Bytes written into it. */
  filled: number;
  /** Bytes in it that are not acknowledged. */
  held: number;
}

const large: FrameBuffer[] = [];
const small: FrameBuffer[] = [];

export function takeBuffer(size: number): FrameBuffer {
  const wanted = size < SMALL_BUFFER ? SMALL_BUFFER : LARGE_BUFFER;
  const buffer = (wanted === LARGE_BUFFER ? large : small).pop();
  return buffer ?? { bytes: new Uint8Array(wanted), filled: 0, held: 0 };
}

export function giveBuffer(buffer: FrameBuffer): void {
  buffer.filled = 0;
  buffer.held = 0;
  const [pool, kept] = buffer.bytes.length === LARGE_BUFFER ? [large, KEPT_LARGE] : [small, KEPT_SMALL];
  if (pool.length < kept) pool.push(buffer);
}
