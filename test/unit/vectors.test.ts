/** Runs the scenarios in test/vectors; their format is in the README there. */
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { DcpipeError } from "../../src/errors.ts";
import { createShare, generator, sharedSecret } from "../../src/signalling/cpace.ts";
import { Keys } from "../../src/signalling/keys.ts";
import { PeerKeys } from "../../src/signalling/known.ts";
import { Seal } from "../../src/signalling/seal.ts";
import { Reader, Writer } from "../../src/wire/bytes.ts";
import { readCandidates, writeCandidates } from "../../src/wire/candidate.ts";
import { formatCode, formatLink, parseCode, parsePeer } from "../../src/wire/code.ts";
import { decodeFrames, FRAME, REASONS, writeFrame, type Frame } from "../../src/wire/frame.ts";
import { decodeRecord, encodeRecord } from "../../src/wire/file.ts";
import { decodeForwardRecord, encodeForwardRecord, MAX_FORWARD_RECORD } from "../../src/wire/forward.ts";
import { decodeHeader, encodeHeader } from "../../src/wire/header.ts";
import { decodeHttpRecord, encodeHttpRecord, MAX_HTTP_RECORD } from "../../src/wire/http.ts";
import {
  decodeHello,
  decodeReady,
  encodeHello,
  encodeReady,
  PROTOCOL_VERSION,
} from "../../src/wire/hello.ts";
import {
  decodeAddresses,
  decodeIntroduction,
  decodeKnock,
  encodeAddresses,
  encodeIntroduction,
  encodeKnock,
  KNOCK_NONCE_SIZE,
  POINT_SIZE,
} from "../../src/wire/introduction.ts";
import { decodeLane, encodeLane } from "../../src/wire/lane.ts";
import { decodeRememberRecord, encodeRememberRecord } from "../../src/wire/remember.ts";
import {
  decodeClientMessage,
  decodeServerMessage,
  encodeClientMessage,
  encodeServerMessage,
} from "../../src/wire/rendezvous.ts";
import { decodeReport, encodeReport } from "../../src/wire/report.ts";
import { decodeToken, encodeToken, FINGERPRINT_SIZE } from "../../src/wire/token.ts";

const FOLDER = resolve(import.meta.dirname, "../vectors");
const LAYERS = [
  "frame",
  "header",
  "hello",
  "candidates",
  "lane",
  "record",
  "forward",
  "http",
  "token",
  "code",
  "rendezvous",
  "introduction",
  "cpace",
  "seal",
  "remember",
  "report",
] as const;
type Layer = (typeof LAYERS)[number];

interface Vector {
  readonly file: string;
  readonly name: string;
  readonly input: string;
  readonly expect: string;
  readonly error: string | undefined;
  readonly value: unknown;
  readonly body: string;
}

function parse(file: string): Vector {
  const text = readFileSync(join(FOLDER, file), "utf8");
  const end = text.indexOf("\n\n");
  const head = new Map<string, string>();
  for (const line of text.slice(0, end).split("\n")) {
    const colon = line.indexOf(": ");
    const key = line.slice(0, colon);
    if (!["name", "input", "expect", "error", "value"].includes(key) || head.has(key))
      throw new Error(`${file}: a head line "${line}"`);
    head.set(key, line.slice(colon + 2));
  }
  const value = head.get("value");
  if (end < 0 || !text.endsWith("\n")) throw new Error(`${file}: no head or no body`);
  return {
    file,
    name: head.get("name") ?? "",
    input: head.get("input") ?? "",
    expect: head.get("expect") ?? "",
    error: head.get("error"),
    value: value === undefined ? undefined : (JSON.parse(value) as unknown),
    body: text.slice(end + 2, -1),
  };
}

/** `61 62*3` as hex digits without repeats. */
function expand(text: string): string {
  return text.replace(/([0-9a-f]+)\*(\d+)/g, (_, hex: string, count: string) => hex.repeat(Number(count)));
}

function bytes(body: string): Uint8Array {
  const hex = expand(body).replace(/\s/g, "");
  if (!/^([0-9a-f]{2})*$/.test(hex)) throw new Error("not hex");
  return new Uint8Array(Buffer.from(hex, "hex"));
}

function hex(message: Uint8Array): string {
  return Buffer.from(message).toString("hex");
}

/** A decoded value in the form of `value`. */
function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, part: unknown) =>
      part instanceof Uint8Array ? hex(part) : part === undefined ? null : part,
    ),
  );
}

