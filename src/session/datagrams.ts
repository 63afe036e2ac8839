/**
 * Datagrams beside the lanes: they may be lost and overtake each other, so none waits behind a lost one.
 *
 *   Stream.sendDatagram --> DATAGRAM on the newest datagram channel ~~~> any datagram channel --> Stream.ondatagram
 *                             queue too long: lost, as in UDP                |  not opened yet, nobody listens yet
 *                                                                            +--> waits here for a moment
 *
 * A datagram channel is no lane: it has no accounts, nothing is sent again, and the session lives without it. What opens a stream
 * travels on the control lane, so a datagram may come before it.
 */
import { DcpipeError } from "../errors.ts";
import type { Channel } from "../transport/channel.ts";
import { Writer } from "../wire/bytes.ts";
import { decodeFrames, MAX_DATAGRAM, writeFrame } from "../wire/frame.ts";
import type { Stream } from "./stream.ts";

/** A longer queue of the channel only makes datagrams late: those that come then are lost. A quarter of a second at 1 MiB/s. */
export const MAX_QUEUE = 256 * 1024;
/** While an old channel gives way to a new one, or both sides have asked at the same moment, two stand. */
export const MAX_CHANNELS = 2;
/** Datagrams that wait for the OPEN of their stream, or for somebody who listens: a burst on each of a few streams. */
export const MAX_WAITING = 256;
export const MAX_WAITING_BYTES = 256 * 1024;
export const MAX_WAITING_STREAM = 64;
/** A datagram whose stream is not opened within this is lost: UDP's users have sent it again by then. */
export const MAX_WAIT_MS = 2000;
/** How far a stream's number may be above the last one opened: no more streams than that are open at once. */
export const MAX_AHEAD = 4096;

/** What datagrams ask of their session. */
export interface DatagramsOwner {
  /** The stream that lives under this number. */
  find(id: number): Stream | undefined;
  /** Whether the number is one of those that this side opens. */
  ours(id: number): boolean;
  /** Whether a stream with this number lives or has lived. */
  opened(id: number): boolean;
  /** The last stream that the other side has opened. */
  horizon(): number;
  /** A channel is wanted and none stands. */
  want(): void;
  /** The other side broke the protocol. */
  broken(cause: unknown): void;
}

interface Waiting {
  readonly stream: number;
  readonly payload: Uint8Array;
  readonly since: number;
}

export class Datagrams {
  wanted = false;
  readonly #owner: DatagramsOwner;
  /** Those that stand, the newest last. */
  #channels: { readonly id: number; readonly channel: Channel }[] = [];
  /** In the order in which they came. */
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #writer = new Writer();

  constructor(owner: DatagramsOwner) {
    this.#owner = owner;
  }

  get ready(): boolean {
    return this.#channels.length > 0;
  }

  want(): void {
    this.wanted = true;
    if (!this.ready) this.#owner.want();
  }

  attach(channel: Channel, id: number): void {
    if (this.#channels.some((other) => other.id === id)) {
      channel.close();
      return;
    }
    const entry = { id, channel };
    this.#channels.push(entry);
    channel.onclose = () => {
      this.#lose(channel);
    };
    channel.onmessage = (message) => {
      this.#receive(message);
    };
    const oldest = this.#channels[0];
    if (oldest && this.#channels.length > MAX_CHANNELS) this.#lose(oldest.channel);
    if (channel.closed) this.#lose(channel);
  }

  /** False when it cannot go. True also when the queue is full and it is lost. */
  send(stream: number, payload: Uint8Array): boolean {
    const channel = this.#channels.at(-1)?.channel;
    if (!channel || payload.length > MAX_DATAGRAM) return false;
    if (channel.bufferedAmount > MAX_QUEUE) return true;
    const writer = this.#writer.reset();
    writeFrame(writer, { type: "DATAGRAM", stream, payload });
    return channel.send(writer.view());
  }

  /** Hands over what has waited for somebody to listen to the stream. */
  release(stream: Stream): void {
    for (const { payload } of this.#take((entry) => entry.stream === stream.id)) stream.datagram(payload);
  }

  /** The stream is over. */
  forget(id: number): void {
    this.#take(({ stream }) => stream === id);
  }

  /** Closes the channels without asking for another one. */
  drop(): void {
    for (const { channel } of this.#channels.splice(0)) hangUp(channel);
  }

  /** Closes the channels and asks for one on the session's new path, if it is wanted. */
  leave(): void {
    this.drop();
    if (this.wanted) this.#owner.want();
  }

  close(): void {
    this.wanted = false;
    this.drop();
    this.#take(() => true);
    clearTimeout(this.#timer);
  }

  #lose(channel: Channel): void {
    hangUp(channel);
    this.#channels = this.#channels.filter((other) => other.channel !== channel);
    if (this.wanted && !this.ready) this.#owner.want();
  }

  #receive(message: Uint8Array): void {
    let id: number;
    let payload: Uint8Array;
    try {
      const [frame, ...more] = decodeFrames(message);
      if (frame?.type !== "DATAGRAM" || more.length > 0)
        throw new DcpipeError("PROTOCOL", "a message that is not a datagram on the datagram channel");
      id = frame.stream;
      payload = frame.payload;
      if (this.#owner.ours(id) && !this.#owner.opened(id))
        throw new DcpipeError("PROTOCOL", `a datagram for stream ${id}, which was never opened`);
    } catch (cause) {
      this.#owner.broken(cause);
      return;
    }
    const stream = this.#owner.find(id);
    if (stream) {
      if (!stream.datagram(payload)) this.#keep(id, payload);
    } else if (!this.#owner.opened(id) && id <= this.#owner.horizon() + MAX_AHEAD) {
      this.#keep(id, payload);
      this.#arm();
    }
  }

  #keep(stream: number, payload: Uint8Array): void {
    if (this.#waiting.length >= MAX_WAITING || this.#waitingBytes + payload.length > MAX_WAITING_BYTES)
      return;
    let count = 0;
    for (const entry of this.#waiting) if (entry.stream === stream) count++;
    if (count >= MAX_WAITING_STREAM) return;
    this.#waiting.push({ stream, payload: payload.slice(), since: performance.now() });
    this.#waitingBytes += payload.length;
  }

  /** Looks for datagrams whose stream has not come in time when the oldest of them is due. */
  #arm(): void {
    if (this.#timer !== undefined) return;
    // One that was refused counts as opened, and nobody will ever listen to it.
    const oldest = this.#waiting.find(({ stream }) => !this.#owner.find(stream));
    if (!oldest) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        const due = performance.now() - MAX_WAIT_MS;
        this.#take(({ stream, since }) => since <= due && !this.#owner.find(stream));
        this.#arm();
      },
      Math.max(1, oldest.since + MAX_WAIT_MS - performance.now()),
    );
  }

  /** Takes out those that match, in the order in which they came. */
  #take(matches: (entry: Waiting) => boolean): Waiting[] {
    const taken: Waiting[] = [];
    this.#waiting = this.#waiting.filter((entry) => {
      if (!matches(entry)) return true;
      taken.push(entry);
      this.#waitingBytes -= entry.payload.length;
      return false;
    });
    return taken;
  }
}

function hangUp(channel: Channel): void {
  channel.onmessage = undefined;
  channel.onclose = undefined;
  channel.close();
}
