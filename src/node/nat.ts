/**
 * What the NATs of this network do with UDP, by RFC 5780. Two sockets for each family of addresses:
 *
 *   first    asks every server, then one of them at its other address and port     (section 4.3, mapping)
 *   second   asks one server to answer from its other address, and other port      (section 4.4, filtering)
 *   both     call each other at their outer addresses                              (hairpinning; RFC 4787, section 6)
 *
 * The second is there because the first has opened the NAT's filter by calling the other address itself. Nothing is concluded here.
 */
import { randomBytes } from "node:crypto";
import { lookup } from "node:dns/promises";
import { isIP, isIPv6, SocketAddress } from "node:net";
import type {
  Endpoint,
  FamilyObservations,
  NatObservations,
  Server,
  StunAnswer,
} from "../doctor/findings.ts";
import { isInner } from "./net/inner.ts";
import { openStunSocket, type Answer, type StunSocket } from "./stun/socket.ts";
import { TRANSACTION_SIZE } from "./stun/message.ts";

export interface NatOptions {
  readonly servers: readonly Server[];
  /** The local address to use, and so the only family of addresses. */
  readonly bind: string | undefined;
  /** Ports for the second socket, which is the one that could be called. */
  readonly ports: readonly [number, number] | undefined;
  /** When it fires, what is known is all there is. */
  readonly signal: AbortSignal;
}

/** The system's resolver cannot be stopped, and may try for half a minute. */
const RESOLVE_MS = 2_000;
/** Four tries in it; who has not answered by then answers too late for a connection, too. */
const STUN_MS = 2_000;
/** Tests whose outcome often is that nothing comes; three tries in it. */
const TEST_MS = 1_500;
/** So many servers are tried for behaviour discovery, since one may tell of an address that is dead. */
const TESTERS = 2;
/** Calls between the two sockets, and how far apart: the first may be what opens the filter for the next. */
const CALLS = 4;
const CALL_PAUSE_MS = 200;
/** Where a STUN server listens unless it says otherwise (RFC 8489, section 18.6). */
const STUN_PORT = 3478;

/** Never rejects. */
export async function observeNat({ servers, bind, ports, signal }: NatOptions): Promise<NatObservations> {
  const resolved = await Promise.all(
    servers.map(async (server) => ({ server, addresses: await resolve(server.host) })),
  );
  const observe = (family: 4 | 6): Promise<FamilyObservations> => {
    const targets = resolved.flatMap(({ server, addresses }) => {
      const address = addresses.find((each) => isIP(each) === family);
      return address === undefined ? [] : [{ server, at: { address, port: server.port } }];
    });
    if (bind !== undefined && isIP(bind) !== family) return Promise.resolve(NOTHING);
    return observeFamily(family, targets, { bind, ports, signal });
  };
  const [ipv4, ipv6] = await Promise.all([observe(4), observe(6)]);
  const unresolved = resolved.filter(({ addresses }) => addresses.length === 0).map(({ server }) => server);
  return { ipv4, ipv6, unresolved };
}

interface Target {
  readonly server: Server;
  readonly at: Endpoint;
}

/** A target that has answered. */
interface Reached extends Target {
  readonly mapped: Endpoint;
  readonly other: Endpoint | undefined;
}

const NOTHING: FamilyObservations = {
  localPort: undefined,
  answers: [],
  mappings: undefined,
  admits: undefined,
  hairpin: undefined,
};

async function observeFamily(
  family: 4 | 6,
  targets: readonly Target[],
  { bind, ports, signal }: Omit<NatOptions, "servers">,
): Promise<FamilyObservations> {
  if (targets.length === 0) return NOTHING;
  const first = await openStunSocket(family, bind, undefined);
  if (!first) return NOTHING;
  const second = await openStunSocket(family, bind, ports);
  try {
    const asked = await Promise.all(
      targets.map(async (target) => {
        const answer = await first.ask(target.at, { timeoutMs: STUN_MS, signal });
        return { ...target, answer };
      }),
    );
    const reached = asked.flatMap(({ server, at, answer }): Reached[] =>
      answer.outcome === "answered" && isCallable(answer.mapped, at)
        ? [{ server, at, mapped: answer.mapped, other: plausible(answer.other, at) }]
        : [],
    );
    const answers = asked.map(({ server, at, answer }) => toldOf(server, at, answer));
    const tested = await test(first, second, agreeing(reached), signal);
    return { localPort: first.port, answers, ...tested };
  } finally {
    first.close();
    second?.close();
  }
}

