/** dcpipe pipe */
import {
  DcpipeError,
  limitSource,
  parseTarget,
  pipe,
  readableSource,
  stdinSource,
  stdoutSink,
  type Progress,
  type Sink,
  type Target,
} from "../index.ts";
import { formatBytes } from "./format.ts";
import { parseRate, type CommonOptions } from "./options.ts";
import { runCommand } from "./session.ts";

export interface PipeArguments extends CommonOptions {
  readonly peer?: string | undefined;
  readonly output?: string | undefined;
  readonly target?: string | undefined;
}

export async function runPipe(options: PipeArguments): Promise<never> {
  const rate = parseRate(options.limit);
  if (options.output !== undefined && options.output !== "-")
    throw new DcpipeError(
      "USAGE",
      "pipe writes to stdout only: redirect it, or use -o - for binary to a terminal",
    );
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
    // --stdio-signal has read from process.stdin, and a descriptor has one reader only.
    const stdin = options.stdioSignal ? readableSource(process.stdin) : stdinSource();
    const source = rate === undefined ? stdin : limitSource(stdin, rate);
    const sink = process.stdout.isTTY && options.output !== "-" ? textOnly(stdoutSink()) : stdoutSink();
    // Where both appear on one terminal the payload has it for itself.
    const show = options.json || !process.stdout.isTTY;
    const { sent, received } = await pipe(session, role, {
      source,
      sink,
      target,
      onprogress: (out, back) => {
        if (show) ui.progress(progressOf(out + back));
      },
    });
    const text = `Done: ${formatBytes(sent)} sent, ${formatBytes(received)} received`;
    ui.done({ bytes: sent + received, files: 0, sent, received }, text);
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

/** A pipe has neither files nor an end that is known. */
function progressOf(bytes: number): Progress {
  return {
    name: "",
    bytes,
    total: undefined,
    files: 0,
    totalFiles: undefined,
    file: { bytes, total: undefined },
  };
}

/** Keeps binary off a terminal, which takes some of it for commands. */
function textOnly(sink: Sink): Sink {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  return {
    write: (chunk) => {
      let text: string;
      try {
        text = decoder.decode(chunk, { stream: true });
      } catch {
        text = "\0";
      }

      if (/[\u0000-\u0006\u000e-\u001a\u001c-\u001f\u007f]/.test(text)) {
        return Promise.reject(
          new DcpipeError(
            "USAGE",
            "binary data is coming and stdout is a terminal: redirect it, or force it with -o -",
          ),
        );
      }
      return sink.write(chunk);
    },
    end: () => sink.end(),
  };
}
