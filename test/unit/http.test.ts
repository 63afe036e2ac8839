/** HTTP over sessions in memory: the records, the frames of a WebSocket, and both sides against a peer that says what it likes. */
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { exchange } from "../../src/apps/http/exchange.ts";
import { travelling } from "../../src/apps/http/fields.ts";
import type { HttpClient, OutgoingRequest } from "../../src/apps/http/client.ts";
import { locate, placeOf } from "../../src/apps/http/place.ts";
import { acceptHttp, type HttpAcceptor } from "../../src/apps/http/serving.ts";
import { httpOver } from "../../src/apps/http/visit.ts";
import { Ledger } from "../../src/apps/forward/events.ts";
import { DcpipeError } from "../../src/errors.ts";
import type { Stream } from "../../src/session/stream.ts";
import { Reader } from "../../src/wire/bytes.ts";
import { decodeHeader, encodeHeader } from "../../src/wire/header.ts";
import {
  decodeHttpRecord,
  encodeHttpRecord,
  MAX_FIELDS,
  MAX_HTTP_RECORD,
  type HttpRecord,
  type HttpRequest,
} from "../../src/wire/http.ts";
import { encodeSocketFrame, OPCODE, SocketReader, type SocketMessage } from "../../src/wire/websocket.ts";
import { run, sessions, settled, startTime, stopTime, within, type Pair } from "./network.ts";

const TARGET = { type: "host", host: "localhost", port: 3000 } as const;
const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

function decoded(record: HttpRecord): HttpRecord {
  const reader = new Reader(encodeHttpRecord(record));
  return decodeHttpRecord(reader.take(reader.varint(MAX_HTTP_RECORD)));
}

describe("records", () => {
  const token = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9a-z-]{1,20}$/);
  const name = token.map((text) => `x-${text}`);
  const value = fc.stringMatching(
    /^([\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]{0,50}[\x21-\x7e\x80-\xff])?)?$/,
  );
  const fields = fc.array(fc.tuple(name, value), { maxLength: 20 });
  const path = fc.stringMatching(/^\/[\x21\x22\x24-\x7e]{0,50}$/);
  const record: fc.Arbitrary<HttpRecord> = fc.oneof(
    fc.record({
      type: fc.constant("REQUEST" as const),
      method: fc.constantFrom("GET", "POST", "PROPFIND", "m-search"),
      path,
      body: fc.oneof(fc.constantFrom("none" as const, "unknown" as const), fc.maxSafeNat()),
      fields,
    }),
    fc.record({
      type: fc.constant("OPENING" as const),
      path,
      protocols: fc.uniqueArray(token, { maxLength: 5 }),
      fields,
    }),
    fc.record({
      type: fc.constant("RESPONSE" as const),
      status: fc.integer({ min: 200, max: 999 }),
      reason: value,
      fields,
    }),
    fc.record({ type: fc.constant("ACCEPTED" as const), protocol: fc.oneof(fc.constant(""), token), fields }),
  );

  test("are what they were", () => {
    fc.assert(
      fc.property(record, (given) => {
        expect(decoded(given)).toEqual(given);
      }),
    );
  });

  test("whatever comes is decoded or refused with PROTOCOL, and what is decoded can be sent on", () => {
    fc.assert(
      fc.property(record, fc.nat(), fc.nat({ max: 255 }), (given, at, byte) => {
        const reader = new Reader(encodeHttpRecord(given));
        const bytes = reader.take(reader.varint(MAX_HTTP_RECORD)).slice();
        bytes[at % bytes.length] = byte;
        let again: HttpRecord;
        try {
          again = decodeHttpRecord(bytes);
        } catch (error) {
          expect(error).toMatchObject({ name: "DcpipeError", code: "PROTOCOL" });
          return;
        }
        const written = new Reader(encodeHttpRecord(again));
        expect(written.take(written.varint(MAX_HTTP_RECORD))).toEqual(bytes);
      }),
      { numRuns: 1000 },
    );
  });

  test("no text breaks out of a head", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "binary", minLength: 1 }),
        fc.constantFrom("\r", "\n", "\0", "\u0100"),
        (text, bad) => {
          const hostile = text.slice(0, 3) + bad + text.slice(3);
          const request: HttpRequest = {
            type: "REQUEST",
            method: "GET",
            path: "/",
            body: "none",
            fields: [],
          };
          for (const each of [
            { ...request, method: hostile },
            { ...request, path: `/${hostile}` },
            { ...request, fields: [[`a${hostile}`, "b"]] },
            { ...request, fields: [["a", `b${hostile}c`]] },
            { type: "RESPONSE", status: 200, reason: hostile, fields: [] },
            { type: "ACCEPTED", protocol: hostile, fields: [] },
            { type: "OPENING", path: "/", protocols: [hostile], fields: [] },
          ] as HttpRecord[])
            expect(() => encodeHttpRecord(each)).toThrow(expect.objectContaining({ code: "USAGE" }));
        },
      ),
    );
  });

  test("more than fits is LIMIT", () => {
    const fields = Array.from({ length: 3 }, () => ["a", "x".repeat(32 * 1024)] as const);
    expect(() => encodeHttpRecord({ type: "RESPONSE", status: 200, reason: "", fields })).toThrow(
      expect.objectContaining({ code: "LIMIT" }),
    );
    expect(() =>
      travelling(
        "RESPONSE",
        Array.from({ length: MAX_FIELDS + 1 }, () => ["a", "b"] as const),
      ),
    ).toThrow(expect.objectContaining({ code: "LIMIT" }));
  });
});

