/**
 * dcpipe as a library.
 *
 *   import { listen, connect } from "dcpipe";
 *
 *   const waiting = await listen();                       // one machine
 *   console.log(waiting.offer);
 *   const session = await waiting.session;
 *   const stream = await session.accept();                // stream.readable, stream.writable, toDuplex(stream)
 *
 *   const { session } = connect(offer);                   // the other
 *   const stream = (await session).open(header);
 */
import type { Network } from "./apps/forward/network.ts";
import type { JoiningByCode, WaitingByCode } from "./connect/code.ts";
import type { KnownPeer } from "./connect/appointment.ts";
import type {
  JoiningKnown,
  KnownOptions,
  Purposes,
  WaitingKnown,
  WaitKnownOptions,
} from "./connect/known.ts";
import type { CodeOptions, ConnectOptions, Platform } from "./connect/options.ts";
import { DEFAULT_STUN, parseRendezvousUrl, parseStunUrl, parseTurnUrl } from "./connect/servers.ts";
import type { RawConnection, RawPlatform } from "./connect/raw.ts";
import * as token from "./connect/token.ts";
import { examine, type ExamineOptions } from "./doctor/examine.ts";
import type { Findings } from "./doctor/findings.ts";
import { resolveName } from "./node/names.ts";
import { createPeer, flushed } from "./node/rtc.ts";
import { findStunServer } from "./node/stun.ts";
import { dialTcp, listenTcp } from "./node/tcp.ts";
import { dialDatagrams, listenDatagrams } from "./node/udp.ts";
import { watchNetwork } from "./node/watch.ts";
import { certificateFromSeed, randomCertificate } from "./transport/certificate.ts";
import type { TurnServer } from "./transport/peer.ts";
import type { Purpose } from "./wire/header.ts";
import type { Code } from "./wire/code.ts";

/** Ports that the router is asked for, or that are being given back. */
const asking = new Set<Promise<unknown>>();

/** Sees to it that `settled` waits for it. */
async function track<T>(asked: Promise<T>): Promise<T> {
  asking.add(asked);
  try {
    return await asked;
  } finally {
    asking.delete(asked);
  }
}

/** Resolves when nothing is under way that outlives sessions: a second after the last one, or two. */
export async function settled(): Promise<void> {
  while (asking.size > 0) {
    await Promise.all(asking);
    // What came at the last moment is given back at once.
    await new Promise(setImmediate);
  }
  await flushed();
}

/** What only codes need is loaded when the first one is used. */
const platform: Platform = {
  createPeer,
  createCertificate: randomCertificate,
  certificateFromSeed,
  findStunServer,
  watchNetwork,
  punch: async (attempt) => (await import("./node/punch.ts")).punch(attempt),
  mapPort: async (options) => {
    const { mapPort } = await import("./node/mapping.ts");
    const mapping = await track(mapPort(options));
    return (
      mapping && {
        protocol: mapping.protocol,
        get port() {
          return mapping.port;
        },
        get address() {
          return mapping.address;
        },
        release: () => track(mapping.release()),
      }
    );
  },
  openSocket: async (url, options) => (await import("./node/websocket.ts")).openSocket(url, options),
  lan: {
    hold: async (options) => (await import("./lan.ts")).lan.hold(options),
    find: async (options) => (await import("./lan.ts")).lan.find(options),
  },
};

/** The network of this machine, for forwards. */
export const network: Network = {
  listen: listenTcp,
  dial: dialTcp,
  listenDatagrams,
  dialDatagrams,
  resolve: resolveName,
  createHttpClient: async () => (await import("./node/http.ts")).createHttpClient(),
};

/** Waits for another machine; resolves when the offer token is ready. */
export function listen(options?: ConnectOptions): Promise<token.Waiting> {
  return token.listen(platform, options);
}

/** Joins the machine that made the offer. */
export function connect(offer: string, options?: ConnectOptions): token.Joining {
  return token.connect(platform, offer, options);
}

/** Plain WebRTC: makes an offer for any RTCPeerConnection, with one data channel; resolves when the offer is ready. */
export async function offerRaw(options: ConnectOptions = {}): Promise<RawConnection> {
  return (await import("./connect/raw.ts")).offerRaw(await rawPlatform(), options);
}

