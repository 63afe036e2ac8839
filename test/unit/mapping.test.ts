/** Asking for a port: real sockets on loopback, a router that is good, bad, or silent. */
import { createSocket } from "node:dgram";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, test, type TestContext } from "vitest";
import { mapPort, mapPortAt, probeMapping, probeMappingAt } from "../../src/node/mapping.ts";
import type { PortMapping } from "../../src/transport/mapping.ts";
import {
  createRouter,
  description,
  foundAt,
  goodHttp,
  goodNatPmp,
  goodPcp,
  goodSsdp,
  HOST,
  natPmpAnswer,
  OUTER,
  pcpAnswer,
  sendXml,
  soap,
  soapFault,
  WAN_IP_1,
  type Behaviour,
  type Datagram,
  type Entry,
  type FakeRouter,
} from "./fake-router.ts";

/** Ours; nothing listens there, and nobody needs it to. */
const PORT = 41_000;

interface Attempt {
  readonly router: FakeRouter;
  readonly mapping: PortMapping | undefined;
  readonly log: string[];
}

/** Asks a router that behaves so. What is granted is given back at the end of the test. */
async function attempt(
  context: TestContext,
  behaviour: Behaviour,
  options: { signal?: AbortSignal; port?: number } = {},
): Promise<Attempt> {
  const router = await createRouter(context, behaviour);
  return { router, ...(await ask(context, router, options)) };
}

async function ask(
  { onTestFinished }: TestContext,
  router: FakeRouter,
  { signal = new AbortController().signal, port = PORT }: { signal?: AbortSignal; port?: number } = {},
): Promise<Omit<Attempt, "router">> {
  const log: string[] = [];
  const mapping = await mapPortAt(router, { port, signal, onlog: (text) => log.push(text) });
  onTestFinished(() => mapping?.release());
  return { mapping, log };
}

/** Resolves when the router has what was sent before: a packet from here overtakes none. */
async function everythingSent(router: FakeRouter): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  const marker = createSocket("udp4");
  marker.send(Buffer.of(0, 99), router.pcpPort, HOST);
  await router.heard("nat-pmp 99");
  marker.close();
}

function only(what: string, { asked }: FakeRouter): number {
  return asked.filter((each) => each === what).length;
}

