/**
 * One client, from its first message to its end (section 7.2 of docs/protocol.md):
 *
 *   new --first message--> entering --admitted--> attached --RELEASE, or the mailbox goes--> over
 *                             |  (a delayed CLAIM waits here)
 *                             +--refused--> over
 *
 * What comes while it is entering is kept: a few messages of its own, and all notices, which may be here before the admission is.
 */
import { sameBytes } from "../wire/bytes.ts";
import {
  CLOSE,
  decodeClientMessage,
  encodeServerMessage,
  MAX_BODIES,
  type ClientMessage,
  type CloseCode,
  type Outcome,
  type ServerMessage,
  type ServerRecord,
} from "../wire/rendezvous.ts";
import type { Connection } from "./connection.ts";
import { HOLDER_MS, type Holder } from "./holder.ts";
import type { Limits } from "./limits.ts";
import type { Metrics } from "./metrics.ts";
import type { Admission, Attachment, Notice, Place, Store, Visitor } from "./store.ts";

/** What all clients of a server share. */
export interface Surroundings {
  readonly store: Store;
  readonly limits: Limits;
  readonly metrics: Metrics;
  /** The URL that people may be shown, or "". */
  readonly link: string;
  readonly servers: () => readonly ServerRecord[];
  /** Only the holder of this key may ALLOCATE, and the others may open only what it has opened; everybody may when undefined. */
  readonly holder: Holder | undefined;
}

/** What the other side is closed with when this one releases the mailbox. */
const OTHER_ENDING: Readonly<Record<Outcome, CloseCode>> = {
  direct: CLOSE.RELEASED,
  turn: CLOSE.RELEASED,
  relay: CLOSE.RELEASED,
  failed: CLOSE.LEFT,
  wrong: CLOSE.WRONG,
  left: CLOSE.LEFT,
};

/** Which limit it was, for people. */
const ADMISSION_LIMIT = {
  ALLOCATE: "too many codes at a time from this address",
  CLAIM: "too many wrong codes from this address; wait some minutes",
  OPEN: "too many mailboxes from this address",
  RESUME: "",
} as const;

type FirstMessage = Extract<ClientMessage, { type: "ALLOCATE" | "CLAIM" | "OPEN" | "RESUME" }>;

type LaterMessage = Extract<ClientMessage, { type: "POST" | "RENEW" | "RELEASE" }>;

export class Client {
  readonly #connection: Connection;
  readonly #around: Surroundings;
  readonly #seat: number;
  readonly #address: string;
  #state: "new" | "entering" | "attached" | "over" = "new";
  #place: Place | undefined;
  /** Bodies of this side that the store has or is getting. */
  #posted = 0;
  #joined = false;
  #delayed = false;
  #early: Uint8Array[] = [];
  #notices: Notice[] = [];
  /** Ends what is awaited: the first message, a delay, the mailbox' expiry. */
  #timer: NodeJS.Timeout | undefined;

