/**
 * Machines without a kernel, on virtual time: connections with buffers that fill, FIN and RST as TCP has them, listeners, datagrams
 * and names. What a test wants to go wrong, it switches on.
 */
import type {
  Address,
  Connection,
  DatagramListener,
  DatagramSocket,
  Listener,
  Network,
} from "../../src/apps/forward/network.ts";
import { DcpipeError, type ErrorCode } from "../../src/errors.ts";
import type { Place } from "../../src/wire/forward.ts";

/** A segment on its way. */
const LATENCY_MS = 1;
/** After this a dial that nobody answers has failed. */
const DIAL_TIMEOUT_MS = 30_000;
/** What the kernel of a reader keeps. */
export const RECEIVE_BUFFER = 64 * 1024;
/** What a writer may have queued before `write` says no. */
export const SEND_BUFFER = 64 * 1024;

/** One end of a connection. A program at the other end of what is forwarded uses it as it is, too. */
export class End implements Connection {
  readonly remote: string;
  readonly local = "127.0.0.1";
  ondata: Connection["ondata"];
  onend: Connection["onend"];
  ondrain: Connection["ondrain"];
  onclose: Connection["onclose"];
  other!: End;
  over = false;
  /** Bytes queued by `write`, at the most. */
  mostQueued = 0;
  readonly #alive: Set<End>;
  #paused = true;
  #inbox: Uint8Array[] = [];
  #inboxBytes = 0;
  #outbox: Uint8Array[] = [];
  #outboxBytes = 0;
  #flying = 0;
  #full = false;
  #ending = false;
  #endSent = false;
  #endCame = false;
  #endRead = false;
  #deaf = false;
  #broken: DcpipeError | undefined;

  constructor(alive: Set<End>, remote: string) {
    this.#alive = alive;
    this.remote = remote;
    alive.add(this);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (this.over) return;
    this.#paused = false;
    later(() => {
      this.#read();
    });
  }

  write(chunk: Uint8Array): boolean {
    // As the adapter for sockets says it: there will be no drain.
    if (this.over || this.#ending) return false;
    if (chunk.length > 0) {
      this.#outbox.push(chunk.slice());
      this.#outboxBytes += chunk.length;
      this.mostQueued = Math.max(this.mostQueued, this.#outboxBytes);
    }
    later(() => {
      this.#send();
    });
    if (this.#outboxBytes >= SEND_BUFFER) this.#full = true;
    return !this.#full;
  }

  end(): void {
    if (this.over || this.#ending) return;
    this.#ending = true;
    later(() => {
      this.#send();
    });
  }

  reset(): void {
    if (this.over) return;
    const { other } = this;
    // The RST overtakes nothing that is under way, and what has not left is gone.
    later(() => {
      other.#resetCame();
    });
    this.#finish(undefined);
  }

  /** What close() does to a TCP socket: a FIN, and a reset for whatever comes or has come unread. */
  hangUp(): void {
    if (this.over) return;
    if (this.#inboxBytes > 0) {
      this.reset();
      return;
    }
    this.#deaf = true;
    this.end();
    this.resume();
  }

  #send(): void {
    if (this.over) return;
    if (this.#broken) {
      this.#finish(this.#broken);
      return;
    }
    const { other } = this;
    for (let chunk = this.#outbox[0]; chunk; chunk = this.#outbox[0]) {
      const room = RECEIVE_BUFFER - other.#inboxBytes - this.#flying;
      if (room <= 0) return;
      const part = chunk.subarray(0, room);
      if (part.length === chunk.length) this.#outbox.shift();
      else this.#outbox[0] = chunk.subarray(room);
      this.#outboxBytes -= part.length;
      this.#flying += part.length;
      later(() => {
        this.#flying -= part.length;
        other.#take(part);
      });
    }
    if (this.#full) {
      this.#full = false;
      this.ondrain?.();
    }
    if (!this.#ending || this.#endSent) return;
    this.#endSent = true;
    later(() => {
      other.#endCame = true;
      other.#read();
      this.#settle();
    });
  }

  #take(part: Uint8Array): void {
    if (this.over) return;
    if (this.#deaf) {
      this.reset();
      return;
    }
    this.#inbox.push(part);
    this.#inboxBytes += part.length;
    this.#read();
  }

  #resetCame(): void {
    if (this.over) return;
    this.#broken = new DcpipeError("CONNECTION_RESET", "the connection was reset");
    // Who writes notices at once, and loses what it has not read.
    if (this.#outboxBytes > 0) this.#finish(this.#broken);
    else this.#read();
  }

  #read(): void {
    while (!this.over && !this.#paused) {
      const part = this.#inbox.shift();
      if (!part) break;
      this.#inboxBytes -= part.length;
      this.ondata?.(part);
      later(() => {
        this.other.#send();
      });
    }
    if (this.over || this.#paused) return;
    if (this.#broken) {
      this.#finish(this.#broken);
      return;
    }
    if (!this.#endCame || this.#endRead) return;
    this.#endRead = true;
    this.onend?.();
    this.#settle();
  }

  #settle(): void {
    if (this.#endSent && this.#endRead && !this.over) this.#finish(undefined);
  }

  #finish(error: DcpipeError | undefined): void {
    this.over = true;
    this.#alive.delete(this);
    this.#inbox = [];
    this.#inboxBytes = 0;
    this.#outbox = [];
    this.#outboxBytes = 0;
    later(() => this.onclose?.(error));
  }
}

function later(run: () => void): void {
  setTimeout(run, LATENCY_MS);
}

/** What a program at one end of a connection sees. */
export class Program {
  readonly end: End;
  received = 0;
  readonly chunks: Uint8Array[] = [];
  /** The other side has ended its direction. */
  ended = false;
  /** How it ended: by FIN both ways or a reset of our own ("well"), or with an error. */
  closed: "well" | ErrorCode | undefined;

  constructor(end: End, { reading = true }: { readonly reading?: boolean } = {}) {
    this.end = end;
    end.ondata = (chunk) => {
      this.received += chunk.length;
      this.chunks.push(chunk.slice());
    };
    end.onend = () => {
      this.ended = true;
    };
    end.onclose = (error) => {
      this.closed = error?.code ?? "well";
    };
    if (reading) end.resume();
  }

  get bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.chunks));
  }

