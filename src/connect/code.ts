/**
 * The two ways into a session by code: `listenByCode` waits at a rendezvous and on the local network, `connectByCode` goes there. Who
 * may meet whom is settled in signalling/introduction.ts; here its outcome becomes a connection.
 *
 *   waiting:  one connection, made when an ANSWER has proved itself, whichever way it came
 *   joining:  a connection for each way on which a HELLO came; the first session that stands wins, the others are dropped
 */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";
import { JoiningIntroduction, WaitingIntroduction, type Introduced } from "../signalling/introduction.ts";
import { randomKey } from "../signalling/mailbox.ts";
import type { Certificate } from "../transport/certificate.ts";
import type { Candidate, TurnServer } from "../transport/peer.ts";
import { DEFAULT_WORDS, MAX_WORDS, MIN_WORDS, passwordFrom, type Code } from "../wire/code.ts";
import type { Role } from "../wire/hello.ts";
import type { Outcome, ServerRecord } from "../wire/rendezvous.ts";
import { Connection, type ConnectionEvent } from "./connection.ts";
import { meetAgain } from "./meeting.ts";
import {
  DEFAULT_RECONNECT,
  DEFAULT_TIMEOUT_JOINING,
  follow,
  parseNetwork,
  PROBE_MS,
  relayOnly,
  seconds,
  type ConnectOptions,
  type ParsedNetwork,
  type Platform,
} from "./options.ts";
import { parseTurnServer } from "./servers.ts";

/** Two sides that know each other's keys connect within seconds or not at all. */
const INTRODUCED_TIMEOUT = 60;
/** A probe of STUN servers that was begun before the introduction is over by now, or is not worth waiting for. */
const STUN_WAIT_MS = 30;
/** The rendezvous, and two answers from the local network: one may be an old one, or not meant for us. */
const MAX_WAYS = 3;
/** Who is on the local network answers within this; a rendezvous that says no, or else the first answer, has the last word after it. */
const LAN_MS = 2000;

export type CodeEvent =
  | ConnectionEvent
  /** Something a person should know of. */
  | { readonly event: "warning"; readonly text: string }
  /** The rendezvous is out of reach, or back (no `trouble`). */
  | { readonly event: "rendezvous"; readonly trouble: string | undefined }
  /** The code, again when it had to change. */
  | { readonly event: "code"; readonly code: Code; readonly rendezvous: string | undefined };

export interface CodeOptions extends ConnectOptions {
  /** URL of the rendezvous; without one only the local network is called. */
  readonly rendezvous?: string | undefined;
  /** Whether the local network is called, too. Default true for joining, and for waiting with a rendezvous. */
  readonly lan?: boolean | undefined;
  readonly onevent?: ((event: CodeEvent) => void) | undefined;
}

export interface WaitingByCode {
  /** The first code; when it changes later, a "code" event says so. */
  readonly code: Code;
  /** Where people may open it: the rendezvous' own URL, when there is a rendezvous. */
  readonly rendezvous: string | undefined;
  /** Resolves when the other side is there. Rejects with CODE_WRONG, TIMEOUT, ABORTED, ... */
  readonly session: Promise<Session>;
  /** The short authentication string, known when the session is: both people see the same one when nobody sits in between. */
  readonly verifier: Promise<string>;
  close(): void;
}

export interface JoiningByCode {
  /** Resolves when the other side is there. Rejects with CODE_UNKNOWN, CODE_USED, CODE_WRONG, SIGNALLING, ... */
  readonly session: Promise<Session>;
  /** The short authentication string, known when the session is: both people see the same one when nobody sits in between. */
  readonly verifier: Promise<string>;
  close(): void;
}

