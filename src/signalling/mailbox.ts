/**
 * One side's end of a mailbox at a rendezvous (docs/protocol.md, section 7): bodies go out and come in, in order and once, whatever
 * becomes of the connections below.
 *
 *   connecting --first message--> attached --RELEASED, WRONG, LEFT, ...--> closed
 *       ^                            |
 *       +------- back-off <----------+  lost, GOING_AWAY, TRY_AGAIN, SLOW
 *
 * A rendezvous that has forgotten a waiting side's mailbox (it was started anew, without a store) gives it another: the same
 * nameplate if it is free, and `onallocated` says which.
 */
import { asDcpipeError, DcpipeError, type ErrorCode } from "../errors.ts";
import { toBase64url } from "../wire/bytes.ts";
import type { Role } from "../wire/hello.ts";
import {
  CLOSE,
  decodeServerMessage,
  encodeClientMessage,
  FIRST_MESSAGE_PREFIX,
  KEY_SIZE,
  RENDEZVOUS_PROTOCOL,
  type ClientMessage,
  type Outcome,
  type ServerMessage,
  type ServerRecord,
} from "../wire/rendezvous.ts";
import type { OpenSocket, Socket } from "./socket.ts";

/** A rendezvous that was never reached is given up after this: its URL may be wrong. One that was there once, never. */
const FIRST_CONTACT_MS = 15_000;
/** Pauses between two attempts, each with half its length at random, so that a thousand clients do not come back at once. */
const FIRST_PAUSE_MS = 250;
const MAX_PAUSE_MS = 10_000;
/** A waiting side says that it still waits: four times within the hour for which a rendezvous keeps a code. */
const RENEW_MS = 15 * 60_000;
/** An outcome is reported on the way out; nobody waits longer for it. */
const RELEASE_MS = 1000;

/** A new key for a client of a rendezvous. */
export function randomKey(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(KEY_SIZE));
}

/** What is asked for. */
export type Place =
  /** A nameplate of our own, the wished one (not 0) if it is free. */
  | { readonly type: "allocate"; readonly nameplate: number }
  /** The mailbox of somebody who waits. */
  | { readonly type: "claim"; readonly nameplate: number }
  /** A mailbox that both sides know by name. */
  | { readonly type: "open"; readonly role: Role; readonly name: Uint8Array };

export interface MailboxOptions {
  readonly openSocket: OpenSocket;
  /** URL of the rendezvous. */
  readonly url: string;
  readonly place: Place;
  /** A body to be posted with the very first message (not of one who allocates). */
  readonly body?: Uint8Array;
  /** It is on this network: no proxy leads there. */
  readonly direct?: boolean | undefined;
  /** A nameplate is ours; called again when the rendezvous has lost it, and then all must be posted anew. */
  readonly onallocated?: (nameplate: number, link: string) => void;
  /** By which the server knows this side again; random when not given. */
  readonly key?: Uint8Array | undefined;
  /** The other side has come. */
  readonly onjoined?: () => void;
  readonly onservers?: (servers: readonly ServerRecord[]) => void;
  /** The other side's body of that number, from 0. A PROTOCOL error thrown from it closes the mailbox. */
  readonly onbody: (body: Uint8Array, index: number) => void;
  /** A named mailbox begins anew: all must be posted again. */
  readonly onrestart?: () => void;
  /** It is over: undefined when it was released in good order. Called once, not after `close` or `release`. */
  readonly onclosed: (error: DcpipeError | undefined) => void;
  /** The connection to the rendezvous was lost or is not to be had, or is back (undefined). For people. */
  readonly ontrouble?: (trouble: string | undefined) => void;
}

export class Mailbox {
  readonly #options: MailboxOptions;
  readonly #stop = new AbortController();
  #key: Uint8Array;
  #nameplate: number;
  #socket: Socket | undefined;
  /** The server has this mailbox: from now on we come back to it instead of asking for one. */
  #held = false;
  /** A server has answered at that URL at least once. */
  #reached = false;
  #attached = false;
  #posted: Uint8Array[] = [];
  /** So many of them went out with the first message of this connection. */
  #sentFirst = 0;
  #received = 0;
  #burned = false;
  #troubled = false;
  #renew: ReturnType<typeof setInterval> | undefined;

  constructor(options: MailboxOptions) {
    this.#options = options;
    this.#key = options.key ?? randomKey();
    if (options.body) this.#posted.push(options.body);
    this.#nameplate = options.place.type === "open" ? 0 : options.place.nameplate;
    void this.#run();
  }

