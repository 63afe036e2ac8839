/** The server's side of SOCKS and HTTP CONNECT: what clients send, whole and in pieces, well and badly. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  decodeUdpRequest,
  encodeUdpReply,
  failure,
  Handshake,
  MAX_HANDSHAKE,
  success,
  type Dialect,
  type SocksRequest,
} from "../../src/apps/forward/socks.ts";
import { DcpipeError, type ErrorCode } from "../../src/errors.ts";
import { formatAddress } from "../../src/wire/candidate.ts";

const ascii = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"));
const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replace(/\s/g, ""), "hex"));
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const concat = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));
/** A length in one byte, then the text. */
const counted = (text: string): string => {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.of(bytes.length), bytes]).toString("hex");
};

interface Outcome {
  /** All that was sent to the client, in hex. */
  readonly sent: string;
  readonly request?: { readonly rest: string } & Omit<SocksRequest, "rest">;
  readonly error?: { readonly code: ErrorCode; readonly message: string };
}

/** What comes of these chunks; payload that follows in later ones is taken for `rest`, as it would be read. */
function run(chunks: readonly Uint8Array[]): Outcome {
  const handshake = new Handshake();
  let sent = "";
  for (const [i, chunk] of chunks.entries()) {
    const step = handshake.push(chunk);
    sent += toHex(step.reply);
    if (step.type === "more") continue;
    expect(() => handshake.push(ascii("x"))).toThrow(RangeError);
    if (step.type === "reject")
      return { sent, error: { code: step.error.code, message: step.error.message } };
    const { rest, ...request } = step.request;
    return { sent, request: { ...request, rest: toHex(concat(rest, ...chunks.slice(i + 1))) } };
  }
  return { sent };
}

/** Whole, byte by byte, and cut anywhere: the outcome is the same. */
function everyWay(bytes: Uint8Array): Outcome {
  const whole = run([bytes]);
  expect(run(Array.from(bytes, (byte) => Uint8Array.of(byte)))).toEqual(whole);
  for (let at = 0; at <= bytes.length; at++)
    expect(run([bytes.subarray(0, at), bytes.subarray(at)])).toEqual(whole);
  return whole;
}

const host = (name: string, port: number) => ({ type: "host", host: name, port });