/** Waits for another machine: resolves when there is a code. Rejects with USAGE, SIGNALLING, NO_RENDEZVOUS, VERSION, LIMIT, ABORTED. */
export async function listenByCode(
  platform: Platform,
  options: CodeOptions & { readonly words?: number | undefined },
): Promise<WaitingByCode> {
  const words = options.words ?? DEFAULT_WORDS;
  if (!Number.isInteger(words) || words < MIN_WORDS || words > MAX_WORDS)
    throw new DcpipeError("USAGE", `a code has ${MIN_WORDS} to ${MAX_WORDS} words`);
  const password = passwordFrom(crypto.getRandomValues(new Uint8Array(words)));
  const meeting = new Attempt(platform, options, "waiting", await platform.createCertificate());
  const timeoutMs = seconds(options.timeout, 0, "timeout");
  let lan: { url: string; nameplate: number; close(): void } | undefined;
  const over = new Ending(options.signal, timeoutMs);
  let resolveCode!: (code: { code: Code; rendezvous: string | undefined }) => void;
  const first = new Promise<{ code: Code; rendezvous: string | undefined }>(
    (resolve) => (resolveCode = resolve),
  );
  const introduction = new WaitingIntroduction({
    openSocket: platform.openSocket,
    password,
    fingerprint: meeting.certificate.fingerprint,
    onjoined: () => {
      options.onevent?.({ event: "log", text: "somebody has claimed the code" });
    },
    onintroduced: (introduced) => {
      over.hurry();
      meeting.begin(introduced, {
        post: (candidates) => {
          introduction.post(candidates);
        },
        onsession: over.resolve,
        onfailed: over.reject,
      });
    },
    oncandidates: (candidates) => {
      meeting.connection?.addCandidates(candidates);
    },
    onfailed: over.reject,
    ontrouble: (trouble) => {
      options.onevent?.({ event: "rendezvous", trouble });
    },
  });
  const onallocated = (nameplate: number, link: string, rendezvous: string | undefined): void => {
    const given = { code: { nameplate, password }, rendezvous: link === "" ? rendezvous : link };
    resolveCode(given);
    options.onevent?.({ event: "code", ...given });
  };
  let announced: number | undefined;
  const announce = async (nameplate: number): Promise<void> => {
    if (!platform.lan || announced === nameplate) return;
    announced = nameplate;
    lan?.close();
    const key = randomKey();
    const held = await platform.lan.hold({ nameplate, key, bind: options.bind, onlog: meeting.log });
    if (over.isSettled()) {
      held.close();
      return;
    }
    lan = held;
    introduction.addWay({
      url: held.url,
      nameplate: held.nameplate,
      key,
      direct: true,
      onallocated: (given, link) => {
        if (options.rendezvous === undefined) onallocated(given, link, undefined);
      },
    });
  };
  const { rendezvous } = options;
  if (rendezvous !== undefined) {
    introduction.addWay({
      url: rendezvous,
      nameplate: 0,
      onallocated: (nameplate, link) => {
        onallocated(nameplate, link, rendezvous);
        if (options.lan ?? true)
          announce(nameplate).catch((error: unknown) => {
            meeting.log(`the local network is not called: ${asDcpipeError(error, "SIGNALLING").message}`);
          });
      },
    });
  } else announce(0).catch(over.reject);
  void over.promise
    .then(
      () => introduction.release(meeting.outcome),
      (error: unknown) => {
        meeting.connection?.fail(asDcpipeError(error, "SIGNALLING"));
        return introduction.release(meeting.connection ? "failed" : "left");
      },
    )
    .finally(() => lan?.close());
  const given = await Promise.race([first, over.promise.then(() => first)]);
  return {
    ...given,
    session: over.promise,
    verifier: over.verifier,
    close: () => {
      over.reject(new DcpipeError("ABORTED", "stopped waiting"));
    },
  };
}

