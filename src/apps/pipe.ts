/**
 * Joins this side's source and sink with the other side's, both directions at once; each ends on its own.
 *
 *   source --> stream --> their sink          their source --> stream --> sink
 */
import { asDcpipeError, type DcpipeError } from "../errors.ts";
import type { Session } from "../session/session.ts";
import type { Stream } from "../session/stream.ts";
import { REASONS } from "../wire/frame.ts";
import type { Role } from "../wire/hello.ts";
import { encodeHeader, type Target } from "../wire/header.ts";
import { isReason, type Sink, type Source } from "./endpoints.ts";
import { answerOf } from "./forward/carry.ts";
import { meet } from "./meet.ts";

export interface PipeOptions {
  /** In place of the other side's source and sink: one connection to this target, which it must offer or allow. */
  readonly target?: Target | undefined;
  readonly source: Source;
  readonly sink: Sink;
  /** Bytes the other side holds, and bytes written to the sink. */
  readonly onprogress?: (sent: number, received: number) => void;
}

/** Runs until both directions have ended on both sides. Resolves with the bytes sent and received. */
export async function pipe(
  session: Session,
  role: Role,
  options: PipeOptions,
): Promise<{ sent: number; received: number }> {
  const { source, sink, target, onprogress } = options;
  const stream = target
    ? session.open(encodeHeader({ kind: "connect", target }))
    : await meet(session, role, "pipe");
  let received = 0;
  const report = (): void => onprogress?.(stream.acknowledged, received);
  let failure: DcpipeError | undefined;
  /** Tells the other side why, unless it is the one who ended it. */
  const giveUp = (error: DcpipeError): DcpipeError => {
    failure ??= error;
    stream.reset(isReason(error.code, REASONS) ? error.code : "IO", error.message);
    return error;
  };
  const out = send(stream, source, report, giveUp);
  const back = receive(stream, sink, target !== undefined, giveUp, (bytes) => {
    received += bytes;
    report();
  });
  try {
    // A reset must not wait for a source that may never speak again.
    await Promise.race([Promise.all([out, back]), stream.closed.then(() => Promise.all([out, back]))]);
  } catch (error) {
    // The reset that follows a failure here fails everything else, with less to say.
    throw failure ?? error;
  } finally {
    source.cancel();
  }
  return { sent: stream.acknowledged, received };
}

type GiveUp = (error: DcpipeError) => DcpipeError;

async function send(stream: Stream, source: Source, report: () => void, giveUp: GiveUp): Promise<void> {
  try {
    for (let chunk = await source.read(); chunk; chunk = await source.read()) {
      await stream.write(chunk);
      report();
    }
  } catch (error) {
    throw giveUp(asDcpipeError(error, "IO", "reading failed"));
  }
  await stream.end();
  report();
}

async function receive(
  stream: Stream,
  sink: Sink,
  answered: boolean,
  giveUp: GiveUp,
  report: (bytes: number) => void,
): Promise<void> {
  try {
    let chunk = answered ? await answerOf(stream) : await stream.read();
    for (; chunk; chunk = await stream.read()) {
      await sink.write(chunk);
      report(chunk.length);
    }
    await sink.end();
  } catch (error) {
    throw giveUp(asDcpipeError(error, "IO", "writing failed"));
  }
}
