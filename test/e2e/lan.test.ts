/** Multicast DNS between two machines on one cable, without a default route. */
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, onTestFinished, vi } from "vitest";
import { rootTest } from "./dcpipe.ts";

const SCRIPT = join(import.meta.dirname, "lan.js");
/** What is looked for is there at once, or with the next query; a machine under load is given longer. */
const PATIENCE_MS = 20_000;

let count = 0;

/** Names of two namespaces, 10.77.0.1 and 10.77.0.2; they go with the test. */
async function createCable(): Promise<{ a: string; b: string }> {
  const [a, b] = ["a", "b"].map((name) => `dcl-${process.pid}-${++count}-${name}`) as [string, string];
  const ip = (...args: string[]): unknown =>
    execFileSync("ip", args, { stdio: ["ignore", "ignore", "inherit"] });
  onTestFinished(() => {
    for (const name of [a, b]) {
      try {
        execFileSync("ip", ["netns", "del", name], { stdio: "ignore" });
      } catch {
        // It was never made.
      }
    }
  });
  for (const name of [a, b]) {
    ip("netns", "add", name);
    ip("-n", name, "link", "set", "lo", "up");
  }
  ip("link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", "eth0", "netns", b);
  for (const [name, address] of [
    [a, "10.77.0.1"],
    [b, "10.77.0.2"],
  ] as const) {
    ip("-n", name, "addr", "add", `${address}/24`, "dev", "eth0");
    ip("-n", name, "link", "set", "eth0", "up");
  }
  // The kernel takes up to a second to call an interface running, and Node shows no other.
  for (const name of [a, b]) await vi.waitUntil(() => isRunning(name), { timeout: PATIENCE_MS });
  return { a, b };
}

function isRunning(namespace: string): boolean {
  const [link] = JSON.parse(
    execFileSync("ip", ["-n", namespace, "-j", "link", "show", "eth0"], { encoding: "utf8" }),
  ) as { operstate: string }[];
  return link?.operstate === "UP";
}

/** A program in a namespace whose output is JSON lines. */
class Side {
  readonly said: Record<string, unknown>[] = [];
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #onsaid: () => void = () => undefined;

  constructor(namespace: string, ...command: string[]) {
    this.#child = spawn("ip", ["netns", "exec", namespace, process.execPath, ...command], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#ended = once(this.#child, "close");
    onTestFinished(async () => {
      this.#child.kill("SIGKILL");
      await this.#ended;
    });
    createInterface({ input: this.#child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      this.said.push(JSON.parse(line) as Record<string, unknown>);
      this.#onsaid();
    });
  }

  /** The value of the first line with this key, past or to come. */
  async says(key: string): Promise<unknown> {
    const late = AbortSignal.timeout(PATIENCE_MS);
    for (;;) {
      const line = this.said.find((each) => key in each);
      if (line) return line[key];
      await new Promise<void>((resolve, reject) => {
        this.#onsaid = () => {
          resolve();
        };
        late.onabort = () => {
          reject(new Error(`no ${key}: ${JSON.stringify(this.said)}`));
        };
        void this.#ended.then(this.#onsaid);
      });
      if (this.#child.exitCode !== null && !this.said.some((each) => key in each))
        throw new Error(`ended without ${key}: ${JSON.stringify(this.said)}`);
    }
  }