// Silence takes its time: these wait side by side.
describe.concurrent("PCP", () => {
  test("a port, and back", async (context) => {
    const requests: Buffer[] = [];
    const { mapping, router } = await attempt(context, {
      pcp: (request, send) => {
        requests.push(request);
        send(pcpAnswer(request));
      },
    });
    expect(mapping).toMatchObject({ protocol: "pcp", port: PORT, address: OUTER });
    await mapping?.release();
    await mapping?.release();
    expect(only("pcp 1", router)).toBe(2);
    const [, map, unmap] = requests;
    // A lifetime of an hour, and of nothing.
    expect([map?.readUInt32BE(4), unmap?.readUInt32BE(4)]).toEqual([3600, 0]);
    expect([map?.readUInt16BE(42), unmap?.readUInt16BE(42)]).toEqual([PORT, 0]);
    expect(unmap?.subarray(24, 36)).toEqual(map?.subarray(24, 36));
    expect(map?.subarray(24, 36)).not.toEqual(Buffer.alloc(12));
  });

  test("another port than ours, and an address that is not told", async (context) => {
    const { mapping } = await attempt(context, {
      pcp: (request, send) => {
        send(pcpAnswer(request, { port: 60_000, address: new Uint8Array(16) }));
      },
    });
    expect(mapping).toMatchObject({ port: 60_000, address: undefined });
  });

  test("packets get lost", async (context) => {
    const times = new Map<number, number>();
    const { mapping, router } = await attempt(context, {
      pcp: (request, send) => {
        const opcode = request.readUInt8(1);
        times.set(opcode, (times.get(opcode) ?? 0) + 1);
        if (times.get(opcode) === 2) send(pcpAnswer(request));
      },
    });
    expect(mapping?.port).toBe(PORT);
    expect(only("pcp 0", router)).toBe(2);
    expect(only("pcp 1", router)).toBe(2);
  });

  test("a server without ANNOUNCE", async (context) => {
    const { mapping } = await attempt(context, {
      pcp: (request, send) => {
        send(pcpAnswer(request, { result: request[1] === 0 ? 4 : 0 }));
      },
    });
    expect(mapping?.protocol).toBe("pcp");
  });

  test.for([
    ["ANNOUNCE", 0, 2, /refuses by PCP \(NOT_AUTHORIZED\)/],
    ["MAP", 1, 8, /refuses by PCP \(NO_RESOURCES\)/],
    ["MAP, for a reason of its own", 1, 200, /refuses by PCP \(200\)/],
  ] as const)("a server that refuses %s", async ([, opcode, result, message], context) => {
    const { mapping, log, router } = await attempt(context, {
      pcp: (request, send) => {
        send(pcpAnswer(request, request[1] === opcode ? { result } : {}));
      },
    });
    expect(mapping).toBeUndefined();
    expect(log.join("\n")).toMatch(message);
    // What was refused is not given back.
    await everythingSent(router);
    expect(only("pcp 1", router)).toBe(opcode);
  });

  test.for([
    ["port 0", { port: 0 }],
    ["no time", { lifetime: 0 }],
  ] as const)("success with %s is none, and is taken back", async ([, fields], context) => {
    const lifetimes: number[] = [];
    const { mapping, router } = await attempt(context, {
      pcp: (request, send) => {
        if (request[1] === 1) lifetimes.push(request.readUInt32BE(4));
        send(pcpAnswer(request, request[1] === 1 ? fields : {}));
      },
    });
    expect(mapping).toBeUndefined();
    await router.heard("pcp 1", 2);
    expect(lifetimes).toEqual([3600, 0]);
  });

  test("what is no answer is passed over", async (context) => {
    const stranger = createSocket("udp4");
    await new Promise<void>((resolve) => stranger.bind(0, "127.0.0.2", resolve));
    context.onTestFinished(() => {
      stranger.close();
    });
    const neighbour = createSocket("udp4");
    await new Promise<void>((resolve) => neighbour.bind(0, HOST, resolve));
    context.onTestFinished(() => {
      neighbour.close();
    });
    const { mapping } = await attempt(context, {
      pcp: (request, send, from) => {
        const lie = pcpAnswer(request, { port: 666 });
        // From another address, from another port, the request itself, cut, another nonce, another port of ours, another opcode.
        stranger.send(lie, from.port, from.address);
        neighbour.send(lie, from.port, from.address);
        send(request);
        send("");
        send(lie.subarray(0, lie.length - 2));
        if (request[1] === 1) {
          const [nonce, port, opcode] = [Buffer.from(lie), Buffer.from(lie), Buffer.from(lie)];
          nonce.writeUInt8(nonce.readUInt8(24) ^ 1, 24);
          port.writeUInt16BE(PORT + 1, 40);
          opcode.writeUInt8(0x82, 1);
          for (const each of [nonce, port, opcode]) send(each);
        }
        send(pcpAnswer(request, { port: 50_000 }));
      },
    });
    expect(mapping?.port).toBe(50_000);
  });

  test("an old router knows no version 2", async (context) => {
    const { mapping } = await attempt(context, {
      pcp: (_request, send) => {
        send(Buffer.from("0080000100000001", "hex"));
      },
      natPmp: goodNatPmp,
    });
    expect(mapping?.protocol).toBe("nat-pmp");
  });

  test("a server that promises and is silent: the next protocol is asked, and both get back what they gave", async (context) => {
    const deleted: string[] = [];
    const { mapping, log } = await attempt(context, {
      pcp: (request, send) => {
        if (request[1] === 0) send(pcpAnswer(request));
        else if (request.readUInt32BE(4) === 0) {
          deleted.push("pcp");
          send(pcpAnswer(request));
        }
      },
      natPmp: (request, send) => {
        if (request[1] === 1 && request.readUInt32BE(8) === 0) deleted.push("nat-pmp");
        send(natPmpAnswer(request));
      },
    });
    expect(mapping?.protocol).toBe("nat-pmp");
    expect(log.join("\n")).toMatch(/does not answer/);
    await mapping?.release();
    expect(deleted.sort()).toEqual(["nat-pmp", "pcp"]);
  });

  test("a router that does not take its port back is not waited for", async (context) => {
    const { mapping, log } = await attempt(context, {
      pcp: (request, send) => {
        if (request[1] === 0 || request.readUInt32BE(4) > 0) send(pcpAnswer(request));
      },
    });
    await mapping?.release();
    expect(log.at(-1)).toMatch(/not given back: .* does not answer/);
  });
});

