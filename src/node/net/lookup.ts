/** What sockets for datagrams ask for the address behind a name. */
import { isIPv6 } from "node:net";

/** Node asks at each send; ours are addresses already. */
export function stay(
  address: string,
  _options: unknown,
  callback: (error: NodeJS.ErrnoException | null, address: string, family: number) => void,
): void {
  callback(null, address, isIPv6(address) ? 6 : 4);
}
