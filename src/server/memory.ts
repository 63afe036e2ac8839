/** Mailboxes in the memory of this process: gone with it, and nobody else's. */
import { sameBytes, toBase64url } from "../wire/bytes.ts";
import type { Role } from "../wire/hello.ts";
import { CLOSE, type CloseCode } from "../wire/rendezvous.ts";
import { claimDelay, LIMITS, MAILBOX_BYTES, type Limits } from "./limits.ts";
import { CROWDED, sampleNameplates } from "./nameplates.ts";
import { MemoryRelays } from "./relays.ts";
import type { Admission, Endings, Notice, Place, Store, StoreEvents, Visitor } from "./store.ts";

interface Side {
  key: Uint8Array | undefined;
  /** 0 while nobody is attached. */
  seat: number;
  bodies: Uint8Array[];
}

interface Mailbox {
  readonly id: string;
  /** 0 for one that was opened by name. */
  readonly nameplate: number;
  /** Addresses: who made it, and who claimed it. */
  readonly maker: string;
  claimer: string;
  readonly sides: Readonly<Record<Role, Side>>;
  /** Both sides have come. */
  joined: boolean;
  /** When it expires, as `Date.now()` counts. One that was claimed still marks its nameplate as used for a while. */
  until: number;
  endings?: Readonly<Record<Role, CloseCode>>;
}

interface Guesses {
  count: number;
  /** When they are forgotten. */
  until: number;
  /** When the next CLAIM may follow. */
  next: number;
}

const OTHER: Readonly<Record<Role, Role>> = { waiting: "joining", joining: "waiting" };
/** What has expired is looked for so often, in milliseconds: it only takes memory until then. */
const SWEEP_MS = 10_000;

export class MemoryStore implements Store {
  readonly healthy = true;
  readonly relays = new MemoryRelays();
  readonly #limits: Limits;
  readonly #mailboxes = new Map<string, Mailbox>();
  readonly #guesses = new Map<string, Guesses>();
  /** Mailboxes that each address has made. */
  readonly #made = new Map<string, number>();
  #bytes = 0;
  #events: StoreEvents | undefined;
  #sweeper: NodeJS.Timeout | undefined;

  constructor(limits: Partial<Limits> = {}) {
    this.#limits = { ...LIMITS, ...limits };
  }