function expandAll(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, part: unknown) =>
      typeof part === "string" && /^[0-9a-f]+\*\d+$/.test(part) ? expand(part) : part,
    ),
  );
}

/** A rejection, and whose. */
class Rejected extends Error {
  readonly layer: Layer;

  constructor(layer: Layer, cause: unknown) {
    super(`rejected by ${layer}`, { cause });
    this.layer = layer;
  }
}

function rejection(run: () => unknown): Rejected {
  try {
    run();
  } catch (error) {
    if (error instanceof Rejected) return error;
    throw error;
  }
  throw new Error("accepted");
}

function by<T>(layer: Layer, decode: () => T): T {
  try {
    return decode();
  } catch (cause) {
    throw new Rejected(layer, cause);
  }
}

interface Outcome {
  readonly value: unknown;
  /** What the value encodes to, to be found in the input. */
  readonly again: string;
}

function frames(message: Uint8Array): Frame[] {
  return by("frame", () => decodeFrames(message));
}

function encodeFrames(list: readonly Frame[]): string {
  const writer = new Writer();
  for (const frame of list) writeFrame(writer, frame);
  return hex(writer.finish());
}

function lane(payload: Uint8Array): Outcome {
  try {
    const value = decodeLane(payload);
    return { value, again: hex(encodeLane(value)) };
  } catch (cause) {
    // Whose fault is it? Read on to the addresses, which have a layer of their own.
    const reader = new Reader(payload);
    by("lane", () => {
      const type = reader.u8();
      reader.varint();
      if (type === 4) reader.u8();
      else reader.varint();
      if (type === 1) {
        reader.u8();
        reader.varint();
      }
      if (type !== 1 && type !== 2 && type !== 4) throw cause;
    });
    by("candidates", () => readCandidates(reader));
    throw new Rejected("lane", cause);
  }
}

function pasted(text: string, kind: "offer" | "answer"): Outcome {
  const value = by("token", () => decodeToken(text, kind));
  return { value, again: encodeToken(value) };
}

function record(body: Uint8Array): Outcome {
  const value = by("record", () => decodeRecord(body));
  const reader = new Reader(encodeRecord(value));
  return { value, again: hex(reader.take(reader.varint())) };
}

function forward(body: Uint8Array): Outcome {
  const value = by("forward", () => decodeForwardRecord(body));
  const reader = new Reader(encodeForwardRecord(value));
  return { value, again: hex(reader.take(reader.varint(MAX_FORWARD_RECORD))) };
}

function http(body: Uint8Array): Outcome {
  const value = by("http", () => decodeHttpRecord(body));
  const reader = new Reader(encodeHttpRecord(value));
  return { value, again: hex(reader.take(reader.varint(MAX_HTTP_RECORD))) };
}

/** A run of CPace, from both ends. */
function cpace(body: string): Outcome {
  const given = new Map(
    body.split("\n").map((line) => {
      const [name = "", value = ""] = line.split(" ");
      return [name, value];
    }),
  );
  const take = (name: string): Uint8Array => bytes(given.get(name) ?? "missing");
  const sid = take("sid");
  const g = generator(take("PRS"), take("CI"), sid);
  const a = createShare(g, take("ya"));
  const b = createShare(g, take("yb"));
  const initiator = { point: a.point, data: take("ADa") };
  const responder = { point: b.point, data: take("ADb") };
  const ISK = sharedSecret({ secret: a.secret, theirs: b.point, sid, initiator, responder });
  expect(sharedSecret({ secret: b.secret, theirs: a.point, sid, initiator, responder })).toEqual(ISK);
  return { value: { generator: g, Ya: a.point, Yb: b.point, ISK }, again: "" };
}

/** A point that comes from the other side. */
function point(theirs: Uint8Array): Outcome {
  const secret = new Uint8Array(32).fill(7);
  const sent = { point: theirs, data: new Uint8Array() };
  by("cpace", () =>
    sharedSecret({ secret, theirs, sid: new Uint8Array(), initiator: sent, responder: sent }),
  );
  return { value: undefined, again: "" };
}

/** The list of addresses that is sealed. */
function addresses(body: Uint8Array): Outcome {
  by("introduction", () => {
    if (body[0] !== 1) decodeAddresses(body);
  });
  const value = by("candidates", () => decodeAddresses(body));
  return { value, again: hex(encodeAddresses(value)) };
}