describe.concurrent("NAT-PMP", () => {
  test("a port, and back", async (context) => {
    const requests: Buffer[] = [];
    const { mapping, router } = await attempt(context, {
      natPmp: (request, send) => {
        requests.push(request);
        send(natPmpAnswer(request, request[1] === 1 && request.readUInt32BE(8) > 0 ? { port: 42_000 } : {}));
      },
    });
    expect(mapping).toMatchObject({ protocol: "nat-pmp", port: 42_000, address: OUTER });
    await mapping?.release();
    expect(only("nat-pmp 1", router)).toBe(2);
    const hex = requests.filter((request) => request[1] === 1).map((request) => request.toString("hex"));
    expect(hex).toEqual(["00010000a028a02800000e10", "00010000a028000000000000"]);
  });

  test("a private outer address is told as it is, and none as none", async (context) => {
    const one = await attempt(context, {
      natPmp: (request, send) => {
        send(natPmpAnswer(request, { address: "192.168.7.7" }));
      },
    });
    expect(one.mapping?.address).toBe("192.168.7.7");
    const none = await attempt(context, {
      natPmp: (request, send) => {
        send(natPmpAnswer(request, { address: "0.0.0.0" }));
      },
    });
    expect(none.mapping?.port).toBe(PORT);
    expect(none.mapping?.address).toBeUndefined();
  });

  test.for([
    ["the address", 0, 3, /refuses by NAT-PMP \(NETWORK_FAILURE\)/],
    ["the port", 1, 2, /refuses by NAT-PMP \(NOT_AUTHORIZED\)/],
  ] as const)("a router that refuses %s", async ([, opcode, result, message], context) => {
    const { mapping, log } = await attempt(context, {
      natPmp: (request, send) => {
        send(natPmpAnswer(request, request[1] === opcode ? { result } : {}));
      },
    });
    expect(mapping).toBeUndefined();
    expect(log.join("\n")).toMatch(message);
  });

  test("success with port 0 is none", async (context) => {
    const { mapping } = await attempt(context, {
      natPmp: (request, send) => {
        send(natPmpAnswer(request, { port: 0 }));
      },
    });
    expect(mapping).toBeUndefined();
  });

  test("what is no answer is passed over", async (context) => {
    const { mapping } = await attempt(context, {
      natPmp: (request, send) => {
        const lie = natPmpAnswer(request, { port: 666, address: "6.6.6.6" });
        send(request);
        send(lie.subarray(0, 6));
        send(Buffer.concat([Buffer.of(2), lie.subarray(1)]));
        if (request[1] === 1) {
          const other = Buffer.from(lie);
          other.writeUInt16BE(PORT + 1, 8);
          send(other);
        }
        send(natPmpAnswer(request, { port: 50_000 }));
      },
    });
    expect(mapping).toMatchObject({ port: 50_000, address: OUTER });
  });
});

