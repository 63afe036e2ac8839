/** What each failure means to a person, and what to do about it: one table. */
import { escapeText, type DcpipeError, type ErrorCode } from "../browser.ts";

export interface Failure {
  readonly what: string;
  readonly todo: string;
}

const AGAIN = "Start again on both sides, with a new code.";

export const FAILURES: Readonly<Record<ErrorCode, Failure>> = {
  USAGE: { what: "That does not make sense here.", todo: "Go back and try it differently." },
  TOKEN_MALFORMED: { what: "That is no code.", todo: "Tokens that begin with dc1 work in a terminal only." },
  TOKEN_CUT: { what: "That is no code.", todo: "Tokens that begin with dc1 work in a terminal only." },
  TOKEN_KIND: { what: "That is no code.", todo: "Tokens that begin with dc1 work in a terminal only." },
  TOKEN_VERSION: { what: "That is no code.", todo: "Tokens that begin with dc1 work in a terminal only." },
  TOKEN_FOREIGN: { what: "That is no code.", todo: "Tokens that begin with dc1 work in a terminal only." },
  CODE_MALFORMED: { what: "That is no code.", todo: "A code looks like 7-guitar-sandwich." },
  CODE_UNKNOWN: {
    what: "Nobody waits with this code.",
    todo: "Look at the code on the other side again. If it is right, the other side has stopped: start anew there.",
  },
  CODE_USED: {
    what: "This code has been used already.",
    todo: "A code works once. Start again on the other side, with a new code. If nobody of yours used it, somebody else did.",
  },
  CODE_WRONG: {
    what: "The words of the code are wrong.",
    todo: "One try burns a code. Start again on the other side, and type the new code with care.",
  },
  NO_RENDEZVOUS: { what: "There is no dcpipe rendezvous at this address.", todo: "Check the address." },
  SIGNALLING: {
    what: "The rendezvous cannot be reached.",
    todo: "Check your connection, or try again in a minute.",
  },
  ICE_FAILED: {
    what: "No path between the two networks was found.",
    todo: "Try another network, or run dcpipe doctor on the other machine: it says what its network lets through.",
  },
  TIMEOUT: { what: "The other side did not come in time.", todo: "Is it still running? " + AGAIN },
  AUTH_FAILED: { what: "The other side could not prove who it is.", todo: AGAIN },
  REFUSED: { what: "That was refused.", todo: "Ask the other side what it expects, and start again." },
  EXISTS: { what: "That name is taken.", todo: "Choose another folder, or make room." },
  PEER_GONE: {
    what: "The other side is gone.",
    todo: AGAIN + " Into the same folder, a transfer goes on where it ended.",
  },
  INTERRUPTED: { what: "The other side was stopped by its user.", todo: AGAIN },
  CHECKSUM: { what: "What arrived is not what was sent.", todo: "Send it again." },
  INCOMPLETE: { what: "Not all of it came through.", todo: "Send it again." },
  NO_SPACE: { what: "The disk is full.", todo: "Make room, and start again." },
  IO: { what: "Reading or writing failed.", todo: "Try another folder or file." },
  PIPE_CLOSED: { what: "The program on the other side has stopped reading.", todo: AGAIN },
  PROTOCOL: {
    what: "The other side broke the protocol.",
    todo: "Use the same version of dcpipe on both sides.",
  },
  VERSION: {
    what: "The other side speaks another version.",
    todo: "Use the same version of dcpipe on both sides.",
  },
  LIMIT: { what: "A limit was reached.", todo: "Wait a while, and try again." },
  NO_WEBRTC: {
    what: "This browser has no WebRTC.",
    todo: "An extension or a setting may block it. Use another browser.",
  },
  CONNECTION_REFUSED: { what: "Nobody listens there.", todo: "Start the service on the other machine." },
  CONNECTION_RESET: { what: "The service ended the connection.", todo: "Try again." },
  UNREACHABLE: { what: "The other machine cannot reach that.", todo: "Check the target there." },
  NAME_UNKNOWN: { what: "The other machine does not know that name.", todo: "Check the target there." },
  ABORTED: { what: "Stopped.", todo: "Nothing more is sent or received." },
  CLOSED: { what: "The other side has left.", todo: AGAIN },
};

/** What the error itself says, safe to show. */
export function detailOf(error: DcpipeError): string {
  return `${escapeText(error.message)} (${error.code})`;
}
