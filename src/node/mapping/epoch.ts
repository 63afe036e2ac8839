/** Whether a router still knows what it was told: its answers carry the seconds since it began to keep mappings. */

/**
 * Remembers the last answer's epoch, and says of each next one whether the router has lost its state in between (RFC 6887,
 * section 8.5): its clock went back, or not at the pace of ours. Of the first answer nothing can be said.
 *
 * @param now Our clock, ms.
 */
export function createEpoch(now: () => number = () => performance.now()): (epoch: number) => boolean {
  let last: { readonly server: number; readonly client: number } | undefined;
  return (server) => {
    const client = now() / 1_000;
    const before = last;
    last = { server, client };
    if (!before) return false;
    // Packets overtake each other: one second backwards is none.
    if (server + 1 < before.server) return true;
    const [clientDelta, serverDelta] = [client - before.client, server - before.server];
    // Two seconds of rounding, and clocks that are wrong by a sixteenth.
    return (
      clientDelta + 2 < serverDelta - serverDelta / 16 || serverDelta + 2 < clientDelta - clientDelta / 16
    );
  };
}
