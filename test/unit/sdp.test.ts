/**
 * Session descriptions of strangers. descriptions.json has those of Chromium 156, Firefox 153, werift and @roamhq/wrtc as they wrote them,
 * an offer of aiortc 1.4, and in the manner of aiortc and pion the others.
 */
import fc from "fast-check";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { DcpipeError } from "../../src/errors.ts";
import { parseCandidate } from "../../src/transport/description.ts";
import { finishDescription, parseDescription, writeDescription } from "../../src/transport/sdp.ts";

type Type = "offer" | "answer";
const TYPES: readonly Type[] = ["offer", "answer"];
const KNOWN = JSON.parse(readFileSync(new URL("descriptions.json", import.meta.url), "utf8")) as Readonly<
  Record<string, Readonly<Record<Type, string>>>
>;

/** What we hand to the library, line by line: nothing else may be in it. */
const OURS = [
  /^v=0$/,
  /^o=- 1 1 IN IP4 127\.0\.0\.1$/,
  /^s=-$/,
  /^t=0 0$/,
  /^a=ice-lite$/,
  /^a=group:BUNDLE [!-~]{1,32}$/,
  /^a=msid-semantic: WMS$/,
  /^m=application 9 UDP\/DTLS\/SCTP webrtc-datachannel$/,
  /^c=IN IP4 0\.0\.0\.0$/,
  /^a=mid:[!-~]{1,32}$/,
  /^a=sctp-port:[1-9]\d{0,4}$/,
  /^a=max-message-size:\d{1,10}$/,
  /^a=ice-ufrag:[A-Za-z\d+/]{4,256}$/,
  /^a=ice-pwd:[A-Za-z\d+/]{22,256}$/,
  /^a=fingerprint:sha-256 ([\dA-F]{2}:){31}[\dA-F]{2}$/,
  /^a=setup:(active|passive|actpass)$/,
  /^$/,
];

function expectOurs(sdp: string): void {
  for (const line of sdp.split("\r\n"))
    expect(
      OURS.filter((one) => one.test(line)),
      line,
    ).toHaveLength(1);
}

describe("what others write", () => {
  for (const [name, both] of Object.entries(KNOWN)) {
    test.each(TYPES)(`${name}, %s`, (type) => {
      const sdp = both[type];
      const description = parseDescription(type, sdp);
      const value = (key: string): string => new RegExp(`^a=${key}(.*)\r$`, "m").exec(sdp)?.[1] ?? "";
      expect(description).toMatchObject({
        type,
        mid: "0",
        ufrag: value("ice-ufrag:"),
        pwd: value("ice-pwd:"),
        fingerprint: value("fingerprint:sha-256 "),
        setup: type === "offer" ? "actpass" : "active",
        sctpPort: 5000,
        // RFC 8841, section 6.1: 64 KiB where nothing is said, as by pion.
        maxMessageSize: Number(value("max-message-size:") || 65_536),
        early: false,
      });
      expect(description.candidates).toEqual(sdp.match(/candidate:.*(?=\r)/g));
      const addresses = description.candidates.map(parseCandidate).filter((found) => found !== undefined);
      expect(addresses.length).toBeGreaterThan(0);
      const written = writeDescription(description);
      expectOurs(written);
      expect(parseDescription(type, written)).toEqual({ ...description, candidates: [] });
    });
  }

  test("line ends of any kind, capitals, attributes of the session, and none where there is a default", () => {
    const sdp = KNOWN["pion"]?.answer ?? "";
    const description = parseDescription("answer", sdp);
    for (const other of [
      sdp.replaceAll("\r\n", "\n"),
      sdp.replaceAll("\r\n", "\r"),
      sdp.replaceAll("\r\n", " \r\n"),
      sdp.replace(/(?<=sha-256 ).*/, (digits) => digits.toLowerCase()),
      sdp.replace("a=setup:active\r\n", ""),
      sdp.replace("a=mid:0\r\n", ""),
      sdp.replace("a=sctp-port:5000\r\n", ""),
      sdp.replace("UDP/DTLS", "TCP/DTLS"),
    ])
      expect(parseDescription("answer", other)).toEqual(description);
  });

  test("0 is any size, and nobody means more than a GiB", () => {
    const sized = (size: string): number =>
      parseDescription("offer", (KNOWN["chromium"]?.offer ?? "").replace("262144", size)).maxMessageSize;
    expect(sized("0")).toBe(0);
    expect(sized("1073741823")).toBe(2 ** 30 - 1);
    expect(sized("999999999999999")).toBe(2 ** 30 - 1);
  });
});

