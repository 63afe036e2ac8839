/**
 * The two ways into a session with a machine that is remembered (docs/protocol.md, section 10.2): `waitKnown` sits behind a door,
 * `joinKnown` knocks. Both do so at the rendezvous and on the local network.
 *
 * Where both sides name each other nobody would wait. So side `a` then also waits behind a door that is there for this, and side `b`
 * also knocks there.
 */
import { DcpipeError, asDcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";
import { PeerKeys, type DoorKeys, type PeerSide } from "../signalling/known.ts";
import type { Purpose } from "../wire/header.ts";
import { randomKey } from "../signalling/mailbox.ts";
import { toBase64url } from "../wire/bytes.ts";
import type { Role } from "../wire/hello.ts";
import { keepAppointment, type KnownPeer } from "./appointment.ts";
import { JoiningDoor, WaitingDoor, type DoorPlace, type Knock } from "./door.ts";
import { Ending } from "./ending.ts";
import {
  DEFAULT_RECONNECT,
  DEFAULT_TIMEOUT_JOINING,
  parseNetwork,
  seconds,
  type CodeEvent,
  type CodeOptions,
  type ConnectOptions,
  type Lan,
  type Platform,
} from "./options.ts";

/** Sessions that one peer may be making at the same time: a ProxyCommand for each of several ssh, and knocks that were played back. */
const MAX_ATTEMPTS = 8;
/** Nonces that a process remembers: a knock that is played back after so many others costs an attempt that fails. */
const MAX_NONCES = 1000;
/** Waiting sides on the local network that are tried at the same time: some machine may answer in place of the right one. */
const MAX_LAN_WAYS = 4;
/** The local network is searched anew after so long: what was found may have gone, or come back at another port. */
const SEARCH_MS = 30_000;
/** Between two rounds of knocking, after a session that did not come about; half of it at random. */
const AGAIN_MS = 1_000;

export interface KnownOptions extends ConnectOptions {
  /** URL of the rendezvous; by default where the two were paired; false for none. */
  readonly rendezvous?: string | false | undefined;
  /** Whether the local network is called, too. Default true. */
  readonly lan?: boolean | undefined;
  /** What happens on the way. `attempt` tells apart the sessions of one call; it is undefined for what concerns none of them. */
  readonly onevent?: ((event: CodeEvent, attempt?: number) => void) | undefined;
}

/** A session with a known peer. */
export interface KnownMet {
  readonly session: Session;
  readonly role: Role;
  /** The short authentication string. */
  readonly verifier: string;
  /** As `onevent` has it. */
  readonly attempt: number;
}

export interface WaitKnownOptions extends KnownOptions {
  /** A session stands. More may follow until `close`. */
  readonly onsession: (met: KnownMet) => void;
  /** Asked at each knock whether it is taken. Who is told "later" knocks again; "never" closes the doors. Default: always "now". */
  readonly admits?: (() => "now" | "later" | "never") | undefined;
}

export interface WaitingKnown {
  /** A knock was taken, and its session does not stand yet. */
  readonly busy: boolean;
  /** Stops waiting; sessions that stand go on. Idempotent. */
  close(): void;
}

export interface JoiningKnown {
  /** Rejects with TIMEOUT, SIGNALLING, NO_RENDEZVOUS, ICE_FAILED, AUTH_FAILED, ABORTED, ... */
  readonly met: Promise<KnownMet>;
  close(): void;
}

export interface Purposes {
  /** What this side runs. */
  readonly own: Purpose;
  /** What the other side runs. */
  readonly other: Purpose;
}

/** Waits for a peer, which runs what goes with `purpose`. `timeout` is the caller's business. Throws USAGE. */
export function waitKnown(
  platform: Platform,
  peer: KnownPeer,
  purpose: Purpose,
  options: WaitKnownOptions,
): WaitingKnown {
  const keys = new PeerKeys(peer.secret);
  return new KnownWaiter(platform, peer, keys, [keys.door(peer.side, purpose)], options);
}

/** Joins a peer, or meets one that joins this side. Throws USAGE at once; the rest comes by `met`. */
export function joinKnown(
  platform: Platform,
  peer: KnownPeer,
  purposes: Purposes,
  options: KnownOptions,
): JoiningKnown {
  const joiner = new KnownJoiner(platform, peer, purposes, options);
  return {
    met: joiner.met,
    close: () => {
      joiner.close();
    },
  };
}

/** Where the two may meet. Throws USAGE when there is no such place, and for options that no session can be made with. */
function placesOf(
  platform: Platform,
  peer: KnownPeer,
  options: KnownOptions,
): { url: string | undefined; lan: Lan | undefined } {
  // Later nobody could be told: sessions are made when a knock is taken.
  parseNetwork(options);
  seconds(options.reconnect, DEFAULT_RECONNECT, "reconnect");
  const { rendezvous } = options;
  const url = rendezvous === false ? undefined : (rendezvous ?? peer.rendezvous ?? undefined);
  const lan = options.lan === false ? undefined : platform.lan;
  if (url === undefined && !lan)
    throw new DcpipeError(
      "USAGE",
      "no rendezvous is known for this peer: name one with --rendezvous, or allow --lan",
    );
  return { url, lan };
}

/** The door for two sides that both name each other; undefined where what they run does not go together. */
function doorForBoth(keys: PeerKeys, { own, other }: Purposes): DoorKeys | undefined {
  const pair = [own, other].sort().join(" ");
  if (pair === "pipe pipe") return keys.door("both", "pipe");
  if (pair === "receive send") return keys.door("both", "files");
  return pair === "forward forward" ? keys.door("both", "forward") : undefined;
}

class KnownWaiter implements WaitingKnown {
  readonly #platform: Platform;
  readonly #peer: KnownPeer;
  readonly #keys: PeerKeys;
  readonly #options: WaitKnownOptions;
  readonly #url: string | undefined;
  readonly #doors: WaitingDoor[] = [];
  /** Sessions under way, by nonce. */
  readonly #under = new Map<string, { drop(error: DcpipeError): void }>();
  readonly #heard = new Set<string>();
  #held: { close(): void } | undefined;
  #attempts = 0;
  #closed = false;

  constructor(
    platform: Platform,
    peer: KnownPeer,
    keys: PeerKeys,
    doors: readonly DoorKeys[],
    options: WaitKnownOptions,
  ) {
    this.#platform = platform;
    this.#peer = peer;
    this.#keys = keys;
    this.#options = options;
    const { url, lan } = placesOf(platform, peer, options);
    this.#url = url;
    const { openSocket } = platform;
    if (url !== undefined) this.#wait({ openSocket, url, direct: false }, doors);
    if (lan)
      this.#hold(lan, doors).catch((error: unknown) => {
        this.#log(`the local network is not called: ${asDcpipeError(error, "SIGNALLING").message}`);
      });
    options.signal?.addEventListener("abort", this.close);
    if (options.signal?.aborted) this.close();
  }

  get busy(): boolean {
    return this.#under.size > 0;
  }

  readonly close = (): void => {
    if (this.#closed) return;
    this.#closed = true;
    this.#options.signal?.removeEventListener("abort", this.close);
    const said = this.#doors.map((door) => door.close());
    void Promise.all(said).finally(() => this.#held?.close());
    for (const session of this.#under.values()) session.drop(new DcpipeError("ABORTED", "stopped waiting"));
  };

  #wait(place: DoorPlace, doors: readonly DoorKeys[]): void {
    for (const keys of doors)
      this.#doors.push(
        new WaitingDoor({
          place,
          keys,
          onknock: (knock) => this.#take(knock),
          onrival: () => {
            this.#options.onevent?.({
              event: "warning",
              text: "another process waits for the same peer with the same command; the two take turns",
            });
          },
          onlog: (text) => {
            this.#log(text);
          },
          ontrouble: (trouble) => {
            if (!place.direct) this.#options.onevent?.({ event: "rendezvous", trouble });
          },
        }),
      );
  }

  async #hold(lan: Lan, doors: readonly DoorKeys[]): Promise<void> {
    const key = randomKey();
    const held = await lan.hold({
      nameplate: this.#keys.nameplate(this.#peer.side),
      key,
      bind: this.#options.bind,
      onlog: (text) => {
        this.#log(text);
      },
    });
    if (this.#closed) {
      held.close();
      return;
    }
    this.#held = held;
    this.#wait({ openSocket: this.#platform.openSocket, url: held.url, direct: true, key }, doors);
  }

  /** Whether the knock is taken: then a session is being made for it. */
  #take(knock: Knock): boolean {
    const id = toBase64url(knock.nonce);
    // Who was disturbed in knocking knocks once more.
    if (this.#under.has(id)) return true;
    if (this.#heard.has(id)) {
      this.#log("a knock came for the second time; it is not taken");
      return false;
    }
    const admitted = this.#options.admits?.() ?? "now";
    if (admitted === "never") this.close();
    if (admitted !== "now") return false;
    if (this.#under.size >= MAX_ATTEMPTS) {
      this.#log(`${MAX_ATTEMPTS} sessions are being made; a knock is not taken`);
      return false;
    }
    this.#heard.add(id);
    const [oldest] = this.#heard;
    if (oldest !== undefined && this.#heard.size > MAX_NONCES) this.#heard.delete(oldest);
    const attempt = ++this.#attempts;
    const session = keepAppointment({
      platform: this.#platform,
      peer: this.#peer,
      keys: this.#keys,
      role: "waiting",
      knock,
      options: connectionOptions(this.#options, this.#url, attempt),
      onsession: (met, verifier) => {
        this.#under.delete(id);
        this.#options.onsession({ session: met, role: "waiting", verifier, attempt });
      },
      onfailed: (error) => {
        this.#under.delete(id);
        this.#log(`a session did not come about: ${error.message}`);
      },
    });
    this.#under.set(id, session);
    return true;
  }

  #log(text: string): void {
    this.#options.onevent?.({ event: "log", text });
  }
}

