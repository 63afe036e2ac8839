import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { configPath, readConfig } from "../../src/node/config.ts";

describe("where the config file is", () => {
  test.each<[NodeJS.Platform, NodeJS.ProcessEnv, string]>([
    ["linux", { HOME: "/home/ann" }, "/home/ann/.config/dcpipe/config.json"],
    ["linux", { HOME: "/home/ann", XDG_CONFIG_HOME: "/etc/ann" }, "/etc/ann/dcpipe/config.json"],
    ["linux", { HOME: "/home/ann", XDG_CONFIG_HOME: "" }, "/home/ann/.config/dcpipe/config.json"],
    ["linux", { HOME: "/home/ann", XDG_CONFIG_HOME: "there" }, "/home/ann/.config/dcpipe/config.json"],
    ["linux", {}, `${homedir()}/.config/dcpipe/config.json`],
    ["freebsd", { HOME: "/home/ann" }, "/home/ann/.config/dcpipe/config.json"],
    [
      "darwin",
      { HOME: "/Users/ann", XDG_CONFIG_HOME: "/etc/ann" },
      "/Users/ann/Library/Application Support/dcpipe/config.json",
    ],
    [
      "win32",
      { APPDATA: "C:\\Users\\ann\\AppData\\Roaming" },
      "C:\\Users\\ann\\AppData\\Roaming\\dcpipe\\config.json",
    ],
  ])("%s %j", (platform, env, wanted) => {
    expect(configPath(env, platform)).toBe(wanted);
  });
});

/** The environment of a user whose config file holds `text`, or is missing. */
function withFile(text?: string): NodeJS.ProcessEnv {
  const directory = mkdtempSync(join(tmpdir(), "dcpipe-config-"));
  onTestFinished(() => {
    rmSync(directory, { recursive: true });
  });
  const env = { XDG_CONFIG_HOME: directory };
  if (text === undefined) return env;
  mkdirSync(dirname(configPath(env, "linux")));
  writeFileSync(configPath(env, "linux"), text);
  return env;
}

describe("what it says", () => {
  test.each([
    [undefined, {}],
    ["{}", {}],
    ['{ "rendezvous": "https://example.org" }\n', { rendezvous: "https://example.org" }],
    ['\uFEFF{ "rendezvous": "https://example.org" }\r\n', { rendezvous: "https://example.org" }],
  ])("%j", (text, wanted) => {
    expect(readConfig(withFile(text), "linux")).toEqual(wanted);
  });

  test.each([
    ["", /is not JSON: /],
    ["rendezvous: x", /is not JSON: /],
    ['{\n  "rendezvous": "x",\n}', /is not JSON: line 3, column 1: /],
    ['{\n  "rendezvous" "x"\n}', /is not JSON: line 2, column 16: /],
    ["[]", /must hold a JSON object/],
    ["null", /must hold a JSON object/],
    ['"https://example.org"', /must hold a JSON object/],
    ['{ "rendezvous": 7 }', /"rendezvous" must be a URL in quotes/],
    ['{ "rendezvous": null }', /"rendezvous" must be a URL in quotes/],
    ['{ "rendezvous": "x", "rendevous": "y" }', /a key that is not known: "rendevous"/],
    ['{ "__proto__": 1 }', /a key that is not known: "__proto__"/],
  ])("refused: %j", (text, why) => {
    const env = withFile(text);
    expect(() => readConfig(env, "linux")).toThrow(
      expect.objectContaining({ code: "USAGE", message: expect.stringMatching(why) as string }) as Error,
    );
    expect(() => readConfig(env, "linux")).toThrow(configPath(env, "linux"));
  });

  test("refused: a directory", () => {
    const env = withFile();
    mkdirSync(configPath(env, "linux"), { recursive: true });
    expect(() => readConfig(env, "linux")).toThrow(`cannot read ${configPath(env, "linux")}: EISDIR`);
  });

  test("no file where the directory is a file", () => {
    const env = withFile();
    writeFileSync(join(env["XDG_CONFIG_HOME"] ?? "", "dcpipe"), "");
    expect(readConfig(env, "linux")).toEqual({});
  });
});
