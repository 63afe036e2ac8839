/** One question to the router and its answer, each a datagram, as PCP and NAT-PMP have them. */
import { createSocket } from "node:dgram";
import { DcpipeError } from "../../errors.ts";
import { connectionFailure, formatHost } from "../net/failure.ts";
import type { Gateway } from "./gateway.ts";
import type { Wait } from "./wait.ts";

/** The first time a question is asked again; then each time after twice as long (RFC 6886, section 3.1). */
const FIRST_GAP_MS = 250;

export interface Question<T> {
  readonly gateway: Gateway;
  /** UDP port of the router. */
  readonly port: number;
  readonly request: Uint8Array;
  /** What an answer says, undefined for what is none. Never throws. */
  readonly read: (answer: Buffer) => T | undefined;
}

/**
 * Asks from our address that the router sees, again and again, until there is an answer from where it was asked. Rejects with
 * CONNECTION_REFUSED (ICMP port unreachable: RFC 6886, section 3.1, takes it for a no), UNREACHABLE, LIMIT or IO, and when the wait
 * is over with TIMEOUT.
 */
export function ask<T>({ gateway, port, request, read }: Question<T>, { signal, holds }: Wait): Promise<T> {
  const where = formatHost(gateway.address, port);
  return new Promise((resolve, reject) => {
    const socket = createSocket("udp4");
    if (!holds) socket.unref();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let gap = FIRST_GAP_MS;
    let isSettled = false;
    const settle = (how: () => void): void => {
      if (isSettled) return;
      isSettled = true;
      clearTimeout(timer);
      signal.removeEventListener("abort", late);
      socket.close();
      how();
    };
    const late = (): void => {
      settle(() => {
        reject(new DcpipeError("TIMEOUT", `${where} does not answer`));
      });
    };
    const failed = (error: unknown): void => {
      settle(() => {
        reject(connectionFailure(error, where));
      });
    };
    const send = (): void => {
      socket.send(request, (error) => {
        if (error) failed(error);
      });
      timer = setTimeout(send, gap);
      if (!holds) timer.unref();
      gap *= 2;
    };
    socket.on("error", failed);
    socket.on("message", (answer, from) => {
      // What came before the socket was connected may be anybody's.
      if (isSettled || from.address !== gateway.address || from.port !== port) return;
      const value = read(answer);
      if (value === undefined) return;
      settle(() => {
        resolve(value);
      });
    });
    signal.addEventListener("abort", late);
    if (signal.aborted) {
      late();
      return;
    }
    socket.bind({ address: gateway.local, port: 0, exclusive: true }, () => {
      if (isSettled) return;
      // A connected socket is told when nobody listens there.
      socket.connect(port, gateway.address, (error?: unknown) => {
        if (isSettled) return;
        if (error === undefined || error === null) send();
        else failed(error);
      });
    });
  });
}
