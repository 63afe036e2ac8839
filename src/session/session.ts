/**
 * A session: streams between two peers over lanes (channels) that come and go.
 *
 *   streams        lanes                                   frames
 *   +---------+    +------------------+  every message within one packet: OPEN, FIN, WINDOW, ACK, ..., small DATA
 *   | Stream  |--->| control lane     |------------------------------------------------------------------------>
 *   | Stream  |    +------------------+
 *   | Stream  |--->| bulk lane, ...   |  64 KiB DATA; as many lanes as the path needs (governor.ts)
 *   +---------+    +------------------+------------------------------------------------------------------------>
 *
 *   running --all lanes lost--> down --attach--> running      connect/ makes lanes and gives up when it must
 *      |  close(): all streams done, GOAWAY both ways
 *      +--> closing --> closed
 *
 * Mixing bulk and control on one association starves control for seconds, hence two kinds of lane. What a dead lane had not
 * delivered goes out again on another one, exactly (lane.ts). The session knows nothing of how lanes are made.
 */
import { DcpipeError } from "../errors.ts";
import type { Channel } from "../transport/channel.ts";
import {
  DATA_OVERHEAD,
  dataOverhead,
  decodeFrames,
  encodeFrame,
  MAX_CONTROL_MESSAGE,
  MAX_HEADER,
  MAX_PAYLOAD,
  writeData,
  writeFrame,
  type Frame,
  type Reason,
} from "../wire/frame.ts";
import { Writer } from "../wire/bytes.ts";
import type { Role } from "../wire/hello.ts";
import { Datagrams } from "./datagrams.ts";
import { Governor } from "./governor.ts";
import { INITIAL_WINDOW, MAX_WINDOW } from "./inbound.ts";
import { Lane, type Notice } from "./lane.ts";
import type { Piece, Segment } from "./outbound.ts";
import { DEAD_MS, HEARTBEAT_MS, Pulse, TICK_MS } from "./pulse.ts";
import { remoteError } from "./reasons.ts";
import { soon } from "./soon.ts";
import { Stream, type StreamOwner } from "./stream.ts";

/** Streams the other side may have open at once: a busy port forward needs hundreds; each may hold a window of memory. */
export const MAX_STREAMS = 4096;
/** Memory that all windows of a session may grow to beyond their initial size: one fast stream in full, and others. */
const WINDOW_BUDGET = 3 * MAX_WINDOW;
/** What a stream is granted at once: 100 Mbit/s over 300 ms without growing. */
const WELCOME_WINDOW = 4 * 1024 * 1024;
/** Of several streams each is granted so small a part of what is left. */
const WELCOME_SHARE = 16;
/** Streams with more than this to send, all together, ask for bulk lanes. */
const BULK = 16 * 1024;
/** Beside bulk lanes the control lane carries interactive data only, and so much of it at once at most. */
const CONTROL_FLIGHT = 128 * 1024;
/** And so many messages a turn: what many streams have to say together is not a keystroke, and goes faster in large messages. */
const CONTROL_BURST = 1;
/**
 * A message of several streams is as long as an association sends at once (usrsctp's burst of ten packets): it arrives as a whole, so
 * the first of a longer one would wait for the last.
 */
const JOINED_MESSAGE = 12_000;
/** An acknowledgement waits for company this long, unless this many bytes have come. */
const ACK_DELAY_MS = 10;
const ACK_BYTES = 512 * 1024;
/** Type and two numbers. */
const ACK_SIZE = 1 + 8 + 8;
/** Slow start from ten packets to a full window takes six or seven round trips; three full windows overflow many a queue. */
const WARM_UP_ROUND_TRIPS = 4;
const MAX_WARM_UP_ROUND_TRIPS = 16;
/** A lane that makes no progress for this long while others live is dead: SCTP's retransmissions end near 13 s. */
const LANE_DEAD_MS = 9000;
/** After something has happened to the network, lanes are given this, for so long. */
const SHAKEN_LANE_MS = 2500;
const SHAKEN_MS = 10_000;
/** Dead channels of which the other side has not confirmed that it knows; the honest ones come to a hundred or two. */
const MAX_DEAD_LANES = 1024;
/** After both GOAWAYs one side waits for the other to hang up; a lost packet costs a second, not for ever. */
const LINGER_MS = 2000;
/** Control frames that may wait for their acknowledgement: sixteen for each stream there can be. */
const MAX_NOTICES = 16 * MAX_STREAMS;
/** How long a farewell with bad news may take to arrive. */
const ABORT_MS = 500;

export interface SessionEvents {
  /** The round-trip time is known for the first time. */
  onrtt?: (() => void) | undefined;
  /** A message for the layer that makes channels. */
  onsignal?: ((payload: Uint8Array) => void) | undefined;
  /** The session would use this many bulk lanes. */
  onwant?: ((lanes: number) => void) | undefined;
  /** The session wants a datagram channel and has none. */
  onwantdatagrams?: (() => void) | undefined;
  /** A stream is over. */
  onstreamgone?: (() => void) | undefined;
  /** The path may be dead: nothing is heard, or no question is answered. Or it lives after all (false). */
  onsuspicion?: ((suspicious: boolean) => void) | undefined;
  /** A lane was lost or closed; `left` remain. At 0 the session waits for a new one. */
  onlane?: ((id: number, left: number, reason: string) => void) | undefined;
  /** The session is over: undefined when all was well. */
  onclosed?: ((error: DcpipeError | undefined) => void) | undefined;
}

