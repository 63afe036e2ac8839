/**
 * The two ways into a session by token: `listen` makes an offer and waits, `connect` takes one. Everything but the offer's
 * secret, fingerprint and addresses is derived (signalling/keys.ts), so one paste is enough where the waiting side can be
 * reached; elsewhere the answer carries the joining side's addresses back.
 */
import { DcpipeError } from "../errors.ts";
import { Session } from "../session/session.ts";
import { Keys } from "../signalling/keys.ts";
import { CERTIFICATE_SEED_SIZE, certificateFromSeed } from "../transport/certificate.ts";
import type { CreatePeer } from "../transport/peer.ts";
import { sameBytes } from "../wire/bytes.ts";
import { MAX_CANDIDATES, type Candidate } from "../wire/candidate.ts";
import { decodeToken, encodeToken, SECRET_SIZE } from "../wire/token.ts";
import { Connection, GATHER_MS, type ConnectionEvent, type StunServer } from "./connection.ts";
import { DEFAULT_STUN, parseStunUrl, parseTurnUrl } from "./servers.ts";

export interface ConnectOptions {
  /** STUN servers as `stun:host:port`; an empty list for none. Default: Google's. */
  readonly stun?: readonly string[] | undefined;
  /** TURN servers as `turn:user:password@host:port`. */
  readonly turn?: readonly string[] | undefined;
  /** "only" never connects directly, "off" never through TURN. Default "auto". */
  readonly relay?: "auto" | "only" | "off" | undefined;
  /** Local UDP ports to use, first and last. */
  readonly portRange?: readonly [number, number] | undefined;
  /** Local address to bind. */
  readonly bind?: string | undefined;
  /** Seconds after which an absent peer is given up, 0 for never. Default: 0 when waiting, 60 when joining. */
  readonly timeout?: number | undefined;
  /** Seconds of reconnecting after which a vanished peer is given up; Infinity for never. Default 90. */
  readonly reconnect?: number | undefined;
  /** Ends the wait, or the session, with ABORTED. */
  readonly signal?: AbortSignal | undefined;
  /** What happens on the way: "connected", "path", "reconnecting", "log". */
  readonly onevent?: ((event: ConnectionEvent) => void) | undefined;
}

/** What the platform brings: WebRTC, and a way to find a STUN server that lives. */
export interface Platform {
  readonly createPeer: CreatePeer;
  readonly findStunServer: (
    servers: readonly StunServer[],
    timeoutMs: number,
  ) => Promise<StunServer | undefined>;
}

export interface Waiting {
  /** The token for the other side. */
  readonly offer: string;
  /** Takes the other side's answer. Throws TOKEN_MALFORMED, TOKEN_CUT, TOKEN_KIND, TOKEN_VERSION or TOKEN_FOREIGN. */
  answer(token: string): void;
  /** Resolves when the other side is there, with or without an answer. Rejects with TIMEOUT, ABORTED, ... */
  readonly session: Promise<Session>;
  /** Stops waiting; a session that stands goes on. */
  close(): void;
}

export interface Joining {
  /** The token to carry back where the waiting side cannot be reached. Resolves when our addresses are known. */
  readonly answer: Promise<string>;
  /** Resolves when the other side is there. Rejects with TIMEOUT, ICE_FAILED, AUTH_FAILED, ... */
  readonly session: Promise<Session>;
  close(): void;
}

const DEFAULT_TIMEOUT_JOINING = 60;
const DEFAULT_RECONNECT = 90;
/** The probe leaves the rest of GATHER_MS to gathering itself. */
const PROBE_MS = GATHER_MS * 0.6;

