/**
 * One end of a relay, from RELAY to its end (section 7.4 of docs/protocol.md):
 *
 *   new --RELAY--> entering --admitted--> waiting --the other end is there--> paired --either one goes--> over
 *
 * Before it is paired one small message of its client is kept, and its leaving is seen; then messages go through as they are. What it
 * has passed on and the other end's client has not taken is bounded: above that its own client is not read from, and TCP makes that
 * client wait. So a slow client slows the other one down, and costs no memory. Rate and volume count at each end, over both directions:
 * the ends may be at two processes, and both see all of it.
 */
import {
  CLOSE,
  decodeClientMessage,
  MAX_RENDEZVOUS_MESSAGE,
  type ClientMessage,
  type CloseCode,
} from "../wire/rendezvous.ts";
import { TokenBucket } from "./bucket.ts";
import { passCost, type Connection } from "./connection.ts";
import { HOLDER_MS, type Holder } from "./holder.ts";
import type { Limits } from "./limits.ts";
import type { Metrics } from "./metrics.ts";
import type { Quota } from "./quota.ts";
import type { End, Far, Relays } from "./relays.ts";

/** What an operator grants each relay. */
export interface RelayOptions {
  /** Bytes a second, both directions together; unlimited when undefined. */
  readonly rate?: number | undefined;
  /** Bytes in all, both directions together; unlimited when undefined. */
  readonly volume?: number | undefined;
}

/** What all ends at a server share. */
export interface RelaySurroundings {
  readonly relays: Relays;
  readonly limits: Limits;
  readonly metrics: Metrics;
  /** Ends at this process. */
  readonly quota: Quota;
  /** False: nothing is relayed here. */
  readonly options: RelayOptions | false;
  /** Others may come only to names at which this one's holder has been; to any when undefined. */
  readonly holder: Holder | undefined;
}

/** What an end needs of its WebSocket. */
export type RelayConnection = Pick<Connection, "pass" | "pause" | "resume" | "close">;

type RelayMessage = Extract<ClientMessage, { type: "RELAY" }>;

/** What the other end's client is closed with. All else is this end's own affair: the other one hears that it has left. */
const OTHER_ENDING: Readonly<Partial<Record<CloseCode, CloseCode>>> = {
  [CLOSE.GOING_AWAY]: CLOSE.GOING_AWAY,
  [CLOSE.TRY_AGAIN]: CLOSE.TRY_AGAIN,
  [CLOSE.LIMIT]: CLOSE.LIMIT,
};

/** For people. Only a volume ends a relay that was admitted. */
const ENDING_TEXT: Readonly<Partial<Record<CloseCode, string>>> = {
  [CLOSE.LIMIT]: "relay volume used up",
  [CLOSE.NO_RELAY]: "this server relays nothing",
};

export class RelayEnd implements End {
  readonly #connection: RelayConnection;
  readonly #around: RelaySurroundings;
  readonly #address: string;
  readonly #bucket: TokenBucket | undefined;
  #state: "new" | "entering" | "waiting" | "paired" | "over" = "new";
  #message: RelayMessage | undefined;
  #far: Far | undefined;
  /** What came before the other end. */
  #first: Uint8Array | undefined;
  /** What came from the other end before it was known here that it is there. */
  #early: Uint8Array[] = [];
  /** Passed on and not taken yet, by cost. */
  #outstanding = 0;
  /** So much is outstanding that the client must wait until half of it is taken. */
  #full = false;
  #reading = true;
  #volume = 0;
  /** Ends what is awaited: the first message, the holder, the other end, tokens. */
  #timer: NodeJS.Timeout | undefined;

  constructor(connection: RelayConnection, around: RelaySurroundings, address: string) {
    this.#connection = connection;
    this.#around = around;
    this.#address = address;
    const rate = around.options === false ? undefined : around.options.rate;
    this.#bucket = rate === undefined ? undefined : new TokenBucket(rate);
  }

  // ---- from the client ----------------------------------------------------------------------------------------------

