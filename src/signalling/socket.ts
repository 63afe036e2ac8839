/**
 * A WebSocket to a rendezvous, as the rest of the house sees it. An adapter (node/websocket.ts, browser/websocket.ts) implements it.
 */

export interface Socket {
  /** The subprotocol that the server chose, "" for none. */
  readonly protocol: string;
  /** What comes before anybody listens is kept. Binary messages only; a text message closes the socket. */
  onmessage: ((message: Uint8Array) => void) | undefined;
  /** Called once, for whatever reason, also by `close`; 1006 when nobody said why (RFC 6455, section 7.4.1). */
  onclose: ((code: number, reason: string) => void) | undefined;
  /** Bytes given to `send` that have not left this process yet. */
  readonly bufferedAmount: number;
  /** What was sent has left this process, or most of it (LOW_WATER of transport/channel.ts). */
  ondrain?: (() => void) | undefined;
  send(message: Uint8Array): void;
  /** Idempotent. What was sent before still goes out. */
  close(): void;
}

export interface SocketOptions {
  /** Subprotocols to offer. */
  readonly protocols: readonly string[];
  /** The machine is on the local network: no proxy leads there. */
  readonly direct?: boolean | undefined;
  /** The largest message that may come, in bytes; some KiB by default. */
  readonly maxMessage?: number | undefined;
  /** Stops the attempt; the promise rejects with ABORTED. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens a WebSocket to an http, https, ws or wss URL. Rejects with NO_RENDEZVOUS when what answers there is no WebSocket, SIGNALLING
 * when nothing can be reached (name, network, TLS, time), USAGE for what is no such URL, ABORTED.
 */
export type OpenSocket = (url: string, options: SocketOptions) => Promise<Socket>;