/** All that comes of a code's ISK once HELLO and ANSWER are there. */
function schedule(body: Uint8Array): Outcome {
  const reader = new Reader(body);
  const keys = Keys.fromCode(reader.take(64));
  const sent = () => ({ point: reader.take(POINT_SIZE), fingerprint: reader.take(FINGERPRINT_SIZE) });
  const [hello, answer] = [sent(), sent()];
  reader.end();
  const fingerprints = { waiting: hello.fingerprint, joining: answer.fingerprint };
  const value = {
    waiting: { tag: keys.confirmation("waiting", hello, answer), seal: keys.sealKey("waiting") },
    joining: { tag: keys.confirmation("joining", hello, answer), seal: keys.sealKey("joining") },
    mailbox: keys.mailboxName,
    verify: keys.verifier(fingerprints),
    ice: keys.ice("waiting", 0, 0),
    proof: keys.proof("waiting", 0, 0, fingerprints),
  };
  return { value, again: "" };
}

/** All that comes of the secret of a known peer, and the nonce of a knock. */
function peerSchedule(body: Uint8Array): Outcome {
  const reader = new Reader(body);
  const peer = new PeerKeys(reader.take(32));
  const nonce = reader.take(KNOCK_NONCE_SIZE);
  reader.end();
  const keys = peer.session(nonce);
  const fingerprints = { waiting: new Uint8Array(32).fill(0xaa), joining: new Uint8Array(32).fill(0xbb) };
  const value = {
    doors: {
      "a receive": peer.door("a", "receive").name,
      "b forward": peer.door("b", "forward").name,
      "both files": peer.door("both", "files").name,
    },
    nameplates: { a: peer.nameplate("a"), b: peer.nameplate("b") },
    session: {
      mailbox: keys.mailboxName,
      seal: keys.sealKey("waiting"),
      ice: keys.ice("waiting", 0, 0),
      proof: keys.proof("waiting", 0, 0, fingerprints),
      verify: keys.verifier(fingerprints),
    },
  };
  return { value, again: "" };
}

/** The secret of a known peer, and a body at the door "a receive". */
function knocked(body: Uint8Array): Outcome {
  const reader = new Reader(body);
  const door = new PeerKeys(reader.take(32)).door("a", "receive");
  const message = reader.take(reader.remaining);
  by("introduction", () => decodeIntroduction(message));
  return { value: by("seal", () => door.openKnock(message, 0)), again: "" };
}

/** What somebody pasted from a doctor. */
function report(text: string): Outcome {
  const value = by("report", () => decodeReport(text));
  return { value, again: encodeReport(value) };
}

/** The sender's sealing key, the number of the body, the body. */
function sealed(body: Uint8Array): Outcome {
  const reader = new Reader(body);
  const theirs = reader.take(32);
  const index = reader.u8();
  const message = by("introduction", () => decodeIntroduction(reader.take(reader.remaining)));
  if (message.type !== "SEALED") throw new Error("not sealed");
  const seal = new Seal({ mine: new Uint8Array(32), theirs });
  return { value: by("seal", () => seal.open(index, message.nonce, message.ciphertext)), again: "" };
}

/** Text that people typed: whatever is forgiven, what was read reads the same again. */
function typed<T>(text: string, parse: (text: string) => T, format: (value: T) => string): Outcome {
  const value = by("code", () => parse(text));
  expect(parse(format(value))).toEqual(value);
  return { value, again: "" };
}

