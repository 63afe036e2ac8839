/**
 * A stream: bytes both ways between the two programs at the ends of a session. Each direction ends on its own.
 *
 *   writing                                   reading
 *   open --end()--> FIN sent --FIN_ACK--> done    open --FIN--> all consumed: FIN_ACK sent --> done
 *     \________________ RESET, either way ______________/
 *      \--breakOff()--> BREAK: the reader gets what came before, then the error, and answers with RESET
 *
 * `end()` resolves when the other side's reader has consumed everything: FIN is not success, the acknowledgement is.
 */
import { DcpipeError } from "../errors.ts";
import type { Reason } from "../wire/frame.ts";
import { Inbound, type InboundOwner } from "./inbound.ts";
import { Outbound, WRITE_BUFFER, type Segment } from "./outbound.ts";

/** A stream with no more than this waiting, and no more than this unacknowledged, is interactive. */
const INTERACTIVE = 8 * 1024;

/** What a stream asks of its session. */
export interface StreamOwner {
  /** There is something to send on this stream. */
  wake(stream: Stream): void;
  sendFin(stream: Stream, offset: number): void;
  sendFinAck(stream: Stream): void;
  sendReset(stream: Stream, reason: Reason, text: string): void;
  sendBreak(stream: Stream, offset: number, reason: Reason, text: string): void;
  sendWindow(stream: Stream, limit: number): void;
  budget(wanted: number): number;
  rtt(): number;
  sendDatagram(stream: Stream, payload: Uint8Array): boolean;
  /** The stream listens to datagrams from now on: those that wait for it are due. */
  listens(stream: Stream): void;
  /** Both directions are done, or the stream was reset. */
  gone(stream: Stream): void;
}

export class Stream {
  readonly id: number;
  /** What the stream is for, as its opener said. */
  readonly header: Uint8Array;
  /** Resolves when both directions are done; rejects with the reason of a reset. */
  readonly closed: Promise<void>;
  /** The id of the lane that carried OPEN, or "known" once the other side has the stream. */
  openedOn: number | "known" | undefined;
  readonly #owner: StreamOwner;
  readonly #inbound: Inbound;
  readonly #outbound = new Outbound();
  #closedResolve!: () => void;
  #closedReject!: (error: Error) => void;
  #finAcked: { promise: Promise<void>; resolve: () => void; reject: (error: Error) => void };
  #writingDone = false;
  #readingDone = false;
  #error: DcpipeError | undefined;
  #brokenOff = false;
  #readable: ReadableStream<Uint8Array> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;
  #ondatagram: ((payload: Uint8Array) => void) | undefined;
  #listened = false;

  constructor(owner: StreamOwner, id: number, header: Uint8Array, openedOn: "known" | undefined) {
    this.#owner = owner;
    this.id = id;
    this.header = header;
    this.openedOn = openedOn;
    this.closed = new Promise((resolve, reject) => {
      this.#closedResolve = resolve;
      this.#closedReject = reject;
    });
    this.closed.catch(() => undefined);
    this.#finAcked = deferred();
    const inboundOwner: InboundOwner = {
      grant: (limit) => {
        owner.sendWindow(this, limit);
      },
      consumedAll: () => {
        this.#readingDone = true;
        owner.sendFinAck(this);
        this.#settle();
      },
      brokenOff: (error) => {
        owner.sendReset(this, "CLOSED", "");
        this.fail(error);
      },
      budget: (wanted) => owner.budget(wanted),
      rtt: () => owner.rtt(),
    };
    this.#inbound = new Inbound(inboundOwner);
  }

  /** Grants more credit than every stream starts with, if the session can afford it. */
  welcome(): void {
    this.#inbound.welcome();
  }

  /** Bytes written that the other side is known to hold. */
  get acknowledged(): number {
    return this.#writingDone ? (this.#outbound.final ?? 0) : this.#outbound.acknowledged;
  }

  /** Credit windows, received bytes that wait for a reader, and bytes written that have not left. For tests and status. */
  get memory(): { window: number; held: number; pending: number } {
    return { window: this.#inbound.window, held: this.#inbound.held, pending: this.#outbound.pending };
  }

  /**
   * The next chunk, or undefined at the end. Asking for the next chunk says that the last one was consumed: credit follows.
   * One read at a time.
   */
  read(): Promise<Uint8Array | undefined> {
    return this.#inbound.read();
  }

  /** Queues a copy of the bytes. Resolves when there is room for more. */
  write(chunk: Uint8Array): Promise<void> {
    const room = this.#outbound.write(chunk);
    this.#owner.wake(this);
    return room;
  }

  /** A writer should wait: so much was written and has not left. */
  get full(): boolean {
    return this.#outbound.pending >= WRITE_BUFFER;
  }

  /** Ends this direction. Resolves when the other side's reader has consumed everything. */
  end(): Promise<void> {
    if (!this.#error && this.#outbound.final === undefined) {
      this.#owner.sendFin(this, this.#outbound.end());
    }
    return this.#finAcked.promise;
  }

  /** Ends both directions now; what is in flight is void. The other side's reads and writes fail with `reason`. */
  reset(reason: Reason = "CLOSED", text = ""): void {
    if (this.#error || (this.#readingDone && this.#writingDone)) return;
    this.#owner.sendReset(this, reason, text);
    this.fail(new DcpipeError(reason, text || "the stream was closed"));
  }

  /**
   * Breaks this direction off: the other side reads what was written until now, and then fails with `reason`; both directions are over
   * then. Here reading ends at once. Idempotent.
   */
  breakOff(reason: Reason, text = ""): void {
    if (this.#error || this.#brokenOff || (this.#readingDone && this.#writingDone)) return;
    if (this.#writingDone) {
      this.reset(reason, text);
      return;
    }
    this.#brokenOff = true;
    const error = new DcpipeError(reason, text || "the stream was broken off");
    this.#inbound.fail(error);
    this.#finAcked.reject(error);
    this.#owner.sendBreak(this, this.#outbound.end(), reason, text);
  }

  /** The reading direction as a Web Stream; cancelling it resets the stream. */
  get readable(): ReadableStream<Uint8Array> {
    this.#readable ??= new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          const chunk = await this.read();
          if (chunk) controller.enqueue(chunk);
          else controller.close();
        },
        cancel: () => {
          this.reset("CLOSED");
        },
      },
      { highWaterMark: 0 },
    );
    return this.#readable;
  }

