/**
 * A TURN client (RFC 8656): one allocation on one server, with long-term credentials. It keeps the allocation alive until it is closed;
 * what goes through it is the caller's.
 */
import { DcpipeError } from "../../errors.ts";
import type { TurnServer } from "../../transport/peer.ts";
import { dial, type Connection, type DialOptions } from "./dial.ts";
import { isChannelData } from "./framing.ts";
import { refusal } from "./refusal.ts";
import {
  ATTRIBUTE,
  CLASS,
  decodeAddress,
  decodeStun,
  decodeXorAddress,
  encodeStun,
  encodeUInt32,
  errorCode,
  formatHost,
  hasIntegrity,
  longTermKey,
  METHOD,
  newTransaction,
  type Attribute,
  type StunMessage,
  type TransportAddress,
} from "./stun.ts";

/** Over UDP a request is sent again after this, doubled each time (RFC 8489, section 6.2.1). */
const RETRANSMIT_MS = 500;
/** Four transmissions over UDP; over a stream an answer may have to wait for data in front of it. */
const ANSWER_MS = 7500;
/** What servers grant without being asked for another one (RFC 8656, section 7.2). Seconds. */
const LIFETIME = 600;
/** Often enough for routers and proxies that forget who is silent: the allocation is asked for, and its connection used. */
const REFRESH_MS = 25_000;
/** An allocation that somebody wants to use again must prove within this that it lives. */
const PROOF_MS = 2000;
/** A server may pass us on, to one that does not (RFC 8489, section 10). */
const MAX_REDIRECTIONS = 1;
/** One challenge, and one nonce that has become stale meanwhile. */
const MAX_CHALLENGES = 2;
/** IANA's protocol number of UDP, as REQUESTED-TRANSPORT has it. */
const UDP = 17;

const CODE = { TRY_ALTERNATE: 300, UNAUTHENTICATED: 401, MISMATCH: 437, STALE_NONCE: 438 } as const;

/** A server's no, by its number (RFC 8656, section 19). */
export class Refused extends DcpipeError {
  readonly number: number;

  constructor(number: number, username: string) {
    const { code, text } = refusal(number, username);
    super(code, text);
    this.number = number;
  }
}

export type ClientOptions = Pick<DialOptions, "bind" | "ports" | "signal">;

export interface AllocateOptions extends ClientOptions {
  /** For everything: the name, the connection, TLS, the allocation. */
  readonly timeoutMs: number;
}

/**
 * Makes an allocation. Rejects with a DcpipeError when there is none to be had: AUTH_FAILED, REFUSED, LIMIT, TIMEOUT, PROTOCOL, ABORTED, or
 * what `dial` rejects with; the message does not name the server.
 */
export async function allocate(server: TurnServer, options: AllocateOptions): Promise<TurnClient> {
  const giveUp = new AbortController();
  const stop = (): void => {
    giveUp.abort();
  };
  const timer = setTimeout(stop, options.timeoutMs).unref();
  options.signal.addEventListener("abort", stop);
  if (options.signal.aborted) stop();
  try {
    return await follow(server, { ...options, signal: giveUp.signal });
  } catch (error) {
    if (giveUp.signal.aborted && !options.signal.aborted)
      throw new DcpipeError("TIMEOUT", `no answer in ${options.timeoutMs / 1000} s`, { cause: error });
    throw error;
  } finally {
    clearTimeout(timer);
    options.signal.removeEventListener("abort", stop);
  }
}

/** An allocation on the server, or on the one that it names in its place. */
async function follow(server: TurnServer, options: ClientOptions): Promise<TurnClient> {
  let place = server;
  for (let redirections = 0; redirections <= MAX_REDIRECTIONS; redirections++) {
    const client = await TurnClient.connect(place, options);
    const stop = (): void => {
      client.close();
    };
    options.signal.addEventListener("abort", stop);
    if (options.signal.aborted) stop();
    try {
      const alternate = await client.allocate();
      if (!alternate) return client;
      place = { ...server, ...alternate };
      client.close();
    } catch (error) {
      client.close();
      throw error;
    } finally {
      options.signal.removeEventListener("abort", stop);
    }
  }
  throw new DcpipeError("REFUSED", "it passes us on and on");
}

interface Pending {
  readonly resolve: (answer: StunMessage) => void;
  readonly reject: (error: DcpipeError) => void;
}

let count = 0;

/** Those that hold allocations. A server keeps one for ten minutes unless it is told, also at our end. */
const holders = new Set<TurnClient>();
process.on("exit", () => {
  for (const client of holders) client.close();
});

