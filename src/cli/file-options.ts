/** The options of send and receive, as yargs declares them. */
import type { Argv } from "yargs";

/** What fewer people need shows under --help-all, so that --help fits a screen. */
const hidden = !process.argv.includes("--help-all");

export function sendOptions<T>(yargs: Argv<T>): Argv<T> {
  return yargs
    .option("text", { type: "string", describe: "send this text", requiresArg: true })
    .option("exclude", {
      type: "string",
      array: true,
      nargs: 1,
      describe: "leave out what matches, e.g. '*.tmp'",
    })
    .option("follow", {
      hidden,
      type: "boolean",
      describe: "send what symbolic links point to",
    })
    .option("name", { hidden, type: "string", describe: "name for stdin", requiresArg: true })
    .option("compress", {
      hidden,
      choices: ["auto", "off"] as const,
      default: "auto" as const,
      describe: "auto, off: compress what shrinks",
    });
}

export function receiveOptions<T>(yargs: Argv<T>): Argv<T> {
  return yargs
    .option("output", {
      alias: "o",
      type: "string",
      describe: "where to: directory, file, or - for stdout",
      requiresArg: true,
    })
    .option("overwrite", { type: "boolean", describe: "replace what exists" })
    .option("rename", { type: "boolean", describe: "keep both, under another name" })
    .option("skip", { type: "boolean", describe: "keep what exists, without complaint" })
    .option("list", { hidden, type: "boolean", describe: "show what comes, and take nothing" })
    .option("only", {
      hidden,
      type: "string",
      array: true,
      nargs: 1,
      describe: "take only what matches, e.g. '*.jpg'",
    });
}
