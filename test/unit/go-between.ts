/**
 * A rendezvous in memory that passes messages on as the protocol has it, or as a crooked one might: `tamper` sees every body and says
 * what is delivered in its place.
 */
import { DcpipeError } from "../../src/errors.ts";
import type { OpenSocket, Socket } from "../../src/signalling/socket.ts";
import { fromBase64url } from "../../src/wire/bytes.ts";
import type { Role } from "../../src/wire/hello.ts";
import {
  CLOSE,
  decodeClientMessage,
  encodeServerMessage,
  FIRST_MESSAGE_PREFIX,
  RENDEZVOUS_PROTOCOL,
  type ClientMessage,
  type Outcome,
  type ServerRecord,
} from "../../src/wire/rendezvous.ts";

/** Milliseconds from a client to the server, or back. */
const DELAY_MS = 5;

interface Side {
  key: string;
  readonly bodies: Uint8Array[];
  /** What was really delivered to this side. */
  delivered: number;
  seat: Seat | undefined;
}

interface Mailbox {
  readonly nameplate: number;
  readonly sides: Record<Role, Side>;
}

export type Tamper = (
  from: Role,
  index: number,
  body: Uint8Array,
  mailbox: Mailbox,
) => { to: Role; body: Uint8Array }[];

class Seat implements Socket {
  readonly protocol = RENDEZVOUS_PROTOCOL;
  onclose: ((code: number, reason: string) => void) | undefined;
  readonly bufferedAmount = 0;
  closed = false;
  /** At the other end of a relay, and what waits for it. */
  mate: Seat | undefined;
  relay: string | undefined;
  readonly waiting: Uint8Array[] = [];
  mailbox: Mailbox | undefined;
  role: Role = "waiting";
  readonly #server: GoBetween;
  #early: Uint8Array[] = [];
  #onmessage: ((message: Uint8Array) => void) | undefined;

  constructor(server: GoBetween) {
    this.#server = server;
  }

  get onmessage(): ((message: Uint8Array) => void) | undefined {
    return this.#onmessage;
  }

