/**
 * The TURN servers of a peer connection. The WebRTC library speaks TURN over UDP only, and takes two servers at most: it gets one or two
 * endpoints on this machine, and behind each an allocation on the first of several servers that grants one, by UDP, TCP or TLS.
 *
 *   library --UDP, loopback--> endpoint --> client (an allocation) --UDP, TCP, TLS--> server
 *                                             ^ idle for a moment <-- close
 *
 * An allocation outlives its peer connection for a moment, and the next one takes it over: the relayed address that the other side was
 * told stays true from try to try.
 */
import { setTimeout as delay } from "node:timers/promises";
import { asDcpipeError, DcpipeError } from "../../errors.ts";
import type { TurnServer } from "../../transport/peer.ts";
import { chooseServers } from "./choice.ts";
import { allocate, Refused, type TurnClient } from "./client.ts";
import { Endpoint } from "./endpoint.ts";
import { rest, wake } from "./idle.ts";
import { nameOf } from "./name.ts";
import { formatHost } from "./stun.ts";

/** Name, connection, TLS and allocation are seven round trips: enough for those of half a second. */
const ATTEMPT_MS = 5000;
/** After all servers have failed, doubled each time up to the limit. */
const PAUSE_MS = 1000;
const MAX_PAUSE_MS = 8000;
/** The server has an older allocation of this port, which another try with another port does not mind. */
const MISMATCH = 437;
/** Failures that come again at once: what we are, or what the server is, would have to change first. */
const LASTING: ReadonlySet<string> = new Set(["AUTH_FAILED", "REFUSED", "PROTOCOL", "USAGE"]);
/** More servers than anybody names; those of whom we know for longest are forgotten. */
const MAX_SUSPECTS = 64;

/** Servers whose last attempt failed, by name. */
const suspects = new Set<string>();

/** What was said already, to whom. */
const said = new WeakMap<(text: string) => void, Set<string>>();

export interface GatewayOptions {
  readonly servers: readonly TurnServer[];
  /** Where the peer connection is bound, and its endpoints are. */
  readonly near: string;
  /** Local address towards the servers. */
  readonly bind: string | undefined;
  /** The other side's password in ICE: what leaves by TURN is told from what does not (check.ts). */
  readonly remotePassword: string;
  /**
   * Whoever has an allocation on the same server may call: often it is the other side, which was told of ours and of whom we know nothing
   * yet. That path stands before any other can, so this is for networks that have no other. A server that does not allow it need not.
   */
  readonly neighbours: boolean;
  /** Local UDP ports to prefer. */
  readonly ports: readonly [number, number] | undefined;
  readonly onlog: ((text: string) => void) | undefined;
}

export interface Relayed {
  readonly address: string;
  readonly port: number;
}

export interface Gateway {
  /** To be used as TURN servers over UDP. */
  readonly endpoints: readonly Pick<Endpoint, "host" | "port" | "username" | "password">[];
  /** Lets this IPv4 address of the other side call our relayed ones. */
  permit(address: string): void;
  /** The peer connection has found a path. */
  connected(): void;
  /** An allocation is lost: the relayed address leads nowhere any more. */
  onlost: ((relayed: Relayed) => void) | undefined;
  /** Idempotent. */
  close(): void;
}

/** Endpoints of closed peer connections. */
const closing = new Set<Promise<void>>();

/** Resolves when what closed peer connections have said last is on its way, which an end of the process would keep here. */
export async function flushed(): Promise<void> {
  await Promise.all(closing);
}

