/**
 * The command line: yargs reads it, one function a verb runs it. Verbs are loaded when they are called, so that --help does
 * not wait for cryptography and WebRTC.
 */
import { readFileSync } from "node:fs";
import yargs from "yargs";
import { asDcpipeError, DcpipeError } from "../errors.ts";
import { doctorOptions, type DoctorArguments } from "./doctor-options.ts";
import { receiveOptions, sendOptions } from "./file-options.ts";
import { forwardOptions, type ForwardArguments } from "./forward-options.ts";
import { commonOptions, speechOptions, type SpeechOptions } from "./options.ts";
import type { PageArguments } from "./page.ts";
import type { PipeArguments } from "./pipe.ts";
import type { ReceiveArguments } from "./receive.ts";
import { rendezvousOptions, type RendezvousArguments } from "./rendezvous-options.ts";
import type { SendArguments } from "./send.ts";

function version(): string {
  const file = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

/** What may be given more than once. */
const SEVERAL = ["_", "stun", "turn", "path", "exclude", "only", "words", "L", "R", "D", "allow", "names"];

/** Stands for `-` while yargs reads the arguments; none of them can hold a NUL. */
const DASH = "\0-";

/** yargs drops a lone dash where a list of paths is due, and all that follows `--`. */
function shield(words: readonly string[]): string[] {
  const found = words.indexOf("--");
  const end = found < 0 ? words.length : found;
  const paths = words.slice(end + 1).map((word) => (/^-./.test(word) ? `./${word}` : word));
  return [...words.slice(0, end), ...paths].map((word) => (word === "-" ? DASH : word));
}

const words = shield(process.argv.slice(2));
// Alone, --help-all would be an option like any other.
if (words.includes("--help-all")) words.push("--help");

const parser = yargs(words)
  .scriptName("dcpipe")
  .usage("dcpipe: pipes between machines that have no address for each other\n\nUsage: $0 <command>")
  .command(
    "pipe [peer]",
    "join stdin and stdout of two machines",
    (y) =>
      commonOptions(y)
        .usage(
          "Usage: $0 pipe [PEER]\n\nJoins stdin and stdout of both sides. Without PEER: waits, and prints what the other side must run.",
        )
        .positional("peer", { type: "string", describe: "code, link or token; - asks" })
        .option("output", {
          alias: "o",
          type: "string",
          describe: "-: binary to a terminal too",
          requiresArg: true,
        })
        .option("target", {
          type: "string",
          describe: "host:port at a waiting forward, e.g. for ssh",
          requiresArg: true,
        })
        .option("raw", {
          type: "boolean",
          default: false,
          describe: "plain WebRTC, with any peer",
        })
        .example("tar c photos | $0 pipe", "then there: dcpipe pipe TOKEN | tar x"),
    async (argv) => (await import("./pipe.ts")).runPipe(argv as unknown as PipeArguments),
  )
  .command(
    "send [path..]",
    "send files and directories",
    (y) =>
      sendOptions(commonOptions(y))
        .usage(
          "Usage: $0 send PATH... [--to PEER]\n\nSends files, directories, stdin (-) or --text. Without PEER: waits, and prints what to run there.",
        )
        .positional("path", { type: "string", array: true, describe: "files, directories; - is stdin" })
        .example("$0 send photos", "then there: dcpipe receive TOKEN"),
    async (argv) => (await import("./send.ts")).runSend(argv as unknown as SendArguments),
  )
  .command(
    ["receive [peer]", "recv"],
    "receive what the other side sends",
    (y) =>
      receiveOptions(commonOptions(y))
        .usage(
          "Usage: $0 receive [PEER] [-o DIR|FILE|-]\n\nReceives files, verified. Without PEER: waits, and prints what to run there.",
        )
        .positional("peer", { type: "string", describe: "code, link or token; - asks" })
        .example("$0 receive TOKEN -o Downloads", "then watch"),
    async (argv) => (await import("./receive.ts")).runReceive(argv as unknown as ReceiveArguments),
  )
  .command(
    "forward [words..]",
    "forward TCP and UDP ports, either way",
    (y) =>
      forwardOptions(commonOptions(y))
        .usage(
          "Usage: $0 forward [TARGET...] [PEER] [-L|-R|-D ...]\n\nOffers TARGETs (3000, host:3000, 53/udp, unix:/path) to the other side, and leads ports to it.",
        )
        .positional("words", { type: "string", array: true, describe: "TARGETs, and PEER last" })
        .example("$0 forward 5432", "then there: dcpipe forward CODE"),
    async (argv) => (await import("./forward.ts")).runForward(argv as unknown as ForwardArguments),
  )
  .command(
    "rendezvous",
    "run the server that introduces two machines",
    (y) =>
      rendezvousOptions(y)
        .usage(
          "Usage: $0 rendezvous [--listen [ADDR:]PORT]\n\nRuns the server where two sides meet by code. It sees neither their password nor what they send.",
        )
        .example("$0 rendezvous", "then: dcpipe send FILE --rendezvous http://127.0.0.1:8787/"),
    async (argv) => (await import("./rendezvous.ts")).runRendezvous(argv as unknown as RendezvousArguments),
  )
  .command(
    "doctor [peer]",
    "what this network lets through, and what to do about it",
    (y) =>
      doctorOptions(y)
        .usage(
          "Usage: $0 doctor [PEER]\n\nLooks at this network and prints a report; with the other side's report, what the two can do.",
        )
        .positional("peer", { type: "string", describe: "the other side's report (dcr1...), or its token" })
        .example("$0 doctor", "then there: dcpipe doctor REPORT"),
    async (argv) => (await import("./doctor.ts")).runDoctor(argv as unknown as DoctorArguments),
  )
  .command(
    "page",
    "write the browser page as one file",
    (y) =>
      speechOptions(y)
        .usage(
          "Usage: $0 page --out FILE [--rendezvous URL]\n\nWrites the page that a rendezvous serves as one file that needs no server, and says its hash.",
        )
        .option("out", {
          type: "string",
          demandOption: true,
          describe: "where: FILE; - is stdout",
          requiresArg: true,
        })
        .option("rendezvous", { type: "string", describe: "URL that the page meets at", requiresArg: true })
        .option("overwrite", { type: "boolean", default: false, describe: "replace what is there" })
        .example("$0 page --out dcpipe.html", "then open it in a browser"),
    async (argv) => (await import("./page.ts")).runPage(argv as unknown as PageArguments),
  )
  .command("peers", "machines remembered with --remember", (y) =>
    y
      .usage("Usage: $0 peers list | rename OLD NEW | forget NAME...\n\nMachines that need no code.")
      .command(
        "list",
        "show them",
        (each) => speechOptions(each),
        async (argv) => {
          (await import("./peers.ts")).listPeers(argv);
        },
      )
      .command(
        "rename <old> <new>",
        "give one another name",
        (each) =>
          speechOptions(each).positional("old", { type: "string" }).positional("new", { type: "string" }),
        async (argv) => {
          (await import("./peers.ts")).renamePeer(
            argv as unknown as SpeechOptions & { old: string; new: string },
          );
        },
      )
      .command(
        "forget <names..>",
        "do not let them in any more",
        (each) => speechOptions(each).positional("names", { type: "string", array: true }),
        async (argv) => {
          (await import("./peers.ts")).forgetPeers(argv as unknown as SpeechOptions & { names: string[] });
        },
      )
      .demandCommand(1, "list, rename or forget?"),
  )
  .completion("completion", "print a script for shell completion")
  .demandCommand(1, "no command given")
  .strict()
  .version(version())
  .help()
  .option("help-all", { type: "boolean", describe: "show all options" })
  .alias("help", "h")
  .wrap(Math.min(80, process.stdout.columns || 80))
  .parserConfiguration({
    "parse-positional-numbers": false,
    "parse-numbers": true,
  })
  .middleware((argv) => {
    // Said twice, the last word counts; these add up.
    for (const [name, value] of Object.entries(argv)) {
      if (Array.isArray(value) && !SEVERAL.includes(name)) argv[name] = value.at(-1) as unknown;
    }
  }, true)
  .middleware((argv) => {
    const restore = (value: unknown): unknown =>
      Array.isArray(value) ? value.map(restore) : value === DASH ? "-" : value;
    for (const [name, value] of Object.entries(argv)) argv[name] = restore(value);
  })
  .exitProcess(false)
  .fail((message, error) => {
    throw (error as Error | undefined) ?? new DcpipeError("USAGE", message);
  });

try {
  await parser.parseAsync();
} catch (cause) {
  // What fails before a session is asked for: the same words and statuses as after.
  const [{ Ui }, { VERDICTS }] = await Promise.all([import("./ui.ts"), import("./status.ts")]);
  const error = asDcpipeError(cause, "USAGE");
  const flags = new Set(process.argv);
  const color = !flags.has("--no-color") && process.env["NO_COLOR"] === undefined;
  new Ui({ json: flags.has("--json"), quiet: false, verbose: false, color }).error(error);
  if (error.code === "USAGE" && !flags.has("--json"))
    process.stderr.write("        dcpipe --help shows the commands, dcpipe COMMAND --help their options\n");
  process.exitCode = VERDICTS[error.code].status;
}
