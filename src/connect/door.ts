/**
 * Doors (docs/protocol.md, section 10.2): mailboxes that two machines which remember each other know by name. Who waits sits behind one,
 * who joins knocks there with the nonce of a session; both then go to the mailbox that the nonce names, and the door is free for
 * the next one.
 *
 *   waiting:  open --knock--> released, open again at once
 *               |   RESTART, nobody was there: another process of ours waits here; give way for a while
 *
 *   joining:  open, with the knock --RELEASED--> taken
 *               |   RESTART: another one knocks, or has just begun to wait; the same knock again, a little later
 *               |   LEFT: it was not taken; another knock, a little later
 */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import type { DoorKeys } from "../signalling/known.ts";
import { Mailbox, type MailboxOptions } from "../signalling/mailbox.ts";
import type { OpenSocket } from "../signalling/socket.ts";
import { KNOCK_NONCE_SIZE } from "../wire/introduction.ts";
import type { ServerRecord } from "../wire/rendezvous.ts";

/** A knock that met another one waits at random so long, and twice as long each time: they shall not meet again. Milliseconds. */
const REPEAT_MS = [300, 1500] as const;
const MAX_REPEATS_DOUBLED = 3;
/** Who gives way to another process of the same user comes back after a time in here: it may have gone. */
const GIVE_WAY_MS = [5_000, 15_000] as const;
/** Pauses after a trouble, doubled each time up to the second one. */
const PAUSE_MS = [500, 30_000] as const;
/** A server that ends mailboxes one after another does not make us run in circles. */
const QUIET_PAUSE_MS = 50;
/** What stood for so long was no trouble. */
const STOOD_MS = 10_000;

/** Where a door is. */
export interface DoorPlace {
  readonly openSocket: OpenSocket;
  /** URL of the rendezvous, or of a waiting side on the local network. */
  readonly url: string;
  /** It is on this network: no proxy leads there. */
  readonly direct: boolean;
  /** This side's key where it holds the mailbox itself. */
  readonly key?: Uint8Array | undefined;
}

/** A knock that has come. */
export interface Knock {
  readonly nonce: Uint8Array;
  readonly place: DoorPlace;
  /** TURN servers the rendezvous lends. */
  readonly servers: readonly ServerRecord[];
  /** What a message takes to the rendezvous and back, milliseconds. Resolves soon, never rejects. */
  readonly roundTripMs: Promise<number>;
}

interface DoorEvents {
  readonly onlog: (text: string) => void;
  /** The rendezvous is out of reach, or back (undefined). */
  readonly ontrouble: (trouble: string | undefined) => void;
}

/** What both sides of a door have in common: one mailbox after another, with pauses. */
abstract class Door {
  readonly place: DoorPlace;
  protected readonly keys: DoorKeys;
  #mailbox: Mailbox | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  #failures = 0;
  #opened = 0;

  constructor(place: DoorPlace, keys: DoorKeys) {
    this.place = place;
    this.keys = keys;
  }

