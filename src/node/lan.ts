/**
 * Finding the other side on the same network, by multicast DNS (RFC 6762). Who waits answers queries for the SRV record
 * (RFC 2782; RFC 6763, section 5) of
 *
 *   NAMEPLATE._dcpipe._tcp.local
 *
 * with the TCP port at which it can be called. Whoever gets that answer calls the address that it came from. Nothing here
 * proves anything: anybody on the network may answer.
 */
import { BlockList } from "node:net";
import { networkInterfaces, type NetworkInterfaceInfo } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import multicastDns, { type MulticastDNS, type ResponsePacket } from "multicast-dns";

/** The port of multicast DNS. Answers from other ports are passed over (RFC 6762, section 6). */
const MDNS_PORT = 5353;
/** How long others may keep an answer: what RFC 6762, section 10, has for records about a host. */
const TTL_S = 120;
/** Multicast gets lost, above all on Wi-Fi: it is asked again after these waits, and then at each LAST_GAP_MS. */
const QUERY_GAPS_MS = [250, 750, 1_000, 2_000];
const LAST_GAP_MS = 4_000;
/** Distinct answers for one nameplate. One is the rule; a network full of liars does not make us call everybody. */
const MAX_FOUND = 8;

export interface LanOptions {
  /** The number of a code, 1 to 999,999. */
  readonly nameplate: number;
  /** The IPv4 address of the one interface to use; by default all, but loopback only when there is nothing else. */
  readonly bind?: string | undefined;
  /** Told, once each, what does not work here: no multicast, no permission, the port in use. None of it is an error. */
  readonly onlog?: ((text: string) => void) | undefined;
}

export interface AnnounceOptions extends LanOptions {
  /** TCP port at which we can be called. */
  readonly port: number;
}

export interface FindOptions extends LanOptions {
  /** Ends the search. */
  readonly signal: AbortSignal;
  /** Called once for each distinct answer, eight of them at most, with `ws://ADDRESS:PORT`. */
  readonly onfound: (url: string) => void;
}

export interface IsTakenOptions extends LanOptions {
  /** How long answers are waited for, ms. 300 has room for two queries. */
  readonly timeoutMs: number;
}

/** Tells the network where we wait, now and whenever somebody asks, until closed. Never rejects. */
export async function announce({
  nameplate,
  port,
  bind,
  onlog,
}: AnnounceOptions): Promise<{ close(): void }> {
  const name = nameOf(nameplate);
  // The target has to be some name, and nobody reads it; a name of this machine would only tell who we are.
  const record = { name, type: "SRV", flush: true, data: { port, target: name } } as const;
  const links = await openLinks(bind, onlog);
  let closed = false;
  for (const { mdns, isNear, sent } of links) {
    const answer = (): void => {
      mdns.respond([{ ...record, ttl: TTL_S }], sent);
    };
    mdns.on("query", ({ questions = [] }, { address }) => {
      if (closed || !isNear(address)) return;
      const isMeant = questions.some(({ name: asked, type }) => isSame(asked, name) && ASKING.includes(type));
      if (isMeant) answer();
    });
    answer();
  }
  return {
    close: () => {
      if (closed) return;
      closed = true;
      for (const { mdns } of links) {
        // Good-bye (RFC 6762, section 10.1).
        mdns.respond([{ ...record, ttl: 0 }], () => {
          mdns.destroy();
        });
      }
    },
  };
}

/** Looks for who waits with this nameplate. Resolves when the signal has ended that; never rejects. */
export async function find({ nameplate, bind, signal, onfound, onlog }: FindOptions): Promise<void> {
  const name = nameOf(nameplate);
  const links = await openLinks(bind, onlog);
  const found = new Set<string>();
  for (const { mdns, isNear } of links) {
    mdns.on("response", (response, { address, port }) => {
      if (port !== MDNS_PORT || !isNear(address)) return;
      for (const target of portsOf(response, name)) {
        const url = `ws://${address}:${target}`;
        if (signal.aborted || found.has(url) || found.size === MAX_FOUND) continue;
        found.add(url);
        onfound(url);
      }
    });
  }
  for (let round = 0; !signal.aborted; round++) {
    for (const { mdns, sent } of links) mdns.query([{ name, type: "SRV" }], sent);
    await pause(QUERY_GAPS_MS[round] ?? LAST_GAP_MS, undefined, { signal }).catch(() => undefined);
  }
  for (const { mdns } of links) mdns.destroy();
}