  receive(bytes: Uint8Array): void {
    if (this.#state === "new") this.#begin(bytes);
    else if (bytes.length === 0) this.close(CLOSE.PROTOCOL);
    else if (this.#state === "paired") this.#pass(bytes);
    else if (this.#first || bytes.length > MAX_RENDEZVOUS_MESSAGE) this.close(CLOSE.PROTOCOL);
    else this.#first = bytes;
  }

  /** Closes it from here, for a reason that is not its own. */
  close(code: CloseCode, reason = ENDING_TEXT[code]): void {
    if (this.#end(OTHER_ENDING[code] ?? CLOSE.LEFT)) this.#connection.close(code, reason);
  }

  /** So much of what was passed to the connection has left for the client. */
  taken(cost: number): void {
    this.#far?.acknowledge(cost);
  }

  /** The connection is being closed. The other end need not wait for a client that does not answer that. */
  closing(): void {
    this.#end(CLOSE.LEFT);
  }

  /** The connection has gone, and with it what was there for the client: only now it no longer counts. */
  closed(): void {
    this.#end(CLOSE.LEFT);
    if (!this.#message) return;
    this.#around.metrics.relayEnds--;
    this.#around.quota.give(this.#address);
  }

  #begin(bytes: Uint8Array): void {
    const message = readRelay(bytes);
    if (!message) this.close(CLOSE.PROTOCOL);
    else if (this.#around.options === false) this.close(CLOSE.NO_RELAY);
    else this.#admit(message);
  }

  #admit(message: RelayMessage): void {
    const beyond = this.#around.quota.take(this.#address);
    if (beyond !== undefined) {
      if (beyond === "all") this.close(CLOSE.TRY_AGAIN, "too many relays");
      else this.close(CLOSE.LIMIT, "too many relays from this address");
      return;
    }
    this.#message = message;
    this.#state = "entering";
    this.#around.metrics.relayEnds++;
    const { holder } = this.#around;
    if (!holder || holder.admits(message)) {
      this.#enter(message);
      return;
    }
    // The holder may be about to come: both sides of a session do at the same moment.
    this.#setTimer(HOLDER_MS, () => {
      if (holder.admits(message)) this.#enter(message);
      else this.close(CLOSE.UNKNOWN);
    });
  }

  #enter(message: RelayMessage): void {
    this.#setTimer(this.#around.limits.relayUnpairedMs, () => {
      this.close(CLOSE.EXPIRED);
    });
    this.#around.relays.enter(this, message).then(
      (refused) => {
        if (refused !== undefined) this.close(refused);
        else if (this.#state === "entering") this.#state = "waiting";
      },
      () => {
        this.close(CLOSE.TRY_AGAIN);
      },
    );
  }

  #pass(bytes: Uint8Array): void {
    if (!this.#spend(bytes.length)) return;
    this.#around.metrics.relayedBytes += bytes.length;
    this.#outstanding += passCost(bytes);
    this.#far?.deliver(bytes);
    this.#steer();
  }

  // ---- from the other end -------------------------------------------------------------------------------------------

  pair(far: Far): void {
    if (this.#state !== "entering" && this.#state !== "waiting") return;
    this.#state = "paired";
    this.#far = far;
    clearTimeout(this.#timer);
    if (this.#message?.role === "waiting") this.#around.metrics.relays++;
    if (this.#first) this.#pass(this.#first);
    for (const message of this.#early.splice(0)) this.deliver(message);
    this.#steer();
  }

  deliver(message: Uint8Array): void {
    if (!this.#far) this.#early.push(message);
    else if (this.#spend(message.length)) {
      this.#connection.pass(message);
      this.#steer();
    }
  }

  acknowledge(cost: number): void {
    this.#outstanding -= cost;
    this.#steer();
  }

  finish(code: CloseCode, other: CloseCode = OTHER_ENDING[code] ?? CLOSE.LEFT): void {
    if (this.#end(other)) this.#connection.close(code, ENDING_TEXT[code]);
  }

  // ---- limits -------------------------------------------------------------------------------------------------------

  /** Counts what goes through, either way. False when the relay has ended by it. */
  #spend(bytes: number): boolean {
    if (this.#state !== "paired" || this.#around.options === false) return false;
    const { volume = Infinity } = this.#around.options;
    this.#volume += bytes;
    this.#bucket?.take(bytes);
    if (this.#volume <= volume) return true;
    this.close(CLOSE.LIMIT);
    return false;
  }

  /** Reads on from the client, or not. */
  #steer(): void {
    if (this.#state !== "paired") return;
    const { relayBufferedBytes } = this.#around.limits;
    this.#full = this.#outstanding > (this.#full ? relayBufferedBytes / 2 : relayBufferedBytes);
    const wait = this.#bucket?.wait ?? 0;
    if (wait > 0)
      this.#setTimer(wait, () => {
        this.#steer();
      });
    const reading = !this.#full && wait === 0;
    if (reading === this.#reading) return;
    this.#reading = reading;
    if (reading) this.#connection.resume();
    else this.#connection.pause();
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  /** False when it was over before. */
  #end(other: CloseCode): boolean {
    if (this.#state === "over") return false;
    if (this.#state === "paired" && this.#message?.role === "waiting") this.#around.metrics.relays--;
    this.#state = "over";
    clearTimeout(this.#timer);
    this.#early = [];
    this.#far?.finish(other);
    this.#far = undefined;
    if (this.#message) this.#around.relays.leave(this);
    return true;
  }

  #setTimer(milliseconds: number, action: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(action, milliseconds);
  }
}

function readRelay(bytes: Uint8Array): RelayMessage | undefined {
  try {
    const message = decodeClientMessage(bytes);
    return message.type === "RELAY" ? message : undefined;
  } catch {
    return undefined;
  }
}
