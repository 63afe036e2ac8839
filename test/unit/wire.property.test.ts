/**
 * For every codec: what was encoded decodes to itself; any bytes give a value or PROTOCOL, and nothing else; bytes that are
 * accepted are the only form of their value.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DcpipeError, type ErrorCode } from "../../src/errors.ts";
import { fromBase64url, Reader, toBase64url, varintSize, Writer } from "../../src/wire/bytes.ts";
import {
  formatAddress,
  MAX_CANDIDATES,
  parseAddress,
  readCandidates,
  writeCandidates,
  type Candidate,
} from "../../src/wire/candidate.ts";
import {
  DATA_OVERHEAD,
  decodeFrames,
  encodeFrame,
  FRAME,
  MAX_CONTROL_MESSAGE,
  MAX_DATAGRAM,
  MAX_HEADER,
  MAX_PAYLOAD,
  MAX_SIGNAL,
  MAX_TEXT,
  REASONS,
  writeData,
  type Frame,
} from "../../src/wire/frame.ts";
import { MAX_NAMEPLATE } from "../../src/wire/code.ts";
import {
  chunkPrefix,
  decodeRecord,
  DIGEST_SIZE,
  encodeRecord,
  MAX_CHUNK,
  MAX_NAME,
  MAX_PACKED,
  MAX_RECORD,
  MAX_TEXT_ENTRY,
  type Entry,
  type FileRecord,
} from "../../src/wire/file.ts";
import {
  decodeForwardRecord,
  encodeForwardRecord,
  MAX_FORWARD_RECORD,
  type ForwardRecord,
  type Place,
} from "../../src/wire/forward.ts";
import {
  decodeHeader,
  encodeHeader,
  MAX_HOST,
  type StreamHeader,
  type Target,
} from "../../src/wire/header.ts";
import {
  decodeHello,
  decodeReady,
  encodeHello,
  encodeReady,
  isReady,
  MAX_EPOCH,
  MAX_HELLO,
  MAX_INDEX,
  PROOF_SIZE,
  PROTOCOL_VERSION,
  type Hello,
} from "../../src/wire/hello.ts";
import {
  decodeAddresses,
  decodeIntroduction,
  decodeKnock,
  encodeAddresses,
  encodeIntroduction,
  encodeKnock,
  KNOCK_NONCE_SIZE,
  NONCE_SIZE,
  POINT_SIZE,
  TAG_SIZE,
  type IntroductionMessage,
} from "../../src/wire/introduction.ts";
import {
  decodeLane,
  encodeLane,
  LANE_KINDS,
  NAT_MAPPINGS,
  MAX_MTU,
  MIN_MTU,
  type LaneMessage,
} from "../../src/wire/lane.ts";
import {
  decodeRememberRecord,
  encodeRememberRecord,
  MAX_PEER_NAME,
  MAX_REMEMBER_RECORD,
  RANDOM_SIZE,
  type RememberRecord,
} from "../../src/wire/remember.ts";
import {
  decodeClientMessage,
  decodeServerMessage,
  encodeClientMessage,
  encodeServerMessage,
  KEY_SIZE,
  MAX_BODIES,
  MAX_BODY,
  MAX_RENDEZVOUS_MESSAGE,
  NAME_SIZE,
  OUTCOMES,
  type ClientMessage,
  type ServerMessage,
} from "../../src/wire/rendezvous.ts";
import {
  decodeToken,
  encodeToken,
  FINGERPRINT_SIZE,
  MAX_TOKEN_TEXT,
  OFFER_ID_SIZE,
  SECRET_SIZE,
  type Token,
} from "../../src/wire/token.ts";

const RUNS = { numRuns: 1000 };

// ---- values -----------------------------------------------------------------------------------------------------------

const varint = fc.oneof(
  fc.integer({ min: 0, max: 70 }),
  fc.constantFrom(0x3f, 0x40, 0x3fff, 0x4000, 0x3fffffff, 0x40000000, Number.MAX_SAFE_INTEGER),
  fc.maxSafeNat(),
);
const bytes = (min: number, max: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: min, maxLength: max, size: "max" });
/** Well-formed text whose UTF-8 form fits. */
const text = fc
  .oneof(
    fc.string({ maxLength: MAX_TEXT, size: "max" }),
    fc.string({ unit: "grapheme", maxLength: MAX_TEXT / 3, size: "max" }),
  )
  .filter((value) => new TextEncoder().encode(value).length <= MAX_TEXT);
const reason = fc.constantFrom(...REASONS);

const frame: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({ type: fc.constant("OPEN" as const), stream: varint, header: bytes(0, MAX_HEADER) }),
  fc
    .record({ type: fc.constant("DATA" as const), stream: varint, offset: varint, payload: bytes(1, 300) })
    .filter(({ offset, payload }) => offset + payload.length <= Number.MAX_SAFE_INTEGER),
  fc.record({ type: fc.constant("FIN" as const), stream: varint, offset: varint }),
  fc.record({ type: fc.constant("FIN_ACK" as const), stream: varint }),
  fc.record({ type: fc.constant("RESET" as const), stream: varint, reason, text }),
  fc.record({ type: fc.constant("WINDOW" as const), stream: varint, limit: varint }),
  fc.record({ type: fc.constantFrom("ACK" as const, "LOST" as const), channel: varint, count: varint }),
  fc.record({ type: fc.constantFrom("PING" as const, "PONG" as const), id: varint }),
  fc.record({ type: fc.constant("GOAWAY" as const), reason, text }),
  fc.record({ type: fc.constant("SIGNAL" as const), payload: bytes(0, MAX_SIGNAL) }),
  fc.record({ type: fc.constant("BREAK" as const), stream: varint, offset: varint, reason, text }),
  fc.record({ type: fc.constant("DATAGRAM" as const), stream: varint, payload: bytes(0, 300) }),
);

const port = fc.integer({ min: 1, max: 65535 });
const ipv4 = bytes(4, 4).map(formatAddress);
const ipv6 = fc
  .oneof(bytes(16, 16), fc.array(fc.constantFrom(0, 0, 0, 1, 255), { minLength: 16, maxLength: 16 }))
  .map((value) => formatAddress(Uint8Array.from(value)));
