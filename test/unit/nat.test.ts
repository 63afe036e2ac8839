/** What is observed of NATs, with servers that behave and servers that do not; and what is concluded from it. */
import { createSocket } from "node:dgram";
import { describe, expect, onTestFinished, test } from "vitest";
import { judgeNat, type Nat } from "../../src/doctor/nat.ts";
import type { Findings, InterfaceAddress, NatObservations } from "../../src/doctor/findings.ts";
import { observeNat } from "../../src/node/nat.ts";
import { findStunServer } from "../../src/node/stun.ts";
import { decodeMessage } from "../../src/node/stun/message.ts";
import {
  attribute,
  message,
  place,
  startDiscovery,
  startStun,
  success,
  xored,
  type Behaviour,
  type Place,
  type Request,
} from "./stun.ts";

/** As a NAT's outer address, which is called: nothing may leave this machine. */
const OUTER = "127.66.0.1";
const NOBODY = { address: "127.0.0.1", port: 9 };

async function observe(
  places: readonly Place[],
  signal = new AbortController().signal,
): Promise<NatObservations> {
  const servers = places.map(({ address, port }) => ({ host: address, port }));
  return observeNat({ servers, bind: undefined, ports: undefined, signal });
}

function findings(nat: NatObservations, interfaces: readonly InterfaceAddress[] = []): Findings {
  const nothing = { mapping: undefined, turn: [], rendezvous: undefined, proxies: [], milliseconds: 0 };
  return { interfaces: [ETHERNET, ...interfaces], nat, ...nothing };
}

const ETHERNET: InterfaceAddress = { name: "eth0", address: "192.168.1.2", mtu: 1500 };

async function judge(...places: readonly Place[]): Promise<Nat> {
  return judgeNat(findings(await observe(places)), 4);
}

/**
 * A NAT in front of a server that knows RFC 5780: the outer port is what `map` makes of our own and the place that was called, and
 * an answer from elsewhere comes through when `admit` says so.
 */
function startNat(
  map: (port: number, to: Place) => number,
  admit: (change: Request["change"]) => boolean,
  ignore = false,
): Promise<{ readonly first: Place; readonly other: Place }> {
  return startDiscovery((first, other) => (request) => {
    const { change, at, from } = request;
    const answer = success(request, { address: OUTER, port: map(from.port, at) }, other);
    if (!change.port || ignore) return { message: answer };
    const via = { address: change.address ? other.address : first.address, port: other.port };
    return admit(change) ? { message: answer, via } : undefined;
  });
}

const keep = (port: number): number => port;
const perAddress = (port: number, { address }: Place): number => port ^ (address === "127.0.0.1" ? 0 : 64);
describe("a server that knows RFC 5780", () => {
  test.each([
    ["full cone", keep, () => true, { mapping: "independent", filtering: "independent" }],
    [
      "address-restricted",
      keep,
      ({ address }: Request["change"]) => !address,
      { mapping: "independent", filtering: "address" },
    ],
    ["port-restricted", keep, () => false, { mapping: "independent", filtering: "address-and-port" }],
    ["address-dependent", perAddress, () => false, { mapping: "address", filtering: "address-and-port" }],
  ])("%s", async (_, map, admit, expected) => {
    const { first } = await startNat(map, admit);
    expect(await judge(first)).toMatchObject({
      udp: "works",
      outer: { address: OUTER },
      keepsPort: true,
      tested: true,
      ...expected,
    });
  });

  test("symmetric", async () => {
    let outer = 20_000;
    const ports = new Map<string, number>();
    const { first } = await startNat(
      (port, to) => {
        const key = `${port} ${to.address} ${to.port}`;
        const known = ports.get(key) ?? ++outer;
        ports.set(key, known);
        return known;
      },
      () => false,
    );
    expect(await judge(first)).toMatchObject({
      mapping: "address-and-port",
      filtering: "address-and-port",
      keepsPort: false,
    });
  });

  test("one that answers from where it was asked whatever it is asked for tells nothing of filters", async () => {
    const { first } = await startNat(keep, () => true, true);
    expect(await judge(first)).toMatchObject({ mapping: "independent", filtering: "unknown" });
  });

  test("one whose other address is dead tells nothing, and the next one is asked", async () => {
    const dead = await startDiscovery((first, other) => (request) => {
      const here = request.at.address === first.address && !request.change.port;
      return here
        ? { message: success(request, { address: OUTER, port: request.from.port }, other) }
        : undefined;
    });
    expect(await judge(dead.first)).toMatchObject({ mapping: "unknown", filtering: "unknown" });
    const { first } = await startNat(keep, () => false);
    expect(await judge(dead.first, first)).toMatchObject({
      mapping: "independent",
      filtering: "address-and-port",
      tested: true,
    });
  });

  test.each([
    ["the same address", { address: "127.0.0.1", port: 4000 }],
    ["another family", { address: "2001:db8:0:0:0:0:0:1", port: 4000 }],
  ])("an other address that is none is not called: %s", async (_, other) => {
    let changes = 0;
    const server = await startStun((request) => {
      if (request.change.port) changes++;
      return { message: success(request, { address: OUTER, port: request.from.port }, other) };
    });
    expect(await judge(server)).toMatchObject({ udp: "works", filtering: "unknown", tested: false });
    expect(changes).toBe(0);
  });

  test("an other address with the port that was asked is not called", async () => {
    let called = false;
    const victim = await startStun(() => {
      called = true;
      return undefined;
    }, "127.0.0.2");
    const server = await startStun((request) => ({
      message: success(
        request,
        { address: OUTER, port: 1 },
        { address: victim.address, port: request.at.port },
      ),
    }));
    await observe([server]);
    expect(called).toBe(false);
  });
});

