/**
 * The two ways into a session by token: `listen` makes an offer and waits, `connect` takes one. Everything but the offer's
 * secret, fingerprint and addresses is derived (signalling/keys.ts), so one paste is enough where the waiting side can be
 * reached; elsewhere the answer carries the joining side's addresses back.
 */
import { DcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";
import { Keys } from "../signalling/keys.ts";
import { certificateFromSeed } from "../transport/certificate.ts";
import { sameBytes } from "../wire/bytes.ts";
import { decodeToken, encodeToken, SECRET_SIZE } from "../wire/token.ts";
import { Connection } from "./connection.ts";
import { PathMtu } from "./mtu.ts";
import {
  best,
  DEFAULT_TIMEOUT_JOINING,
  follow,
  parseNetwork,
  PROBE_MS,
  relayOnly,
  seconds,
  surroundings,
  type ConnectOptions,
  type Platform,
} from "./options.ts";

export interface Waiting {
  /** The token for the other side. */
  readonly offer: string;
  /** Takes the other side's answer. Throws TOKEN_MALFORMED, TOKEN_CUT, TOKEN_KIND, TOKEN_VERSION or TOKEN_FOREIGN. */
  answer(token: string): void;
  /** Resolves when the other side is there, with or without an answer. Rejects with TIMEOUT, ABORTED, ... */
  readonly session: Promise<Session>;
  /** The short authentication string: both people see the same one when nobody sits in between. */
  readonly verifier: string;
  /** Stops waiting; a session that stands goes on. */
  close(): void;
}

export interface Joining {
  /** The token to carry back where the waiting side cannot be reached. Resolves when our addresses are known. */
  readonly answer: Promise<string>;
  /** Resolves when the other side is there. Rejects with TIMEOUT, ICE_FAILED, AUTH_FAILED, ... */
  readonly session: Promise<Session>;
  /** The short authentication string, as on the other side. */
  readonly verifier: string;
  close(): void;
}

/** Waits for another machine: resolves when the offer token is ready. Throws USAGE, NO_WEBRTC. */
export async function listen(platform: Platform, options: ConnectOptions = {}): Promise<Waiting> {
  const secret = crypto.getRandomValues(new Uint8Array(SECRET_SIZE));
  const keys = new Keys(secret);
  const certificate = await platform.createCertificate();
  const joining = certificateFromSeed(keys.joiningSeed).fingerprint;
  const fingerprints = { waiting: certificate.fingerprint, joining };
  const network = parseNetwork(options);
  const connection = new Connection({
    context: {
      role: "waiting",
      keys,
      certificate,
      fingerprints,
      createPeer: platform.createPeer,
      bind: options.bind,
      turn: network.turn,
      relayOnly: relayOnly(network.relay, network.turn, false),
      pathMtu: new PathMtu(),
      onlog: (text) => options.onevent?.({ event: "log", text }),
    },
    ...surroundings(platform, options, network),
    signalling: "paste",
    stun: platform.findStunServer(network.stun, PROBE_MS, options.bind),
    stunWaitMs: Infinity,
    candidates: [],
    timeoutMs: seconds(options.timeout, 0, "timeout"),
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
    verifier: keys.verifier(fingerprints),
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
  if (!platform.certificateFromSeed)
    throw new DcpipeError(
      "USAGE",
      "a browser cannot join by token, which brings a key that no browser takes: use a code",
    );
  const offer = decodeToken(offerText, "offer");
  const keys = new Keys(offer.secret);
  const certificate = platform.certificateFromSeed(keys.joiningSeed);
  const fingerprints = { waiting: offer.fingerprint, joining: certificate.fingerprint };
  const network = parseNetwork(options);
  const connection = new Connection({
    context: {
      role: "joining",
      keys,
      certificate,
      fingerprints,
      createPeer: platform.createPeer,
      bind: options.bind,
      turn: network.turn,
      relayOnly: relayOnly(network.relay, network.turn, false),
      pathMtu: new PathMtu(),
      onlog: (text) => options.onevent?.({ event: "log", text }),
    },
    ...surroundings(platform, options, network),
    signalling: "paste",
    stun: platform.findStunServer(network.stun, PROBE_MS, options.bind),
    // The waiting side may be in reach as it is: do not make it wait for a server. But a second try at the same port gets no relay
    // from a TURN server (RFC 8656, section 7.2), so the first one has to have all there is.
    stunWaitMs: network.turn.length > 0 ? PROBE_MS : 0,
    candidates: offer.candidates,
    timeoutMs: seconds(options.timeout, DEFAULT_TIMEOUT_JOINING, "timeout"),
  });
  follow(connection, options.signal);
  const answer = connection.candidates.then((candidates) =>
    encodeToken({ kind: "answer", offerId: keys.offerId, candidates: best(candidates) }),
  );
  answer.catch(() => undefined);
  return {
    answer,
    session: connection.session,
    verifier: keys.verifier(fingerprints),
    close: () => {
      connection.fail(new DcpipeError("ABORTED", "stopped"));
    },
  };
}