const candidate: fc.Arbitrary<Candidate> = fc.record({
  type: fc.constantFrom("host" as const, "srflx" as const, "relay" as const),
  address: fc.oneof(ipv4, ipv6),
  port: fc.oneof(fc.constantFrom(5000, 5001), port),
});
const candidates = fc.array(candidate, { maxLength: MAX_CANDIDATES });

const epoch = fc.integer({ min: 0, max: MAX_EPOCH });
const index = fc.integer({ min: 0, max: MAX_INDEX });

const hello: fc.Arbitrary<Hello> = fc.record({
  version: fc.constant(PROTOCOL_VERSION),
  role: fc.constantFrom("waiting" as const, "joining" as const),
  epoch,
  index,
  proof: bytes(PROOF_SIZE, PROOF_SIZE),
});

const lane: fc.Arbitrary<LaneMessage> = fc.oneof(
  fc.record({
    type: fc.constant("ADD" as const),
    epoch,
    index,
    kind: fc.constantFrom(...LANE_KINDS),
    mtu: fc.integer({ min: MIN_MTU, max: MAX_MTU }),
    candidates,
  }),
  fc.record({ type: fc.constant("CANDIDATES" as const), epoch, index, candidates }),
  fc.record({ type: fc.constant("REFUSE" as const), epoch, index }),
  fc.record({
    type: fc.constant("NAT" as const),
    epoch,
    mapping: fc.constantFrom(...NAT_MAPPINGS),
    candidate: candidate.map((each) => ({ ...each, type: "srflx" as const })),
  }),
);

/** A name, an address or a path, good or bad: whether it is one is not for the wire to say. */
const hostText = fc
  .oneof(
    fc.string({ minLength: 1, maxLength: MAX_HOST, size: "max" }),
    fc.string({ unit: "grapheme", minLength: 1, maxLength: 60 }),
  )
  .filter((value) => new TextEncoder().encode(value).length <= MAX_HOST);
const unixPath = fc.record({
  type: fc.constant("unix" as const),
  path: hostText.filter((value) => !value.includes("\0")),
});

const target: fc.Arbitrary<Target> = fc.oneof(
  fc.record({ type: fc.constant("host" as const), host: hostText, port }),
  unixPath,
  fc.record({ type: fc.constant("listener" as const), id: varint }),
);

const header: fc.Arbitrary<StreamHeader> = fc.oneof(
  fc.record({
    kind: fc.constantFrom(
      "pipe" as const,
      "send" as const,
      "receive" as const,
      "forward" as const,
      "remember" as const,
      "ask" as const,
    ),
  }),
  fc.record({ kind: fc.constantFrom("connect" as const, "flow" as const), target }),
);

const place: fc.Arbitrary<Place> = fc.oneof(
  fc.record({
    type: fc.constant("host" as const),
    address: fc.oneof(fc.constant(""), hostText),
    port: fc.integer({ min: 0, max: 65535 }),
  }),
  unixPath,
);
const protocol = fc.constantFrom("tcp" as const, "udp" as const);

const forwardRecord: fc.Arbitrary<ForwardRecord> = fc.oneof(
  fc.record({ type: fc.constant("OFFER" as const), protocol, target }),
  fc.record({ type: fc.constant("OFFERED" as const) }),
  fc.record({ type: fc.constant("LISTEN" as const), id: varint, protocol, place, target: text }),
  fc.record({ type: fc.constant("LISTENING" as const), id: varint, place }),
  fc.record({ type: fc.constant("FAILED" as const), id: varint, reason, text }),
);

const peerName = fc
  .string({ unit: "grapheme", maxLength: MAX_PEER_NAME })
  .filter((value) => new TextEncoder().encode(value).length <= MAX_PEER_NAME);
const rememberRecord: fc.Arbitrary<RememberRecord> = fc.oneof(
  fc.record({
    type: fc.constant("REMEMBER" as const),
    host: peerName,
    name: peerName,
    fingerprint: bytes(FINGERPRINT_SIZE, FINGERPRINT_SIZE),
    random: bytes(RANDOM_SIZE, RANDOM_SIZE),
  }),
  fc.record({ type: fc.constant("STORED" as const) }),
);

/** Whatever a sender may call a file, good or bad. */
const fileName = fc
  .oneof(
    fc.string({ maxLength: 300, size: "max" }),
    fc.string({ unit: "grapheme", maxLength: 100, size: "max" }),
  )
  .filter((value) => new TextEncoder().encode(value).length <= MAX_NAME);
const mode = fc.integer({ min: 0, max: 0o777 });
const digest = bytes(DIGEST_SIZE, DIGEST_SIZE);

const entry: fc.Arbitrary<Entry> = fc.oneof(
  fc.record({
    kind: fc.constant("file" as const),
    name: fileName,
    size: fc.oneof(
      fc.constant(undefined),
      varint.filter((value) => value < Number.MAX_SAFE_INTEGER),
    ),
    mode,
    mtime: varint,
  }),
  fc.record({ kind: fc.constant("directory" as const), name: fileName, mode, mtime: varint }),
  fc.record({ kind: fc.constant("link" as const), name: fileName, target: fileName, mtime: varint }),
  fc.record({ kind: fc.constant("text" as const), size: fc.integer({ min: 0, max: MAX_TEXT_ENTRY }) }),
);

const record: fc.Arbitrary<FileRecord> = fc.oneof(
  fc.record({ type: fc.constant("ENTRY" as const), entry }),
  fc.record({ type: fc.constantFrom("UP" as const, "LISTED" as const, "DONE" as const, "COUNT" as const) }),
  fc.record({ type: fc.constant("MISSING" as const), name: fileName, reason, text }),
  fc.record({ type: fc.constant("TOTALS" as const), last: fc.boolean(), entries: varint, bytes: varint }),
  fc.record({ type: fc.constant("START" as const), id: varint, offset: varint }),
  fc.record({ type: fc.constant("CHUNK" as const), content: bytes(1, 300) }),
  fc.record({ type: fc.constant("END" as const), size: varint, digest }),
  fc.record({ type: fc.constant("DIGEST" as const), id: varint, digest }),
  fc.record({
    type: fc.constant("PACKED" as const),
    size: fc.integer({ min: 1, max: MAX_PACKED }),
    packed: bytes(0, 300),
  }),
  fc.record({ type: fc.constant("WANT" as const), id: varint, offset: varint }),
  fc.record({ type: fc.constant("COMPARE" as const), id: varint, length: varint }),
  fc.record({ type: fc.constantFrom("PASS" as const, "STORED" as const), id: varint }),
  fc.record({
    type: fc.constantFrom("BROKEN" as const, "REFUSE" as const, "FAILED" as const),
    id: varint,
    reason,
    text,
  }),
);