/** Those that see us at the address that most see: what the others say need not be tested. */
function agreeing(reached: readonly Reached[]): readonly Reached[] {
  const alike = (one: Reached): readonly Reached[] =>
    reached.filter(({ mapped }) => mapped.address === one.mapped.address);
  return reached.map(alike).reduce((most, each) => (each.length > most.length ? each : most), []);
}

type Tested = Pick<FamilyObservations, "mappings" | "admits" | "hairpin">;

async function test(
  first: StunSocket,
  second: StunSocket | undefined,
  reached: readonly Reached[],
  signal: AbortSignal,
): Promise<Tested> {
  const [any] = reached;
  if (!any) return { mappings: undefined, admits: undefined, hairpin: undefined };
  let found: Tested = { mappings: undefined, admits: undefined, hairpin: undefined };
  const testers = reached.filter(({ other }) => other).slice(0, TESTERS);
  for (const tester of testers) {
    const [mappings, filtering] = await Promise.all([
      testMapping(first, tester, signal),
      second && testFiltering(first, second, tester, signal),
    ]);
    // Where its other address is dead, nothing was learned from silence.
    const alive = mappings.otherAddress !== undefined && !signal.aborted;
    found = { mappings, admits: alive ? filtering?.admits : undefined, hairpin: filtering?.hairpin };
    if (alive || signal.aborted) return found;
  }
  if (testers.length > 0) return found;
  const [otherPort, hairpin] = await Promise.all([
    testOtherPort(first, reached, signal),
    second && testHairpin(first, second, any, signal),
  ]);
  const mappings = { seen: any.mapped, otherAddress: undefined, otherAddressAndPort: undefined, otherPort };
  return { mappings, admits: undefined, hairpin };
}

/** RFC 5780, section 4.3. */
async function testMapping(
  socket: StunSocket,
  { at, mapped, other }: Reached,
  signal: AbortSignal,
): Promise<NonNullable<Tested["mappings"]>> {
  const options = { timeoutMs: TEST_MS, signal };
  const address = other?.address ?? at.address;
  const [second, third] = await Promise.all([
    socket.ask({ address, port: at.port }, options),
    socket.ask({ address, port: other?.port ?? at.port }, options),
  ]);
  return {
    seen: mapped,
    otherAddress: mappedOf(second),
    otherAddressAndPort: mappedOf(third),
    otherPort: undefined,
  };
}

/** RFC 5780, section 4.4, with a socket that has called nobody before; and hairpinning, since its outer address is known then. */
async function testFiltering(
  first: StunSocket,
  second: StunSocket,
  tester: Reached,
  signal: AbortSignal,
): Promise<Pick<Tested, "admits" | "hairpin">> {
  const options = { timeoutMs: TEST_MS, signal };
  const { at, other } = tester;
  const own = mappedOf(await second.ask(at, options));
  if (!own || !other) return { admits: undefined, hairpin: undefined };
  const [fromElsewhere, fromOtherPort, hairpin] = await Promise.all([
    second.ask(at, { ...options, change: { address: true, port: true } }),
    second.ask(at, { ...options, change: { address: false, port: true } }),
    call(first, second, tester.mapped, own, signal),
  ]);
  const admits = {
    otherAddress: cameFrom(fromElsewhere, other),
    otherPort: cameFrom(fromOtherPort, { address: at.address, port: other.port }),
  };
  // A server that answers from where it was asked, or refuses, does not do this test.
  const untested = [fromElsewhere, fromOtherPort].some(
    ({ outcome }) => outcome !== "silent" && outcome !== "answered",
  );
  const ignored =
    (fromElsewhere.outcome === "answered" && !admits.otherAddress) ||
    (fromOtherPort.outcome === "answered" && !admits.otherPort);
  return { admits: untested || ignored ? undefined : admits, hairpin };
}

/**
 * Another port of a server's address: NATs whose mapping depends on the port show there, when no second address is to be had.
 * Many public servers listen at STUN's own port besides the one they are known by.
 */
