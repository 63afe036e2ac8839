/**
 * Every failure dcpipe reports, as a stable code. The list is closed: a new way to fail gets a line here, a hint and an
 * exit status in the command line's table, and a row in docs/dcpipe.1.md.
 */
export const ERROR_CODES = [
  /** The caller asked for something that makes no sense: an option, an address, a combination. */
  "USAGE",
  /** A pasted token is no token, or was altered. */
  "TOKEN_MALFORMED",
  /** A pasted token stops too early. */
  "TOKEN_CUT",
  /** An answer stood where an offer is due, or the reverse. */
  "TOKEN_KIND",
  /** A token of a version this program does not know. */
  "TOKEN_VERSION",
  /** An answer that belongs to another offer. */
  "TOKEN_FOREIGN",
  /** What should be a code is none: a word is mistyped or missing. */
  "CODE_MALFORMED",
  /** Nobody waits with this code: it was never given, or it has expired. */
  "CODE_UNKNOWN",
  /** Somebody has used this code already. */
  "CODE_USED",
  /** The other side has another code; this one is burned. */
  "CODE_WRONG",
  /** What answers at the URL is no rendezvous. */
  "NO_RENDEZVOUS",
  /** The means by which the tokens travel broke: a file, a command, the terminal. */
  "SIGNALLING",
  /** No pair of addresses let a packet through. */
  "ICE_FAILED",
  /** The other side did not come in time. */
  "TIMEOUT",
  /** The other side could not prove who it is. */
  "AUTH_FAILED",
  /** The other side, the user or a rule said no. */
  "REFUSED",
  /** The target is there already. */
  "EXISTS",
  /** The other side fell silent and did not come back, or left before the end. */
  "PEER_GONE",
  /** The other side was interrupted by its user. */
  "INTERRUPTED",
  /** What arrived is not what was sent. */
  "CHECKSUM",
  /** The other side could not store or read its part. */
  "INCOMPLETE",
  /** The disk is full, here or at the other side. */
  "NO_SPACE",
  /** Reading or writing failed on this machine. */
  "IO",
  /** The reader of our output has gone (EPIPE). */
  "PIPE_CLOSED",
  /** The other side broke the protocol. */
  "PROTOCOL",
  /** The other side speaks another version. */
  "VERSION",
  /** A limit was reached. */
  "LIMIT",
  /** The native WebRTC module could not be loaded. */
  "NO_WEBRTC",
  /** Nobody listens at the target of a forwarded connection. */
  "CONNECTION_REFUSED",
  /** The target of a forwarded connection answered with a reset, or one of its two ends was reset. */
  "CONNECTION_RESET",
  /** There is no way from the machine that dials to the target. */
  "UNREACHABLE",
  /** The target's name stands for no address. */
  "NAME_UNKNOWN",
  /** Stopped by the caller's AbortSignal. */
  "ABORTED",
  /** The session or stream is closed already. */
  "CLOSED",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** An error with a stable `code`. Messages are lower case, without a full stop, and hold no secret. */
export class DcpipeError extends Error {
  override readonly name = "DcpipeError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** The error itself when it is a DcpipeError, else one with `code` around it. */
export function asDcpipeError(error: unknown, code: ErrorCode, message?: string): DcpipeError {
  if (error instanceof DcpipeError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return new DcpipeError(code, message === undefined ? reason : `${message}: ${reason}`, { cause: error });
}