test("fields that do not travel", () => {
  expect(
    travelling("RESPONSE", [
      ["Connection", "close, X-Own , content-length"],
      ["X-Own", "1"],
      ["X-Other", "2"],
      ["Keep-Alive", "timeout=5"],
      ["Transfer-Encoding", "chunked"],
      ["Content-Length", "3"],
      ["Set-Cookie", "a=1"],
      ["Set-Cookie", "b=2"],
    ]),
  ).toEqual([
    ["x-other", "2"],
    ["content-length", "3"],
    ["set-cookie", "a=1"],
    ["set-cookie", "b=2"],
  ]);
  expect(
    travelling("REQUEST", [
      ["content-length", "3"],
      ["host", "a"],
      ["expect", "100-continue"],
    ]),
  ).toEqual([]);
});

describe("URLs", () => {
  test.each([
    ["3000", "/a?b#c", "http://localhost:3000/a?b#c", TARGET],
    ["3000", "http://localhost:3000/", "http://localhost:3000/", TARGET],
    ["3000", "ws://localhost:3000/x", "http://localhost:3000/x", TARGET],
    ["3000", "http://db:81/", "http://db:81/", { type: "host", host: "db", port: 81 }],
    ["3000", "//db/", "http://db/", { type: "host", host: "db", port: 80 }],
    ["[::1]:80", "/", "http://[::1]/", { type: "host", host: "::1", port: 80 }],
    [
      "3000",
      "http://[fd00::1]:8080/",
      "http://[fd00::1]:8080/",
      { type: "host", host: "fd00::1", port: 8080 },
    ],
    ["unix:/run/a.sock", "/", "http://localhost/", { type: "unix", path: "/run/a.sock" }],
  ])("TARGET %s, %s", (target, input, url, found) => {
    const located = locate(input, placeOf(target));
    expect([located.url.href, located.target]).toEqual([url, found]);
  });

  test.each(["/relative", "https://localhost/", "file:///etc/passwd", "http://a:b@localhost/", "http://"])(
    "%s is none without a TARGET",
    (input) => {
      expect(() => locate(input, undefined)).toThrow(expect.objectContaining({ code: "USAGE" }));
    },
  );

  test.each(["53/udp", "3000-3001", ""])("%s is no TARGET of HTTP", (target) => {
    expect(() => placeOf(target)).toThrow(expect.objectContaining({ code: "USAGE" }));
  });
});

