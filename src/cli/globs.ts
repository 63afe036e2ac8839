/**
 * What --exclude and --only mean. A glob without a slash is compared with names, one with a slash with whole paths; a slash in
 * front only says that a path is meant, one behind it says nothing.
 */
import picomatch from "picomatch";
import { DcpipeError } from "../index.ts";

interface Glob {
  readonly ofPaths: boolean;
  readonly matches: (text: string) => boolean;
}

/**
 * For a walk that asks about each entry and leaves out what is below an excluded one. Paths begin with the name of what is sent,
 * globs below it. Throws USAGE.
 */
export function excluder(patterns: readonly string[]): (path: string, name: string) => boolean {
  const globs = patterns.map((pattern) => compile("--exclude", pattern));
  return (path, name) => {
    const slash = path.indexOf("/");
    return globs.some(({ ofPaths, matches }) =>
      ofPaths ? slash >= 0 && matches(path.slice(slash + 1)) : matches(name),
    );
  };
}

/** Whether one of the patterns takes a path, or a directory that it lies in; all do without a pattern. Throws USAGE. */
export function chooser(patterns: readonly string[]): (path: string) => boolean {
  const globs = patterns.map((pattern) => compile("--only", pattern));
  return (path) => {
    if (globs.length === 0) return true;
    const names = path.split("/");
    return names.some((name, i) => {
      const upTo = names.slice(0, i + 1).join("/");
      return globs.some(({ ofPaths, matches }) => matches(ofPaths ? upTo : name));
    });
  };
}

function compile(option: string, pattern: string): Glob {
  const bare = pattern.replace(/\/+$/, "");
  const path = bare.replace(/^(?:\.?\/+)+/, "");
  if (path === "" || path === ".")
    throw new DcpipeError("USAGE", `${option} needs a pattern such as '*.tmp'`);
  try {
    return {
      ofPaths: bare.includes("/"),
      // A dot in front of a name is nothing special, nor is a "!"; paths have slashes everywhere.
      matches: picomatch(path, { dot: true, nonegate: true, windows: false }),
    };
  } catch (cause) {
    throw new DcpipeError("USAGE", `${option} ${pattern}: ${(cause as Error).message}`, { cause });
  }
}