describe("who begins the handshake", () => {
  const setupOf = (sdp: string): string | undefined => /^a=setup:(.*)\r$/m.exec(sdp)?.[1];

  test("the answering side, but not where it would speak too early", () => {
    const offer = KNOWN["chromium"]?.offer ?? "";
    // RFC 8829, section 5.2.1; aiortc insists on it.
    expect(setupOf(finishDescription(offer, [], 1))).toBe("actpass");
    expect(setupOf(writeDescription(parseDescription("offer", offer)))).toBe("actpass");
    const early = parseDescription("offer", offer.replace("o=- ", "o=rtc "));
    expect(early.early).toBe(true);
    expect(setupOf(writeDescription(early))).toBe("active");
    expect(setupOf(writeDescription({ ...early, setup: "passive" }))).toBe("passive");
  });
});

test("our own description has our candidates and our limit, and says that no more follow", () => {
  const ours = finishDescription(
    KNOWN["wrtc"]?.offer ?? "",
    ["candidate:1 1 UDP 1 192.0.2.1 9 typ host"],
    1234,
  );
  expect(ours.match(/^a=candidate:.*$/gm)).toEqual(["a=candidate:1 1 UDP 1 192.0.2.1 9 typ host"]);
  expect(ours).toContain("\r\na=max-message-size:1234\r\n");
  expect(ours).toMatch(/\r\na=end-of-candidates\r\n$/);
});

