/** The first stream of a session: the joining side opens it and says what it does; the waiting side must do the counterpart. */
import { DcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";
import type { Stream } from "../session/stream.ts";
import { decodeHeader, encodeHeader, type StreamKind, type TargetKind } from "../wire/header.ts";
import type { Role } from "../wire/hello.ts";

/** What a program does with the first stream. */
export type Purpose = Exclude<StreamKind, TargetKind | "remember">;

const COUNTERPART: Readonly<Record<Purpose, Purpose>> = {
  pipe: "pipe",
  send: "receive",
  receive: "send",
  forward: "forward",
};

function kindOf(stream: Stream): StreamKind {
  try {
    return decodeHeader(stream.header).kind;
  } catch (error) {
    stream.reset("PROTOCOL", "unknown kind of stream");
    throw error;
  }
}

/** Opens or takes the stream for `kind`. Rejects with REFUSED when the other side does something that does not fit. */
export async function meet(session: Session, role: Role, kind: Purpose): Promise<Stream> {
  if (role === "joining") return session.open(encodeHeader({ kind }));
  const stream = await session.accept();
  const theirs = kindOf(stream);
  if (theirs === COUNTERPART[kind]) return stream;
  stream.reset("REFUSED", `it runs "dcpipe ${kind}", which does not go with "dcpipe ${theirs}"`);
  throw new DcpipeError(
    "REFUSED",
    `the other side runs "dcpipe ${theirs}", which does not go with "dcpipe ${kind}"`,
  );
}
