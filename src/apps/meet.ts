/**
 * The first stream of a session: the joining side opens it and says what it does; the waiting side must do the counterpart. A joining
 * side that was given a code and nothing else, as a page is, asks before:
 *
 *   joining: opens `ask` -->       <-- what the waiting side does, FIN       joining: opens the counterpart -->
 */
import { DcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";
import type { Stream } from "../session/stream.ts";
import {
  decodeHeader,
  decodePurpose,
  encodeHeader,
  encodePurpose,
  type Purpose,
  type StreamHeader,
} from "../wire/header.ts";
import type { Role } from "../wire/hello.ts";

export type { Purpose } from "../wire/header.ts";

const COUNTERPART: Readonly<Record<Purpose, Purpose>> = {
  pipe: "pipe",
  send: "receive",
  receive: "send",
  forward: "forward",
};

function headerOf(stream: Stream): StreamHeader {
  try {
    return decodeHeader(stream.header);
  } catch (error) {
    stream.reset("PROTOCOL", "unknown kind of stream");
    throw error;
  }
}

/** Opens or takes the stream for `kind`. Rejects with REFUSED when the other side does something that does not fit. */
export async function meet(session: Session, role: Role, kind: Purpose): Promise<Stream> {
  if (role === "joining") return session.open(encodeHeader({ kind }));
  let stream = await session.accept();
  let theirs = headerOf(stream).kind;
  if (theirs === "ask") {
    answerAsk(stream, kind);
    stream = await session.accept();
    theirs = headerOf(stream).kind;
  }
  if (theirs === COUNTERPART[kind]) return stream;
  stream.reset("REFUSED", `it runs "dcpipe ${kind}", which does not go with "dcpipe ${theirs}"`);
  throw new DcpipeError(
    "REFUSED",
    `the other side runs "dcpipe ${theirs}", which does not go with "dcpipe ${kind}"`,
  );
}

/** Says what this side does. That the other side has left meanwhile is for the session to tell. */
export function answerAsk(stream: Stream, purpose: Purpose): void {
  void stream
    .write(encodePurpose(purpose))
    .then(() => stream.end())
    .catch(() => undefined);
  void discard(stream).catch(() => undefined);
}

/** Reads to the end, which is at once: who asks says nothing more. */
async function discard(stream: Stream): Promise<void> {
  if (await stream.read()) stream.reset("PROTOCOL", "a question has no content");
}

/**
 * What the waiting side does, asked by the joining side before its first stream: who is told "send" should receive. Rejects with REFUSED
 * when the waiting side has nothing to say, PROTOCOL for an answer that is none, or with what ended the session.
 */
export async function askPurpose(session: Session): Promise<Purpose> {
  const stream = session.open(encodeHeader({ kind: "ask" }));
  // The header goes out with the end, so that the other side has both at once.
  const ended = stream.end();
  ended.catch(() => undefined);
  const purpose = decodePurpose((await stream.read()) ?? new Uint8Array());
  if (await stream.read()) stream.reset("PROTOCOL", "an answer of one byte was due");
  await ended;
  return purpose;
}