const token: fc.Arbitrary<Token> = fc.oneof(
  fc.record({
    kind: fc.constant("offer" as const),
    secret: bytes(SECRET_SIZE, SECRET_SIZE),
    fingerprint: bytes(FINGERPRINT_SIZE, FINGERPRINT_SIZE),
    candidates,
  }),
  fc.record({
    kind: fc.constant("answer" as const),
    offerId: bytes(OFFER_ID_SIZE, OFFER_ID_SIZE),
    candidates,
  }),
);

const key = bytes(KEY_SIZE, KEY_SIZE);
const role = fc.constantFrom("waiting" as const, "joining" as const);
const nameplate = fc.oneof(
  fc.constantFrom(1, 63, 64, 16383, 16384, MAX_NAMEPLATE),
  fc.integer({ min: 1, max: MAX_NAMEPLATE }),
);
const received = fc.integer({ min: 0, max: MAX_BODIES });
const bodyIndex = fc.integer({ min: 0, max: MAX_BODIES - 1 });
const mailBody = fc.oneof(bytes(1, 100), bytes(MAX_BODY - 1, MAX_BODY));

const clientMessage: fc.Arbitrary<ClientMessage> = fc.oneof(
  fc.record({
    type: fc.constant("ALLOCATE" as const),
    key,
    nameplate: fc.oneof(fc.constant(0), nameplate),
  }),
  fc.record({ type: fc.constant("CLAIM" as const), key, nameplate }),
  fc.record({ type: fc.constant("OPEN" as const), key, role, name: bytes(NAME_SIZE, NAME_SIZE), received }),
  fc.record({ type: fc.constant("RESUME" as const), key, role, nameplate, received }),
  fc.record({ type: fc.constant("POST" as const), index: bodyIndex, body: mailBody }),
  fc.record({ type: fc.constant("RENEW" as const) }),
  fc.record({ type: fc.constant("RELEASE" as const), outcome: fc.constantFrom(...OUTCOMES) }),
  fc.record({ type: fc.constant("RELAY" as const), key, role, name: bytes(NAME_SIZE, NAME_SIZE) }),
);

/** A URL, a user name or a password: up to 512 bytes. */
const shortText = fc
  .oneof(fc.string({ maxLength: 40 }), fc.string({ unit: "grapheme", maxLength: 100 }))
  .filter((value) => new TextEncoder().encode(value).length <= 512);

const serverMessage: fc.Arbitrary<ServerMessage> = fc.oneof(
  fc.record({ type: fc.constant("ALLOCATED" as const), nameplate, link: shortText }),
  fc.record({ type: fc.constant("ATTACHED" as const), stored: received }),
  fc.record({ type: fc.constant("MESSAGE" as const), index: bodyIndex, body: mailBody }),
  fc.record({ type: fc.constant("JOINED" as const) }),
  fc.record({
    type: fc.constant("SERVERS" as const),
    servers: fc.array(fc.record({ url: shortText, username: shortText, credential: shortText }), {
      maxLength: 8,
    }),
  }),
);

const introduction: fc.Arbitrary<IntroductionMessage> = fc.oneof(
  fc.record({
    type: fc.constant("HELLO" as const),
    point: bytes(POINT_SIZE, POINT_SIZE),
    fingerprint: bytes(FINGERPRINT_SIZE, FINGERPRINT_SIZE),
  }),
  fc.record({
    type: fc.constant("ANSWER" as const),
    point: bytes(POINT_SIZE, POINT_SIZE),
    fingerprint: bytes(FINGERPRINT_SIZE, FINGERPRINT_SIZE),
    tag: bytes(TAG_SIZE, TAG_SIZE),
  }),
  fc.record({ type: fc.constant("CONFIRM" as const), tag: bytes(TAG_SIZE, TAG_SIZE) }),
  fc.record({
    type: fc.constant("SEALED" as const),
    nonce: bytes(NONCE_SIZE, NONCE_SIZE),
    ciphertext: bytes(17, 300),
  }),
);

// ---- tools ------------------------------------------------------------------------------------------------------------

/** What `run` returns, or undefined when it throws a DcpipeError with one of `codes`; anything else fails the test. */
function valueOr<T>(codes: readonly ErrorCode[], run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    expect(error).toBeInstanceOf(DcpipeError);
    expect(codes).toContain((error as DcpipeError).code);
    return undefined;
  }
}

