/** The side that dials: the other side asks for a connection or a flow to a target, the rules say whether it may. */
import { asDcpipeError, DcpipeError } from "../../errors.ts";
import type { Stream } from "../../session/stream.ts";
import type { Protocol } from "../../wire/forward.ts";
import { REASONS } from "../../wire/frame.ts";
import type { Target } from "../../wire/header.ts";
import { isReason } from "../endpoints.ts";
import type { Pacer } from "../limit.ts";
import { carry, CONNECTED } from "./carry.ts";
import type { Ledger } from "./events.ts";
import { Flow, IDLE_MS } from "./flows.ts";
import type { Address, Connection, DatagramSocket, Network } from "./network.ts";

export interface Acceptor {
  readonly network: Network;
  readonly ledger: Ledger;
  readonly pacer: Pacer | undefined;
  /** What may be dialled for it, first choice first, and its name for people. Rejects with REFUSED, NAME_UNKNOWN, PROTOCOL. */
  readonly permit: (
    protocol: Protocol,
    target: Target,
  ) => Promise<{ addresses: readonly Address[]; name: string }>;
}

/** The opener of a flow ends it when it is idle; one that does not is not waited for much longer. */
const PATIENCE_MS = 3 * IDLE_MS;

/** Serves a stream of kind `connect`. Never rejects. */
export async function acceptConnection(stream: Stream, target: Target, acceptor: Acceptor): Promise<void> {
  const { ledger, pacer } = acceptor;
  const gone = new AbortController();
  const abort = (): void => {
    gone.abort();
  };
  stream.closed.then(abort, abort);
  let connection: Connection;
  let name: string;
  try {
    const permitted = await acceptor.permit("tcp", target);
    name = permitted.name;
    connection = await dialFirst(permitted.addresses, acceptor.network, gone.signal);
  } catch (cause) {
    refuse(stream, cause);
    return;
  }
  const carried = { sent: 0, received: 0 };
  const over = ledger.opened("tcp", name, undefined, carried);
  stream.write(Uint8Array.of(CONNECTED)).catch(() => undefined);
  over(await carry(connection, stream, { carried, pacer }));
}

/** Serves a stream of kind `flow`. Never rejects. */
export async function acceptFlow(stream: Stream, target: Target, acceptor: Acceptor): Promise<void> {
  const { network, ledger } = acceptor;
  let socket: DatagramSocket | undefined;
  const flow = new Flow(stream, (payload) => socket?.send(payload));
  let name: string;
  try {
    const permitted = await acceptor.permit("udp", target);
    name = permitted.name;
    const [address] = permitted.addresses;
    if (!address) throw new DcpipeError("NAME_UNKNOWN", `${name} has no address`);
    socket = await network.dialDatagrams(address, {
      ondatagram: (payload) => {
        flow.send(payload);
      },
      // As lost as on a network: the client's own patience decides.
      onerror: () => undefined,
    });
  } catch (cause) {
    refuse(stream, cause);
    return;
  }
  const over = ledger.opened("udp", name, undefined, flow.carried);
  stream.write(Uint8Array.of(CONNECTED)).catch(() => undefined);
  // What came before waits in the stream until now.
  flow.listen();
  const idle = setInterval(() => {
    if (performance.now() - flow.used > PATIENCE_MS) stream.reset("TIMEOUT", "idle");
  }, PATIENCE_MS / 4);
  let failure: DcpipeError | undefined;
  try {
    await flow.run({ answered: false });
    stream.end().catch(() => undefined);
  } catch (cause) {
    failure = asDcpipeError(cause, "IO");
    stream.reset(failure.code === "PROTOCOL" ? "PROTOCOL" : "CLOSED", "");
  } finally {
    clearInterval(idle);
    socket.close();
  }
  over(failure);
}

/** Dials one address after the other, until one has answered. Rejects with the first failure: that of the address preferred. */
async function dialFirst(
  addresses: readonly Address[],
  network: Network,
  signal: AbortSignal,
): Promise<Connection> {
  let failure: DcpipeError | undefined;
  for (const address of addresses) {
    try {
      return await network.dial(address, { signal });
    } catch (cause) {
      const error = asDcpipeError(cause, "IO");
      failure ??= error;
      if (!ELSEWHERE.includes(error.code)) throw error;
    }
  }
  throw failure ?? new DcpipeError("NAME_UNKNOWN", "the name has no address");
}

/** After these another address may do. */
const ELSEWHERE: readonly string[] = ["CONNECTION_REFUSED", "UNREACHABLE", "TIMEOUT"];

function refuse(stream: Stream, cause: unknown): void {
  const { code, message } = asDcpipeError(cause, "IO");
  stream.reset(isReason(code, REASONS) ? code : "IO", message);
}