type State = "running" | "closing" | "closed";

/** A segment in a message. */
interface Sent {
  readonly stream: Stream;
  readonly segment: Segment;
}

interface DeadLane {
  readonly id: number;
  /** Undefined when it stood on the other side only. */
  readonly lane: Lane | undefined;
  /** The other side knows how much came over it. */
  told: boolean;
  /** The other side has said how much came over it; the rest goes out again. */
  settled: boolean;
}

export class Session implements SessionEvents {
  onrtt: SessionEvents["onrtt"];
  onsignal: SessionEvents["onsignal"];
  onwant: SessionEvents["onwant"];
  onwantdatagrams: SessionEvents["onwantdatagrams"];
  onstreamgone: SessionEvents["onstreamgone"];
  onsuspicion: SessionEvents["onsuspicion"];
  onlane: SessionEvents["onlane"];
  onclosed: SessionEvents["onclosed"];
  /** Resolves when the session is over and all was well; rejects with the reason otherwise. */
  readonly closed: Promise<void>;
  #resolveClosed!: () => void;
  #rejectClosed!: (error: DcpipeError) => void;
  #state: State = "running";
  #error: DcpipeError | undefined;

  readonly #lanes = new Map<number, Lane>();
  /** Dead lanes: their accounts stay open until each side has told the other what arrived. */
  readonly #dead = new Map<number, DeadLane>();
  readonly #seenLanes = new Set<number>();
  #control: Lane | undefined;
  /** When the first bulk lane of those that stand came. */
  #bulkSince = Infinity;