  /** Has it end, and waits for that: nothing may keep it alive. */
  async end(): Promise<void> {
    this.#child.stdin?.end();
    expect(await this.#ended).toEqual([0, null]);
  }
}

function lan(namespace: string, verb: "announce" | "find" | "isTaken", options: object): Side {
  return new Side(namespace, SCRIPT, verb, JSON.stringify(options));
}

rootTest("who waits is found by the address it has, and only by its nameplate", async () => {
  const { a, b } = await createCable();
  const waiting = lan(a, "announce", { nameplate: 7, port: 4711 });
  await waiting.says("ready");
  const other = lan(b, "find", { nameplate: 77 });
  const joining = lan(b, "find", { nameplate: 7 });
  expect(await joining.says("found")).toBe("ws://10.77.0.1:4711");
  // It has been asked for as long as the other, and once more, with no answer.
  expect(await lan(b, "isTaken", { nameplate: 77, timeoutMs: 300 }).says("taken")).toBe(false);
  expect(await lan(b, "isTaken", { nameplate: 7, timeoutMs: PATIENCE_MS }).says("taken")).toBe(true);
  await Promise.all([waiting.end(), joining.end(), other.end()]);
  expect(joining.said).toEqual([{ found: "ws://10.77.0.1:4711" }]);
  expect(other.said).toEqual([]);
});

rootTest("who comes to wait later is heard, and says good-bye", async () => {
  const { a, b } = await createCable();
  const joining = lan(b, "find", { nameplate: 7 });
  const listening = new Side(b, "-e", LISTEN);
  await listening.says("ready");
  const waiting = lan(a, "announce", { nameplate: 7, port: 1, bind: "10.77.0.1" });
  expect(await joining.says("found")).toBe("ws://10.77.0.1:1");
  await waiting.end();
  await listening.says("bye");
  expect(await lan(b, "isTaken", { nameplate: 7, timeoutMs: 300 }).says("taken")).toBe(false);
  await joining.end();
  const heard = listening.said.filter((each) => "srv" in each);
  expect(heard[0]).toEqual({ srv: { name: "7._dcpipe._tcp.local", ttl: 120, port: 1, flush: true } });
  await listening.end();
});

rootTest("strange packets are passed over, and a network full of liars is bounded", async () => {
  const { a, b } = await createCable();
  const joining = lan(b, "find", { nameplate: 7 });
  const lying = new Side(a, "-e", LIE);
  await lying.says("done");
  // The last lie; what came before it has been read.
  const marked = lan(b, "find", { nameplate: 8 });
  expect(await marked.says("found")).toBe("ws://10.77.0.1:9999");
  await lying.end();
  await Promise.all([joining.end(), marked.end()]);
  const wanted = Array.from({ length: 8 }, (_, index) => ({ found: `ws://10.77.0.1:${1001 + index}` }));
  expect(joining.said).toEqual(wanted);
});

rootTest("on loopback when there is nothing else, and nowhere with a strange address", async () => {
  const { a, b } = await createCable();
  execFileSync("ip", ["-n", a, "link", "del", "eth0"]);
  const waiting = lan(a, "announce", { nameplate: 7, port: 4711 });
  await waiting.says("ready");
  const joining = lan(a, "find", { nameplate: 7 });
  expect(await joining.says("found")).toBe("ws://127.0.0.1:4711");
  await Promise.all([waiting.end(), joining.end()]);
  const nowhere = lan(b, "find", { nameplate: 7, bind: "10.77.0.2" });
  expect(await nowhere.says("log")).toBe("multicast DNS: no interface has the IPv4 address 10.77.0.2");
  await nowhere.end();
});

rootTest("a port that cannot be had is no error", async () => {
  const { a } = await createCable();
  const taking = new Side(a, "-e", TAKE);
  await taking.says("ready");
  const waiting = lan(a, "announce", { nameplate: 7, port: 4711 });
  await waiting.says("ready");
  expect(waiting.said[0]).toEqual({ log: expect.stringContaining("EADDRINUSE") as string });
  expect(await lan(a, "isTaken", { nameplate: 7, timeoutMs: 300 }).says("taken")).toBe(false);
  await Promise.all([waiting.end(), taking.end()]);
});

/** Says every SRV record that it hears, and that one said good-bye. */
const LISTEN = `
  const mdns = require("multicast-dns")({ interface: "10.77.0.2", bind: "0.0.0.0" });
  mdns.on("ready", () => console.log('{"ready":true}'));
  mdns.on("response", ({ answers }) => {
    for (const { name, ttl, flush, data: { port } } of answers) {
      console.log(JSON.stringify(ttl === 0 ? { bye: true } : { srv: { name, ttl, port, flush } }));
    }
  });
  process.stdin.resume().on("end", () => mdns.destroy());`;

/** Answers queries for nameplates 7 and 8 with all that should not be taken, and with ten ports for 7. */
const LIE = `
  const { createSocket } = require("node:dgram");
  const [shared, socket] = [createSocket({ type: "udp4", reuseAddr: true }), createSocket("udp4")];
  const mdns = require("multicast-dns")({ interface: "10.77.0.1", bind: "0.0.0.0", socket: shared });
  const packet = require("dns-packet");
  const raw = (bytes) => shared.send(bytes, 5353, "224.0.0.251");
  const srv = (port, more) => ({
    name: "7._dcpipe._tcp.local", type: "SRV", ttl: 120, data: { port, target: "example.org" }, ...more });
  const response = (...answers) => ({ type: "response", answers });
  let asked = false;
  mdns.on("query", ({ questions: [{ name }] }) => {
    if (name.startsWith("8")) return mdns.respond([srv(9999, { name })]);
    if (asked) return;
    asked = true;
    // From another port.
    socket.bind(0, "10.77.0.1", () => {
      socket.setMulticastInterface("10.77.0.1");
      socket.send(packet.encode(response(srv(666))), 5353, "224.0.0.251", () => {
        socket.close();
        const strange = [
          Buffer.alloc(0), Buffer.from("hello"), Buffer.alloc(1400, 0xff), Buffer.alloc(12, 0xff),
          packet.encode(response(srv(667))).subarray(0, -12),
        ];
        for (const bytes of strange) raw(bytes);
        mdns.respond([srv(668, { ttl: 0 }), srv(0), srv(669, { name: "7._dcpipe._tcp.local.example" })]);
        mdns.respond([{ name: "7._dcpipe._tcp.local", type: "A", ttl: 120, data: "10.77.0.2" }]);
        mdns.respond([srv(1001), srv(1001), srv(1002, { name: "7._DCPIPE._TCP.LOCAL" })]);
        for (let port = 1003; port <= 1010; port++) mdns.respond([srv(port)], undefined, () => {
          if (port === 1010) console.log('{"done":true}');
        });
      });
    });
  });
  process.stdin.resume().on("end", () => mdns.destroy());`;

/** Holds port 5353 and shares it with nobody. */
const TAKE = `
  const socket = require("node:dgram").createSocket("udp4");
  socket.bind(5353, () => console.log('{"ready":true}'));
  process.stdin.resume().on("end", () => socket.close());`;
