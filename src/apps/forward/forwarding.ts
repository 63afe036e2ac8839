/**
 * A forward: the ports of this side that lead to the other (-L, -D, and the other side's offers), what the other side may reach here,
 * and the sessions over which it goes. Ports stay bound while sessions come and go.
 */
import { DcpipeError } from "../../errors.ts";
import type { Session } from "../../session/session.ts";
import { MAX_OFFERS, type ForwardRecord, type Place, type Protocol } from "../../wire/forward.ts";
import type { Target } from "../../wire/header.ts";
import type { Role } from "../../wire/hello.ts";
import { Pacer } from "../limit.ts";
import { Access, type Rule } from "./access.ts";
import { Ledger, type ForwardEvent, type Opened } from "./events.ts";
import { listen, type Listening } from "./listening.ts";
import type { Address, Network } from "./network.ts";
import { listenForProxy } from "./proxy.ts";
import { ForwardSession, type Home } from "./session.ts";
import { formatPlace, formatTarget, type Forward, type Offer } from "./spec.ts";

/** A client whose connection came while there is no session waits so long for one, in milliseconds. */
const SESSION_MS = 30_000;
/** What a session that is over leaves behind on this machine closes within this, in milliseconds, and is told. */
const CLOSE_MS = 1000;

export interface ForwardingOptions {
  readonly network: Network;
  /** Targets of this side that the other may reach. */
  readonly offers?: readonly Offer[];
  /** More that it may reach, when it asks. */
  readonly allow?: readonly Rule[];
  /** Ports here that lead to the other side. */
  readonly locals?: readonly Forward[];
  /** Ports there that lead to this side. */
  readonly remotes?: readonly Forward[];
  /** Ports here at which clients name their targets: SOCKS and HTTP CONNECT. */
  readonly dynamics?: readonly Place[];
  /** Listen here for what the other side offers. */
  readonly takeOffers?: boolean;
  /** The other side may have this one listen at addresses other than loopback. */
  readonly gateway?: boolean;
  /** Bytes a second that each session sends at most. */
  readonly bytesPerSecond?: number | undefined;
  /** Asked before each new kind of access; what it says holds as long as the session. `allowed`: the rules would allow it. */
  readonly ask?: ((question: Question) => Promise<boolean>) | undefined;
  readonly onevent: (event: ForwardEvent) => void;
}

export interface Question {
  readonly kind: "reach" | "listen";
  readonly protocol: Protocol;
  /** What is to be reached, or where to listen. From a peer: escape before showing. */
  readonly what: string;
  readonly allowed: boolean;
}

interface Running {
  readonly session: Session;
  readonly forward: ForwardSession;
  readonly pacer: Pacer | undefined;
}

export class Forwarding {
  readonly #options: ForwardingOptions;
  readonly #ledger: Ledger;
  readonly #listenings: Listening[] = [];
  /** Listeners for what is offered, by protocol and target. */
  readonly #taken = new Map<string, Promise<void>>();
  /** The newest last: that is the one our own ports lead to. */
  #running: Running[] = [];
  /** Listeners for the other side, by peer and place. */
  readonly #asked = new Map<string, { readonly listening: Listening; readonly session: Session }>();
  #awaiting: ((session: Session) => void)[] = [];
  #closed = false;

  constructor(options: ForwardingOptions) {
    this.#options = options;
    this.#ledger = new Ledger(options.onevent);
  }

  /** Connections and flows that live. */
  get open(): readonly (Opened & { readonly since: number })[] {
    return this.#ledger.open;
  }