describe("hostile descriptions", () => {
  const good = KNOWN["firefox"]?.offer ?? "";
  const fingerprint = /a=fingerprint:sha-256 .*/.exec(good)?.[0].trim() ?? "";
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ["nothing", "", /no SDP/],
    ["something else before", ` ${good}`, /no SDP/],
    ["no media", good.slice(0, good.indexOf("m=")), /no data channel/],
    ["audio", good.replace(/m=application.*/, "m=audio 9 UDP/TLS/RTP/SAVPF 111"), /other media/],
    ["two sections", good + good.slice(good.indexOf("m=")), /other media beside/],
    ["another port", good.replace("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 0"), /sctp-port/],
    ["both forms at once", good.replace("webrtc-datachannel", "5000"), /as browsers speak it/],
    ["both forms the other way", good.replace("UDP/DTLS/SCTP", "DTLS/SCTP"), /as browsers speak it/],
    ["another transport", good.replace("UDP/DTLS/SCTP", "UDP/TLS/SCTP"), /as browsers speak it/],
    ["more in the media line", good.replace("webrtc-datachannel", "webrtc-datachannel x"), /other media/],
    ["513 lines", good + "a=x\r\n".repeat(500), /too long/],
    ["65,000 empty lines", good + "\n".repeat(65_000), /too long/],
    ["no fragment", good.replace(/a=ice-ufrag.*\r\n/, ""), /ice-ufrag/],
    ["a short fragment", good.replace(/a=ice-ufrag.*/, "a=ice-ufrag:abc"), /ice-ufrag/],
    ["a long fragment", good.replace(/a=ice-ufrag.*/, `a=ice-ufrag:${"a".repeat(257)}`), /ice-ufrag/],
    ["a blank in the fragment", good.replace(/a=ice-ufrag.*/, "a=ice-ufrag:ab cd"), /ice-ufrag/],
    ["a short password", good.replace(/a=ice-pwd.*/, `a=ice-pwd:${"a".repeat(21)}`), /ice-pwd/],
    ["a long password", good.replace(/a=ice-pwd.*/, `a=ice-pwd:${"a".repeat(257)}`), /ice-pwd/],
    ["SHA-1", good.replace(fingerprint, fingerprint.replace("sha-256", "sha-1")), /SHA-256/],
    ["SHA-512 alone", good.replace(fingerprint, `a=fingerprint:sha-512 ${"AB:".repeat(63)}AB`), /SHA-256/],
    ["a fingerprint too short", good.replace(fingerprint, fingerprint.slice(0, -3)), /SHA-256/],
    ["a fingerprint too long", good.replace(fingerprint, `${fingerprint}:AB`), /SHA-256/],
    ["a fingerprint of other digits", good.replace(fingerprint, fingerprint.replace(/..$/, "G0")), /SHA-256/],
    ["holdconn", good.replace("actpass", "holdconn"), /a=setup/],
    ["a mid with a blank", good.replace("a=mid:0", "a=mid:0 a=x"), /a=mid/],
    ["a mid with an escape", good.replace("a=mid:0", "a=mid:\u001b[31m"), /a=mid/],
    ["a long mid", good.replace("a=mid:0", `a=mid:${"0".repeat(33)}`), /a=mid/],
    ["port 0 of SCTP", good.replace("sctp-port:5000", "sctp-port:0"), /sctp-port/],
    ["port 65,536 of SCTP", good.replace("sctp-port:5000", "sctp-port:65536"), /sctp-port/],
    ["a port in hexadecimal", good.replace("sctp-port:5000", "sctp-port:0x1388"), /sctp-port/],
    ["a negative size", good.replace("size:1073741823", "size:-1"), /max-message-size/],
    ["a size of 16 digits", good.replace("size:1073741823", "size:1000000000000000"), /max-message-size/],
  ];
  test.each(cases)("%s", (_, sdp, message) => {
    let error: unknown;
    try {
      parseDescription("offer", sdp);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(DcpipeError);
    expect(error).toMatchObject({ code: "TOKEN_MALFORMED" });
    expect(String(error)).toMatch(message);
    // Nothing of the text is repeated.
    expect(String(error)).not.toContain("\u001b");
  });

  test("an answer may not leave open who begins, nor refuse the channel", () => {
    const answer = KNOWN["firefox"]?.answer ?? "";
    expect(() => parseDescription("answer", answer.replace("setup:active", "setup:actpass"))).toThrow(
      /a=setup/,
    );
    expect(() => parseDescription("answer", answer.replace("m=application 9", "m=application 0"))).toThrow(
      /refuses/,
    );
  });

  test("of hundreds of candidates each is one line, whatever it is", () => {
    const many = Array.from(
      { length: 400 },
      (_, i) => `a=candidate:${i} 1 udp 1 192.0.2.1 ${i} typ host\r\n`,
    );
    const { candidates } = parseDescription("offer", good + many.join(""));
    expect(candidates.length).toBe(404);
    for (const line of candidates) expect(line).not.toMatch(/[\r\n]/);
  });

  test("whatever is done to a description: it is refused, or what the library gets of it has our lines only", () => {
    const pieces = fc.constantFrom(
      ..."\r\n|\n|\r|\u2028|\0|a=|m=application 9 |a=ice-ufrag:|a=ice-pwd:|a=fingerprint:sha-256 |a=setup:active|a=mid:|:| |a=ice-lite|999999999999999999999".split(
        "|",
      ),
      ...good.split("\r\n"),
    );
    const change = fc.record({
      at: fc.nat({ max: good.length }),
      drop: fc.nat({ max: 60 }),
      text: fc.oneof(pieces, fc.string({ unit: "binary", maxLength: 20 })),
    });
    fc.assert(
      fc.property(fc.constantFrom(...TYPES), fc.array(change, { maxLength: 6 }), (type, changes) => {
        let sdp = KNOWN["firefox"]?.[type] ?? "";
        for (const { at, drop, text } of changes) sdp = sdp.slice(0, at) + text + sdp.slice(at + drop);
        try {
          expectOurs(writeDescription(parseDescription(type, sdp)));
        } catch (error) {
          if (!(error instanceof DcpipeError)) throw error;
          expect(error.code).toBe("TOKEN_MALFORMED");
        }
      }),
      { numRuns: 2000 },
    );
  });
});
