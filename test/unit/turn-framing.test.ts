import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createDeframer, isWhole, MAX_MESSAGE, paddingAfter } from "../../src/node/turn/framing.ts";
import {
  ATTRIBUTE,
  CLASS,
  decodeStun,
  decodeXorAddress,
  encodeError,
  encodeStun,
  encodeXorAddress,
  errorCode,
  formatAddress,
  hasIntegrity,
  longTermKey,
  METHOD,
  newTransaction,
} from "../../src/node/turn/stun.ts";

function channelData(channel: number, data: Uint8Array): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt16BE(channel, 0);
  header.writeUInt16BE(data.length, 2);
  return Buffer.concat([header, data]);
}

function indication(data: Uint8Array): Buffer {
  const attributes = [[ATTRIBUTE.DATA, Buffer.from(data)]] as const;
  return encodeStun({
    method: METHOD.SEND,
    class: CLASS.INDICATION,
    transaction: newTransaction(),
    attributes,
  });
}

const size = fc.oneof(
  { weight: 20, arbitrary: fc.nat(40) },
  { weight: 3, arbitrary: fc.integer({ min: MAX_MESSAGE - 40, max: MAX_MESSAGE + 40 }) },
  { weight: 1, arbitrary: fc.integer({ min: MAX_MESSAGE, max: 65_000 }) },
);
const message = fc.oneof(
  fc
    .tuple(fc.integer({ min: 0x4000, max: 0x4fff }), size, fc.nat(255))
    .map(([channel, length, byte]) => channelData(channel, Buffer.alloc(length, byte))),
  fc.tuple(size, fc.nat(255)).map(([length, byte]) => indication(Buffer.alloc(length, byte))),
);

/** What a server says first. */
const first = encodeStun({
  method: METHOD.ALLOCATE,
  class: CLASS.ERROR,
  transaction: newTransaction(),
  attributes: [encodeError(401)],
});

function framed(messages: readonly Buffer[]): Buffer {
  return Buffer.concat(messages.flatMap((each) => [each, paddingAfter(each) ?? Buffer.alloc(0)]));
}

describe("messages in a stream", () => {
  test("any cut of it gives the same messages, without those that are too long", () => {
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 12 }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true })),
        (messages, cuts) => {
          const stream = framed([first, ...messages]);
          const at = [0, ...cuts.map((cut) => Math.floor(cut * stream.length)), stream.length].sort(
            (a, b) => a - b,
          );
          const got: Buffer[] = [];
          const deframe = createDeframer((each) => got.push(Buffer.from(each)));
          for (const [index, start] of at.entries())
            deframe(Buffer.from(stream.subarray(start, at[index + 1])));
          expect(got).toEqual([first, ...messages.filter(({ length }) => length <= MAX_MESSAGE)]);
          expect(got.every(isWhole)).toBe(true);
        },
      ),
    );
  });

  test("byte by byte", () => {
    const messages = [
      indication(Buffer.from("one")),
      channelData(0x4001, Buffer.from("three")),
      channelData(0x4fff, Buffer.alloc(0)),
    ];
    const got: string[] = [];
    const deframe = createDeframer((each) => got.push(each.toString("hex")));
    for (const byte of framed(messages)) deframe(Buffer.from([byte]));
    expect(got).toEqual(messages.map((each) => each.toString("hex")));
  });

  test("other bytes are no stream, however they come", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 20, maxLength: 60 }), (bytes) => {
        fc.pre(Buffer.from(bytes).readUInt32BE(4) !== 0x2112a442);
        const got: Buffer[] = [];
        const deframe = createDeframer((each) => got.push(each));
        expect(() => {
          for (const byte of bytes) deframe(Buffer.from([byte]));
        }).toThrow(expect.objectContaining({ code: "PROTOCOL" }) as Error);
        expect(got).toEqual([]);
      }),
    );
  });

  test.each([
    ["HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n"],
    ["SSH", "SSH-2.0-OpenSSH_9.6p1 and more\r\n"],
    ["ChannelData before anything else", channelData(0x4000, Buffer.from("data")).toString("latin1")],
  ])("%s is none", (_, text) => {
    const deframe = createDeframer(() => undefined);
    expect(() => {
      deframe(Buffer.from(text, "latin1"));
    }).toThrow(expect.objectContaining({ code: "PROTOCOL" }) as Error);
  });
});