  /** Binds the ports of this side. Rejects with USAGE. */
  async start(): Promise<void> {
    const { offers = [], remotes = [] } = this.#options;
    // The other side would take more for a breach of the protocol.
    if (offers.length > MAX_OFFERS)
      throw new DcpipeError("USAGE", `at most ${MAX_OFFERS} TARGETs can be offered`);
    if (remotes.length > MAX_OFFERS)
      throw new DcpipeError("USAGE", `at most ${MAX_OFFERS} ports can be asked for with -R`);
    for (const forward of this.#options.locals ?? []) await this.#listen(forward);
    for (const place of this.#options.dynamics ?? []) await this.#listenForProxy(place);
  }

  /**
   * Goes over this session from now on. `ready` resolves when the other side listens for what was asked of it, and rejects when it does
   * not; `done` rejects with the reason when the session is over: CLOSED or INTERRUPTED when the other side has left in good order. Of
   * sessions with the same `peer` the newest has the ports that it asks for: the others may be of a process that is gone.
   */
  add(
    session: Session,
    role: Role,
    peer?: string,
  ): { readonly ready: Promise<void>; readonly done: Promise<never> } {
    const { bytesPerSecond } = this.#options;
    const pacer = bytesPerSecond === undefined ? undefined : new Pacer(bytesPerSecond);
    const forward = new ForwardSession(session, role, this.#home(pacer, peer));
    const running = { session, forward, pacer };
    this.#running.push(running);
    for (const resolve of this.#awaiting.splice(0)) resolve(session);
    const done = forward.run().finally(() => {
      this.#running = this.#running.filter((other) => other !== running);
    });
    return { ready: forward.ready, done };
  }

  /** Stops listening; sessions are the caller's to end. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { forward } of this.#running) forward.leave();
    await Promise.all(this.#listenings.splice(0).map((listening) => listening.close()));
    if (this.#running.length === 0) await this.#ledger.settled(CLOSE_MS);
  }

  // ---- ports of this side -------------------------------------------------------------------------------------------

  readonly #session = (): Session | undefined =>
    this.#running.findLast(({ session }) => session.state === "running" || session.state === "down")?.session;

  readonly #pacer = (session: Session): Pacer | undefined =>
    this.#running.find((running) => running.session === session)?.pacer;

  readonly #awaitSession = (): Promise<Session> => {
    const session = this.#session();
    if (session) return Promise.resolve(session);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#awaiting = this.#awaiting.filter((other) => other !== take);
        reject(new DcpipeError("PEER_GONE", "the other side is not there"));
      }, SESSION_MS);
      const take = (found: Session): void => {
        clearTimeout(timer);
        resolve(found);
      };
      this.#awaiting.push(take);
    });
  };

  async #listen({ protocol, place, target }: Forward, instead?: string): Promise<void> {
    const name = formatTarget(target, protocol);
    const listening = await listen({
      network: this.#options.network,
      ledger: this.#ledger,
      pacer: this.#pacer,
      protocol,
      place,
      target,
      name,
      session: this.#session,
      awaitSession: this.#awaitSession,
    });
    this.#listenings.push(listening);
    // A port for an offer may have been on its way when all was closed.
    if (this.#closed) {
      await listening.close();
      return;
    }
    this.#ledger.tell({
      event: "listening",
      of: "us",
      protocol,
      place: listening.place,
      target: name,
      ...(instead === undefined ? {} : { instead }),
    });
  }

  async #listenForProxy(place: Place): Promise<void> {
    const listening = await listenForProxy({
      network: this.#options.network,
      ledger: this.#ledger,
      place,
      pacer: this.#pacer,
      awaitSession: this.#awaitSession,
    });
    this.#listenings.push(listening);
    this.#ledger.tell({
      event: "listening",
      of: "us",
      protocol: "socks",
      place: listening.place,
      target: undefined,
    });
  }

  /** Listens at the same port on loopback for each target offered, or at another one when that cannot be. */
  #take(offers: readonly Offer[]): void {
    if (this.#options.takeOffers !== true) return;
    for (const offer of offers) {
      const name = formatTarget(offer.target, offer.protocol);
      const key = `${offer.protocol} ${name}`;
      if (this.#taken.has(key)) continue;
      this.#taken.set(key, this.#takeOffer(offer));
    }
  }

  async #takeOffer({ protocol, target }: Offer): Promise<void> {
    const port = target.type === "host" ? target.port : 0;
    const at = (wish: number): Forward => ({
      protocol,
      place: { type: "host", address: "", port: wish },
      target,
    });
    try {
      await this.#listen(at(port));
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      await this.#listen(at(0), why).catch((error: unknown) => {
        this.#ledger.tell({
          event: "unheard",
          place: formatTarget(target, protocol),
          error: error instanceof DcpipeError ? error : new DcpipeError("IO", String(error)),
        });
      });
    }
  }

  // ---- what the other side asks for -----------------------------------------------------------------------------------

