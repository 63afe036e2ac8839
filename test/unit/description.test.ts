import fc from "fast-check";
import { describe as suite, expect, test } from "vitest";
import {
  candidateLine,
  describe,
  MAX_MESSAGE_SIZE,
  parseCandidate,
  type DescriptionParts,
} from "../../src/transport/description.ts";
import type { Candidate } from "../../src/transport/peer.ts";
import { MAX_PAYLOAD } from "../../src/wire/frame.ts";

const parts: DescriptionParts = {
  type: "offer",
  ufrag: "abcdefgh",
  pwd: "0123456789abcdefghijklmn",
  fingerprint: Uint8Array.from({ length: 32 }, (_, i) => i),
  candidates: [
    { type: "host", address: "192.168.1.2", port: 5000 },
    { type: "srflx", address: "203.0.113.5", port: 6000 },
    { type: "host", address: "2001:db8::1", port: 5000 },
    { type: "relay", address: "198.51.100.1", port: 3478 },
  ],
};

suite("a description", () => {
  test("has every line that a data channel needs (RFC 8841)", () => {
    expect(describe(parts).split("\r\n")).toEqual([
      "v=0",
      "o=- 1 1 IN IP4 127.0.0.1",
      "s=-",
      "t=0 0",
      "a=group:BUNDLE 0",
      "a=msid-semantic: WMS",
      "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
      "c=IN IP4 0.0.0.0",
      "a=mid:0",
      "a=sctp-port:5000",
      "a=max-message-size:262144",
      "a=ice-ufrag:abcdefgh",
      "a=ice-pwd:0123456789abcdefghijklmn",
      "a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F",
      "a=setup:active",
      "a=candidate:1 1 UDP 2130706175 192.168.1.2 5000 typ host",
      "a=candidate:1 1 UDP 1694498559 203.0.113.5 6000 typ srflx raddr 0.0.0.0 rport 0",
      "a=candidate:1 1 UDP 2130706431 2001:db8::1 5000 typ host",
      "a=candidate:1 1 UDP 16776959 198.51.100.1 3478 typ relay raddr 0.0.0.0 rport 0",
      "",
    ]);
  });

  test("the offering side is the DTLS client, whose first flight meets a server that is up", () => {
    expect(describe(parts)).toContain("a=setup:active\r\n");
    expect(describe({ ...parts, type: "answer" })).toContain("a=setup:passive\r\n");
  });

  test("messages of a full bulk frame pass", () => {
    expect(MAX_MESSAGE_SIZE).toBeGreaterThan(MAX_PAYLOAD + 1024);
  });
});

suite("a candidate", () => {
  const candidate: fc.Arbitrary<Candidate> = fc.record({
    type: fc.constantFrom("host" as const, "srflx" as const, "relay" as const),
    address: fc.oneof(fc.ipV4(), fc.ipV6()),
    port: fc.integer({ min: 1, max: 65535 }),
  });

  test("parse(line(x)) = x", () => {
    fc.assert(
      fc.property(
        candidate,
        fc.constantFrom("", "a="),
        fc.constantFrom("", "\r\n"),
        (value, before, after) => {
          const wanted = { ...value, address: value.address.toLowerCase() };
          expect(parseCandidate(before + candidateLine(value) + after)).toEqual(wanted);
        },
      ),
    );
  });

  test("priorities follow RFC 8445, section 5.1.2.1: type, then IPv6 before IPv4", () => {
    const order: Candidate[] = [
      { type: "host", address: "::1", port: 1 },
      { type: "host", address: "10.0.0.1", port: 1 },
      { type: "srflx", address: "::1", port: 1 },
      { type: "srflx", address: "10.0.0.1", port: 1 },
      { type: "relay", address: "::1", port: 1 },
      { type: "relay", address: "10.0.0.1", port: 1 },
    ];
    const priorities = order.map((value) => Number(candidateLine(value).split(" ")[3]));
    expect(priorities).toEqual([...priorities].sort((a, b) => b - a));
    expect(new Set(priorities).size).toBe(order.length);
    for (const priority of priorities) expect(priority).toBeLessThan(2 ** 31);
  });

  test.each([
    "candidate:1 1 UDP 2122317823 192.168.1.2 5000 typ host",
    "a=candidate:foundation 1 udp 1 192.168.1.2 5000 typ host generation 0 network-id 1",
    "  candidate:1 1 UDP 2122317823 192.168.1.2 5000 TYP HOST  ",
  ])("is read as others write it: %s", (line) => {
    expect(parseCandidate(line)).toEqual({ type: "host", address: "192.168.1.2", port: 5000 });
  });

  test.each([
    "",
    "candidate:1 1 TCP 2105458943 192.168.1.2 9 typ host tcptype active",
    "candidate:1 2 UDP 2122317823 192.168.1.2 5000 typ host",
    "candidate:1 1 UDP 2122317823 192.168.1.2 0 typ host",
    "candidate:1 1 UDP 2122317823 192.168.1.2 65536 typ host",
    "candidate:1 1 UDP 2122317823 192.168.1.2 5000 typ prflx",
    "candidate:1 1 UDP 2122317823 192.168.1.2 5000",
    "candidate:1 1 UDP x 192.168.1.2 5000 typ host",
    "end-of-candidates",
  ])("is none: %s", (line) => {
    expect(parseCandidate(line)).toBeUndefined();
  });
});