/** Plain WebRTC: answers the offer of any RTCPeerConnection; resolves when the answer is ready. */
export async function answerRaw(offer: string, options: ConnectOptions = {}): Promise<RawConnection> {
  return (await import("./connect/raw.ts")).answerRaw(await rawPlatform(), offer, options);
}

async function rawPlatform(): Promise<RawPlatform> {
  return { ...platform, createRawPeer: (await import("./node/raw.ts")).createRawPeer };
}

/** Waits for another machine at a rendezvous, on the local network, or both; resolves when there is a code. */
export async function listenByCode(
  options: CodeOptions & { readonly words?: number | undefined },
): Promise<WaitingByCode> {
  return (await import("./connect/code.ts")).listenByCode(platform, options);
}

/** Joins the machine that waits with this code. */
export async function connectByCode(code: Code, options: CodeOptions): Promise<JoiningByCode> {
  return (await import("./connect/code.ts")).connectByCode(platform, code, options);
}

/** Waits for a machine that is remembered, and runs what goes with `purpose`. `timeout` is not looked at: close it. Rejects with USAGE. */
export async function waitKnown(
  peer: KnownPeer,
  purpose: Purpose,
  options: WaitKnownOptions,
): Promise<WaitingKnown> {
  return (await import("./connect/known.ts")).waitKnown(platform, peer, purpose, options);
}

/** Joins a machine that is remembered, or meets it when it joins this one. Rejects with USAGE; the rest comes by `met`. */
export async function joinKnown(
  peer: KnownPeer,
  purposes: Purposes,
  options: KnownOptions,
): Promise<JoiningKnown> {
  return (await import("./connect/known.ts")).joinKnown(platform, peer, purposes, options);
}

export interface DoctorOptions extends Pick<ConnectOptions, "stun" | "turn" | "portRange" | "bind"> {
  /** URL of a rendezvous. */
  readonly rendezvous?: string | undefined;
  /** Ends the examination with what is known by then. */
  readonly signal?: AbortSignal | undefined;
}

/** Looks at what this network lets through; takes eight seconds at most. Throws USAGE, and rejects for nothing else. */
export async function diagnose(options: DoctorOptions = {}): Promise<Findings> {
  const { stun = DEFAULT_STUN, turn = [], rendezvous, portRange, bind, signal } = options;
  const parsed: ExamineOptions = {
    stun: stun.map(parseStunUrl),
    turn: turn.map(parseTurnUrl),
    rendezvous: rendezvous === undefined ? undefined : parseRendezvousUrl(rendezvous),
    ports: portRange,
    bind,
    signal,
  };
  const [{ observeNat }, { listInterfaces }, { probeMapping }, health, { probeTurn }] = await Promise.all([
    import("./node/nat.ts"),
    import("./node/interfaces.ts"),
    import("./node/mapping.ts"),
    import("./node/health.ts"),
    import("./node/turn/probe.ts"),
  ]);
  const probes = {
    ...health,
    observeNat,
    listInterfaces,
    openSocket: platform.openSocket,
    probeMapping,
    probeTurn: (server: TurnServer, timeoutMs: number) => probeTurn(server, timeoutMs, bind),
  };
  return examine(probes, parsed);
}

export type { Joining, Waiting } from "./connect/token.ts";
export type { RawConnection } from "./connect/raw.ts";
export type { RawChannel } from "./transport/channel.ts";
export { pipeRaw, type RawPipeOptions } from "./apps/raw.ts";
export { looksLikeDescription } from "./signalling/raw.ts";
export type { KnownPeer } from "./connect/appointment.ts";
export type {
  JoiningKnown,
  KnownMet,
  KnownOptions,
  Purposes,
  WaitingKnown,
  WaitKnownOptions,
} from "./connect/known.ts";
export type { JoiningByCode, WaitingByCode } from "./connect/code.ts";
export type { CodeEvent, CodeOptions, ConnectOptions } from "./connect/options.ts";
export type { ConnectionEvent, ConnectedPath, Tried } from "./connect/connection.ts";
export { DEFAULT_STUN, parseRendezvousUrl };
export { kindOfInterface, scopeOf } from "./doctor/address.ts";
export { explainFailure, type Explanation, type FailedConnection } from "./doctor/failure.ts";
export type { Findings } from "./doctor/findings.ts";
export { KINDS, kindOf, type NetworkKind } from "./doctor/kind.ts";
export { judgeNat, type Nat } from "./doctor/nat.ts";
export { predict, type Outcome, type Prediction, type Way } from "./doctor/predict.ts";
export { reportOf, reportOfAddresses } from "./doctor/report.ts";
export { MAX_CLOCK_SECONDS, verdictOf, type Verdict } from "./doctor/verdict.ts";
export { decodeReport, encodeReport, looksLikeReport, type Report } from "./wire/report.ts";
export { DcpipeError, asDcpipeError, ERROR_CODES, type ErrorCode } from "./errors.ts";
export type { Session } from "./session/session.ts";
export type { Stream } from "./session/stream.ts";
export { REASONS, type Reason } from "./wire/frame.ts";
export type { Role } from "./wire/hello.ts";
export {
  completeWord,
  formatCode,
  formatLink,
  parseCode,
  parsePeer,
  type Code,
  type PeerText,
} from "./wire/code.ts";
export { decodeToken, looksLikeToken } from "./wire/token.ts";

