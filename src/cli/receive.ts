/** dcpipe receive */
import { createDigest, diskTarget, findPlace, receiveFiles, stdoutSink, type FileTarget } from "../index.ts";
import type { CommonOptions } from "./options.ts";
import { runCommand } from "./session.ts";
import { formatBytes } from "./ui.ts";

export interface ReceiveArguments extends CommonOptions {
  readonly peer?: string | undefined;
  readonly output?: string | undefined;
}

export async function runReceive(options: ReceiveArguments): Promise<never> {
  const output = options.output ?? ".";
  const target = output === "-" ? stdoutTarget() : diskTarget(await findPlace(output));
  const command = {
    argument: options.peer,
    options,
    stdinIsPayload: false,
    counterpart: (token: string) => `dcpipe send FILE --to ${token}`,
  };
  return runCommand(command, async (session, role, ui) => {
    const names: string[] = [];
    const { files, bytes } = await receiveFiles(session, role, {
      target: {
        create: (file) => {
          names.push(file.name);
          return target.create(file);
        },
      },
      createDigest,
      windows: process.platform === "win32",
      onprogress: (progress) => {
        if (options.json || output !== "-" || !process.stdout.isTTY)
          ui.progress(progress.name, progress.bytes, progress.total);
      },
    });
    const what = files === 1 ? (names[0] ?? "") : `${files} files`;
    ui.done({ bytes, files }, `Received ${what} (${formatBytes(bytes)}), verified`);
  });
}

/** Everything to stdout, one file after another. */
function stdoutTarget(): FileTarget {
  const sink = stdoutSink();
  return {
    create: () =>
      Promise.resolve({
        write: (chunk) => sink.write(chunk),
        commit: () => Promise.resolve(),
        abandon: () => Promise.resolve(),
      }),
  };
}