/** Waits for another machine: resolves when the offer token is ready. Throws USAGE, NO_WEBRTC. */
export async function listen(platform: Platform, options: ConnectOptions = {}): Promise<Waiting> {
  const secret = crypto.getRandomValues(new Uint8Array(SECRET_SIZE));
  const keys = new Keys(secret);
  const certificate = certificateFromSeed(crypto.getRandomValues(new Uint8Array(CERTIFICATE_SEED_SIZE)));
  const joining = certificateFromSeed(keys.joiningSeed).fingerprint;
  const network = parseNetwork(options);
  const connection = new Connection({
    context: {
      role: "waiting",
      keys,
      certificate,
      fingerprints: { waiting: certificate.fingerprint, joining },
      createPeer: platform.createPeer,
      bind: options.bind,
      turn: network.turn,
      relayOnly: network.relayOnly,
    },
    ports: options.portRange,
    stun: platform.findStunServer(network.stun, PROBE_MS),
    stunFirst: true,
    candidates: [],
    timeoutMs: seconds(options.timeout, 0, "timeout"),
    reconnectMs: seconds(options.reconnect, DEFAULT_RECONNECT, "reconnect"),
    onevent: (event) => options.onevent?.(event),
  });
  follow(connection, options.signal);
  const candidates = await connection.candidates;
  return {
    offer: encodeToken({
      kind: "offer",
      secret,
      fingerprint: certificate.fingerprint,
      candidates: best(candidates),
    }),
    answer: (text) => {
      const answer = decodeToken(text, "answer");
      if (!sameBytes(answer.offerId, keys.offerId)) {
        throw new DcpipeError(
          "TOKEN_FOREIGN",
          "this answer belongs to another offer; paste the one made from the offer shown here",
        );
      }
      connection.addCandidates(answer.candidates);
    },
    session: connection.session,
    close: () => {
      connection.fail(new DcpipeError("ABORTED", "stopped waiting"));
    },
  };
}

/**
 * Joins the machine that made the offer. Throws TOKEN_MALFORMED, TOKEN_CUT, TOKEN_KIND, TOKEN_VERSION, USAGE at once; the
 * rest comes by `session`.
 */
export function connect(platform: Platform, offerText: string, options: ConnectOptions = {}): Joining {
  const offer = decodeToken(offerText, "offer");
  const keys = new Keys(offer.secret);
  const certificate = certificateFromSeed(keys.joiningSeed);
  const network = parseNetwork(options);
  const connection = new Connection({
    context: {
      role: "joining",
      keys,
      certificate,
      fingerprints: { waiting: offer.fingerprint, joining: certificate.fingerprint },
      createPeer: platform.createPeer,
      bind: options.bind,
      turn: network.turn,
      relayOnly: network.relayOnly,
    },
    ports: options.portRange,
    stun: platform.findStunServer(network.stun, PROBE_MS),
    // The waiting side may be in reach as it is: do not make it wait for a server.
    stunFirst: false,
    candidates: offer.candidates,
    timeoutMs: seconds(options.timeout, DEFAULT_TIMEOUT_JOINING, "timeout"),
    reconnectMs: seconds(options.reconnect, DEFAULT_RECONNECT, "reconnect"),
    onevent: (event) => options.onevent?.(event),
  });
  follow(connection, options.signal);
  const answer = connection.candidates.then((candidates) =>
    encodeToken({ kind: "answer", offerId: keys.offerId, candidates: best(candidates) }),
  );
  answer.catch(() => undefined);
  return {
    answer,
    session: connection.session,
    close: () => {
      connection.fail(new DcpipeError("ABORTED", "stopped"));
    },
  };
}

function parseNetwork(options: ConnectOptions): Pick<ParsedNetwork, "stun" | "turn" | "relayOnly"> {
  const relay = options.relay ?? "auto";
  const turn = relay === "off" ? [] : (options.turn ?? []).map(parseTurnUrl);
  if (relay === "only" && turn.length === 0)
    throw new DcpipeError("USAGE", "relay only, but no TURN server is named");
  return { stun: (options.stun ?? DEFAULT_STUN).map(parseStunUrl), turn, relayOnly: relay === "only" };
}

interface ParsedNetwork {
  readonly stun: readonly StunServer[];
  readonly turn: ReturnType<typeof parseTurnUrl>[];
  readonly relayOnly: boolean;
}

/** Milliseconds of an option in seconds. */
function seconds(value: number | undefined, fallback: number, name: string): number {
  const chosen = value ?? fallback;
  if (Number.isNaN(chosen) || chosen < 0) throw new DcpipeError("USAGE", `${name}: not a number of seconds`);
  // Timers hold 24 days; more means for ever.
  return chosen > 2_000_000 ? Infinity : chosen * 1000;
}

/** The addresses that go into a token: relays and reflexive ones never fall off the end of a long list of interfaces. */
function best(candidates: readonly Candidate[]): Candidate[] {
  const hosts = candidates.filter(({ type }) => type === "host");
  const others = candidates.filter(({ type }) => type !== "host");
  return [...hosts.slice(0, MAX_CANDIDATES - others.length), ...others].slice(0, MAX_CANDIDATES);
}

function follow(connection: Connection, signal: AbortSignal | undefined): void {
  if (!signal) return;
  const abort = (): void => {
    const error = new DcpipeError("ABORTED", "stopped", { cause: signal.reason });
    connection.abort(error);
  };
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort, { once: true });
}
