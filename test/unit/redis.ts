/** A real Redis for a test file, on loopback, keeping nothing; and stores of every kind for the tests that all of them must pass. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createServer, type AddressInfo } from "node:net";
import { afterAll, test } from "vitest";
import { MemoryStore } from "../../src/server/memory.ts";
import { RedisStore } from "../../src/server/redis-store.ts";
import type { Limits } from "../../src/server/limits.ts";
import type { Store } from "../../src/server/store.ts";

export type StoreKind = "memory" | "redis";

export interface Redis {
  readonly process: ChildProcess;
  readonly port: number;
  /** A database of its own for each call. */
  url(): string;
  stop(): Promise<void>;
}

/** Databases of one server; each test takes a fresh one. */
const DATABASES = 1000;

const installed = spawnSync("redis-server", ["--version"]).status === 0;
const started: Redis[] = [];
let shared: Promise<Redis> | undefined;

afterAll(async () => {
  await Promise.all(started.splice(0).map((redis) => redis.stop()));
});

/** Starts a Redis, on the port given or on a free one. It ends with the test file. */
export async function startRedis(wanted?: number): Promise<Redis> {
  for (;;) {
    const port = wanted ?? (await freePort());
    const args = ["--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--databases", `${DATABASES}`];
    const child = spawn("redis-server", args, { stdio: ["ignore", "pipe", "inherit"] });
    const exited = new Promise<void>((resolve) => {
      child.on("exit", () => {
        resolve();
      });
    });
    const ready = await new Promise<boolean>((resolve) => {
      let output = "";
      child.stdout.on("data", (chunk: Buffer) => {
        output += chunk.toString();
        if (output.includes("Ready to accept connections")) resolve(true);
      });
      void exited.then(() => {
        resolve(false);
      });
    });
    // Somebody else may have taken the port in between.
    if (!ready && wanted === undefined) continue;
    if (!ready) throw new Error(`redis-server does not start on port ${port}`);
    let database = 0;
    const redis: Redis = {
      process: child,
      port,
      url: () => `redis://127.0.0.1:${port}/${database++ % DATABASES}`,
      stop: async () => {
        child.kill("SIGKILL");
        await exited;
      },
    };
    started.push(redis);
    return redis;
  }
}

/** The Redis that the tests of one file share. */
export function sharedRedis(): Promise<Redis> {
  return (shared ??= startRedis());
}

/** A test that needs redis-server. Without it, it is skipped on a desk, and fails in CI. */
export function redisTest(name: string, body: () => Promise<void>): void {
  test(name, async (context) => {
    if (!installed && process.env["CI"] !== "true") context.skip("needs redis-server");
    await body();
  });
}

/** One test for each kind of store. `open` gives stores that share their mailboxes: of memory there is only one. */
export function storeTest(
  name: string,
  body: (open: (limits?: Partial<Limits>) => Store, kind: StoreKind) => Promise<void>,
): void {
  test(`memory: ${name}`, () => body((limits) => new MemoryStore(limits), "memory"));
  redisTest(`redis: ${name}`, async () => {
    const url = (await sharedRedis()).url();
    await body((limits) => new RedisStore(url, limits), "redis");
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
