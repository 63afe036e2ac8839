/**
 * Which STUN server answers? The WebRTC library picks one of its list at random and says nothing when that one is dead, so
 * all are asked here at once, with plain Binding requests (RFC 8489, section 5), and the first to answer is used.
 */
import { randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { lookup } from "node:dns/promises";

export interface StunServer {
  readonly host: string;
  readonly port: number;
}

const MAGIC_COOKIE = 0x2112a442;
const BINDING_REQUEST = 0x0001;
const BINDING_RESPONSE = 0x0101;
/** A lost packet is asked again; three tries fit the time we have. */
const RETRY_MS = 300;

/** The address of the first server to answer within `timeoutMs`, or undefined. Never rejects. */
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
    const tries = servers.map((server) => ask(server, stop.signal));
    return await Promise.race([Promise.any(tries).catch(() => undefined), late]);
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}

/** Resolves with the server's address when it answers; rejects when it cannot be reached. */
async function ask({ host, port }: StunServer, signal: AbortSignal): Promise<StunServer> {
  const addresses = await lookup(host, { all: true });
  return Promise.any(addresses.map(({ address, family }) => askAddress(address, family, port, signal)));
}

function askAddress(address: string, family: number, port: number, signal: AbortSignal): Promise<StunServer> {
  return new Promise((resolve, reject) => {
    const socket: Socket = createSocket(family === 6 ? "udp6" : "udp4");
    const transaction = randomBytes(12);
    const request = Buffer.alloc(20);
    request.writeUInt16BE(BINDING_REQUEST, 0);
    request.writeUInt32BE(MAGIC_COOKIE, 4);
    transaction.copy(request, 8);
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
      if (done || message.length < 20 || message.readUInt16BE(0) !== BINDING_RESPONSE) return;
      if (!message.subarray(8, 20).equals(transaction)) return;
      done = true;
      finish();
      resolve({ host: address, port });
    });
    if (signal.aborted) aborted();
    else send();
  });
}
