/**
 * Section 2.4 of docs/protocol.md: what people type. A number, the nameplate, says where the other side waits; the words are
 * the password. The two are independent, and only the number ever reaches a server.
 *
 *   7-guitar-sandwich                       code
 *   https://example.org/#7-guitar-sandwich  link: a rendezvous, and a code in the fragment, which browsers keep to themselves
 */
import { DcpipeError } from "../errors.ts";
import { looksLikeToken } from "./token.ts";
import { WORDS } from "./words.ts";

export interface Code {
  readonly nameplate: number;
  /** The words, joined by hyphens. */
  readonly password: string;
}

/** What PEER may be. */
export type PeerText =
  | { readonly kind: "token"; readonly token: string }
  | { readonly kind: "code"; readonly code: Code }
  | { readonly kind: "link"; readonly code: Code; readonly rendezvous: string };

/** Nameplates are short because people type them; a server with more mailboxes than this has other problems. */
export const MAX_NAMEPLATE = 999_999;
/** One word would be a guess in 256; beyond twelve (96 bits) nobody gains anything. */
export const MIN_WORDS = 2;
export const MAX_WORDS = 12;
/** Two words: 16 bits, one guess in 65,536, and a guess burns the code. */
export const DEFAULT_WORDS = 2;
/** Longer text was pasted by mistake. */
const MAX_CODE_TEXT = 2048;

/** What programs put around pasted text, and between its characters where nobody sees it. */
const AROUND = /["'`“”„‘’«»<>()[\]\u200b\u200c\u200d\u2060\ufeff\u00ad]/g;
/** What stands for a hyphen: blanks, and what programs make of hyphens. */
const BETWEEN = /[\s_\-\u2010-\u2015\u2212\ufe58\ufe63\uff0d]+/;

/** `7-guitar-sandwich` */
export function formatCode({ nameplate, password }: Code): string {
  return `${nameplate}-${password}`;
}

/** Words for random bytes, one each. */
export function passwordFrom(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => WORDS[byte] ?? "").join("-");
}

/**
 * Reads a code as people type it: capitals, spaces for hyphens and quotes are forgiven. Throws CODE_MALFORMED, with the nearest word
 * where one is mistyped.
 */
export function parseCode(text: string): Code {
  if (text.length > MAX_CODE_TEXT) throw malformed("that is too long for a code");
  const parts = text
    .replace(AROUND, "")
    .trim()
    .replace(/[.,;:!]+$/, "")
    .toLowerCase()
    .split(BETWEEN);
  // A hyphen at either end leaves an empty part.
  const [number, ...words] = parts.filter((part) => part !== "");
  if (number === undefined) throw malformed("no code given");
  if (/^\d+[a-z]+$/.test(number))
    throw malformed("its hyphens are missing: a code looks like 7-guitar-sandwich");
  if (!/^\d+$/.test(number)) throw malformed("a code starts with a number, as in 7-guitar-sandwich");
  if (words.length === 0) throw malformed("the words behind the number are missing");
  if (!/^[1-9]\d*$/.test(number) || Number(number) > MAX_NAMEPLATE)
    throw malformed("the number at its front is none that a rendezvous gives");
  for (const word of words) {
    if (WORDS.includes(word)) continue;
    const meant = nearest(word);
    throw malformed(
      `"${word.slice(0, 40)}" is no word of a code${meant === undefined ? "" : `; did you mean "${meant}"?`}`,
    );
  }
  if (words.length < MIN_WORDS) throw malformed("a word is missing at its end");
  if (words.length > MAX_WORDS) throw malformed(`it has more than ${MAX_WORDS} words`);
  return { nameplate: Number(number), password: words.join("-") };
}

/**
 * Reads whatever PEER may be. Throws CODE_MALFORMED for what should be a code or a link; all else is taken for a token, which
 * decodeToken looks at later.
 */
export function parsePeer(text: string): PeerText {
  const link = text.trim().replace(/^["'`“”„‘’«»<(]{1,3}|["'`“”„‘’«»>)]{1,3}$/g, "");
  // Before tokens: hosts may have names like dc1-frankfurt.
  if (/^[^\s#]+#\d/.test(link)) return parseLink(link);
  if (looksLikeToken(text)) return { kind: "token", token: text };
  if (/^[a-z]+:\/\//i.test(link)) return parseLink(link);
  const bare = text.slice(0, MAX_CODE_TEXT).replace(AROUND, "").trim();
  const words = bare.toLowerCase().split(BETWEEN);
  if (/^\d/.test(bare) || (words.length > 1 && words.some((word) => WORDS.includes(word))))
    return { kind: "code", code: parseCode(text) };
  // It will be told that it is none, in a token's words.
  return { kind: "token", token: text };
}

function parseLink(text: string): PeerText {
  const at = text.indexOf("#");
  if (at < 0 || at === text.length - 1)
    throw malformed("the link has no code: what stands behind its # is missing");
  const base = text.slice(0, at);
  let fragment: string;
  try {
    fragment = decodeURIComponent(text.slice(at + 1));
  } catch (cause) {
    throw malformed("the link has a broken percent-encoding", cause);
  }
  return {
    kind: "link",
    code: parseCode(fragment),
    rendezvous: withScheme(base),
  };
}

/** A rendezvous' URL as people write it gets its scheme: http for this machine, which needs no certificate, else https. */
export function withScheme(url: string): string {
  if (/^[a-z][a-z\d+.-]*:\/\//i.test(url)) return url;
  const local = /^(localhost|127\.[\d.]+|\[::1\])(:\d+)?(\/|$)/i.test(url);
  return `${local ? "http" : "https"}://${url}`;
}

/** The link of a code at a rendezvous. */
export function formatLink(rendezvous: string, code: Code): string {
  return `${rendezvous}#${formatCode(code)}`;
}

/** Words that begin so; for completion. */
export function completeWord(start: string): readonly string[] {
  return WORDS.filter((word) => word.startsWith(start.toLowerCase()));
}

/** The word that is meant, when only one is near: one slip away, or begun, or two slips away. */
function nearest(word: string): string | undefined {
  const distances = WORDS.map((known) => ({ known, distance: slips(word, known) })).sort(
    (a, b) => a.distance - b.distance,
  );
  const [best, next] = distances;
  if (best?.distance === 1) return best.known;
  const begun = completeWord(word);
  if (word.length >= 2 && begun.length === 1) return begun[0];
  return best && next && best.distance <= 2 && best.distance < next.distance ? best.known : undefined;
}

/** Typing slips between two words: letters left out, put in, changed, or swapped with the next (optimal string alignment). */
function slips(a: string, b: string): number {
  const row = (i: number): number[] => Array.from({ length: b.length + 1 }, (_, j) => (i === 0 ? j : 0));
  const rows = Array.from({ length: Math.min(a.length, 32) + 1 }, (_, i) => row(i));
  for (const [i, current] of rows.entries()) {
    const above = rows[i - 1];
    current[0] = i;
    if (!above) continue;
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let least = Math.min(
        (above[j] ?? 0) + 1,
        (current[j - 1] ?? 0) + 1,
        (above[j - 1] ?? 0) + (same ? 0 : 1),
      );
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, (rows[i - 2]?.[j - 2] ?? 0) + 1);
      current[j] = least;
    }
  }
  return rows.at(-1)?.[b.length] ?? b.length;
}

function malformed(how: string, cause?: unknown): DcpipeError {
  return new DcpipeError("CODE_MALFORMED", how, { cause });
}
