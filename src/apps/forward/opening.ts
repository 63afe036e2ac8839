/** The side that listens: a connection that came to one of its ports goes to a target at the other side. */
import { asDcpipeError, type DcpipeError } from "../../errors.ts";
import type { Session } from "../../session/session.ts";
import type { Stream } from "../../session/stream.ts";
import { encodeHeader, type Target } from "../../wire/header.ts";
import type { Pacer } from "../limit.ts";
import { answerOf, carry, leaveSoon } from "./carry.ts";
import type { Ledger } from "./events.ts";
import type { Connection } from "./network.ts";

export interface Opening {
  readonly session: Session;
  readonly target: Target;
  /** The target for people. */
  readonly name: string;
  readonly ledger: Ledger;
  readonly pacer?: Pacer | undefined;
  /** Bytes that came on the connection already. */
  readonly rest?: Uint8Array | undefined;
  /** It stands at the other side (undefined), or not: what the client is told. Without it a client just sees a reset. */
  readonly answer?: ((error: DcpipeError | undefined) => Uint8Array) | undefined;
}

/** Carries the connection to its target until both are over. What the client sends travels at once: opening costs one round trip. Never rejects. */
export async function openConnection(connection: Connection, opening: Opening): Promise<void> {
  const { session, target, name, ledger, pacer, rest, answer } = opening;
  let stream: Stream;
  try {
    stream = session.open(encodeHeader({ kind: "connect", target }));
  } catch (cause) {
    if (answer) {
      connection.write(answer(asDcpipeError(cause, "CLOSED")));
      connection.end();
      // Only who reads hears that the client has left.
      const leaving = leaveSoon(connection);
      connection.onclose = () => {
        clearTimeout(leaving);
      };
      connection.resume();
    } else connection.reset();
    return;
  }
  const carried = { sent: 0, received: 0 };
  const over = ledger.opened("tcp", name, connection.remote, carried);
  if (rest && rest.length > 0) {
    carried.sent += rest.length;
    stream.write(rest).catch(() => undefined);
  }
  const first = async (): Promise<Uint8Array> => {
    try {
      const follows = await answerOf(stream);
      if (answer) connection.write(answer(undefined));
      return follows;
    } catch (cause) {
      const error = asDcpipeError(cause, "IO");
      if (error.code === "REFUSED") ledger.refused("them", name, error.message);
      if (answer) connection.write(answer(error));
      throw error;
    }
  };
  over(await carry(connection, stream, { carried, first, polite: answer !== undefined, pacer }));
}
