/**
 * dcpipe as a library for web pages: the core, bound to what browsers have.
 *
 *   import { connectByCode, parseCode } from "dcpipe/browser";
 *
 *   const { session } = await connectByCode(parseCode("7-guitar-sandwich"), { rendezvous: "https://pipes.example.org" });
 *   const stream = await (await session).accept();        // stream.readable, stream.writable: Web Streams
 *
 * The names are those of index.ts. What a browser cannot do is not here: docs/browsers.md says what, and why.
 */
import * as code from "./connect/code.ts";
import type { JoiningByCode, WaitingByCode } from "./connect/code.ts";
import type { CodeOptions, Platform } from "./connect/options.ts";
import { randomCertificate } from "./browser/rtc/certificate.ts";
import { createPeer } from "./browser/rtc.ts";
import { watchNetwork } from "./browser/watch.ts";
import { endWithPage } from "./browser/leaving.ts";
import { openSocket } from "./browser/websocket.ts";
import type { Code } from "./wire/code.ts";

const platform: Platform = {
  createPeer,
  createCertificate: randomCertificate,
  openSocket,
  // A page cannot ask a server whether it is there without a connection that is made: the first one is taken at its word.
  findStunServer: ([first]) => Promise.resolve(first),
  watchNetwork,
};

/** What a page may choose: addresses, ports and the local network are the browser's business. */
export type BrowserOptions = Omit<CodeOptions, "portRange" | "bind" | "lan"> & {
  readonly rendezvous: string;
};

/** Waits for another machine at a rendezvous; resolves when there is a code. When the page goes, the other side is told. */
export async function listenByCode(
  options: BrowserOptions & { readonly words?: number | undefined },
): Promise<WaitingByCode> {
  const waiting = await code.listenByCode(platform, { ...options, lan: false });
  endWithPage(waiting);
  return waiting;
}

/** Joins the machine that waits with this code. When the page goes, the other side is told. */
export async function connectByCode(joined: Code, options: BrowserOptions): Promise<JoiningByCode> {
  // As elsewhere: what is thrown at once rejects.
  await Promise.resolve();
  const joining = code.connectByCode(platform, joined, { ...options, lan: false });
  endWithPage(joining);
  return joining;
}

export type { JoiningByCode, WaitingByCode } from "./connect/code.ts";
export type { CodeEvent } from "./connect/options.ts";
export type { ConnectionEvent, ConnectedPath, Tried } from "./connect/connection.ts";
export { DEFAULT_STUN, parseRendezvousUrl } from "./connect/servers.ts";
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

// What runs over a session.
export { askPurpose, type Purpose } from "./apps/meet.ts";
export { pipe, type PipeOptions } from "./apps/pipe.ts";
export { sendFiles, type SendOptions } from "./apps/send.ts";
export { receiveFiles, type Conflict, type Listed, type Offer, type ReceiveOptions } from "./apps/receive.ts";
export { exchange, type ExchangeRequest, type ExchangeResponse, type Opener } from "./apps/http/exchange.ts";
export type { CookieJar, Fetch, FetchInit, HttpOptions } from "./apps/http/fetch.ts";
export { httpOver, visit, type SessionHttp, type Visit } from "./apps/http/visit.ts";
export {
  createWebSocket,
  SessionWebSocket,
  SocketCloseEvent,
  SocketErrorEvent,
  type SessionWebSocketConstructor,
} from "./apps/http/websocket.ts";
export type { HttpField } from "./wire/http.ts";
export { limitSource } from "./apps/limit.ts";
export { formatTarget, type Offer as TargetOffer } from "./apps/forward/spec.ts";
export { decoded, decodersFor } from "./apps/http/coding.ts";
export { placeOf } from "./apps/http/place.ts";
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

export { codec } from "./browser/codec.ts";
export { createDigest } from "./browser/digest.ts";
export { readableSource, writableSink } from "./browser/streams/web.ts";
export { directoryTarget, foldsNames, streamTarget, type IncomingFile } from "./browser/target.ts";
export { droppedItems, fileTree, type Sendable } from "./browser/tree.ts";
