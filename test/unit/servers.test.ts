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
      { host: "turn.example.org", port: 3478, transport: "udp", username: "ann", password: "secret" },
    ],
    [
      "turn:ann:secret@turn.example.org:5000?transport=udp",
      { host: "turn.example.org", port: 5000, transport: "udp", username: "ann", password: "secret" },
    ],
    [
      "turn:a%3Ab:p%40ss@[2001:db8::1]:5000",
      { host: "2001:db8::1", port: 5000, transport: "udp", username: "a:b", password: "p@ss" },
    ],
    [
      "turn:ann:secret@turn.example.org?transport=tcp",
      { host: "turn.example.org", port: 3478, transport: "tcp", username: "ann", password: "secret" },
    ],
    [
      "turns:ann:secret@turn.example.org",
      { host: "turn.example.org", port: 5349, transport: "tls", username: "ann", password: "secret" },
    ],
    [
      "TURNS:ann:secret@[2001:db8::1]:443?transport=TCP",
      { host: "2001:db8::1", port: 443, transport: "tls", username: "ann", password: "secret" },
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
    "turn:ann:secret@example.org?transport=tls",
    "turn:ann:secret@example.org?transport=",
    "turn:ann:secret@example.org?a=b",
    "turns:ann:secret@example.org:0",
    "turns:ann:secret@example.org?transport=udp",
    "turn:ann:%zz@example.org",
    "stun:example.org",
  ])("none: %j", (url) => {
    expect(() => parseTurnUrl(url)).toThrow(USAGE);
  });

  test("an error shows no password", () => {
    expect(() => parseTurnUrl("turn:ann:hunter2@")).toThrow(/^(?!.*hunter2)/);
    expect(() => parseTurnUrl("turns:ann:hunter2@example.org?transport=udp")).toThrow(/^(?!.*hunter2).*DTLS/);
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

test.each([
  ["turn:192.0.2.1", { host: "192.0.2.1", port: 3478, transport: "udp" }],
  ["turn:[2001:db8::1]:80?transport=udp", { host: "2001:db8::1", port: 80, transport: "udp" }],
  ["turn:h?transport=tcp", { host: "h", port: 3478, transport: "tcp" }],
  ["turns:h", { host: "h", port: 5349, transport: "tls" }],
  ["turns:h:443?transport=tcp", { host: "h", port: 443, transport: "tls" }],
])("a TURN server as a rendezvous lends it: %s", (url, wanted) => {
  expect(parseTurnServer(url)).toEqual(wanted);
});

test.each(["turn:u:p@h", "turns:h?transport=udp", "turn:h?transport=tls", "stun:h", "turn:", "turns:", "h"])(
  "none that a rendezvous could lend: %s",
  (url) => {
    expect(() => parseTurnServer(url)).toThrow(USAGE);
  },
);
