/** Connectivity checks that leave by TURN. */
import { describe, expect, test } from "vitest";
import { lowerPriority, refreshFingerprint } from "../../src/node/turn/check.ts";
import { ATTRIBUTE, decodeStun, hasIntegrity } from "../../src/node/turn/stun.ts";

/** The sample request of RFC 5769, section 2.1, with the padding that it has there. */
const SAMPLE = Buffer.from(
  `00 01 00 58 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae
   80 22 00 10 53 54 55 4e 20 74 65 73 74 20 63 6c 69 65 6e 74
   00 24 00 04 6e 00 01 ff
   80 29 00 08 93 2f f9 b1 51 26 3b 36
   00 06 00 09 65 76 74 6a 3a 68 36 76 59 20 20 20
   00 08 00 14 9a ea a7 0c bf d8 cb 56 78 1e f2 b5 b2 d3 f2 49 c1 b5 71 a2
   80 28 00 04 e5 7a 3b cf`.replaceAll(/\s/g, ""),
  "hex",
);
const PASSWORD = "VOkJxbRl1RmTxUk/WvJxBt";
const PRIORITY_AT = 44;

/** Whether the message is sealed with the password of the sample, and its FINGERPRINT is right. */
function isSound(message: Buffer): boolean {
  const stun = decodeStun(message);
  const refreshed = Buffer.from(message);
  refreshFingerprint(refreshed);
  return (
    stun !== undefined && hasIntegrity(message, stun, Buffer.from(PASSWORD)) && refreshed.equals(message)
  );
}

describe("a check", () => {
  test("of RFC 5769 is sound", () => {
    expect(isSound(SAMPLE)).toBe(true);
  });

  test("no longer claims the type preference of a reflexive address, and all else is the same", () => {
    const check = Buffer.from(SAMPLE);
    lowerPriority(check, PASSWORD);
    expect(decodeStun(check)?.attributes.get(ATTRIBUTE.PRIORITY)?.toString("hex")).toBe("000001ff");
    expect(isSound(check)).toBe(true);
    const end = check.length - 24 - 8;
    const [before, after] = [SAMPLE, check].map((message) => {
      const rest = Buffer.from(message.subarray(0, end));
      rest.writeUInt32BE(0, PRIORITY_AT);
      return rest;
    });
    expect(after?.equals(before ?? Buffer.alloc(0))).toBe(true);
  });

  test("without FINGERPRINT gets none", () => {
    const check = Buffer.from(SAMPLE.subarray(0, SAMPLE.length - 8));
    check.writeUInt16BE(check.length - 20, 2);
    lowerPriority(check, PASSWORD);
    expect(check.length).toBe(SAMPLE.length - 8);
    expect(check.readUInt32BE(PRIORITY_AT)).toBe(0x1ff);
    expect(isSound(check)).toBe(true);
  });
});

describe("anything else stays as it is", () => {
  const response = Buffer.from(SAMPLE);
  response.writeUInt16BE(0x0101, 0);
  const cut = Buffer.from(SAMPLE.subarray(0, 60));
  const long = Buffer.from(SAMPLE);
  long.writeUInt16BE(0xffff, 22);
  test.each([
    ["a check of somebody else's", SAMPLE, "another password"],
    ["an answer", response, PASSWORD],
    ["a message that is cut", cut, PASSWORD],
    ["an attribute that is longer than the message", long, PASSWORD],
    ["no STUN", Buffer.from("no STUN at all, but long enough to be"), PASSWORD],
    ["nothing", Buffer.alloc(0), PASSWORD],
  ])("%s", (_what, message, password) => {
    const given = Buffer.from(message);
    lowerPriority(given, password);
    expect(given.equals(message)).toBe(true);
  });
});
