/**
 * What two sides of plain WebRTC tell each other, as pages write it with JSON.stringify, one object a line:
 *
 *   {"type":"offer"|"answer","sdp":"v=0..."}                    RTCSessionDescription (W3C WebRTC, section 4.6)
 *   {"candidate":"candidate:...","sdpMid":"0"}                  RTCIceCandidate: half trickle, section 4.8
 *   {"candidate":""}  and  null                                 no more candidates follow
 */
import { DcpipeError } from "../errors.ts";

export type RawKind = "offer" | "answer";

export type RawLine =
  | { readonly kind: RawKind; readonly sdp: string }
  | { readonly kind: "candidate"; readonly candidate: string }
  | { readonly kind: "end" };

/** Characters of all that is taken at once. Descriptions are 500 to 3,000 characters long, with many addresses some more. */
export const MAX_RAW_TEXT = 65_536;
/** Lines that are taken at once: a description and its candidates. */
const MAX_LINES = 128;

/** One line for the other side. */
export function formatDescription(type: RawKind, sdp: string): string {
  return JSON.stringify({ type, sdp });
}

/** Whether the text looks as if it had a description in it: worth reading, and complaining about. */
export function looksLikeDescription(text: string): boolean {
  return text.length <= MAX_RAW_TEXT && /^[\s'"`]*\{[\s\S]*"sdp"/.test(text);
}

/**
 * Reads a whole text: one object, on however many lines, or one a line. Throws TOKEN_MALFORMED, TOKEN_CUT. What stands in
 * descriptions is not looked at here.
 */
export function parseRawText(text: string): RawLine[] {
  if (text.length > MAX_RAW_TEXT) throw malformed("it is too long for an offer or an answer");
  const bare = unquote(text);
  if (bare === "") throw malformed("no offer or answer given");
  const whole = readJson(bare);
  if (whole !== undefined) return [toLine(whole.value)];
  const lines = bare.split(/\r?\n/).filter((line) => line.trim() !== "");
  if (lines.length > MAX_LINES) throw malformed("it has too many lines");
  return lines.map(parseRawLine);
}

/** Reads one line. Throws TOKEN_MALFORMED, TOKEN_CUT. */
export function parseRawLine(text: string): RawLine {
  if (text.length > MAX_RAW_TEXT) throw malformed("it is too long for an offer or an answer");
  const bare = unquote(text);
  const found = readJson(bare);
  if (found) return toLine(found.value);
  if (/^dc1[\w-]/.test(bare)) throw malformed("that is a dcpipe token: leave --raw out on both sides");
  if (/^v=0/.test(bare))
    throw malformed('that is bare SDP: put it into JSON, {"type":"offer","sdp":"v=0..."}');
  // A terminal takes 4,095 characters of a line.
  if (bare.startsWith("{") && !bare.endsWith("}"))
    throw new DcpipeError(
      "TOKEN_CUT",
      "the line is cut short; what is too long for a terminal can come from a file",
    );
  throw malformed('that is no JSON: {"type":"offer","sdp":"..."} or {"type":"answer","sdp":"..."} is due');
}

/** Blanks and quotes that stand around a pasted line. */
function unquote(text: string): string {
  const bare = text.trim();
  const quoted = /^(['`])([\s\S]*)\1$/.exec(bare);
  return (quoted?.[2] ?? bare).trim();
}

function readJson(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch {
    return undefined;
  }
}

function toLine(value: unknown): RawLine {
  if (value === null) return { kind: "end" };
  if (typeof value !== "object" || Array.isArray(value)) throw malformed("the JSON is no object");
  const { type, sdp, candidate } = value as Readonly<Record<string, unknown>>;
  if (typeof sdp === "string") {
    if (type !== "offer" && type !== "answer") throw malformed('its "type" is neither "offer" nor "answer"');
    return { kind: type, sdp };
  }
  // Some programs nest what the event of a page holds: {"candidate":{"candidate":"..."}}.
  const text = isObject(candidate) ? candidate["candidate"] : candidate;
  if (text === null || text === "") return { kind: "end" };
  if (typeof text === "string") return { kind: "candidate", candidate: text };
  throw malformed('the JSON has neither "type" and "sdp" nor "candidate"');
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

function malformed(text: string): DcpipeError {
  return new DcpipeError("TOKEN_MALFORMED", text);
}
