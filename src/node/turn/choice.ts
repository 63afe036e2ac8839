/** Which TURN servers a peer connection tries, since the WebRTC library takes two at most. */
import type { TurnServer } from "../../transport/peer.ts";

/**
 * One list for UDP, which is faster, and one for TCP and TLS, which pass more firewalls; where there is but one kind, its servers are dealt
 * out. Of each list one server is used, the first that works, so a later one stands in for those before it. The order is the caller's, with
 * those last that have failed of late.
 */
export function chooseServers(
  servers: readonly TurnServer[],
  hasFailed: (server: TurnServer) => boolean,
): TurnServer[][] {
  const distinct = servers.filter(
    (server, index) => servers.findIndex((other) => isSame(other, server)) === index,
  );
  const ordered = [...distinct.filter((server) => !hasFailed(server)), ...distinct.filter(hasFailed)];
  const datagrams = ordered.filter(({ transport }) => transport === "udp");
  const streams = ordered.filter(({ transport }) => transport !== "udp");
  const lists =
    datagrams.length > 0 && streams.length > 0
      ? [datagrams, streams]
      : [ordered.filter((_, index) => index % 2 === 0), ordered.filter((_, index) => index % 2 === 1)];
  return lists.filter((list) => list.length > 0);
}

export function isSame(one: TurnServer, other: TurnServer): boolean {
  return (
    one.host === other.host &&
    one.port === other.port &&
    one.transport === other.transport &&
    one.username === other.username &&
    one.password === other.password
  );
}