  get text(): string {
    return new TextDecoder().decode(this.bytes);
  }

  /** Writes as the other side reads, without end. Counts what was written. */
  flood(size = 16 * 1024): { written: number } {
    const count = { written: 0 };
    const go = (): void => {
      while (!this.end.over) {
        count.written += size;
        if (!this.end.write(new Uint8Array(size))) return;
      }
    };
    this.end.ondrain = go;
    go();
    return count;
  }
}

/** Who answers a dial: a program, or the reason why nobody does; "silent" lets it run into its timeout, "endless" has none. */
export type Service = ((end: End) => void) | ErrorCode | "silent" | "endless";

export class Machine implements Network {
  /** Ends of connections on this machine that are not over, both of them. */
  readonly ends = new Set<End>();
  /** By `address:port` or path. What is not here refuses connections. */
  readonly services = new Map<string, Service>();
  /** Who takes datagrams, by `address:port`: returns the answers. */
  readonly echoes = new Map<string, (payload: Uint8Array) => readonly Uint8Array[]>();
  readonly names = new Map<string, readonly string[] | ErrorCode>([["localhost", ["127.0.0.1"]]]);
  readonly listeners = new Map<string, (connection: Connection) => void>();
  readonly datagramListeners = new Map<string, (payload: Uint8Array, from: string) => void>();
  readonly places: Place[] = [];
  /** Ports that somebody else has. */
  readonly busy = new Set<number>();
  readonly dialled: string[] = [];
  /** What was sent back to senders of datagrams. */
  readonly answers: { readonly payload: Uint8Array; readonly from: string }[] = [];
  dialling = 0;
  datagramSockets = 0;
  #nextPort = 50_000;
  #clients = 0;

  /** A program here connects to a port that is listened at. */
  connect(place: string | number, options?: { readonly reading?: boolean }): Program {
    const listener = this.listeners.get(String(place));
    if (!listener) throw new DcpipeError("CONNECTION_REFUSED", `nobody listens at ${place}`);
    const [near, far] = this.#pair(`127.0.0.1:${40_000 + ++this.#clients}`);
    listener(far);
    return new Program(near, options);
  }

