/**
 * Two sides of a session come to remember each other (docs/protocol.md, section 10.1), before they do anything else, or beside it:
 *
 *   asking:     opens the stream, REMEMBER --> ... <-- REMEMBER, stores it, STORED <--> STORED
 *   answering:                 REMEMBER --> does it want to? --no--> RESET with REFUSED
 *                                             yes: REMEMBER, stores it, STORED <--> STORED
 *
 * Both may ask; then the joining side's stream counts. A side stores only what the other one has agreed to, and a record that only one
 * side has is of no use to anybody.
 */
import { expand, extract } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, utf8ToBytes } from "@noble/hashes/utils.js";
import { asDcpipeError, DcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";
import type { Stream } from "../session/stream.ts";
import { protocolError, Reader } from "../wire/bytes.ts";
import { decodeHeader, encodeHeader } from "../wire/header.ts";
import type { Role } from "../wire/hello.ts";
import {
  decodeRememberRecord,
  encodeRememberRecord,
  MAX_REMEMBER_RECORD,
  RANDOM_SIZE,
  type RememberRecord,
} from "../wire/remember.ts";

/** A person over there may have to be asked; who does not answer for so long is not remembered. Milliseconds. */
const PATIENCE_MS = 60_000;

const SECRET_SIZE = 32;

/** What this side gives for a pairing. */
export interface OwnPart {
  /** How this side will call the other one. */
  readonly name: string;
  /** SHA-256 of a fresh certificate, for this peer alone. */
  readonly fingerprint: Uint8Array;
}

/** What comes of it. */
export interface Pairing {
  readonly own: OwnPart;
  /** `a` waited in this session. */
  readonly side: "a" | "b";
  /** Shared by both, 32 bytes. */
  readonly secret: Uint8Array;
  /** Of the peer's certificate, 32 bytes. */
  readonly fingerprint: Uint8Array;
  /** What the peer calls itself. From a peer: escape before showing. */
  readonly host: string;
  /** What the peer calls this side. The same. */
  readonly calledHere: string;
}

export interface PairingOptions {
  readonly role: Role;
  /** What this machine calls itself. */
  readonly host: string;
  /** What only these two sides know alike: the short authentication string. */
  readonly context: string;
  /** This side asks. */
  readonly own: OwnPart | undefined;
  /** The other side asks and this one does not: its part, or undefined for no. `gone` settles when the question is of no use any more. */
  readonly decide: (
    asked: { readonly host: string; readonly calledHere: string },
    gone: Promise<unknown>,
  ) => Promise<OwnPart | undefined>;
  /** Puts it on disk. What it rejects with is told to the other side. */
  readonly store: (pairing: Pairing) => Promise<void>;
}

export interface PairingOutcome {
  readonly pairing: Pairing;
  /** The other side has said that it has it on disk, too. */
  readonly confirmed: boolean;
}

/**
 * Asks, if `own` is given, and answers. Call it once for a session, before its streams are accepted. `asked` resolves when what this
 * side asks for is done (undefined at once when it asks for nothing); rejects with REFUSED, ABORTED (nobody answers), IO, PROTOCOL or the
 * session's end.
 */
export function pair(
  session: Session,
  options: PairingOptions,
): { readonly asked: Promise<PairingOutcome | undefined> } {
  return { asked: new Pairer(session, options).asked };
}

class Pairer {
  readonly asked: Promise<PairingOutcome | undefined>;
  readonly #options: PairingOptions;
  readonly #mine: Stream | undefined;
  #resolve!: (outcome: PairingOutcome | undefined) => void;
  #reject!: (error: unknown) => void;
  /** The other side's stream, which is answered. */
  #theirs: Stream | undefined;

  constructor(session: Session, options: PairingOptions) {
    this.#options = options;
    const { own } = options;
    this.asked = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.asked.catch(() => undefined);
    if (own) {
      this.#mine = session.open(encodeHeader({ kind: "remember" }));
      void this.#ask(this.#mine, own);
      session.closed.then(() => {
        this.#reject(new DcpipeError("CLOSED", "the session is closed"));
      }, this.#reject);
    } else this.#resolve(undefined);
    session.divert((stream) => {
      if (!isPairing(stream)) return false;
      void this.#answer(stream);
      return true;
    });
  }

  async #ask(stream: Stream, own: OwnPart): Promise<void> {
    const timer = setTimeout(() => {
      stream.reset("ABORTED", "no answer in time");
    }, PATIENCE_MS);
    try {
      this.#resolve(await this.#exchange(stream, own));
    } catch (cause) {
      const error = asDcpipeError(cause, "PROTOCOL");
      refuse(stream, error);
      // The joining side asks, too: its stream came first, counts, and has its time, too.
      if (this.#options.role === "waiting" && this.#theirs) this.#await(this.#theirs);
      else this.#reject(error);
    } finally {
      clearTimeout(timer);
    }
  }

  #await(stream: Stream): void {
    const timer = setTimeout(() => {
      stream.reset("ABORTED", "no answer in time");
    }, PATIENCE_MS);
    const stop = (): void => {
      clearTimeout(timer);
    };
    this.asked.then(stop, stop);
  }

  async #answer(stream: Stream): Promise<void> {
    const { role, own } = this.#options;
    if (this.#mine && role === "joining") {
      stream.reset("CLOSED", "this side asks, too");
      return;
    }
    if (this.#theirs) {
      stream.reset("REFUSED", "asked twice");
      return;
    }
    this.#theirs = stream;
    try {
      this.#resolve(await this.#exchange(stream, own));
    } catch (cause) {
      const error = asDcpipeError(cause, "PROTOCOL");
      refuse(stream, error);
      this.#reject(error);
    }
  }

  /** Undefined when this side does not want to. */
  async #exchange(stream: Stream, given: OwnPart | undefined): Promise<PairingOutcome | undefined> {
    const { host, decide, store } = this.#options;
    const records = new Records(stream);
    const random = crypto.getRandomValues(new Uint8Array(RANDOM_SIZE));
    const send = (own: OwnPart): void => {
      const record = { type: "REMEMBER", host, ...own, random } as const;
      // That the other side has gone is heard by the next read.
      stream.write(encodeRememberRecord(record)).catch(() => undefined);
    };
    if (given) send(given);
    const theirs = await records.next();
    if (theirs?.type !== "REMEMBER") throw protocolError("no REMEMBER");
    const own = given ?? (await decide({ host: theirs.host, calledHere: theirs.name }, stream.closed));
    if (!own) {
      stream.reset("REFUSED", "nobody wants it there; --remember NAME allows it");
      return undefined;
    }
    if (!given) send(own);
    const pairing = this.#pairing(own, random, theirs);
    await store(pairing);
    stream.write(encodeRememberRecord({ type: "STORED" })).catch(() => undefined);
    stream.end().catch(() => undefined);
    const confirmed = await records.next().then(
      async (record) => {
        await records.end();
        return record?.type === "STORED";
      },
      () => false,
    );
    return { pairing, confirmed };
  }

  #pairing(own: OwnPart, random: Uint8Array, theirs: RememberRecord & { type: "REMEMBER" }): Pairing {
    const { role, context } = this.#options;
    const parts = [
      { fingerprint: own.fingerprint, random },
      { fingerprint: theirs.fingerprint, random: theirs.random },
    ] as const;
    const [a, b] = role === "waiting" ? parts : [parts[1], parts[0]];
    const prk = extract(sha256, concatBytes(a.random, b.random), utf8ToBytes("dcpipe 1 remember"));
    const info = concatBytes(utf8ToBytes("secret"), a.fingerprint, b.fingerprint, utf8ToBytes(context));
    return {
      own,
      side: role === "waiting" ? "a" : "b",
      secret: expand(sha256, prk, info, SECRET_SIZE),
      fingerprint: theirs.fingerprint,
      host: theirs.host,
      calledHere: theirs.name,
    };
  }
}

