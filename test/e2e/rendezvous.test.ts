/** dcpipe rendezvous as people run it: processes, signals, Redis, coturn. */
import { execFile } from "node:child_process";
import { connect, createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { CLOSE } from "../../src/wire/rendezvous.ts";
import { redisTest, sharedRedis, startRedis } from "../unit/redis.ts";
import { relay, relayPair, through } from "../unit/relays.ts";
import { allocate, body, claim, newKey, Visitor, type Server } from "../unit/visitor.ts";
import { BIN, fail, Process, start, temporaryDirectory, type StartOptions } from "./dcpipe.ts";

type Running = Omit<Server, "rendezvous"> & { process: Process };

/** Starts one on a free port, and waits until it listens. */
async function run(args: readonly string[] = [], options?: StartOptions): Promise<Running> {
  const argv = [process.execPath, BIN, "rendezvous", "--listen", "0", "--json", ...args];
  const started = new Process(argv, options);
  const event = await started.until(
    "the event listening",
    () => /^{"event":"listening".*}$/m.exec(started.stderr)?.[0],
  );
  const { protocol, address, port } = JSON.parse(event) as Record<string, unknown>;
  expect({ protocol, address }).toEqual({ protocol: "http", address: "127.0.0.1" });
  const url = `ws://127.0.0.1:${port as number}/`;
  return {
    process: started,
    url,
    http: url.replace("ws", "http"),
    visit: (visit) => new Visitor(url, visit),
  };
}

/** The helpers ask for a server in this process; these only visit it. */
function visited(running: Running): Server {
  return running as unknown as Server;
}

async function healthy(running: Running): Promise<number> {
  return (await fetch(`${running.http}healthz`)).status;
}

test("people are told how to use it, and nothing is on stdout", async () => {
  const started = start(["rendezvous", "--listen", "127.0.0.1:0"]);
  const url = await started.until("its URL", () => /Rendezvous at (http:\S+)/.exec(started.stderr)?.[1]);
  await started.until(
    "a command",
    () => started.stderr.includes(`dcpipe send FILE --rendezvous ${url}`) || undefined,
  );
  expect((await fetch(url)).status).toBe(200);
  started.kill("SIGTERM");
  expect(await started.exited).toMatchObject({ status: 0, signal: null });
  expect(started.stdout.length).toBe(0);
});

test.each([
  ["SIGTERM", 0],
  ["SIGINT", 130],
] as const)("%s: clients are sent away, status %i", async (signal, status) => {
  const running = await run();
  const { visitor } = await allocate(visited(running));
  running.process.kill(signal);
  expect(await visitor.closed).toBe(CLOSE.GOING_AWAY);
  expect(await running.process.exited).toMatchObject({ status, signal: null });
});

test("a second signal ends it at once", async () => {
  const running = await run();
  // Somebody who never answers the closing.
  const socket = connect(Number(new URL(running.http).port), "127.0.0.1");
  onTestFinished(() => {
    socket.destroy();
  });
  socket.on("error", () => undefined);
  let heard = Buffer.alloc(0);
  const hears = (what: Buffer): Promise<void> =>
    new Promise((resolve) => {
      socket.on("data", (chunk: Buffer) => {
        heard = Buffer.concat([heard, chunk]);
        if (heard.includes(what)) resolve();
      });
    });
  socket.write(
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: dcpipe-rendezvous.1\r\n\r\n",
  );
  await hears(Buffer.from("\r\n\r\n"));
  running.process.kill("SIGINT");
  // A close frame with 1001.
  await hears(Buffer.from([0x88, 0x02, 0x03, 0xe9]));
  running.process.kill("SIGINT");
  expect(await running.process.exited).toMatchObject({ status: 130 });
});

test.each([
  [["--listen", "nowhere"], /ADDR/],
  [["--listen", "127.0.0.1:70000"], /PORT/],
  [["--store", "disk"], /redis:/],
  [["--public-url", "example.org"], /https/],
  [["--turn", "turn:user:secret@host"], /turn:host:port/],
  [["--turn", "turn:host"], /--turn-secret/],
  [["--turn-secret", "x"], /--turn/],
  [["--stun", "stun:host"], /stun/],
  [["--relay-rate", "fast"], /--relay-rate fast: write bytes a second/],
  [["--relay-volume", "0"], /--relay-volume 0: write bytes/],
  [["--no-relay", "--relay-volume", "1G"], /--no-relay/],
])("wrong usage: %j", async (args, message) => {
  const exit = await fail(start(["rendezvous", ...args]), 2, message);
  expect(exit.stderr).not.toContain("user:secret");
});

test("a port in use, an address of somebody else, a Redis that is not there", async () => {
  const taken = createServer();
  onTestFinished(() => {
    taken.close();
  });
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const { port } = taken.address() as AddressInfo;
  await fail(start(["rendezvous", "--listen", `${port}`]), 1, /127\.0\.0\.1:\d+: the port is in use/);
  await fail(start(["rendezvous", "--listen", "192.0.2.1:0"]), 1, /does not have that address/);
  // Nobody speaks Redis there.
  taken.on("connection", (socket) => socket.destroy());
  const store = ["--store", `redis://user:hidden@127.0.0.1:${port}`];
  const exit = await fail(start(["rendezvous", "--listen", "0", ...store]), 1, /cannot use Redis at 127/);
  expect(exit.stderr).not.toContain("hidden");
});

test("with -v it says how much happens, not what", async () => {
  const running = await run(["-v", "--public-url", "https://meet.example/"]);
  const { visitor: waiting, nameplate, key } = await allocate(visited(running), { nameplate: 987_654 });
  expect(nameplate).toBe(987_654);
  await waiting.say({ type: "POST", index: 0, body: body("wholly private") });
  const { visitor: joining } = await claim(visited(running), nameplate);
  await joining.hear("MESSAGE");
  await running.visit({ first: { type: "CLAIM", key: newKey(), nameplate } }).closed;
  const broken = running.visit();
  await broken.opened;
  broken.socket.send(body("wholly private"));
  await broken.closed;
  // The server may hear of its end a moment later than the client.
  const connections = async (): Promise<string | undefined> =>
    /^dcpipe_connections (\d+)$/m.exec(await (await fetch(`${running.http}metrics`)).text())?.[1];
  await expect.poll(connections).toBe("2");
  running.process.kill("SIGTERM");
  const { stderr } = await running.process.exited;
  expect(stderr).toMatch(/2 clients/);
  expect(stderr.replace(/^{"event":"listening".*$/m, "")).not.toMatch(/987654|private|127\.0\.0\.1/);
  for (const form of ["hex", "base64", "base64url"] as const)
    expect(stderr).not.toContain(Buffer.from(key).toString(form));
});

redisTest("two processes on one Redis; one is killed", async () => {
  const store = ["--store", (await sharedRedis()).url()];
  const [one, two] = [await run(store), await run(store)];
  const { visitor: waiting, nameplate, key } = await allocate(visited(one));
  await waiting.say({ type: "POST", index: 0, body: body("hello") });
  const { visitor: joining, key: joiningKey } = await claim(visited(two), nameplate);
  await joining.hear("MESSAGE");
  await waiting.hear("SERVERS");
  await waiting.hear("JOINED");
  one.process.kill("SIGKILL");
  expect(await waiting.closed).toBe(1006);
  await joining.say({ type: "POST", index: 0, body: body("answer") });
  const back = two.visit({ first: { type: "RESUME", key, role: "waiting", nameplate, received: 0 } });
  expect(await back.hear("ATTACHED")).toMatchObject({ stored: 1 });
  await back.hear("SERVERS");
  await back.hear("JOINED");
  expect(await back.hear("MESSAGE")).toMatchObject({ body: body("answer") });
  await back.say({ type: "POST", index: 1, body: body("confirm") });
  expect(await joining.hear("MESSAGE")).toMatchObject({ body: body("confirm") });
  // And the other way: a third process takes over from the second.
  const three = await run(store);
  two.process.kill("SIGKILL");
  await Promise.all([back.closed, joining.closed]);
  const [w, j] = [
    three.visit({ first: { type: "RESUME", key, role: "waiting", nameplate, received: 1 } }),
    three.visit({ first: { type: "RESUME", key: joiningKey, role: "joining", nameplate, received: 2 } }),
  ];
  expect(await j.hear("ATTACHED")).toMatchObject({ stored: 1 });
  expect(await w.hear("ATTACHED")).toMatchObject({ stored: 2 });
  await j.say({ type: "RELEASE", outcome: "direct" });
  expect(await w.closed).toBe(CLOSE.RELEASED);
});

test("relays: what each may use, or none at all", async () => {
  const running = await run(["--relay-rate", "10M/s", "--relay-volume", "1k"]);
  const { waiting, joining } = await relayPair(visited(running));
  waiting.socket.send(new Uint8Array(1024));
  expect(await Promise.all([waiting.closed, joining.closed])).toEqual([CLOSE.LIMIT, CLOSE.LIMIT]);
  expect(joining.reason).toBe("relay volume used up");
  const none = visited(await run(["--no-relay"]));
  expect(await relay(none, "waiting", { name: newKey() }).closed).toBe(CLOSE.NO_RELAY);
});

redisTest("a relay between two processes; one is killed", async () => {
  const store = ["--store", (await sharedRedis()).url()];
  const [one, two] = [await run(store), await run(store)];
  const { waiting, joining, name, keys } = await relayPair(visited(one), visited(two));
  one.process.kill("SIGKILL");
  expect(await waiting.closed).toBe(1006);
  joining.socket.send(Buffer.from("is anybody there?"));
  expect(await joining.closed).toBe(CLOSE.RESTART);
  const [w, j] = [
    relay(visited(two), "waiting", { name, key: keys.waiting }),
    relay(visited(two), "joining", { name, key: keys.joining }),
  ];
  await through(w, j);
  await through(j, w);
});

redisTest("without Redis clients are asked to come again, and with it they can", async () => {
  const redis = await startRedis();
  const running = await run(["--store", redis.url()]);
  const { visitor } = await allocate(visited(running));
  expect(await healthy(running)).toBe(200);
  await redis.stop();
  expect(await visitor.closed).toBe(CLOSE.TRY_AGAIN);
  expect(await healthy(running)).toBe(503);
  const first = { type: "ALLOCATE", key: newKey(), nameplate: 0 } as const;
  expect(await running.visit({ first }).closed).toBe(CLOSE.TRY_AGAIN);
  await startRedis(redis.port);
  while ((await healthy(running)) !== 200);
  const { visitor: waiting, nameplate } = await allocate(visited(running));
  await claim(visited(running), nameplate);
  await waiting.hear("SERVERS");
  await waiting.hear("JOINED");
});

redisTest("a Redis that does not answer counts as none", async () => {
  const redis = await startRedis();
  const running = await run(["--store", redis.url()]);
  const { visitor } = await allocate(visited(running));
  redis.process.kill("SIGSTOP");
  expect(await visitor.closed).toBe(CLOSE.TRY_AGAIN);
  expect(await healthy(running)).toBe(503);
  redis.process.kill("SIGCONT");
  while ((await healthy(running)) !== 200);
  await allocate(visited(running));
});

test("coturn takes the credentials that are handed out, and no others", async (context) => {
  const directory = temporaryDirectory();
  const turn = await startTurn(directory);
  if (turn === undefined && process.env["CI"] !== "true") context.skip("needs turnserver (coturn)");
  expect(turn).toBeDefined();
  const running = await run(["--turn", `turn:127.0.0.1:${turn}`], { env: { DCPIPE_TURN_SECRET: "north" } });
  const { nameplate } = await allocate(visited(running));
  const joining = running.visit({ first: { type: "CLAIM", key: newKey(), nameplate } });
  await joining.hear("ATTACHED");
  const { servers } = await joining.hear("SERVERS");
  expect(servers).toHaveLength(1);
  const { url, username = "", credential = "" } = servers[0] ?? {};
  expect(url).toBe(`turn:127.0.0.1:${turn}`);
  // coturn's own client: allocates, and sends something through its relay and back.
  const use = (password: string): Promise<unknown> =>
    promisify(execFile)("turnutils_uclient", [
      ...["-y", "-c", "-n", "1", "-m", "1", "-u", username, "-w", password, "-p", `${turn}`, "127.0.0.1"],
    ]);
  await use(credential);
  await expect(use(`${credential}x`)).rejects.toThrow();
});

/** coturn on a free port of loopback with the shared secret "north"; undefined where it is not installed. */
async function startTurn(directory: string): Promise<number | undefined> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  const turn = new Process([
    ...[
      // Line by line, so that it is seen when it is ready.
      "stdbuf",
      "-oL",
      "turnserver",
      "-n",
      "--listening-ip",
      "127.0.0.1",
      "--relay-ip",
      "127.0.0.1",
      "--listening-port",
      `${port}`,
    ],
    ...["--use-auth-secret", "--static-auth-secret", "north", "--realm", "dcpipe", "--allow-loopback-peers"],
    ...["--no-cli", "--no-tls", "--no-dtls", "--simple-log", "--log-file", "stdout"],
    ...["--pidfile", join(directory, "pid"), "--userdb", join(directory, "users")],
  ]);
  try {
    await turn.printed(/Total General servers/);
    return port;
  } catch {
    return undefined;
  }
}
