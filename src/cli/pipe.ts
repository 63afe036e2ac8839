/** dcpipe pipe */
import { DcpipeError, parseTarget, pipe, type Target } from "../index.ts";
import { parseRate, type CommonOptions } from "./options.ts";
import { runCommand } from "./session.ts";
import { pipeDone, standardStreams } from "./streams.ts";

export interface PipeArguments extends CommonOptions {
  readonly peer?: string | undefined;
  readonly output?: string | undefined;
  readonly target?: string | undefined;
  readonly raw?: boolean | undefined;
}

export async function runPipe(options: PipeArguments): Promise<never> {
  parseRate(options.limit);
  if (options.output !== undefined && options.output !== "-")
    throw new DcpipeError(
      "USAGE",
      "pipe writes to stdout only: redirect it, or use -o - for binary to a terminal",
    );
  if (options.raw) return (await import("./raw.ts")).runRaw(options);
  const target = parsePipeTarget(options);
  if (target && waits(options)) throw new DcpipeError("USAGE", ASKS_FORWARD);
  const command = {
    argument: options.peer,
    options,
    purpose: "pipe" as const,
    meets: target ? ("forward" as const) : ("pipe" as const),
    stdinIsPayload: true,
    counterpart: (token: string) => `dcpipe pipe ${token}`,
  };
  return runCommand(command, async (session, role, ui) => {
    if (target && role === "waiting") throw new DcpipeError("USAGE", ASKS_FORWARD);
    const carried = await pipe(session, role, { ...standardStreams(options, ui), target });
    pipeDone(carried, ui);
  });
}

const ASKS_FORWARD = "--target asks a waiting forward: give it as PEER";

/** Whether this side waits, as far as the options say; with --offer-file the file does. */
function waits({ peer, to, codeFile, via, offerFile }: PipeArguments): boolean {
  return [peer, to, codeFile, via, offerFile, process.env["DCPIPE_CODE"]].every((each) => each === undefined);
}

/** `--target host:port`, or unix:/path. Throws USAGE. */
function parsePipeTarget({ target }: PipeArguments): Target | undefined {
  if (target === undefined) return undefined;
  const [first, ...others] = parseTarget(target);
  if (!first || others.length > 0 || first.protocol === "udp")
    throw new DcpipeError("USAGE", `--target ${target}: write host:port, or unix:/path`);
  return first.target;
}
