/**
 * Where mailboxes are kept (section 7.2 of docs/protocol.md), seen from one server process. A mailbox has two sides; each has a key, the
 * bodies it posted, and the **seat** where it is attached: a number this process gives to one WebSocket. Several processes on
 * one store make one rendezvous: what concerns a side attached at another process is noticed there.
 *
 * Each operation is atomic. A seat that has been admitted gets, as notices and in order, all that happens from then on; so nothing is
 * told twice and nothing is missed. Every operation rejects when the store is in trouble.
 */
import type { Role } from "../wire/hello.ts";
import { CLOSE, type CloseCode } from "../wire/rendezvous.ts";
import type { Relays } from "./relays.ts";

/** One side of one mailbox, attached at a seat of this process. */
export interface Place {
  readonly mailbox: string;
  readonly role: Role;
  readonly seat: number;
}

export interface Attachment extends Place {
  /** 0 for a mailbox that was opened by name. */
  readonly nameplate: number;
  /** So many bodies of this side are kept. */
  readonly stored: number;
  /** The other side's bodies from the number `received` on. */
  readonly received: number;
  readonly bodies: readonly Uint8Array[];
  /** Both sides have come ... */
  readonly joined: boolean;
  /** ... and this made it so: it happens once in a mailbox. */
  readonly fresh: boolean;
  /** Milliseconds until the mailbox expires. */
  readonly lifetime: number;
}

export type Admission =
  | Attachment
  | { readonly refused: CloseCode }
  /** Too many wrong guesses came from there: claim again, as one who has waited, after so many milliseconds. */
  | { readonly wait: number };

export type Notice =
  | { readonly type: "JOINED" }
  | { readonly type: "MESSAGE"; readonly index: number; readonly body: Uint8Array }
  /** The mailbox is gone, or the side is attached elsewhere. */
  | { readonly type: "CLOSE"; readonly code: CloseCode };

export interface StoreEvents {
  notice(seat: number, notice: Notice): void;
  /** Notices may have been lost: every seat is to be given up. */
  lost(): void;
  /** What was relayed may have been lost: every end of a relay is to be given up. */
  relaysLost(): void;
}

/** Who asks: where it sits, where it comes from, its key. */
export interface Visitor {
  readonly seat: number;
  readonly address: string;
  readonly key: Uint8Array;
}

/** What each side is told when a mailbox goes. */
export interface Endings {
  readonly own: CloseCode;
  readonly other: CloseCode;
}

export interface Store {
  /** Which ends of relays are there. Mailboxes have nothing to do with it, but it is known to the same processes. */
  readonly relays: Relays;
  /** Can be used at the moment. */
  readonly healthy: boolean;
  /** Makes it ready; called once, before all else. */
  start(events: StoreEvents): Promise<void>;
  /** A mailbox at the nameplate wished for if it is free or has this key, else (or for 0) at some free one. */
  allocate(visitor: Visitor, wish: number): Promise<Admission>;
  claim(visitor: Visitor, nameplate: number, waited: boolean): Promise<Admission>;
  open(visitor: Visitor, role: Role, name: Uint8Array, received: number): Promise<Admission>;
  resume(visitor: Visitor, role: Role, nameplate: number, received: number): Promise<Admission>;
  /** Resolves with what the poster must be closed with, if it must. */
  post(place: Place, index: number, body: Uint8Array): Promise<CloseCode | undefined>;
  /** An unclaimed mailbox lives on. Resolves as `post`. */
  renew(place: Place): Promise<CloseCode | undefined>;
  /** Removes the mailbox and notices the other side. Resolves with whether it was there; `wrong`: that was a wrong guess. */
  release(place: Place, endings: Endings, wrong: boolean): Promise<boolean>;
  /** The connection has gone, the mailbox stays for a while. */
  detach(place: Place): Promise<void>;
  close(): Promise<void>;
}

/** How a mailbox that is there no longer ended, for a side that has not heard it yet. */
export function endingOf(code: number | undefined): CloseCode {
  return Object.values(CLOSE).find((known) => known === code) ?? CLOSE.UNKNOWN;
}