describe.concurrent("UPnP", () => {
  const good = (http = goodHttp()): Behaviour => ({ ssdp: goodSsdp, http });

  test("a port, and back", async (context) => {
    const table = new Map<number, Entry>();
    const { mapping, router } = await attempt(context, good(goodHttp({ table })));
    expect(mapping).toMatchObject({ protocol: "upnp", port: PORT, address: OUTER });
    expect([...table]).toEqual([[PORT, { client: HOST, port: PORT, lease: 3600 }]]);
    await mapping?.release();
    await mapping?.release();
    expect([...table]).toEqual([]);
    expect(only("DeletePortMapping", router)).toBe(1);
  });

  test("the request is what UPnP has: arguments in order, the action in a header", async (context) => {
    const calls: { header: string; body: string }[] = [];
    const answer = goodHttp();
    await attempt(
      context,
      good((call) => {
        if (call.action === "AddPortMapping")
          calls.push({ header: String(call.request.headers["soapaction"]), body: call.body });
        answer(call);
      }),
    );
    expect(calls[0]?.header).toBe(`"${WAN_IP_1}#AddPortMapping"`);
    expect(
      [...(calls[0]?.body ?? "").matchAll(/<New(\w+)>(.*?)</g)].map(([, name, value]) => [name, value]),
    ).toEqual([
      ["RemoteHost", ""],
      ["ExternalPort", "41000"],
      ["Protocol", "UDP"],
      ["InternalPort", "41000"],
      ["InternalClient", HOST],
      ["Enabled", "1"],
      ["PortMappingDescription", "dcpipe"],
      ["LeaseDuration", "3600"],
    ]);
  });

  test.for([
    ["another host", { client: "127.0.0.9", port: PORT, lease: 0 }],
    ["another program of this host", { client: HOST, port: PORT + 1, lease: 0 }],
  ] as const)("the port is that of %s: another one, and theirs stays", async ([, entry], context) => {
    const table = new Map<number, Entry>([[PORT, entry]]);
    const { mapping } = await attempt(context, good(goodHttp({ table })));
    expect(mapping?.port).toBeGreaterThanOrEqual(49_152);
    expect(table.get(mapping?.port ?? 0)).toEqual({ client: HOST, port: PORT, lease: 3600 });
    await mapping?.release();
    expect([...table]).toEqual([[PORT, entry]]);
  });

  test("what a program with our port has left behind is taken over", async (context) => {
    const table = new Map<number, Entry>([[PORT, { client: HOST, port: PORT, lease: 9 }]]);
    const { mapping } = await attempt(context, good(goodHttp({ table })));
    expect(mapping?.port).toBe(PORT);
    expect(table.get(PORT)?.lease).toBe(3600);
  });

  test.for([718, 729])("a conflict (%i) that nobody knew of", async (code, context) => {
    const table = new Map<number, Entry>();
    const fault = (action: string, body: string): number | undefined =>
      action === "AddPortMapping" && body.includes(`<NewExternalPort>${PORT}<`) ? code : undefined;
    const { mapping, router } = await attempt(context, good(goodHttp({ table, fault })));
    expect(mapping?.port).toBeGreaterThanOrEqual(49_152);
    await mapping?.release();
    // What was never ours is not deleted.
    expect(only("DeletePortMapping", router)).toBe(1);
  });

  test("a router whose ports are all taken", async (context) => {
    const fault = (action: string): number | undefined => (action === "AddPortMapping" ? 718 : undefined);
    const { mapping, router, log } = await attempt(context, good(goodHttp({ fault })));
    expect(mapping).toBeUndefined();
    expect(only("AddPortMapping", router)).toBe(4);
    expect(log.join("\n")).toMatch(/refuses by UPnP \(718\)/);
  });

  test("a router that only opens ports for ever", async (context) => {
    const table = new Map<number, Entry>();
    const fault = (action: string, body: string): number | undefined =>
      action === "AddPortMapping" && !body.includes("<NewLeaseDuration>0<") ? 725 : undefined;
    const { mapping } = await attempt(context, good(goodHttp({ table, fault })));
    expect(mapping?.port).toBe(PORT);
    expect(table.get(PORT)?.lease).toBe(0);
    await mapping?.release();
    expect([...table]).toEqual([]);
  });

  test("a router that refuses, with a text that nobody sees", async (context) => {
    const fault = (action: string): number | undefined => (action === "AddPortMapping" ? 606 : undefined);
    const { mapping, log } = await attempt(context, good(goodHttp({ fault })));
    expect(mapping).toBeUndefined();
    expect(log.join("\n")).toMatch(/refuses by UPnP \(606\)/);
    expect(log.join("\n")).not.toContain("\u001b");
  });

  test("a router that cannot say whose a port is", async (context) => {
    const answer = goodHttp();
    const { mapping } = await attempt(
      context,
      good((call) => {
        if (call.action.startsWith("GetSpecific")) call.request.socket.destroy();
        else answer(call);
      }),
    );
    expect(mapping?.port).toBe(PORT);
  });

  test("of two lines, the one that is up", async (context) => {
    const added: (string | undefined)[] = [];
    const { mapping } = await attempt(
      context,
      good(({ request, response, action }) => {
        if (action === "")
          sendXml(
            response,
            description(
              { type: WAN_IP_1, control: "/down" },
              { type: WAN_IP_1, control: "/broken" },
              { type: WAN_IP_1, control: "/up" },
            ),
          );
        else if (request.url === "/broken") sendXml(response, "<h1>no</h1>", 500);
        else if (request.url === "/down") sendXml(response, soap(action, { NewExternalIPAddress: "" }));
        else if (action.startsWith("GetSpecific")) sendXml(response, soapFault(714), 500);
        else sendXml(response, soap(action, { NewExternalIPAddress: OUTER }));
        if (action === "AddPortMapping") added.push(request.url);
      }),
    );
    expect(mapping?.address).toBe(OUTER);
    expect(added).toEqual(["/up"]);
  });

  test("an address that is none", async (context) => {
    const { mapping } = await attempt(context, good(goodHttp({ address: "<b>router.example</b>" })));
    expect(mapping?.port).toBe(PORT);
    expect(mapping?.address).toBeUndefined();
  });

  /** A server at another port of the same machine, that must not be asked. */
  async function forbidden(context: TestContext, host: string): Promise<{ url: string; asked: string[] }> {
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(String(request.url));
      response.end();
    });
    await new Promise<void>((resolve) => server.listen(0, host, resolve));
    context.onTestFinished(() => {
      server.close();
    });
    return { url: `http://${host}:${(server.address() as AddressInfo).port}/`, asked };
  }

  test("a device says to be elsewhere", async (context) => {
    const { url, asked } = await forbidden(context, "127.0.0.2");
    const { mapping } = await attempt(context, { ssdp: foundAt(() => url), http: goodHttp() });
    expect(mapping).toBeUndefined();
    expect(asked).toEqual([]);
  });

  test("somebody else says where the router is", async (context) => {
    const { url, asked } = await forbidden(context, HOST);
    const stranger = createSocket("udp4");
    await new Promise<void>((resolve) => stranger.bind(0, "127.0.0.2", resolve));
    context.onTestFinished(() => {
      stranger.close();
    });
    const { mapping } = await attempt(context, {
      ssdp: (router) => (request, send, from) => {
        foundAt(() => url)(router)(
          request,
          (answer) => {
            stranger.send(answer, from.port, from.address);
          },
          from,
        );
        goodSsdp(router)(request, send, from);
      },
      http: goodHttp(),
    });
    expect(mapping?.port).toBe(PORT);
    expect(asked).toEqual([]);
  });

  test("a description sends elsewhere, by its services, its base, and a redirect", async (context) => {
    const { url, asked } = await forbidden(context, "127.0.0.2");
    for (const http of [
      ({ response }) => {
        sendXml(response, description({ type: WAN_IP_1, control: url }));
      },
      ({ response }) => {
        sendXml(
          response,
          `<root><URLBase>${url}</URLBase>${description({ type: WAN_IP_1, control: url })}</root>`,
        );
      },
      ({ response }) => {
        response.writeHead(302, { location: url }).end();
      },
    ] satisfies Behaviour["http"][]) {
      const { mapping } = await attempt(context, good(http));
      expect(mapping).toBeUndefined();
    }
    expect(asked).toEqual([]);
  });

  test("a flood of places: four are looked at, and the good one is among them", async (context) => {
    let count = 0;
    const { mapping, router } = await attempt(context, {
      ssdp: (self) => (request, send, from) => {
        goodSsdp(self)(request, send, from);
        for (let more = 0; more < 50; more++)
          foundAt(({ httpPort }) => `http://${HOST}:${httpPort}/bad/${count++}`)(self)(request, send, from);
      },
      http: (call) => {
        if (String(call.request.url).startsWith("/bad")) call.response.writeHead(404).end();
        else if (call.action === "") setImmediate(goodHttp(), call);
        else goodHttp()(call);
      },
    });
    expect(mapping?.port).toBe(PORT);
    expect(router.asked.filter((each) => each.startsWith("GET")).length).toBeLessThanOrEqual(4);
  });

  const chunk = "x".repeat(16 * 1024);
  test.for<[string, Behaviour["http"]]>([
    ["a description that never comes", () => undefined],
    [
      "a description that stops",
      ({ response }) => {
        response.writeHead(200, { "content-length": "1000" });
        response.write("<root>");
      },
    ],
    [
      "a description that is cut off",
      ({ response }) => {
        response.writeHead(200, { "content-length": "1000" });
        response.write("<root>", () => response.destroy());
      },
    ],
    [
      "another protocol",
      ({ response }) => {
        response.socket?.end("220 router FTP\r\n");
      },
    ],
    [
      "endless headers",
      ({ response }) => {
        response.socket?.write(`HTTP/1.1 200 OK\r\nx: ${chunk}`);
      },
    ],
    [
      "a change of protocol",
      ({ response }) => {
        response.socket?.write(
          "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        );
      },
    ],
    [
      "a page for people",
      ({ response }) => {
        response.writeHead(401, { "www-authenticate": "Basic" }).end("<h1>password</h1>");
      },
    ],
    [
      "garbage",
      ({ response }) => {
        response.end(Buffer.from("<service><serviceType>\u0000\ufffe</service>".repeat(100)));
      },
    ],
    [
      "an empty description",
      ({ response }) => {
        response.end();
      },
    ],
    [
      "a page for people in place of each answer",
      ({ response, action }) => {
        sendXml(
          response,
          action === "" ? description({ type: WAN_IP_1, control: "/" }) : "<h1>password</h1>",
        );
      },
    ],
    [
      "a fault that is none",
      ({ response, action }) => {
        if (action === "") sendXml(response, description({ type: WAN_IP_1, control: "/" }));
        else sendXml(response, "<errorCode>-1e9</errorCode>", 500);
      },
    ],
  ])("%s", async ([, http], context) => {
    const { mapping, log } = await attempt(context, good(http));
    expect(mapping).toBeUndefined();
    expect(log).toEqual([`port mapping: the router ${HOST} opens no port`]);
  });

  test("an endless description is not read to the end", async (context) => {
    let written = 0;
    const { mapping } = await attempt(
      context,
      good(({ response }) => {
        const more = (): void => {
          let isTaken = true;
          while (isTaken && !response.destroyed) {
            isTaken = response.write(chunk);
            written += chunk.length;
          }
          if (!response.destroyed) response.once("drain", more);
        };
        response.writeHead(200);
        more();
      }),
    );
    expect(mapping).toBeUndefined();
    // The limit, and what fits into the buffers on the way.
    expect(written).toBeLessThan(16 * 1024 * 1024);
  });

  test("a mapping that is never confirmed is taken back", async (context) => {
    const table = new Map<number, Entry>();
    const answer = goodHttp({ table });
    const { mapping, router } = await attempt(
      context,
      good((call) => {
        answer(
          call.action === "AddPortMapping"
            ? { ...call, response: { writeHead: () => ({ end: () => undefined }) } as never }
            : call,
        );
      }),
    );
    expect(mapping).toBeUndefined();
    await router.heard("DeletePortMapping");
  });
});