describe("servers that are compared", () => {
  const say = (port: (from: number) => number, address = OUTER): Behaviour => {
    return (request) => ({ message: success(request, { address, port: port(request.from.port) }) });
  };

  test("equal answers from two addresses: endpoint-independent, as far as seen", async () => {
    const one = await startStun(say(keep));
    const two = await startStun(say(keep), "127.0.0.2");
    expect(await judge(one, two)).toMatchObject({
      mapping: "independent",
      filtering: "unknown",
      tested: false,
      odd: [],
    });
  });

  test("equal answers from one address alone tell nothing", async () => {
    const [one, two] = [await startStun(say(keep)), await startStun(say(keep))];
    expect(await judge(one, two)).toMatchObject({ mapping: "unknown" });
  });

  test("different ports: dependent", async () => {
    const one = await startStun(say(() => 30_001));
    const two = await startStun(
      say(() => 30_002),
      "127.0.0.2",
    );
    expect(await judge(one, two)).toMatchObject({ mapping: "dependent", keepsPort: false });
  });

  test("a server that lies about the address is named, and not believed", async () => {
    const one = await startStun(say(keep));
    const two = await startStun(say(keep), "127.0.0.2");
    const liar = await startStun(say(keep, "127.66.0.66"), "127.0.0.3");
    const nat = await judge(liar, one, two);
    expect(nat).toMatchObject({
      outer: { address: OUTER },
      mapping: "independent",
      odd: [{ host: "127.0.0.3", port: liar.port }],
    });
  });

  test("a server that lies about the port is named, and not believed", async () => {
    const one = await startStun(say(keep));
    const two = await startStun(say(keep), "127.0.0.2");
    const liar = await startStun(
      say(() => 5),
      "127.0.0.3",
    );
    expect(await judge(liar, one, two)).toMatchObject({
      mapping: "independent",
      odd: [{ host: "127.0.0.3" }],
    });
  });

  test("our own address: no NAT", async () => {
    const server = await startStun(say(keep, "127.66.0.9"));
    const own = { name: "eth1", address: "127.66.0.9", mtu: undefined };
    const nat = judgeNat(findings(await observe([server]), [own]), 4);
    expect(nat).toMatchObject({ mapping: "none", keepsPort: undefined, hairpin: "unknown" });
  });
});