  set onmessage(listener: ((message: Uint8Array) => void) | undefined) {
    this.#onmessage = listener;
    if (listener) for (const message of this.#early.splice(0)) listener(message);
  }

  send(message: Uint8Array): void {
    if (this.relay !== undefined) {
      const copy = message.slice();
      setTimeout(() => {
        this.#server.relayed(this, copy);
      }, DELAY_MS);
      return;
    }
    const decoded = decodeClientMessage(message);
    setTimeout(() => {
      if (!this.closed) this.#server.take(this, decoded);
    }, DELAY_MS);
  }

  close(): void {
    this.end(1000);
  }

  /** What the server says. */
  say(message: Parameters<typeof encodeServerMessage>[0]): void {
    const bytes = encodeServerMessage(message);
    setTimeout(() => {
      if (this.closed) return;
      if (this.#onmessage) this.#onmessage(bytes);
      else this.#early.push(bytes);
    }, DELAY_MS);
  }

  /** What came through a relay. */
  pass(bytes: Uint8Array): void {
    setTimeout(() => {
      if (this.closed) return;
      if (this.#onmessage) this.#onmessage(bytes);
      else this.#early.push(bytes);
    }, DELAY_MS);
  }

  end(code: number): void {
    setTimeout(() => {
      if (this.closed) return;
      this.closed = true;
      const { mate } = this;
      this.mate = undefined;
      if (mate) {
        mate.mate = undefined;
        mate.end(4009);
      }
      if (this.mailbox?.sides[this.role].seat === this) this.mailbox.sides[this.role].seat = undefined;
      this.onclose?.(code, "");
    }, DELAY_MS);
  }
}

export class GoBetween {
  tamper: Tamper = (from, _index, body) => [{ to: from === "waiting" ? "joining" : "waiting", body }];
  /** Nobody gets through. */
  down = false;
  servers: readonly ServerRecord[] = [];
  readonly mailboxes = new Map<number, Mailbox>();
  readonly outcomes: Outcome[] = [];
  readonly seats = new Set<Seat>();
  /** Everything that was ever sent here, as text that can be searched. */
  readonly seen: string[] = [];
  next = 7;
  /** Whether it relays. */
  relays = false;
  /** Ends of relays that wait for the other one. */
  readonly ends = new Map<string, { role: Role; seat: Seat }>();
  /** Changes what passes a relay; undefined loses it. */
  bend: (bytes: Uint8Array) => Uint8Array | undefined = (bytes) => bytes;
  relayedBytes = 0;

  readonly openSocket: OpenSocket = async (_url, { protocols }) => {
    for (const text of protocols) this.seen.push(text);
    await new Promise((resolve) => setTimeout(resolve, 2 * DELAY_MS));
    if (this.down) throw new DcpipeError("SIGNALLING", "connection refused");
    const seat = new Seat(this);
    this.seats.add(seat);
    for (const text of protocols)
      if (text.startsWith(FIRST_MESSAGE_PREFIX)) {
        const message = fromBase64url(text.slice(FIRST_MESSAGE_PREFIX.length));
        if (seat.relay === undefined) this.take(seat, decodeClientMessage(message));
        else this.relayed(seat, message);
      }
    return seat;
  };

  relayed(from: Seat, bytes: Uint8Array): void {
    const { mate } = from;
    if (!mate) {
      from.waiting.push(bytes);
      return;
    }
    this.relayedBytes += bytes.length;
    const bent = this.bend(bytes);
    if (bent) mate.pass(bent);
  }

  #relay(seat: Seat, name: string, role: Role): void {
    seat.relay = name;
    if (!this.relays) {
      seat.end(CLOSE.NO_RELAY);
      return;
    }
    const other = this.ends.get(name);
    if (!other || other.role === role || other.seat.closed) {
      this.ends.set(name, { role, seat });
      return;
    }
    this.ends.delete(name);
    seat.mate = other.seat;
    other.seat.mate = seat;
    for (const bytes of other.seat.waiting.splice(0)) this.relayed(other.seat, bytes);
  }

  /** The process is killed; `forget` its mailboxes, too. */
  kill(forget: boolean): void {
    for (const seat of this.seats) seat.end(1006);
    if (forget) this.mailboxes.clear();
  }

  take(seat: Seat, message: ClientMessage): void {
    switch (message.type) {
      case "RELAY":
        this.#relay(seat, Buffer.from(message.name).toString("hex"), message.role);
        break;
      case "ALLOCATE": {
        const free = message.nameplate !== 0 && !this.mailboxes.has(message.nameplate);
        const nameplate = free ? message.nameplate : this.next++;
        const side = (): Side => ({ key: "", bodies: [], delivered: 0, seat: undefined });
        const mailbox = { nameplate, sides: { waiting: side(), joining: side() } };
        this.mailboxes.set(nameplate, mailbox);
        seat.say({ type: "ALLOCATED", nameplate, link: "" });
        mailbox.sides.waiting.key = String(message.key);
        this.#attach(seat, mailbox, "waiting");
        break;
      }
      case "CLAIM": {
        const mailbox = this.mailboxes.get(message.nameplate);
        if (!mailbox) seat.end(CLOSE.UNKNOWN);
        else if (mailbox.sides.joining.key !== "") seat.end(CLOSE.USED);
        else {
          mailbox.sides.joining.key = String(message.key);
          this.#attach(seat, mailbox, "joining");
          mailbox.sides.waiting.seat?.say({ type: "JOINED" });
        }
        break;
      }
      case "RESUME": {
        const mailbox = this.mailboxes.get(message.nameplate);
        if (mailbox?.sides[message.role].key === String(message.key))
          this.#attach(seat, mailbox, message.role);
        else seat.end(CLOSE.UNKNOWN);
        break;
      }
      case "POST": {
        const { mailbox, role } = seat;
        if (!mailbox) return;
        this.seen.push(Buffer.from(message.body).toString("latin1"));
        mailbox.sides[role].bodies[message.index] = message.body;
        for (const { to, body } of this.tamper(role, message.index, message.body, mailbox))
          this.deliver(mailbox, to, body);
        break;
      }
      case "RELEASE": {
        this.outcomes.push(message.outcome);
        const { mailbox, role } = seat;
        if (!mailbox) return;
        this.mailboxes.delete(mailbox.nameplate);
        const code =
          message.outcome === "wrong"
            ? CLOSE.WRONG
            : message.outcome === "failed" || message.outcome === "left"
              ? CLOSE.LEFT
              : CLOSE.RELEASED;
        mailbox.sides[role === "waiting" ? "joining" : "waiting"].seat?.end(code);
        seat.end(CLOSE.RELEASED);
        break;
      }
      case "OPEN":
      case "RENEW":
    }
  }

  deliver(mailbox: Mailbox, to: Role, body: Uint8Array): void {
    const side = mailbox.sides[to];
    // Kept for a side that has not come yet: its bodies are those of the other one.
    if (side.seat) side.seat.say({ type: "MESSAGE", index: side.delivered++, body });
    else (this.#kept.get(mailbox) ?? this.#keep(mailbox)).push({ to, body });
  }

  readonly #kept = new Map<Mailbox, { to: Role; body: Uint8Array }[]>();

  #keep(mailbox: Mailbox): { to: Role; body: Uint8Array }[] {
    const list: { to: Role; body: Uint8Array }[] = [];
    this.#kept.set(mailbox, list);
    return list;
  }

  #attach(seat: Seat, mailbox: Mailbox, role: Role): void {
    seat.mailbox = mailbox;
    seat.role = role;
    mailbox.sides[role].seat = seat;
    seat.say({ type: "ATTACHED", stored: mailbox.sides[role].bodies.length });
    if (mailbox.sides.waiting.seat && mailbox.sides.joining.seat)
      for (const side of Object.values(mailbox.sides))
        side.seat?.say({ type: "SERVERS", servers: this.servers });
    const kept = this.#kept.get(mailbox) ?? [];
    this.#kept.delete(mailbox);
    for (const { to, body } of kept) this.deliver(mailbox, to, body);
  }
}
