import { describe, expect, test } from "vitest";
import { DEFAULT_STUN, parseStunUrl, parseTurnUrl } from "../../src/connect/servers.ts";

const USAGE = expect.objectContaining({ code: "USAGE" }) as Error;

describe("STUN servers", () => {
  test.each([
    ["stun:stun.example.org", { host: "stun.example.org", port: 3478 }],
    ["stun:stun.example.org:19302", { host: "stun.example.org", port: 19302 }],
    ["stun.example.org:19302", { host: "stun.example.org", port: 19302 }],
    ["stun:192.0.2.1", { host: "192.0.2.1", port: 3478 }],
    ["stun:[2001:db8::1]", { host: "2001:db8::1", port: 3478 }],
    ["stun:[2001:db8::1]:5349", { host: "2001:db8::1", port: 5349 }],
  ])("%s", (url, wanted) => {
    expect(parseStunUrl(url)).toEqual(wanted);
  });

  test.each([
    "",
    "stun:",
    "stun:host:",
    "stun:host:0",
    "stun:host:65536",
    "stun:host:port",
    "stun:2001:db8::1",
    "stun:a b",
    "stuns:stun.example.org",
    "turn:user:password@example.org",
    "https://example.org",
  ])("none: %j", (url) => {
    expect(() => parseStunUrl(url)).toThrow(USAGE);
  });

  test("the defaults are some", () => {
    expect(DEFAULT_STUN.map(parseStunUrl)).toHaveLength(DEFAULT_STUN.length);
  });
});

describe("TURN servers", () => {
  test.each([
    [
      "turn:ann:secret@turn.example.org",
      { host: "turn.example.org", port: 3478, username: "ann", password: "secret" },
    ],
    [
      "turn:ann:secret@turn.example.org:5000?transport=udp",
      { host: "turn.example.org", port: 5000, username: "ann", password: "secret" },
    ],
    [
      "turn:a%3Ab:p%40ss@[2001:db8::1]:5000",
      { host: "2001:db8::1", port: 5000, username: "a:b", password: "p@ss" },
    ],
  ])("%s", (url, wanted) => {
    expect(parseTurnUrl(url)).toEqual(wanted);
  });

  test.each([
    "",
    "turn:example.org",
    "turn:ann@example.org",
    "turn:ann:secret@",
    "turn:ann:secret@example.org:0",
    "turn:ann:secret@example.org?transport=tcp",
    "turns:ann:secret@example.org",
    "turn:ann:%zz@example.org",
    "stun:example.org",
  ])("none: %j", (url) => {
    expect(() => parseTurnUrl(url)).toThrow(USAGE);
  });

  test("an error shows no password", () => {
    expect(() => parseTurnUrl("turn:ann:hunter2@")).toThrow(/^(?!.*hunter2)/);
    expect(() => parseTurnUrl("turns:ann:hunter2@example.org")).toThrow(/^(?!.*hunter2)/);
  });
});