  /** A datagram comes to a port that is listened at. */
  datagram(port: number, payload: Uint8Array, from: string): void {
    this.datagramListeners.get(String(port))?.(payload, from);
  }

  /** A program that takes every connection, and what it has taken. */
  serve(where: string, options?: { readonly reading?: boolean }): Program[] {
    const taken: Program[] = [];
    this.services.set(where, (end) => taken.push(new Program(end, options)));
    return taken;
  }

  listen(place: Place, onconnection: (connection: Connection) => void): Promise<Listener> {
    return this.#bind(place, this.listeners, onconnection);
  }

  async dial(address: Address, { signal }: { readonly signal: AbortSignal }): Promise<Connection> {
    const where = nameOf(address);
    this.dialled.push(where);
    const service = this.services.get(where) ?? "CONNECTION_REFUSED";
    this.dialling++;
    try {
      await new Promise<void>((resolve, reject) => {
        const abort = (): void => {
          reject(new DcpipeError("ABORTED", "stopped"));
        };
        if (signal.aborted) abort();
        else signal.addEventListener("abort", abort);
        if (service !== "silent" && service !== "endless") later(resolve);
        else if (service === "silent")
          setTimeout(() => {
            reject(new DcpipeError("TIMEOUT", `${where} does not answer`));
          }, DIAL_TIMEOUT_MS);
      });
    } finally {
      this.dialling--;
    }
    if (typeof service === "string") throw new DcpipeError(service as ErrorCode, `${where}: ${service}`);
    const [near, far] = this.#pair(where);
    service(near);
    return far;
  }

  async listenDatagrams(
    place: Place,
    ondatagram: (payload: Uint8Array, from: string) => void,
  ): Promise<DatagramListener> {
    const listener = await this.#bind(place, this.datagramListeners, ondatagram);
    return {
      ...listener,
      send: (payload, from) => {
        this.answers.push({ payload: payload.slice(), from });
      },
    };
  }

  dialDatagrams(address: Address, events: Parameters<Network["dialDatagrams"]>[1]): Promise<DatagramSocket> {
    const where = nameOf(address);
    this.datagramSockets++;
    let closed = false;
    return Promise.resolve({
      send: (payload: Uint8Array) => {
        const echo = this.echoes.get(where);
        const copy = payload.slice();
        later(() => {
          if (closed) return;
          if (!echo) events.onerror(new DcpipeError("CONNECTION_REFUSED", "port unreachable"));
          else for (const answer of echo(copy)) events.ondatagram(answer);
        });
      },
      close: () => {
        if (closed) return;
        closed = true;
        this.datagramSockets--;
      },
    });
  }

  resolve(host: string): Promise<readonly string[]> {
    if (/^[\d.]+$|:/.test(host)) return Promise.resolve([host]);
    const found = this.names.get(host) ?? "NAME_UNKNOWN";
    if (typeof found !== "string") return Promise.resolve(found);
    return Promise.reject(new DcpipeError(found, `${host} is not known here`));
  }

  #pair(remote: string): [near: End, far: End] {
    const near = new End(this.ends, "us");
    const far = new End(this.ends, remote);
    near.other = far;
    far.other = near;
    return [near, far];
  }

  #bind<T>(place: Place, bound: Map<string, T>, take: T): Promise<Listener> {
    const port = place.type === "host" && (place.port || this.#nextPort++);
    const key = place.type === "host" ? String(port) : place.path;
    if (bound.has(key) || (port !== false && this.busy.has(port)))
      return Promise.reject(new DcpipeError("USAGE", `${key} is taken`));
    bound.set(key, take);
    const where: Place =
      place.type === "host"
        ? { type: "host", address: place.address || "127.0.0.1", port: Number(port) }
        : place;
    this.places.push(where);
    return Promise.resolve({
      place: where,
      close: () => {
        bound.delete(key);
        return Promise.resolve();
      },
    });
  }
}

function nameOf(address: Address): string {
  return address.type === "unix" ? address.path : `${address.address}:${address.port}`;
}
