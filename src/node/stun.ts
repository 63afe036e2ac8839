/**
 * Which STUN server answers? The WebRTC library picks one of its list at random and says nothing when that one is dead, so
 * all are asked here at once, with plain Binding requests (RFC 8489, section 5), and the first to answer is used.
 *
 * One socket asks them all, for each family of addresses, so the answers also say what the NAT does (RFC 5780, section 4.3): whether the
 * socket looks the same from everywhere.
 */
import { lookup } from "node:dns/promises";
import { isIPv4 } from "node:net";
import type { NatMapping } from "../transport/nat.ts";
import { isInner } from "./net/inner.ts";
import type { Endpoint } from "./stun/message.ts";
import { openStunSocket, type StunSocket } from "./stun/socket.ts";

export interface StunServer {
  readonly host: string;
  readonly port: number;
}

/** A server that has answered, by its address. */
export interface FoundStunServer extends StunServer {
  /** What the NAT does with IPv4: known when another server has answered, or none will. Never rejects, and takes no longer than the search. */
  readonly mapping: Promise<NatMapping>;
}

/** Where a STUN server listens unless it says otherwise (RFC 8489, section 18.6): many do so besides the port they are known by. */
const STUN_PORT = 3478;

/** How a server has seen us. */
interface Seen {
  readonly at: Endpoint;
  readonly mapped: Endpoint;
  /** Another address of the server's own, when it tells of one. */
  readonly other: Endpoint | undefined;
}

/**
 * The address of the first server to answer within `timeoutMs`, or undefined. Never rejects. One that answers over IPv6 is the choice
 * only when none does over IPv4: only one is used, and what is behind a NAT are IPv4 addresses.
 *
 * @param bind The local address to ask from, undefined for all.
 */
export async function findStunServer(
  servers: readonly StunServer[],
  timeoutMs: number,
  bind?: string,
): Promise<FoundStunServer | undefined> {
  if (servers.length === 0) return undefined;
  const stop = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => {
      resolve(undefined);
    }, timeoutMs);
  });
  const [ipv4, ipv6] = await Promise.all([
    openStunSocket(4, bind, undefined),
    openStunSocket(6, bind, undefined),
  ]);
  const ask = async (socket: StunSocket | undefined, at: Endpoint): Promise<Seen> => {
    const answer = await socket?.ask(at, { timeoutMs, signal: stop.signal });
    if (answer?.outcome !== "answered") throw new Error(answer?.outcome ?? "no socket");
    return { at, mapped: answer.mapped, other: answer.other };
  };
  const seen = new Comparison();
  let overIpv6: Endpoint | undefined;
  const tries = servers.map(async ({ host, port }) => {
    const addresses = await lookup(host, { all: true });
    return addresses.map(async ({ address, family }) => {
      const found = await ask(family === 4 ? ipv4 : ipv6, { address, port });
      if (family === 4) seen.add(found);
      else overIpv6 ??= found.at;
      // The last resort does not count as an answer.
      if (family === 6) throw new Error("over IPv6");
      return found.at;
    });
  });
  const all = Promise.allSettled(tries.map(async (answers) => Promise.allSettled(await answers)));
  const compare = async (): Promise<NatMapping> => {
    await Promise.race([seen.decided, all]);
    const at = seen.mapping === undefined ? seen.elsewhere : undefined;
    if (at) seen.add(await ask(ipv4, at));
    return seen.mapping ?? "unknown";
  };
  const mapping = Promise.race([compare().catch(() => undefined), late]).then((found) => {
    clearTimeout(timer);
    stop.abort();
    ipv4?.close();
    ipv6?.close();
    return found ?? "unknown";
  });
  const any = Promise.any(tries.map(async (answers) => Promise.any(await answers)));
  const first = (await Promise.race([any.catch(() => undefined), late])) ?? overIpv6;
  return first && { host: first.address, port: first.port, mapping };
}

/** What several servers have seen of one socket. */
class Comparison {
  /** Undefined while nothing is certain. */
  mapping: NatMapping | undefined;
  readonly decided: Promise<void>;
  #decide!: () => void;
  readonly #seen: Seen[] = [];

  constructor() {
    this.decided = new Promise((resolve) => (this.#decide = resolve));
  }

  add(seen: Seen): void {
    if (this.mapping !== undefined) return;
    for (const before of this.#seen) {
      const same = before.mapped.address === seen.mapped.address && before.mapped.port === seen.mapped.port;
      // Two ports of one server see the same where the mapping depends on the address alone.
      if (!same) this.mapping = "dependent";
      else if (before.at.address !== seen.at.address) this.mapping ??= "independent";
    }
    this.#seen.push(seen);
    if (this.mapping !== undefined) this.#decide();
  }

  /** Where else to ask when all answers came from one address: at another of that server's own, or at another port. */
  get elsewhere(): Endpoint | undefined {
    const [one] = this.#seen;
    if (!one) return undefined;
    const { at, other } = one;
    // A server outside must not have us knock at machines of our own network.
    if (
      other &&
      isIPv4(other.address) &&
      other.address !== at.address &&
      (!isInner(other.address) || isInner(at.address))
    )
      return { address: other.address, port: at.port };
    return at.port === STUN_PORT ? undefined : { address: at.address, port: STUN_PORT };
  }
}
