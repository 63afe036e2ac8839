/** -D: SOCKS 4, 4a and 5 and HTTP CONNECT at one port, with curl as the client, which prints the true errors. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { Socket } from "node:net";
import { expect, test, type TestContext } from "vitest";
import { listen } from "./code.ts";
import { type Dcpipe, type Exit, needs, Process, sha256 } from "./dcpipe.ts";
import {
  ask,
  dial,
  ending,
  forwardPair,
  freeRange,
  openDatagrams,
  portOf,
  readExactly,
  serveDatagrams,
} from "./forward.ts";

const BODY = randomBytes(300_000);

/** A web server, and a proxy that leads to where it is. */
async function proxied(
  context: TestContext,
  offers: readonly string[] = ["--allow", "localhost:*"],
): Promise<{ http: number; proxy: number; waiting: Dcpipe; joining: Dcpipe }> {
  needs(context, "curl");
  const http = await listen(createServer((_, response) => response.end(BODY)));
  const { waiting, joining } = await forwardPair(offers, ["-D", "0"]);
  const proxy = await portOf(joining, ({ protocol }) => protocol === "socks");
  await joining.event("connected");
  return { http, proxy, waiting, joining };
}

function curl(...args: readonly string[]): Promise<Exit> {
  return new Process(["curl", "-sS", "--max-time", "60", ...args]).exited;
}

/** Each way in which curl can ask a proxy, as options. */
const WAYS: Readonly<Record<string, (port: number) => string[]>> = {
  "SOCKS 4": (port) => ["--socks4", `127.0.0.1:${port}`],
  "SOCKS 4a": (port) => ["--socks4a", `127.0.0.1:${port}`],
  "SOCKS 5": (port) => ["--socks5", `127.0.0.1:${port}`],
  "SOCKS 5 with names": (port) => ["--socks5-hostname", `127.0.0.1:${port}`],
  "HTTP CONNECT": (port) => ["--proxytunnel", "--proxy", `http://127.0.0.1:${port}`],
};

for (const [name, way] of Object.entries(WAYS)) {
  test(`${name}: pages, and refusals as what they are`, async (context) => {
    const { http, proxy, waiting, joining } = await proxied(context);
    const there = ["-4", ...way(proxy), `http://localhost:${http}/`];
    const page = await curl(...there);
    expect(page, page.stderr).toMatchObject({ status: 0 });
    expect(sha256(page.stdout)).toBe(sha256(BODY));

    const free = await freeRange(1, "127.0.0.1");
    const nobody = await curl("-4", ...way(proxy), `http://localhost:${free}/`);
    const forbidden = await curl("-4", ...way(proxy), `http://127.0.0.2:${http}/`);
    // The reply's number is in the message: 91 is all that SOCKS 4 has, RFC 1928 knows 5 (refused) and 2 (not allowed).
    const [status, no, never] =
      name === "HTTP CONNECT"
        ? [56, "502", "403"]
        : name.startsWith("SOCKS 4")
          ? [97, "91", "91"]
          : [97, "(5)", "(2)"];
    expect(nobody.status, nobody.stderr).toBe(status);
    expect(nobody.stderr).toContain(no);
    expect(forbidden.status, forbidden.stderr).toBe(status);
    expect(forbidden.stderr).toContain(never);
    const closed = await joining.event("closed", ({ reason }) => reason === "CONNECTION_REFUSED");
    expect(closed["target"]).toMatch(new RegExp(`:${free}$`));
    expect(await joining.event("refused")).toMatchObject({ by: "them", target: `127.0.0.2:${http}` });
    expect(await waiting.event("refused")).toMatchObject({ by: "us", target: `127.0.0.2:${http}` });
  });
}

test("a name that the other side does not know", async (context) => {
  const { proxy } = await proxied(context, ["--allow", "*:*"]);
  // No resolver asks anybody about a label of 64 letters, so the network here does not matter.
  const url = `http://${"a".repeat(64)}.example/`;
  const socks = await curl("--socks5-hostname", `127.0.0.1:${proxy}`, url);
  expect(socks.stderr).toContain("(4)");
  expect(socks.status).toBe(97);
  const tunnel = await curl("--proxytunnel", "--proxy", `http://127.0.0.1:${proxy}`, url);
  expect(tunnel.stderr).toContain("502");
  expect(tunnel.status).toBe(56);
});

test("many requests at once, of all kinds", async (context) => {
  const { http, proxy } = await proxied(context);
  const ways = [...Object.values(WAYS), ...Object.values(WAYS), ...Object.values(WAYS)];
  const exits = await Promise.all(ways.map((way) => curl("-4", ...way(proxy), `http://localhost:${http}/`)));
  for (const exit of exits) expect(sha256(exit.stdout), exit.stderr).toBe(sha256(BODY));
});

