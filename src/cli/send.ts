/** dcpipe send */
import { basename, resolve } from "node:path";
import { codec, createDigest, sendFiles } from "../index.ts";
import { Clock } from "./clock.ts";
import { finish } from "./finish.ts";
import { parseRate, type CommonOptions } from "./options.ts";
import { runCommand } from "./session.ts";
import { findSources, type SourceOptions } from "./sources.ts";
import { SEND_HINTS } from "./status.ts";

export interface SendArguments extends CommonOptions, SourceOptions {
  readonly stdioSignal: boolean;
  readonly compress: "auto" | "off";
}

export function runSend(options: SendArguments): Promise<never> {
  const limit = parseRate(options.limit);
  const sources = findSources(options);
  const command = {
    argument: undefined,
    options,
    purpose: "send" as const,
    meets: "receive" as const,
    stdinIsPayload: sources.stdin,
    counterpart: (token: string) => `dcpipe receive ${token}`,
    notes: sources.notes,
    hints: SEND_HINTS,
  };
  return runCommand(command, async (session, role, ui) => {
    const clock = new Clock();
    const result = await sendFiles(session, role, {
      tree: sources.tree((text) => {
        ui.note(text);
      }),
      createDigest: () => {
        // The first content is asked for: nobody over there is asked whether it may come any more.
        clock.begin();
        return createDigest();
      },
      codec: options.compress === "off" ? undefined : codec,
      limit,
      onprogress: (progress) => {
        ui.progress(progress);
      },
    });
    // `.` and `..` have names too.
    const { what } = sources;
    const name =
      what === undefined || sources.stdin || options.text !== undefined
        ? what
        : basename(resolve(what)) || what;
    finish({ side: "send", what: name, disk: true, seconds: clock.seconds, path: ui.path, result }, ui);
  });
}
