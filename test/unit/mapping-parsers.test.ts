/** What a router, or anybody in its name, says: nothing of it makes us throw, hang, or go elsewhere. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createEpoch } from "../../src/node/mapping/epoch.ts";
import {
  findGateway,
  parseNetstat,
  parseProcRoute,
  parseRoutePrint,
} from "../../src/node/mapping/gateway.ts";
import { encodeNatPmpMap, readNatPmpAddress, readNatPmpMapping } from "../../src/node/mapping/natpmp.ts";
import { encodeAnnounce, encodeMap, readPcp, readPcpMap } from "../../src/node/mapping/pcp.ts";
import { placeAt, readLocation } from "../../src/node/mapping/ssdp.ts";
import { readServices } from "../../src/node/mapping/upnp.ts";
import { elementsOf, textOf } from "../../src/node/mapping/xml.ts";
import { description, natPmpAnswer, pcpAnswer, ssdpAnswer, WAN_IP_1 } from "./fake-router.ts";

const u8 = fc.integer({ min: 0, max: 255 });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const ipv4 = fc.tuple(u8, u8, u8, u8).map((octets) => octets.join("."));
const nonce = fc.uint8Array({ minLength: 12, maxLength: 12 });
const bytes = fc.uint8Array({ maxLength: 1_300 }).map((each) => Buffer.from(each));

describe("PCP", () => {
  test("requests are those of RFC 6887, figures 2 and 9", () => {
    const request = encodeMap({
      local: "192.168.1.23",
      nonce: Uint8Array.from({ length: 12 }, (_, index) => index + 1),
      port: 0xa028,
      external: 0xa029,
      lifetime: 3600,
    });
    expect(request.toString("hex")).toBe(
      "02010000" +
        "00000e10" +
        "00000000000000000000ffffc0a80117" +
        "0102030405060708090a0b0c" +
        "11000000" +
        "a028a029" +
        "00000000000000000000ffff00000000",
    );
    expect(encodeAnnounce("10.0.0.2").toString("hex")).toBe(
      "02000000" + "00000000" + "00000000000000000000ffff0a000002",
    );
  });

  test("what was answered is read, and only by who asked", () => {
    fc.assert(
      fc.property(nonce, u16, u16, u32, u32, ipv4, (own, port, external, lifetime, epoch, address) => {
        const request = encodeMap({ local: "10.0.0.2", nonce: own, port, external, lifetime });
        const octets = address.split(".").map(Number);
        const answer = pcpAnswer(request, {
          epoch,
          address: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, ...octets),
        });
        expect(readPcpMap(answer, own, port)).toEqual({
          result: 0,
          lifetime,
          epoch,
          port: external,
          address: address === "0.0.0.0" ? undefined : address,
        });
        expect(readPcpMap(answer, own, port ^ 1)).toBeUndefined();
        expect(
          readPcpMap(
            answer,
            Uint8Array.from(own, (each) => each ^ 1),
            port,
          ),
        ).toBeUndefined();
        expect(readPcpMap(request, own, port)).toBeUndefined();
        expect(readPcp(answer, 0)).toBeUndefined();
        for (let end = 0; end < answer.length; end++)
          expect(readPcpMap(answer.subarray(0, end), own, port)).toBeUndefined();
        expect(readPcpMap(Buffer.concat([answer, Buffer.alloc(2)]), own, port)).toBeUndefined();
        expect(readPcpMap(Buffer.concat([answer, Buffer.alloc(1_100)]), own, port)).toBeUndefined();
      }),
    );
  });

  test("failures are read with and without what was asked, but not with what others asked", () => {
    const own = Buffer.alloc(12, 7);
    const request = encodeMap({ local: "10.0.0.2", nonce: own, port: 5, external: 5, lifetime: 60 });
    const refused = pcpAnswer(request, { result: 2, port: 99 });
    const failure = { result: 2, port: 0, address: undefined };
    expect(readPcpMap(refused, own, 5)).toMatchObject(failure);
    expect(readPcpMap(refused.subarray(0, 24), own, 5)).toMatchObject(failure);
    expect(readPcpMap(refused, Buffer.alloc(12, 8), 5)).toBeUndefined();
    // A server of NAT-PMP alone.
    expect(readPcp(Buffer.from("0080000100000000", "hex"), 0)).toMatchObject({ result: 1 });
    expect(readPcp(Buffer.from("0080000000000000", "hex"), 0)).toBeUndefined();
  });

  test("an address that is no IPv4 address is none", () => {
    const own = Buffer.alloc(12, 7);
    const request = encodeMap({ local: "10.0.0.2", nonce: own, port: 5, external: 5, lifetime: 60 });
    const answer = pcpAnswer(request, { address: Buffer.from("20010db8000000000000000000000001", "hex") });
    expect(readPcpMap(answer, own, 5)?.address).toBeUndefined();
  });

  test("any bytes", () => {
    fc.assert(
      fc.property(bytes, nonce, u16, fc.constantFrom(0, 1), (answer, own, port, opcode) => {
        // Random bytes are seldom an answer: half of these begin like one.
        for (const each of [answer, Buffer.concat([Buffer.of(2, 0x80 | opcode, 0, 0), answer])]) {
          const head = readPcp(each, opcode);
          if (head) expect(each.length).toBeLessThanOrEqual(1_100);
          expect(readPcpMap(each, own, port)?.port ?? 0).toBeLessThanOrEqual(0xffff);
        }
      }),
    );
  });
});

describe("NAT-PMP", () => {
  test("requests are those of RFC 6886, section 3.3", () => {
    expect(encodeNatPmpMap({ port: 0xa028, external: 0xa029, lifetime: 3600 }).toString("hex")).toBe(
      "00010000a028a02900000e10",
    );
  });

  test("what was answered is read, and only by who asked", () => {
    fc.assert(
      fc.property(u16, u16, u32, u32, ipv4, (port, external, lifetime, epoch, address) => {
        const answer = natPmpAnswer(encodeNatPmpMap({ port, external, lifetime }), { epoch });
        expect(readNatPmpMapping(answer, port)).toEqual({ result: 0, epoch, port: external, lifetime });
        expect(readNatPmpMapping(answer, port ^ 1)).toBeUndefined();
        const outer = natPmpAnswer(Buffer.of(0, 0), { epoch, address });
        expect(readNatPmpAddress(outer)).toEqual({
          result: 0,
          epoch,
          address: address === "0.0.0.0" ? undefined : address,
        });
        expect(readNatPmpAddress(answer)).toBeUndefined();
        expect(readNatPmpMapping(outer, port)).toBeUndefined();
        for (let end = 0; end < answer.length; end++) {
          expect(readNatPmpMapping(answer.subarray(0, end), port)).toBeUndefined();
          if (end < outer.length) expect(readNatPmpAddress(outer.subarray(0, end))).toBeUndefined();
        }
      }),
    );
  });

  test("any bytes", () => {
    fc.assert(
      fc.property(bytes, u16, u8, (answer, port, opcode) => {
        for (const each of [answer, Buffer.concat([Buffer.of(0, opcode, 0, 0), answer])]) {
          readNatPmpAddress(each);
          expect(readNatPmpMapping(each, port)?.port ?? 0).toBeLessThanOrEqual(0xffff);
        }
      }),
    );
  });
});

describe("SSDP", () => {
  const read = (location: string): string | undefined =>
    readLocation(Buffer.from(ssdpAnswer(location)), "10.0.0.1")?.href;

  test.each([
    ["http://10.0.0.1:5000/root.xml", "http://10.0.0.1:5000/root.xml"],
    ["http://10.0.0.1/a?b", "http://10.0.0.1/a?b"],
    // Other ways of writing the same address.
    ["http://0x0a.1:80/", "http://10.0.0.1/"],
    ["http://10.0.0.2/root.xml", undefined],
    ["http://router/root.xml", undefined],
    ["https://10.0.0.1/root.xml", undefined],
    ["file:///etc/passwd", undefined],
    ["http://user:pass@10.0.0.1/", undefined],
    ["http://10.0.0.1@10.0.0.2/", undefined],
    ["http://10.0.0.1.example.com/", undefined],
    ["http://[::ffff:10.0.0.1]/", undefined],
    ["http://10.0.0.1:0/", undefined],
    ["http://10.0.0.1:99999/", undefined],
    ["/root.xml", undefined],
    ["", undefined],
  ])("a device says to be at %s", (location, place) => {
    expect(read(location)).toBe(place);
  });

  test("other messages, and endless ones", () => {
    const answer = ssdpAnswer("http://10.0.0.1/");
    expect(readLocation(Buffer.from(answer.replace("200 OK", "404 Not Found")), "10.0.0.1")).toBeUndefined();
    expect(
      readLocation(Buffer.from(answer.replace("HTTP/1.1 200 OK", "NOTIFY * HTTP/1.1")), "10.0.0.1"),
    ).toBeUndefined();
    expect(readLocation(Buffer.from(answer + " ".repeat(2_048)), "10.0.0.1")).toBeUndefined();
    expect(
      readLocation(Buffer.from("HTTP/1.0 200 OK\nLOCATION:http://10.0.0.1/x\n\n"), "10.0.0.1")?.href,
    ).toBe("http://10.0.0.1/x");
  });

  test("any text leads to the router or nowhere", () => {
    const location = fc.oneof(
      fc.string(),
      fc.webUrl(),
      fc.string().map((path) => `http://10.0.0.1${path}`),
    );
    fc.assert(
      fc.property(location, fc.string(), (text, base) => {
        for (const found of [
          readLocation(Buffer.from(ssdpAnswer(text)), "10.0.0.1"),
          readLocation(Buffer.from(text), "10.0.0.1"),
          placeAt("10.0.0.1", text, new URL("http://10.0.0.1/")),
          placeAt("10.0.0.1", base, placeAt("10.0.0.1", text)),
        ])
          expect(found?.host.replace(/:\d+$/, "") ?? "10.0.0.1").toBe("10.0.0.1");
      }),
    );
  });
});

describe("descriptions", () => {
  const location = new URL("http://10.0.0.1:5000/a/root.xml");
  const controls = (xml: string): string[] => readServices(xml, location).map(({ control }) => control.href);

  test("services that open ports, the best first", () => {
    const xml = description(
      { type: "urn:schemas-upnp-org:service:Layer3Forwarding:1", control: "/l3f" },
      { type: "urn:schemas-upnp-org:service:WANPPPConnection:1", control: "/ppp" },
      { type: WAN_IP_1, control: "ip1?a=1&amp;b=2" },
      { type: "urn:schemas-upnp-org:service:WANIPConnection:2", control: "http://10.0.0.1:6000/ip2" },
    );
    expect(controls(xml)).toEqual([
      "http://10.0.0.1:6000/ip2",
      "http://10.0.0.1:5000/a/ip1?a=1&b=2",
      "http://10.0.0.1:5000/ppp",
    ]);
  });

  test("prefixes, line breaks, attributes, an URLBase", () => {
    const xml = `<r:root>\r\n<r:URLBase>http://10.0.0.1:7000/</r:URLBase>
      <r:service a="b">
        <r:serviceType>\n ${WAN_IP_1}\n</r:serviceType >
        <r:controlURL>ctl</r:controlURL></r:service></r:root>`;
    expect(controls(xml)).toEqual(["http://10.0.0.1:7000/ctl"]);
  });

  test("places elsewhere are none", () => {
    const service = { type: WAN_IP_1, control: "/ctl" };
    const base = (text: string): string => `<root><URLBase>${text}</URLBase>${description(service)}</root>`;
    expect(controls(base("http://10.0.0.2/"))).toEqual(["http://10.0.0.1:5000/ctl"]);
    expect(controls(base("https://10.0.0.1/"))).toEqual(["http://10.0.0.1:5000/ctl"]);
    for (const control of [
      "http://10.0.0.2/ctl",
      "//10.0.0.2/ctl",
      "https://10.0.0.1/",
      "http://a@10.0.0.1/",
      "gopher:x",
    ])
      expect(controls(description({ type: WAN_IP_1, control }))).toEqual([]);
  });

  test("nothing is evaluated", () => {
    const xml = `<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd"><!ENTITY y "&x;&x;">]><r><a>&y;&#47;&amp;lt;</a></r>`;
    expect(textOf(xml, "a")).toBe("&y;&#47;&lt;");
  });

  test("elements", () => {
    expect(elementsOf("<a>1</a><b/><x:a y='2'>2</x:a><ab>3</ab><a/><a />", "a", 9)).toEqual([
      "1",
      "2",
      "",
      "",
    ]);
    expect(elementsOf("<a>1</a><a>2</a>", "a", 1)).toEqual(["1"]);
    expect(elementsOf("<a>1", "a", 9)).toEqual([]);
    expect(textOf("<b></b>", "a")).toBeUndefined();
  });

  test("any text, and texts made to take long", () => {
    const piece = fc.constantFrom(
      "<",
      ">",
      "/",
      "</service>",
      "<service>",
      "<x:service ",
      "controlURL>",
      "<controlURL>",
      "\n",
      "&amp;",
    );
    const soup = fc.array(fc.oneof(piece, fc.string())).map((pieces) => pieces.join(""));
    fc.assert(
      fc.property(soup, (xml) => {
        for (const { control } of readServices(xml, location)) expect(control.hostname).toBe("10.0.0.1");
      }),
    );
    const size = 128 * 1024;
    for (const each of [
      "<service ",
      "<service>",
      "<service/",
      "<",
      "<a:",
      "</service",
      "a",
      " ",
      "<!--",
      "<service><serviceType>",
    ]) {
      expect(readServices(each.repeat(size / each.length), location)).toEqual([]);
      expect(textOf(each.repeat(size / each.length), "service") ?? "").not.toContain("</service>");
    }
  });
});

describe("the epoch", () => {
  const judge = (...answers: readonly (readonly [atSeconds: number, epoch: number])[]): boolean[] => {
    let time = 0;
    const restarted = createEpoch(() => time * 1_000);
    return answers.map(([at, epoch]) => {
      time = at;
      return restarted(epoch);
    });
  };

  test("goes on, goes back, starts anew", () => {
    expect(judge([0, 500])).toEqual([false]);
    expect(judge([0, 500], [1800, 2300], [3600, 4100])).toEqual([false, false, false]);
    // A packet that was overtaken.
    expect(judge([0, 500], [0, 499])).toEqual([false, false]);
    expect(judge([0, 500], [0, 498])).toEqual([false, true]);
    expect(judge([0, 500], [1800, 3], [1810, 13])).toEqual([false, true, false]);
    // Started anew soon after the first answer: its clock is far behind, and yet has not gone back.
    expect(judge([0, 5], [1800, 900])).toEqual([false, true]);
    expect(judge([0, 5], [100, 4_000_000_000])).toEqual([false, true]);
    // A clock that is slow by 5 %.
    expect(judge([0, 0], [3600, 3420])).toEqual([false, false]);
  });
});

describe("the default gateway", () => {
  test("of Linux", () => {
    const table = [
      "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
      "wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0",
      "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0",
      "eth1\t00000000\t0102A8C0\t0002\t0\t0\t1\t00000000\t0\t0\t0",
      "eth2\t00000000\t0103A8C0\t0203\t0\t0\t1\t00000000\t0\t0\t0",
      "tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0",
      "tun0\t00000000\t0105080A\t0003\t0\t0\t0\t00000080\t0\t0\t0",
      "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0",
      "",
    ].join("\n");
    expect(parseProcRoute(table, "LE")).toEqual(["192.168.1.1", "192.168.0.1"]);
    expect(parseProcRoute("h\neth0\t00000000\tC0A80101\t0003\t0\t0\t1\t00000000\n", "BE")).toEqual([
      "192.168.1.1",
    ]);
  });

  test("of macOS and the BSDs", () => {
    const table = `Routing tables

Internet:
Destination        Gateway            Flags               Netif Expire
default            192.168.1.1        UGScg                 en0
default            link#24            UCSIg           bridge100      !
default            10.8.0.1           UGScIg              utun4
127                127.0.0.1          UCS                   lo0
`;
    expect(parseNetstat(table)).toEqual(["192.168.1.1", "10.8.0.1"]);
  });

  test("of Windows, in whatever language", () => {
    const table = `===========================================================================
Schnittstellenliste
 12...00 15 5d 01 02 03 ......Ethernet
===========================================================================
IPv4-Routentabelle
Aktive Routen:
     Netzwerkziel    Netzwerkmaske          Gateway    Schnittstelle Metrik
          0.0.0.0          0.0.0.0      192.168.2.1    192.168.2.23     35\r
          0.0.0.0          0.0.0.0      192.168.1.1    192.168.1.23     25\r
          0.0.0.0          0.0.0.0   Auf Verbindung        10.8.0.2      5
===========================================================================
Ständige Routen:
  Netzwerkadresse          Netzmaske  Gatewayadresse  Metrik
          0.0.0.0          0.0.0.0      192.168.9.1  Standard
`;
    expect(parseRoutePrint(table)).toEqual(["192.168.1.1", "192.168.2.1"]);
  });

  test("of any text", () => {
    const isAddress = /^\d+\.\d+\.\d+\.\d+$/;
    const text = fc
      .array(
        fc.oneof(
          fc.string(),
          fc.constantFrom(" ", "\n", "0.0.0.0", "00000000", "default", "0003", "192.168.1.1"),
        ),
      )
      .map((all) => all.join(" "));
    fc.assert(
      fc.property(text, (table) => {
        for (const each of [
          ...parseProcRoute(table, "LE"),
          ...parseNetstat(table),
          ...parseRoutePrint(table),
        ])
          expect(each).toMatch(isAddress);
      }),
    );
  });

  test.each(["127.0.0.1", "169.254.3.4", "8.8.8.8", "fd00::1", "::1", "localhost", "", "10.88.77.66"])(
    "none sees us as %s",
    async (bind) => {
      expect(await findGateway(bind)).toBeUndefined();
    },
  );
});

test("a router that is silent does not keep a process", () => {
  const script = `
    import { mapPortAt } from ${JSON.stringify(join(import.meta.dirname, "../../dist/node/mapping.js"))};
    import { createSocket } from "node:dgram";
    const silent = createSocket("udp4").unref();
    silent.bind(0, "127.0.0.1", () => {
      const router = { address: "127.0.0.1", local: "127.0.0.1", pcpPort: silent.address().port, ssdp: [silent.address()] };
      const signal = new AbortController().signal;
      mapPortAt(router, { port: 1, signal, onlog: () => undefined }).then(() => console.log("waited"));
      console.log("asked");
    });
    process.on("exit", () => console.log("gone"));`;
  const output = execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  expect(output).toBe("asked\ngone\n");
});
