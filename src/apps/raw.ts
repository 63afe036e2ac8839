/**
 * The netcat of data channels: chunks of the source become messages, messages become bytes for the sink. A data channel has
 * no FIN and does not hold its sender back; what is done about either is here.
 */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import { HIGH_WATER, type RawChannel } from "../transport/channel.ts";
import type { Sink, Source } from "./endpoints.ts";

/** What every WebRTC takes, also those that know of no larger ones (RFC 8831, section 6.6). */
export const RAW_MESSAGE_SIZE = 16 * 1024;
/** What has come and the sink has not taken. Nothing slows the other side down, so more is the end. */
const MAX_WAITING = 64 * 1024 * 1024;
/** What a message that waits costs at least: an empty one is not free. */
const MIN_COST = 512;
/**
 * Milliseconds of silence after the end of our source that stand for the end of the other side's, which cannot say it: time
 * to answer what came last.
 */
const LINGER_MS = 3000;
/** `ondrain` comes only where the queue was above its mark at the right moment; this is the safety net. */
const LOOK_MS = 50;

export interface RawPipeOptions {
  readonly source: Source;
  readonly sink: Sink;
  /** Bytes given to the channel, and bytes written to the sink. */
  readonly onprogress?: (sent: number, received: number) => void;
}

/**
 * Runs until the other side closes the channel; or, when there was anything in the source, until its end was followed by
 * some seconds of silence: then this side closes, and waits until all is acknowledged. Rejects with INCOMPLETE when the
 * channel ended with bytes unsent or unacknowledged, PEER_GONE when the other side fell silent, PROTOCOL, LIMIT, and with
 * what source and sink reject with.
 */
export async function pipeRaw(
  channel: RawChannel,
  { source, sink, onprogress }: RawPipeOptions,
): Promise<{ sent: number; received: number }> {
  const queue: Uint8Array[] = [];
  let [sent, received, waiting] = [0, 0, 0];
  let heard = performance.now();
  let wake: (() => void) | undefined;
  let fail!: (error: DcpipeError) => void;
  const failed = new Promise<never>((_, reject) => (fail = reject));
  failed.catch(() => undefined);
  const closed = new Promise<void>((resolve) => {
    channel.onclose = () => {
      resolve();
      wake?.();
    };
    if (channel.closed) resolve();
  });
  channel.onoversize = () => {
    fail(new DcpipeError("PROTOCOL", "the other side sent a message above the limit of our description"));
  };
  channel.onmessage = (message) => {
    heard = performance.now();
    queue.push(message);
    waiting += Math.max(message.length, MIN_COST);
    wake?.();
    if (waiting > MAX_WAITING)
      fail(
        new DcpipeError(
          "LIMIT",
          `the other side sends faster than stdout takes it, and cannot be slowed down: ${MAX_WAITING / 2 ** 20} MiB wait`,
        ),
      );
  };

  /** Ends when the channel is closed and all that came is written. */
  const receive = async (): Promise<void> => {
    for (;;) {
      // Together: a write for each small message would cost more than the message.
      const batch = queue.splice(0);
      if (batch.length === 0) {
        if (channel.closed) break;
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      const bytes = join(batch);
      try {
        if (bytes.length > 0) await sink.write(bytes);
      } catch (error) {
        throw asDcpipeError(error, "IO", "writing failed");
      }
      for (const message of batch) waiting -= Math.max(message.length, MIN_COST);
      received += bytes.length;
      onprogress?.(sent, received);
    }
    await sink.end();
  };

  const size =
    channel.maxMessageSize > 0 ? Math.min(RAW_MESSAGE_SIZE, channel.maxMessageSize) : RAW_MESSAGE_SIZE;
  /** Read, and not given to the channel yet. */
  let inHand = false;
  /** Ends when the source has ended and everything has left our queue. When the channel closes it may end, or never. */
  const send = async (): Promise<void> => {
    for (;;) {
      const chunk = await source.read().catch((error: unknown) => {
        throw asDcpipeError(error, "IO", "reading failed");
      });
      if (!chunk) break;
      inHand = true;
      for (let at = 0; at < chunk.length; at += size) {
        await room(channel, HIGH_WATER);
        const part = chunk.subarray(at, at + size);
        if (!channel.send(part)) return;
        sent += part.length;
        onprogress?.(sent, received);
      }
      inHand = false;
    }
    await room(channel, 0);
  };

  const run = async (): Promise<void> => {
    const receiving = receive();
    receiving.catch(fail);
    await Promise.race([send(), closed]);
    // A source that had nothing to say says nothing about the end either: such a side only listens.
    const ended = performance.now();
    for (;;) {
      const rest = Math.max(heard, ended) + LINGER_MS - performance.now();
      if (channel.closed || sent === 0 || rest <= 0) break;
      await pause(rest, closed);
    }
    if (channel.closed || sent === 0) {
      await receiving;
      await channel.finish();
      if (channel.silent) throw new DcpipeError("PEER_GONE", "the other side has fallen silent");
      if (inHand || channel.bufferedAmount > 0)
        throw new DcpipeError("INCOMPLETE", "the other side closed before everything was sent");
      return;
    }
    const acknowledged = await channel.finish();
    wake?.();
    await receiving;
    if (!acknowledged)
      throw new DcpipeError("INCOMPLETE", "the connection ended before everything was acknowledged");
  };
  try {
    await Promise.race([run(), failed]);
  } finally {
    source.cancel();
  }
  return { sent, received };
}

/** Waits until at most so many bytes are queued, or the channel is closed. */
async function room(channel: RawChannel, bytes: number): Promise<void> {
  while (channel.bufferedAmount > bytes && !channel.closed) {
    await pause(bytes === 0 ? 1 : LOOK_MS, new Promise<void>((resolve) => (channel.ondrain = resolve)));
  }
}

/** Waits for the promise, at most so long. */
async function pause(ms: number, other: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, ms)));
  await Promise.race([late, other]);
  clearTimeout(timer);
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const [only] = parts;
  if (parts.length === 1 && only) return only;
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