function hex(message: Uint8Array): string {
  return Buffer.from(message).toString("hex");
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** Bytes that look like messages often enough to get past the first check: valid ones, bent here and there. */
function bent(valid: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
  const edit = fc.record({
    at: fc.nat(),
    kind: fc.constantFrom("set", "insert", "delete", "cut"),
    byte: fc.integer({ min: 0, max: 255 }),
  });
  return fc.tuple(valid, fc.array(edit, { maxLength: 3 })).map(([message, edits]) => {
    const list = [...message];
    for (const { at, kind, byte } of edits) {
      const place = list.length === 0 ? 0 : at % list.length;
      if (kind === "set") list[place] = byte;
      else if (kind === "insert") list.splice(place, 0, byte);
      else if (kind === "delete") list.splice(place, 1);
      else list.length = place;
    }
    return Uint8Array.from(list);
  });
}

const random = fc.oneof(bytes(0, 20), bytes(0, 200));

/** The three properties of a codec over bytes. */
function codec<T>(
  values: fc.Arbitrary<T>,
  encode: (value: T) => Uint8Array,
  decode: (message: Uint8Array) => T,
): void {
  test("decode(encode(x)) = x", () => {
    fc.assert(
      fc.property(values, (value) => {
        expect(decode(encode(value))).toEqual(value);
      }),
      RUNS,
    );
  });

  test("any bytes give a value or PROTOCOL, and a value has one form", () => {
    fc.assert(
      fc.property(fc.oneof(random, bent(values.map(encode))), (message) => {
        const before = message.slice();
        const value = valueOr(["PROTOCOL"], () => decode(message));
        expect(hex(message)).toBe(hex(before));
        if (value !== undefined) expect(hex(encode(value))).toBe(hex(message));
      }),
      { numRuns: 5000 },
    );
  });
}

/** Every cut of a message, and every byte behind it, breaks the protocol; but not of those that end with any bytes. */
function exact<T extends { type: string }>(
  values: fc.Arbitrary<T>,
  encode: (value: T) => Uint8Array,
  decode: (message: Uint8Array) => T,
  open: readonly T["type"][],
): void {
  test("every cut and every trailing byte breaks the protocol", () => {
    fc.assert(
      fc.property(
        values.filter(({ type }) => !open.includes(type)),
        fc.integer({ min: 0, max: 255 }),
        (value, more) => {
          const message = encode(value);
          for (let length = 0; length < message.length; length++)
            expect(valueOr(["PROTOCOL"], () => decode(message.subarray(0, length)))).toBe(undefined);
          expect(valueOr(["PROTOCOL"], () => decode(Uint8Array.of(...message, more)))).toBe(undefined);
        },
      ),
      { numRuns: 100 },
    );
  });
}

/** For first bytes that stand for no message: whatever follows, it is one that is not known. */
function unknownTypes(decode: (message: Uint8Array) => unknown, known: readonly number[]): void {
  test("no other type is known", () => {
    const types = Array.from({ length: 256 }, (_, type) => type).filter((type) => !known.includes(type));
    expect(types).toHaveLength(256 - known.length);
    for (const type of types)
      for (const rest of [0, 17, 100])
        expect(() => decode(Uint8Array.of(type, ...new Uint8Array(rest)))).toThrow(/^unknown message/);
  });
}

function told(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toMatchObject({ name: "DcpipeError", code: "PROTOCOL" });
    return (error as DcpipeError).message;
  }
  throw new Error("accepted");
}

// ---- properties -------------------------------------------------------------------------------------------------------

describe("varint", () => {
  codec(
    varint,
    (value) => new Writer().varint(value).finish(),
    (message) => {
      const reader = new Reader(message);
      const value = reader.varint();
      reader.end();
      return value;
    },
  );

  test("takes the shortest form", () => {
    fc.assert(
      fc.property(varint, (value) => {
        const size = new Writer().varint(value).finish().length;
        expect(size).toBe(varintSize(value));
        const bits = value === 0 ? 1 : Math.floor(Math.log2(value)) + 1;
        // The logarithm of 2^53 - 1 rounds up to 53; all other borders are exact.
        expect(size).toBe(bits <= 6 ? 1 : bits <= 14 ? 2 : bits <= 30 ? 4 : 8);
      }),
      RUNS,
    );
  });

  test.each([-1, 0.5, Number.MAX_SAFE_INTEGER + 1, NaN, Infinity])("does not encode %d", (value) => {
    expect(() => new Writer().varint(value)).toThrow(RangeError);
  });
});

describe("base64url", () => {
  test("decode(encode(x)) = x", () => {
    fc.assert(
      fc.property(bytes(0, 200), (value) => {
        const encoded = toBase64url(value);
        expect(encoded).toBe(Buffer.from(value).toString("base64url"));
        expect(fromBase64url(encoded)).toEqual(value);
      }),
      RUNS,
    );
  });

  test("any text gives bytes or PROTOCOL, and bytes have one form", () => {
    const alphabet = fc.string({ unit: fc.constantFrom(...Array.from("AZaz09-_Q=+/ é")) });
    fc.assert(
      fc.property(fc.oneof(fc.string(), alphabet), (value) => {
        const decoded = valueOr(["PROTOCOL"], () => fromBase64url(value));
        if (decoded) expect(toBase64url(decoded)).toBe(value);
      }),
      { numRuns: 5000 },
    );
  });
});

describe("frames", () => {
  const message = fc.array(frame, { minLength: 1, maxLength: 6 });
  codec(message, (frames) => concat(frames.map(encodeFrame)), decodeFrames);

  test("DATA in pieces is DATA in one", () => {
    fc.assert(
      fc.property(
        fc.maxSafeNat(),
        fc.nat(),
        fc.array(bytes(0, 50), { minLength: 1, maxLength: 9 }),
        (offset, stream, pieces) => {
          const payload = concat(pieces);
          const writer = new Writer(1);
          writeData(writer, stream, offset, pieces);
          expect(writer.finish()).toEqual(encodeFrame({ type: "DATA", stream, offset, payload }));
          expect(writer.length - payload.length).toBeLessThanOrEqual(DATA_OVERHEAD);
        },
      ),
      RUNS,
    );
  });

  test("a full bulk frame passes, a byte more does not", () => {
    for (const stream of [0, 1, Number.MAX_SAFE_INTEGER]) {
      const full = { type: "DATA", stream, offset: 7, payload: new Uint8Array(MAX_PAYLOAD).fill(1) } as const;
      expect(decodeFrames(encodeFrame(full))).toEqual([full]);
      const more = encodeFrame({ ...full, payload: new Uint8Array(MAX_PAYLOAD + 1) });
      expect(() => decodeFrames(more)).toThrow(DcpipeError);
    }
  });

  test("the largest datagram passes, a byte more does not", () => {
    const full = { type: "DATAGRAM", stream: 1, payload: new Uint8Array(MAX_DATAGRAM).fill(1) } as const;
    expect(decodeFrames(encodeFrame(full))).toEqual([full]);
    const more = encodeFrame({ ...full, payload: new Uint8Array(MAX_DATAGRAM + 1) });
    expect(() => decodeFrames(more)).toThrow(DcpipeError);
  });

  test("every frame but DATA and DATAGRAM fits a control message", () => {
    const top = Number.MAX_SAFE_INTEGER;
    const largest: Frame[] = [
      { type: "OPEN", stream: top, header: new Uint8Array(MAX_HEADER) },
      { type: "FIN", stream: top, offset: top },
      { type: "FIN_ACK", stream: top },
      { type: "RESET", stream: top, reason: "ABORTED", text: "€".repeat(1000) },
      { type: "WINDOW", stream: top, limit: top },
      { type: "ACK", channel: top, count: top },
      { type: "LOST", channel: top, count: top },
      { type: "PING", id: top },
      { type: "PONG", id: top },
      { type: "GOAWAY", reason: "ABORTED", text: "€".repeat(1000) },
      { type: "SIGNAL", payload: new Uint8Array(MAX_SIGNAL) },
      { type: "BREAK", stream: top, offset: top, reason: "TIMEOUT", text: "€".repeat(1000) },
    ];
    expect(
      largest
        .map(({ type }) => type)
        .concat("DATA", "DATAGRAM")
        .sort(),
    ).toEqual(Object.keys(FRAME).sort());
    for (const each of largest) {
      const message = encodeFrame(each);
      expect(message.length).toBeLessThanOrEqual(MAX_CONTROL_MESSAGE);
      expect(decodeFrames(message)).toHaveLength(1);
    }
  });

  test("a text of any length and kind can be sent: too long ones are cut", () => {
    const size = { maxLength: 2 * MAX_TEXT, size: "max" } as const;
    const any = fc.oneof(fc.string(size), fc.string({ unit: "binary", ...size }));
    const utf8 = new TextEncoder();
    fc.assert(
      fc.property(any, (value) => {
        const [decoded] = decodeFrames(encodeFrame({ type: "GOAWAY", reason: "IO", text: value }));
        const said = decoded?.type === "GOAWAY" ? decoded.text : "?";
        // Half a surrogate pair has no UTF-8 form.
        const whole = new TextDecoder().decode(utf8.encode(value));
        if (utf8.encode(value).length <= MAX_TEXT) {
          expect(said).toBe(whole);
        } else {
          expect(said.endsWith("…")).toBe(true);
          expect(whole.startsWith(said.slice(0, -1))).toBe(true);
          // No more is cut than must be: a character takes at most 4 bytes.
          expect(utf8.encode(said).length).toBeGreaterThan(MAX_TEXT - 4);
        }
      }),
      RUNS,
    );
  });
});

