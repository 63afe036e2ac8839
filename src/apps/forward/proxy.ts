/** A port at which clients name their targets themselves: SOCKS 4, 4a and 5 (RFC 1928), and HTTP CONNECT (RFC 9110, section 9.3.6). */
import type { Session } from "../../session/session.ts";
import type { Place } from "../../wire/forward.ts";
import type { Target } from "../../wire/header.ts";
import type { Pacer } from "../limit.ts";
import type { Ledger } from "./events.ts";
import { Flows, type Flow } from "./flows.ts";
import { withSession, type Listening } from "./listening.ts";
import type { Connection, DatagramListener, Network } from "./network.ts";
import { openConnection } from "./opening.ts";
import { decodeUdpRequest, encodeUdpReply, failure, Handshake, success, type SocksRequest } from "./socks.ts";
import { formatTarget } from "./spec.ts";

/** A client that has not said what it wants after this never will, or serves to use up connections. Milliseconds. */
const HANDSHAKE_MS = 30_000;

interface Proxy {
  readonly network: Network;
  readonly ledger: Ledger;
  readonly place: Place;
  readonly pacer: (session: Session) => Pacer | undefined;
  readonly awaitSession: () => Promise<Session>;
}

/** Rejects with USAGE. */
export async function listenForProxy(proxy: Proxy): Promise<Listening> {
  return proxy.network.listen(proxy.place, (connection) => {
    greet(connection, proxy);
  });
}

/** Takes the client's handshake to its end, then serves what it asks for. */
function greet(connection: Connection, proxy: Proxy): void {
  const handshake = new Handshake();
  const timer = setTimeout(() => {
    connection.reset();
  }, HANDSHAKE_MS);
  connection.onclose = () => {
    clearTimeout(timer);
  };
  connection.onend = () => {
    connection.reset();
  };
  connection.ondata = (chunk) => {
    const step = handshake.push(chunk);
    if (step.reply.length > 0) connection.write(step.reply);
    if (step.type === "reject") {
      connection.end();
      // What else it sends is of no interest; and when it ends, the answer may still be on its way.
      connection.ondata = undefined;
      connection.onend = undefined;
      return;
    }
    if (step.type === "more") return;
    const { request } = step;
    clearTimeout(timer);
    connection.pause();
    connection.ondata = undefined;
    connection.onend = undefined;
    void withSession(connection, proxy.awaitSession, (session) =>
      request.command === "connect"
        ? openConnection(connection, {
            session,
            target: request.target,
            name: formatTarget(request.target, "tcp"),
            ledger: proxy.ledger,
            pacer: proxy.pacer(session),
            rest: request.rest,
            answer: (error) => (error ? failure(request.dialect, error) : success(request.dialect)),
          })
        : associate(connection, request, session, proxy),
    );
  };
  connection.resume();
}

/**
 * UDP ASSOCIATE (RFC 1928, section 7): a port of its own for the client's datagrams, each with its target in front, for as long as the
 * connection stands. The first who sends there is the client; nobody else is served.
 */
async function associate(
  connection: Connection,
  request: SocksRequest,
  session: Session,
  proxy: Proxy,
): Promise<void> {
  const { network, ledger } = proxy;
  const overs = new WeakMap<Flow, (error?: Parameters<ReturnType<Ledger["opened"]>>[0]) => void>();
  const targets = new Map<string, Target & { type: "host" }>();
  const latest = new Map<string, Flow>();
  let client: string | undefined;
  let listener: DatagramListener | undefined;
  const flows = new Flows(
    (key) => {
      // The client has to ask for another port, which goes over the next session.
      if (session.state === "closed") connection.reset();
      const target = targets.get(key);
      return target && { session, target };
    },
    (payload, key) => {
      const target = targets.get(key);
      if (target && client !== undefined)
        listener?.send(encodeUdpReply(target.host, target.port, payload), client);
    },
    {
      opened: (key, flow) => {
        latest.set(key, flow);
        overs.set(flow, ledger.opened("udp", key, client, flow.carried));
      },
      closed: (key, flow, error) => {
        if (error?.code === "REFUSED") ledger.refused("them", key, error.message);
        // One that made room may have been begun anew since.
        if (latest.get(key) === flow) {
          latest.delete(key);
          targets.delete(key);
        }
        overs.get(flow)?.(error);
      },
    },
  );
  const over = new Promise<void>((resolve) => {
    connection.onclose = () => {
      resolve();
    };
  });
  connection.onend = () => {
    connection.end();
  };
  try {
    const place: Place = { type: "host", address: connection.local, port: 0 };
    listener = await network.listenDatagrams(place, (datagram, from) => {
      client ??= from;
      const asked = from === client ? decodeUdpRequest(datagram) : undefined;
      if (!asked) return;
      const key = formatTarget(asked.target, "udp");
      targets.set(key, asked.target);
      flows.take(asked.payload, key);
    });
  } catch {
    connection.reset();
    flows.close();
    return;
  }
  session.wantDatagrams();
  if (listener.place.type === "host") connection.write(success(request.dialect, listener.place));
  connection.resume();
  await over;
  flows.close();
  await listener.close();
}
