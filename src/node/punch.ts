/**
 * UDP hole punching against one NAT whose mapping depends on the destination: many sockets on that side, many calls from the other.
 *
 *   many   256 sockets --call--> ADDRESS:PORT           opens 256 outer ports to it, and nobody knows which
 *   one    its socket  --call--> ADDRESS:random port    until a call meets one of them
 *   many   the socket that was met --answer--> back
 *   one    the first of what comes tells the way: --answer--> there, three times; both are done
 *
 * A router without a packet filter takes what comes to a pair of ports that is not in use for its own, and keeps that pair from those
 * behind it for half a minute (seen with Linux). Where the many have such a router their calls must come first, where the one has it,
 * last; so they come in the middle.
 */
import { randomInt, timingSafeEqual } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { setTimeout as pause } from "node:timers/promises";
import {
  PUNCH_MS,
  PUNCH_SOCKETS,
  type Hole,
  type Punch,
  type PunchFromMany,
  type PunchFromOne,
} from "../transport/nat.ts";

/** With fewer sockets most attempts are in vain. */
const LEAST_SOCKETS = 128;
/** How many ports are called, and how fast: 22 kB a second for three seconds, headers and all. */
const CALLS = 1500;
const CALLS_PER_SECOND = 500;
/** When the many call: either half of the other side's calls hits one of 256 ports with a probability of 0.95, both with 0.997. */
const MIDDLE_MS = (CALLS / CALLS_PER_SECOND) * 500;
/** How fast the sockets call: all at once are more than some queues hold. */
const SOCKETS_PER_SECOND = 1000;
const TICK_MS = 10;
/** NATs do not give out the ports below (RFC 4787, section 4.2). */
const FIRST_PORT = 1024;
const LAST_PORT = 65_535;
/** Of one socket. A call comes once to each, unless somebody plays it back. */
const MAX_ANSWERS = 3;
/** The last answer goes out so often, so many ms apart: nothing says that it has come. */
const FAREWELLS = 3;
const FAREWELL_MS = 50;
/** A port that was a connection's a moment ago is free within this; looked at so often, in ms. */
const RELEASE_MS = 2000;
const RELEASE_LOOK_MS = 20;

export const punch: Punch = async (attempt) => {
  const stop = new AbortController();
  const end = (): void => {
    stop.abort();
  };
  const timer = setTimeout(end, PUNCH_MS);
  attempt.signal.addEventListener("abort", end);
  if (attempt.signal.aborted) end();
  const sockets: Socket[] = [];
  try {
    return await (attempt.from === "many"
      ? fromMany(attempt, sockets, stop.signal)
      : fromOne(attempt, sockets, stop.signal));
  } catch {
    // The time is over, or there are not enough sockets to be had.
    return undefined;
  } finally {
    clearTimeout(timer);
    attempt.signal.removeEventListener("abort", end);
    stop.abort();
    await Promise.all(sockets.map(close));
  }
};

async function fromMany(
  { ports, bind, address, port, ours, theirs }: PunchFromMany,
  sockets: Socket[],
  signal: AbortSignal,
): Promise<Hole> {
  const locals = ports ? shuffled(...ports) : undefined;
  const open = async (): Promise<Socket | undefined> => {
    if (!locals) return openSocket(0, bind);
    // No for: leaving it would end the generator.
    for (let next = locals.next(); !next.done; next = locals.next()) {
      const socket = await openSocket(next.value, bind);
      if (socket) return socket;
    }
    return undefined;
  };
  return untilAborted(signal, async (resolve) => {
    await pause(MIDDLE_MS, undefined, { signal });
    await pace(PUNCH_SOCKETS, SOCKETS_PER_SECOND, signal, async () => {
      const socket = await open();
      if (!socket) return;
      if (signal.aborted) {
        socket.close();
        return;
      }
      sockets.push(socket);
      let answers = 0;
      socket.on("message", (message, from) => {
        if (from.address !== address || from.port !== port) return;
        if (same(message, theirs.answer)) resolve({ local: socket.address().port, address, port });
        else if (same(message, theirs.call) && answers++ < MAX_ANSWERS) void send(socket, ours.answer, from);
      });
      void send(socket, ours.call, { address, port });
    });
    if (sockets.length < LEAST_SOCKETS) throw new Error("too few sockets");
  });
}

