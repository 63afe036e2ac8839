/**
 * Section 2.2 of docs/protocol.md: what people paste. `dc1`, then base64url of
 *
 *   offer   +------+------------+-----------------+------------+--------+
 *           | 0x10 | secret 16  | fingerprint 32  | candidates | crc 16 |
 *           +------+------------+-----------------+------------+--------+
 *   answer  +------+------------+------------+--------+
 *           | 0x11 | offer id 4 | candidates | crc 16 |
 *           +------+------------+------------+--------+
 *
 * The first byte is version (high four bits) and kind. crc is CRC-16/CCITT-FALSE over all before it: it finds every single
 * mistyped or swapped character. It protects from accidents; what protects from people is the secret and the fingerprint.
 */
import { DcpipeError } from "../errors.ts";
import { crc16, fromBase64url, Reader, toBase64url, Writer } from "./bytes.ts";
import { readCandidates, writeCandidates, type Candidate } from "./candidate.ts";

export const SECRET_SIZE = 16;
export const FINGERPRINT_SIZE = 32;
export const OFFER_ID_SIZE = 4;
/** Far above any token (15 IPv6 candidates make some 480 characters): a whole file pasted by mistake is no token. */
export const MAX_TOKEN_TEXT = 4096;

export interface OfferToken {
  readonly kind: "offer";
  /** 16 random bytes from which both sides derive everything else. */
  readonly secret: Uint8Array;
  /** SHA-256 of the waiting side's certificate. */
  readonly fingerprint: Uint8Array;
  readonly candidates: readonly Candidate[];
}

export interface AnswerToken {
  readonly kind: "answer";
  /** Names the offer it belongs to. */
  readonly offerId: Uint8Array;
  readonly candidates: readonly Candidate[];
}

export type Token = OfferToken | AnswerToken;

const PREFIX = "dc1";
const VERSION = 1;

export function encodeToken(token: Token): string {
  const writer = new Writer(128);
  if (token.kind === "offer")
    writer
      .u8(VERSION << 4)
      .raw(token.secret)
      .raw(token.fingerprint);
  else writer.u8((VERSION << 4) | 1).raw(token.offerId);
  writeCandidates(writer, token.candidates);
  writer.u16(crc16(writer.view()));
  return PREFIX + toBase64url(writer.finish());
}

/**
 * Decodes pasted text: quotes, line wraps and words around the token are forgiven. Throws TOKEN_MALFORMED, TOKEN_CUT,
 * TOKEN_VERSION, or TOKEN_KIND when it is not the `expected` kind.
 */
export function decodeToken(text: string, expected: Token["kind"]): Token;
export function decodeToken(text: string, expected: "offer"): OfferToken;
export function decodeToken(text: string, expected: "answer"): AnswerToken;
export function decodeToken(text: string, expected: Token["kind"]): Token {
  const { payloads, elided } = findToken(text);
  let failure: unknown;
  for (const payload of payloads) {
    try {
      return ofKind(decodeText(payload), expected);
    } catch (error) {
      if (error instanceof DcpipeError && error.code === "TOKEN_KIND") throw error;
      failure = error;
    }
  }
  throw elided ? cut(failure) : failure;
}

function ofKind(token: Token, expected: Token["kind"]): Token {
  if (token.kind === expected) return token;
  throw new DcpipeError(
    "TOKEN_KIND",
    token.kind === "answer"
      ? "this is an answer token, but an offer is due here: paste it on the side that printed the offer"
      : "this is an offer token, but an answer is due here: give it to the other side's command, and paste what that prints",
  );
}

/** Whether some text looks like a token of any version. */
export function looksLikeToken(text: string): boolean {
  return /dc\d[A-Za-z0-9_-]{8}/.test(text);
}

function decodeText(payload: string): Token {
  const bytes = decodePayload(payload);
  const first = bytes[0];
  if (first === undefined) throw cut();
  if (first >> 4 !== VERSION) throw unknownVersion(String(first >> 4));
  const kind = (first & 15) === 0 ? "offer" : (first & 15) === 1 ? "answer" : undefined;
  if (!kind) throw malformed("of a kind this program does not know");
  return decodeBody(bytes, kind);
}

