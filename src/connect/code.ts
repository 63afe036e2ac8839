/**
 * The two ways into a session by code: `listenByCode` waits at a rendezvous and on the local network, `connectByCode` goes there. Who
 * may meet whom is settled in signalling/introduction.ts; here its outcome becomes a connection.
 *
 *   waiting:  one connection, made when a HELLO has come, whichever way it came        connect/waiting.ts
 *   joining:  a connection for each way on which an ANSWER has proved itself; the      connect/joining.ts
 *             first session that stands wins, the others are dropped
 */
import { DcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";
import { DEFAULT_WORDS, MAX_WORDS, MIN_WORDS, passwordFrom, type Code } from "../wire/code.ts";
import { JoiningSide } from "./joining.ts";
import type { CodeOptions, Platform } from "./options.ts";
import { WaitingSide } from "./waiting.ts";

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
  const { code, ending } = new WaitingSide(platform, options, password, await platform.createCertificate());
  return {
    ...(await code),
    session: ending.session,
    verifier: ending.verifier,
    close: () => {
      ending.reject(new DcpipeError("ABORTED", "stopped waiting"));
    },
  };
}

/** Joins the machine that waits with this code. Throws USAGE at once; the rest comes by `session`. */
export function connectByCode(platform: Platform, code: Code, options: CodeOptions): JoiningByCode {
  const { ending } = new JoiningSide(platform, code, options);
  return {
    session: ending.session,
    verifier: ending.verifier,
    close: () => {
      ending.reject(new DcpipeError("ABORTED", "stopped"));
    },
  };
}
