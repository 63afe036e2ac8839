/**
 * The rendezvous: an HTTP server whose WebSockets introduce two clients to each other (section 7 of docs/protocol.md).
 *
 *   request --> http.ts        page, health, metrics; site.ts  sites, at names of their own
 *   upgrade --> connection.ts  one WebSocket --> client.ts  one client --> store.ts  the mailboxes, maybe shared with others
 *                                 |                  ^------- notices --------'
 *                                 '--------------> relay.ts   one end of a relay --> relays.ts  where the other end is
 *
 * It sees nameplates, keys and bodies, and keeps none of them longer than the mailbox; it says nothing about them to anybody else.
 */
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { DcpipeError } from "../errors.ts";
import { CLOSE } from "../wire/rendezvous.ts";
import { countedAddress } from "./address.ts";
import { Client, type Surroundings } from "./client.ts";
import { createUpgrade, type Opening } from "./connection.ts";
import { Holder } from "./holder.ts";
import { createRoutes } from "./http.ts";
import { LIMITS, MAX_HEADER_BYTES, type Limits } from "./limits.ts";
import { Metrics } from "./metrics.ts";
import { Quota } from "./quota.ts";
import { RelayEnd, type RelayOptions, type RelaySurroundings } from "./relay.ts";
import { createSites } from "./site.ts";
import type { Store } from "./store.ts";
import { turnServers, type TurnOptions } from "./turn.ts";

export interface RendezvousOptions {
  /** Where the mailboxes are; the rendezvous starts and closes it. */
  readonly store: Store;
  /** The URL that people reach it by, for links; without it clients use the one they were given. */
  readonly publicUrl?: string | undefined;
  /** `https://*.sites.example.org`: origins for sites, which need `publicUrl`, too; a rendezvous on this machine has those of localhost. */
  readonly siteUrl?: string | undefined;
  readonly turn?: TurnOptions | undefined;
  /** What each relay may use; false: nothing is relayed. */
  readonly relay?: RelayOptions | false | undefined;
  /** A proxy stands in front, and its X-Forwarded-For tells where a client comes from. */
  readonly trustProxy?: boolean | undefined;
  /**
   * Only this key may ALLOCATE, or OPEN and RELAY as the waiting side; others may OPEN and RELAY where it has been: for mailboxes and
   * relays that a client holds itself.
   */
  readonly onlyKey?: Uint8Array | undefined;
  readonly limits?: Partial<Limits> | undefined;
  /** Lines for an operator: counts, never addresses, nameplates or bodies. */
  readonly onlog?: ((line: string) => void) | undefined;
}

/** Whom a WebSocket belongs to. */
type Guest = Pick<Client | RelayEnd, "receive" | "closed"> &
  Pick<Client, "close"> &
  Partial<Pick<Client, "notice"> & Pick<RelayEnd, "taken" | "closing">>;

/** A draining server closes its clients in so many turns. */
const DRAIN_TURNS = 20;

export class Rendezvous {
  readonly #options: RendezvousOptions;
  readonly #limits: Limits;
  readonly #metrics = new Metrics();
  readonly #server: Server;
  /** By seat. */
  readonly #clients = new Map<number, { readonly client: Guest; readonly terminate: () => void }>();
  readonly #connectionsFrom = new Map<string, number>();
  #seats = 0;
  #draining = false;
  #emptied: (() => void) | undefined;