async function fromOne(
  { local, bind, address, ours, theirs }: PunchFromOne,
  sockets: Socket[],
  signal: AbortSignal,
): Promise<Hole> {
  let socket: Socket | undefined;
  for (let waited = 0; !socket && waited <= RELEASE_MS; waited += RELEASE_LOOK_MS) {
    if (waited > 0) await pause(RELEASE_LOOK_MS, undefined, { signal });
    socket = await openSocket(local, bind);
  }
  if (!socket) throw new Error("the port is in use");
  sockets.push(socket);
  const one = socket;
  let found: number | undefined;
  return untilAborted(signal, async (resolve) => {
    one.on("message", (message, from) => {
      if (found !== undefined || from.address !== address) return;
      if (!same(message, theirs.call) && !same(message, theirs.answer)) return;
      found = from.port;
      pace(FAREWELLS, 1000 / FAREWELL_MS, signal, () => send(one, ours.answer, from)).then(
        () => {
          resolve({ local, address, port: from.port });
        },
        // The time is over.
        () => undefined,
      );
    });
    const ports = shuffled(FIRST_PORT, LAST_PORT);
    await pace(CALLS, CALLS_PER_SECOND, signal, () => {
      const next = found === undefined ? ports.next() : undefined;
      if (next?.done === false) void send(one, ours.call, { address, port: next.value });
    });
  });
}

/** Runs `work`, and waits for it to resolve something when it is done itself. Rejects with its error, and when aborted. */
function untilAborted<T>(
  signal: AbortSignal,
  work: (resolve: (value: T) => void) => Promise<void>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => {
      reject(new Error("aborted"));
    });
    work(resolve).catch(reject);
  });
}

/** Runs `step` so many times at this rate, or slower. Rejects when aborted. */
async function pace(
  count: number,
  perSecond: number,
  signal: AbortSignal,
  step: () => void | Promise<void>,
): Promise<void> {
  const tick = Math.max(TICK_MS, 1000 / perSecond);
  const burst = Math.round((perSecond * tick) / 1000);
  for (let done = 0; done < count; done++) {
    if (done > 0 && done % burst === 0) await pause(tick, undefined, { signal });
    signal.throwIfAborted();
    await step();
  }
}

/** The numbers from `first` to `last` in random order. */
function* shuffled(first: number, last: number): Generator<number, undefined> {
  const numbers = Uint16Array.from({ length: last - first + 1 }, (_, i) => first + i);
  for (let left = numbers.length; left > 0; left--) {
    const i = randomInt(left);
    yield numbers[i] ?? 0;
    numbers[i] = numbers[left - 1] ?? 0;
  }
}

/** Undefined when the port is taken, or no socket is to be had. */
function openSocket(port: number, address: string | undefined): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    const failed = (): void => {
      socket.close();
      resolve(undefined);
    };
    socket.once("error", failed);
    socket.bind({ port, address, exclusive: true }, () => {
      socket.off("error", failed);
      // Of single packets, which may be lost.
      socket.on("error", () => undefined);
      resolve(socket);
    });
  });
}

function close(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.removeAllListeners("message");
    socket.close(resolve);
  });
}

/** Resolves when it is gone, or cannot go. */
function send(
  socket: Socket,
  bytes: Uint8Array,
  to: { readonly address: string; readonly port: number },
): Promise<void> {
  return new Promise((resolve) => {
    socket.send(bytes, to.port, to.address, () => {
      resolve();
    });
  });
}

function same(message: Uint8Array, tag: Uint8Array): boolean {
  return message.length === tag.length && timingSafeEqual(message, tag);
}