/** Whether somebody on this network waits with this nameplate already. Never rejects. */
export async function isTaken({ timeoutMs, ...place }: IsTakenOptions): Promise<boolean> {
  const stop = new AbortController();
  const timer = setTimeout(() => {
    stop.abort();
  }, timeoutMs);
  let taken = false;
  await find({
    ...place,
    signal: stop.signal,
    onfound: () => {
      taken = true;
      stop.abort();
    },
  });
  clearTimeout(timer);
  return taken;
}

function nameOf(nameplate: number): string {
  return `${nameplate}._dcpipe._tcp.local`;
}

function isSame(name: string, wanted: string): boolean {
  return name.toLowerCase() === wanted;
}

/** Types of queries that our record answers. */
const ASKING: readonly (string | undefined)[] = ["SRV", "ANY"];

/** The ports, 1 to 65,535, that a response gives for `name`; the wire has 16 bits. A time to live of 0 is a good-bye. */
function portsOf({ answers = [] }: ResponsePacket, name: string): number[] {
  return answers
    .filter((answer) => answer.type === "SRV")
    .filter((answer) => isSame(answer.name, name) && answer.ttl !== 0)
    .map(({ data }) => data.port)
    .filter((port) => port !== 0);
}

/** Multicast DNS on one interface. */
interface Link {
  readonly mdns: MulticastDNS;
  /**
   * Whether an address belongs to this interface's network (RFC 6762, section 11). Linux gives each socket the packets of
   * all interfaces.
   */
  readonly isNear: (address: string) => boolean;
  /** Callback of `query` and `respond`. */
  readonly sent: (error?: Error | null) => void;
}

/** All links that work. */
async function openLinks(bind: string | undefined, onlog: LanOptions["onlog"]): Promise<Link[]> {
  const said = new Set<string>();
  const log = (text: string): void => {
    if (!said.has(text)) onlog?.(text);
    said.add(text);
  };
  const interfaces = chooseInterfaces(bind);
  if (interfaces.length === 0)
    log(
      `multicast DNS: no interface has ${bind === undefined ? "an IPv4 address" : `the IPv4 address ${bind}`}`,
    );
  const links = await Promise.all(interfaces.map((each) => openLink(each, log)));
  return links.filter((link) => link !== undefined);
}

function chooseInterfaces(bind: string | undefined): NetworkInterfaceInfo[] {
  const all = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ family }) => family === "IPv4");
  if (bind !== undefined) return all.filter(({ address }) => address === bind);
  const outside = all.filter(({ internal }) => !internal);
  return outside.length > 0 ? outside : all;
}

/** Undefined when the port cannot be had. */
function openLink(
  { address, cidr }: NetworkInterfaceInfo,
  log: (text: string) => void,
): Promise<Link | undefined> {
  const network = new BlockList();
  network.addSubnet(address, Number(cidr?.split("/")[1] ?? 32));
  const sent = (error?: Error | null): void => {
    if (error) log(`multicast DNS on ${address}: ${error.message}`);
  };
  return new Promise((resolve) => {
    // Bound to the interface's own address, a socket would not get what is sent to the group.
    const mdns = multicastDns({ interface: address, bind: "0.0.0.0" });
    mdns.on("ready", () => {
      resolve({ mdns, isNear: (other) => network.check(other), sent });
    });
    mdns.on("error", (error) => {
      sent(error);
      mdns.destroy();
      resolve(undefined);
    });
    // Also told of packets that are none; only the system's own errors are worth a word.
    mdns.on("warning", (error) => {
      if ("syscall" in error) sent(error);
    });
  });
}