/** Joins the machine that waits with this code. Throws USAGE at once; the rest comes by `session`. */
export function connectByCode(platform: Platform, code: Code, options: CodeOptions): JoiningByCode {
  const lan = (options.lan ?? true) ? platform.lan : undefined;
  if (options.rendezvous === undefined && !lan)
    throw new DcpipeError("USAGE", "a code needs a rendezvous: name one with --rendezvous, or allow --lan");
  const over = new Ending(options.signal, seconds(options.timeout, DEFAULT_TIMEOUT_JOINING, "timeout"));
  const search = new AbortController();
  const ways = new Map<string, { introduction: JoiningIntroduction; attempt: Attempt }>();
  let verdict: DcpipeError | undefined;
  let searching = lan !== undefined;

  const judge = (): void => {
    if (ways.size > 0 || searching || !verdict) return;
    over.reject(verdict);
  };
  /** Who else is on the local network has answered by then. */
  const endSearch = (): void => {
    setTimeout(() => {
      searching = false;
      judge();
    }, LAN_MS);
  };
  const tried = new Set<string>();
  const addWay = async (url: string): Promise<void> => {
    // Each HELLO that is answered is a guess allowed to somebody.
    if (over.isSettled() || tried.has(url) || tried.size >= MAX_WAYS) return;
    tried.add(url);
    const attempt = new Attempt(platform, options, "joining", await platform.createCertificate());
    if (over.isSettled()) return;
    const failed = (error: DcpipeError): void => {
      if (!ways.delete(url)) return;
      attempt.connection?.fail(error);
      void introduction.release(error.code === "ICE_FAILED" || error.code === "TIMEOUT" ? "failed" : "left");
      if (error.code === "CODE_WRONG" && url !== options.rendezvous)
        options.onevent?.({
          event: "warning",
          text: "a machine on the local network answered with another code",
        });
      else attempt.log(`${url}: ${error.message}`);
      // The rendezvous' word is better than that of some machine on the local network.
      if (url === options.rendezvous || !verdict) verdict = error;
      if (searching && options.rendezvous === undefined) endSearch();
      judge();
    };
    const introduction = new JoiningIntroduction({
      openSocket: platform.openSocket,
      url,
      code,
      direct: url !== options.rendezvous,
      fingerprint: attempt.certificate.fingerprint,
      onintroduced: (introduced) => {
        attempt.begin(introduced, {
          post: (candidates) => {
            introduction.post(candidates);
          },
          onsession: (session, verifier) => {
            ways.delete(url);
            void introduction.release(attempt.outcome);
            over.resolve(session, verifier);
          },
          onfailed: failed,
        });
      },
      oncandidates: (candidates) => {
        attempt.connection?.addCandidates(candidates);
      },
      onfailed: failed,
      ontrouble: (trouble) => {
        if (url === options.rendezvous) options.onevent?.({ event: "rendezvous", trouble });
      },
    });
    ways.set(url, { introduction, attempt });
  };

  if (options.rendezvous !== undefined) void addWay(options.rendezvous);
  if (lan) {
    void lan.find({
      nameplate: code.nameplate,
      bind: options.bind,
      signal: search.signal,
      onfound: (url) => void addWay(url),
      onlog: (text) => {
        options.onevent?.({ event: "log", text });
      },
    });
    if (options.rendezvous !== undefined) endSearch();
  }
  const end = (error: DcpipeError): void => {
    search.abort();
    for (const [url, { introduction, attempt }] of ways) {
      ways.delete(url);
      attempt.connection?.fail(error);
      void introduction.release(error.code === "TIMEOUT" && attempt.connection ? "failed" : "left");
    }
  };
  over.promise.then(
    () => {
      end(new DcpipeError("ABORTED", "another way was faster"));
    },
    (error: unknown) => {
      end(asDcpipeError(error, "SIGNALLING"));
    },
  );
  return {
    session: over.promise,
    verifier: over.verifier,
    close: () => {
      over.reject(new DcpipeError("ABORTED", "stopped"));
    },
  };
}

/** One try to become a connection. */
class Attempt {
  connection: Connection | undefined;
  readonly certificate: Certificate;
  readonly #platform: Platform;
  readonly #options: CodeOptions;
  readonly #role: Role;
  readonly #network: ParsedNetwork;
  readonly #stun: ReturnType<Platform["findStunServer"]>;

  constructor(platform: Platform, options: CodeOptions, role: Role, certificate: Certificate) {
    this.certificate = certificate;
    this.#platform = platform;
    this.#options = options;
    this.#role = role;
    this.#network = parseNetwork(options);
    this.#stun = platform.findStunServer(this.#network.stun, PROBE_MS);
  }

  /** To be reported when the session stands. */
  get outcome(): Outcome {
    return this.connection?.path ?? "failed";
  }

