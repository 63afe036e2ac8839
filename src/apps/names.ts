/** Names that a sender gives: each is checked here before anything else sees it, and escaped before a person does. */
import { DcpipeError } from "../errors.ts";

/** What common filesystems take for one name, in UTF-8 bytes. */
const MAX_NAME_BYTES = 255;
/** What our own partial files end with; nobody else's file may pass for one. */
export const PART_SUFFIX = ".dcpipe-part";
/** Names that are devices on Windows, with any extension. */
const RESERVED = /^(con|conin\$|conout\$|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?$/i;
/** Control characters, bidirectional controls, invisible ones and line separators rewrite what a terminal shows. */
const CONTROL =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|\p{Cs}/u;
const DRIVE = /^[a-z]:/i;

/** Throws REFUSED unless the name is one plain file name here; `windows` adds what that system forbids. */
export function checkName(name: string, windows = false): void {
  const why = objection(name) ?? (windows ? windowsObjection(name) : undefined);
  if (why !== undefined) throw new DcpipeError("REFUSED", `the name ${why}: ${escapeText(name)}`);
}

function objection(name: string): string | undefined {
  if (name === "" || name === "." || name === "..") return "is none";
  if (/[/\\]/.test(name)) return "has a path in it";
  if (DRIVE.test(name)) return "begins with a drive letter";
  if (CONTROL.test(name)) return "has control characters";
  if (new TextEncoder().encode(name).length > MAX_NAME_BYTES) return "is too long";
  if (name.toLowerCase().endsWith(PART_SUFFIX)) return "is one of our own partial files";
  return undefined;
}

function windowsObjection(name: string): string | undefined {
  if (/[:*?"<>|]/.test(name)) return "has a character that Windows forbids";
  if (/[. ]$/.test(name)) return "ends with a dot or a space";
  if (RESERVED.test(name)) return "is a device on Windows";
  return undefined;
}

/**
 * Throws REFUSED unless a symbolic link that stands `depth` directories below the target's root leads to somewhere below the root,
 * whatever links it meets on the way. So ".." may only stand in front: after a name, which may be a link, nobody knows where
 * it leads. The directory that holds the link is a real one, and so are those above it.
 */
export function checkTarget(target: string, depth: number): void {
  const why = targetObjection(target, depth);
  if (why !== undefined) throw new DcpipeError("REFUSED", `the link ${why}: ${escapeText(target)}`);
}

function targetObjection(target: string, depth: number): string | undefined {
  if (target === "") return "leads nowhere";
  if (target.startsWith("/") || target.includes("\\") || DRIVE.test(target))
    return "leads to an absolute place";
  if (CONTROL.test(target)) return "has control characters";
  const parts = target.split("/").filter((part) => part !== "" && part !== ".");
  const down = parts.findIndex((part) => part !== "..");
  const ups = down < 0 ? parts.length : down;
  if (parts.slice(ups).includes("..")) return 'has ".." behind a name';
  if (ups > depth) return "leads out of the directory that receives";
  return undefined;
}

/** Peer-supplied text, safe to show: control and formatting characters become visible escapes. */
export function escapeText(text: string): string {
  return text.replace(
    new RegExp(CONTROL.source, "gu"),
    (c) => `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`,
  );
}

/** "photo.jpg", 1 -> "photo (1).jpg"; cut where it would be too long. */
export function numberedName(name: string, number: number): string {
  const dot = name.lastIndexOf(".");
  const [stem, extension] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
  const mark = ` (${number})`;
  const size = (text: string): number => new TextEncoder().encode(text + mark + extension).length;
  let cut = stem;
  // A character of two units goes as a whole.
  while (size(cut) > MAX_NAME_BYTES && cut.length > 1) cut = cut.slice(0, -1).replace(/\p{Cs}$/u, "");
  return cut + mark + extension;
}

/**
 * The names seen in one directory, by a hash of 53 bits each: 16 bytes a name, however many there are. With `folding`, names
 * that differ in case or normalization only are one.
 */
export class NameSet {
  readonly #folding: boolean;
  /** Open addressing; 0 is free. */
  #slots = new Float64Array(16);
  #count = 0;

  constructor(folding: boolean) {
    this.#folding = folding;
  }

  /** False when the name is (all but surely: 1 in 10^4 among a million) there already. */
  add(name: string): boolean {
    if (this.#count * 2 >= this.#slots.length) this.#grow();
    const folded = this.#folding ? fold(name) : name;
    return this.#insert(hash(folded));
  }

  #insert(key: number): boolean {
    const mask = this.#slots.length - 1;
    for (let at = key % this.#slots.length; ; at = (at + 1) & mask) {
      if (this.#slots[at] === key) return false;
      if (this.#slots[at] !== 0) continue;
      this.#slots[at] = key;
      this.#count++;
      return true;
    }
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Float64Array(old.length * 2);
    this.#count = 0;
    for (const key of old) if (key !== 0) this.#insert(key);
  }
}

/** What filesystems that ignore case take for the same name; more rather than less. */
function fold(name: string): string {
  return name.normalize("NFC").toUpperCase().toLowerCase().normalize("NFC");
}

/** Nobody can know which names fall together. */
const SEED = Math.floor(Math.random() * 2 ** 32);

/** cyrb53, a well-mixed hash of 53 bits; never 0. */
function hash(text: string): number {
  let [a, b] = [0xdeadbeef ^ SEED, 0x41c6ce57 ^ SEED];
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    a = Math.imul(a ^ unit, 2654435761);
    b = Math.imul(b ^ unit, 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  return 4294967296 * (2097151 & b) + (a >>> 0) || 1;
}
