/** dcpipe send */
import {
  checkSource,
  createDigest,
  DcpipeError,
  limitSource,
  openSource,
  readableSource,
  stdinSource,
  sendFiles,
  type SourceFile,
} from "../index.ts";
import { parseRate, type CommonOptions } from "./options.ts";
import { runCommand } from "./session.ts";
import { formatBytes } from "./ui.ts";

export interface SendArguments extends CommonOptions {
  readonly path: readonly string[];
  readonly name?: string | undefined;
}

export async function runSend(options: SendArguments): Promise<never> {
  const rate = parseRate(options.limit);
  const stdin = options.path.filter((path) => path === "-").length;
  if (stdin > 1) throw new DcpipeError("USAGE", "stdin (-) can be sent once only");
  if (options.name !== undefined && stdin === 0)
    throw new DcpipeError("USAGE", "--name is for stdin (-); files keep their names");
  for (const path of options.path) {
    if (path !== "-") await checkSource(path);
  }
  const command = {
    argument: undefined,
    options,
    stdinIsPayload: stdin > 0,
    counterpart: (token: string) => `dcpipe receive ${token}`,
  };
  return runCommand(command, async (session, role, ui) => {
    const { files, bytes } = await sendFiles(session, role, {
      files: sources(options, rate),
      createDigest,
      onprogress: (progress) => {
        ui.progress(progress.name, progress.bytes, progress.total);
      },
    });
    const what =
      files === 1 ? (options.path[0] === "-" ? "stdin" : (options.path[0] ?? "")) : `${files} files`;
    ui.done(
      { bytes, files },
      `Sent ${what} (${formatBytes(bytes)}); the other side has verified and stored it`,
    );
  });
}

async function* sources(options: SendArguments, rate: number | undefined): AsyncGenerator<SourceFile> {
  for (const path of options.path) {
    const file = path === "-" ? stdinFile(options) : await openSource(path);
    yield rate === undefined ? file : limitSource(file, rate);
  }
}

function stdinFile({ name = "stdin", stdioSignal }: SendArguments): SourceFile {
  // --stdio-signal has read from process.stdin, and a descriptor has one reader only.
  const stdin = stdioSignal ? readableSource(process.stdin) : stdinSource();
  return { ...stdin, name, size: undefined, mode: 0o644, mtime: Date.now() };
}
