/** Both ends of a relay, as clients of a rendezvous, and what a test sends through them. */
import { createHash, randomBytes, type Hash } from "node:crypto";
import type { Role } from "../../src/wire/hello.ts";
import type { ClientMessage } from "../../src/wire/rendezvous.ts";
import { allocate, claim, newKey, type Server, type VisitOptions, type Visitor } from "./visitor.ts";

export interface RelayOptions extends VisitOptions {
  readonly key?: Uint8Array;
  readonly name: Uint8Array;
}

export function relayMessage(
  role: Role,
  name: Uint8Array,
  key = newKey(),
): Extract<ClientMessage, { type: "RELAY" }> {
  return { type: "RELAY", key, role, name };
}

/** One end. Whether it was let in shows when something comes through it. */
export function relay(server: Server, role: Role, { name, key, ...visit }: RelayOptions): Visitor {
  return server.visit({ ...visit, first: relayMessage(role, name, key) });
}

/** Both ends of a relay that works in both directions, at one server or at two. */
export async function relayPair(
  one: Server,
  other = one,
  name = newKey(),
): Promise<{
  waiting: Visitor;
  joining: Visitor;
  name: Uint8Array;
  keys: { waiting: Uint8Array; joining: Uint8Array };
}> {
  const keys = { waiting: newKey(), joining: newKey() };
  const waiting = relay(one, "waiting", { name, key: keys.waiting });
  const joining = relay(other, "joining", { name, key: keys.joining });
  await through(waiting, joining);
  await through(joining, waiting);
  return { waiting, joining, name, keys };
}

/** One message from here to there, which must be the next to come. */
export async function through(from: Visitor, to: Visitor, message = randomBytes(16)): Promise<void> {
  await from.opened;
  from.socket.send(message);
  const heard = await to.hearBytes();
  if (!Buffer.from(heard).equals(message)) throw new Error("something else came");
}

/** Sends `total` random bytes in messages of `size`, as fast as they are taken. Resolves with their digest when all are on their way. */
export async function pour(from: Visitor, total: number, size: number): Promise<string> {
  await from.opened;
  const hash = createHash("sha256");
  const content = randomBytes(size);
  for (let sent = 0, i = 0; sent < total; i++) {
    const message = Buffer.from(content.subarray(0, Math.min(size, total - sent)));
    message.writeUInt32LE(i % 2 ** 32, 0);
    sent += message.length;
    hash.update(message);
    await new Promise((resolve) => {
      from.socket.send(message, resolve);
    });
  }
  return hash.digest("hex");
}

/** Counts and digests what comes, and keeps nothing of it. */
export class Drain {
  bytes = 0;
  messages = 0;
  readonly #hash: Hash = createHash("sha256");
  #listener: (() => void) | undefined;
  #gone: number | undefined;

  constructor(visitor: Visitor) {
    visitor.socket.removeAllListeners("message");
    visitor.socket.on("message", (data: Buffer) => {
      this.bytes += data.length;
      this.messages++;
      this.#hash.update(data);
      this.#listener?.();
    });
    void visitor.closed.then((code) => {
      this.#gone = code;
      this.#listener?.();
    });
  }

  /** The digest of all that has come, when it is so many bytes. */
  async all(bytes: number): Promise<string> {
    await this.until(bytes);
    return this.#hash.digest("hex");
  }

  async until(bytes: number): Promise<void> {
    while (this.bytes < bytes) {
      if (this.#gone !== undefined) throw new Error(`closed with ${this.#gone} after ${this.bytes} bytes`);
      await new Promise<void>((resolve) => (this.#listener = resolve));
    }
  }
}

export async function metric(server: Server, name: string): Promise<number> {
  const text = await (await fetch(`${server.http}metrics`)).text();
  const line = text.split("\n").find((each) => each.startsWith(`${name} `));
  return Number(line?.split(" ")[1]);
}

/** What a number is when it stays the same while the server serves a hundred requests: all is at a standstill. */
export async function atStandstill(server: Server, read: () => number | Promise<number>): Promise<number> {
  for (let last = await read(), same = 0; ;) {
    await fetch(`${server.http}healthz`);
    const now = await read();
    if (now !== last) same = 0;
    else if (++same === 100) return now;
    last = now;
  }
}

/** An introduction among all that goes on. */
export async function introduce(server: Server): Promise<void> {
  const { visitor, nameplate } = await allocate(server, { from: "127.0.0.9" });
  await claim(server, nameplate, { from: "127.0.0.9" });
  await visitor.hear("SERVERS");
  await visitor.hear("JOINED");
}
