/** Binding to an address and a port of this machine, for connections and for datagrams alike. */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { asDcpipeError, DcpipeError } from "../../errors.ts";
import type { Listener } from "../../apps/forward/network.ts";
import { formatHost, shortage, systemCode } from "./failure.ts";

export type Place = Listener["place"];
export type HostPlace = Extract<Place, { type: "host" }>;

/** Ports that the system picks for IPv4 and that are taken for IPv6 are rare: so many in a row do not happen by chance. */
const PICKS = 8;

export interface Bound {
  /** The one that was picked, for port 0. */
  readonly port: number;
  close(): void;
}

/**
 * Binds at every address that the place stands for, all with the same port: "" and `localhost` are both loopback addresses,
 * `*` is all of IPv4 and all of IPv6. The first one (IPv4) has to be free; the second is left out where the machine has no
 * IPv6 or somebody else has its port, as ssh does. Rejects with USAGE, LIMIT or IO.
 *
 * @param bind Binds one socket to an IP address; IPv6 sockets take IPv6 alone. Rejects with the system's error.
 */
export async function bindAll<T extends Bound>(
  place: HostPlace,
  bind: (address: string, port: number) => Promise<T>,
): Promise<{ readonly place: HostPlace; readonly bound: readonly T[] }> {
  const [address, second] = await addressesOf(place);
  for (let pick = 1; ; pick++) {
    const first = await bind(address, place.port).catch((cause: unknown) => {
      throw bindFailure(cause, address, place.port);
    });
    const told = { type: "host", address: place.address === "*" ? "*" : address, port: first.port } as const;
    if (second === undefined) return { place: told, bound: [first] };
    try {
      return { place: told, bound: [first, await bind(second, first.port)] };
    } catch (error) {
      const again = systemCode(error) === "EADDRINUSE" && place.port === 0 && pick < PICKS;
      if (!again) return { place: told, bound: [first] };
      first.close();
    }
  }
}

async function addressesOf({ address }: HostPlace): Promise<readonly [string, string?]> {
  const host = address.replace(/^\[(.*)\]$/, "$1");
  if (host === "" || host.toLowerCase() === "localhost") return ["127.0.0.1", "::1"];
  if (host === "*") return ["0.0.0.0", "::"];
  if (isIP(host) !== 0) return [host];
  const found = await lookup(host).catch((cause: unknown) => {
    throw new DcpipeError("USAGE", `${host} is no address of this machine`, { cause });
  });
  return [found.address];
}

function bindFailure(cause: unknown, address: string, port: number): DcpipeError {
  const usage = (text: string): DcpipeError => new DcpipeError("USAGE", text, { cause });
  switch (systemCode(cause)) {
    case "EADDRINUSE":
      return usage(`port ${port} of ${address} is in use`);
    case "EACCES":
    case "EPERM":
      return usage(
        `port ${port} of ${address} is not allowed${port < 1024 ? ": ports below 1024 need root here" : " here"}`,
      );
    case "EADDRNOTAVAIL":
    case "EAFNOSUPPORT":
    // A link-local address without its interface, or with one that is not there.
    case "EINVAL":
    case "ENODEV":
      return usage(`${address} is no address of this machine`);
    default:
      return shortage(cause) ?? asDcpipeError(cause, "IO", `cannot listen at ${formatHost(address, port)}`);
  }
}