/** Opens endpoints, and begins to look for allocations. Rejects with IO when this machine has no socket for them. */
export async function openGateway(options: GatewayOptions): Promise<Gateway> {
  const lists = chooseServers(options.servers, (server) => suspects.has(nameOf(server)));
  const supplies = await Promise.all(
    lists.map(async (servers) => ({
      servers,
      endpoint: await Endpoint.open(options.near, options.remotePassword),
    })),
  );
  const stop = new AbortController();
  const gateway: Gateway = {
    endpoints: supplies.map(({ endpoint }) => endpoint),
    onlost: undefined,
    permit: (address) => {
      const bytes = Buffer.from(address.split(".").map(Number));
      for (const { endpoint } of supplies) endpoint.permit(bytes);
    },
    connected: () => {
      for (const { endpoint } of supplies) endpoint.connected();
    },
    close: () => {
      if (stop.signal.aborted) return;
      stop.abort();
      for (const { endpoint } of supplies) {
        const end = endpoint.close().finally(() => closing.delete(end));
        closing.add(end);
      }
    },
  };
  for (const { servers, endpoint } of supplies)
    void supply(endpoint, servers, { ...options, signal: stop.signal }, (relayed) =>
      gateway.onlost?.(relayed),
    );
  return gateway;
}

type Options = GatewayOptions & { readonly signal: AbortSignal };

/** Puts an allocation behind the endpoint. Never rejects. */
async function supply(
  endpoint: Endpoint,
  servers: readonly TurnServer[],
  options: Options,
  onlost: (relayed: Relayed) => void,
): Promise<void> {
  const { bind, signal } = options;
  const isWanted = (): boolean => !signal.aborted;
  for (let pause = PAUSE_MS; ; pause = Math.min(pause * 2, MAX_PAUSE_MS)) {
    let isLasting = true;
    for (const server of servers) {
      const got = await attempt(server, options);
      if (got instanceof DcpipeError) isLasting &&= LASTING.has(got.code);
      else if (isWanted()) {
        use(got, server, endpoint, options, onlost);
        return;
      } else rest(got, server, bind);
      if (!isWanted()) return;
    }
    if (isLasting) {
      endpoint.fail();
      return;
    }
    await delay(pause, undefined, { signal, ref: false }).catch(() => undefined);
    if (!isWanted()) return;
  }
}

/** An allocation on this server, or why there is none to be had now, which is told. Never rejects. */
async function attempt(
  server: TurnServer,
  { bind, ports, signal, onlog }: Options,
): Promise<TurnClient | DcpipeError> {
  const old = await wake(server, bind);
  if (old) return old;
  const make = (): Promise<TurnClient> => allocate(server, { bind, ports, signal, timeoutMs: ATTEMPT_MS });
  try {
    const client = await make().catch((error: unknown) => {
      if (error instanceof Refused && error.number === MISMATCH) return make();
      throw error;
    });
    suspects.delete(nameOf(server));
    return client;
  } catch (cause) {
    const error = asDcpipeError(cause, "IO");
    if (signal.aborted) return error;
    suspect(nameOf(server));
    say(onlog, `TURN server ${nameOf(server)}: ${error.message}`);
    return error;
  }
}

function use(
  client: TurnClient,
  server: TurnServer,
  endpoint: Endpoint,
  { bind, neighbours, onlog, signal }: Options,
  onlost: (relayed: Relayed) => void,
): void {
  const { relayed } = client;
  client.onlost = ({ message }) => {
    suspect(nameOf(server));
    say(onlog, `TURN server ${nameOf(server)}: the allocation is lost: ${message}`);
    if (relayed) onlost({ address: formatHost(relayed.bytes), port: relayed.port });
  };
  endpoint.onrefused = ({ message }) => {
    say(onlog, `TURN server ${nameOf(server)}: not to every address of the other side: ${message}`);
  };
  signal.addEventListener("abort", () => {
    client.onmessage = undefined;
    rest(client, server, bind);
  });
  endpoint.attach(client);
  if (neighbours && relayed) endpoint.permit(relayed.bytes);
}

function suspect(name: string): void {
  suspects.delete(name);
  suspects.add(name);
  for (const oldest of suspects) {
    if (suspects.size <= MAX_SUSPECTS) break;
    suspects.delete(oldest);
  }
}

/** Each try of a session meets the same servers: what they fail at is worth one line. */
function say(onlog: ((text: string) => void) | undefined, text: string): void {
  if (!onlog) return;
  const texts = said.get(onlog) ?? new Set();
  said.set(onlog, texts);
  if (texts.has(text)) return;
  texts.add(text);
  onlog(text);
}