  /** Leaves the door. Resolves when that is said. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#mailbox?.release("left");
  }

  get closed(): boolean {
    return this.#closed;
  }

  protected abstract open(): Mailbox;

  protected enter(): void {
    if (this.#closed) return;
    this.#opened = performance.now();
    this.#mailbox = this.open();
  }

  protected enterAfter(milliseconds: number): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      this.enter();
    }, milliseconds);
  }

  /** After a trouble: each time later, unless all went well for a while. */
  protected enterLater(): void {
    if (performance.now() - this.#opened > STOOD_MS) this.#failures = 0;
    const [first, last] = PAUSE_MS;
    this.enterAfter(Math.min(first * 2 ** this.#failures++, last) * (0.5 + Math.random() / 2));
  }

  protected calm(): void {
    this.#failures = 0;
  }

  protected get mailboxOptions(): Pick<MailboxOptions, "openSocket" | "url" | "direct" | "key"> {
    const { openSocket, url, direct, key } = this.place;
    return { openSocket, url, direct, key };
  }
}

export interface WaitingDoorOptions extends DoorEvents {
  readonly place: DoorPlace;
  readonly keys: DoorKeys;
  /** Says whether it is taken. */
  readonly onknock: (knock: Knock) => boolean;
  /** Another process of this side waits at the same door. Called once. */
  readonly onrival: () => void;
}

export class WaitingDoor extends Door {
  readonly #options: WaitingDoorOptions;
  #rivalTold = false;

  constructor(options: WaitingDoorOptions) {
    super(options.place, options.keys);
    this.#options = options;
    this.enter();
  }

  protected open(): Mailbox {
    let servers: readonly ServerRecord[] = [];
    let joined = false;
    const mailbox: Mailbox = new Mailbox({
      ...this.mailboxOptions,
      place: { type: "open", role: "waiting", name: this.keys.name },
      onjoined: () => {
        joined = true;
      },
      onservers: (list) => {
        servers = list;
      },
      onbody: (body, index) => {
        this.#hear(mailbox, body, index, servers);
      },
      onrestart: () => {
        mailbox.close();
        // One who knocks is told by JOINED first.
        if (joined) this.enter();
        else this.#giveWay();
      },
      onclosed: (error) => {
        if (error && !QUIET.has(error.code)) this.#options.onlog(`a door: ${error.message}`);
        // It stood unused for an hour, or who knocked has left.
        if (!error || QUIET.has(error.code)) this.enterAfter(QUIET_PAUSE_MS);
        else this.enterLater();
      },
      ontrouble: this.#options.ontrouble,
    });
    return mailbox;
  }

  #giveWay(): void {
    if (!this.#rivalTold) this.#options.onrival();
    this.#rivalTold = true;
    this.enterAfter(between(GIVE_WAY_MS));
  }

  #hear(mailbox: Mailbox, body: Uint8Array, index: number, servers: readonly ServerRecord[]): void {
    let nonce: Uint8Array;
    try {
      nonce = this.keys.openKnock(body, index);
    } catch (error) {
      this.#options.onlog(`not a knock: ${asDcpipeError(error, "PROTOCOL").message}`);
      void mailbox.release("left");
      this.enterLater();
      return;
    }
    this.calm();
    let told!: (roundTripMs: number) => void;
    const roundTripMs = new Promise<number>((resolve) => (told = resolve));
    const taken = this.#options.onknock({ nonce, place: this.place, servers, roundTripMs });
    const started = performance.now();
    void mailbox.release(taken ? "direct" : "left").then(() => {
      told(performance.now() - started);
    });
    this.enter();
  }
}

export interface JoiningDoorOptions extends DoorEvents {
  readonly place: DoorPlace;
  readonly keys: DoorKeys;
  /** The other side is there, and goes to the mailbox of this nonce. Called once; the door is closed then. */
  readonly ontaken: (knock: Omit<Knock, "roundTripMs">) => void;
  /** Nothing comes of it at the moment. It goes on trying, unless it is closed. */
  readonly onfailed: (error: DcpipeError) => void;
}

export class JoiningDoor extends Door {
  readonly #options: JoiningDoorOptions;
  #nonce = newNonce();
  #repeats = 0;

  constructor(options: JoiningDoorOptions) {
    super(options.place, options.keys);
    this.#options = options;
    this.enter();
  }

  protected open(): Mailbox {
    let servers: readonly ServerRecord[] = [];
    const mailbox: Mailbox = new Mailbox({
      ...this.mailboxOptions,
      place: { type: "open", role: "joining", name: this.keys.name },
      body: this.keys.sealKnock(this.#nonce),
      onservers: (list) => {
        servers = list;
      },
      onbody: () => {
        throw new DcpipeError("PROTOCOL", "a body of the side behind a door");
      },
      onrestart: () => {
        mailbox.close();
        // The same nonce: the knock may have been heard.
        this.#again();
      },
      onclosed: (error) => {
        this.#closed(error, servers);
      },
      ontrouble: this.#options.ontrouble,
    });
    return mailbox;
  }

  #closed(error: DcpipeError | undefined, servers: readonly ServerRecord[]): void {
    if (!error) {
      void this.close();
      this.#options.ontaken({ nonce: this.#nonce, place: this.place, servers });
      return;
    }
    this.#nonce = newNonce();
    if (error.code === "INTERRUPTED") this.#again();
    else if (error.code === "CODE_UNKNOWN" && !this.place.direct) this.enterAfter(QUIET_PAUSE_MS);
    else {
      this.enterLater();
      this.#options.onfailed(error);
    }
  }

  #again(): void {
    this.enterAfter(between(REPEAT_MS) * 2 ** Math.min(this.#repeats++, MAX_REPEATS_DOUBLED));
  }
}

/** How a door ends in the course of things: who knocked left, or it stood unused for too long. */
const QUIET: ReadonlySet<string> = new Set(["INTERRUPTED", "CODE_UNKNOWN"]);

function newNonce(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(KNOCK_NONCE_SIZE));
}

function between([low, high]: readonly [number, number]): number {
  return low + Math.random() * (high - low);
}