export class TurnClient {
  /** Where the server listens for us. */
  relayed: TransportAddress | undefined;
  /** Milliseconds between the request that was granted and its answer. */
  roundTripMs: number | undefined;
  /** ChannelData and Data indications, whole. */
  onmessage: ((message: Buffer) => void) | undefined;
  /** The allocation is gone, for a reason that does not name the server. Never after `close`. */
  onlost: ((error: DcpipeError) => void) | undefined;
  /** Whose channels they are, by number. They live as long as the allocation: a peer never gets another one (RFC 8656, section 12). */
  readonly channels = new Map<number, TransportAddress>();
  /** Clients are numbered as they are made. */
  readonly born = ++count;
  readonly #server: TurnServer;
  #connection!: Connection;
  #key: Buffer | undefined;
  #realm: Buffer | undefined;
  #nonce: Buffer | undefined;
  readonly #pending = new Map<string, Pending>();
  #refresh: ReturnType<typeof setInterval> | undefined;
  #aliveUntil = Infinity;
  #closed: DcpipeError | undefined;

  private constructor(server: TurnServer) {
    this.#server = server;
  }

  static async connect(server: TurnServer, options: ClientOptions): Promise<TurnClient> {
    const client = new TurnClient(server);
    client.#connection = await dial(server, {
      ...options,
      onmessage: (message) => {
        client.#receive(message);
      },
      onclose: (error) => {
        client.#lose(error);
      },
    });
    return client;
  }

  /** Resolves with the server to ask in place of this one, if it says so. */
  async allocate(): Promise<Pick<TurnServer, "host" | "port"> | undefined> {
    const attributes = [
      encodeUInt32(ATTRIBUTE.REQUESTED_TRANSPORT, UDP << 24),
      encodeUInt32(ATTRIBUTE.LIFETIME, LIFETIME),
    ];
    let answer: StunMessage;
    try {
      answer = await this.request(METHOD.ALLOCATE, () => attributes);
    } catch (error) {
      const alternate = error instanceof Alternate ? error.server : undefined;
      if (!alternate) throw error;
      return alternate;
    }
    this.relayed = decodeXorAddress(answer.attributes.get(ATTRIBUTE.XOR_RELAYED_ADDRESS), answer.transaction);
    if (!this.relayed) throw new DcpipeError("PROTOCOL", "its answer to Allocate has no relayed address");
    this.#granted(answer);
    holders.add(this);
    this.#refresh = setInterval(() => {
      void this.#stayAlive();
    }, REFRESH_MS).unref();
    return undefined;
  }

  /**
   * Sends a request, with credentials as far as the server wants them. Resolves with its success; rejects with Refused, TIMEOUT, or why the
   * connection ended.
   */
  async request(
    method: number,
    attributes: (transaction: Buffer) => readonly Attribute[],
    patienceMs?: number,
  ): Promise<StunMessage> {
    for (let challenges = 0; ; challenges++) {
      const transaction = newTransaction();
      const key = this.#key;
      const message = encodeStun(
        {
          method,
          class: CLASS.REQUEST,
          transaction,
          attributes: [...attributes(transaction), ...this.#login()],
        },
        key,
      );
      const begin = performance.now();
      const answer = await this.#ask(message, transaction, patienceMs);
      this.roundTripMs = performance.now() - begin;
      if (answer.class === CLASS.SUCCESS) return answer;
      const number = errorCode(answer);
      if (number === CODE.TRY_ALTERNATE && method === METHOD.ALLOCATE) throw new Alternate(answer);
      const isChallenge = (number === CODE.UNAUTHENTICATED && !key) || number === CODE.STALE_NONCE;
      if (!isChallenge || challenges >= MAX_CHALLENGES || !this.#challenged(answer))
        throw new Refused(number, this.#server.username);
    }
  }

  get closed(): boolean {
    return this.#closed !== undefined;
  }

  /** A ChannelData message or a Send indication, whole; it must not change from then on. */
  send(message: Buffer): void {
    if (!this.#closed) this.#connection.send(message);
  }

  /** Whether the server still holds the allocation. Never rejects. */
  async proves(): Promise<boolean> {
    try {
      this.#granted(await this.#extend(PROOF_MS));
      return !this.#closed;
    } catch {
      return false;
    }
  }

  /** Gives the allocation back. Idempotent. */
  close(): void {
    if (this.#closed) return;
    if (this.relayed && !this.#connection.isReliable) {
      // Over a stream the server sees its end; here it is told, once and without waiting for what it says.
      this.#connection.send(this.#goodbye());
    }
    this.#end(new DcpipeError("ABORTED", "stopped"));
    this.#connection.close();
  }

  #goodbye(): Buffer {
    const attributes = [encodeUInt32(ATTRIBUTE.LIFETIME, 0), ...this.#login()];
    const transaction = newTransaction();
    return encodeStun({ method: METHOD.REFRESH, class: CLASS.REQUEST, transaction, attributes }, this.#key);
  }

  #extend(patienceMs?: number): Promise<StunMessage> {
    return this.request(METHOD.REFRESH, () => [encodeUInt32(ATTRIBUTE.LIFETIME, LIFETIME)], patienceMs);
  }

  async #stayAlive(): Promise<void> {
    try {
      this.#granted(await this.#extend());
    } catch (error) {
      // A network that is away for a while takes no allocation with it: that is up to its lifetime.
      if (error instanceof Refused) this.#lose(error);
      else if (performance.now() > this.#aliveUntil)
        this.#lose(new DcpipeError("TIMEOUT", "it does not answer any more"));
    }
  }

  #granted({ attributes }: StunMessage): void {
    const value = attributes.get(ATTRIBUTE.LIFETIME);
    const seconds = value?.length === 4 ? value.readUInt32BE(0) : LIFETIME;
    this.#aliveUntil = performance.now() + seconds * 1000;
  }

  /** Takes the realm and nonce of a 401 or 438; false when there are none. */
  #challenged({ attributes }: StunMessage): boolean {
    const realm = attributes.get(ATTRIBUTE.REALM);
    const nonce = attributes.get(ATTRIBUTE.NONCE);
    if (!realm || !nonce) return false;
    const { username, password } = this.#server;
    this.#realm = Buffer.from(realm);
    this.#nonce = Buffer.from(nonce);
    this.#key = longTermKey(username, this.#realm, password);
    return true;
  }

  #login(): readonly Attribute[] {
    if (!this.#realm || !this.#nonce) return [];
    return [
      [ATTRIBUTE.USERNAME, Buffer.from(this.#server.username)],
      [ATTRIBUTE.REALM, this.#realm],
      [ATTRIBUTE.NONCE, this.#nonce],
    ];
  }

  #ask(message: Buffer, transaction: Buffer, patienceMs = ANSWER_MS): Promise<StunMessage> {
    if (this.#closed) return Promise.reject(this.#closed);
    const id = transaction.toString("latin1");
    return new Promise((resolve, reject) => {
      let again: ReturnType<typeof setTimeout> | undefined;
      const giveUp = setTimeout(() => {
        settle();
        reject(new DcpipeError("TIMEOUT", "it does not answer"));
      }, patienceMs).unref();
      const settle = (): void => {
        clearTimeout(giveUp);
        clearTimeout(again);
        this.#pending.delete(id);
      };
      const transmit = (waitMs: number): void => {
        this.#connection.send(message);
        if (!this.#connection.isReliable) again = setTimeout(transmit, waitMs, waitMs * 2).unref();
      };
      this.#pending.set(id, {
        resolve: (answer) => {
          settle();
          resolve(answer);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      });
      transmit(RETRANSMIT_MS);
    });
  }

  #receive(message: Buffer): void {
    if (this.#closed) return;
    if (isChannelData(message)) {
      this.onmessage?.(message);
      return;
    }
    const stun = decodeStun(message);
    if (!stun) return;
    if (stun.class === CLASS.INDICATION) {
      if (stun.method === METHOD.DATA) this.onmessage?.(message);
      return;
    }
    const pending = this.#pending.get(stun.transaction.toString("latin1"));
    if (!pending || stun.class === CLASS.REQUEST) return;
    // A success must be the server's own word; an error says that there is no common key, or needs none (RFC 8489, section 9.2.5).
    if (stun.class === CLASS.SUCCESS && this.#key && !hasIntegrity(message, stun, this.#key)) return;
    pending.resolve(stun);
  }

  #lose(error: DcpipeError): void {
    if (this.#closed) return;
    this.#end(error);
    this.#connection.close();
    this.onlost?.(error);
  }

  #end(error: DcpipeError): void {
    this.#closed = error;
    holders.delete(this);
    clearInterval(this.#refresh);
    for (const { reject } of [...this.#pending.values()]) reject(error);
  }
}

/** "Try another one", and which. */
class Alternate extends DcpipeError {
  readonly server: Pick<TurnServer, "host" | "port"> | undefined;

  constructor({ attributes }: StunMessage) {
    super("REFUSED", "it passes us on to nowhere");
    const address = decodeAddress(attributes.get(ATTRIBUTE.ALTERNATE_SERVER));
    this.server = address && { host: formatHost(address.bytes), port: address.port };
  }
}
