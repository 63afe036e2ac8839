/** Allocations between two peer connections. */
import type { TurnServer } from "../../transport/peer.ts";
import { isSame } from "./choice.ts";
import type { TurnClient } from "./client.ts";

/** How long one waits for the next peer connection: the port of the last one is free again within two seconds. */
const IDLE_MS = 10_000;

interface Idle {
  readonly server: TurnServer;
  readonly bind: string | undefined;
  readonly timer: ReturnType<typeof setTimeout>;
}

const idle = new Map<TurnClient, Idle>();

/** Keeps an allocation that nobody uses any more, for a moment. */
export function rest(client: TurnClient, server: TurnServer, bind: string | undefined): void {
  if (client.closed) return;
  const timer = setTimeout(() => {
    idle.delete(client);
    client.close();
  }, IDLE_MS).unref();
  idle.set(client, { server, bind, timer });
  client.onlost = () => {
    clearTimeout(timer);
    idle.delete(client);
  };
}

/**
 * Takes the oldest allocation on the server that nobody uses and that is still alive: its relayed address is the one that was told to
 * others. Undefined when there is none.
 */
export async function wake(server: TurnServer, bind: string | undefined): Promise<TurnClient | undefined> {
  for (;;) {
    const [client] = [...idle]
      .filter(([, entry]) => isSame(entry.server, server) && entry.bind === bind)
      .map(([each]) => each)
      .sort((a, b) => a.born - b.born);
    if (!client) return undefined;
    clearTimeout(idle.get(client)?.timer);
    idle.delete(client);
    client.onlost = undefined;
    if (await client.proves()) return client;
    client.close();
  }
}