describe("addresses", () => {
  test("parse(format(x)) = x", () => {
    fc.assert(
      fc.property(fc.oneof(bytes(4, 4), bytes(16, 16)), (value) => {
        expect(parseAddress(formatAddress(value))).toEqual(value);
      }),
      RUNS,
    );
  });

  test("format(parse(x)) is the canonical form, which URL knows too", () => {
    const group = fc.integer({ min: 0, max: 0xffff }).map((value) => value.toString(16));
    const groups = fc.array(fc.oneof(fc.constant("0"), group), { minLength: 8, maxLength: 8 });
    fc.assert(
      fc.property(groups, (parts) => {
        const parsed = parseAddress(parts.join(":"));
        expect(parsed && `[${formatAddress(parsed)}]`).toBe(new URL(`http://[${parts.join(":")}]`).hostname);
      }),
      RUNS,
    );
  });

  test("any text is an address or none", () => {
    const unit = fc.string({ unit: fc.constantFrom(...Array.from("0129afAF:::..g%")), maxLength: 45 });
    fc.assert(
      fc.property(fc.oneof(fc.string(), unit), (value) => {
        const parsed = parseAddress(value);
        if (parsed) expect([4, 16]).toContain(parsed.length);
        if (parsed && value.includes(":"))
          expect(`[${formatAddress(parsed)}]`).toBe(new URL(`http://[${value}]`).hostname);
      }),
      { numRuns: 5000 },
    );
  });
});

describe("candidates", () => {
  codec(
    candidates,
    (list) => {
      const writer = new Writer();
      writeCandidates(writer, list);
      return writer.finish();
    },
    (message) => {
      const reader = new Reader(message);
      const list = readCandidates(reader);
      reader.end();
      return list;
    },
  );

  test("more than allowed are left out", () => {
    fc.assert(
      fc.property(fc.array(candidate, { minLength: MAX_CANDIDATES, maxLength: 40 }), (list) => {
        const writer = new Writer();
        writeCandidates(writer, list);
        expect(readCandidates(new Reader(writer.finish()))).toEqual(list.slice(0, MAX_CANDIDATES));
      }),
    );
  });
});

describe("HELLO", () => {
  /** With the length of the message, padding and all. */
  interface Sized {
    readonly hello: Hello;
    readonly size: number;
  }

  const extra = fc.oneof(fc.integer({ min: 0, max: 50 }), fc.constant(1390));
  codec(
    fc.tuple(hello, extra).map(([value, more]): Sized => ({
      hello: value,
      size: encodeHello(value).length + more,
    })),
    (value) => encodeHello(value.hello, value.size),
    (message) => {
      const value = decodeHello(message);
      // What follows another version's number is not judged, so it has many forms.
      if (value.version !== PROTOCOL_VERSION) throw new DcpipeError("PROTOCOL", "another version");
      return { hello: value, size: message.length };
    },
  );

  test("is never longer than MAX_HELLO, whatever size is asked for", () => {
    const value = { version: PROTOCOL_VERSION, role: "joining", epoch: 1, index: 2 } as const;
    const largest = encodeHello({ ...value, proof: new Uint8Array(PROOF_SIZE) }, MAX_HELLO + 100);
    expect(largest.length).toBe(MAX_HELLO);
    expect(decodeHello(largest).index).toBe(2);
    expect(() => decodeHello(concat([largest, Uint8Array.of(0)]))).toThrow(DcpipeError);
  });

  test("another version is told, whatever follows", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 255 }), bytes(0, 60), (version, rest) => {
        fc.pre(version !== PROTOCOL_VERSION);
        expect(decodeHello(Uint8Array.of(0x40, version, ...rest)).version).toBe(version);
      }),
      RUNS,
    );
  });
});

describe("READY", () => {
  codec(fc.integer({ min: 0, max: MAX_HELLO }), encodeReady, decodeReady);

  test("is known by its first byte", () => {
    expect(isReady(encodeReady(40))).toBe(true);
    expect(isReady(new Uint8Array(0))).toBe(false);
  });
});

describe("lane messages", () => {
  codec(lane, encodeLane, decodeLane);

  test("fit a SIGNAL", () => {
    const list = Array.from({ length: MAX_CANDIDATES }, (_, i) => ({
      type: "relay" as const,
      address: `2001:db8::${i + 1}`,
      port: 1000 + i,
    }));
    const message = encodeLane({
      type: "ADD",
      epoch: MAX_EPOCH,
      index: MAX_INDEX,
      kind: "datagrams",
      mtu: MAX_MTU,
      candidates: list,
    });
    expect(message.length).toBeLessThanOrEqual(MAX_SIGNAL);
  });
});

