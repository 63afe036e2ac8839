/**
 * Flows of datagrams over a session: one stream for each client address, so that answers find their way back (section 9.3 of
 * docs/protocol.md). Datagrams go on the session's datagram channel, where they may be lost but wait for nobody; while there is none,
 * and when they do not fit it, as blocks on the flow's stream.
 */
import { asDcpipeError, type DcpipeError } from "../../errors.ts";
import type { Session } from "../../session/session.ts";
import type { Stream } from "../../session/stream.ts";
import { protocolError } from "../../wire/bytes.ts";
import { MAX_DATAGRAM } from "../../wire/frame.ts";
import { encodeHeader, type Target } from "../../wire/header.ts";
import { encodeBlock, readBlocks } from "./blocks.ts";
import { CONNECTED, type Carried } from "./carry.ts";

/** A flow nobody has used for so long is over: the least that RFC 4787, section 4.3, asks of a NAT. Milliseconds. */
export const IDLE_MS = 120_000;
/** Clients of one listener at once; the one that was silent for longest makes room. */
const MAX_FLOWS = 1024;
/** Datagrams wait on a stream up to this many bytes; more are dropped, as a full queue of a router does. */
const MAX_WAITING = 128 * 1024;
const SWEEP_MS = 10_000;

/** One end of a flow. */
export class Flow {
  readonly stream: Stream;
  readonly carried: Carried = { sent: 0, received: 0 };
  /** When something last went either way, as `performance.now()` counts. */
  used = performance.now();
  readonly #deliver: (payload: Uint8Array) => void;

  /** `deliver` gets what comes from the other side; what comes on the datagram channel, from `listen` on. */
  constructor(stream: Stream, deliver: (payload: Uint8Array) => void) {
    this.stream = stream;
    this.#deliver = deliver;
  }

  listen(): void {
    this.stream.ondatagram = (payload) => {
      this.#take(payload);
    };
  }

  /** Sends a datagram; it may be lost. */
  send(payload: Uint8Array): void {
    this.used = performance.now();
    this.carried.sent += payload.length;
    if (this.stream.sendDatagram(payload)) return;
    if (this.stream.memory.pending > MAX_WAITING) return;
    this.stream.write(encodeBlock(payload)).catch(() => undefined);
  }

  /** Hands over what comes on the stream. Resolves when the other side ends the flow; rejects with its reason, or PROTOCOL. */
  async run({ answered }: { readonly answered: boolean }): Promise<void> {
    const { stream } = this;
    let first = answered;
    const rest = {
      read: async (): Promise<Uint8Array | undefined> => {
        const chunk = await stream.read();
        if (!first || !chunk) return chunk;
        first = false;
        if (chunk[0] === CONNECTED) return chunk.subarray(1);
        throw protocolError("no answer to a flow");
      },
    };
    for await (const payload of readBlocks(rest, MAX_DATAGRAM)) this.#take(payload);
  }

  #take(payload: Uint8Array): void {
    this.used = performance.now();
    this.carried.received += payload.length;
    this.#deliver(payload);
  }
}

/** The flows of one listener. */
export class Flows {
  readonly #open: (from: string) => { session: Session; target: Target } | undefined;
  readonly #deliver: (payload: Uint8Array, from: string) => void;
  readonly #events: {
    readonly opened: (from: string, flow: Flow) => void;
    readonly closed: (from: string, flow: Flow, error: DcpipeError | undefined) => void;
  };
  /** By client. */
  readonly #flows = new Map<string, Flow>();
  readonly #sweeper: ReturnType<typeof setInterval>;

  /** `open` says over which session a new client's datagrams go, and to which target; undefined drops them. */
  constructor(
    open: (from: string) => { session: Session; target: Target } | undefined,
    deliver: (payload: Uint8Array, from: string) => void,
    events: {
      readonly opened: (from: string, flow: Flow) => void;
      readonly closed: (from: string, flow: Flow, error: DcpipeError | undefined) => void;
    },
  ) {
    this.#open = open;
    this.#deliver = deliver;
    this.#events = events;
    this.#sweeper = setInterval(() => {
      this.#sweep();
    }, SWEEP_MS);
  }

  /** A datagram came from that client. */
  take(payload: Uint8Array, from: string): void {
    const flow = this.#flows.get(from) ?? this.#begin(from);
    flow?.send(payload);
  }

  close(): void {
    clearInterval(this.#sweeper);
    for (const from of [...this.#flows.keys()]) this.#end(from);
  }

  #begin(from: string): Flow | undefined {
    const way = this.#open(from);
    if (!way) return undefined;
    if (this.#flows.size >= MAX_FLOWS) this.#endOldest();
    let stream: Stream;
    try {
      stream = way.session.open(encodeHeader({ kind: "flow", target: way.target }));
    } catch {
      // The session is about to end: the datagram is lost, as datagrams may be.
      return undefined;
    }
    const flow = new Flow(stream, (payload) => {
      this.#deliver(payload, from);
    });
    flow.listen();
    this.#flows.set(from, flow);
    this.#events.opened(from, flow);
    flow.run({ answered: true }).then(
      () => {
        this.#over(from, flow, undefined);
      },
      (error: unknown) => {
        this.#over(from, flow, asDcpipeError(error, "IO"));
      },
    );
    return flow;
  }

  #over(from: string, flow: Flow, error: DcpipeError | undefined): void {
    if (this.#flows.get(from) === flow) this.#flows.delete(from);
    if (error?.code === "PROTOCOL") flow.stream.reset("PROTOCOL", error.message);
    else flow.stream.end().catch(() => undefined);
    this.#events.closed(from, flow, error);
  }

  #end(from: string): void {
    const flow = this.#flows.get(from);
    this.#flows.delete(from);
    flow?.stream.end().catch(() => undefined);
  }

  #endOldest(): void {
    let oldest: [string, number] | undefined;
    for (const [from, { used }] of this.#flows) if (!oldest || used < oldest[1]) oldest = [from, used];
    if (oldest) this.#end(oldest[0]);
  }

  #sweep(): void {
    const since = performance.now() - IDLE_MS;
    for (const [from, { used }] of this.#flows) if (used < since) this.#end(from);
  }
}
