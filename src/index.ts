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
import * as introduce from "./connect/introduce.ts";
import { createPeer } from "./node/rtc.ts";
import { findStunServer } from "./node/stun.ts";

const platform: introduce.Platform = { createPeer, findStunServer };

/** Waits for another machine; resolves when the offer token is ready. */
export function listen(options?: introduce.ConnectOptions): Promise<introduce.Waiting> {
  return introduce.listen(platform, options);
}

/** Joins the machine that made the offer. */
export function connect(offer: string, options?: introduce.ConnectOptions): introduce.Joining {
  return introduce.connect(platform, offer, options);
}

export type { ConnectOptions, Joining, Waiting } from "./connect/introduce.ts";
export type { ConnectionEvent, ConnectedPath } from "./connect/connection.ts";
export { DEFAULT_STUN } from "./connect/servers.ts";
export { DcpipeError, asDcpipeError, ERROR_CODES, type ErrorCode } from "./errors.ts";
export type { Session } from "./session/session.ts";
export type { Stream } from "./session/stream.ts";
export { REASONS, type Reason } from "./wire/frame.ts";
export type { Role } from "./wire/hello.ts";
export { decodeToken, looksLikeToken } from "./wire/token.ts";

export { pipe, type PipeOptions } from "./apps/pipe.ts";
export { sendFiles, type SendOptions, type TransferResult } from "./apps/send.ts";
export { receiveFiles, type ReceiveOptions } from "./apps/receive.ts";
export { limitSource } from "./apps/limit.ts";
export { checkName, escapeText } from "./apps/names.ts";
export type {
  Digest,
  FileSink,
  FileTarget,
  IncomingFile,
  Progress,
  Sink,
  Source,
  SourceFile,
} from "./apps/endpoints.ts";

export { createDigest } from "./node/digest.ts";
export { checkSource, diskTarget, findPlace, openSource, type DiskPlace } from "./node/disk.ts";
export { toDuplex } from "./node/duplex.ts";
export {
  findOffer,
  offerTokenFile,
  readTokenFile,
  removeTokenFile,
  writeTokenFile,
} from "./node/tokenfile.ts";
export { runVia, type Via } from "./node/via.ts";
export { preload } from "./node/rtc.ts";
export { readableSource, stdinSource, stdoutSink, writableSink } from "./node/stdio.ts";
