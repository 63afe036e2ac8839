/** Lines of JSON with offers, answers and candidates of strangers. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DcpipeError } from "../../src/errors.ts";
import {
  formatDescription,
  looksLikeDescription,
  MAX_RAW_TEXT,
  parseRawLine,
  parseRawText,
} from "../../src/signalling/raw.ts";

const OFFER = formatDescription("offer", "v=0\r\n");
const CANDIDATE = "candidate:1 1 udp 1 192.0.2.1 9 typ host";

/** Code and message of what is thrown. */
function refusal(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    if (error instanceof DcpipeError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "accepted";
}

test("what JSON.stringify makes of a page's objects", () => {
  expect(OFFER).toBe('{"type":"offer","sdp":"v=0\\r\\n"}');
  expect(parseRawLine(OFFER)).toEqual({ kind: "offer", sdp: "v=0\r\n" });
  expect(parseRawLine(formatDescription("answer", "x"))).toEqual({ kind: "answer", sdp: "x" });
  const candidate = { kind: "candidate", candidate: CANDIDATE };
  for (const value of [
    { candidate: CANDIDATE, sdpMid: "0", sdpMLineIndex: 0, usernameFragment: "abcd" },
    { candidate: { candidate: CANDIDATE, sdpMid: "0" } },
  ])
    expect(parseRawLine(JSON.stringify(value))).toEqual(candidate);
  for (const end of ["null", '{"candidate":""}', '{"candidate":null}', '{"candidate":{"candidate":""}}'])
    expect(parseRawLine(end)).toEqual({ kind: "end" });
});

test("blanks and quotes around it are forgiven, and lines within", () => {
  const offer = { kind: "offer", sdp: "v=0\r\n" };
  for (const text of [` ${OFFER}\r\n`, `'${OFFER}'`, `\`${OFFER}\``])
    expect([parseRawLine(text), ...parseRawText(text)]).toEqual([offer, offer]);
  expect(parseRawText(JSON.stringify(JSON.parse(OFFER), undefined, 2))).toEqual([offer]);
});

test("a text may have candidates behind its description, one a line", () => {
  const text = [OFFER, JSON.stringify({ candidate: CANDIDATE }), "", "null"].join("\r\n");
  expect(parseRawText(text).map(({ kind }) => kind)).toEqual(["offer", "candidate", "end"]);
});

describe("what is none of these", () => {
  test.each([
    ["", /^TOKEN_MALFORMED: no offer or answer given$/],
    ["' '", /^TOKEN_MALFORMED: no offer or answer given$/],
    ["hello", /^TOKEN_MALFORMED: that is no JSON/],
    ["7", /^TOKEN_MALFORMED: the JSON is no object$/],
    ["[]", /^TOKEN_MALFORMED: the JSON is no object$/],
    ['"v=0"', /^TOKEN_MALFORMED: the JSON is no object$/],
    ["{}", /^TOKEN_MALFORMED: the JSON has neither/],
    ['{"sdp":7}', /^TOKEN_MALFORMED: the JSON has neither/],
    ['{"candidate":7}', /^TOKEN_MALFORMED: the JSON has neither/],
    ['{"candidate":[]}', /^TOKEN_MALFORMED: the JSON has neither/],
    ['{"sdp":"v=0"}', /^TOKEN_MALFORMED: its "type"/],
    ['{"type":"pranswer","sdp":"v=0"}', /^TOKEN_MALFORMED: its "type"/],
    ['{"type":["offer"],"sdp":"v=0"}', /^TOKEN_MALFORMED: its "type"/],
    ['{"__proto__":{"type":"offer","sdp":"v=0"}}', /^TOKEN_MALFORMED: the JSON has neither/],
    ["v=0\r\no=- 1 1 IN IP4 0.0.0.0", /^TOKEN_MALFORMED: that is bare SDP/],
    ["dc1AAAAAAAA", /^TOKEN_MALFORMED: that is a dcpipe token/],
    [OFFER.slice(0, 20), /^TOKEN_CUT/],
    ["null\n".repeat(129), /^TOKEN_MALFORMED: it has too many lines$/],
    ["x".repeat(MAX_RAW_TEXT + 1), /^TOKEN_MALFORMED: it is too long/],
    [`${OFFER}\n\u001b[31m`, /^TOKEN_MALFORMED: that is no JSON/],
  ])("%#", (text, expected) => {
    expect(refusal(() => parseRawText(text))).toMatch(expected);
    expect(refusal(() => parseRawText(text))).not.toContain("\u001b");
  });

  test("any text gives lines or a DcpipeError", () => {
    const line = fc.oneof(
      fc.string({ unit: "binary", maxLength: 80 }),
      fc.json({ maxDepth: 3 }),
      fc
        .record({ type: fc.anything(), sdp: fc.anything(), candidate: fc.anything() }, { requiredKeys: [] })
        .map((value) =>
          JSON.stringify(value, (_, inner: unknown) => (typeof inner === "bigint" ? 1 : inner)),
        ),
      fc.constantFrom(OFFER, "null", "'", "`", "{", "}", "dc1", "v=0"),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 5 }), fc.constantFrom("\n", "\r\n", ""), (lines, between) => {
        const text = lines.join(between);
        expect(["accepted", "TOKEN_MALFORMED", "TOKEN_CUT"]).toContain(
          refusal(() => parseRawText(text)).split(":")[0],
        );
        expect(typeof looksLikeDescription(text)).toBe("boolean");
      }),
      { numRuns: 2000 },
    );
  });
});

test("a line that looks like a description is worth reading", () => {
  for (const text of [OFFER, ` '${OFFER}'`, OFFER.slice(0, -1)])
    expect(looksLikeDescription(text)).toBe(true);
  for (const text of [
    "",
    "null",
    "{}",
    "bash: dcpipe: command not found",
    `${OFFER}${" ".repeat(MAX_RAW_TEXT)}`,
  ])
    expect(looksLikeDescription(text)).toBe(false);
});
