/**
 * What a forward needs of the machine it runs on: connections, listeners, datagrams, names, HTTP. node/tcp.ts, node/udp.ts,
 * node/names.ts and node/http.ts bring them.
 */
import type { DcpipeError } from "../../errors.ts";
import type { Place } from "../../wire/forward.ts";
import type { HttpClient } from "../http/client.ts";

/** Where to dial: an IP address (no name) and a port, or the path of a unix socket. */
export type Address =
  | { readonly type: "host"; readonly address: string; readonly port: number }
  | { readonly type: "unix"; readonly path: string };

/**
 * A connection of bytes on this machine. It begins paused: set the callbacks, then call `resume`. Its two directions end on their
 * own; it is over when both have, or with an error. After `onclose` nothing else is called.
 */
export interface Connection {
  /** Who is at the other end, for people: `127.0.0.1:53122`, or the path. */
  readonly remote: string;
  /** The IP address of our end; "" for a unix socket. */
  readonly local: string;
  /** Bytes came; they may be used until the callback returns. */
  ondata: ((chunk: Uint8Array) => void) | undefined;
  /** The other end has ended its direction (FIN): all it sent has come by `ondata`. */
  onend: (() => void) | undefined;
  /** There is room again after `write` said no. */
  ondrain: (() => void) | undefined;
  /** It is over. With an error (CONNECTION_RESET, TIMEOUT, UNREACHABLE, IO) if it did not end well. */
  onclose: ((error: DcpipeError | undefined) => void) | undefined;
  /** No more `ondata` until `resume`. What came in between waits, and the sender is slowed. */
  pause(): void;
  resume(): void;
  /** Queues bytes, which must not change from then on; sent at once (TCP_NODELAY). False: wait for `ondrain`. Nothing when it is over. */
  write(chunk: Uint8Array): boolean;
  /** Ends our direction (FIN) after what was written. */
  end(): void;
  /** Ends both directions at once with a reset (RST) where there is such a thing. Idempotent. */
  reset(): void;
}

export interface Listener {
  /** Where it listens indeed: the port that was picked. */
  readonly place: Place;
  /** Stops listening, and removes the unix socket; connections go on. */
  close(): Promise<void>;
}

/** Datagrams that come to a port of ours, and answers to their senders. */
export interface DatagramListener extends Listener {
  /** Sends to one who has sent here: `from` as it was given. */
  send(payload: Uint8Array, from: string): void;
}

/** Datagrams to and from one address. */
export interface DatagramSocket {
  send(payload: Uint8Array): void;
  close(): void;
}

export interface Network {
  /** Listens for connections. Rejects with USAGE (busy, not allowed, not an address of ours; the text says which). */
  listen(place: Place, onconnection: (connection: Connection) => void): Promise<Listener>;
  /** Rejects with CONNECTION_REFUSED, CONNECTION_RESET, UNREACHABLE, TIMEOUT, LIMIT, IO, ABORTED. */
  dial(address: Address, options: { readonly signal: AbortSignal }): Promise<Connection>;
  /** Listens for datagrams. `from` names the sender and stays the same for it. Rejects with USAGE. */
  listenDatagrams(
    place: Place,
    ondatagram: (payload: Uint8Array, from: string) => void,
  ): Promise<DatagramListener>;
  /** `onerror` with CONNECTION_REFUSED (ICMP port unreachable), UNREACHABLE or IO; the socket stays of use. Rejects with IO, LIMIT. */
  dialDatagrams(
    address: Address,
    events: {
      readonly ondatagram: (payload: Uint8Array) => void;
      readonly onerror: (error: DcpipeError) => void;
    },
  ): Promise<DatagramSocket>;
  /** The IP addresses a name stands for, in the order of preference; an address stands for itself. Rejects with NAME_UNKNOWN. */
  resolve(host: string): Promise<readonly string[]>;
  /** Asks targets by HTTP. A network without it serves no streams of kind `http`. */
  createHttpClient?(): Promise<HttpClient>;
}