export type { Purpose } from "./wire/header.ts";
export { askPurpose } from "./apps/meet.ts";
export { randomCertificate, type Certificate, type PemCertificate } from "./transport/certificate.ts";
export { isPeerName, notRemembered, peersPath, PeerStore, type PeerRecord } from "./node/peers.ts";
export {
  pair,
  type OwnPart,
  type Pairing,
  type PairingOptions,
  type PairingOutcome,
} from "./apps/remember.ts";
export { pipe, type PipeOptions } from "./apps/pipe.ts";
export { sendFiles, type SendOptions } from "./apps/send.ts";
export { receiveFiles, type Conflict, type Listed, type Offer, type ReceiveOptions } from "./apps/receive.ts";
export { limitSource } from "./apps/limit.ts";
export type { Carried } from "./apps/forward/carry.ts";
export { parseRule, type Rule } from "./apps/forward/access.ts";
export type { ForwardEvent, Opened } from "./apps/forward/events.ts";
export { Forwarding, type ForwardingOptions, type Question } from "./apps/forward/forwarding.ts";
export type {
  Address,
  Connection,
  DatagramListener,
  DatagramSocket,
  Listener,
  Network,
} from "./apps/forward/network.ts";
export {
  formatPlace,
  formatTarget,
  looksLikeTarget,
  parseDynamic,
  parseForward,
  parseTarget,
  type Forward,
  type Offer as TargetOffer,
} from "./apps/forward/spec.ts";
export { exchange, type ExchangeRequest, type ExchangeResponse, type Opener } from "./apps/http/exchange.ts";
export type { CookieJar, Fetch, FetchInit, HttpOptions } from "./apps/http/fetch.ts";
export type { HttpClient } from "./apps/http/client.ts";
export { httpOver, visit, type SessionHttp, type Visit } from "./apps/http/visit.ts";
export {
  SessionWebSocket,
  SocketCloseEvent,
  SocketErrorEvent,
  type SessionWebSocketConstructor,
} from "./apps/http/websocket.ts";
export type { HttpField } from "./wire/http.ts";
export type { Place, Protocol } from "./wire/forward.ts";
export type { Target } from "./wire/header.ts";
export { checkName, escapeText } from "./apps/names.ts";
export type {
  Attributes,
  Codec,
  Digest,
  FileSink,
  Found,
  Problem,
  Problems,
  Progress,
  Sink,
  Source,
  SourceContent,
  SourceEntry,
  SourceFile,
  SourceTree,
  TargetDirectory,
  TransferResult,
} from "./apps/endpoints.ts";

export { configPath, readConfig, type Config } from "./node/config.ts";
export { codec } from "./node/codec.ts";
export { createDigest } from "./node/digest.ts";
export { toDuplex } from "./node/duplex.ts";
export { diskTarget, findPlace, stdoutTarget, type DiskPlace } from "./node/target.ts";
export {
  findOffer,
  offerTokenFile,
  readTokenFile,
  removeTokenFile,
  writeTokenFile,
} from "./node/tokenfile.ts";
export { runVia, type Via } from "./node/via.ts";
export { checkPaths, walkPaths, type WalkOptions } from "./node/walk.ts";
export { preload } from "./node/rtc.ts";
export { readableSource, stdinSource, stdoutSink, writableSink } from "./node/stdio.ts";