describe("requests", () => {
  const HELLO = "05 01 00";
  test.each<[string, Uint8Array, Dialect, string, ReturnType<typeof host>]>([
    ["SOCKS 4", hex("04 01 0050 0a000005 00"), "socks4", "", host("10.0.0.5", 80)],
    ["SOCKS 4 with a user", hex("04 01 0050 0a000005 726f6f74 00"), "socks4", "", host("10.0.0.5", 80)],
    [
      "SOCKS 4a",
      concat(hex("04 01 0050 00000001 00"), ascii("db.example.com\0")),
      "socks4",
      "",
      host("db.example.com", 80),
    ],
    [
      "SOCKS 4a with a user",
      concat(hex("04 01 01bb 000000ff"), ascii("me\0h\0")),
      "socks4",
      "",
      host("h", 443),
    ],
    [
      "SOCKS 4a, all fields as long as may be",
      concat(hex("04 01 01bb 000000ff"), ascii(`${"u".repeat(255)}\0${"h".repeat(255)}\0`)),
      "socks4",
      "",
      host("h".repeat(255), 443),
    ],
    ["SOCKS 4 to 0.0.0.0, which is no 4a", hex("04 01 0050 00000000 00"), "socks4", "", host("0.0.0.0", 80)],
    ["SOCKS 5, IPv4", hex(`${HELLO} 05 01 00 01 7f000001 0050`), "socks5", "0500", host("127.0.0.1", 80)],
    [
      "SOCKS 5, IPv6",
      hex(`${HELLO} 05 01 00 04 fd00 0000 0000 0000 0000 0000 0000 0001 0050`),
      "socks5",
      "0500",
      host("fd00::1", 80),
    ],
    [
      "SOCKS 5, a name",
      hex(`${HELLO} 05 01 00 03 ${counted("db.example.com")} 1538`),
      "socks5",
      "0500",
      host("db.example.com", 5432),
    ],
    [
      "SOCKS 5, an address as a name",
      hex(`${HELLO} 05 01 00 03 ${counted("::1")} 0050`),
      "socks5",
      "0500",
      host("::1", 80),
    ],
    [
      "SOCKS 5, a name in UTF-8",
      hex(`${HELLO} 05 01 00 03 ${counted("bücher.example")} 0050`),
      "socks5",
      "0500",
      host("bücher.example", 80),
    ],
    [
      "SOCKS 5, the longest name",
      hex(`${HELLO} 05 01 00 03 ${counted("h".repeat(255))} 0050`),
      "socks5",
      "0500",
      host("h".repeat(255), 80),
    ],
    [
      "SOCKS 5, many methods",
      hex(`05 04 02 01 00 80 05 01 00 01 7f000001 0050`),
      "socks5",
      "0500",
      host("127.0.0.1", 80),
    ],
    [
      "HTTP",
      ascii("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"),
      "http",
      "",
      host("example.com", 443),
    ],
    ["HTTP without headers", ascii("CONNECT 10.0.0.5:22 HTTP/1.0\r\n\r\n"), "http", "", host("10.0.0.5", 22)],
    [
      "HTTP, IPv6",
      ascii("CONNECT [fd00::1]:443 HTTP/1.1\r\nA: b\r\nC: d\r\n\r\n"),
      "http",
      "",
      host("fd00::1", 443),
    ],
    ["HTTP with bare line ends", ascii("CONNECT h:443 HTTP/1.1\nA: b\n\n"), "http", "", host("h", 443)],
  ])("%s", (_name, bytes, dialect, sent, target) => {
    const request = { command: "connect", target, dialect, rest: "" };
    expect(everyWay(bytes)).toEqual({ sent, request });
    // Clients that know what they want do not wait for the answer.
    const payload = hex("16 03 01 00 0d0a0d0a 00");
    expect(everyWay(concat(bytes, payload))).toEqual({ sent, request: { ...request, rest: toHex(payload) } });
    // Until the last byte there is none.
    expect(run([bytes.subarray(0, -1)])).toEqual({ sent });
  });

  test("UDP ASSOCIATE", () => {
    const known = everyWay(hex(`${HELLO} 05 03 00 01 7f000001 c000`));
    expect(known.request).toMatchObject({ command: "associate", target: host("127.0.0.1", 0xc000) });
    const unknown = everyWay(hex(`${HELLO} 05 03 00 01 00000000 0000`));
    expect(unknown.request).toMatchObject({ command: "associate", target: host("0.0.0.0", 0) });
  });

  test("the choice of the method goes out before the request has come, and once", () => {
    const handshake = new Handshake();
    expect(handshake.push(hex("05 02 00"))).toEqual({ type: "more", reply: new Uint8Array() });
    expect(handshake.push(hex("02"))).toEqual({ type: "more", reply: hex("05 00") });
    expect(handshake.push(hex("05 01 00 01"))).toEqual({ type: "more", reply: new Uint8Array() });
    expect(handshake.push(hex("7f000001 0050 aa"))).toMatchObject({
      type: "request",
      reply: new Uint8Array(),
      request: { rest: hex("aa") },
    });
  });

  test("the payload behind a request may be long", () => {
    const payload = new Uint8Array(3 * MAX_HANDSHAKE).fill(10);
    for (const request of [
      hex(`${HELLO} 05 01 00 01 7f000001 0050`),
      hex("04 01 0050 0a000005 00"),
      ascii("CONNECT h:1 HTTP/1.1\r\n\r\n"),
    ])
      expect(run([concat(request, payload)]).request?.rest).toBe(toHex(payload));
  });

  test("what was pushed may change afterwards", () => {
    const chunk = ascii("CONNECT h:1 HTTP/1.1\r\n\r\nrest");
    const step = new Handshake().push(chunk);
    chunk.fill(0);
    expect(step.type === "request" && Buffer.from(step.request.rest).toString()).toBe("rest");
  });

  test("a head of HTTP has a limit", () => {
    const head = (size: number): Uint8Array => {
      const [start, end] = ["CONNECT h:1 HTTP/1.1\r\nA: ", "\r\n\r\n"];
      return ascii(start + "x".repeat(size - start.length - end.length) + end);
    };
    for (const cut of [0, 1, 9000, MAX_HANDSHAKE - 1]) {
      const good = head(MAX_HANDSHAKE);
      expect(run([good.subarray(0, cut), good.subarray(cut)]).request).toBeDefined();
      const long = head(MAX_HANDSHAKE + 1);
      const outcome = run([long.subarray(0, cut), long.subarray(cut)]);
      expect(outcome.error?.code).toBe("PROTOCOL");
      expect(Buffer.from(outcome.sent, "hex").toString()).toMatch(/^HTTP\/1\.1 431 /);
    }
  });
});

