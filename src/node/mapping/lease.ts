/** A mapped port for as long as somebody wants it: renewed in time, and given back. */
import type { PortMapping } from "../../transport/mapping.ts";
import type { Grant, MappingClient } from "./client.ts";
import { UNSTOPPED, within, type Wait } from "./wait.ts";

/** Requests for a mapping are never closer together (RFC 6887, section 11.2.1). */
const MIN_GAP_MS = 4_000;
/** How often a router that has let a mapping expire is asked for it again. */
const EXPIRED_GAP_MS = 60_000;
/** Routers that promise more than a day are not believed (RFC 6887, section 15); also, timers of Node end at 24 days. */
const MAX_LIFETIME_S = 24 * 60 * 60;
/** An answer to a renewal; the next try comes soon enough. */
const RENEW_MS = 2_000;
/** Who leaves does not wait for a router that does not answer: the lease runs out by itself. */
const RELEASE_MS = 1_000;

export interface LeaseOptions {
  /** Our UDP port. */
  readonly port: number;
  /** Seconds to ask for. */
  readonly lifetime: number;
  readonly onlog: (text: string) => void;
  /** Gives everything back, in the time that is left. */
  readonly unmap: (wait: Wait) => Promise<void>;
}

/** Keeps what the router has granted. A router that changes the port changes `port`, and says so by `onlog`. */
export function keepLease(
  client: MappingClient,
  first: Grant,
  { port, lifetime, onlog, unmap }: LeaseOptions,
): PortMapping {
  const stop = new AbortController();
  let grant = first;
  let expires = expiry(first);
  let timer = schedule();
  let renewing: Promise<void> | undefined;
  let released: Promise<void> | undefined;
  return {
    protocol: client.protocol,
    get port() {
      return grant.port;
    },
    get address() {
      return grant.address;
    },
    release: () => (released ??= release()),
  };

  function expiry({ lifetime: granted }: Grant): number {
    return performance.now() + Math.min(granted, MAX_LIFETIME_S) * 1_000;
  }

  /** At half of the time that is left and somewhat later, so that a house full of programs does not ask all at once. */
  function schedule(): ReturnType<typeof setTimeout> {
    const left = expires - performance.now();
    const gap = left > 0 ? left * (0.5 + Math.random() / 8) : EXPIRED_GAP_MS;
    return setTimeout(
      () => {
        renewing = renew();
      },
      Math.max(gap, MIN_GAP_MS),
    ).unref();
  }

  async function renew(): Promise<void> {
    try {
      const next = await within(RENEW_MS, { signal: stop.signal, holds: false }, (wait) =>
        client.map({ port, external: grant.port, lifetime }, wait),
      );
      if (next.hasRestarted) onlog("port mapping: the router has started anew");
      if (next.port !== grant.port)
        onlog(`port mapping: the router has moved port ${grant.port} to ${next.port}`);
      onlog(`port mapping: port ${next.port} renewed for ${next.lifetime} s`);
      grant = next;
      expires = expiry(next);
    } catch (error) {
      if (stop.signal.aborted) return;
      onlog(
        `port mapping: port ${grant.port} ${performance.now() < expires ? "not renewed" : "lost"}: ${reason(error)}`,
      );
    }
    if (!stop.signal.aborted) timer = schedule();
  }

  async function release(): Promise<void> {
    clearTimeout(timer);
    stop.abort();
    // A renewal must not arrive behind the deletion.
    await renewing;
    try {
      await within(RELEASE_MS, { signal: UNSTOPPED, holds: true }, unmap);
    } catch (error) {
      onlog(`port mapping: port ${grant.port} not given back: ${reason(error)}`);
    }
  }
}

/** What went wrong, for a log. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