  constructor(options: RendezvousOptions) {
    this.#options = options;
    this.#limits = { ...LIMITS, ...options.limits };
    const { store, turn, onlyKey, publicUrl = "", relay = {} } = options;
    const around: Surroundings = {
      store,
      limits: this.#limits,
      metrics: this.#metrics,
      link: publicUrl,
      servers: () => turnServers(turn),
      holder: onlyKey && new Holder(onlyKey),
    };
    const relayAround: RelaySurroundings = {
      relays: store.relays,
      limits: this.#limits,
      metrics: this.#metrics,
      quota: new Quota(this.#limits.relaysPerAddress, this.#limits.relays),
      options: relay,
      // Not the one above: a name of a mailbox is none of a relay.
      holder: onlyKey && new Holder(onlyKey),
    };
    const sites = createSites(options);
    const { requestMs, keepAliveMs } = this.#limits;
    this.#server = createServer(
      {
        headersTimeout: requestMs,
        requestTimeout: requestMs,
        keepAliveTimeout: keepAliveMs,
        connectionsCheckingInterval: requestMs / 5,
        maxHeaderSize: MAX_HEADER_BYTES,
      },
      createRoutes({
        healthy: () => store.healthy && !this.#draining,
        metrics: () => this.#metrics.format(),
        sites,
      }),
    );
    this.#server.on(
      "upgrade",
      createUpgrade(
        this.#limits,
        ({ headers }) => sites.owns(headers.host),
        (opening, request) => {
          const { connection } = opening;
          this.#seat(opening, request, (seat, address) =>
            opening.relay
              ? new RelayEnd(connection, relayAround, address)
              : new Client(connection, around, seat, address),
          );
        },
      ),
    );
  }

  /** Rejects with IO when the port is taken, or the store cannot be reached. */
  async listen(port: number, host: string): Promise<{ address: string; port: number }> {
    await this.#options.store.start({
      notice: (seat, notice) => this.#clients.get(seat)?.client.notice?.(notice),
      lost: () => {
        this.#log(`the store is gone; ${this.#clients.size} clients are sent away`);
        for (const { client } of this.#clients.values()) client.close(CLOSE.TRY_AGAIN);
      },
      relaysLost: () => {
        const ends = [...this.#clients.values()].filter(({ client }) => client instanceof RelayEnd);
        this.#log(`the store of relays is gone; ${ends.length} ends are sent away`);
        for (const { client } of ends) client.close(CLOSE.TRY_AGAIN);
      },
    });
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once("error", reject);
        this.#server.listen(port, host, resolve);
      });
    } catch (cause) {
      await this.#options.store.close();
      throw listenError(cause as NodeJS.ErrnoException, port, host);
    }
    const bound = this.#server.address() as AddressInfo;
    return { address: bound.address, port: bound.port };
  }

  /** Ends without haste: says so at /healthz, sends its clients away a few at a time, and closes. */
  async drain(): Promise<void> {
    if (this.#draining) return;
    this.#draining = true;
    const clients = [...this.#clients.values()];
    this.#log(`going away; ${clients.length} clients are sent elsewhere`);
    const turn = Math.max(1, Math.ceil(clients.length / DRAIN_TURNS));
    while (clients.length > 0) {
      for (const { client } of clients.splice(0, turn)) client.close(CLOSE.GOING_AWAY);
      if (clients.length > 0) await delay(this.#limits.drainMs / DRAIN_TURNS);
    }
    // Whoever does not answer the closing is cut off by its own time limit.
    if (this.#clients.size > 0) await new Promise<void>((resolve) => (this.#emptied = resolve));
    await this.close();
  }

  /** At once. Idempotent. */
  async close(): Promise<void> {
    this.#draining = true;
    for (const { terminate } of this.#clients.values()) terminate();
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
    await this.#options.store.close();
  }

  #seat(
    { connection, first, relay }: Opening,
    request: IncomingMessage,
    welcome: (seat: number, address: string) => Guest,
  ): void {
    const address = countedAddress(request, this.#options.trustProxy ?? false);
    const seat = ++this.#seats;
    const from = (this.#connectionsFrom.get(address) ?? 0) + 1;
    this.#connectionsFrom.set(address, from);
    this.#metrics.opened++;
    this.#metrics.connections++;
    const client = welcome(seat, address);
    this.#clients.set(seat, {
      client,
      terminate: () => {
        connection.terminate();
      },
    });
    connection.listen({
      message: (message) => {
        client.receive(message);
      },
      taken: (cost) => client.taken?.(cost),
      closing: () => client.closing?.(),
      closed: (code) => {
        this.#clients.delete(seat);
        this.#metrics.connections--;
        if (relay) this.#metrics.countRelayEnding(code);
        else if (code !== undefined) this.#metrics.countClose(code);
        const left = (this.#connectionsFrom.get(address) ?? 0) - 1;
        if (left > 0) this.#connectionsFrom.set(address, left);
        else this.#connectionsFrom.delete(address);
        client.closed();
        if (this.#clients.size === 0) this.#emptied?.();
      },
    });
    if (this.#draining) client.close(CLOSE.GOING_AWAY);
    else if (!this.#options.store.healthy) client.close(CLOSE.TRY_AGAIN);
    else if (from > this.#limits.connectionsPerAddress)
      client.close(CLOSE.LIMIT, "too many connections from this address");
    else for (const message of first) client.receive(message);
  }

  #log(line: string): void {
    this.#options.onlog?.(line);
  }
}

function listenError(cause: NodeJS.ErrnoException, port: number, host: string): DcpipeError {
  const where = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: "the port is in use",
    EACCES: "not permitted",
    EADDRNOTAVAIL: "this machine does not have that address",
    ENOTFOUND: "no such host",
  };
  const reason = reasons[cause.code ?? ""] ?? cause.message;
  return new DcpipeError("IO", `cannot listen on ${where}: ${reason}`, { cause });
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