const INPUTS: Readonly<Record<string, (body: string) => Outcome>> = {
  frames: (body) => {
    const value = frames(bytes(body));
    return { value, again: encodeFrames(value) };
  },
  message: (body) => {
    const value = frames(bytes(body));
    for (const frame of value) {
      if (frame.type === "OPEN") by("header", () => decodeHeader(frame.header));
      if (frame.type === "SIGNAL") lane(frame.payload);
    }
    return { value, again: encodeFrames(value) };
  },
  header: (body) => {
    const value = by("header", () => decodeHeader(bytes(body)));
    return { value, again: hex(encodeHeader(value)) };
  },
  hello: (body) => {
    const message = bytes(body);
    const value = by("hello", () => decodeHello(message));
    if (value.version !== PROTOCOL_VERSION) return { value: { version: value.version }, again: "" };
    return { value, again: hex(encodeHello(value, message.length)) };
  },
  ready: (body) => {
    const size = by("hello", () => decodeReady(bytes(body)));
    return { value: { size }, again: hex(encodeReady(size)) };
  },
  candidates: (body) => {
    const reader = new Reader(bytes(body));
    const value = by("candidates", () => {
      const list = readCandidates(reader);
      reader.end();
      return list;
    });
    const writer = new Writer();
    writeCandidates(writer, value);
    return { value, again: hex(writer.finish()) };
  },
  lane: (body) => lane(bytes(body)),
  record: (body) => record(bytes(body)),
  forward: (body) => forward(bytes(body)),
  http: (body) => http(bytes(body)),
  offer: (body) => pasted(body, "offer"),
  answer: (body) => pasted(body, "answer"),
  cpace,
  point: (body) => point(bytes(body)),
  code: (body) => typed(body, parseCode, formatCode),
  peer: (body) =>
    typed(body, parsePeer, (peer) =>
      peer.kind === "link"
        ? formatLink(peer.rendezvous, peer.code)
        : peer.kind === "code"
          ? formatCode(peer.code)
          : peer.token,
    ),
  client: (body) => {
    const value = by("rendezvous", () => decodeClientMessage(bytes(body)));
    return { value, again: hex(encodeClientMessage(value)) };
  },
  server: (body) => {
    const value = by("rendezvous", () => decodeServerMessage(bytes(body)));
    return { value, again: hex(encodeServerMessage(value)) };
  },
  introduction: (body) => {
    const value = by("introduction", () => decodeIntroduction(bytes(body)));
    return { value, again: hex(encodeIntroduction(value)) };
  },
  addresses: (body) => addresses(bytes(body)),
  schedule: (body) => schedule(bytes(body)),
  sealed: (body) => sealed(bytes(body)),
  "peer-schedule": (body) => peerSchedule(bytes(body)),
  knock: (body) => {
    const value = by("introduction", () => decodeKnock(bytes(body)));
    return { value, again: hex(encodeKnock(value)) };
  },
  knocked: (body) => knocked(bytes(body)),
  report,
  remember: (body) => {
    const value = by("remember", () => decodeRememberRecord(bytes(body)));
    const reader = new Reader(encodeRememberRecord(value));
    return { value, again: hex(reader.take(reader.varint())) };
  },
};

const all = readdirSync(FOLDER);
const vectors = all
  .filter((file) => file !== "README.md")
  .sort()
  .map(parse);

describe("vectors", () => {
  test.each(vectors.map((vector) => [vector.file, vector.name, vector] as const))(
    "%s: %s",
    (_file, _name, vector) => {
      const run = INPUTS[vector.input];
      if (!run) throw new Error(`unknown input ${vector.input}`);
      if (vector.expect === "success") {
        const { value, again } = run(vector.body);
        expect(plain(value)).toEqual(expandAll(vector.value));
        const text = ["offer", "answer", "report"].includes(vector.input);
        // Wraps, quotes and the like are no part of the token.
        if (text) expect(vector.body.replace(/[^A-Za-z0-9_-]/g, "")).toContain(again);
        else if (again !== "") expect(again).toBe(hex(bytes(vector.body)));
        return;
      }
      expect(LAYERS).toContain(vector.expect);
      const { layer, cause } = rejection(() => run(vector.body));
      expect(cause).toBeInstanceOf(DcpipeError);
      expect([layer, (cause as DcpipeError).code]).toEqual([vector.expect, vector.error]);
    },
  );

  test("the folder holds nothing else, and no scenario twice", () => {
    expect(all.filter((file) => !file.endsWith(".txt"))).toEqual(["README.md"]);
    expect(new Set(vectors.map(({ name }) => name)).size).toBe(vectors.length);
    const contents = vectors.map(({ input, body }) => `${input}\n${body}`);
    expect(contents.filter((content, i) => contents.indexOf(content) !== i)).toEqual([]);
  });

  test("every frame, reason, layer and error is there", () => {
    const values = vectors
      .filter(({ input, expect: outcome }) => outcome === "success" && /^(frames|message)$/.test(input))
      .flatMap(({ value }) => value as { type: string; reason?: string }[]);
    expect(new Set(values.map(({ type }) => type))).toEqual(new Set(Object.keys(FRAME)));
    expect(new Set(values.flatMap(({ reason }) => reason ?? []))).toEqual(new Set(REASONS));
    expect(new Set(vectors.map(({ expect: outcome }) => outcome))).toEqual(new Set(["success", ...LAYERS]));
    expect(new Set(vectors.map(({ input }) => input))).toEqual(new Set(Object.keys(INPUTS)));
    expect(new Set(vectors.flatMap(({ error }) => error ?? []))).toEqual(
      new Set([
        "PROTOCOL",
        "TOKEN_MALFORMED",
        "TOKEN_CUT",
        "TOKEN_KIND",
        "TOKEN_VERSION",
        "CODE_MALFORMED",
        "AUTH_FAILED",
      ]),
    );
  });
});
