/** A rendezvous of the tests' own, and two sides that meet there by code. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server as TcpServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import { onTestFinished } from "vitest";
import { type Dcpipe, start, type StartOptions } from "./dcpipe.ts";

/** Between two looks at the figures of a server, which tells nobody when they change. */
const LOOK_MS = 20;

/** A server process. */
export interface Server {
  readonly process: Dcpipe;
  readonly port: number;
  /** As clients write it; on this machine, unless it runs in a namespace. */
  readonly url: string;
  /** A sample of its metrics: `dcpipe_matches_total`, `dcpipe_outcomes_total{outcome="direct"}`. */
  metric(name: string): Promise<number>;
  /** Resolves when that sample has this value. */
  counts(name: string, value: number): Promise<void>;
}

export async function startServer(
  args: readonly string[] = [],
  { address = "127.0.0.1", port = 0, ...options }: StartOptions & { address?: string; port?: number } = {},
): Promise<Server> {
  const process = start(["rendezvous", "--json", "--listen", `${address}:${port}`, ...args], options);
  const given = Number((await process.event("listening"))["port"]);
  const url = `http://${address}:${given}/`;
  const metric = async (name: string): Promise<number> => {
    const text = await (await fetch(`${url}metrics`, { headers: { connection: "close" } })).text();
    const line = text.split("\n").find((each) => each.startsWith(`${name} `));
    if (line === undefined) throw new Error(`no metric ${name} in\n${text}`);
    return Number(line.slice(name.length + 1));
  };
  return {
    process,
    port: given,
    url,
    metric,
    counts: async (name, value) => {
      while ((await metric(name)) !== value) await pause(LOOK_MS);
    },
  };
}

/** Starts a waiting side at the rendezvous and, with its code, a joining side. */
export async function pairByCode(
  url: string,
  waiting: readonly [args: readonly string[], options?: StartOptions | undefined],
  joining: readonly [args: readonly string[], options?: StartOptions | undefined],
): Promise<{ waiting: Dcpipe; joining: Dcpipe; code: string }> {
  const waits = start([...waiting[0], "--rendezvous", url], waiting[1]);
  const code = await waits.code();
  const joins = start([...joining[0], "--to", code, "--rendezvous", url], joining[1]);
  return { waiting: waits, joining: joins, code };
}

/** The same nameplate with words that are none of this code's. */
export function otherWords(code: string): string {
  const [nameplate, ...words] = code.split("-");
  return [nameplate, ...words.map((word) => (word === "acorn" ? "zebra" : "acorn"))].join("-");
}

/** Listens on loopback until the test is over, and then cuts whatever is connected. Returns the port. */
export async function listen(server: TcpServer, port = 0): Promise<number> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket.on("error", () => undefined));
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

/** Joins two sockets until one of them is gone. */
export function join(one: Duplex, other: Duplex): void {
  one.pipe(other).pipe(one);
  for (const [each, against] of [
    [one, other],
    [other, one],
  ] as const) {
    each.on("error", () => undefined);
    each.on("close", () => against.destroy());
  }
}

/** A port that is free at the moment, for a program that cannot pick one itself. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