describe("servers that do not behave", () => {
  const cases: readonly (readonly [string, Behaviour, string])[] = [
    ["nothing", () => undefined, "silent"],
    ["no STUN", () => ({ message: Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n") }), "garbage"],
    ["one byte", () => ({ message: Buffer.of(1) }), "garbage"],
    [
      "a length that is not its own",
      (request) => ({ message: success(request, { address: OUTER, port: 9 }).subarray(0, 28) }),
      "garbage",
    ],
    [
      "an attribute that is longer than the message",
      ({ transaction }) => ({
        message: message(0x0101, transaction, Buffer.from("002000ff00010000", "hex")),
      }),
      "garbage",
    ],
    ["no address", ({ transaction }) => ({ message: message(0x0101, transaction) }), "garbage"],
    [
      "port 0",
      (request) => ({
        message: success(request, { address: OUTER, port: 0 }),
      }),
      "garbage",
    ],
    [
      "an address of a family that does not exist",
      ({ transaction }) => ({
        message: message(0x0101, transaction, attribute(0x0001, Buffer.from("0003100001020304", "hex"))),
      }),
      "garbage",
    ],
    [
      "somebody else's transaction",
      (request) => ({
        message: success({ ...request, transaction: Buffer.alloc(12, 7) }, { address: OUTER, port: 9 }),
      }),
      "silent",
    ],
    [
      "an error",
      ({ transaction }) => ({
        message: message(0x0111, transaction, attribute(0x0009, Buffer.from("00000401", "hex"))),
      }),
      "refused",
    ],
  ];

  test("say nothing, or no STUN", async () => {
    const servers = await Promise.all(cases.map(([, behave]) => startStun(behave)));
    const nat = await observe(servers);
    const outcomes = nat.ipv4.answers.map(({ outcome }, i) => [cases[i]?.[0], outcome]);
    expect(outcomes).toEqual(cases.map(([what, , outcome]) => [what, outcome]));
    expect(judgeNat(findings(nat), 4)).toMatchObject({ udp: "blocked", mapping: "unknown" });
  });

  test("an answer from elsewhere is none, when that was not asked for", async () => {
    const { first } = await startDiscovery((_, other) => (request) => ({
      message: success(request, { address: OUTER, port: request.from.port }),
      via: other,
    }));
    expect((await observe([first])).ipv4.answers).toMatchObject([{ outcome: "silent" }]);
  });

  test("a slow one does not hold up the others, and its answer counts when it comes in time", async () => {
    let requests = 0;
    // The first two tries go lost.
    const slow = await startStun((request) =>
      ++requests > 2 ? { message: success(request, { address: OUTER, port: request.from.port }) } : undefined,
    );
    const { ipv4 } = await observe([slow, NOBODY]);
    expect(ipv4.answers.map(({ outcome }) => outcome)).toEqual(["answered", "silent"]);
  });

  test("one that sees us at an address that leads nowhere is not believed", () => {
    const answer = (address: string, seen: string): NatObservations["ipv4"]["answers"][number] => ({
      server: { host: address, port: 3478 },
      address,
      outcome: "answered",
      mapped: { address: seen, port: 4000 },
    });
    const nat = judgeNat(
      findings({
        ipv4: {
          ...NOTHING,
          localPort: 4000,
          answers: [answer("192.0.2.1", "127.0.0.1"), answer("192.0.2.2", "198.51.100.7")],
        },
        ipv6: NOTHING,
        unresolved: [],
      }),
      4,
    );
    expect(nat).toMatchObject({ outer: { address: "198.51.100.7" }, odd: [{ host: "192.0.2.1" }] });
  });

  test("names that stand for nothing are told, and no server answers", async () => {
    const signal = new AbortController().signal;
    const servers = [{ host: "no-such-host.invalid", port: 3478 }];
    const nat = await observeNat({ servers, bind: undefined, ports: undefined, signal });
    expect(nat).toMatchObject({ unresolved: servers, ipv4: { answers: [] }, ipv6: { answers: [] } });
    expect(judgeNat(findings(nat), 4)).toMatchObject({ udp: "blocked" });
  });

  test("when the time is over what is known is all there is", async () => {
    const stop = new AbortController();
    const behave = (_: Place, other: Place): Behaviour => {
      return (request) => {
        // The tests have begun.
        if (request.change.port) {
          stop.abort();
          return undefined;
        }
        return { message: success(request, { address: OUTER, port: request.from.port }, other) };
      };
    };
    const { first } = await startDiscovery(behave);
    const nat = await observe([first], stop.signal);
    expect(nat.ipv4.answers).toMatchObject([{ outcome: "answered" }]);
    // Silence that was cut short is no proof of a filter.
    expect(nat.ipv4.admits).toBeUndefined();
  });

  test("a signal that has fired already", async () => {
    const server = await startStun(() => undefined);
    const { ipv4 } = await observe([server], AbortSignal.abort());
    expect(ipv4.answers).toMatchObject([{ outcome: "silent" }]);
  });
});

const NOTHING: NatObservations["ipv4"] = {
  localPort: undefined,
  answers: [],
  mappings: undefined,
  admits: undefined,
  hairpin: undefined,
};

describe("the two sockets", () => {
  test("reach each other by their outer addresses where the NAT leads back", async () => {
    // On loopback the outer addresses are the true ones.
    const server = await startStun((request) => ({ message: success(request, request.from) }));
    expect((await observe([server])).ipv4.hairpin).toBe(true);
  });

  test("do not where it does not", async () => {
    const hole = createSocket("udp4");
    await new Promise<void>((resolve) => hole.bind(0, "127.0.0.1", resolve));
    onTestFinished(() => {
      hole.close();
    });
    const server = await startStun((request) => ({ message: success(request, hole.address()) }));
    expect((await observe([server])).ipv4.hairpin).toBe(false);
  });

  test("the second one has the port that was asked for", async () => {
    const free = createSocket("udp4");
    await new Promise<void>((resolve) => free.bind(0, resolve));
    const { port } = free.address();
    free.close();
    const seen = new Set<number>();
    const server = await startStun((request) => {
      seen.add(request.from.port);
      return { message: success(request, { address: OUTER, port: request.from.port }) };
    });
    await observeNat({
      servers: [{ host: server.address, port: server.port }],
      bind: "127.0.0.1",
      ports: [port, port],
      signal: new AbortController().signal,
    });
    expect(seen).toContain(port);
  });

  test("a family that is not the bound address's is left alone", async () => {
    const server = await startStun((request) => ({ message: success(request, request.from) }));
    const { ipv4 } = await observeNat({
      servers: [{ host: server.address, port: server.port }],
      bind: "::1",
      ports: undefined,
      signal: new AbortController().signal,
    });
    expect(ipv4.answers).toEqual([]);
  });
});

describe("messages", () => {
  const transaction = Buffer.from("000102030405060708090a0b", "hex");
  const where = { address: "2001:db8:0:0:0:0:0:1", port: 32_853 };

  test("an XOR-MAPPED-ADDRESS of IPv6, behind an attribute that is not known", () => {
    const known = attribute(0x0020, xored(where, transaction));
    const bytes = message(0x0101, transaction, attribute(0x8022, Buffer.from("a server")), known);
    expect(decodeMessage(bytes)).toEqual({
      type: "success",
      transaction: transaction.toString("hex"),
      mapped: { address: "2001:db8::1", port: 32_853 },
      other: undefined,
    });
  });

  test("RFC 5769, section 2.2: the sample IPv4 response", () => {
    const sample =
      "0101003c2112a442b7e7a701bc34d686fa87dfae" +
      "8022000b7465737420766563746f7220" +
      "002000080001a147e112a643" +
      "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7" +
      "80280004c07d4c96";
    expect(decodeMessage(Buffer.from(sample, "hex"))).toMatchObject({
      type: "success",
      mapped: { address: "192.0.2.1", port: 32_853 },
    });
  });

  test("RFC 5769, section 2.3: the sample IPv6 response", () => {
    const sample =
      "010100482112a442b7e7a701bc34d686fa87dfae" +
      "8022000b7465737420766563746f7220" +
      "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9" +
      "00080014a382954e4be67bf11784c97c8292c275bfe3ed41" +
      "80280004c8fb0b4c";
    expect(decodeMessage(Buffer.from(sample, "hex"))).toMatchObject({
      mapped: { address: "2001:db8:1234:5678:11:2233:4455:6677", port: 32_853 },
    });
  });

  test("MAPPED-ADDRESS of servers that know no other", () => {
    const bytes = message(0x0101, transaction, attribute(0x0001, place({ address: OUTER, port: 80 })));
    expect(decodeMessage(bytes)).toMatchObject({ mapped: { address: OUTER, port: 80 } });
  });

  test("no cut message is one, and none throws", () => {
    const whole = message(0x0101, transaction, attribute(0x0020, xored(where, transaction)));
    for (let length = 0; length < whole.length; length++)
      expect(decodeMessage(whole.subarray(0, length))).toBeUndefined();
    for (let at = 0; at < whole.length; at++)
      for (const bit of [1, 2, 4, 8, 16, 32, 64, 128]) {
        const damaged = Buffer.from(whole);
        damaged[at] = (damaged[at] ?? 0) ^ bit;
        expect(() => decodeMessage(damaged)).not.toThrow();
      }
  });
});

test("the server that a connection uses is one that tells an address", async () => {
  const mute = await startStun(({ transaction }) => ({ message: message(0x0101, transaction) }));
  const good = await startStun((request) => ({ message: success(request, request.from) }));
  const servers = [mute, good].map(({ address, port }) => ({ host: address, port }));
  expect(await findStunServer(servers, 5_000)).toMatchObject({ host: "127.0.0.1", port: good.port });
});