/** Records off a stream, one by one. */
class Records {
  readonly #stream: Stream;
  #buffer = new Uint8Array(0);

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /** Undefined at the end. Rejects with PROTOCOL, or as the stream does. */
  async next(): Promise<RememberRecord | undefined> {
    for (;;) {
      const [first] = this.#buffer;
      if (first !== undefined && this.#buffer.length >= 1 << (first >> 6)) {
        const reader = new Reader(this.#buffer);
        const length = reader.varint(MAX_REMEMBER_RECORD);
        if (reader.remaining >= length) {
          const record = decodeRememberRecord(reader.take(length));
          this.#buffer = reader.take(reader.remaining).slice();
          return record;
        }
      }
      const chunk = await this.#stream.read();
      if (!chunk) {
        if (this.#buffer.length > 0) throw protocolError("the stream ends inside a record");
        return undefined;
      }
      this.#buffer = concatBytes(this.#buffer, chunk);
    }
  }

  /** Nothing may follow. */
  async end(): Promise<void> {
    if (await this.next()) throw protocolError("a record behind the last");
  }
}

/** What went wrong on this machine's disk is not the other side's business. */
function refuse(stream: Stream, { code, message }: DcpipeError): void {
  if (code === "PROTOCOL") stream.reset("PROTOCOL", message);
  else stream.reset("IO", "it could not be stored there");
}

function isPairing(stream: Stream): boolean {
  try {
    return decodeHeader(stream.header).kind === "remember";
  } catch {
    // Whoever accepts it will say so.
    return false;
  }
}