describe("a client's messages to a rendezvous", () => {
  codec(clientMessage, encodeClientMessage, decodeClientMessage);
  exact(clientMessage, encodeClientMessage, decodeClientMessage, ["POST"]);
  unknownTypes(decodeClientMessage, [1, 2, 3, 4, 5, 6, 7, 8]);

  const sixteen = new Uint8Array(16);
  const of = (...parts: (Uint8Array | number[])[]): Uint8Array =>
    concat(parts.map((part) => Uint8Array.from(part)));

  test.each([
    ["CLAIM of nameplate 0", of([2], sixteen, [0]), "nameplate 0"],
    ["RESUME of nameplate 0", of([4], sixteen, [0, 0, 0]), "nameplate 0"],
    [
      "a nameplate above the largest",
      of([2], sixteen, [0x80, 0x0f, 0x42, 0x40]),
      "integer 1000000 above the limit of 999999",
    ],
    [
      "ALLOCATE above the largest",
      of([1], sixteen, [0x80, 0x0f, 0x42, 0x40]),
      "integer 1000000 above the limit of 999999",
    ],
    ["a nameplate in a longer form", of([2], sixteen, [0x40, 7]), "integer not in its shortest form"],
    ["OPEN with role 2", of([3], sixteen, [2], sixteen, [0]), "unknown role"],
    ["RESUME with role 255", of([4], sixteen, [255, 7, 0]), "unknown role"],
    [
      "more received than may be posted",
      of([3], sixteen, [0], sixteen, [0x40, 65]),
      "integer 65 above the limit of 64",
    ],
    ["body number 64", of([5, 0x40, 64, 1]), "integer 64 above the limit of 63"],
    ["an empty body", of([5, 0]), "empty body"],
    ["a body too long", of([5, 0], new Uint8Array(4097)), "body too long"],
    ["outcome 6", of([7, 6]), "unknown outcome"],
    ["RENEW and more", of([6, 0]), "1 trailing bytes"],
  ])("%s breaks the protocol", (_name, message, why) => {
    expect(told(() => decodeClientMessage(message))).toBe(why);
  });

  test("the largest is as large as said", () => {
    const largest = encodeClientMessage({ type: "POST", index: 63, body: new Uint8Array(MAX_BODY) });
    expect(largest.length).toBeLessThanOrEqual(MAX_RENDEZVOUS_MESSAGE);
  });

  test("what is decoded stays when the message's memory is used again", () => {
    fc.assert(
      fc.property(clientMessage, (value) => {
        const message = encodeClientMessage(value);
        const decoded = decodeClientMessage(message);
        message.fill(0);
        expect(decoded).toEqual(value);
      }),
    );
  });
});

describe("a rendezvous' messages to a client", () => {
  codec(serverMessage, encodeServerMessage, decodeServerMessage);
  exact(serverMessage, encodeServerMessage, decodeServerMessage, ["MESSAGE"]);
  unknownTypes(decodeServerMessage, [0x81, 0x82, 0x83, 0x84, 0x85]);

  test.each([
    ["ALLOCATED with nameplate 0", [0x81, 0, 0], "nameplate 0"],
    ["a link that is no UTF-8", [0x81, 7, 1, 0xff], "text is not UTF-8"],
    ["a link too long", [0x81, 7, 0x42, 0x01, ...new Uint8Array(513)], "integer 513 above the limit of 512"],
    ["more kept than may be posted", [0x82, 0x40, 65], "integer 65 above the limit of 64"],
    ["body number 64", [0x83, 0x40, 64, 1], "integer 64 above the limit of 63"],
    ["an empty body", [0x83, 0], "empty body"],
    ["a body too long", [0x83, 0, ...new Uint8Array(4097)], "body too long"],
    ["nine servers", [0x85, 9, ...new Uint8Array(27)], "9 servers, at most 8 allowed"],
    ["fewer servers than said", [0x85, 2, 0, 0, 0], "message ends early"],
    ["more servers than said", [0x85, 0, 0, 0, 0], "3 trailing bytes"],
    ["a client's message", [0x06], "unknown message"],
  ])("%s breaks the protocol", (_name, message, why) => {
    expect(told(() => decodeServerMessage(Uint8Array.from(message)))).toBe(why);
  });
});

describe("messages of an introduction by code", () => {
  codec(introduction, encodeIntroduction, decodeIntroduction);
  exact(introduction, encodeIntroduction, decodeIntroduction, ["SEALED"]);
  unknownTypes(decodeIntroduction, [1, 2, 3, 4]);

  test("SEALED holds a byte at least", () => {
    const sealed = (length: number): Uint8Array => Uint8Array.of(4, ...new Uint8Array(NONCE_SIZE + length));
    for (let length = 0; length <= 16; length++)
      expect(told(() => decodeIntroduction(sealed(length)))).toBe("message ends early");
    expect(decodeIntroduction(sealed(17)).type).toBe("SEALED");
  });

  test("any fits a mailbox", () => {
    const list = Array.from({ length: MAX_CANDIDATES }, (_, i) => ({
      type: "relay" as const,
      address: `2001:db8::${i + 1}`,
      port: 1000 + i,
    }));
    expect(NONCE_SIZE + 17 + encodeAddresses(list).length).toBeLessThan(MAX_BODY / 4);
  });
});

describe("sealed addresses", () => {
  codec(candidates, encodeAddresses, decodeAddresses);

  test("nothing else is sealed", () => {
    expect(told(() => decodeAddresses(Uint8Array.of(2, 0)))).toBe("unknown sealed message");
    expect(told(() => decodeAddresses(new Uint8Array()))).toBe("message ends early");
  });
});

describe("knocks", () => {
  codec(bytes(KNOCK_NONCE_SIZE, KNOCK_NONCE_SIZE), encodeKnock, decodeKnock);
});

describe("records of a pairing", () => {
  /** Without the length in front, which is the stream's. */
  const body = (value: RememberRecord): Uint8Array => {
    const reader = new Reader(encodeRememberRecord(value));
    const record = reader.take(reader.varint(MAX_REMEMBER_RECORD));
    reader.end();
    return record;
  };
  codec(rememberRecord, body, decodeRememberRecord);
  exact(rememberRecord, body, decodeRememberRecord, []);

  test("names of any length can be sent: too long ones are cut", () => {
    const long = "€".repeat(1000);
    const nothing = new Uint8Array(32);
    const sent = body({ type: "REMEMBER", host: long, name: long, fingerprint: nothing, random: nothing });
    expect(decodeRememberRecord(sent)).toMatchObject({ host: expect.stringMatching(/^€+…$/) as string });
  });
});