  /** The writing direction as a Web Stream; closing it waits for the other side's reader, aborting it resets the stream. */
  get writable(): WritableStream<Uint8Array> {
    this.#writable ??= new WritableStream<Uint8Array>({
      start: (controller) => {
        this.closed.catch((error: unknown) => {
          controller.error(error);
        });
      },
      write: (chunk) => this.write(chunk),
      close: () => this.end(),
      abort: () => {
        this.reset("ABORTED");
      },
    });
    return this.#writable;
  }

  /**
   * Sends a datagram of at most MAX_DATAGRAM bytes beside the stream: it may be lost, and overtake others. False when no datagram
   * channel stands (`session.wantDatagrams`), when it is too long and when the stream is over. True is no promise either.
   */
  sendDatagram(payload: Uint8Array): boolean {
    return (
      !this.#error && !(this.#readingDone && this.#writingDone) && this.#owner.sendDatagram(this, payload)
    );
  }

  /** Gets the other side's datagrams; the bytes are valid until it returns. The first ones wait a little until it is set. */
  get ondatagram(): ((payload: Uint8Array) => void) | undefined {
    return this.#ondatagram;
  }

  set ondatagram(listener: ((payload: Uint8Array) => void) | undefined) {
    this.#ondatagram = listener;
    if (this.#listened || !listener) return;
    this.#listened = true;
    this.#owner.listens(this);
  }

  // What follows is for the session alone.

  /** Hands a datagram over; false when nobody has listened yet. */
  datagram(payload: Uint8Array): boolean {
    if (this.#listened) this.#ondatagram?.(payload);
    return this.#listened;
  }

  get sendable(): number {
    return this.#error ? 0 : this.#outbound.sendable;
  }

  /** Where the next bytes to send begin. */
  get offset(): number {
    return this.#outbound.offset;
  }

  /** Little to send and little on its way: what it sends should travel at once, in one packet. */
  get interactive(): boolean {
    return this.#outbound.pending <= INTERACTIVE && this.#outbound.flight <= INTERACTIVE;
  }

  /** Bytes granted to the other side that it has not used up. */
  get windowLimit(): number {
    return this.#inbound.limit;
  }

  get extraWindow(): number {
    return this.#inbound.window;
  }

  get pending(): number {
    return this.#outbound.pending;
  }

  take(max: number): Segment | undefined {
    return this.#outbound.take(max);
  }

  takeBack(segment: Segment): void {
    this.#outbound.takeBack(segment);
  }

  delivered(segment: Segment): void {
    if (!this.#error) this.#outbound.delivered(segment);
  }

  receive(offset: number, payload: Uint8Array): void {
    this.#inbound.receive(offset, payload);
  }

  /** FIN came; or BREAK, with its error. */
  finish(offset: number, broken?: DcpipeError): void {
    this.#inbound.finish(offset, broken);
    // Nobody will read up to there any more: all was read before, or we have broken off ourselves.
    if (broken && (this.#readingDone || this.#brokenOff)) {
      this.#owner.sendReset(this, "CLOSED", "");
      this.fail(broken);
    }
  }

  granted(limit: number): void {
    if (limit <= this.#outbound.limit) return;
    this.#outbound.limit = limit;
    this.#owner.wake(this);
  }

  /** FIN_ACK came. Throws PROTOCOL when no FIN or not all bytes were sent. */
  finAcked(): void {
    if (this.#outbound.final === undefined || this.#outbound.unsent > 0)
      throw new DcpipeError("PROTOCOL", "FIN_ACK for what was not sent");
    this.#writingDone = true;
    this.#finAcked.resolve();
    this.#settle();
  }

  fail(error: DcpipeError): void {
    if (this.#error || (this.#readingDone && this.#writingDone)) return;
    this.#error = error;
    this.#inbound.fail(error);
    this.#outbound.fail(error);
    if (!this.#writingDone) this.#finAcked.reject(error);
    this.#closedReject(error);
    this.#owner.gone(this);
  }

  #settle(): void {
    if (!this.#readingDone || !this.#writingDone || this.#error) return;
    this.#closedResolve();
    this.#owner.gone(this);
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void; reject: (error: Error) => void } {
  let resolve!: () => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}
