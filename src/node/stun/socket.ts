/** STUN transactions over one UDP socket, as many at a time as one likes: what a NAT does shows only when several share one. */
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import {
  decodeMessage,
  encodeIndication,
  encodeRequest,
  TRANSACTION_SIZE,
  type Change,
  type Endpoint,
} from "./message.ts";

/** What became of a request. */
export type Answer =
  | {
      readonly outcome: "answered";
      /** Who has answered: the one who was asked, unless another source was asked for. */
      readonly from: Endpoint;
      readonly mapped: Endpoint;
      readonly other: Endpoint | undefined;
      readonly roundTripMs: number;
    }
  /** The server's error code (RFC 8489, section 14.8). */
  | { readonly outcome: "refused"; readonly code: number }
  /** What came from there was no STUN. */
  | { readonly outcome: "garbage" }
  | { readonly outcome: "silent" }
  /** It could not even be sent: the system's name of the error. */
  | { readonly outcome: "unreachable"; readonly reason: string };

export interface AskOptions {
  readonly change?: Change | undefined;
  readonly timeoutMs: number;
  /** Ends the wait as the time does. */
  readonly signal: AbortSignal;
}

export interface StunSocket {
  readonly port: number;
  /** Never rejects. */
  ask(server: Endpoint, options: AskOptions): Promise<Answer>;
  /** Sends an indication, which opens filters and is not answered. `mark` is its transaction in hex, 24 digits. */
  indicate(to: Endpoint, mark: string): void;
  /** An indication has come. */
  onindication: ((mark: string) => void) | undefined;
  close(): void;
}

/**
 * When a request is sent again: packets get lost, and networks take up to half a second to answer. Each has a transaction of
 * its own, so that its round trip is known.
 */
const SEND_AT_MS = [0, 300, 900, 1600];

/** Binds a socket of this family at the first of the ports that is free. Undefined when there is none, or no such family here. */
export async function openStunSocket(
  family: 4 | 6,
  bind: string | undefined,
  ports: readonly [number, number] | undefined,
): Promise<StunSocket | undefined> {
  const [first, last] = ports ?? [0, 0];
  for (let port = first; port <= last; port++) {
    const socket = await tryOpen(family, bind, port);
    if (socket) return socket;
  }
  return undefined;
}

function tryOpen(family: 4 | 6, bind: string | undefined, port: number): Promise<StunSocket | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(family === 4 ? { type: "udp4" } : { type: "udp6", ipv6Only: true });
    const receivers = new Set<(message: Buffer, from: Endpoint) => void>();
    socket.on("error", () => {
      resolve(undefined);
    });
    socket.on("message", (message, { address, port: from }) => {
      for (const receive of [...receivers]) receive(message, { address, port: from });
    });
    socket.bind({ port, ...(bind === undefined ? {} : { address: bind }) }, () => {
      const opened: StunSocket = {
        port: socket.address().port,
        onindication: undefined,
        ask: (server, options) => ask(server, options, send, receivers),
        indicate: (to, mark) => {
          send(encodeIndication(Buffer.from(mark, "hex")), to, () => undefined);
        },
        close: () => {
          receivers.clear();
          socket.close();
        },
      };
      receivers.add((message) => {
        const decoded = decodeMessage(message);
        if (decoded?.type === "indication") opened.onindication?.(decoded.transaction);
      });
      resolve(opened);
    });
    const send: Send = (message, to, onfailure) => {
      try {
        socket.send(message, to.port, to.address, (error) => {
          if (error) onfailure(error);
        });
      } catch (error) {
        // The socket is closed, or the address is none.
        onfailure(error);
      }
    };
  });
}

type Send = (message: Buffer, to: Endpoint, onfailure: (error: unknown) => void) => void;

function ask(
  server: Endpoint,
  { change, timeoutMs, signal }: AskOptions,
  send: Send,
  receivers: Set<(message: Buffer, from: Endpoint) => void>,
): Promise<Answer> {
  return new Promise((resolve) => {
    const sent = new Map<string, number>();
    let garbage = false;
    let failure: string | undefined;
    const finish = (answer: Answer): void => {
      for (const timer of timers) clearTimeout(timer);
      signal.removeEventListener("abort", giveUp);
      receivers.delete(receive);
      resolve(answer);
    };
    const giveUp = (): void => {
      if (failure !== undefined) finish({ outcome: "unreachable", reason: failure });
      else finish({ outcome: garbage ? "garbage" : "silent" });
    };
    const receive = (message: Buffer, from: Endpoint): void => {
      const expected = from.address === server.address && from.port === server.port;
      const decoded = decodeMessage(message);
      if (!decoded) {
        garbage ||= expected;
        return;
      }
      const time = sent.get(decoded.transaction);
      // Whoever knows the transaction got the request; from elsewhere it may only come when that was asked for.
      if (time === undefined || (!expected && !change)) return;
      if (decoded.type === "error") finish({ outcome: "refused", code: decoded.code });
      if (decoded.type !== "success") return;
      const { mapped, other } = decoded;
      finish({ outcome: "answered", from, mapped, other, roundTripMs: performance.now() - time });
    };
    const request = (): void => {
      const transaction = randomBytes(TRANSACTION_SIZE);
      sent.set(transaction.toString("hex"), performance.now());
      send(encodeRequest(transaction, change), server, (error) => {
        failure = error instanceof Error && "code" in error ? String(error.code) : String(error);
        // No route now is no route in a second.
        giveUp();
      });
    };
    const timers = SEND_AT_MS.filter((ms) => ms > 0 && ms < timeoutMs).map((ms) => setTimeout(request, ms));
    timers.push(setTimeout(giveUp, timeoutMs));
    signal.addEventListener("abort", giveUp);
    receivers.add(receive);
    if (signal.aborted) giveUp();
    else request();
  });
}
