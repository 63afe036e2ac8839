/** By code: through a rendezvous, the local network, or both at once. */
import {
  connectByCode,
  formatCode,
  formatLink,
  listenByCode,
  preload,
  type Code,
  type CodeEvent,
  type ConnectOptions,
} from "../index.ts";
import type { Command, Met } from "./command.ts";
import { waitForRemembered } from "./known.ts";
import type { Ui } from "./ui.ts";

export async function waitByCode(
  rendezvous: string | undefined,
  network: ConnectOptions,
  command: Command,
  ui: Ui,
): Promise<Met> {
  const { options } = command;
  let drawn: Promise<void> | undefined;
  const waiting = await listenByCode({
    ...network,
    rendezvous,
    lan: options.lan,
    words: options.codeLength,
    onevent: (event) => {
      if (event.event !== "code") ui.connection(event);
      else if (!drawn) drawn = showCode(event, command, ui);
      else {
        ui.note("the rendezvous has lost the code; this is a new one:");
        drawn = drawn.then(() => showCode(event, command, ui));
      }
    },
  });
  // The other side may come any moment: what takes time to load is loaded while nobody waits for it.
  preload();
  let meetKnown!: (met: Met) => void;
  const metKnown = new Promise<Met>((resolve) => (meetKnown = resolve));
  const known = waitForRemembered({ rendezvous, network, command, ui, many: false, onmet: meetKnown });
  try {
    await drawn;
    return await Promise.race([
      waiting.session.then(async (session): Promise<Met> => {
        const verifier = await waiting.verifier;
        return { session, role: "waiting", verifier, joined: false, rendezvous };
      }),
      metKnown,
    ]);
  } finally {
    known.close();
    waiting.close();
    ui.stopWaiting();
  }
}

/** Says the code, and how the other side goes on. */
async function showCode(event: CodeEvent & { event: "code" }, command: Command, ui: Ui): Promise<void> {
  const code = formatCode(event.code);
  const url = event.rendezvous;
  const link = url === undefined ? undefined : formatLink(url, event.code);
  const where = url === undefined ? "" : ` --rendezvous ${url.replace(/\/$/, "")}`;
  const web =
    command.web === true && url !== undefined
      ? formatLink(`${url.replace(/\/?$/, "/")}site`, event.code)
      : undefined;
  ui.code(code, link, `${command.counterpart(code)}${where}`, web);
  if (command.options.qr) await ui.qr(web ?? link ?? code);
  await ui.wait("Waiting for the other side");
}

export async function joinByCode(
  code: Code,
  rendezvous: string | undefined,
  network: ConnectOptions,
  command: Command,
  ui: Ui,
): Promise<Met> {
  const joining = await connectByCode(code, {
    ...network,
    rendezvous,
    lan: command.options.lan,
    onevent: (event) => {
      if (event.event !== "code") ui.connection(event);
    },
  });
  preload();
  await ui.wait("Connecting");
  try {
    const session = await joining.session;
    return { session, role: "joining", verifier: await joining.verifier, joined: true, rendezvous };
  } finally {
    joining.close();
    ui.stopWaiting();
  }
}