class KnownJoiner {
  readonly met: Promise<KnownMet>;
  readonly #platform: Platform;
  readonly #peer: KnownPeer;
  readonly #keys: PeerKeys;
  readonly #options: KnownOptions;
  readonly #ending: Ending;
  readonly #url: string | undefined;
  readonly #lan: Lan | undefined;
  /** Where is knocked. */
  readonly #doors: readonly DoorKeys[];
  readonly #behind: KnownWaiter | undefined;
  readonly #knocking = new Map<string, JoiningDoor[]>();
  #search: AbortController | undefined;
  #session: { drop(error: DcpipeError): void } | undefined;
  #again: ReturnType<typeof setTimeout> | undefined;
  #attempts = 0;
  #winner: KnownMet | undefined;
  #trouble: string | undefined;

  constructor(platform: Platform, peer: KnownPeer, purposes: Purposes, options: KnownOptions) {
    this.#platform = platform;
    this.#peer = peer;
    this.#options = options;
    this.#keys = new PeerKeys(peer.secret);
    const { url, lan } = placesOf(platform, peer, options);
    this.#url = url;
    this.#lan = lan;
    const timeoutMs = seconds(options.timeout, DEFAULT_TIMEOUT_JOINING, "timeout");
    this.#ending = new Ending(options.signal, timeoutMs, () => {
      const why = this.#trouble === undefined ? "" : ` (${this.#trouble})`;
      return `the other side did not come within ${timeoutMs / 1000} s${why}`;
    });
    this.met = this.#ending.session.then(() => {
      if (!this.#winner) throw new DcpipeError("CLOSED", "no session");
      return this.#winner;
    });
    this.#ending.session.then(
      () => {
        this.#end(new DcpipeError("ABORTED", "another way was faster"));
      },
      (error: unknown) => {
        this.#end(asDcpipeError(error, "SIGNALLING"));
      },
    );
    this.met.catch(() => undefined);
    const both = doorForBoth(this.#keys, purposes);
    const door = this.#keys.door(otherSide(peer.side), purposes.other);
    this.#doors = both && peer.side === "b" ? [door, both] : [door];
    if (this.#ending.isOver()) return;
    if (both && peer.side === "a")
      this.#behind = new KnownWaiter(platform, peer, this.#keys, [both], {
        ...options,
        onevent: (event, attempt) => {
          // The knocking side says what becomes of the rendezvous.
          if (event.event !== "rendezvous")
            options.onevent?.(event, attempt === undefined ? undefined : -attempt);
        },
        // There is one session only.
        admits: () => (this.#session || this.#behind?.busy === true ? "later" : "now"),
        onsession: (met) => {
          this.#stands({ ...met, attempt: -met.attempt });
        },
      });
    // What fails in the constructor of a door is told before anybody could close it.
    queueMicrotask(() => {
      this.#knock(finite(timeoutMs));
    });
  }

  close(): void {
    this.#ending.reject(new DcpipeError("ABORTED", "stopped"));
  }

  /** Knocks wherever the other side may be. */
  #knock(impatient: boolean): void {
    if (this.#ending.isOver()) return;
    const { openSocket } = this.#platform;
    if (this.#url !== undefined)
      this.#knockAt({ openSocket, url: this.#url, direct: false }, (error) => {
        this.#trouble = error.message;
        // Nobody else is asked, and somebody waits for the answer.
        if (impatient && !this.#lan && error.code !== "LIMIT") this.#ending.reject(error);
      });
    if (this.#lan)
      this.#look(this.#lan).catch((error: unknown) => {
        this.#log(`the local network is not searched: ${asDcpipeError(error, "SIGNALLING").message}`);
      });
  }

  #knockAt(place: DoorPlace, onfailed: (error: DcpipeError, door: JoiningDoor) => void): void {
    const doors = this.#doors.map((keys) => {
      const door: JoiningDoor = new JoiningDoor({
        place,
        keys,
        ontaken: (knock) => {
          this.#taken(knock);
        },
        onfailed: (error) => {
          this.#log(`${place.url}: ${error.message}`);
          onfailed(error, door);
        },
        onlog: (text) => {
          this.#log(text);
        },
        ontrouble: (trouble) => {
          if (place.direct) return;
          this.#trouble = trouble;
          this.#options.onevent?.({ event: "rendezvous", trouble });
        },
      });
      return door;
    });
    this.#knocking.set(place.url, doors);
  }

  /** Knocks at whoever calls itself the other side on the local network. */
  async #look(lan: Lan): Promise<void> {
    const search = new AbortController();
    this.#search = search;
    const { openSocket } = this.#platform;
    const nameplate = this.#keys.nameplate(otherSide(this.#peer.side));
    while (!search.signal.aborted) {
      const round = new AbortController();
      const end = (): void => {
        round.abort();
      };
      search.signal.addEventListener("abort", end);
      const timer = setTimeout(end, SEARCH_MS);
      const found = lan.find({
        nameplate,
        bind: this.#options.bind,
        signal: round.signal,
        onfound: (url) => {
          const ways = [...this.#knocking.keys()].filter((way) => way !== this.#url);
          if (ways.includes(url) || ways.length >= MAX_LAN_WAYS) return;
          this.#knockAt({ openSocket, url, direct: true }, (_error, door) => {
            // It is found again, when it is there. Of two doors one may be there all the same.
            void door.close();
            if (this.#knocking.get(url)?.every(({ closed }) => closed) === true) this.#knocking.delete(url);
          });
        },
        onlog: (text) => {
          this.#log(text);
        },
      });
      await found.finally(() => {
        clearTimeout(timer);
        search.signal.removeEventListener("abort", end);
      });
    }
  }

  /** The other side is there: one way is enough. */
  #taken(knock: Omit<Knock, "roundTripMs">): void {
    if (this.#session || this.#ending.isOver()) return;
    this.#withdraw();
    const attempt = ++this.#attempts;
    this.#session = keepAppointment({
      platform: this.#platform,
      peer: this.#peer,
      keys: this.#keys,
      role: "joining",
      knock,
      options: connectionOptions(this.#options, this.#url, attempt),
      onsession: (session, verifier) => {
        this.#stands({ session, role: "joining", verifier, attempt });
      },
      onfailed: (error) => {
        this.#session = undefined;
        if (this.#ending.isOver()) return;
        if (FATAL.has(error.code)) this.#ending.reject(error);
        else {
          this.#trouble = error.message;
          this.#log(`a session did not come about: ${error.message}`);
          this.#again = setTimeout(
            () => {
              this.#knock(false);
            },
            AGAIN_MS * (0.5 + Math.random() / 2),
          );
        }
      },
    });
  }

  #stands(met: KnownMet): void {
    if (this.#ending.isOver()) {
      void met.session.abort("ABORTED", "another way was faster");
      return;
    }
    this.#winner = met;
    if (met.role === "joining") this.#session = undefined;
    this.#ending.resolve(met.session, met.verifier);
  }

  #leave(url: string): void {
    for (const door of this.#knocking.get(url) ?? []) void door.close();
    this.#knocking.delete(url);
  }

  #withdraw(): void {
    this.#search?.abort();
    for (const url of this.#knocking.keys()) this.#leave(url);
  }

  #end(error: DcpipeError): void {
    clearTimeout(this.#again);
    this.#withdraw();
    this.#behind?.close();
    this.#session?.drop(error);
  }

  #log(text: string): void {
    this.#options.onevent?.({ event: "log", text });
  }
}

/** Failures that another knock would only repeat. */
const FATAL: ReadonlySet<string> = new Set(["USAGE", "NO_WEBRTC", "AUTH_FAILED", "VERSION"]);

function otherSide(side: PeerSide): PeerSide {
  return side === "a" ? "b" : "a";
}

function finite(timeoutMs: number): boolean {
  return timeoutMs > 0 && timeoutMs !== Infinity;
}

/** What a session takes of the options. */
function connectionOptions(options: KnownOptions, url: string | undefined, attempt: number): CodeOptions {
  return { ...options, rendezvous: url, onevent: (event) => options.onevent?.(event, attempt) };
}
