/** What HTTP to a target needs of the machine it runs on; node/http.ts brings it. */
import type { BodyLength, HttpField } from "../../wire/http.ts";
import type { Source } from "../endpoints.ts";
import type { Address } from "../forward/network.ts";

/** What a client sends. Fields are those of the record, and `host`. */
export interface OutgoingRequest {
  readonly method: string;
  readonly path: string;
  readonly fields: readonly HttpField[];
  readonly length: BodyLength;
  /** Nothing is taken off it before a connection stands. */
  readonly body: Source;
}

export interface IncomingResponse {
  readonly status: number;
  readonly reason: string;
  /** All that came, in its order, names as the server writes them. */
  readonly fields: readonly HttpField[];
  /** Rejects with CONNECTION_RESET or PROTOCOL when it is cut off. Slow reading slows the server. */
  readonly body: Source;
  /** The whole request has been sent. */
  readonly isSent: () => boolean;
}

/** A connection that the server has made a WebSocket of; what travels on it is for the two ends. */
export interface UpgradedConnection {
  readonly protocol: string;
  readonly fields: readonly HttpField[];
  /** Ends when the server ends its direction; rejects with CONNECTION_RESET or another error of a connection. */
  readonly source: Source;
  /** Resolves when there is room for more. Rejects when the connection is over. */
  write(chunk: Uint8Array): Promise<void>;
  /** Ends our direction after what was written. */
  end(): void;
  /** Ends both at once. Idempotent. */
  destroy(): void;
}

export interface HttpClient {
  /**
   * Sends a request to the first address that takes connections. Resolves with the final response's head; those before it (1xx) are
   * dropped. Rejects with CONNECTION_REFUSED, CONNECTION_RESET, UNREACHABLE, TIMEOUT, LIMIT, IO, ABORTED, and PROTOCOL when what answers
   * does not speak HTTP. The signal destroys the request at any time, also when its response is under way.
   */
  request(
    addresses: readonly Address[],
    request: OutgoingRequest,
    options: { readonly signal: AbortSignal },
  ): Promise<IncomingResponse>;
  /** Asks for a WebSocket. Resolves with a response when the server does not make one. Rejects as `request` does. */
  upgrade(
    addresses: readonly Address[],
    opening: {
      readonly path: string;
      readonly protocols: readonly string[];
      readonly fields: readonly HttpField[];
    },
    options: { readonly signal: AbortSignal },
  ): Promise<UpgradedConnection | IncomingResponse>;
  /** Closes connections that wait for a next request. */
  close(): void;
}
