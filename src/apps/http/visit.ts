/**
 * A side of a forward that offers nothing and asks: what the other side offers, and HTTP to it. It may be the waiting or the joining side,
 * and needs no network of its own.
 */
import { DcpipeError } from "../../errors.ts";
import type { Session } from "../../session/session.ts";
import type { Role } from "../../wire/hello.ts";
import { Ledger } from "../forward/events.ts";
import type { Network } from "../forward/network.ts";
import { ForwardSession } from "../forward/session.ts";
import type { Offer } from "../forward/spec.ts";
import { createFetch, type Fetch, type HttpOptions } from "./fetch.ts";
import type { Opener } from "./exchange.ts";
import { createWebSocket, type SessionWebSocketConstructor } from "./websocket.ts";

/** fetch and WebSocket to what the other side of a session offers. */
export interface SessionHttp {
  readonly fetch: Fetch;
  readonly WebSocket: SessionWebSocketConstructor;
}

/** Throws USAGE for a target that is none. */
export function httpOver(session: Opener, options: HttpOptions = {}): SessionHttp {
  return { fetch: createFetch(session, options), WebSocket: createWebSocket(session, options) };
}

export interface Visit {
  /** Targets that the other side offers. Rejects with REFUSED when it does something else than forward, or with what ended the session. */
  readonly offers: Promise<readonly Offer[]>;
  /** Rejects when the session is over: CLOSED or INTERRUPTED when the other side has left in good order. */
  readonly done: Promise<never>;
  /** Asks and answers nothing more: then the session can be closed in good order. */
  leave(): void;
}

/** Takes part in the other side's `dcpipe forward`. Whatever it asks for itself is refused. */
export function visit(session: Session, role: Role): Visit {
  let offered!: (offers: readonly Offer[]) => void;
  let failed!: (cause: unknown) => void;
  const offers = new Promise<readonly Offer[]>((resolve, reject) => {
    offered = resolve;
    failed = reject;
  });
  const refuse = (): Promise<never> => Promise.reject(new DcpipeError("REFUSED", "nothing is offered here"));
  const forward = new ForwardSession(session, role, {
    network: NO_NETWORK,
    ledger: new Ledger(() => undefined),
    pacer: undefined,
    offers: [],
    remotes: [],
    datagrams: false,
    permit: refuse,
    listenFor: refuse,
    offered: (list) => {
      offered([...list]);
    },
  });
  const done = forward.run();
  done.catch(failed);
  offers.catch(() => undefined);
  return {
    offers,
    done,
    leave: () => {
      forward.leave();
    },
  };
}

function none(): Promise<never> {
  return Promise.reject(new DcpipeError("REFUSED", "there is no network here"));
}

const NO_NETWORK: Network = {
  listen: none,
  dial: none,
  listenDatagrams: none,
  dialDatagrams: none,
  resolve: none,
};
