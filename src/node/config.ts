/** The config file: a JSON object with what a user would otherwise say every time. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { posix, win32 } from "node:path";
import { DcpipeError } from "../errors.ts";

export interface Config {
  /** URL of a rendezvous, unchecked. */
  readonly rendezvous?: string;
}

/**
 * Where the config file is looked for: $XDG_CONFIG_HOME (XDG Base Directory Specification 0.8) or ~/.config, on macOS
 * ~/Library/Application Support, on Windows %APPDATA%.
 */
export function configPath(
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
): string {
  return (platform === "win32" ? win32 : posix).join(directory(env, platform), "dcpipe", "config.json");
}

function directory(env: NodeJS.ProcessEnv, platform: NodeJS.Platform): string {
  if (platform === "win32") return env["APPDATA"] || win32.join(homedir(), "AppData", "Roaming");
  const home = env["HOME"] || homedir();
  if (platform === "darwin") return posix.join(home, "Library", "Application Support");
  const xdg = env["XDG_CONFIG_HOME"] ?? "";
  // The specification has relative paths passed over.
  return posix.isAbsolute(xdg) ? xdg : posix.join(home, ".config");
}

/** What the config file says; nothing when there is none. Throws USAGE for one that cannot be taken. */
export function readConfig(
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
): Config {
  const path = configPath(env, platform);
  const text = read(path);
  return text === undefined ? {} : check(parse(text, path), path);
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new DcpipeError("USAGE", `cannot read ${path}: ${message}`, { cause });
  }
}

function parse(text: string, path: string): unknown {
  // Editors on Windows put a byte order mark in front.
  const json = text.replace(/^\uFEFF/, "");
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw new DcpipeError("USAGE", `${path} is not JSON: ${reasonOf(cause as SyntaxError, json)}`, { cause });
  }
}

/** JSON.parse tells the position for most errors, and shows the place for the others. */
function reasonOf({ message }: SyntaxError, json: string): string {
  const [, what, position] = /^(.*?) in JSON at position (\d+)/s.exec(message) ?? [];
  if (what === undefined) return message.replaceAll(/\s+/g, " ");
  const lines = json.slice(0, Number(position)).split("\n");
  return `line ${lines.length}, column ${(lines.at(-1) ?? "").length + 1}: ${what}`;
}

function check(value: unknown, path: string): Config {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new DcpipeError("USAGE", `${path} must hold a JSON object`);
  const { rendezvous, ...others } = value as Record<string, unknown>;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined)
    throw new DcpipeError("USAGE", `${path} has a key that is not known: ${JSON.stringify(unknown)}`);
  if (rendezvous === undefined) return {};
  if (typeof rendezvous !== "string")
    throw new DcpipeError("USAGE", `${path}: "rendezvous" must be a URL in quotes`);
  return { rendezvous };
}