describe("stream headers", () => {
  codec(header, encodeHeader, decodeHeader);

  test("every cut and every trailing byte breaks the protocol", () => {
    fc.assert(
      fc.property(header, fc.integer({ min: 0, max: 255 }), (value, more) => {
        const message = encodeHeader(value);
        for (let length = 0; length < message.length; length++)
          expect(valueOr(["PROTOCOL"], () => decodeHeader(message.subarray(0, length)))).toBe(undefined);
        expect(valueOr(["PROTOCOL"], () => decodeHeader(Uint8Array.of(...message, more)))).toBe(undefined);
      }),
      { numRuns: 100 },
    );
  });

  test("any fits an OPEN", () => {
    fc.assert(
      fc.property(header, (value) => {
        expect(encodeHeader(value).length).toBeLessThanOrEqual(MAX_HEADER);
      }),
    );
  });
});

describe("records of a forward", () => {
  /** Without the length in front, which is the stream's. */
  const body = (value: ForwardRecord): Uint8Array => {
    const reader = new Reader(encodeForwardRecord(value));
    const record = reader.take(reader.varint(MAX_FORWARD_RECORD));
    reader.end();
    return record;
  };
  codec(forwardRecord, body, decodeForwardRecord);
  exact(forwardRecord, body, decodeForwardRecord, []);

  test("no other type is known", () => {
    for (let type = 0; type < 256; type++) {
      if (type >= 1 && type <= 5) continue;
      for (const rest of [0, 17, 100])
        expect(told(() => decodeForwardRecord(Uint8Array.of(type, ...new Uint8Array(rest))))).toBe(
          "unknown forward record",
        );
    }
  });

  test("the longest fits its limit, whatever the texts for people are", () => {
    const longest: ForwardRecord = {
      type: "LISTEN",
      id: Number.MAX_SAFE_INTEGER,
      protocol: "udp",
      place: { type: "host", address: "x".repeat(MAX_HOST), port: 65535 },
      target: "€".repeat(1000),
    };
    expect(body(longest).length).toBeLessThanOrEqual(MAX_FORWARD_RECORD);
    expect(decodeForwardRecord(body(longest))).toMatchObject({
      target: expect.stringMatching(/^€+…$/) as string,
    });
    expect(
      body({ type: "FAILED", id: Number.MAX_SAFE_INTEGER, reason: "LIMIT", text: "€".repeat(1000) }).length,
    ).toBeLessThanOrEqual(MAX_FORWARD_RECORD);
  });
});

describe("file records", () => {
  /** Without the length in front, which is the stream's. */
  const body = (value: FileRecord): Uint8Array => {
    const reader = new Reader(encodeRecord(value));
    const record = reader.take(reader.varint());
    reader.end();
    return record;
  };
  codec(record, body, decodeRecord);
  exact(record, body, decodeRecord, ["CHUNK", "PACKED"]);

  test("no other type is known", () => {
    for (let type = 0; type < 256; type++) {
      if ((type >= 0x01 && type <= 0x0f) || (type >= 0x11 && type <= 0x17)) continue;
      for (const rest of [0, 17, 100])
        expect(told(() => decodeRecord(Uint8Array.of(type, ...new Uint8Array(rest))))).toBe(
          `unknown file record ${type}`,
        );
    }
  });

  test("what a file cannot have is cut to what a record holds", () => {
    const sent = { kind: "file", name: "x", size: 1, mode: 0o107755, mtime: -1.5 } as const;
    expect(decodeRecord(body({ type: "ENTRY", entry: sent }))).toEqual({
      type: "ENTRY",
      entry: { ...sent, mode: 0o755, mtime: 0 },
    });
    const late = { kind: "directory", name: "x", mode: 0, mtime: 1e300 } as const;
    expect(decodeRecord(body({ type: "ENTRY", entry: late }))).toEqual({
      type: "ENTRY",
      entry: { ...late, mtime: Number.MAX_SAFE_INTEGER },
    });
    const words = "é".repeat(300);
    const broken = decodeRecord(body({ type: "BROKEN", id: 1, reason: "IO", text: words }));
    expect(broken).toMatchObject({ id: 1, text: expect.stringMatching(/^é+…$/) as string });
  });

  test("the longest fit a record", () => {
    const chunk = body({ type: "CHUNK", content: new Uint8Array(MAX_CHUNK) });
    expect(chunk.length).toBe(MAX_CHUNK + 1);
    // What does not shrink grows by five bytes for each 65,535 in stored blocks.
    const packed = new Uint8Array(MAX_PACKED + 5 * Math.ceil(MAX_PACKED / 65_535));
    expect(body({ type: "PACKED", size: MAX_PACKED, packed }).length).toBeLessThanOrEqual(MAX_RECORD);
  });

  test("an encoder does not write what a decoder would not take", () => {
    const unsized = { kind: "file", name: "x", size: Number.MAX_SAFE_INTEGER, mode: 0, mtime: 0 } as const;
    expect(() => encodeRecord({ type: "ENTRY", entry: unsized })).toThrow(RangeError);
  });

  test("a CHUNK may be written in two parts", () => {
    fc.assert(
      fc.property(bytes(1, 300), (content) => {
        expect(hex(concat([chunkPrefix(content.length), content]))).toBe(
          hex(encodeRecord({ type: "CHUNK", content })),
        );
      }),
    );
  });
});