describe("frames of a WebSocket", () => {
  /** A server's: without a mask. */
  function frame(opcode: number, payload: Uint8Array, final = true): Uint8Array {
    const masked = encodeSocketFrame(opcode as 0, payload, new Uint8Array(4), final);
    const start = masked.length - payload.length - 4;
    masked[1] = (masked[1] ?? 0) & 0x7f;
    return new Uint8Array(Buffer.concat([masked.subarray(0, start), masked.subarray(start + 4)]));
  }

  function read(bytes: Uint8Array, cuts: readonly number[] = [], max = 1e6): SocketMessage[] {
    const reader = new SocketReader(max);
    const found: SocketMessage[] = [];
    let at = 0;
    for (const size of [...cuts, bytes.length]) {
      found.push(...reader.push(bytes.subarray(at, at + size)));
      at += size;
    }
    return found;
  }

  test("however messages are divided into frames, and frames into pieces, they come whole and in order", () => {
    const message = fc.record({
      text: fc.string({ maxLength: 400, unit: "grapheme" }),
      isText: fc.boolean(),
      cuts: fc.array(fc.nat({ max: 200 }), { maxLength: 4 }),
      ping: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 6 }),
        fc.array(fc.nat({ max: 40 }), { maxLength: 60 }),
        (list, pieces) => {
          const frames: Uint8Array[] = [];
          for (const { text, isText, cuts, ping } of list) {
            let rest = encode(text);
            for (const [i, size] of cuts.entries()) {
              frames.push(frame(i > 0 ? 0 : isText ? 1 : 2, rest.subarray(0, size), false));
              rest = rest.subarray(size);
              if (ping) frames.push(frame(9, encode("p")));
            }
            frames.push(frame(cuts.length > 0 ? 0 : isText ? 1 : 2, rest));
          }
          const found = read(new Uint8Array(Buffer.concat(frames)), pieces).filter(
            ({ type }) => type !== "ping",
          );
          expect(found).toEqual(
            list.map(({ text, isText }) =>
              isText ? { type: "text", text } : { type: "binary", data: encode(text) },
            ),
          );
        },
      ),
    );
  });

  test("any bytes are taken without an error, and nothing is read after an end", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const found = read(bytes);
        const end = found.findIndex(({ type }) => type === "close" || type === "broken");
        expect(end < 0 || end === found.length - 1).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test("a message that is too large is refused at its head, whole or in fragments", () => {
    const tooBig = { type: "broken", code: 1009 };
    expect(read(frame(2, new Uint8Array(11)), [2], 10)).toMatchObject([tooBig]);
    const fragments = [frame(2, new Uint8Array(6), false), frame(0, new Uint8Array(5), false)];
    expect(read(new Uint8Array(Buffer.concat(fragments)), [], 10)).toMatchObject([tooBig]);
    expect(read(frame(2, new Uint8Array(10)), [], 10)).toMatchObject([{ type: "binary" }]);
  });

  test("ours are masked", () => {
    const masked = encodeSocketFrame(OPCODE.TEXT, encode("Hello"), new Uint8Array([0x37, 0xfa, 0x21, 0x3d]));
    // RFC 6455, section 5.7.
    expect(Buffer.from(masked).toString("hex")).toBe("818537fa213d7f9f4d5158");
  });
});