  readonly #streams = new Map<number, Stream>();
  /** Streams that may have something to send, in the order of their turns. */
  readonly #ready = new Set<Stream>();
  /** Streams the other side opened and nobody has taken, or those who wait for one. */
  readonly #unclaimed: Stream[] = [];
  #diversion: ((stream: Stream) => boolean) | undefined;
  #claimants: { resolve: (stream: Stream) => void; reject: (error: Error) => void }[] = [];
  #nextId: number;
  #highestPeerId: number;
  #peerStreams = 0;
  #grown = 0;
  readonly #owner: StreamOwner;
  readonly #datagrams = new Datagrams({
    find: (id) => this.#streams.get(id),
    ours: (id) => id % 2 === this.#nextId % 2,
    opened: (id) => id <= (id % 2 === this.#nextId % 2 ? this.#nextId - 2 : this.#highestPeerId),
    horizon: () => this.#highestPeerId,
    want: () => {
      if (this.datagramsWanted) this.onwantdatagrams?.();
    },
    broken: (cause) => {
      this.#broken(cause);
    },
  });

  /** Control frames that must arrive, in order; those that must arrive on this lane; those that may be lost (PING, PONG). */
  #notices: Notice[] = [];
  #urgent: Notice[] = [];
  #fleeting: Uint8Array[] = [];
  readonly #writer = new Writer(MAX_PAYLOAD + MAX_CONTROL_MESSAGE);
  #pumpQueued = false;
  #ackTimer: ReturnType<typeof setTimeout> | undefined;

  readonly #ticker: ReturnType<typeof setInterval>;
  readonly #pulse = new Pulse((id) => {
    this.#fleeting.push(encodeFrame({ type: "PING", id }));
    this.#wake();
  });
  #governor: Governor | undefined;
  #wanted = 0;
  #limited = false;
  #suspicious = false;
  #shakenUntil = 0;
  #delivered = 0;

  #goawaySent = false;
  #goawayReceived = false;
  #lingerTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(role: Role) {
    this.#nextId = role === "waiting" ? 0 : 1;
    this.#highestPeerId = role === "waiting" ? -1 : -2;
    this.closed = new Promise((resolve, reject) => {
      this.#resolveClosed = resolve;
      this.#rejectClosed = reject;
    });
    this.closed.catch(() => undefined);
    this.#owner = {
      wake: (stream) => {
        // Who writes to a stream that has ended is told so by the write; here nothing of it is to stay.
        if (this.#streams.get(stream.id) === stream) this.#ready.add(stream);
        this.#wake();
      },
      sendFin: (stream, offset) => {
        this.#notify({ type: "FIN", stream: stream.id, offset });
      },
      sendFinAck: (stream) => {
        this.#notify({ type: "FIN_ACK", stream: stream.id });
      },
      sendReset: (stream, reason, text) => {
        this.#notify({ type: "RESET", stream: stream.id, reason, text });
      },
      sendBreak: (stream, offset, reason, text) => {
        this.#notify({ type: "BREAK", stream: stream.id, offset, reason, text });
      },
      sendWindow: (stream, limit) => {
        this.#notify({ type: "WINDOW", stream: stream.id, limit });
      },
      budget: (wanted) => {
        const grant = Math.min(wanted, WINDOW_BUDGET - this.#grown);
        this.#grown += grant;
        return grant;
      },
      rtt: () => this.#pulse.rtt,
      sendDatagram: (stream, payload) => this.#datagrams.send(stream.id, payload),
      listens: (stream) => {
        this.#datagrams.release(stream);
      },
      gone: (stream) => {
        this.#forget(stream);
      },
    };
    this.#ticker = setInterval(() => {
      this.#tick();
    }, TICK_MS);
  }

  /** Smoothed round-trip time in milliseconds, 0 while unknown. */
  get rtt(): number {
    return this.#pulse.rtt;
  }

  /** Round-trip time of the path without our own queue in it, 0 while unknown. */
  get leastRtt(): number {
    return this.#pulse.leastRtt;
  }

  get state(): State | "down" {
    return this.#state === "running" && this.#lanes.size === 0 ? "down" : this.#state;
  }

  /** Whether there is any lane, whatever else the session is about. */
  get connected(): boolean {
    return this.#lanes.size > 0;
  }

  /** Whether the session goes through a relay now. */
  get relayed(): boolean {
    return this.#control?.relayed === true;
  }

  /** Bulk lanes that stand, and how many the session would use. */
  get lanes(): { bulk: number; wanted: number } {
    return { bulk: this.#bulk().length, wanted: this.#wanted };
  }

  /** What each lane carries: bytes in flight and how many it may have. For status and logs. */
  get laneStatus(): { id: number; bulk: boolean; flight: number; allowance: number; delivered: number }[] {
    return [...this.#lanes.values()].map((lane) => ({
      id: lane.id,
      bulk: lane.bulk,
      flight: lane.flight,
      allowance: Math.round(lane.allowance(this.#pulse.leastRtt)),
      delivered: lane.delivered,
    }));
  }

  /** Streams that live. */
  get streams(): number {
    return this.#streams.size;
  }

  /** Opens a stream; the header says what for, at most MAX_HEADER bytes. Data may follow at once. */
  open(header: Uint8Array): Stream {
    if (this.#state !== "running") throw this.#error ?? new DcpipeError("CLOSED", "the session is closed");
    if (this.#goawayReceived) throw new DcpipeError("CLOSED", "the other side takes no more streams");
    if (header.length > MAX_HEADER)
      throw new DcpipeError("USAGE", `a stream header of ${header.length} bytes, at most ${MAX_HEADER}`);
    const stream = new Stream(this.#owner, this.#nextId, header, undefined);
    this.#nextId += 2;
    this.#adopt(stream);
    this.#notices.push({
      bytes: encodeFrame({ type: "OPEN", stream: stream.id, header }),
      opens: stream,
      sent: (lane) => {
        if (stream.openedOn !== "known") stream.openedOn = lane.id;
      },
      arrived: () => {
        stream.openedOn = "known";
      },
    });
    this.#welcome(stream);
    this.#wake();
    return stream;
  }

  /** Streams of the other side that `take` says yes to, those that wait included, are the taker's: `accept` does not give them. */
  divert(take: (stream: Stream) => boolean): void {
    this.#diversion = take;
    this.#unclaimed.push(...this.#unclaimed.splice(0).filter((stream) => !take(stream)));
  }

  /** The next stream the other side opens. Rejects when the session ends, or with ABORTED by the signal. */
  accept({ signal }: { signal?: AbortSignal } = {}): Promise<Stream> {
    const stream = this.#unclaimed.shift();
    if (stream) return Promise.resolve(stream);
    if (this.#state === "closed" || this.#error || this.#goawayReceived) {
      return Promise.reject(this.#error ?? new DcpipeError("CLOSED", "the session is closed"));
    }
    return new Promise((resolve, reject) => {
      const claimant = { resolve, reject };
      this.#claimants.push(claimant);
      const abort = (): void => {
        this.#claimants = this.#claimants.filter((other) => other !== claimant);
        reject(new DcpipeError("ABORTED", "stopped", { cause: signal?.reason }));
      };
      if (signal?.aborted) abort();
      else signal?.addEventListener("abort", abort, { once: true });
    });
  }

  /**
   * Adds a channel under a number both sides use: even when the waiting side asked for it, else odd. Bulk channels
   * must carry messages of 64 KiB and a little. A `relayed` control channel gives way to one that is not: what it carries still arrives,
   * then it is closed, and so are relayed bulk channels.
   */
  attach(channel: Channel, id: number, kind: "control" | "bulk", relayed = false): void {
    if (this.#state === "closed") {
      channel.close();
      return;
    }
    if (this.#seenLanes.has(id)) {
      // Its accounts are closed: the other side lost it before it stood here.
      channel.close();
      this.onlane?.(id, this.#lanes.size, "the other side lost the channel");
      return;
    }
    const lane = new Lane(id, channel, kind === "bulk", relayed);
    if (lane.bulk && this.#bulk().length === 0) this.#bulkSince = performance.now();
    // Large packets pass on short paths, where one lane will do, whatever busy processes took the path for.
    if (this.#governor && channel.packet !== undefined && this.#dwarfs(channel.packet))
      this.#governor = new Governor(0);
    this.#lanes.set(id, lane);
    this.#seenLanes.add(id);
    this.#pulse.heard();
    const former = this.#control;
    if (!lane.bulk && (!former || former.bulk || (former.relayed && !relayed))) this.#control = lane;
    this.#control ??= lane;
    channel.onmessage = (message) => {
      this.#receive(lane, message);
    };
    channel.onclose = () => {
      this.#lose(lane, "the channel closed");
    };
    channel.ondrain = () => {
      this.#wake();
    };
    if (channel.closed) {
      this.#lose(lane, "the channel closed");
      return;
    }
    if (lane === this.#control) {
      for (const entry of this.#dead.values()) this.#tellLost(entry);
      this.#pulse.renew();
      if (!relayed && former?.relayed) this.#leaveRelay();
    }
    this.#wake();
  }

  /** Takes all lanes for lost: the path is known to be dead. */
  drop(reason: string): void {
    for (const lane of [...this.#lanes.values()]) this.#lose(lane, reason);
  }

  /** Milliseconds for which nothing was heard. */
  get silence(): number {
    return this.#pulse.silence;
  }

  /** Something has happened to the network: asks the other side for a sign of life, and has less patience with lanes for a while. */
  probe(): void {
    if (this.#lanes.size === 0) return;
    this.#shakenUntil = performance.now() + SHAKEN_MS;
    this.#pulse.probe();
  }

  /** Asks for a datagram channel, now and whenever it is lost. The other side need not ask. Idempotent. */
  wantDatagrams(): void {
    if (this.#state !== "closed") this.#datagrams.want();
  }

  /** Adds a datagram channel, made by either side, under a number of its own. It is no lane: the session lives without it. */
  attachDatagrams(channel: Channel, id: number): void {
    if (this.#state === "closed") channel.close();
    else this.#datagrams.attach(channel, id);
  }

  get datagramsWanted(): boolean {
    return this.#datagrams.wanted && !this.#goawaySent && !this.#error;
  }

  /** Whether datagrams can be sent now. */
  get datagramsReady(): boolean {
    return this.#datagrams.ready;
  }

  /** Sends a message to the other side's `onsignal`; it arrives once, whatever channels die. */
  signal(payload: Uint8Array): void {
    this.#notify({ type: "SIGNAL", payload });
  }

  /**
   * Ends the session well: waits until every stream is done on both sides, then says good-bye. Resolves when it is over.
   */
  close(): Promise<void> {
    if (this.#state === "running") {
      this.#state = "closing";
      this.#farewell();
    }
    return this.closed;
  }

  /** Ends the session badly: tells the other side why if it can still be told, and fails every stream. */
  abort(reason: Reason, text: string, error = new DcpipeError(reason, text)): Promise<void> {
    if (this.#state === "closed" || this.#error) return this.closed.catch(() => undefined);
    this.#error = error;
    this.#state = "closing";
    for (const stream of [...this.#streams.values()]) stream.fail(error);
    for (const { reject } of this.#claimants.splice(0)) reject(error);
    const lane = this.#control;
    if (!lane) {
      this.#finish(error);
      return Promise.resolve();
    }
    this.#notices = [];
    this.#notices.push({
      bytes: encodeFrame({ type: "GOAWAY", reason, text }),
      arrived: () => {
        this.#finish(error);
      },
    });
    // At once: a page that goes has no next task.
    this.#pump();
    this.#lingerTimer = setTimeout(() => {
      this.#finish(error);
    }, ABORT_MS);
    return this.closed.catch(() => undefined);
  }

  /** Gives up: no lane will come any more. */
  fail(error: DcpipeError): void {
    this.#finish(error);
  }

  // ---- sending ------------------------------------------------------------------------------------------------------

  #notify(frame: Frame): void {
    this.#notices.push({ bytes: encodeFrame(frame) });
    this.#wake();
  }

  #wake(): void {
    if (this.#pumpQueued) return;
    this.#pumpQueued = true;
    soon(() => {
      this.#pumpQueued = false;
      this.#pump();
    });
  }

  /** Moves what can move: control frames first, then small data, then bulk. */
  #pump(): void {
    const control = this.#control;
    if (!control || this.#state === "closed") return;
    const bulk = this.#bulk();
    for (
      let sent = 0;
      this.#control === control && this.#sendControl(control, bulk.length > 0, sent);
      sent++
    );
    // The lane died under us; its heir may be one of the bulk lanes.
    if (this.#control !== control) return;
    this.#sendBulk(bulk);
    this.#consider();
  }

  /** Builds and sends one control message, after `sent` others this turn; false when there was nothing to send or no room. */
  #sendControl(lane: Lane, hasBulk: boolean, sent: number): boolean {
    const writer = this.#writer.reset();
    const notices: Notice[] = [];
    const segments: Sent[] = [];
    for (const bytes of this.#fleeting.splice(0, 16)) writer.raw(bytes);
    this.#takeNotices(this.#urgent, lane.packet, writer, notices);
    // A frame that another lane may not have delivered must not be overtaken by a later one.
    if (!this.#unsettledNotices()) this.#takeNotices(this.#notices, lane.packet, writer, notices);
    if (writer.length > 0 || this.#acksOverdue()) this.#writeAcks(writer, lane.packet);
    const alone = !hasBulk || !this.#bulkWarm(lane);
    const flight = alone ? lane.modestAllowance(this.#pulse.leastRtt) : CONTROL_FLIGHT;
    if (lane.flight < flight) {
      for (const stream of this.#ready) {
        const free = lane.packet - writer.length - dataOverhead(stream.id, stream.offset);
        if (free < 64) break;
        // What a stream begins with follows its OPEN in one packet.
        if (!this.#mayGo(stream) && !notices.some(({ opens }) => opens === stream)) continue;
        // Bulk lanes take no data of a stream that the other side may not know yet.
        const byBulk =
          !alone && stream.openedOn === "known" && (sent >= CONTROL_BURST || !stream.interactive);
        if (byBulk) continue;
        const segment = this.#take(stream, free);
        if (!segment) continue;
        writeData(writer, stream.id, segment.offset, segment.pieces.map(view));
        segments.push({ stream, segment });
      }
    }
    if (writer.length === 0) return false;
    if (lane.send(writer.view(), notices, segments)) {
      for (const notice of notices) notice.sent?.(lane);
      return true;
    }
    this.#takeBack(notices, segments);
    this.#lose(lane, "the channel closed");
    return false;
  }

  /** Bulk lanes start slowly; until together they are as fast as the control lane, which is ahead, it carries data too. */
  #bulkWarm(control: Lane): boolean {
    const age = performance.now() - this.#bulkSince;
    if (age <= WARM_UP_ROUND_TRIPS * this.#pulse.rtt) return false;
    if (age > MAX_WARM_UP_ROUND_TRIPS * this.#pulse.rtt) return true;
    let rate = 0;
    for (const lane of this.#bulk()) rate += lane.rate;
    return rate >= control.rate;
  }

  /** Moves frames from a queue into the message while they fit one packet. */
  #takeNotices(queue: Notice[], packet: number, writer: Writer, taken: Notice[]): void {
    let count = 0;
    for (const notice of queue) {
      if (writer.length > 0 && writer.length + notice.bytes.length > packet) break;
      writer.raw(notice.bytes);
      taken.push(notice);
      count++;
    }
    queue.splice(0, count);
  }

  #sendBulk(bulk: readonly Lane[]): void {
    this.#limited = false;
    if (bulk.length === 0) return;
    for (;;) {
      if (!this.#someForBulk()) return;
      const lane = this.#roomiest(bulk);
      if (!lane) {
        this.#limited = true;
        return;
      }
      const writer = this.#writer.reset();
      const segments: Sent[] = [];
      // What many streams have to say goes into one message.
      for (const stream of this.#ready) {
        const free = (segments.length === 0 ? MAX_PAYLOAD : JOINED_MESSAGE - DATA_OVERHEAD) - writer.length;
        if (free <= 0) break;
        if (stream.openedOn !== "known") continue;
        const segment = this.#take(stream, free);
        if (!segment) continue;
        writeData(writer, stream.id, segment.offset, segment.pieces.map(view));
        segments.push({ stream, segment });
      }
      if (!lane.send(writer.view(), [], segments)) {
        this.#takeBack([], segments);
        this.#lose(lane, "the channel closed");
        return;
      }
    }
  }

  #someForBulk(): boolean {
    for (const stream of this.#ready) if (stream.openedOn === "known" && stream.sendable > 0) return true;
    return false;
  }

  /** Takes a segment off a stream, whose next turn comes after all others'. */
  #take(stream: Stream, max: number): Segment | undefined {
    const segment = stream.take(max);
    this.#ready.delete(stream);
    if (segment && stream.sendable > 0) this.#ready.add(stream);
    return segment;
  }

  /** The lane with the smallest share of its allowance in flight, if any has room. */
  #roomiest(lanes: readonly Lane[]): Lane | undefined {
    let best: Lane | undefined;
    let bestShare = Infinity;
    for (const lane of lanes) {
      if (lane.draining || lane.channel.closed || !lane.room(this.#pulse.leastRtt)) continue;
      const share = lane.flight / lane.allowance(this.#pulse.leastRtt);
      if (share < bestShare) [best, bestShare] = [lane, share];
    }
    return best;
  }

  /** Whether data of the stream may go on the control lane: OPEN went before it there, or has arrived. */
  #mayGo(stream: Stream): boolean {
    return stream.openedOn === "known" || stream.openedOn === this.#control?.id;
  }

  #bulk(): Lane[] {
    const lanes: Lane[] = [];
    for (const lane of this.#lanes.values()) {
      // One that is left behind with the relay has no part in what follows.
      if (lane.bulk && lane !== this.#control && (!lane.relayed || this.relayed)) lanes.push(lane);
    }
    return lanes;
  }

  /** Whether packets of that size are far larger than those of the bulk lanes there are. */
  #dwarfs(packet: number): boolean {
    const bulk = this.#bulk();
    return bulk.length > 0 && bulk.every((lane) => packet > 2 * (lane.channel.packet ?? Infinity));
  }

  #unsettledNotices(): boolean {
    for (const { lane, settled } of this.#dead.values()) {
      if (!settled && lane && lane.notices > 0) return true;
    }
    for (const lane of this.#lanes.values()) {
      if (lane !== this.#control && lane.notices > 0) return true;
    }
    return false;
  }

  #takeBack(notices: readonly Notice[], segments: readonly Sent[]): void {
    this.#notices = [...notices, ...this.#notices];
    for (const { stream, segment } of segments) {
      stream.takeBack(segment);
      this.#ready.add(stream);
    }
  }

  // ---- acknowledgements ---------------------------------------------------------------------------------------------

  #acksOverdue(): boolean {
    for (const lane of this.#lanes.values()) {
      if (lane.ackDue && lane.unacknowledgedBytes >= ACK_BYTES) return true;
    }
    return false;
  }

  #writeAcks(writer: Writer, packet: number): void {
    for (const lane of this.#lanes.values()) {
      if (!lane.ackDue || writer.length > packet - ACK_SIZE) continue;
      writeFrame(writer, { type: "ACK", channel: lane.id, count: lane.received });
      lane.acknowledged = lane.received;
      lane.unacknowledgedBytes = 0;
      lane.ackDue = false;
    }
  }

  #owe(lane: Lane, size: number): void {
    lane.ackDue = true;
    lane.unacknowledgedBytes += size;
    if (lane.unacknowledgedBytes >= ACK_BYTES) {
      this.#wake();
      return;
    }
    this.#ackTimer ??= setTimeout(() => {
      this.#ackTimer = undefined;
      const control = this.#control;
      // Those of a hundred lanes do not fit one message.
      while (control && this.#control === control) {
        const writer = this.#writer.reset();
        this.#writeAcks(writer, control.packet);
        if (writer.length === 0) return;
        if (!control.send(writer.view(), [], [])) this.#lose(control, "the channel closed");
      }
    }, ACK_DELAY_MS);
  }

  /** Acknowledgements that went by a lane that died may be lost, and who waits for them sends nothing that brings new ones. */
  #owesAll(): void {
    for (const lane of this.#lanes.values()) if (lane.received > 0) this.#owe(lane, 0);
  }

  // ---- receiving ----------------------------------------------------------------------------------------------------

  #receive(lane: Lane, message: Uint8Array): void {
    if (this.#lanes.get(lane.id) !== lane) return;
    this.#pulse.heard();
    lane.received++;
    try {
      let owes = false;
      for (const frame of decodeFrames(message)) {
        // After bad news nothing counts but that it arrives.
        if (!this.#error || frame.type === "ACK" || frame.type === "LOST") this.#handle(frame);
        owes ||= frame.type !== "ACK" && frame.type !== "PING" && frame.type !== "PONG";
      }
      if (owes) this.#owe(lane, message.length);
      if (this.#notices.length + (this.#control?.notices ?? 0) > MAX_NOTICES)
        throw new DcpipeError("LIMIT", "it makes us answer and does not listen");
    } catch (cause) {
      this.#broken(cause);
    }
  }

  #broken(cause: unknown): void {
    const error =
      cause instanceof DcpipeError ? cause : new DcpipeError("PROTOCOL", String(cause), { cause });
    const local = new DcpipeError(error.code, `the other side broke the protocol: ${error.message}`, {
      cause,
    });
    void this.abort(error.code === "LIMIT" ? "LIMIT" : "PROTOCOL", error.message, local);
  }

  #handle(frame: Frame): void {
    switch (frame.type) {
      case "OPEN":
        this.#accept(frame.stream, frame.header);
        break;
      case "DATA":
        this.#find(frame.stream)?.receive(frame.offset, frame.payload);
        break;
      case "FIN":
        this.#find(frame.stream)?.finish(frame.offset);
        break;
      case "FIN_ACK":
        this.#find(frame.stream)?.finAcked();
        break;
      case "RESET":
        this.#find(frame.stream)?.fail(remoteError(frame.reason, frame.text));
        break;
      case "WINDOW":
        this.#find(frame.stream)?.granted(frame.limit);
        break;
      case "BREAK":
        this.#find(frame.stream)?.finish(frame.offset, remoteError(frame.reason, frame.text));
        break;
      case "ACK":
        this.#acked(frame.channel, frame.count);
        break;
      case "LOST":
        this.#peerLost(frame.channel, frame.count);
        break;
      case "PING":
        if (this.#fleeting.length < 64) this.#fleeting.push(encodeFrame({ type: "PONG", id: frame.id }));
        this.#wake();
        break;
      case "PONG":
        if (this.#pulse.pong(frame.id)) this.onrtt?.();
        this.#wake();
        break;
      case "GOAWAY":
        this.#goneAway(frame.reason, frame.text);
        break;
      case "SIGNAL":
        this.onsignal?.(frame.payload);
        break;
      case "DATAGRAM":
        throw new DcpipeError("PROTOCOL", "a datagram on a channel that is not for datagrams");
    }
  }

  /** The stream of a frame; undefined when it has ended already. Throws PROTOCOL when it never was. */
  #find(id: number): Stream | undefined {
    const stream = this.#streams.get(id);
    if (stream) return stream;
    const ours = id % 2 === this.#nextId % 2;
    if (ours ? id >= this.#nextId : id > this.#highestPeerId) {
      throw new DcpipeError("PROTOCOL", `a frame for stream ${id}, which was never opened`);
    }
    return undefined;
  }

  #accept(id: number, header: Uint8Array): void {
    if (id % 2 === this.#nextId % 2 || id !== this.#highestPeerId + 2) {
      throw new DcpipeError("PROTOCOL", `stream ${id} opened out of turn`);
    }
    this.#highestPeerId = id;
    const limit = this.#peerStreams >= MAX_STREAMS;
    if (limit || this.#state !== "running") {
      const [reason, text] = limit
        ? (["LIMIT", "too many streams"] as const)
        : (["REFUSED", "no streams taken"] as const);
      this.#notify({ type: "RESET", stream: id, reason, text });
      return;
    }
    this.#peerStreams++;
    const stream = new Stream(this.#owner, id, header.slice(), "known");
    this.#adopt(stream);
    // After the rest of the message: what comes whole in it needs no more credit.
    queueMicrotask(() => {
      if (this.#streams.get(id) === stream) this.#welcome(stream);
    });
    if (this.#diversion?.(stream) === true) return;
    const claimant = this.#claimants.shift();
    if (claimant) claimant.resolve(stream);
    else this.#unclaimed.push(stream);
  }

  #adopt(stream: Stream): void {
    this.#streams.set(stream.id, stream);
  }

  /**
   * A session's only stream is there to carry much. Of many most carry little: each begins with a share of what is left, and half of
   * all stays for those that prove to need it.
   */
  #welcome(stream: Stream): void {
    const left = WINDOW_BUDGET - this.#grown;
    if (this.#streams.size === 1) stream.welcome(WELCOME_WINDOW);
    else stream.welcome(Math.min(WELCOME_WINDOW, Math.max(0, (left - WINDOW_BUDGET / 2) / WELCOME_SHARE)));
  }

  #forget(stream: Stream): void {
    if (!this.#streams.delete(stream.id)) return;
    this.onstreamgone?.();
    this.#ready.delete(stream);
    this.#datagrams.forget(stream.id);
    this.#grown -= stream.extraWindow - INITIAL_WINDOW;
    if (stream.id % 2 !== this.#nextId % 2) this.#peerStreams--;
    if (this.#state === "closing" || this.#goawayReceived) this.#farewell();
  }

  #acked(id: number, count: number): void {
    const lane = this.#lanes.get(id);
    if (!lane) {
      if (!this.#seenLanes.has(id))
        throw new DcpipeError("PROTOCOL", `an acknowledgement for channel ${id}, which never was`);
      return;
    }
    const before = lane.delivered;
    if (!lane.confirm(count, this.#pulse.rtt))
      throw new DcpipeError("PROTOCOL", "an acknowledgement for what was not sent");
    this.#delivered += lane.delivered - before;
    this.#wake();
  }

  // ---- lanes that die -----------------------------------------------------------------------------------------------

  /** A lane is dead on our side: keep its accounts, tell the other side what arrived, and go on with another. */
  #lose(lane: Lane, reason: string): void {
    if (this.#lanes.get(lane.id) !== lane) return;
    this.#lanes.delete(lane.id);
    lane.channel.onmessage = undefined;
    lane.channel.onclose = undefined;
    lane.channel.ondrain = undefined;
    lane.channel.close();
    if (this.#state === "closed") return;
    const entry: DeadLane = { id: lane.id, lane, told: false, settled: false };
    this.#dead.set(lane.id, entry);
    if (this.#control === lane) {
      const heir = [...this.#lanes.values()].sort(
        (a, b) => Number(a.relayed) - Number(b.relayed) || Number(a.bulk) - Number(b.bulk) || a.id - b.id,
      )[0];
      this.#control = heir;
      if (heir) {
        heir.draining = false;
        this.#owesAll();
        for (const other of this.#dead.values()) this.#tellLost(other);
      }
    } else {
      this.#tellLost(entry);
    }
    if (this.#lanes.size === 0) {
      this.#fleeting = [];
      // The path is gone; a channel made in the next epoch is sure to use the new one.
      this.#datagrams.drop();
      // Nothing is owed to us any more: the other side has hung up after both said good-bye.
      if (this.#goawaySent || this.#error) {
        this.#finish(this.#error);
        return;
      }
    }
    this.onlane?.(lane.id, this.#lanes.size, reason);
    this.#wake();
  }

  #tellLost(entry: DeadLane): void {
    if (entry.told || !this.#control) return;
    const { id, lane } = entry;
    this.#urgent.push({
      bytes: encodeFrame({ type: "LOST", channel: id, count: lane?.received ?? 0 }),
      once: true,
      arrived: () => {
        entry.told = true;
        if (entry.settled) this.#dead.delete(id);
      },
    });
    this.#wake();
  }

  #peerLost(id: number, count: number): void {
    const lane = this.#lanes.get(id);
    if (lane) this.#lose(lane, "the other side lost the channel");
    const entry = this.#dead.get(id);
    if (!entry) {
      if (this.#seenLanes.has(id)) return;
      // A channel that stood on their side only: nothing came over it.
      if (count > 0) throw new DcpipeError("PROTOCOL", "a count of messages that were not sent");
      if (this.#dead.size >= MAX_DEAD_LANES) throw new DcpipeError("PROTOCOL", "too many dead channels");
      const theirs: DeadLane = { id, lane: undefined, told: false, settled: true };
      this.#seenLanes.add(id);
      this.#dead.set(id, theirs);
      this.#tellLost(theirs);
      return;
    }
    const dead = entry.lane;
    if (!dead || entry.settled) return;
    if (count > dead.sent) throw new DcpipeError("PROTOCOL", "a count of messages that were not sent");
    const before = dead.delivered;
    const { notices, segments } = dead.settle(count);
    this.#delivered += dead.delivered - before;
    entry.settled = true;
    if (entry.told) this.#dead.delete(id);
    this.#takeBack(
      notices,
      segments.filter(({ stream }) => this.#streams.get(stream.id) === stream),
    );
    this.#wake();
  }

  // ---- time ---------------------------------------------------------------------------------------------------------

  #tick(): void {
    if (this.#lanes.size === 0) {
      this.#pulse.pause();
      return;
    }
    if (this.#pulse.suspicious !== this.#suspicious) {
      this.#suspicious = this.#pulse.suspicious;
      this.onsuspicion?.(this.#suspicious);
    }
    this.#pulse.tick(this.#limited);
    const now = performance.now();
    const { silence } = this.#pulse;
    const patience = now < this.#shakenUntil ? SHAKEN_LANE_MS : LANE_DEAD_MS;
    for (const lane of [...this.#lanes.values()]) {
      const stuck = lane.flight > 0 && now - lane.progress > patience;
      if (silence >= DEAD_MS) this.#lose(lane, `nothing heard for ${DEAD_MS / 1000} s`);
      else if (stuck && this.#lanes.size > 1 && silence < HEARTBEAT_MS)
        this.#lose(lane, "the channel stalled");
    }
    // The other side may not have the new path yet, or never get it: what it says there is the proof.
    if (!this.relayed && this.#control && this.#control.received > 0)
      for (const lane of [...this.#lanes.values()])
        if (lane.relayed && lane.flight === 0) this.#lose(lane, "the relay is not needed any more");
    if (this.#lanes.size > 0) this.#govern(now);
  }

  /** The session has another path now, on which things take another time. */
  #leaveRelay(): void {
    for (const lane of this.#lanes.values()) if (lane.relayed) lane.draining = true;
    this.#governor = undefined;
    this.#wanted = 0;
    this.#datagrams.leave();
  }

  /** Asks for bulk lanes when a stream first has more than a little to send. */
  #consider(): void {
    if (this.#governor || !this.#pulse.sure) return;
    let pending = 0;
    for (const stream of this.#ready) pending += stream.pending;
    if (pending <= BULK) return;
    this.#governor = new Governor(this.#pulse.leastRtt);
    this.#want(this.#governor.target);
  }

  #govern(now: number): void {
    const governor = this.#governor;
    if (!governor) return;
    const bulk = this.#bulk();
    const target = governor.sample({
      time: now,
      delivered: this.#delivered,
      lanes: bulk.filter((lane) => !lane.draining).length,
      limited: this.#limited,
      rtt: this.#pulse.recentRtt,
      minRtt: this.#pulse.leastRtt,
    });
    this.#want(target);
    // Those with the smallest packets go, which cost the processor most; of equal ones the weakest: an association that losses have
    // slowed down takes minutes to recover, a young one is fast.
    bulk.sort(
      (x, y) =>
        Number(x.draining) - Number(y.draining) ||
        (y.channel.packet ?? 0) - (x.channel.packet ?? 0) ||
        y.allowance(this.#pulse.leastRtt) - x.allowance(this.#pulse.leastRtt),
    );
    for (const [i, lane] of bulk.entries()) {
      lane.draining = i >= Math.max(target, 1);
      // A channel that the other side asked for is its to close: it may need more than we do.
      const ours = lane.id % 2 === this.#nextId % 2;
      if (lane.draining && ours && lane.flight === 0) this.#lose(lane, "not needed any more");
    }
  }

  #want(lanes: number): void {
    this.#wanted = lanes;
    this.onwant?.(lanes);
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  #goneAway(reason: Reason, text: string): void {
    if (reason !== "CLOSED") {
      this.#finish(remoteError(reason, text));
      return;
    }
    this.#goawayReceived = true;
    for (const { reject } of this.#claimants.splice(0))
      reject(new DcpipeError("CLOSED", "the other side takes no more streams"));
    if (this.#goawaySent) this.#finish(this.#error);
    else this.#farewell();
  }

  /** Says good-bye once every stream is done. */
  #farewell(): void {
    if (this.#state === "closed" || this.#goawaySent || this.#error || this.#streams.size > 0) return;
    this.#goawaySent = true;
    this.#state = "closing";
    this.#notify({ type: "GOAWAY", reason: "CLOSED", text: "" });
    if (this.#goawayReceived) {
      // The other side hangs up when this good-bye arrives.
      this.#lingerTimer ??= setTimeout(() => {
        this.#finish(undefined);
      }, LINGER_MS);
    }
  }

  #finish(error: DcpipeError | undefined): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#error ??= error;
    clearInterval(this.#ticker);
    clearTimeout(this.#ackTimer);
    clearTimeout(this.#lingerTimer);
    for (const lane of this.#lanes.values()) {
      lane.channel.onclose = undefined;
      lane.channel.onmessage = undefined;
      lane.channel.ondrain = undefined;
      lane.channel.close();
    }
    this.#lanes.clear();
    this.#dead.clear();
    this.#control = undefined;
    this.#datagrams.close();
    const reason = error ?? new DcpipeError("CLOSED", "the session is closed");
    for (const stream of [...this.#streams.values()]) stream.fail(reason);
    for (const { reject } of this.#claimants.splice(0)) reject(reason);
    this.onclosed?.(error);
    if (error) this.#rejectClosed(error);
    else this.#resolveClosed();
  }
}

function view({ buffer, start, end }: Piece): Uint8Array {
  return buffer.bytes.subarray(start, end);
}
