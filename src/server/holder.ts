/** The client that a server is there for: one that holds its mailboxes itself, for its own peers on the local network. */
import { sameBytes, toBase64url } from "../wire/bytes.ts";
import type { Role } from "../wire/hello.ts";

/** Names that others may open: two doors for a peer, and sessions that are being made, eight at a time. */
const MAX_NAMES = 64;

/** So long one who comes to a name before the holder has waits for it. */
export const HOLDER_MS = 300;

export class Holder {
  readonly key: Uint8Array;
  /** What it has opened, the latest last. A door that it opens anew can be knocked at in between. */
  readonly #names = new Set<string>();

  constructor(key: Uint8Array) {
    this.key = key;
  }

  /** Whether this OPEN or RELAY may be: the holder's own as the waiting side, or another one's where the holder has been. */
  admits(open: { readonly key: Uint8Array; readonly role: Role; readonly name: Uint8Array }): boolean {
    const name = toBase64url(open.name);
    if (open.role === "joining") return this.#names.has(name);
    if (!sameBytes(this.key, open.key)) return false;
    this.#names.delete(name);
    this.#names.add(name);
    const [oldest] = this.#names;
    if (oldest !== undefined && this.#names.size > MAX_NAMES) this.#names.delete(oldest);
    return true;
  }
}