  /** Number of the next body that is posted. */
  get next(): number {
    return this.#posted.length;
  }

  get closed(): boolean {
    return this.#stop.signal.aborted;
  }

  /** The code has been used: a rendezvous that forgets this mailbox must not be asked for another one. */
  burn(): void {
    this.#burned = true;
  }

  /** Sends a body to the other side, when it comes or now. Returns its number. */
  post(body: Uint8Array): number {
    const index = this.#posted.length;
    this.#posted.push(body);
    if (this.#attached) this.#send({ type: "POST", index, body });
    return index;
  }

  /** Ends the mailbox for both sides and says how it went. Resolves when that is said, or cannot be. */
  async release(outcome: Outcome): Promise<void> {
    if (this.closed) return;
    const socket = this.#socket;
    if (socket) {
      this.#send({ type: "RELEASE", outcome });
      this.#end();
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, RELEASE_MS);
        socket.onclose = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      socket.close();
    } else this.#end();
  }

  /** Leaves without a word; what was posted stays for the other side. Idempotent. */
  close(): void {
    if (this.closed) return;
    this.#end();
    this.#socket?.close();
  }

  #end(): void {
    this.#stop.abort();
    clearInterval(this.#renew);
    if (this.#socket) this.#socket.onmessage = undefined;
  }

  #fail(error: DcpipeError | undefined): void {
    if (this.closed) return;
    this.close();
    this.#options.onclosed(error);
  }

  async #run(): Promise<void> {
    const started = performance.now();
    let pause = FIRST_PAUSE_MS;
    while (!this.#stop.signal.aborted) {
      let trouble: DcpipeError;
      try {
        const { code, reason } = await this.#connect();
        if (this.closed) return;
        if (this.#attached) pause = FIRST_PAUSE_MS;
        this.#attached = false;
        const verdict = this.#judge(code, reason);
        if (verdict === "again") {
          await this.#pause(pause);
          pause = Math.min(pause * 2, MAX_PAUSE_MS);
          continue;
        }
        if (verdict !== "back") {
          this.#fail(verdict.error);
          return;
        }
        trouble = new DcpipeError("SIGNALLING", "the connection to the rendezvous was lost");
      } catch (cause) {
        trouble = asDcpipeError(cause, "SIGNALLING");
        // A proxy in front of a server that is being replaced says all sorts of things.
        const retry = trouble.code === "SIGNALLING" || (this.#reached && trouble.code === "NO_RENDEZVOUS");
        const late = !this.#reached && performance.now() - started > FIRST_CONTACT_MS;
        if (!retry || late) {
          this.#fail(trouble);
          return;
        }
      }
      if (!this.#troubled) this.#options.ontrouble?.(trouble.message);
      this.#troubled = true;
      const left = this.#reached ? Infinity : FIRST_CONTACT_MS - (performance.now() - started);
      await this.#pause(Math.min(pause, Math.max(left, FIRST_PAUSE_MS)));
      pause = Math.min(pause * 2, MAX_PAUSE_MS);
    }
  }

  /** One connection from beginning to end: resolves with how it ended, rejects when none came about. */
  async #connect(): Promise<{ code: number; reason: string }> {
    const { openSocket, url } = this.#options;
    const first = this.#first().map(
      (message) => FIRST_MESSAGE_PREFIX + toBase64url(encodeClientMessage(message)),
    );
    const socket = await openSocket(url, {
      protocols: [RENDEZVOUS_PROTOCOL, ...first],
      direct: this.#options.direct,
      signal: this.#stop.signal,
    });
    if (this.closed) {
      socket.close();
      return { code: 1000, reason: "" };
    }
    this.#socket = socket;
    try {
      return await new Promise((resolve, reject) => {
        socket.onclose = (code, reason) => {
          resolve({ code, reason });
        };
        if (socket.protocol !== RENDEZVOUS_PROTOCOL) {
          // A rendezvous of another version says so by closing; anything else is none.
          setTimeout(() => {
            reject(new DcpipeError("NO_RENDEZVOUS", `what answers at ${url} is no dcpipe rendezvous`));
          }, RELEASE_MS);
          return;
        }
        socket.onmessage = (message) => {
          try {
            this.#receive(decodeServerMessage(message));
          } catch (cause) {
            this.#fail(asDcpipeError(cause, "PROTOCOL"));
          }
        };
      });
    } finally {
      this.#socket = undefined;
      socket.onmessage = undefined;
      socket.close();
    }
  }