  readonly log = (text: string): void => {
    this.#options.onevent?.({ event: "log", text });
  };

  begin(
    { keys, fingerprints, servers }: Introduced,
    events: {
      readonly post: (candidates: readonly Candidate[]) => void;
      readonly onsession: (session: Session, verifier: string) => void;
      readonly onfailed: (error: DcpipeError) => void;
    },
  ): void {
    const options = this.#options;
    const { rendezvous } = options;
    const turn = this.#turn(servers);
    let onlyRelays: boolean;
    try {
      onlyRelays = relayOnly(this.#network.relay, turn);
    } catch (error) {
      events.onfailed(asDcpipeError(error, "USAGE"));
      return;
    }
    const connection = new Connection({
      context: {
        role: this.#role,
        keys,
        certificate: this.certificate,
        fingerprints,
        createPeer: this.#platform.createPeer,
        bind: options.bind,
        turn,
        relayOnly: onlyRelays,
      },
      ports: options.portRange,
      stun: this.#stun,
      stunWaitMs: STUN_WAIT_MS,
      candidates: [],
      // The caller's own limit runs beside it.
      timeoutMs: INTRODUCED_TIMEOUT * 1000,
      reconnectMs: seconds(options.reconnect, DEFAULT_RECONNECT, "reconnect"),
      onevent: (event) => options.onevent?.(event),
      oncandidates: events.post,
      meetAgain:
        rendezvous === undefined
          ? undefined
          : (oncandidates) =>
              meetAgain({
                openSocket: this.#platform.openSocket,
                url: rendezvous,
                keys,
                role: this.#role,
                oncandidates,
                onlog: this.log,
              }),
    });
    this.connection = connection;
    follow(connection, options.signal);
    connection.session.then(
      (session) => {
        events.onsession(session, keys.verifier(fingerprints));
      },
      (error: unknown) => {
        events.onfailed(asDcpipeError(error, "ICE_FAILED"));
      },
    );
  }

  /** The caller's own, and what the rendezvous lends. */
  #turn(servers: readonly ServerRecord[]): readonly TurnServer[] {
    const { turn, relay } = this.#network;
    if (relay === "off") return turn;
    const lent: TurnServer[] = [];
    for (const { url, username, credential } of servers) {
      try {
        lent.push({ ...parseTurnServer(url), username, password: credential });
      } catch (error) {
        this.log(`passed over a TURN server: ${asDcpipeError(error, "USAGE").message}`);
      }
    }
    return [...turn, ...lent];
  }
}

/** The one end that an introduction comes to: a session, an error, the caller's signal, or the end of time. */
class Ending {
  readonly promise: Promise<Session>;
  readonly verifier: Promise<string>;
  resolve!: (session: Session, verifier: string) => void;
  reject!: (error: DcpipeError) => void;
  #settled = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(signal: AbortSignal | undefined, timeoutMs: number) {
    const abort = (): void => {
      this.reject(new DcpipeError("ABORTED", "stopped", { cause: signal?.reason }));
    };
    let said = "";
    this.promise = new Promise((resolve, reject) => {
      const settle = (then: () => void): void => {
        if (this.#settled) return;
        this.#settled = true;
        clearTimeout(this.#timer);
        signal?.removeEventListener("abort", abort);
        then();
      };
      this.resolve = (session, verifier) => {
        settle(() => {
          said = verifier;
          resolve(session);
        });
      };
      this.reject = (error) => {
        settle(() => {
          reject(error);
        });
      };
    });
    this.verifier = this.promise.then(() => said);
    this.verifier.catch(() => undefined);
    if (timeoutMs > 0 && timeoutMs !== Infinity)
      this.#timer = setTimeout(() => {
        this.reject(
          new DcpipeError("TIMEOUT", `the other side did not connect within ${timeoutMs / 1000} s`),
        );
      }, timeoutMs);
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort);
  }

  isSettled(): boolean {
    return this.#settled;
  }

  /** The other side is known: the connection has its own limit. */
  hurry(): void {
    clearTimeout(this.#timer);
  }
}