describe("clients that are refused", () => {
  test.each<[string, Uint8Array, string, ErrorCode]>([
    ["TLS", hex("16"), "", "PROTOCOL"],
    ["a zero byte", hex("00"), "", "PROTOCOL"],
    ["SOCKS 6", hex("06"), "", "PROTOCOL"],
    ["no methods", hex("05 00"), "05ff", "PROTOCOL"],
    ["a password only", hex("05 01 02"), "05ff", "REFUSED"],
    [
      "all methods but one",
      concat(
        hex("05 ff"),
        Uint8Array.from({ length: 255 }, (_, i) => i + 1),
      ),
      "05ff",
      "REFUSED",
    ],
    ["another version in the request", hex("05 01 00 04"), "0500 0501000100000000 0000", "PROTOCOL"],
    ["SOCKS 5 BIND", hex("05 01 00 05 02 00 01 7f000001 0050"), "0500 0507000100000000 0000", "REFUSED"],
    [
      "an unknown command",
      hex("05 01 00 05 09 00 01 7f000001 0050"),
      "0500 0507000100000000 0000",
      "REFUSED",
    ],
    ["an unknown address type", hex("05 01 00 05 01 00 02"), "0500 0508000100000000 0000", "PROTOCOL"],
    ["port 0", hex("05 01 00 05 01 00 01 7f000001 0000"), "0500 0501000100000000 0000", "PROTOCOL"],
    ["an empty name", hex("05 01 00 05 01 00 03 00 0050"), "0500 0501000100000000 0000", "PROTOCOL"],
    [
      "a name with a zero byte",
      hex(`05 01 00 05 01 00 03 ${counted("a\0b")} 0050`),
      "0500 0501000100000000 0000",
      "PROTOCOL",
    ],
    [
      "a name with a line break",
      hex(`05 01 00 05 01 00 03 ${counted("a\nb")} 0050`),
      "0500 0501000100000000 0000",
      "PROTOCOL",
    ],
    [
      "a name that is a command",
      hex(`05 01 00 05 01 00 03 ${counted("$(reboot)")} 0050`),
      "0500 0501000100000000 0000",
      "PROTOCOL",
    ],
    [
      "a name that is not UTF-8",
      hex("05 01 00 05 01 00 03 02 61ff 0050"),
      "0500 0501000100000000 0000",
      "PROTOCOL",
    ],
    ["SOCKS 4 BIND", hex("04 02 0050 0a000005 00"), "005b000000000000", "REFUSED"],
    ["SOCKS 4 port 0", hex("04 01 0000 0a000005 00"), "005b000000000000", "PROTOCOL"],
    ["SOCKS 4a, an empty name", hex("04 01 0050 00000001 00 00"), "005b000000000000", "PROTOCOL"],
    [
      "SOCKS 4a, a name with a blank",
      concat(hex("04 01 0050 00000001 00"), ascii("a b\0")),
      "005b000000000000",
      "PROTOCOL",
    ],
    [
      "SOCKS 4, a user id without an end",
      concat(hex("04 01 0050 0a000005"), ascii("u".repeat(256))),
      "005b000000000000",
      "PROTOCOL",
    ],
    [
      "SOCKS 4a, a name without an end",
      concat(hex("04 01 0050 00000001 00"), ascii("h".repeat(256))),
      "005b000000000000",
      "PROTOCOL",
    ],
  ])("%s", (_name, bytes, sent, code) => {
    const outcome = everyWay(bytes);
    expect(outcome).toMatchObject({ sent: sent.replace(/\s/g, ""), error: { code } });
    expect(outcome.request).toBeUndefined();
    // Not before its last byte: what came before could still have become a request.
    expect(run([bytes.subarray(0, -1)]).error).toBeUndefined();
  });

  test.each<[string, number, ErrorCode]>([
    ["GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", 405, "REFUSED"],
    ["get / HTTP/1.1\r\n\r\n", 405, "REFUSED"],
    ["connect h:80 HTTP/1.1\r\n\r\n", 405, "REFUSED"],
    ["POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n\x05\x01\x00", 405, "REFUSED"],
    ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405, "REFUSED"],
    ["CONNECT h HTTP/1.1\r\n\r\n", 400, "PROTOCOL"],
    ["CONNECT h:0 HTTP/1.1\r\n\r\n", 400, "PROTOCOL"],
    ["CONNECT h:65536 HTTP/1.1\r\n\r\n", 400, "PROTOCOL"],
    ["CONNECT h:80-90 HTTP/1.1\r\n\r\n", 400, "PROTOCOL"],
    ["CONNECT :80 HTTP/1.1\r\n\r\n", 400, "PROTOCOL"],
    ["CONNECT ::1:80 HTTP/1.1\r\n\r\n", 400, "PROTOCOL"],
    ["CONNECT [::g]:80 HTTP/1.1\r\n\r\n", 400, "PROTOCOL"],
    ["CONNECT user@h:80 HTTP/1.1\r\n\r\n", 400, "PROTOCOL"],
    ["CONNECT http://h:80/ HTTP/1.1\r\n\r\n", 400, "PROTOCOL"],
    ["CONNECT a\0b:80 HTTP/1.1\r\n\r\n", 400, "PROTOCOL"],
    ["CONNECT h:80\r\n\r\n", 400, "PROTOCOL"],
    ["CONNECT  h:80 HTTP/1.1\r\n\r\n", 400, "PROTOCOL"],
    ["CONNECT h:80 HTTP/1.1 x\r\n\r\n", 400, "PROTOCOL"],
    ["CONNECT h:80 ICY/1.1\r\n\r\n", 400, "PROTOCOL"],
    ["SSH-2.0-OpenSSH_9.2\r\n\r\n", 400, "PROTOCOL"],
  ])("%j", (text, status, code) => {
    const outcome = everyWay(ascii(text));
    expect(outcome.error?.code).toBe(code);
    const answer = Buffer.from(outcome.sent, "hex").toString();
    const [head = "", body = ""] = answer.split("\r\n\r\n");
    expect(head).toMatch(new RegExp(`^HTTP/1\\.1 ${status} .+\r\n`));
    expect(head).toContain("Connection: close");
    expect(head).toContain(`Content-Length: ${body.length}`);
    if (status === 405) {
      expect(head).toContain("Allow: CONNECT");
      expect(body).toContain("SOCKS and HTTP CONNECT");
    }
  });
});

