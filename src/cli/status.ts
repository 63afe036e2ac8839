/** What each failure means to a shell and to a person: one table. */
import type { ErrorCode } from "../index.ts";

export interface Verdict {
  /** Exit status, as the manual lists them. */
  readonly status: number;
  /** What to do about it; undefined when the message says it all. */
  readonly hint?: string;
}

/** What to do in place of what the table says. */
export type Hints = Readonly<Partial<Record<ErrorCode, string>>>;

export const VERDICTS: Readonly<Record<ErrorCode, Verdict>> = {
  USAGE: { status: 2 },
  TOKEN_MALFORMED: { status: 2 },
  TOKEN_CUT: { status: 2 },
  TOKEN_KIND: { status: 2 },
  TOKEN_VERSION: { status: 2 },
  TOKEN_FOREIGN: { status: 2 },
  CODE_MALFORMED: { status: 2 },
  CODE_UNKNOWN: { status: 4, hint: "look at the other side's code again, or start anew there" },
  CODE_USED: { status: 4, hint: "a code serves once: start again on both sides" },
  CODE_WRONG: { status: 4, hint: "start again on both sides with a new code" },
  NO_RENDEZVOUS: { status: 3, hint: "--rendezvous takes the URL of a running dcpipe rendezvous" },
  SIGNALLING: { status: 3 },
  ICE_FAILED: { status: 3, hint: "a TURN server (--turn) gets through where no direct path exists" },
  TIMEOUT: {
    status: 3,
    hint: "is the other side still running, and was every line that is to be pasted? --timeout waits longer; --turn gets through where no direct path exists",
  },
  AUTH_FAILED: { status: 4, hint: "start again on both sides, with a new code or token" },
  REFUSED: { status: 5 },
  EXISTS: { status: 5, hint: "give another place with -o" },
  PEER_GONE: {
    status: 6,
    hint: "run both commands again; --reconnect waits longer for a peer that comes back",
  },
  INTERRUPTED: { status: 6 },
  CHECKSUM: { status: 6, hint: "send it again" },
  INCOMPLETE: { status: 6 },
  NO_SPACE: { status: 6, hint: "make room, then run both commands again" },
  IO: { status: 1 },
  PIPE_CLOSED: { status: 141 },
  PROTOCOL: { status: 1, hint: "use the same version of dcpipe on both sides" },
  VERSION: { status: 1, hint: "use the same version of dcpipe on both sides" },
  LIMIT: { status: 1 },
  NO_WEBRTC: {
    status: 1,
    hint: "install again without --omit=optional, on a platform node-datachannel has binaries for",
  },
  CONNECTION_REFUSED: { status: 1, hint: "is the server running there, and at that port?" },
  CONNECTION_RESET: { status: 6 },
  UNREACHABLE: { status: 1 },
  NAME_UNKNOWN: { status: 1 },
  ABORTED: { status: 130 },
  CLOSED: { status: 6 },
};

const AGAIN = "run both commands again: it goes on where it stopped";

/** What arrives of files is kept, and need not come twice. */
const TRANSFER_HINTS: Hints = {
  PEER_GONE: `${AGAIN}; --reconnect waits longer for a peer that comes back`,
  INTERRUPTED: AGAIN,
  INCOMPLETE: AGAIN,
  CHECKSUM: "run both commands again: what differs is sent anew",
  CLOSED: AGAIN,
};

/** Plain WebRTC has neither codes, nor anything that comes back. */
export const RAW_HINTS: Hints = {
  ICE_FAILED:
    "a TURN server at the side that answers (--turn there) gets through where no direct path exists",
  PEER_GONE: "nothing resumes with --raw: start again on both sides",
  INCOMPLETE: "nothing resumes with --raw: start again on both sides",
  LIMIT: "let the other side wait for a word of yours now and then, or leave --raw out on both sides",
  AUTH_FAILED: "start again on both sides, with a new offer",
  PROTOCOL: "a=max-message-size of our description says what is taken",
};

export const SEND_HINTS: Hints = {
  ...TRANSFER_HINTS,
  EXISTS: "on the other side --overwrite, --rename or --skip say what to do, or another place with -o",
  NO_SPACE: "make room there, then run both commands again: what arrived is kept",
};

export const RECEIVE_HINTS: Hints = {
  ...TRANSFER_HINTS,
  EXISTS: "--overwrite, --rename or --skip say what to do; or give another place with -o",
  NO_SPACE: "make room, then run both commands again: what arrived is kept",
};