  /** What the server is told first. */
  #first(): ClientMessage[] {
    const { place } = this.#options;
    const key = this.#key;
    const received = this.#received;
    const early = this.#held || !this.#options.body ? [] : this.#posted.slice(0, 1);
    const posts = early.map((body, index): ClientMessage => ({ type: "POST", index, body }));
    this.#sentFirst = posts.length;
    if (place.type === "open")
      return [{ type: "OPEN", key, role: place.role, name: place.name, received }, ...posts];
    const nameplate = this.#nameplate;
    const role: Role = place.type === "allocate" ? "waiting" : "joining";
    if (this.#held) return [{ type: "RESUME", key, role, nameplate, received }];
    if (place.type === "allocate") return [{ type: "ALLOCATE", key, nameplate }];
    return [{ type: "CLAIM", key, nameplate }, ...posts];
  }

  #receive(message: ServerMessage): void {
    switch (message.type) {
      case "ALLOCATED":
        this.#forget();
        this.#nameplate = message.nameplate;
        this.#options.onallocated?.(message.nameplate, message.link);
        break;
      case "ATTACHED":
        this.#onattached(message.stored);
        break;
      case "MESSAGE":
        // What was on its way twice comes twice.
        if (message.index < this.#received) return;
        if (message.index > this.#received)
          throw new DcpipeError("PROTOCOL", "the rendezvous left out a message");
        this.#received++;
        this.#options.onbody(message.body, message.index);
        break;
      case "JOINED":
        this.#options.onjoined?.();
        break;
      case "SERVERS":
        this.#options.onservers?.(message.servers);
    }
  }

  #onattached(stored: number): void {
    // What came with the first message is on its way, whatever the server had when it answered.
    const sent = Math.max(stored, this.#sentFirst);
    this.#held = this.#attached = this.#reached = true;
    if (this.#troubled) this.#options.ontrouble?.(undefined);
    this.#troubled = false;
    for (const [index, body] of this.#posted.entries())
      if (index >= sent) this.#send({ type: "POST", index, body });
    if (this.#options.place.type !== "allocate") return;
    clearInterval(this.#renew);
    this.#renew = setInterval(() => {
      if (this.#attached) this.#send({ type: "RENEW" });
    }, RENEW_MS);
  }

  /** What a close code means to us: come back as we are, at once and anew, or an end. */
  #judge(code: number, reason: string): "back" | "again" | { error: DcpipeError | undefined } {
    const { place, onrestart } = this.#options;
    const end = (error: ErrorCode, message: string): { error: DcpipeError } => ({
      error: new DcpipeError(error, message),
    });
    switch (code) {
      case CLOSE.RELEASED:
        return { error: undefined };
      case CLOSE.RESTART:
        this.#key = this.#options.key ?? randomKey();
        this.#forget();
        onrestart?.();
        return "again";
      case CLOSE.UNKNOWN:
      case CLOSE.EXPIRED:
        if (place.type === "allocate" && this.#held && !this.#burned) {
          this.#forget();
          return "again";
        }
        return end("CODE_UNKNOWN", "nobody waits with this code: it is mistyped, or it has expired");
      case CLOSE.USED:
        return end("CODE_USED", "somebody else has used this code already");
      case CLOSE.WRONG:
        return end("CODE_WRONG", "the codes of the two sides differ; this one is burned");
      case CLOSE.LEFT:
        return end("INTERRUPTED", "the other side gave up before there was a connection");
      case CLOSE.VERSION:
        return end("VERSION", "the rendezvous speaks another version");
      case CLOSE.LIMIT:
        return end("LIMIT", `the rendezvous refused: ${reason === "" ? "a limit was reached" : reason}`);
      case CLOSE.PROTOCOL:
      case CLOSE.TOO_BIG:
        return end("PROTOCOL", "the rendezvous did not understand this dcpipe");
      default:
        return "back";
    }
  }

  #forget(): void {
    this.#held = false;
    this.#posted = [];
    this.#received = 0;
  }

  #send(message: ClientMessage): void {
    this.#socket?.send(encodeClientMessage(message));
  }

  #pause(milliseconds: number): Promise<void> {
    const length = milliseconds * (0.5 + Math.random() / 2);
    const { signal } = this.#stop;
    return new Promise((resolve) => {
      const over = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", over);
        resolve();
      };
      const timer = setTimeout(over, length);
      signal.addEventListener("abort", over);
    });
  }
}