describe.concurrent("all of them", () => {
  test("a router that speaks them all is asked for one mapping", async (context) => {
    const table = new Map<number, Entry>();
    const { mapping, router } = await attempt(context, {
      pcp: goodPcp,
      natPmp: goodNatPmp,
      ssdp: goodSsdp,
      http: goodHttp({ table }),
    });
    const maps = (): number =>
      only("pcp 1", router) + only("nat-pmp 1", router) + only("AddPortMapping", router);
    expect(mapping?.port).toBe(PORT);
    expect(maps()).toBe(1);
    await mapping?.release();
    expect(maps() + only("DeletePortMapping", router)).toBe(2);
    expect([...table]).toEqual([]);
  });

  test("who is refused by one asks by the next", async (context) => {
    const { mapping } = await attempt(context, {
      pcp: (request, send) => {
        send(pcpAnswer(request, request[1] === 1 ? { result: 2 } : {}));
      },
      natPmp: (request, send) => {
        send(natPmpAnswer(request, request[1] === 1 ? { result: 2 } : {}));
      },
      ssdp: goodSsdp,
      http: goodHttp(),
    });
    expect(mapping?.protocol).toBe("upnp");
  });

  test("nothing there", async (context) => {
    const { mapping, log } = await attempt(context, {});
    expect(mapping).toBeUndefined();
    expect(log).toEqual([`port mapping: the router ${HOST} opens no port`]);
  });

  test("nobody listens", async (context) => {
    const closed = createSocket("udp4");
    await new Promise<void>((resolve) => closed.bind(0, HOST, resolve));
    const { port } = closed.address();
    await new Promise<void>((resolve) => closed.close(resolve));
    const router = await createRouter(context, { ssdp: goodSsdp, http: goodHttp() });
    const { mapping } = await ask(context, { ...router, pcpPort: port });
    expect(mapping?.protocol).toBe("upnp");
  });

  test("our address has gone", async (context) => {
    const router = await createRouter(context, { pcp: goodPcp, ssdp: goodSsdp, http: goodHttp() });
    const { mapping } = await ask(context, { ...router, local: "192.0.2.77" });
    expect(mapping).toBeUndefined();
    expect(router.asked).toEqual([]);
  });

  test("two programs of one host have a port each", async (context) => {
    const table = new Map<number, Entry>();
    const router = await createRouter(context, { ssdp: goodSsdp, http: goodHttp({ table }) });
    const [one, other] = await Promise.all([
      ask(context, router, { port: PORT }),
      ask(context, router, { port: PORT + 1 }),
    ]);
    expect([one.mapping?.port, other.mapping?.port]).toEqual([PORT, PORT + 1]);
    await one.mapping?.release();
    expect([...table.keys()]).toEqual([PORT + 1]);
  });

  test("stopped before it began", async (context) => {
    const { mapping, router } = await attempt(context, { pcp: goodPcp }, { signal: AbortSignal.abort() });
    expect(mapping).toBeUndefined();
    expect(only("pcp 1", router)).toBe(0);
  });

  test("stopped under way: what may have been mapped is taken back", async (context) => {
    const stop = new AbortController();
    const lifetimes: number[] = [];
    const { mapping } = await attempt(
      context,
      {
        pcp: (request, send) => {
          if (request[1] === 0) {
            send(pcpAnswer(request));
            return;
          }
          lifetimes.push(request.readUInt32BE(4));
          stop.abort();
        },
      },
      { signal: stop.signal },
    );
    expect(mapping).toBeUndefined();
    // Who leaves has waited for it.
    expect(lifetimes.slice(0, 2)).toEqual([3600, 0]);
  });

  test("a mapping that stands is not released by the signal", async (context) => {
    const stop = new AbortController();
    const { mapping, router } = await attempt(context, { pcp: goodPcp }, { signal: stop.signal });
    stop.abort();
    expect(only("pcp 1", router)).toBe(1);
    await mapping?.release();
    expect(only("pcp 1", router)).toBe(2);
  });

  test("an answer that is late finds nobody", async (context) => {
    const late: (() => void)[] = [];
    const hold: Datagram = (request, send) => {
      late.push(() => {
        send(request[0] === 2 ? pcpAnswer(request) : natPmpAnswer(request));
      });
    };
    const { mapping } = await attempt(context, { pcp: hold, natPmp: hold });
    expect(mapping).toBeUndefined();
    expect(late.length).toBeGreaterThan(4);
    for (const send of late) send();
  });
});