describe("the side with the target", () => {
  beforeEach(stopTime);
  afterEach(startTime);

  interface Served {
    readonly pair: Pair;
    readonly asked: OutgoingRequest[];
    readonly open: () => Stream;
  }

  /** Serves streams of the joining side with this client. */
  function serve(client: Partial<HttpClient>, permit: HttpAcceptor["permit"] = allow): Served {
    const pair = sessions();
    const asked: OutgoingRequest[] = [];
    const acceptor: HttpAcceptor = {
      network: undefined as never,
      ledger: new Ledger(() => undefined),
      pacer: undefined,
      permit,
      client: () =>
        Promise.resolve({
          request: (_addresses, request) => {
            asked.push(request);
            return Promise.reject(new DcpipeError("CONNECTION_REFUSED", "nothing listens"));
          },
          upgrade: () => Promise.reject(new DcpipeError("TIMEOUT", "no answer")),
          close: () => undefined,
          ...client,
        }),
    };
    void (async () => {
      for (;;) {
        const stream = await pair.waiting.accept();
        const header = decodeHeader(stream.header);
        if (header.kind === "http") void acceptHttp(stream, header.target, acceptor);
      }
    })().catch(() => undefined);
    onTestFinished(async () => {
      for (const session of [pair.waiting, pair.joining]) session.fail(new DcpipeError("ABORTED", "over"));
      await settled();
    });
    return {
      pair,
      asked,
      open: () => pair.joining.open(encodeHeader({ kind: "http", target: TARGET })),
    };
  }

  const allow: HttpAcceptor["permit"] = () =>
    Promise.resolve({
      addresses: [{ type: "host", address: "127.0.0.1", port: 3000 }],
      name: "localhost:3000",
    });
  const request: HttpRequest = { type: "REQUEST", method: "GET", path: "/", body: "none", fields: [] };

  /** What a stream ends with. */
  async function endOf(stream: Stream): Promise<unknown> {
    return within(
      stream.closed.then(
        () => "well",
        (error: unknown) => (error as DcpipeError).code,
      ),
    );
  }

  test("says why there is no answer", async () => {
    const { pair } = serve({});
    const { fetch, WebSocket } = httpOver(pair.joining, { target: "3000" });
    await expect(within(fetch("/"))).rejects.toMatchObject({ cause: { code: "CONNECTION_REFUSED" } });
    const socket = new WebSocket("/");
    const events: string[] = [];
    for (const name of ["open", "error", "close"])
      socket.addEventListener(name, (event) =>
        events.push(`${name} ${(event as { error?: DcpipeError }).error?.code}`),
      );
    await run(() => events.length === 2);
    expect(events).toEqual(["error TIMEOUT", "close undefined"]);
  });

  test("asks nobody when a rule says no", async () => {
    const { pair, asked } = serve({}, () => Promise.reject(new DcpipeError("REFUSED", "not offered here")));
    const attempt = exchange(pair.joining, { target: TARGET, method: "GET", path: "/", fields: [] });
    await expect(within(attempt)).rejects.toMatchObject({
      code: "REFUSED",
      message: expect.stringContaining("not offered") as string,
    });
    expect(asked).toEqual([]);
  });

  test.each<[string, Uint8Array, string]>([
    [
      "an answer in place of a request",
      encodeHttpRecord({ type: "RESPONSE", status: 200, reason: "", fields: [] }),
      "PROTOCOL",
    ],
    ["a record that is too long", new Uint8Array([0x80, 0x01, 0x00, 0x01]), "PROTOCOL"],
    ["an unknown record", new Uint8Array([1, 9]), "PROTOCOL"],
    [
      "a field that is not to travel",
      new Uint8Array([0x0f, 1, 3, 0x47, 0x45, 0x54, 1, 0x2f, 0, 1, 2, 0x74, 0x65, 1, 0x61, 0]),
      "PROTOCOL",
    ],
  ])("refuses %s", async (_, bytes, code) => {
    const { open, asked } = serve({});
    const stream = open();
    stream.write(bytes).catch(() => undefined);
    expect(await endOf(stream)).toBe(code);
    expect(asked).toEqual([]);
  });

  test("waits for a head, and not for ever", async () => {
    const { open } = serve({});
    const [silent, half, ended] = [open(), open(), open()];
    half.write(encodeHttpRecord(request).subarray(0, 3)).catch(() => undefined);
    ended.end().catch(() => undefined);
    expect(await endOf(ended)).toBe("PROTOCOL");
    expect(await endOf(silent)).toBe("TIMEOUT");
    expect(await endOf(half)).toBe("TIMEOUT");
  });

  test("takes a head in pieces of a byte", async () => {
    const { open, asked } = serve({});
    const stream = open();
    for (const byte of encodeHttpRecord({ ...request, fields: [["a", "b"]] })) {
      stream.write(Uint8Array.of(byte)).catch(() => undefined);
      await settled();
    }
    expect(await endOf(stream)).toBe("CONNECTION_REFUSED");
    expect(asked[0]?.fields).toEqual([
      ["host", "localhost:3000"],
      ["a", "b"],
    ]);
  });

  test.each([
    ["longer", 3, "four"],
    ["shorter", 5, "four"],
  ])("a request that is %s than it says never looks whole", async (_, length, body) => {
    const failures: unknown[] = [];
    const { open } = serve({
      request: async (_addresses, { body: source }) => {
        try {
          while (await source.read());
        } catch (error) {
          failures.push(error);
          throw error;
        }
        throw new Error("it ended well");
      },
    });
    const stream = open();
    stream.write(encodeHttpRecord({ ...request, method: "POST", body: length })).catch(() => undefined);
    stream.write(encode(body)).catch(() => undefined);
    stream.end().catch(() => undefined);
    expect(await endOf(stream)).toBe("PROTOCOL");
    expect(failures).toMatchObject([{ code: "PROTOCOL" }]);
  });

  test("a response is read at the asker's pace, and what breaks it comes behind what was read", async () => {
    let given = 0;
    const { pair } = serve({
      request: () =>
        Promise.resolve({
          status: 200,
          reason: "OK",
          fields: [["Set-Cookie", "a=1"]],
          isSent: () => true,
          body: {
            read: () => {
              if (given === 100) return Promise.reject(new DcpipeError("CONNECTION_RESET", "cut off"));
              given++;
              return Promise.resolve(new Uint8Array(64 * 1024).fill(given));
            },
            cancel: () => undefined,
          },
        }),
    });
    const { fields, body } = await within(
      exchange(pair.joining, { target: TARGET, method: "GET", path: "/", fields: [] }),
    );
    expect(fields).toEqual([["set-cookie", "a=1"]]);
    const reader = (body as ReadableStream<Uint8Array>).getReader();
    await within(reader.read());
    await run(() => pair.waiting.streams === 1 && given > 1, 1000).catch(() => undefined);
    // The windows of a stream, and what waits to be sent.
    expect(given).toBeLessThan(90);
    let size = 64 * 1024;
    const rest = (async () => {
      for (;;) size += (await reader.read()).value?.length ?? 0;
    })();
    await expect(within(rest)).rejects.toMatchObject({ code: "CONNECTION_RESET" });
    expect(size).toBeGreaterThan(99 * 64 * 1024);
  });

  test("what the asker does not want any more is destroyed at the target", async () => {
    let signal: AbortSignal | undefined;
    const { pair } = serve({
      request: (_addresses, _request, options) => {
        ({ signal } = options);
        return new Promise(() => undefined);
      },
    });
    const controller = new AbortController();
    const { fetch } = httpOver(pair.joining, { target: "3000" });
    const attempt = fetch("/", { signal: controller.signal });
    attempt.catch(() => undefined);
    await run(() => signal !== undefined);
    controller.abort();
    await expect(attempt).rejects.toMatchObject({ name: "AbortError" });
    await run(() => signal?.aborted === true);
  });
});