describe("tokens", () => {
  const TOKEN_CODES: readonly ErrorCode[] = ["TOKEN_MALFORMED", "TOKEN_CUT", "TOKEN_KIND", "TOKEN_VERSION"];
  const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const kind = fc.constantFrom("offer" as const, "answer" as const);

  /** CRC-16/CCITT-FALSE, bit by bit from its definition as a remainder. */
  function crc(message: Uint8Array): number {
    let rest = 0xffff;
    for (const byte of message) {
      for (let bit = 7; bit >= 0; bit--) {
        const top = (rest >> 15) ^ ((byte >> bit) & 1);
        rest = ((rest << 1) & 0xffff) ^ (top ? 0x1021 : 0);
      }
    }
    return rest;
  }

  function withSum(body: Uint8Array): string {
    const sum = crc(body);
    return `dc1${toBase64url(Uint8Array.of(...body, sum >> 8, sum & 255))}`;
  }

  test("the checksum is CRC-16/CCITT-FALSE, whose check value is 0x29b1", () => {
    expect(crc(new TextEncoder().encode("123456789"))).toBe(0x29b1);
  });

  test("decode(encode(x)) = x", () => {
    fc.assert(
      fc.property(token, (value) => {
        const encoded = encodeToken(value);
        expect(encoded).toMatch(/^dc1[A-Za-z0-9_-]+$/);
        expect(decodeToken(encoded, value.kind)).toEqual(value);
        expect(
          valueOr(["TOKEN_KIND"], () => decodeToken(encoded, value.kind === "offer" ? "answer" : "offer")),
        ).toBe(undefined);
      }),
      RUNS,
    );
  });

  test("any text gives a token or TOKEN_*", () => {
    const shaped = fc.string({
      unit: fc.constantFrom(...Array.from(ALPHABET), " ", "\n", "…", '"', "."),
      maxLength: 300,
    });
    const any = fc.oneof(
      fc.string(),
      fc.string({ unit: "binary" }),
      shaped,
      shaped.map((value) => `dc1${value}`),
      shaped.map((value) => `dc1E${value}`),
    );
    fc.assert(
      fc.property(any, kind, (value, expected) => {
        valueOr(TOKEN_CODES, () => decodeToken(value, expected));
      }),
      { numRuns: 5000 },
    );
  });

  test("any bytes with the right checksum give a token or TOKEN_*, and a token has one form", () => {
    const body = token.map((value) => fromBase64url(encodeToken(value).slice(3)).slice(0, -2));
    fc.assert(
      fc.property(fc.oneof(bent(body), random), kind, (message, expected) => {
        const encoded = withSum(message);
        const value = valueOr(TOKEN_CODES, () => decodeToken(encoded, expected));
        if (value) expect(encodeToken(value)).toBe(encoded);
      }),
      { numRuns: 5000 },
    );
  });

  test("every single changed character is noticed", () => {
    fc.assert(
      fc.property(token, (value) => {
        const encoded = encodeToken(value);
        for (let at = 0; at < encoded.length; at++) {
          for (const character of ALPHABET) {
            if (encoded[at] === character) continue;
            const changed = encoded.slice(0, at) + character + encoded.slice(at + 1);
            const accepted = valueOr(TOKEN_CODES, () => decodeToken(changed, value.kind));
            if (accepted) expect.unreachable(`${changed} for ${encoded}`);
          }
        }
      }),
      { numRuns: 5 },
    );
  });

  test("every two neighbours swapped are noticed", () => {
    fc.assert(
      fc.property(token, (value) => {
        const encoded = encodeToken(value);
        for (let at = 0; at + 1 < encoded.length; at++) {
          const [a = "", b = ""] = encoded.slice(at, at + 2);
          if (a === b) continue;
          const changed = encoded.slice(0, at) + b + a + encoded.slice(at + 2);
          const accepted = valueOr(TOKEN_CODES, () => decodeToken(changed, value.kind));
          if (accepted) expect.unreachable(`${changed} for ${encoded}`);
        }
      }),
      { numRuns: 50 },
    );
  });

  test("a cut token is told as cut, wherever the cut is", () => {
    fc.assert(
      fc.property(token, (value) => {
        const encoded = encodeToken(value);
        for (let length = 3; length < encoded.length; length++) {
          for (const end of ["", "…", "...", "\n"]) {
            const run = (): Token => decodeToken(encoded.slice(0, length) + end, value.kind);
            expect(valueOr(["TOKEN_CUT"], run), `${length} of ${encoded}`).toBe(undefined);
          }
        }
      }),
      { numRuns: 30 },
    );
  });

  test("wraps, quotes and words around are forgiven", () => {
    const word = fc.string({
      unit: fc.constantFrom(...Array.from("abcdefXYZ019-_")),
      minLength: 1,
      maxLength: 8,
    });
    const words = fc.array(
      word.filter((value) => !value.includes("dc")),
      { maxLength: 4 },
    );
    const quote = fc.constantFrom("", '"', "'", "`", "<", "“", "«");
    fc.assert(
      fc.property(
        token,
        words,
        words,
        quote,
        fc.integer({ min: 5, max: 200 }),
        fc.constantFrom("\n", "\r\n", " ", "\n  ", "\n> "),
        (value, before, after, mark, width, newline) => {
          const lines = encodeToken(value).match(new RegExp(`.{1,${width}}`, "g")) ?? [];
          const wrapped =
            mark +
            lines.join(newline) +
            (mark === "“" ? "”" : mark === "«" ? "»" : mark === "<" ? ">" : mark);
          const pasted = [...before, wrapped, ...after].join(" ");
          fc.pre(pasted.length <= MAX_TOKEN_TEXT);
          expect(decodeToken(pasted, value.kind)).toEqual(value);
        },
      ),
      RUNS,
    );
  });

  test("an ordinary offer takes 125 characters at most, its answer 64", () => {
    const ordinary = fc.record({ v4: ipv4, outside: ipv4, v6: ipv6, port, outsidePort: port });
    fc.assert(
      fc.property(
        ordinary,
        bytes(SECRET_SIZE, SECRET_SIZE),
        bytes(FINGERPRINT_SIZE, FINGERPRINT_SIZE),
        ({ v4, outside, v6, port: local, outsidePort }, secret, fingerprint) => {
          const list: Candidate[] = [
            { type: "host", address: v4, port: local },
            { type: "srflx", address: outside, port: outsidePort },
            { type: "host", address: v6, port: local },
          ];
          const offer = encodeToken({ kind: "offer", secret, fingerprint, candidates: list });
          expect(offer.length).toBeLessThanOrEqual(125);
          const offerId = secret.slice(0, OFFER_ID_SIZE);
          const answer = encodeToken({ kind: "answer", offerId, candidates: list });
          expect(answer.length).toBeLessThanOrEqual(64);
        },
      ),
      RUNS,
    );
  });

  test("too much text is no token, and costs nothing", () => {
    expect(valueOr(["TOKEN_MALFORMED"], () => decodeToken("dc1".repeat(MAX_TOKEN_TEXT), "offer"))).toBe(
      undefined,
    );
  });
});