describe.concurrent("the probe", () => {
  const signal = new AbortController().signal;

  test("says what is spoken, and changes nothing", async (context) => {
    const router = await createRouter(context, {
      pcp: goodPcp,
      natPmp: goodNatPmp,
      ssdp: goodSsdp,
      http: goodHttp(),
    });
    expect(await probeMappingAt(router, signal)).toEqual({
      gateway: HOST,
      pcp: true,
      natPmp: true,
      upnp: true,
      address: OUTER,
    });
    for (const what of ["pcp 1", "nat-pmp 1", "AddPortMapping"]) expect(only(what, router)).toBe(0);
  });

  test("a router that has it switched off", async (context) => {
    const router = await createRouter(context, {
      pcp: (request, send) => {
        send(pcpAnswer(request, { result: 2 }));
      },
      natPmp: (request, send) => {
        send(natPmpAnswer(request, { result: 2 }));
      },
    });
    expect(await probeMappingAt(router, signal)).toEqual({
      gateway: HOST,
      pcp: false,
      natPmp: false,
      upnp: false,
    });
  });

  test("no router", async () => {
    const nothing = { pcp: false, natPmp: false, upnp: false };
    expect(await probeMapping({ bind: "127.0.0.1", signal })).toEqual(nothing);
    const onlog = (): void => undefined;
    expect(await mapPort({ port: PORT, bind: "127.0.0.1", signal, onlog })).toBeUndefined();
  });
});