function decodeBody(bytes: Uint8Array, kind: Token["kind"]): Token {
  const reader = new Reader(bytes);
  let token: Token;
  try {
    reader.u8();
    if (kind === "offer") {
      const secret = reader.take(SECRET_SIZE).slice();
      const fingerprint = reader.take(FINGERPRINT_SIZE).slice();
      token = { kind, secret, fingerprint, candidates: readCandidates(reader) };
    } else {
      token = { kind, offerId: reader.take(OFFER_ID_SIZE).slice(), candidates: readCandidates(reader) };
    }
  } catch (cause) {
    if (reader.remaining === 0 || isEarlyEnd(cause)) throw cut(cause);
    throw malformed("damaged", cause);
  }
  if (reader.remaining < 2) throw cut();
  const sum = reader.u16();
  if (reader.remaining > 0) throw malformed("followed by something else");
  if (sum !== crc16(bytes.subarray(0, bytes.length - 2))) throw malformed("damaged: a character differs");
  return token;
}

function isEarlyEnd(error: unknown): boolean {
  return error instanceof DcpipeError && error.message === "message ends early";
}

/**
 * The base64url part of the first token in `text`. A token may be wrapped over several words, and other words may follow:
 * hence one payload for each word that could be its last. `elided` when dots stand where it was cut.
 */
function findToken(text: string): { payloads: string[]; elided: boolean } {
  if (text.length > MAX_TOKEN_TEXT) throw malformed("too long");
  const bare = text.replace(/["'`“”„‘’«»<>()[\]\u200b\u200c\u200d\u2060\ufeff\u00ad]/g, "");
  const words = bare.split(/\s+/);
  const start = words.findIndex((word) => /(^|[^A-Za-z0-9])dc\d/.test(word));
  const head = words[start];
  if (head === undefined) {
    if (/^\s*$/.test(text)) throw new DcpipeError("TOKEN_MALFORMED", "no token given");
    if (/(^|[^A-Za-z0-9])dcr\d/.test(bare))
      throw new DcpipeError("TOKEN_MALFORMED", "this is a report, for dcpipe doctor: it leads to nobody");
    throw new DcpipeError("TOKEN_MALFORMED", 'this is no dcpipe token: a token starts with "dc1"');
  }
  const version = /dc(\d)/.exec(head)?.[1] ?? "";
  if (version !== "1") throw unknownVersion(version);
  const payloads: string[] = [];
  let payload = "";
  for (const word of [head.slice(head.search(/dc\d/) + 3), ...words.slice(start + 1)]) {
    const part = word.replace(/(…|[.,;:]+)$/, "");
    if (payloads.length > 0 && !/^[A-Za-z0-9_-]+$/.test(part)) break;
    payload += part;
    payloads.push(payload);
    if (part !== word) return { payloads, elided: /(…|\.\.\.)$/.test(word) };
  }
  return { payloads, elided: false };
}

function decodePayload(payload: string): Uint8Array {
  try {
    return fromBase64url(payload);
  } catch (cause) {
    const odd = /[^A-Za-z0-9_-]/.exec(payload)?.[0];
    if (odd !== undefined) throw malformed(`damaged: ${JSON.stringify(odd)} is not part of a token`, cause);
    // A cut anywhere may leave stray bits: look at what is whole.
    const whole = payload.slice(0, payload.length - (payload.length % 4));
    const bytes = fromBase64url(whole);
    const kind = (bytes[0] ?? 0) & 15 ? "answer" : "offer";
    try {
      decodeBody(bytes, kind);
    } catch (error) {
      if (error instanceof DcpipeError && error.code === "TOKEN_CUT") throw error;
    }
    throw malformed("damaged", cause);
  }
}

function malformed(how: string, cause?: unknown): DcpipeError {
  return new DcpipeError("TOKEN_MALFORMED", `the token is ${how}; copy it once more, all of it`, { cause });
}

function cut(cause?: unknown): DcpipeError {
  return new DcpipeError("TOKEN_CUT", "the token is cut short; copy it once more, all of it", { cause });
}

function unknownVersion(version: string): DcpipeError {
  return new DcpipeError(
    "TOKEN_VERSION",
    `the token is of version ${version}, and this dcpipe knows version ${VERSION}; use the same dcpipe on both sides`,
  );
}