describe("answers", () => {
  test("success", () => {
    const v4 = { address: "127.0.0.1", port: 0x1234 };
    const v6 = { address: "::1", port: 0x1234 };
    expect(toHex(success("socks4"))).toBe("005a000000000000");
    expect(toHex(success("socks4", v4))).toBe("005a12347f000001");
    expect(toHex(success("socks4", v6))).toBe("005a000000000000");
    expect(toHex(success("socks5"))).toBe("05000001000000000000");
    expect(toHex(success("socks5", v4))).toBe("050000017f0000011234");
    expect(toHex(success("socks5", v6))).toBe(`05000004${"00".repeat(15)}011234`);
    expect(Buffer.from(success("http", v4)).toString()).toMatch(/^HTTP\/1\.1 200 [^\r]+\r\n\r\n$/);
  });

  test.each<[ErrorCode, number, number]>([
    ["REFUSED", 2, 403],
    ["UNREACHABLE", 4, 502],
    ["NAME_UNKNOWN", 4, 502],
    ["CONNECTION_REFUSED", 5, 502],
    ["TIMEOUT", 6, 504],
    ["CONNECTION_RESET", 1, 502],
    ["LIMIT", 1, 502],
    ["PEER_GONE", 1, 502],
  ])("%s", (code, status, page) => {
    const error = new DcpipeError(code, "10.0.0.5:22 is\r\n\x1b[2Jnot \u202eoffered hére");
    expect(toHex(failure("socks5", error))).toBe(`050${status}0001000000000000`);
    expect(toHex(failure("socks4", error))).toBe("005b000000000000");
    const [head = "", body = ""] = Buffer.from(failure("http", error)).toString().split("\r\n\r\n");
    expect(head).toMatch(new RegExp(`^HTTP/1\\.1 ${page} [^\r]+\r\n`));
    expect(head).toContain(`Content-Length: ${Buffer.byteLength(body)}`);
    // Words of the other side move nobody's cursor.
    expect(body).toBe("10.0.0.5:22 is???[2Jnot ?offered hére\n");
  });
});

