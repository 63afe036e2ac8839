/** Options of `dcpipe doctor`. */
import type { Argv } from "yargs";
import { speechOptions, type CommonOptions, type SpeechOptions } from "./options.ts";

export interface DoctorArguments
  extends SpeechOptions, Pick<CommonOptions, "to" | "rendezvous" | "stun" | "turn" | "portRange" | "bind"> {
  readonly peer?: string | undefined;
}

export function doctorOptions<T>(yargs: Argv<T>): Argv<T & DoctorArguments> {
  return speechOptions(
    yargs
      .option("to", { type: "string", describe: "the same as PEER", requiresArg: true })
      .option("rendezvous", {
        type: "string",
        describe: "look whether this rendezvous is reached",
        requiresArg: true,
      })
      .option("stun", {
        type: "string",
        array: true,
        nargs: 1,
        describe: "STUN server to ask; --no-stun for none",
      })
      .option("turn", {
        type: "string",
        array: true,
        nargs: 1,
        describe: "TURN server to try, turn:user:pass@host",
      })
      .option("port-range", { type: "string", describe: "local UDP ports, A-B", requiresArg: true })
      .option("bind", { type: "string", describe: "local address", requiresArg: true }),
  );
}
