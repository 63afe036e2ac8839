/**
 * Which STUN server answers? The WebRTC library picks one of its list at random and says nothing when that one is dead, so
 * all are asked here at once, with plain Binding requests (RFC 8489, section 5), and the first to answer is used.
 */
import { randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { decodeMessage, encodeRequest, TRANSACTION_SIZE } from "./stun/message.ts";

export interface StunServer {
  readonly host: string;
  readonly port: number;
}

/** A lost packet is asked again; three tries fit the time we have. */
const RETRY_MS = 300;

/**
 * The address of the first server to answer within `timeoutMs`, or undefined. Never rejects. One that answers over IPv6 is the choice
 * only when none does over IPv4: only one is used, and what is behind a NAT are IPv4 addresses.
 */
export async function findStunServer(
  servers: readonly StunServer[],
  timeoutMs: number,
): Promise<StunServer | undefined> {
  if (servers.length === 0) return undefined;
  const stop = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => {
      resolve(undefined);
    }, timeoutMs);
  });
  try {
    let overIpv6: StunServer | undefined;
    const tries = servers.map((server) => ask(server, stop.signal, (found) => (overIpv6 ??= found)));
    return (await Promise.race([Promise.any(tries).catch(() => undefined), late])) ?? overIpv6;
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}

/**
 * Resolves with the server's IPv4 address when it answers there, with its IPv6 address when it cannot answer over IPv4; tells `onipv6` as
 * soon as it answers over IPv6. Rejects when it cannot be reached.
 */
async function ask(
  { host, port }: StunServer,
  signal: AbortSignal,
  onipv6: (found: StunServer) => void,
): Promise<StunServer> {
  const addresses = await lookup(host, { all: true });
  const [four, six] = [4, 6].map((wanted) =>
    Promise.any(
      addresses
        .filter(({ family }) => family === wanted)
        .map(({ address, family }) => askAddress(address, family, port, signal)),
    ),
  ) as [Promise<StunServer>, Promise<StunServer>];
  six.then(onipv6, () => undefined);
  return four.catch(() => six);
}

function askAddress(address: string, family: number, port: number, signal: AbortSignal): Promise<StunServer> {
  return new Promise((resolve, reject) => {
    const socket: Socket = createSocket(family === 6 ? "udp6" : "udp4");
    const transaction = randomBytes(TRANSACTION_SIZE);
    const request = encodeRequest(transaction);
    const send = (): void => {
      socket.send(request, port, address, (error) => {
        if (error) fail(error);
      });
    };
    const retry = setInterval(send, RETRY_MS);
    const finish = (): void => {
      clearInterval(retry);
      signal.removeEventListener("abort", aborted);
      socket.removeAllListeners();
      socket.on("error", () => undefined);
      socket.close();
    };
    let done = false;
    const fail = (error: Error): void => {
      if (done) return;
      done = true;
      finish();
      reject(error);
    };
    const aborted = (): void => {
      fail(new Error("aborted"));
    };
    signal.addEventListener("abort", aborted);
    socket.on("error", fail);
    socket.on("message", (message) => {
      const answer = decodeMessage(message);
      if (done || answer?.type !== "success" || answer.transaction !== transaction.toString("hex")) return;
      done = true;
      finish();
      resolve({ host: address, port });
    });
    if (signal.aborted) aborted();
    else send();
  });
}
