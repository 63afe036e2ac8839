/** Whether a TURN server does what it is for: an allocation, which is given back at once. */
import { asDcpipeError } from "../../errors.ts";
import type { TurnServer } from "../../transport/peer.ts";
import { allocate } from "./client.ts";
import { formatHost } from "./stun.ts";

export interface TurnProbe {
  readonly ok: boolean;
  /** Where the server would listen for us. */
  readonly relayed?: { readonly address: string; readonly port: number };
  /** Between the request that was granted and its answer. */
  readonly roundTripMs?: number;
  /** Why not, as it follows the server's name and a colon. */
  readonly error?: string;
}

/** `bind` is the local address. Never rejects. Keeps the process alive for at most `timeoutMs`, and a moment. */
export async function probeTurn(server: TurnServer, timeoutMs: number, bind?: string): Promise<TurnProbe> {
  const giveUp = new AbortController();
  // What the client waits with keeps no process alive; and it gives up first.
  const timer = setTimeout(() => {
    giveUp.abort();
  }, timeoutMs + 1000);
  try {
    const client = await allocate(server, {
      bind,
      ports: undefined,
      signal: giveUp.signal,
      timeoutMs,
    });
    const { relayed, roundTripMs } = client;
    client.close();
    return {
      ok: true,
      ...(relayed && { relayed: { address: formatHost(relayed.bytes), port: relayed.port } }),
      ...(roundTripMs !== undefined && { roundTripMs }),
    };
  } catch (error) {
    return { ok: false, error: asDcpipeError(error, "IO").message };
  } finally {
    clearTimeout(timer);
  }
}
