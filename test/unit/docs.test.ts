/** The manual and the specification name what there is, and nothing else. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { VERDICTS } from "../../src/cli/status.ts";

const ROOT = join(import.meta.dirname, "../..");
const manual = readFileSync(join(ROOT, "docs/dcpipe.1.md"), "utf8");

/** Options that --help-all shows, over all commands. */
function shown(): Set<string> {
  const found = new Set<string>();
  for (const command of ["pipe", "send", "receive", "forward", "doctor", "rendezvous", "page"]) {
    const help = execFileSync(process.execPath, [join(ROOT, "bin/dcpipe.js"), command, "--help-all"], {
      encoding: "utf8",
    });
    for (const [, name] of help.matchAll(/^ +(?:-\w, )?(--[a-z-]+) /gm)) if (name) found.add(name);
  }
  return found;
}

test("every option is in the manual, and the manual has no others", () => {
  const options = shown();
  expect(options.size).toBeGreaterThan(15);
  const section = /^## OPTIONS$(.*?)^## /ms.exec(manual)?.[1] ?? "";
  const told = new Set([...section.matchAll(/\*\*(--[a-z-]+)\*\*/g)].map(([, name]) => name));
  for (const option of options) expect(told, option).toContain(option);
  // A word in front of an option switches it off; colour is not worth a line of help.
  for (const name of [...told, "--color"])
    if (
      name === "--color" ||
      name === "--no-color" ||
      options.has(`--${/^--no-(.*)/.exec(name ?? "")?.[1] ?? ""}`)
    )
      told.delete(name);
  for (const name of told) expect(options, name).toContain(name);
});

test("every error and its exit status is in the manual, and the manual has no others", () => {
  const told = [...manual.matchAll(/^\| `([A-Z_]+)` +\| (\d+) +\|/gm)].map(([, code, status]) => [
    code,
    Number(status),
  ]);
  const table = Object.entries(VERDICTS).map(([code, { status }]) => [code, status]);
  expect(Object.fromEntries(told)).toEqual(Object.fromEntries(table));
});

test("the specification lists every vector, and no others", () => {
  const appendix = readFileSync(join(ROOT, "docs/protocol.md"), "utf8").split("## Appendix")[1] ?? "";
  const told = [...appendix.matchAll(/`([\w.-]+\.txt)`/g)].map(([, name]) => name ?? "");
  const there = readdirSync(join(ROOT, "test/vectors")).filter((name) => name.endsWith(".txt"));
  expect(told.sort()).toEqual(there.sort());
});