test("it does not fetch pages itself", async (context) => {
  const { http, proxy } = await proxied(context);
  const plain = await curl("-i", "--proxy", `http://127.0.0.1:${proxy}`, `http://localhost:${http}/`);
  expect(plain.stdout.toString()).toMatch(/^HTTP\/1\.1 405 /);
});

// ---- clients that curl is not ---------------------------------------------------------------------------------------

const LOOPBACK = [127, 0, 0, 1];
const NO_AUTHENTICATION = Buffer.of(5, 1, 0);

function u16(number: number): number[] {
  return [number >> 8, number & 0xff];
}

/** UDP ASSOCIATE, RFC 1928, section 7. */
async function associate(proxy: number): Promise<{ control: Socket; relay: number }> {
  const control = dial(proxy);
  control.write(NO_AUTHENTICATION);
  expect(await readExactly(control, 2)).toEqual(Buffer.of(5, 0));
  control.write(Buffer.of(5, 3, 0, 1, 0, 0, 0, 0, 0, 0));
  const reply = await readExactly(control, 10);
  expect([...reply.subarray(0, 8)]).toEqual([5, 0, 0, 1, ...LOOPBACK]);
  return { control, relay: reply.readUInt16BE(8) };
}

test("UDP ASSOCIATE: datagrams to several targets, by address and by name", async (context) => {
  const { proxy } = await proxied(context, ["--allow", "localhost:*", "--allow", "127.0.0.1:*"]);
  const one = await serveDatagrams((datagram) => Buffer.concat([Buffer.from("one "), datagram]));
  const two = await serveDatagrams((datagram) => Buffer.concat([Buffer.from("two "), datagram]));
  const { control, relay } = await associate(proxy);
  const socket = await openDatagrams();
  const byAddress = Buffer.of(0, 0, 0, 1, ...LOOPBACK, ...u16(one));
  const name = Buffer.from("localhost");
  const byName = Buffer.concat([Buffer.of(0, 0, 0, 3, name.length), name, Buffer.from(u16(two))]);
  const [first, second] = [Buffer.from("hello"), Buffer.alloc(30_000, "x")];
  for (const [head, text, says] of [
    [byAddress, first, "one "],
    [byName, second, "two "],
    [byAddress, second, "one "],
  ] as const) {
    const wanted = Buffer.concat([head, Buffer.from(says), text]);
    const answer = await ask(socket, relay, Buffer.concat([head, text]), (datagram) =>
      datagram.equals(wanted),
    );
    expect(answer.length).toBe(wanted.length);
  }
  // The relay goes with the connection: the port is free again.
  const over = ending(control);
  control.end();
  await over;
});

test("a client that lies, or speaks something else, is cut off and disturbs nobody", async (context) => {
  const { http, proxy } = await proxied(context);
  const refused: [name: string, bytes: Buffer, answer: Buffer][] = [
    ["no method that is offered", Buffer.of(5, 1, 2), Buffer.of(5, 0xff)],
    ["no method at all", Buffer.of(5, 0), Buffer.of(5, 0xff)],
    ["BIND", Buffer.of(5, 1, 0, 5, 2, 0, 1, ...LOOPBACK, 0, 80), Buffer.of(5, 0, 5, 7)],
    ["an unknown address type", Buffer.of(5, 1, 0, 5, 1, 0, 9), Buffer.of(5, 0, 5, 8)],
    ["port 0", Buffer.of(5, 1, 0, 5, 1, 0, 1, ...LOOPBACK, 0, 0), Buffer.of(5, 0, 5, 1)],
    ["TLS", Buffer.of(0x16, 3, 1, 2, 0), Buffer.of()],
    ["an endless header", Buffer.alloc(70_000, "A"), Buffer.from("HTTP/1.1 431 ")],
  ];
  for (const [name, bytes, answer] of refused) {
    const socket = dial(proxy);
    socket.write(bytes);
    const { received } = await ending(socket);
    expect(received.subarray(0, answer.length), name).toEqual(answer);
  }
  // One that says nothing, and one that goes away in the middle.
  const silent = dial(proxy);
  await once(silent, "connect");
  const half = dial(proxy);
  half.write(Buffer.of(5, 1));
  half.resetAndDestroy();
  const page = await curl("--socks5-hostname", `127.0.0.1:${proxy}`, `http://localhost:${http}/`);
  expect(sha256(page.stdout)).toBe(sha256(BODY));
});