describe("datagrams", () => {
  test.each<[string, string, ReturnType<typeof host>]>([
    ["IPv4", "0000 00 01 08080808 0035", host("8.8.8.8", 53)],
    ["IPv6", `0000 00 04 ${"00".repeat(15)}01 0035`, host("::1", 53)],
    ["a name", `0000 00 03 ${counted("dns.example")} 0035`, host("dns.example", 53)],
  ])("to %s", (_name, head, target) => {
    for (const payload of ["", "aabb", "00".repeat(2000)])
      expect(decodeUdpRequest(hex(head + payload))).toEqual({ target, payload: hex(payload) });
    for (let length = 0; length < hex(head).length; length++)
      expect(decodeUdpRequest(hex(head).subarray(0, length))).toBe(undefined);
  });

  test.each([
    ["a fragment", "0000 01 01 08080808 0035 aa"],
    ["the last fragment", "0000 80 01 08080808 0035 aa"],
    ["an unknown type", "0000 00 02 08080808 0035 aa"],
    ["port 0", "0000 00 01 08080808 0000 aa"],
    ["an empty name", "0000 00 03 00 0035 aa"],
    ["a name that is none", `0000 00 03 ${counted("a b")} 0035 aa`],
    ["nothing", ""],
  ])("%s is passed over", (_name, datagram) => {
    expect(decodeUdpRequest(hex(datagram))).toBe(undefined);
  });

  test("a reply reads as what it was made of", () => {
    const address = fc
      .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
      .map(formatAddress);
    const name = fc.stringMatching(/^[a-z0-9_][a-z0-9._-]{0,100}$/);
    const port = fc.integer({ min: 1, max: 65535 });
    fc.assert(
      fc.property(fc.oneof(address, name), port, fc.uint8Array(), (from, at, payload) => {
        expect(decodeUdpRequest(encodeUdpReply(from, at, payload))).toEqual({
          target: host(from, at),
          payload,
        });
      }),
    );
    expect(() => encodeUdpReply("x".repeat(256), 53, new Uint8Array())).toThrow(RangeError);
  });

  test("any datagram gives a target that can be asked for, or nothing", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const read = decodeUdpRequest(Uint8Array.of(0, 0, 0, ...bytes));
        if (read) expect(read.target.port).toBeGreaterThan(0);
      }),
    );
  });
});

test("any bytes in any pieces give one outcome", () => {
  const piece = fc.constantFrom(
    ...[
      "05 01 00",
      "05 02 00 02",
      "05 01 00 01 7f000001 0050",
      "05 01 00 03 03 616263 0050",
      "04 01 0050",
    ].map(hex),
    ...["00000001 00", "0a000005 00", "616263 00", "0d0a", "0a"].map(hex),
    ...["CONNECT ", "GET ", "h:80", "[::1]:80", " HTTP/1.1", "\r\n", "\r\n\r\n", "A: b\r\n"].map(ascii),
  );
  const bytes = fc
    .array(fc.oneof(piece, fc.uint8Array({ maxLength: 6 })), { maxLength: 8 })
    .map((parts) => concat(...parts));
  fc.assert(
    fc.property(bytes, fc.array(fc.nat(40), { maxLength: 6 }), (message, cuts) => {
      const at = cuts.map((cut) => Math.min(cut, message.length)).sort((a, b) => a - b);
      const chunks = [...at, message.length].map((end, i) => message.subarray(at[i - 1] ?? 0, end));
      expect(run(chunks)).toEqual(run([message]));
    }),
    { numRuns: 5000 },
  );
});
