/** All that a doctor looks at, at once and within a bounded time. */
import { asDcpipeError, DcpipeError } from "../errors.ts";
import { RENDEZVOUS_PROTOCOL } from "../wire/rendezvous.ts";
import type {
  Findings,
  Health,
  InterfaceAddress,
  MappingProbe,
  NatObservations,
  ProxySetting,
  RendezvousFinding,
  Server,
  TurnFinding,
  TurnProbe,
  TurnServer,
} from "./findings.ts";

/** What the platform can look at. None of these rejects, but where it is said. */
export interface Probes {
  readonly listInterfaces: () => readonly InterfaceAddress[];
  readonly observeNat: (options: {
    readonly servers: readonly Server[];
    readonly bind: string | undefined;
    readonly ports: readonly [number, number] | undefined;
    readonly signal: AbortSignal;
  }) => Promise<NatObservations>;
  /** Asks the router what it speaks, and opens nothing. Undefined where there is none who could. */
  readonly probeMapping:
    | ((options: {
        readonly bind: string | undefined;
        readonly signal: AbortSignal;
      }) => Promise<MappingProbe>)
    | undefined;
  /** Asks a TURN server for an address, and gives it back. Undefined where there is none who could. */
  readonly probeTurn: ((server: TurnServer, timeoutMs: number) => Promise<TurnProbe>) | undefined;
  /** Rejects with a DcpipeError that says why there is no WebSocket. */
  readonly openSocket: (
    url: string,
    options: { readonly protocols: readonly string[]; readonly signal: AbortSignal },
  ) => Promise<{ close(): void }>;
  /** Rejects when nothing answers. */
  readonly fetchHealth: (url: string, signal: AbortSignal) => Promise<Health>;
  /** The proxy that leads to a URL, without credentials. */
  readonly proxyOf: (url: string) => string | undefined;
  readonly proxySettings: () => readonly ProxySetting[];
}

export interface ExamineOptions {
  /** None: no STUN server and no router is asked. */
  readonly stun: readonly Server[];
  readonly turn: readonly TurnServer[];
  /** URL with a slash at its end. */
  readonly rendezvous: string | undefined;
  readonly bind: string | undefined;
  readonly ports: readonly [number, number] | undefined;
  /** Ends the examination with what is known by then. */
  readonly signal?: AbortSignal | undefined;
}

/** Names, three rounds with silent servers and a hairpin take six seconds and a half; nobody waits longer for a diagnosis. */
const EXAMINE_MS = 7_500;
/** Two round trips with TLS and a proxy, or an allocation in three, on a slow line. */
const SERVER_MS = 5_000;
/** A probe that does not keep to its time is left behind. */
const GRACE_MS = 250;

/** Never rejects. */
export async function examine(probes: Probes, options: ExamineOptions): Promise<Findings> {
  const started = performance.now();
  const { stun, turn, rendezvous, bind, ports } = options;
  const all = deadline(EXAMINE_MS, options.signal);
  const { probeMapping, probeTurn } = probes;
  try {
    const [nat, mapping, relays, server] = await Promise.all([
      stun.length === 0
        ? undefined
        : inTime(
            probes.observeNat({ servers: stun, bind, ports, signal: all.signal }),
            EXAMINE_MS + GRACE_MS,
            undefined,
          ),
      // A router is a server like others: who wants none asked wants no router asked.
      stun.length === 0 || !probeMapping
        ? undefined
        : inTime(probeMapping({ bind, signal: all.signal }), SERVER_MS, undefined),
      turn.length === 0 ? [] : probeTurn && Promise.all(turn.map((each) => tryTurn(probeTurn, each))),
      rendezvous === undefined ? undefined : tryRendezvous(probes, rendezvous, all.signal),
    ]);
    return {
      interfaces: probes.listInterfaces(),
      nat,
      mapping,
      turn: relays,
      rendezvous: server,
      proxies: probes.proxySettings(),
      milliseconds: Math.round(performance.now() - started),
    };
  } finally {
    all.end();
  }
}

async function tryTurn(probe: NonNullable<Probes["probeTurn"]>, server: TurnServer): Promise<TurnFinding> {
  const { host, port, transport } = server;
  const silent = { ok: false, error: `no answer in ${SERVER_MS / 1000} s` };
  const found = await inTime(probe(server, SERVER_MS), SERVER_MS + GRACE_MS, silent);
  return { ...found, server: { host, port, transport } };
}

async function tryRendezvous(probes: Probes, url: string, signal: AbortSignal): Promise<RendezvousFinding> {
  const limit = deadline(SERVER_MS, signal);
  const started = performance.now();
  try {
    const [health, socket] = await Promise.all([
      inTime(probes.fetchHealth(url, limit.signal), SERVER_MS + GRACE_MS, undefined),
      inTime(
        probes.openSocket(url, { protocols: [RENDEZVOUS_PROTOCOL], signal: limit.signal }).then(
          (opened) => {
            opened.close();
            return { roundTripMs: performance.now() - started, error: undefined };
          },
          (cause: unknown) => ({ roundTripMs: undefined, error: asDcpipeError(cause, "SIGNALLING") }),
        ),
        SERVER_MS + GRACE_MS,
        undefined,
      ),
    ]);
    const late = new DcpipeError("SIGNALLING", `no answer in ${SERVER_MS / 1000} s`);
    return {
      url,
      proxy: proxyOf(probes, url),
      health,
      roundTripMs: socket?.roundTripMs,
      error: !socket || socket.error?.code === "ABORTED" ? late : socket.error,
    };
  } finally {
    limit.end();
  }
}

/** A proxy setting that is no URL has made the WebSocket fail, with a reason. */
function proxyOf(probes: Probes, url: string): string | undefined {
  try {
    return probes.proxyOf(url);
  } catch {
    return undefined;
  }
}

/** A signal that fires after so long, or with the other one. */
function deadline(ms: number, other: AbortSignal | undefined): { signal: AbortSignal; end: () => void } {
  const controller = new AbortController();
  const abort = (): void => {
    controller.abort();
  };
  const timer = setTimeout(abort, ms);
  if (other?.aborted) abort();
  other?.addEventListener("abort", abort);
  return {
    signal: controller.signal,
    end: () => {
      clearTimeout(timer);
      other?.removeEventListener("abort", abort);
    },
  };
}

/** What comes of it, or `otherwise` when it fails or does not come in time. */
function inTime<T, U>(work: Promise<T>, ms: number, otherwise: U): Promise<T | U> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      resolve(otherwise);
    }, ms);
    work
      .catch(() => otherwise)
      .then((value) => {
        clearTimeout(timer);
        resolve(value);
      })
      .catch(() => undefined);
  });
}
