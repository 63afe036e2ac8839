/** Ports of this machine that lead to the other side, for connections and for datagrams. */
import type { DcpipeError } from "../../errors.ts";
import type { Session } from "../../session/session.ts";
import type { Place, Protocol } from "../../wire/forward.ts";
import type { Target } from "../../wire/header.ts";
import type { Pacer } from "../limit.ts";
import type { Ledger } from "./events.ts";
import { Flows, type Flow } from "./flows.ts";
import type { Connection, Network } from "./network.ts";
import { openConnection } from "./opening.ts";

export interface Listening {
  readonly place: Place;
  close(): Promise<void>;
}

export interface ListeningOptions {
  readonly network: Network;
  readonly ledger: Ledger;
  /** What caps the rate of a session. */
  readonly pacer: (session: Session) => Pacer | undefined;
  readonly protocol: Protocol;
  readonly place: Place;
  readonly target: Target;
  /** The target for people. */
  readonly name: string;
  /** The session to use: undefined while there is none, then the datagram is dropped. */
  readonly session: () => Session | undefined;
  /** The same for a connection, which may wait for one. Rejects when none came in time. */
  readonly awaitSession: () => Promise<Session>;
}

/** Rejects with USAGE. */
export async function listen(options: ListeningOptions): Promise<Listening> {
  return options.protocol === "udp" ? listenForDatagrams(options) : listenForConnections(options);
}

async function listenForConnections(options: ListeningOptions): Promise<Listening> {
  const { network, ledger, pacer, place, target, name } = options;
  return network.listen(place, (connection) => {
    void withSession(connection, options.awaitSession, (session) =>
      openConnection(connection, { session, target, name, ledger, pacer: pacer(session) }),
    );
  });
}

/** Runs `use` when there is a session; resets a client for whom there is none. */
export async function withSession(
  connection: Connection,
  awaitSession: () => Promise<Session>,
  use: (session: Session) => Promise<void>,
): Promise<void> {
  let session: Session;
  try {
    session = await awaitSession();
  } catch {
    connection.reset();
    return;
  }
  await use(session);
}

async function listenForDatagrams(options: ListeningOptions): Promise<Listening> {
  const { network, ledger, place, target, name } = options;
  const overs = new WeakMap<Flow, (error?: DcpipeError) => void>();
  const flows = new Flows(
    () => {
      const session = options.session();
      return session && { session, target };
    },
    (payload, from) => {
      listener.send(payload, from);
    },
    {
      opened: (from, flow) => {
        overs.set(flow, ledger.opened("udp", name, from, flow.carried));
      },
      closed: (_, flow, error) => {
        if (error?.code === "REFUSED") ledger.refused("them", name, error.message);
        overs.get(flow)?.(error);
      },
    },
  );
  const listener = await network.listenDatagrams(place, (payload, from) => {
    flows.take(payload, from);
  });
  return {
    place: listener.place,
    close: async () => {
      flows.close();
      await listener.close();
    },
  };
}
