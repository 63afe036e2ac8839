/**
 * TURN servers with credentials for a limited time, as coturn takes them with `use-auth-secret` (draft-uberti-behave-turn-rest-00,
 * section 2.2): the user name is the second it expires, the password its HMAC-SHA1 under a secret shared with the TURN server.
 */
import { createHmac } from "node:crypto";
import type { ServerRecord } from "../wire/rendezvous.ts";

export interface TurnOptions {
  /** `turn:host:port` (RFC 7065). */
  readonly urls: readonly string[];
  /** coturn's `static-auth-secret`. */
  readonly secret: string;
}

/** A TURN server ends an allocation whose credential has expired at its next refresh: a day is longer than most sessions. */
export const TURN_TTL_SECONDS = 24 * 60 * 60;

/** `now` in milliseconds since 1970. */
export function turnServers(turn: TurnOptions | undefined, now = Date.now()): ServerRecord[] {
  if (!turn) return [];
  const username = `${Math.floor(now / 1000) + TURN_TTL_SECONDS}:dcpipe`;
  const credential = createHmac("sha1", turn.secret).update(username).digest("base64");
  return turn.urls.map((url) => ({ url, username, credential }));
}
