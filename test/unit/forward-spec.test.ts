/** What people write to say what is forwarded, good and bad; and that what is shown reads as what was meant. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  formatPlace,
  formatTarget,
  looksLikeTarget,
  parseDynamic,
  parseForward,
  parseTarget,
  type Forward,
} from "../../src/apps/forward/spec.ts";
import { formatAddress } from "../../src/wire/candidate.ts";
import { formatCode, parsePeer, passwordFrom } from "../../src/wire/code.ts";
import { encodeForwardRecord, MAX_OFFERS, type Place, type Protocol } from "../../src/wire/forward.ts";
import { decodeHeader, encodeHeader, type Target } from "../../src/wire/header.ts";

const tcp = (host: string, port: number) => ({ protocol: "tcp", target: { type: "host", host, port } });
const udp = (host: string, port: number) => ({ protocol: "udp", target: { type: "host", host, port } });
const unix = (path: string) => ({ protocol: "tcp", target: { type: "unix", path } });
const at = (address: string, port: number): Place => ({ type: "host", address, port });
const socket = (path: string): Place => ({ type: "unix", path });

function thrown(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error("accepted");
}

describe("TARGET", () => {
  test.each([
    ["3000", [tcp("localhost", 3000)]],
    ["3000/tcp", [tcp("localhost", 3000)]],
    ["1", [tcp("localhost", 1)]],
    ["65535", [tcp("localhost", 65535)]],
    ["53/udp", [udp("localhost", 53)]],
    ["host:3000", [tcp("host", 3000)]],
    ["host:53/udp", [udp("host", 53)]],
    ["Db_1.example.com.:5432/tcp", [tcp("Db_1.example.com.", 5432)]],
    ["bücher.example:80", [tcp("bücher.example", 80)]],
    ["10.0.0.5:22", [tcp("10.0.0.5", 22)]],
    ["[::1]:80", [tcp("::1", 80)]],
    ["[fe80::1%eth0]:80", [tcp("fe80::1%eth0", 80)]],
    ["[fd00::2]:53/udp", [udp("fd00::2", 53)]],
    ["[localhost]:80", [tcp("localhost", 80)]],
    ["8000-8002", [tcp("localhost", 8000), tcp("localhost", 8001), tcp("localhost", 8002)]],
    ["host:8000-8001/udp", [udp("host", 8000), udp("host", 8001)]],
    ["80-80", [tcp("localhost", 80)]],
    ["unix:/var/run/docker.sock", [unix("/var/run/docker.sock")]],
    ["unix:/tmp/a:b/udp", [unix("/tmp/a:b/udp")]],
    ["unix://./pipe/docker_engine", [unix("//./pipe/docker_engine")]],
  ])("%s", (text, offers) => {
    expect(parseTarget(text)).toEqual(offers);
    expect(looksLikeTarget(text)).toBe(true);
  });

  test.each([
    "",
    "0",
    "65536",
    "99999",
    "host",
    "host:",
    ":80",
    "host:0",
    "host:65536",
    "host:http",
    "host:-1",
    "host:80-",
    "host:90-80",
    "host:0-5",
    "1-2000",
    "80/sctp",
    "80/",
    "80/udp/udp",
    "::1:80",
    "a:b:80",
    "[::1]",
    "[::1]80",
    "[::1:80",
    "::1]:80",
    "[::g]:80",
    "[1::2::3]:80",
    "ho st:80",
    "ho\tst:80",
    "host\n:80",
    "ho\0st:80",
    "-host:80",
    "*:80",
    "user@host:80",
    "a,b:80",
    "$(id):80",
    "unix:",
    "unix:docker.sock",
    "unix:/a\0b",
    `unix:/${"x".repeat(255)}`,
    `${"x".repeat(256)}:80`,
    "/var/run/docker.sock",
    // What PEER may be.
    "7-guitar-sandwich",
    "https://host/#7-guitar-sandwich",
    "https://host:8787/#7-guitar-sandwich",
    "host:8787#7-guitar-sandwich",
    "host:8787/#7",
    "dc1EAABAgMEBQYHCAkKCwwNDg8",
    "laptop",
    "my-laptop_2.home",
    "8000-8010-x",
  ])("%j is none", (text) => {
    expect(thrown(() => parseTarget(text))).toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(/^TARGET [^]*: ([^]*; )?write PORT or HOST:PORT/) as string,
    });
    expect(looksLikeTarget(text)).toBe(false);
  });

  test("a range has as many ports as offers may be made", () => {
    expect(parseTarget(`1-${MAX_OFFERS}`)).toHaveLength(MAX_OFFERS);
    expect(thrown(() => parseTarget(`1-${MAX_OFFERS + 1}`))).toMatchObject({
      message: expect.stringContaining("at most 1024 ports") as string,
    });
  });

  test("no code is one", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 999_999 }),
        fc.uint8Array({ minLength: 2, maxLength: 12 }),
        (nameplate, bytes) => {
          const code = formatCode({ nameplate, password: passwordFrom(bytes) });
          expect(parsePeer(code).kind).toBe("code");
          expect(looksLikeTarget(code)).toBe(false);
          expect(looksLikeTarget(`https://host:8787/#${code}`)).toBe(false);
        },
      ),
    );
  });

  test("no word without a port is one", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Za-z0-9_.-]{0,20}[A-Za-z_.][A-Za-z0-9_.-]{0,20}$/), (word) => {
        expect(looksLikeTarget(word)).toBe(false);
      }),
    );
  });
});

describe("-L and -R", () => {
  const one = (place: Place, { protocol, target }: ReturnType<typeof tcp | typeof unix>) => [
    { protocol, place, target },
  ];

  test.each([
    ["8080:host:80", one(at("", 8080), tcp("host", 80))],
    ["0:host:80", one(at("", 0), tcp("host", 80))],
    ["8080:host:80/tcp", one(at("", 8080), tcp("host", 80))],
    ["53:host:53/udp", one(at("", 53), udp("host", 53))],
    [":8080:h:80", one(at("*", 8080), tcp("h", 80))],
    ["*:8080:h:80", one(at("*", 8080), tcp("h", 80))],
    ["*:0:h:80/udp", one(at("*", 0), udp("h", 80))],
    ["localhost:8080:h:80", one(at("", 8080), tcp("h", 80))],
    ["127.0.0.2:8080:h:80", one(at("127.0.0.2", 8080), tcp("h", 80))],
    ["0.0.0.0:8080:h:80", one(at("0.0.0.0", 8080), tcp("h", 80))],
    ["[::1]:8080:h:80", one(at("::1", 8080), tcp("h", 80))],
    ["[::]:8080:[fd00::2]:80", one(at("::", 8080), tcp("fd00::2", 80))],
    ["8080:[::1]:80", one(at("", 8080), tcp("::1", 80))],
    ["[fe80::1%eth0]:53:[::1]:53/udp", one(at("fe80::1%eth0", 53), udp("::1", 53))],
    ["/path/sock:host:80", one(socket("/path/sock"), tcp("host", 80))],
    ["/path/sock:[::1]:80", one(socket("/path/sock"), tcp("::1", 80))],
    ["8080:/path/sock", one(at("", 8080), unix("/path/sock"))],
    ["*:8080:/path/sock", one(at("*", 8080), unix("/path/sock"))],
    ["[::1]:8080:/path/sock", one(at("::1", 8080), unix("/path/sock"))],
    ["/a:/b", one(socket("/a"), unix("/b"))],
    ["/a:unix:/b", one(socket("/a"), unix("/b"))],
    ["unix:/a:/b:c", one(socket("/a"), unix("/b:c"))],
    ["unix:/a:unix:/b", one(socket("/a"), unix("/b"))],
    ["8080:unix:/var/run/docker.sock", one(at("", 8080), unix("/var/run/docker.sock"))],
    ["0:/run/x/udp", one(at("", 0), unix("/run/x/udp"))],
    ["unix:/tmp/x:host:80", one(socket("/tmp/x"), tcp("host", 80))],
    [
      "8000-8001:host:9000-9001",
      [...one(at("", 8000), tcp("host", 9000)), ...one(at("", 8001), tcp("host", 9001))],
    ],
    [
      "*:8000-8001:[::1]:9000-9001/udp",
      [...one(at("*", 8000), udp("::1", 9000)), ...one(at("*", 8001), udp("::1", 9001))],
    ],
  ])("%s", (text, forwards) => {
    expect(parseForward("-L", text)).toEqual(forwards);
    expect(parseForward("-R", text)).toEqual(forwards);
  });

  test.each([
    "",
    "80",
    "80:x",
    "80:x:",
    "80::80",
    "::",
    ":::",
    "80:h:0",
    "80:h:65536",
    "65536:h:80",
    "-1:h:80",
    "x:h:80",
    "80:h:80:",
    "b:80:h:80:x",
    "b:x:h:80",
    "80:h:http",
    "80:h:80/icmp",
    "80/udp:h:80",
    "::1:80:h:80",
    "8080:::1:80",
    "[::1:8080:h:80",
    "[x:8080:h:80",
    "b d:80:h:80",
    "80:*:80",
    "80:h h:80",
    "8000-8010:h:80",
    "80:h:8000-8010",
    "8000-8010:h:8000-8011",
    "0-1:h:80-81",
    "8010-8000:h:8010-8000",
    "1-2000:h:1-2000",
    "8000-8001:/path",
    "/path",
    "/path:",
    "/path:80",
    "/path:host:0",
    "/path:host:53/udp",
    "/path:host:80-81",
    "unix:x:h:80",
    "80:unix:x",
    "/a\0:h:80",
    `/${"x".repeat(255)}:h:80`,
    `80:/${"x".repeat(255)}`,
    "https://host:80",
    "8080:https://host:80",
  ])("%j is none", (text) => {
    for (const option of ["-L", "-R"] as const) {
      const error = thrown(() => parseForward(option, text)) as Error & { code: string };
      expect(error).toMatchObject({ code: "USAGE" });
      expect(error.message.startsWith(`${option} ${text === "" ? '""' : text}: `)).toBe(true);
      expect(error.message).toMatch(/write \[bind:\]port:host:hostport$/);
    }
  });

  test("the error says what to write", () => {
    expect(thrown(() => parseForward("-L", "80:x"))).toMatchObject({
      message: "-L 80:x: write [bind:]port:host:hostport",
    });
    expect(thrown(() => parseForward("-R", "::1:80:h:80"))).toMatchObject({
      message: "-R ::1:80:h:80: an IPv6 address stands in brackets, [::1]; write [bind:]port:host:hostport",
    });
    expect(thrown(() => parseForward("-L", "80:h:70000"))).toMatchObject({
      message: "-L 80:h:70000: ports are 1 to 65535, a range goes upwards; write [bind:]port:host:hostport",
    });
  });
});

describe("-D", () => {
  test.each([
    ["1080", at("", 1080)],
    ["0", at("", 0)],
    ["*:1080", at("*", 1080)],
    [":1080", at("*", 1080)],
    ["[::1]:1080", at("::1", 1080)],
    ["192.168.1.2:1080", at("192.168.1.2", 1080)],
    ["LOCALHOST:1080", at("", 1080)],
    ["/run/socks", socket("/run/socks")],
    ["unix:/run/socks", socket("/run/socks")],
  ])("%s", (text, place) => {
    expect(parseDynamic(text)).toEqual(place);
  });

  test.each([
    "",
    "x",
    "65536",
    "1080-1081",
    "1080/udp",
    "1080/tcp",
    "::1:1080",
    "a:b:1080",
    "unix:run",
    "a:",
  ])("%j is none", (text) => {
    expect(thrown(() => parseDynamic(text))).toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(/^-D .*write \[bind:\]port$/) as string,
    });
  });
});

describe("what is shown", () => {
  test.each<[Target, Protocol, string]>([
    [{ type: "host", host: "localhost", port: 5432 }, "tcp", "localhost:5432"],
    [{ type: "host", host: "::1", port: 80 }, "tcp", "[::1]:80"],
    [{ type: "host", host: "host", port: 53 }, "udp", "host:53/udp"],
    [{ type: "unix", path: "/path" }, "tcp", "unix:/path"],
    [{ type: "listener", id: 3 }, "tcp", "listener 3"],
  ])("%j over %s is %s", (target, protocol, text) => {
    expect(formatTarget(target, protocol)).toBe(text);
  });

  test.each<[Place, Protocol | undefined, string]>([
    [at("", 80), undefined, "localhost:80"],
    [at("*", 80), "tcp", "*:80"],
    [at("::1", 53), "udp", "[::1]:53/udp"],
    [socket("/x"), "tcp", "unix:/x"],
  ])("%j over %s is %s", (place, protocol, text) => {
    expect(formatPlace(place, protocol)).toBe(text);
  });

  const address = fc
    .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
    .map(formatAddress);
  const host = fc.oneof(address, fc.stringMatching(/^[a-z0-9_][a-zA-Z0-9._-]{0,40}$/));
  const port = fc.integer({ min: 1, max: 65535 });
  const path = fc.stringMatching(/^\/[a-zA-Z0-9._ /-]{0,60}$/);
  const protocol = fc.constantFrom<Protocol>("tcp", "udp");
  const hostTarget = fc.record({ type: fc.constant("host" as const), host, port });
  const unixTarget = fc.record({ type: fc.constant("unix" as const), path });
  const target: fc.Arbitrary<Target> = fc.oneof(hostTarget, unixTarget);
  const place: fc.Arbitrary<Place> = fc.oneof(
    fc.record({
      type: fc.constant("host" as const),
      address: fc.oneof(address, fc.constantFrom("", "*")),
      port: fc.integer({ min: 0, max: 65535 }),
    }),
    unixTarget,
  );

  test("a target reads as itself", () => {
    fc.assert(
      fc.property(target, protocol, (value, over) => {
        const protocol = value.type === "unix" ? "tcp" : over;
        expect(parseTarget(formatTarget(value, protocol))).toEqual([{ protocol, target: value }]);
      }),
    );
  });

  test("a forward reads as itself", () => {
    fc.assert(
      fc.property(place, target, protocol, (from, to, over) => {
        const protocol = from.type === "unix" || to.type === "unix" ? "tcp" : over;
        const text = `${formatPlace(from)}:${formatTarget(to, protocol)}`;
        const forward: Forward = { protocol, place: from, target: to };
        expect(parseForward("-L", text)).toEqual([forward]);
      }),
    );
  });

  test("any text gives what can be sent, or USAGE", () => {
    const pieces = fc.constantFrom(
      ..."0 1 80 65535 65536 8000-8001 : : : [ ] [::1] * / unix: /a localhost h é - /udp /tcp % \0".split(
        " ",
      ),
    );
    const anything = fc.oneof(
      fc.string(),
      fc.array(pieces, { maxLength: 9 }).map((list) => list.join("")),
    );
    fc.assert(
      fc.property(anything, (text) => {
        try {
          for (const { protocol, place, target } of parseForward("-L", text)) {
            const header = { kind: "connect", target } as const;
            expect(decodeHeader(encodeHeader(header))).toEqual(header);
            encodeForwardRecord({ type: "LISTEN", id: 0, protocol, place, target: text });
          }
        } catch (error) {
          expect(error).toMatchObject({ code: "USAGE" });
        }
        try {
          for (const { target } of parseTarget(text)) {
            const header = { kind: "flow", target } as const;
            expect(decodeHeader(encodeHeader(header))).toEqual(header);
          }
        } catch (error) {
          expect(error).toMatchObject({ code: "USAGE" });
        }
      }),
      { numRuns: 3000 },
    );
  });
});
