/** What a reason given by the other side, in RESET or GOAWAY, means on this one. */
import { DcpipeError, type ErrorCode } from "../errors.ts";
import type { Reason } from "../wire/frame.ts";

export function remoteError(reason: Reason, text: string): DcpipeError {
  const [code, message] = MEANINGS[reason];
  return new DcpipeError(code, text === "" ? message : `${message}: ${text}`);
}

const MEANINGS: Readonly<Record<Reason, readonly [ErrorCode, string]>> = {
  CLOSED: ["INCOMPLETE", "the other side closed the stream before its end"],
  REFUSED: ["REFUSED", "the other side refused"],
  INTERRUPTED: ["INTERRUPTED", "the other side was interrupted"],
  PROTOCOL: ["PROTOCOL", "the other side reports a broken protocol"],
  LIMIT: ["LIMIT", "the other side reached a limit"],
  IO: ["INCOMPLETE", "the other side failed to read or write"],
  NO_SPACE: ["NO_SPACE", "the other side's disk is full"],
  EXISTS: ["REFUSED", "the other side has it already"],
  CHECKSUM: ["CHECKSUM", "the other side received something else than was sent"],
  PIPE_CLOSED: ["INCOMPLETE", "the other side stopped reading"],
  INCOMPLETE: ["INCOMPLETE", "the other side gave up"],
  ABORTED: ["INCOMPLETE", "the other side gave up"],
  CONNECTION_REFUSED: ["CONNECTION_REFUSED", "connection refused there"],
  CONNECTION_RESET: ["CONNECTION_RESET", "connection reset there"],
  UNREACHABLE: ["UNREACHABLE", "no way to the target from there"],
  NAME_UNKNOWN: ["NAME_UNKNOWN", "the other side does not know the name"],
  TIMEOUT: ["TIMEOUT", "no answer from the target in time"],
};
