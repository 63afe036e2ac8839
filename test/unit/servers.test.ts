import { describe, expect, test } from "vitest";
import {
  DEFAULT_STUN,
  parseRendezvousUrl,
  parseStunUrl,
  parseTurnServer,
  parseTurnUrl,
  publicUrl,
} from "../../src/connect/servers.ts";

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

test.each([
  "https://example.org/",
  "http://127.0.0.1:8787/",
  "http://[::1]:8787/a/b-c_d.e~f/",
  "https://x/%41/",
])("what a rendezvous may say of itself: %s", (link) => {
  expect(publicUrl(link)).toBe(link);
});

test.each([
  "",
  "example.org",
  "https://example.org",
  "https://example.org/$(reboot)/",
  "https://example.org/;reboot/",
  "https://example.org/'/",
  "https://example.org/`id`/",
  "https://example.org/a b/",
  "https://example.org/\u001b[31m/",
  "https://example.org/\u202e/",
  "https://user@example.org/",
  "https://example.org/?q/",
  "https://example.org/#x/",
  "javascript:alert(1)",
  "ws://example.org/",
  "https://[::zz]/",
])("and what it may not: %s", (link) => {
  expect(publicUrl(link)).toBeUndefined();
});

test.each([
  ["example.org", "https://example.org/"],
  [" https://Example.org/x ", "https://example.org/x/"],
  ["ws://10.0.0.1:8787", "http://10.0.0.1:8787/"],
  ["wss://example.org/", "https://example.org/"],
  ["localhost:8787", "http://localhost:8787/"],
  ["127.0.0.1:1", "http://127.0.0.1:1/"],
  ["[::1]:8787", "http://[::1]:8787/"],
])("the URL of a rendezvous: %s", (text, url) => {
  expect(parseRendezvousUrl(text)).toBe(url);
});

test.each([
  "",
  "ftp://x",
  "https://",
  "https://u:p@x/",
  "https://x/?a",
  "https://x/#7-a-b",
  "http://x:99999/",
])("no URL of a rendezvous: %s", (text) => {
  expect(() => parseRendezvousUrl(text)).toThrow(USAGE);
});

test("a TURN server as a rendezvous lends it", () => {
  expect(parseTurnServer("turn:192.0.2.1")).toEqual({ host: "192.0.2.1", port: 3478 });
  expect(parseTurnServer("turn:[2001:db8::1]:80?transport=udp")).toEqual({ host: "2001:db8::1", port: 80 });
  for (const url of ["turn:u:p@h", "turns:h", "turn:h?transport=tcp", "stun:h", "turn:", "h"])
    expect(() => parseTurnServer(url), url).toThrow(USAGE);
});
