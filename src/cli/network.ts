/** How a command uses the network. */
import type { ConnectOptions } from "../index.ts";
import type { Command } from "./command.ts";
import { connectOptions } from "./options.ts";
import type { Ui } from "./ui.ts";

/** What the library is told of the network. */
export function networkOf({ options }: Command, ui: Ui, signal: AbortSignal): ConnectOptions {
  return {
    ...connectOptions(options),
    signal,
    onevent: (event) => {
      ui.connection(event);
    },
  };
}
