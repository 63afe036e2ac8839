/**
 * Puts a script in front of everything that an HTML document brings, as its bytes come by:
 *
 *   BOM, blanks, comments, <!doctype ...>, <html ...>, <head ...>  HERE
 *
 * Whatever else comes first ends the search, so the script runs before any other one. Pure, but for streams.
 */

/** What stands before the script is kept until it is all here; a document with more of it gets the script behind its doctype. */
const MAX_START = 64 * 1024;
/** Browsers look for a <meta charset> so far (HTML, section 13.2.3.2). */
const PRESCAN = 1024;

export type Units = "ascii" | "utf-16le" | "utf-16be";

/** How characters stand in a document: a BOM says it, or else the charset of Content-Type. All encodings but UTF-16 have ASCII in them. */
export function unitsOf(start: Uint8Array, charset: string | undefined): Units {
  if (start[0] === 0xff && start[1] === 0xfe) return "utf-16le";
  if (start[0] === 0xfe && start[1] === 0xff) return "utf-16be";
  if (start[0] === 0xef && start[1] === 0xbb && start[2] === 0xbf) return "ascii";
  if (/^(utf-16(le)?|ucs-2|unicode|csunicode|iso-10646-ucs-2)$/i.test(charset ?? "")) return "utf-16le";
  return /^(utf-16be|unicodefffe)$/i.test(charset ?? "") ? "utf-16be" : "ascii";
}

/**
 * Where the script goes, in bytes; undefined when more has to come to tell. `ended`: nothing more comes.
 */
export function placeForScript(start: Uint8Array, units: Units, ended: boolean): number | undefined {
  const step = units === "ascii" ? 1 : 2;
  const text = textOf(start, units);
  // A BOM is one character in UTF-16, and three in what is read as ASCII.
  const bom = /^(?:\xef\xbb\xbf|\ufeff)/.exec(text)?.[0].length ?? 0;
  let at = bom;
  let behindDoctype = bom;
  const full = ended || start.length >= MAX_START;
  for (;;) {
    const token = TOKEN.exec(text.slice(at));
    if (token) {
      at += token[0].length;
      const tag = token[0].toLowerCase();
      if (tag.startsWith("<!doctype")) behindDoctype = at;
      if (tag.startsWith("<head")) return at * step;
      continue;
    }
    const rest = text.slice(at);
    // What is none of these, however it goes on, ends the search; what may become one is waited for.
    if (rest !== "" && !BEGUN.test(rest)) return at * step;
    if (full) return (rest === "" ? at : behindDoctype) * step;
    return undefined;
  }
}

const BLANKS = "[\\t\\n\\f\\r ]+";
const COMMENT = "<!--(?:>|->|[^]*?--!?>)";
const DOCTYPE = "<!doctype[^>]*>";
const ATTRIBUTES = `(?:[\\t\\n\\f\\r /](?:"[^"]*"|'[^']*'|[^"'>])*)?>`;
const TOKEN = new RegExp(`^(?:${BLANKS}|${COMMENT}|${DOCTYPE}|<html${ATTRIBUTES}|<head${ATTRIBUTES})`, "i");
/** A beginning of one of them, or one that has not ended yet. */
const BEGUN =
  /^(?:<!--[^]*|<!-?|<|<!d(?:o(?:c(?:t(?:y(?:p(?:e[^>]*)?)?)?)?)?)?|<h(?:t(?:m(?:l(?:[\t\n\f\r /][^]*)?)?)?)?|<h(?:e(?:a(?:d(?:[\t\n\f\r /][^]*)?)?)?)?)$/i;

function textOf(bytes: Uint8Array, units: Units): string {
  if (units !== "ascii") return new TextDecoder(units, { ignoreBOM: true }).decode(bytes);
  let text = "";
  // A character each, whatever it means: only ASCII is looked at.
  for (let at = 0; at < bytes.length; at += 4096)
    text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  return text;
}

function bytesOf(text: string, units: Units): Uint8Array {
  if (units === "ascii") return new TextEncoder().encode(text);
  const bytes = new Uint8Array(2 * text.length);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < text.length; at++) view.setUint16(2 * at, text.charCodeAt(at), units === "utf-16le");
  return bytes;
}

/**
 * The charset that a browser would find in the document's first KiB: behind a script of ours it would not look. Undefined when there is
 * none.
 */
export function prescan(start: Uint8Array): string | undefined {
  const text = textOf(start.subarray(0, PRESCAN), "ascii").replace(/<!--[^]*?(?:-->|$)/g, "");
  for (const [tag] of text.matchAll(/<meta[\s/][^>]*>?/gi)) {
    const charset = /[\s/]charset\s*=\s*["']?\s*([^\s"'/>;]+)/i.exec(tag)?.[1];
    if (charset !== undefined) return named(charset);
    if (!/http-equiv\s*=\s*["']?\s*content-type/i.test(tag)) continue;
    const inContent = /charset\s*=\s*["']?\s*([^\s"'/>;]+)/i.exec(tag)?.[1];
    if (inContent !== undefined) return named(inContent);
  }
  return undefined;
}

/** A document that can be read for its <meta> is in no UTF-16, whatever that says. */
function named(charset: string): string | undefined {
  if (/^utf-16/i.test(charset)) return "utf-8";
  return /^[\w:.+-]{1,40}$/.test(charset) ? charset : undefined;
}

/**
 * Reads as much of a body as the place for the script takes. `stream` gives the document with `script` in it; `start` is for whoever
 * needs to know its encoding.
 */
export async function openDocument(
  body: ReadableStream<Uint8Array>,
  charset: string | undefined,
): Promise<{ readonly start: Uint8Array; with(script: string): ReadableStream<Uint8Array> }> {
  const reader = body.getReader();
  let start: Uint8Array = new Uint8Array(0);
  let place: number | undefined;
  let units: Units = "ascii";
  while (place === undefined) {
    const { done, value } = await reader.read();
    if (value) start = joined(start, value);
    // A BOM may come in pieces.
    if (!done && start.length < 3) continue;
    units = unitsOf(start, charset);
    place = placeForScript(start, units, done);
  }
  const at = place;
  return {
    start,
    with: (script) =>
      new ReadableStream<Uint8Array>(
        {
          start: (controller) => {
            controller.enqueue(joined(start.subarray(0, at), bytesOf(script, units)));
            if (at < start.length) controller.enqueue(start.subarray(at));
          },
          pull: async (controller) => {
            const { done, value } = await reader.read();
            if (done) controller.close();
            else controller.enqueue(value);
          },
          cancel: (reason) => reader.cancel(reason),
        },
        { highWaterMark: 0 },
      ),
  };
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(a.length + b.length);
  bytes.set(a);
  bytes.set(b, a.length);
  return bytes;
}
