/** The rendezvous goes away: killed, started again, sent to rest, one of several. */
import { connect, createServer } from "node:net";
import { join as joinPath } from "node:path";
import { expect, test } from "vitest";
import { freePort, join, listen, pairByCode, type Server, startServer } from "./code.ts";
import {
  type Dcpipe,
  expectEqualFiles,
  makeFile,
  needs,
  Process,
  start,
  succeed,
  temporaryDirectory,
} from "./dcpipe.ts";

const MIB = 1024 * 1024;

/** It has lost the rendezvous and found it again, and waits with the code it had. */
async function expectBack(waiting: Dcpipe, code: string): Promise<void> {
  await waiting.event("rendezvous", ({ state }) => state === "back");
  const states = waiting.events.filter(({ event }) => event === "rendezvous").map((event) => event["state"]);
  expect(states).toEqual(["lost", "back"]);
  for (const event of waiting.events.filter(({ event }) => event === "code")) expect(event.code).toBe(code);
}

for (const signal of ["SIGKILL", "SIGTERM"] as const) {
  test(`${signal} to the server, which is started again: the waiting side comes back with its code`, async () => {
    const server = await startServer();
    const waiting = start(["pipe", "--rendezvous", server.url], { stdin: Buffer.from("there") });
    const code = await waiting.code();
    server.process.kill(signal);
    expect(await server.process.exited).toMatchObject(
      signal === "SIGKILL" ? { status: null, signal } : { status: 0, signal: null },
    );
    const lost = await waiting.event("rendezvous", ({ state }) => state === "lost");
    expect(lost.reason).toMatch(/rendezvous|127\.0\.0\.1/);
    const again = await startServer([], { port: server.port });
    await expectBack(waiting, code);
    const joining = start(["pipe", code, "--rendezvous", again.url]);
    await succeed(waiting, joining);
    expect(joining.stdout.toString()).toBe("there");
    await again.counts("dcpipe_matches_total", 1);
  });
}

test("the server is killed in mid-transfer: nobody notices", async () => {
  const server = await startServer();
  const [source, target] = [makeFile("f", 12 * MIB), temporaryDirectory()];
  const { waiting, joining } = await pairByCode(
    server.url,
    [["send", source, "--limit", "6M"]],
    [["receive", "-o", target]],
  );
  await joining.event("progress", ({ bytes = 0 }) => bytes > MIB);
  server.process.kill("SIGKILL");
  await server.process.exited;
  expect(joining.find("done")).toBeUndefined();
  await succeed(waiting, joining);
  expectEqualFiles(joinPath(target, "f"), source);
  for (const side of [waiting, joining])
    for (const event of ["rendezvous", "reconnecting"]) expect(side.find(event)).toBeUndefined();
});

// ---- several processes ----------------------------------------------------------------------------------------------

/** Passes each connection on to the first of its backends that takes it, as a balancer does. */
async function startBalancer(servers: readonly Server[]): Promise<{
  url: string;
  /** The order in which they are tried from now on. */
  order: Server[];
}> {
  const balancer = { url: "", order: [...servers] };
  const port = await listen(
    createServer((client) => {
      const attempt = (left: readonly Server[]): void => {
        const [first, ...others] = left;
        if (!first) {
          client.destroy();
          return;
        }
        const upstream = connect(first.port, "127.0.0.1");
        const next = (): void => {
          attempt(others);
        };
        upstream.once("error", next);
        upstream.once("connect", () => {
          upstream.off("error", next);
          join(client, upstream);
        });
      };
      attempt(balancer.order);
    }),
  );
  balancer.url = `http://127.0.0.1:${port}/`;
  return balancer;
}

/** Two processes on one Redis, behind a balancer. */
async function startTwo(): Promise<{
  servers: [Server, Server];
  balancer: Awaited<ReturnType<typeof startBalancer>>;
}> {
  const port = await freePort();
  const options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", temporaryDirectory()];
  const redis = new Process(["redis-server", "--port", String(port), ...options]);
  await redis.printed("Ready to accept connections");
  const store = ["--store", `redis://127.0.0.1:${port}`];
  const servers: [Server, Server] = [await startServer(store), await startServer(store)];
  return { servers, balancer: await startBalancer(servers) };
}

/** One connection for each side: the relay, when it is asked for in time, would be another. */
function meet({ url }: { readonly url: string }): readonly string[] {
  return ["--rendezvous", url, "--relay", "off"];
}

test("two sides meet through different processes", async (context) => {
  needs(context, "redis-server");
  const { servers, balancer } = await startTwo();
  const waiting = start(["pipe", ...meet(balancer)], { stdin: Buffer.from("there") });
  const code = await waiting.code();
  balancer.order.reverse();
  const joining = start(["pipe", code, ...meet(balancer)], { stdin: Buffer.from("back") });
  await succeed(waiting, joining);
  expect(joining.stdout.toString()).toBe("there");
  expect(waiting.stdout.toString()).toBe("back");
  for (const server of servers) {
    await server.counts("dcpipe_connections", 0);
    expect(await server.metric("dcpipe_connections_total")).toBe(1);
  }
  const matches = await Promise.all(servers.map((server) => server.metric("dcpipe_matches_total")));
  expect(matches).toEqual([0, 1]);
});

for (const signal of ["SIGKILL", "SIGTERM"] as const) {
  test(`${signal} to the process where the waiting side is: it goes on at the other one`, async (context) => {
    needs(context, "redis-server");
    const { servers, balancer } = await startTwo();
    const waiting = start(["pipe", ...meet(balancer)], { stdin: Buffer.from("there") });
    const code = await waiting.code();
    servers[0].process.kill(signal);
    await servers[0].process.exited;
    await expectBack(waiting, code);
    // It was resumed, not allocated anew.
    expect(waiting.events.filter(({ event }) => event === "code")).toHaveLength(1);
    const joining = start(["pipe", code, ...meet(balancer)]);
    await succeed(waiting, joining);
    expect(joining.stdout.toString()).toBe("there");
    expect(await servers[1].metric("dcpipe_connections_total")).toBe(2);
    // Used is used, wherever that is known.
    const late = start(["pipe", code, ...meet(balancer)]);
    expect((await late.exited).status).toBe(4);
    expect(late.error).toMatchObject({ code: "CODE_USED" });
  });
}
