/** What a TURN server means by the number of an error, for people. */
import type { ErrorCode } from "../../errors.ts";

/** RFC 8489, section 14.8, and RFC 8656, section 19. */
const REFUSALS: Readonly<Record<number, readonly [code: ErrorCode, text: string]>> = {
  300: ["REFUSED", "it passes us on to another server"],
  400: ["PROTOCOL", "it does not understand our request"],
  403: ["REFUSED", "it forbids it"],
  437: ["REFUSED", "it knows nothing of this allocation any more"],
  440: ["REFUSED", "it relays no addresses of this family"],
  441: ["AUTH_FAILED", "the credentials are not those of this allocation"],
  442: ["REFUSED", "it relays no UDP"],
  443: ["REFUSED", "it relays nothing to addresses of this family"],
  486: ["LIMIT", "this user has as many allocations as it allows"],
  500: ["REFUSED", "it has failed inside"],
  508: ["LIMIT", "it has no room for another allocation"],
};
const UNAUTHENTICATED = 401;

/** Why, as it follows the server's name and a colon. The server's own words are not told: anything may stand there. */
export function refusal(
  number: number,
  username: string,
): { readonly code: ErrorCode; readonly text: string } {
  if (number === UNAUTHENTICATED) {
    const end = expiry(username);
    const isOver = end !== undefined && end.getTime() < Date.now();
    const text = isOver
      ? `these credentials expired at ${end.toISOString()}`
      : "it does not accept these credentials";
    return { code: "AUTH_FAILED", text: `${text} (${number})` };
  }
  const [code, text] = REFUSALS[number] ?? ["REFUSED", "it refuses"];
  return { code, text: number === 0 ? text : `${text} (${number})` };
}

/** When credentials made from a shared secret end: their user name begins with the second (draft-uberti-behave-turn-rest-00). */
function expiry(username: string): Date | undefined {
  const seconds = /^(\d{9,11})(?::|$)/.exec(username)?.[1];
  return seconds === undefined ? undefined : new Date(Number(seconds) * 1000);
}