  start(events: StoreEvents): Promise<void> {
    this.#events = events;
    this.#sweeper = setInterval(() => {
      this.#sweep();
    }, SWEEP_MS).unref();
    return Promise.resolve();
  }

  close(): Promise<void> {
    clearInterval(this.#sweeper);
    return Promise.resolve();
  }

  allocate(visitor: Visitor, wish: number): Promise<Admission> {
    return settle(() => {
      const there = wish === 0 ? undefined : this.#alive(plateId(wish));
      if (there && holds(there.sides.waiting, visitor.key)) return this.#attach(there, "waiting", visitor, 0);
      let nameplate = wish;
      if (wish === 0 || this.#find(plateId(wish))) {
        // A wish for what is taken tells as much as a claim of it would.
        if (wish !== 0) this.#countGuess(visitor.address);
        nameplate = this.#freeNameplate();
      }
      if (nameplate === 0) return { refused: CLOSE.LIMIT };
      return this.#make(plateId(nameplate), nameplate, "waiting", visitor);
    });
  }

  claim(visitor: Visitor, nameplate: number, waited: boolean): Promise<Admission> {
    return settle(() => {
      const wait = waited ? 0 : this.#turn(visitor.address);
      if (wait > this.#limits.maxWaitMs) return { refused: CLOSE.LIMIT };
      if (wait > 0) return { wait };
      const mailbox = this.#find(plateId(nameplate));
      const { key, address } = visitor;
      if (mailbox?.joined === true && !holds(mailbox.sides.joining, key))
        return this.#wrong(address, CLOSE.USED);
      if (!mailbox || mailbox.until <= Date.now()) return this.#wrong(address, CLOSE.UNKNOWN);
      mailbox.claimer = address;
      return this.#attach(mailbox, "joining", visitor, 0);
    });
  }

  open(visitor: Visitor, role: Role, name: Uint8Array, received: number): Promise<Admission> {
    return settle(() => {
      const id = `o${toBase64url(name)}`;
      let mailbox = this.#alive(id);
      if (mailbox && holds(mailbox.sides[role], visitor.key))
        return this.#attach(mailbox, role, visitor, received);
      // Who has received something from here was in another mailbox of this name.
      if (received > 0) return { refused: CLOSE.RESTART };
      if (mailbox?.sides[role].key) {
        this.#end(mailbox, { waiting: CLOSE.RESTART, joining: CLOSE.RESTART });
        mailbox = undefined;
      }
      return mailbox ? this.#attach(mailbox, role, visitor, 0) : this.#make(id, 0, role, visitor);
    });
  }

  resume(visitor: Visitor, role: Role, nameplate: number, received: number): Promise<Admission> {
    return settle(() => {
      const mailbox = this.#alive(plateId(nameplate));
      if (!mailbox || !holds(mailbox.sides[role], visitor.key)) return { refused: CLOSE.UNKNOWN };
      return this.#attach(mailbox, role, visitor, received);
    });
  }

  post(place: Place, index: number, body: Uint8Array): Promise<CloseCode | undefined> {
    return settle(() => {
      const mailbox = this.#mailboxes.get(place.mailbox);
      const code = this.#expelled(mailbox, place);
      if (code !== undefined || !mailbox) return code;
      const { bodies } = mailbox.sides[place.role];
      if (index > bodies.length) return CLOSE.PROTOCOL;
      if (index < bodies.length) return undefined;
      if (this.#bytes + body.length > this.#limits.storeBytes) return CLOSE.TRY_AGAIN;
      this.#bytes += body.length;
      bodies.push(body);
      this.#notice(mailbox.sides[OTHER[place.role]], { type: "MESSAGE", index, body });
      return undefined;
    });
  }

  renew(place: Place): Promise<CloseCode | undefined> {
    return settle(() => {
      const mailbox = this.#mailboxes.get(place.mailbox);
      const code = this.#expelled(mailbox, place);
      if (mailbox && code === undefined && !mailbox.joined)
        mailbox.until = Date.now() + this.#limits.unclaimedMs;
      return code;
    });
  }

  release(place: Place, endings: Endings, wrong: boolean): Promise<boolean> {
    return settle(() => {
      const mailbox = this.#alive(place.mailbox);
      const side = mailbox?.sides[place.role];
      if (!mailbox || side?.seat !== place.seat) return false;
      side.seat = 0;
      if (wrong && mailbox.claimer !== "") this.#countGuess(mailbox.claimer);
      const codes = { waiting: endings.own, joining: endings.own, [OTHER[place.role]]: endings.other };
      this.#end(mailbox, codes);
      return true;
    });
  }

  detach(place: Place): Promise<void> {
    return settle(() => {
      const mailbox = this.#alive(place.mailbox);
      const side = mailbox?.sides[place.role];
      if (!mailbox || side?.seat !== place.seat) return;
      side.seat = 0;
      mailbox.until = Math.min(mailbox.until, Date.now() + this.#limits.detachedMs);
    });
  }

  /** One that is alive, or keeps its nameplate from others. */
  #find(id: string): Mailbox | undefined {
    const mailbox = this.#mailboxes.get(id);
    if (!mailbox || this.#occupiedUntil(mailbox) > Date.now()) return mailbox;
    this.#remove(mailbox);
    return undefined;
  }

  #alive(id: string): Mailbox | undefined {
    const mailbox = this.#find(id);
    return mailbox && mailbox.until > Date.now() ? mailbox : undefined;
  }

  #occupiedUntil({ until, joined, nameplate }: Mailbox): number {
    return joined && nameplate !== 0 ? until + this.#limits.usedMs : until;
  }

  /** Why this seat is no longer attached there, if so. */
  #expelled(mailbox: Mailbox | undefined, { role, seat }: Place): CloseCode | undefined {
    if (!mailbox) return CLOSE.UNKNOWN;
    if (mailbox.endings) return mailbox.endings[role];
    if (mailbox.until <= Date.now()) return CLOSE.EXPIRED;
    return mailbox.sides[role].seat === seat ? undefined : CLOSE.GOING_AWAY;
  }

  #make(id: string, nameplate: number, role: Role, visitor: Visitor): Admission {
    const made = this.#made.get(visitor.address) ?? 0;
    if (made >= this.#limits.mailboxesPerAddress) return { refused: CLOSE.LIMIT };
    if (this.#bytes + MAILBOX_BYTES > this.#limits.storeBytes) return { refused: CLOSE.TRY_AGAIN };
    // One of the same name that has ended.
    const old = this.#mailboxes.get(id);
    if (old) this.#remove(old);
    this.#made.set(visitor.address, made + 1);
    this.#bytes += MAILBOX_BYTES;
    const mailbox: Mailbox = {
      id,
      nameplate,
      maker: visitor.address,
      claimer: "",
      sides: {
        waiting: { key: undefined, seat: 0, bodies: [] },
        joining: { key: undefined, seat: 0, bodies: [] },
      },
      joined: false,
      until: Date.now() + this.#limits.unclaimedMs,
    };
    this.#mailboxes.set(id, mailbox);
    return this.#attach(mailbox, role, visitor, 0);
  }

  #attach(mailbox: Mailbox, role: Role, { seat, key }: Visitor, received: number): Admission {
    const side = mailbox.sides[role];
    const other = mailbox.sides[OTHER[role]];
    // It speaks of bodies that this mailbox never had.
    if (received > other.bodies.length) return { refused: CLOSE.UNKNOWN };
    this.#notice(side, { type: "CLOSE", code: CLOSE.GOING_AWAY });
    const fresh = !mailbox.joined && other.key !== undefined;
    side.key = key;
    side.seat = seat;
    if (fresh) {
      mailbox.joined = true;
      mailbox.until = Date.now() + this.#limits.claimedMs;
      this.#notice(other, { type: "JOINED" });
    } else if (!mailbox.joined) {
      mailbox.until = Date.now() + this.#limits.unclaimedMs;
    }
    return {
      mailbox: mailbox.id,
      role,
      seat,
      nameplate: mailbox.nameplate,
      stored: side.bodies.length,
      received,
      bodies: other.bodies.slice(received),
      joined: mailbox.joined,
      fresh,
      lifetime: mailbox.until - Date.now(),
    };
  }

  /** The mailbox is over. A nameplate that was claimed stays used for a while, and late posts hear what happened. */
  #end(mailbox: Mailbox, endings: Readonly<Record<Role, CloseCode>>): void {
    for (const role of ["waiting", "joining"] as const) {
      this.#notice(mailbox.sides[role], { type: "CLOSE", code: endings[role] });
      this.#bytes -= size(mailbox.sides[role].bodies);
      mailbox.sides[role].bodies = [];
      mailbox.sides[role].seat = 0;
    }
    mailbox.endings = endings;
    mailbox.until = Date.now();
    this.#forgetMaker(mailbox);
    if (!mailbox.joined) this.#remove(mailbox);
  }

  #remove(mailbox: Mailbox): void {
    this.#mailboxes.delete(mailbox.id);
    this.#bytes -= MAILBOX_BYTES + size(mailbox.sides.waiting.bodies) + size(mailbox.sides.joining.bodies);
    if (!mailbox.endings) this.#forgetMaker(mailbox);
  }

  #forgetMaker({ maker }: Mailbox): void {
    const made = this.#made.get(maker) ?? 0;
    if (made > 1) this.#made.set(maker, made - 1);
    else this.#made.delete(maker);
  }

  #notice({ seat }: Side, notice: Notice): void {
    if (seat !== 0) this.#events?.notice(seat, notice);
  }

  #freeNameplate(): number {
    let last: number[] = [];
    for (const sample of sampleNameplates()) {
      last = sample.filter((nameplate) => !this.#find(plateId(nameplate)));
      if (sample.length - last.length < CROWDED) break;
    }
    return last[0] ?? 0;
  }

  #wrong(address: string, refused: CloseCode): Admission {
    this.#countGuess(address);
    return { refused };
  }

  #countGuess(address: string): void {
    const now = Date.now();
    const known = this.#guesses.get(address);
    const current = known && known.until > now ? known : { count: 0, next: 0 };
    this.#guesses.set(address, {
      ...current,
      count: current.count + 1,
      until: now + this.#limits.guessMemoryMs,
    });
  }

  /** How long a CLAIM from there waits for its turn, in milliseconds. */
  #turn(address: string): number {
    const now = Date.now();
    const guesses = this.#guesses.get(address);
    if (!guesses || guesses.until <= now) return 0;
    const delay = claimDelay(guesses.count, this.#limits);
    if (delay === 0) return 0;
    const turn = Math.max(now, guesses.next) + delay;
    if (turn - now <= this.#limits.maxWaitMs) guesses.next = turn;
    return turn - now;
  }

  #sweep(): void {
    const now = Date.now();
    for (const mailbox of this.#mailboxes.values())
      if (this.#occupiedUntil(mailbox) <= now) this.#remove(mailbox);
    for (const [address, { until }] of this.#guesses) if (until <= now) this.#guesses.delete(address);
  }
}

function plateId(nameplate: number): string {
  return `n${nameplate}`;
}

function holds({ key }: Side, other: Uint8Array): boolean {
  return key !== undefined && sameBytes(key, other);
}

function size(bodies: readonly Uint8Array[]): number {
  return bodies.reduce((sum, { length }) => sum + length, 0);
}

/** At once, with its outcome as a promise. */
function settle<T>(operation: () => T): Promise<T> {
  return new Promise((resolve) => {
    resolve(operation());
  });
}