describe("a far side that says what it likes", () => {
  beforeEach(stopTime);
  afterEach(startTime);

  /** The far side answers each stream with these bytes and, if there is one, FIN. */
  function answer(bytes: Uint8Array, ends = true): Pair {
    const pair = sessions();
    void (async () => {
      for (;;) {
        const stream = await pair.waiting.accept();
        stream.write(bytes).catch(() => undefined);
        if (ends) stream.end().catch(() => undefined);
      }
    })().catch(() => undefined);
    onTestFinished(async () => {
      for (const session of [pair.waiting, pair.joining]) session.fail(new DcpipeError("ABORTED", "over"));
      await settled();
    });
    return pair;
  }
  const response = (status: number, fields: [string, string][] = []): Uint8Array =>
    encodeHttpRecord({ type: "RESPONSE", status, reason: "", fields });

  test.each<[string, Uint8Array]>([
    ["nothing", new Uint8Array(0)],
    ["half a head", response(200).subarray(0, 2)],
    ["a WebSocket", encodeHttpRecord({ type: "ACCEPTED", protocol: "", fields: [] })],
    ["a status that no Response has", response(999)],
    ["garbage", new Uint8Array(100).fill(0xff)],
  ])("%s is a TypeError with PROTOCOL", async (_, bytes) => {
    const pair = answer(bytes);
    await expect(within(httpOver(pair.joining, { target: "3000" }).fetch("/"))).rejects.toMatchObject({
      name: "TypeError",
      cause: { code: "PROTOCOL" },
    });
    await run(() => pair.joining.streams === 0);
  });

  test("a body where there is none ends the stream, and the response stands", async () => {
    const pair = answer(new Uint8Array(Buffer.concat([response(204), encode("body")])), false);
    const { status, body } = await within(httpOver(pair.joining, { target: "3000" }).fetch("/"));
    expect([status, body]).toEqual([204, null]);
    await run(() => pair.joining.streams === 0);
  });

  test("a WebSocket with a protocol that was not offered", async () => {
    const pair = answer(encodeHttpRecord({ type: "ACCEPTED", protocol: "b", fields: [] }));
    const socket = new (httpOver(pair.joining, { target: "3000" }).WebSocket)("/", "a");
    let error: DcpipeError | undefined;
    socket.onerror = (event) => {
      ({ error } = event as unknown as { error: DcpipeError });
    };
    await run(() => socket.readyState === 3);
    expect(error?.code).toBe("PROTOCOL");
    expect(decode(encode(socket.protocol))).toBe("");
  });
});