describe("STUN messages", () => {
  const key = longTermKey("user", Buffer.from("realm"), "pass");

  test("the key of RFC 8489, section 9.2.2", () => {
    expect(key.toString("hex")).toBe("8493fbc53ba582fb4c044c456bdc40eb");
  });

  /** RFC 5769, section 2.4: a request with long-term credentials, the password TheMatrIX. */
  test("the integrity of RFC 5769", () => {
    const username = "\u30de\u30c8\u30ea\u30c3\u30af\u30b9";
    const sample = Buffer.from(
      "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b90000001500" +
        "1c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f726700" +
        "00080014f67024656dd64a3e02b8e0712e85c9a28ca89666",
      "hex",
    );
    const stun = decodeStun(sample);
    if (!stun) throw new Error("no message");
    expect(String(stun.attributes.get(ATTRIBUTE.USERNAME))).toBe(username);
    expect(hasIntegrity(sample, stun, longTermKey(username, Buffer.from("example.org"), "TheMatrIX"))).toBe(
      true,
    );
    expect(hasIntegrity(sample, stun, key)).toBe(false);
  });

  test("what is written is read, with any method, class and attributes", () => {
    fc.assert(
      fc.property(
        fc.nat(0xfff),
        fc.nat(3),
        fc.array(fc.tuple(fc.integer({ min: 0x7000, max: 0x7fff }), fc.uint8Array({ maxLength: 20 })), {
          maxLength: 5,
        }),
        fc.boolean(),
        (method, kind, pairs, signed) => {
          const attributes = pairs.map(([type, value]) => [type, Buffer.from(value)] as const);
          const transaction = newTransaction();
          const bytes = encodeStun(
            { method, class: kind, transaction, attributes },
            signed ? key : undefined,
          );
          const stun = decodeStun(bytes);
          expect(stun).toMatchObject({ method, class: kind });
          expect(stun?.transaction.equals(transaction)).toBe(true);
          for (const [type, value] of attributes) {
            const first = attributes.find(([other]) => other === type)?.[1];
            expect(stun?.attributes.get(type)).toEqual(first);
            expect(value).toBeDefined();
          }
          expect(isWhole(bytes)).toBe(true);
          if (!stun) return;
          expect(hasIntegrity(bytes, stun, key)).toBe(signed);
          if (!signed) return;
          const changed = Buffer.from(bytes);
          changed[8] = (changed[8] ?? 0) ^ 1;
          const other = decodeStun(changed);
          expect(other && hasIntegrity(changed, other, key)).toBe(false);
        },
      ),
    );
  });

  test("any bytes are read or refused", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.boolean(), (bytes, header) => {
        const message = Buffer.from(bytes);
        if (header && message.length >= 20) {
          message.writeUInt16BE(message.length - 20, 2);
          message.writeUInt32BE(0x2112a442, 4);
          message[0] = (message[0] ?? 0) & 0x3f;
        }
        const stun = decodeStun(message);
        if (!stun) return;
        errorCode(stun);
        for (const value of stun.attributes.values()) decodeXorAddress(value, stun.transaction);
      }),
      { numRuns: 2000 },
    );
  });

  test("addresses", () => {
    const transaction = newTransaction();
    for (const [hex, port, text] of [
      ["c0000201", 1, "192.0.2.1:1"],
      ["20010db8000000000000000000000001", 65535, "[2001:db8::1]:65535"],
    ] as const) {
      const address = { bytes: Buffer.from(hex, "hex"), port };
      const [, value] = encodeXorAddress(ATTRIBUTE.XOR_PEER_ADDRESS, address, transaction);
      expect(decodeXorAddress(value, transaction)).toEqual(address);
      expect(formatAddress(address)).toBe(text);
    }
  });

  test.each([
    [401, 401],
    [699, 699],
    [299, 0],
    [700, 0],
  ])("error %d", (code, read) => {
    const transaction = newTransaction();
    const attributes = [encodeError(code)];
    const stun = decodeStun(
      encodeStun({ method: METHOD.ALLOCATE, class: CLASS.ERROR, transaction, attributes }),
    );
    expect(stun && errorCode(stun)).toBe(read);
  });
});
