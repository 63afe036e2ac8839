/**
 * Carries bytes between a connection of this machine and a stream, each direction by itself, as if the two ends were one connection:
 *
 *   FIN here   -> FIN there, and the other direction goes on       reset here        -> what came before, then a reset there
 *   slow there -> the reader here stops, and so its sender         the stream fails  -> a reset here
 */
import { asDcpipeError, DcpipeError } from "../../errors.ts";
import type { Stream } from "../../session/stream.ts";
import { REASONS, type Reason } from "../../wire/frame.ts";
import { isReason } from "../endpoints.ts";
import { breakOff } from "../last-words.ts";
import type { Pacer } from "../limit.ts";
import type { Connection } from "./network.ts";

/** Bytes that came from the connection, and bytes that were written to it. */
export interface Carried {
  sent: number;
  received: number;
}

/** The acceptor's first byte on the stream of a connection: it stands (section 9.2 of docs/protocol.md). */
export const CONNECTED = 0x01;

/** A client that was told why nothing was connected closes by itself; one that does not is cut off after this. Milliseconds. */
const LEAVE_MS = 5000;

/** Takes the acceptor's first byte off. Resolves with what followed it. Rejects with the reason for which nothing was connected. */
export async function answerOf(stream: Stream): Promise<Uint8Array> {
  const chunk = await stream.read();
  if (chunk?.[0] !== CONNECTED) {
    stream.reset("PROTOCOL", "no answer to a connection");
    throw new DcpipeError("PROTOCOL", "the other side broke the protocol: no answer to a connection");
  }
  return chunk.subarray(1);
}

/**
 * Runs until both directions are over. Resolves with the error that ended it, undefined when both ended by FIN. `first` reads what comes
 * before all else from the stream; with `polite` it has told the client why when it rejects.
 */
export async function carry(
  connection: Connection,
  stream: Stream,
  options: {
    readonly carried: Carried;
    readonly first?: (() => Promise<Uint8Array>) | undefined;
    readonly polite?: boolean | undefined;
    readonly pacer?: Pacer | undefined;
  },
): Promise<DcpipeError | undefined> {
  const { carried, pacer } = options;
  let failure: DcpipeError | undefined;
  let drained: (() => void) | undefined;
  /** The target is connected. */
  let stands = options.first === undefined;
  const closed = new Promise<void>((resolve) => {
    connection.onclose = (error) => {
      if (error) {
        failure ??= error;
        // Nothing came before that the target should have: the other side need not go on dialling.
        if (!stands && carried.sent === 0) stream.reset(reasonOf(error), error.message);
        else breakOff(stream, reasonOf(error), error.message);
      }
      drained?.();
      resolve();
    };
  });
  connection.ondata = (chunk) => {
    carried.sent += chunk.length;
    const room = stream.write(chunk);
    if (pacer) {
      connection.pause();
      Promise.all([room, pacer.take(chunk.length)]).then(() => {
        connection.resume();
      }, ignore);
    } else if (stream.full) {
      connection.pause();
      room.then(() => {
        connection.resume();
      }, ignore);
    } else room.catch(ignore);
  };
  connection.onend = () => {
    stream.end().catch(ignore);
  };
  connection.ondrain = () => {
    drained?.();
  };
  // The end of the stream does not wait for a reader who has stopped.
  stream.closed.catch(() => drained?.());
  connection.resume();
  let leaving: ReturnType<typeof setTimeout> | undefined;
  try {
    let chunk = await (options.first ?? (() => stream.read()))();
    stands = true;
    for (; chunk; chunk = await stream.read()) {
      carried.received += chunk.length;
      if (chunk.length === 0 || connection.write(chunk)) continue;
      await new Promise<void>((resolve) => (drained = resolve));
      drained = undefined;
    }
    connection.end();
    await stream.closed;
  } catch (cause) {
    failure ??= asDcpipeError(cause, "CONNECTION_RESET");
    if (stands || options.polite !== true) connection.reset();
    else {
      connection.end();
      leaving = leaveSoon(connection);
    }
  }
  await closed;
  clearTimeout(leaving);
  return failure;
}

/** For a client that was told why nothing was connected. The timer is to be cleared when it is over. */
export function leaveSoon(connection: Connection): ReturnType<typeof setTimeout> {
  return setTimeout(() => {
    connection.reset();
  }, LEAVE_MS);
}

function reasonOf({ code }: DcpipeError): Reason {
  return isReason(code, REASONS) ? code : "CONNECTION_RESET";
}

function ignore(): void {
  // It fails for a reason that the reading direction, or the connection itself, tells.
}
