import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { isPeerName, peersPath, PeerStore, type PeerRecord } from "../../src/node/peers.ts";
import { certificateFromSeed } from "../../src/transport/certificate.ts";

describe("where peers are", () => {
  test.each<[NodeJS.Platform, NodeJS.ProcessEnv, string]>([
    ["linux", { HOME: "/home/ann" }, "/home/ann/.local/state/dcpipe/peers"],
    ["linux", { HOME: "/home/ann", XDG_STATE_HOME: "/var/ann" }, "/var/ann/dcpipe/peers"],
    ["linux", { HOME: "/home/ann", XDG_STATE_HOME: "there" }, "/home/ann/.local/state/dcpipe/peers"],
    ["linux", {}, `${homedir()}/.local/state/dcpipe/peers`],
    ["darwin", { HOME: "/Users/ann" }, "/Users/ann/Library/Application Support/dcpipe/peers"],
    [
      "win32",
      { LOCALAPPDATA: "C:\\Users\\ann\\AppData\\Local" },
      "C:\\Users\\ann\\AppData\\Local\\dcpipe\\peers",
    ],
  ])("%s %j", (platform, env, wanted) => {
    expect(peersPath(env, platform)).toBe(wanted);
  });
});

describe("names", () => {
  test.each(["a", "Bob", "work-laptop", "pi.home", "x_1", "x".repeat(63)])("%s", (name) => {
    expect(isPeerName(name)).toBe(true);
  });
  test.each(["", "1st", "-a", ".a", "_a", "a b", "a/b", "a:22", "a#1", "ä", "a\n", "..", "x".repeat(64)])(
    "not %j",
    (name) => {
      expect(isPeerName(name)).toBe(false);
    },
  );
});

function makeStore(): { store: PeerStore; directory: string; warnings: string[] } {
  const root = mkdtempSync(join(tmpdir(), "dcpipe-peers-"));
  onTestFinished(() => {
    rmSync(root, { recursive: true });
  });
  const warnings: string[] = [];
  const directory = join(root, "dcpipe", "peers");
  return { store: new PeerStore(directory, (text) => warnings.push(text)), directory, warnings };
}

function record(name: string, more: Partial<PeerRecord> = {}): PeerRecord {
  const created = new Date("2026-08-01T12:00:00.000Z");
  return {
    name,
    side: "a",
    secret: new Uint8Array(32).fill(1),
    certificate: certificateFromSeed(new Uint8Array(48).fill(2)),
    fingerprint: new Uint8Array(32).fill(3),
    host: "box",
    calledHere: "ann",
    rendezvous: "https://example.org/",
    created,
    lastSeen: created,
    ...more,
  };
}

describe("a store", () => {
  test("gives back what was put in, to this user only", () => {
    const { store, directory, warnings } = makeStore();
    expect(store.list()).toEqual({ peers: [], problems: [] });
    expect(store.find("bob")).toBeUndefined();
    store.prepare();
    const bob = record("Bob");
    store.save(bob);
    expect(store.find("bob")).toEqual(bob);
    expect(readdirSync(directory)).toEqual(["bob.json"]);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    expect(statSync(join(directory, "bob.json")).mode & 0o777).toBe(0o600);
    expect(warnings).toEqual([]);
    const without = record("none", { rendezvous: null, side: "b" });
    store.save(without);
    expect(store.find("NONE")).toEqual(without);
  });

  test("knows who was met last", () => {
    const { store } = makeStore();
    for (const name of ["a", "b", "c"]) store.save(record(name));
    store.seen("b", new Date("2026-08-02T00:00:00Z"));
    expect(store.list().peers.map(({ name }) => name)).toEqual(["b", "a", "c"]);
    store.seen("nobody");
    expect(store.has("nobody")).toBe(false);
  });

  test("renames and forgets", () => {
    const { store, directory } = makeStore();
    store.save(record("bob"));
    store.save(record("carol"));
    expect(() => {
      store.rename("bob", "Carol");
    }).toThrow(expect.objectContaining({ code: "USAGE" }));
    expect(() => {
      store.rename("dave", "x");
    }).toThrow(/no peer is remembered as "dave"/);
    expect(() => {
      store.rename("bob", "../x");
    }).toThrow(/is no name/);
    store.seen("bob", new Date("2026-08-02T00:00:00Z"));
    store.rename("bob", "BOB");
    store.rename("bob", "robert");
    expect(store.find("robert")).toEqual(record("robert", { lastSeen: new Date("2026-08-02T00:00:00Z") }));
    expect(() => {
      store.forget(["robert", "bob"]);
    }).toThrow(/"bob"/);
    store.forget(["robert", "Robert", "carol"]);
    expect(readdirSync(directory)).toEqual([]);
  });

  test.each([
    ["", /not JSON/],
    ["[]", /another version/],
    ["null", /not an object/],
    ['{"version":2}', /another version/],
  ])("%j is broken, and stops nobody else", (text, why) => {
    const { store, directory } = makeStore();
    store.save(record("bob"));
    const path = join(directory, "bad.json");
    writeFileSync(path, text, { mode: 0o600 });
    const { peers, problems } = store.list();
    expect(peers.map(({ name }) => name)).toEqual(["bob"]);
    expect(problems.map(({ code, message }) => [code, message.includes(path), why.test(message)])).toEqual([
      ["USAGE", true, true],
    ]);
    expect(() => store.find("bad")).toThrow(why);
    store.forget(["bad"]);
    expect(store.list().problems).toEqual([]);
  });

  test.each([
    ["secret", "AAAA"],
    ["fingerprint", "00"],
    ["certificate", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"],
    ["side", "c"],
    ["name", "1"],
    ["created", "yesterday"],
    ["host", 1],
    ["rendezvous", 7],
  ])("a record with another %s is broken", (key, value) => {
    const { store, directory } = makeStore();
    store.save(record("bob"));
    const path = join(directory, "bob.json");
    const fields = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
    expect(Object.keys(fields)).toContain(key);
    writeFileSync(path, JSON.stringify({ ...fields, [key]: value }));
    expect(() => store.find("bob")).toThrow(new RegExp(`bob\\.json is broken: .*${key}`));
  });

  test("files that others may read are told of, those that others may write are not used", () => {
    const { store, directory, warnings } = makeStore();
    store.save(record("bob"));
    const path = join(directory, "bob.json");
    chmodSync(path, 0o640);
    expect(store.find("bob")?.name).toBe("bob");
    expect(warnings).toEqual([expect.stringContaining(`${path}: others may read it`)]);
    chmodSync(path, 0o620);
    expect(() => store.find("bob")).toThrow(/others may write/);
  });

  test("says why nothing can be stored", () => {
    const { directory } = makeStore();
    const file = join(directory, "../..", "file");
    writeFileSync(file, "");
    const store = new PeerStore(join(file, "peers"));
    for (const attempt of [
      () => {
        store.prepare();
      },
      () => {
        store.save(record("bob"));
      },
    ])
      expect(attempt).toThrow(expect.objectContaining({ code: "IO" }));
  });
});