  constructor(connection: Connection, around: Surroundings, seat: number, address: string) {
    this.#connection = connection;
    this.#around = around;
    this.#seat = seat;
    this.#address = address;
    this.#setTimer(around.limits.firstMessageMs, () => {
      this.#end(CLOSE.SLOW);
    });
  }

  receive(bytes: Uint8Array): void {
    this.#around.metrics.messages++;
    this.#take(bytes);
  }

  #take(bytes: Uint8Array): void {
    if (this.#state === "over") return;
    if (this.#state === "entering") {
      this.#early.push(bytes);
      if (this.#early.length > this.#around.limits.earlyMessages) this.#end(CLOSE.LIMIT, "too many messages");
      return;
    }
    const message = this.#decode(bytes);
    if (!message) return;
    const isFirst =
      message.type === "ALLOCATE" ||
      message.type === "CLAIM" ||
      message.type === "OPEN" ||
      message.type === "RESUME";
    // RELAY travels in the request, and makes it another kind of client (relay.ts).
    if (message.type === "RELAY" || isFirst !== (this.#state === "new")) this.#end(CLOSE.PROTOCOL);
    else if (isFirst) this.#enter(message);
    else this.#act(message);
  }

  notice(notice: Notice): void {
    if (this.#state === "entering") this.#notices.push(notice);
    if (this.#state !== "attached") return;
    switch (notice.type) {
      case "JOINED":
        this.#connection.batch(() => {
          this.#tellJoined();
        });
        this.#setExpiry(this.#around.limits.claimedMs);
        break;
      case "MESSAGE":
        this.#send(notice);
        break;
      case "CLOSE":
        this.#leavePlace();
        this.#end(notice.code);
    }
  }

  /** Closes it from here, for a reason that is not its own. The mailbox stays. */
  close(code: CloseCode, reason = ""): void {
    this.#end(code, reason);
  }

  /** The connection has gone. */
  closed(): void {
    this.#end(undefined);
  }

  // ---- coming in ----------------------------------------------------------------------------------------------------

  #enter(message: FirstMessage): void {
    this.#state = "entering";
    clearTimeout(this.#timer);
    this.#settle(this.#admit(message, false), (admission) => {
      if (!("wait" in admission)) this.#enterAs(message, admission);
      else this.#delay(message, admission.wait);
    });
  }

  #delay(message: FirstMessage, wait: number): void {
    if (this.#state === "over") return;
    this.#setDelayed(true);
    this.#setTimer(wait, () => {
      this.#setDelayed(false);
      this.#settle(this.#admit(message, true), (admission) => {
        this.#enterAs(message, admission);
      });
    });
  }

  #setDelayed(delayed: boolean): void {
    if (this.#delayed !== delayed) this.#around.metrics.delayed += delayed ? 1 : -1;
    this.#delayed = delayed;
  }

  #admit(message: FirstMessage, waited: boolean): Promise<Admission> {
    const { store, holder } = this.#around;
    const visitor: Visitor = { seat: this.#seat, address: this.#address, key: message.key };
    switch (message.type) {
      case "ALLOCATE":
        if (holder && !sameBytes(holder.key, message.key)) return Promise.resolve({ refused: CLOSE.LIMIT });
        return store.allocate(visitor, message.nameplate);
      case "CLAIM":
        return store.claim(visitor, message.nameplate, waited);
      case "OPEN":
        if (holder && !holder.admits(message)) {
          // The holder may be about to open it: both sides of a session come at the same moment.
          return Promise.resolve(waited ? { refused: CLOSE.UNKNOWN } : { wait: HOLDER_MS });
        }
        return store.open(visitor, message.role, message.name, message.received);
      case "RESUME":
        return store.resume(visitor, message.role, message.nameplate, message.received);
    }
  }

  #enterAs(message: FirstMessage, admission: Admission): void {
    if ("wait" in admission) return;
    if ("refused" in admission) {
      this.#end(admission.refused, admission.refused === CLOSE.LIMIT ? ADMISSION_LIMIT[message.type] : "");
      return;
    }
    if (admission.fresh) this.#around.metrics.matches++;
    if (this.#state === "over") {
      // It has gone in the meantime.
      this.#settle(this.#around.store.detach(admission), () => undefined);
      return;
    }
    this.#state = "attached";
    this.#place = admission;
    this.#posted = admission.stored;
    if (admission.role === "waiting") this.#around.metrics.mailboxes++;
    this.#setExpiry(admission.lifetime);
    this.#connection.batch(() => {
      this.#welcome(message, admission);
      for (const notice of this.#notices.splice(0)) this.notice(notice);
    });
    for (const early of this.#early.splice(0)) this.#take(early);
  }

  #welcome(message: FirstMessage, { nameplate, stored, joined, received, bodies }: Attachment): void {
    if (message.type === "ALLOCATE") this.#send({ type: "ALLOCATED", nameplate, link: this.#around.link });
    this.#send({ type: "ATTACHED", stored });
    if (joined) this.#tellJoined();
    for (const [i, body] of bodies.entries()) this.#send({ type: "MESSAGE", index: received + i, body });
  }

  #tellJoined(): void {
    this.#joined = true;
    this.#send({ type: "SERVERS", servers: this.#around.servers() });
    if (this.#place?.role === "waiting") this.#send({ type: "JOINED" });
  }

  // ---- inside -------------------------------------------------------------------------------------------------------

  #act(message: LaterMessage): void {
    const place = this.#place;
    if (!place) return;
    const { store } = this.#around;
    switch (message.type) {
      case "POST":
        // Posts reach the store in their order, so the next need not wait for this one.
        this.#posted = Math.max(this.#posted, message.index + 1);
        this.#settle(store.post(place, message.index, message.body), (code) => {
          this.#expel(code);
        });
        break;
      case "RENEW":
        this.#settle(store.renew(place), (code) => {
          this.#expel(code);
          if (!this.#joined && this.#place) this.#setExpiry(this.#around.limits.unclaimedMs);
        });
        break;
      case "RELEASE":
        this.#release(place, message.outcome);
    }
  }

  #release(place: Place, outcome: Outcome): void {
    const endings = { own: CLOSE.RELEASED, other: OTHER_ENDING[outcome] };
    const { store, metrics } = this.#around;
    this.#leavePlace();
    this.#settle(store.release(place, endings, outcome === "wrong"), (removed) => {
      if (removed) metrics.countOutcome(outcome);
      this.#end(CLOSE.RELEASED);
    });
  }

  /** The mailbox has been there too long. */
  #expire(): void {
    const place = this.#place;
    if (!place) return;
    this.#leavePlace();
    const endings = { own: CLOSE.EXPIRED, other: CLOSE.EXPIRED };
    this.#settle(this.#around.store.release(place, endings, false), () => {
      this.#end(CLOSE.EXPIRED);
    });
  }

  #expel(code: CloseCode | undefined): void {
    if (code === undefined) return;
    if (code !== CLOSE.PROTOCOL && code !== CLOSE.TRY_AGAIN) this.#leavePlace();
    this.#end(code);
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  /** With a code: closes the connection. The mailbox stays, unless the place was left before. */
  #end(code: CloseCode | undefined, reason = ""): void {
    if (code !== undefined) this.#connection.close(code, reason);
    if (this.#state === "over") return;
    this.#state = "over";
    clearTimeout(this.#timer);
    this.#early = [];
    this.#notices = [];
    this.#setDelayed(false);
    const place = this.#place;
    if (!place) return;
    this.#leavePlace();
    this.#settle(this.#around.store.detach(place), () => undefined);
  }

  #leavePlace(): void {
    if (this.#place?.role === "waiting") this.#around.metrics.mailboxes--;
    this.#place = undefined;
    clearTimeout(this.#timer);
  }

  #decode(bytes: Uint8Array): ClientMessage | undefined {
    try {
      return decodeClientMessage(bytes);
    } catch {
      // One body more than there may be is not in the protocol either; it has a code of its own.
      if (this.#posted === MAX_BODIES) this.#end(CLOSE.LIMIT, "too many messages in one mailbox");
      else this.#end(CLOSE.PROTOCOL);
      return undefined;
    }
  }

  #send(message: ServerMessage): void {
    this.#connection.send(encodeServerMessage(message));
  }

  #setExpiry(lifetime: number): void {
    this.#setTimer(lifetime, () => {
      this.#expire();
    });
  }

  #setTimer(milliseconds: number, action: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(action, milliseconds);
  }

  #settle<T>(operation: Promise<T>, then: (result: T) => void): void {
    operation.then(then, () => {
      // The store is in trouble; it tells on its own account what the trouble is.
      this.#end(CLOSE.TRY_AGAIN);
    });
  }
}
