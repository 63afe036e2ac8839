/** A site on a server of this process, a `dcpipe forward` in front of it, and the library at the other side. */
import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import type * as Library from "../../src/index.ts";
import { type Dcpipe, start } from "./dcpipe.ts";

const INDEX = new URL("../../dist/index.js", import.meta.url).href;
const { connect, httpOver, visit } = (await import(INDEX)) as typeof Library;

export interface Site extends Library.SessionHttp {
  readonly server: Server;
  /** `localhost:PORT` */
  readonly host: string;
  readonly forward: Dcpipe;
  readonly session: Library.Session;
  readonly visit: Library.Visit;
}

/** Serves until the test is over. */
export async function serveHttp(handler: RequestListener, path?: string): Promise<Server> {
  const server = createServer(handler);
  server.listen(path === undefined ? { host: "127.0.0.1", port: 0 } : { path });
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return server;
}

export function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

/** The library joins a forward that offers the handler's server, or what the arguments say. */
export async function openSite(
  handler: RequestListener,
  options: Library.HttpOptions & { readonly args?: readonly string[] } = {},
): Promise<Site> {
  const server = await serveHttp(handler);
  const host = `localhost:${portOf(server)}`;
  const forward = start(["forward", ...(options.args ?? [host])]);
  const session = await connect(await forward.offer(), { stun: [] }).session;
  const visiting = visit(session, "joining");
  visiting.done.catch(() => undefined);
  onTestFinished(() => {
    visiting.leave();
    session.fail(new Error("the test is over") as never);
  });
  const { fetch, WebSocket } = httpOver(session, { target: host, ...options });
  return { server, host, forward, session, visit: visiting, fetch, WebSocket };
}

/** The error with which it rejects, and that error's cause. */
export async function failureOf(attempt: Promise<unknown>): Promise<{ error: Error; code: string }> {
  try {
    await attempt;
  } catch (error) {
    const { cause } = error as { cause?: { code?: string } };
    return { error: error as Error, code: cause?.code ?? "" };
  }
  throw new Error("it did not fail");
}

/** A promise, and what settles it. */
export function deferred<T = void>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((yes) => {
    resolve = yes;
  });
  return { promise, resolve };
}