  #home(pacer: Pacer | undefined, peer: string | undefined): Home {
    const { network, offers = [], remotes = [], allow = [], locals = [] } = this.#options;
    const access = new Access({ offers, rules: allow, resolve: (host) => network.resolve(host) });
    const questions = new Questions(this.#options.ask);
    const udp = ({ protocol }: { protocol: Protocol }): boolean => protocol === "udp";
    return {
      network,
      ledger: this.#ledger,
      pacer,
      offers,
      remotes,
      datagrams: [...offers, ...locals].some(udp),
      offered: (list) => {
        this.#take(list);
      },
      permit: async (protocol, target) => {
        const name = formatTarget(target, protocol);
        try {
          return { addresses: await this.#permit(protocol, target, name, access, questions), name };
        } catch (cause) {
          if (cause instanceof DcpipeError && cause.code === "REFUSED")
            this.#ledger.refused("us", name, cause.message);
          throw cause;
        }
      },
      listenFor: async (request, session) => {
        try {
          return await this.#listenFor(request, session, questions, peer);
        } catch (cause) {
          if (cause instanceof DcpipeError && cause.code === "REFUSED")
            this.#ledger.refused("us", formatPlace(request.place, request.protocol), cause.message);
          throw cause;
        }
      },
    };
  }

  async #permit(
    protocol: Protocol,
    target: Target,
    name: string,
    access: Access,
    questions: Questions,
  ): Promise<readonly Address[]> {
    if (!this.#options.ask) return access.check(protocol, target);
    const allowed = await access.check(protocol, target).catch((error: unknown) => {
      if (error instanceof DcpipeError && error.code === "REFUSED") return error;
      throw error;
    });
    const byRule = !(allowed instanceof DcpipeError);
    if (!(await questions.ask({ kind: "reach", protocol, what: name, allowed: byRule })))
      throw new DcpipeError("REFUSED", `${name}: the user there said no`);
    if (byRule) return allowed;
    if (target.type === "unix") return [{ type: "unix", path: target.path }];
    if (target.type === "listener") throw allowed;
    const addresses = await this.#options.network.resolve(target.host);
    return addresses.map((address) => ({ type: "host", address, port: target.port }));
  }

  async #listenFor(
    { id, protocol, place, target }: ForwardRecord & { type: "LISTEN" },
    session: Session,
    questions: Questions,
    peer: string | undefined,
  ): Promise<Listening> {
    const where = formatPlace(place);
    if (!isLoopback(place) && this.#options.gateway !== true)
      throw new DcpipeError("REFUSED", `${where} is no loopback port; --gateway there would allow it`);
    if (!(await questions.ask({ kind: "listen", protocol, what: where, allowed: true })))
      throw new DcpipeError("REFUSED", `${where}: the user there said no`);
    const request = {
      network: this.#options.network,
      ledger: this.#ledger,
      pacer: this.#pacer,
      protocol,
      place,
      target: { type: "listener", id },
      name: target,
      session: () => session,
      awaitSession: () => Promise.resolve(session),
    } as const;
    const key = `${peer} ${formatPlace(place, protocol)}`;
    const listening = await listen(request).catch(async (error: unknown) => {
      const older = peer === undefined ? undefined : this.#asked.get(key);
      if (!older || older.session === session) throw error;
      await older.listening.close();
      return listen(request);
    });
    this.#asked.set(key, { listening, session });
    this.#ledger.tell({ event: "listening", of: "us", protocol, place: listening.place, target });
    return {
      place: listening.place,
      close: async () => {
        if (this.#asked.get(key)?.listening === listening) this.#asked.delete(key);
        await listening.close();
      },
    };
  }
}

/** "" stands for loopback. */
function isLoopback(place: Place): boolean {
  if (place.type === "unix") return false;
  const { address } = place;
  return (
    address === "" || address === "localhost" || address === "::1" || /^127(\.\d{1,3}){3}$/.test(address)
  );
}

/** What was asked once is not asked again. */
class Questions {
  readonly #ask: ForwardingOptions["ask"];
  readonly #answers = new Map<string, Promise<boolean>>();

  constructor(ask: ForwardingOptions["ask"]) {
    this.#ask = ask;
  }

  ask(question: Question): Promise<boolean> {
    if (!this.#ask) return Promise.resolve(question.allowed);
    const key = `${question.kind} ${question.protocol} ${question.what}`;
    const known = this.#answers.get(key);
    if (known) return known;
    // Whoever asks for a thousand things is not let to ask a person a thousand times.
    if (this.#answers.size >= MAX_QUESTIONS) return Promise.resolve(false);
    const answer = this.#ask(question);
    this.#answers.set(key, answer);
    return answer;
  }
}

const MAX_QUESTIONS = 100;