async function testOtherPort(
  socket: StunSocket,
  reached: readonly Reached[],
  signal: AbortSignal,
): Promise<Endpoint | undefined> {
  const [one] = reached;
  if (!one || one.at.port === STUN_PORT) return undefined;
  if (new Set(reached.map(({ at }) => at.address)).size > 1) return undefined;
  const at = { address: one.at.address, port: STUN_PORT };
  return mappedOf(await socket.ask(at, { timeoutMs: TEST_MS, signal }));
}

async function testHairpin(
  first: StunSocket,
  second: StunSocket,
  { at, mapped }: Reached,
  signal: AbortSignal,
): Promise<boolean | undefined> {
  const own = mappedOf(await second.ask(at, { timeoutMs: TEST_MS, signal }));
  return own && call(first, second, mapped, own, signal);
}

/**
 * Both sockets call each other at their outer addresses, as two peers behind this NAT would, so that the filter in between is open.
 * Undefined when time runs out.
 */
function call(
  first: StunSocket,
  second: StunSocket,
  firstOuter: Endpoint,
  secondOuter: Endpoint,
  signal: AbortSignal,
): Promise<boolean | undefined> {
  return new Promise((resolve) => {
    const mark = randomBytes(TRANSACTION_SIZE).toString("hex");
    let calls = 0;
    const end = (heard: boolean | undefined): void => {
      clearInterval(timer);
      signal.removeEventListener("abort", stop);
      first.onindication = second.onindication = undefined;
      resolve(heard);
    };
    const stop = (): void => {
      end(undefined);
    };
    const hear = (heard: string): void => {
      if (heard === mark) end(true);
    };
    const again = (): void => {
      if (calls++ === CALLS) {
        end(false);
        return;
      }
      first.indicate(secondOuter, mark);
      second.indicate(firstOuter, mark);
    };
    const timer = setInterval(again, CALL_PAUSE_MS);
    signal.addEventListener("abort", stop);
    first.onindication = second.onindication = hear;
    if (signal.aborted) stop();
    else again();
  });
}

function toldOf(server: Server, { address }: Endpoint, answer: Answer): StunAnswer {
  const { outcome } = answer;
  switch (outcome) {
    case "answered": {
      const { mapped, roundTripMs, other } = answer;
      return { server, address, outcome, mapped, roundTripMs, discovers: other !== undefined };
    }
    case "refused":
      return { server, address, outcome, detail: String(answer.code) };
    case "unreachable":
      return { server, address, outcome, detail: answer.reason };
    default:
      return { server, address, outcome };
  }
}

function mappedOf(answer: Answer): Endpoint | undefined {
  return answer.outcome === "answered" ? answer.mapped : undefined;
}

function cameFrom(answer: Answer, { address, port }: Endpoint): boolean {
  return answer.outcome === "answered" && answer.from.address === address && answer.from.port === port;
}

/**
 * Whether an address that the server `at` tells of may be called: one of its family, and not inside of this network unless the server is,
 * or it could have us knock at our own machines.
 */
function isCallable({ address }: Endpoint, at: Endpoint): boolean {
  return isIP(address) === isIP(at.address) && (!isInner(address) || isInner(at.address));
}

/** A server's other address, if it is another one with another port, as RFC 5780 has it. */
function plausible(other: Endpoint | undefined, at: Endpoint): Endpoint | undefined {
  if (!other || other.address === at.address || other.port === at.port) return undefined;
  return isCallable(other, at) ? other : undefined;
}

/** The addresses of a name in their canonical text, none when it has none or they do not come in time. Never rejects. */
async function resolve(host: string): Promise<readonly string[]> {
  if (isIP(host) !== 0) return [canonical(host)];
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<readonly string[]>((done) => {
    timer = setTimeout(() => {
      done([]);
    }, RESOLVE_MS);
  });
  const found = lookup(host, { all: true }).then(
    (list) => list.map(({ address }) => canonical(address)),
    () => [],
  );
  return Promise.race([found, late]).finally(() => {
    clearTimeout(timer);
  });
}

function canonical(address: string): string {
  return isIPv6(address) ? new SocketAddress({ address, family: "ipv6" }).address : address;
}
