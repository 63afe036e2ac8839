/** A link was opened: nothing happens before somebody wants it to, since a code works once and links are looked at by many programs. */
import { formatCode, parseCode } from "../../browser.ts";
import { terminalCommands } from "../commands.ts";
import { button, h } from "../dom.ts";
import type { Screen } from "../screen.ts";

export function showJoin(
  screen: Screen,
  code: string,
  rendezvous: string,
  actions: { readonly connect: () => void; readonly leave: () => void },
): void {
  screen.line.reset();
  screen.show({
    title: "Somebody waits for you",
    body: [
      h("p", { class: "code big" }, code),
      h("p", { class: "lead" }, "This code works once: connect when you are ready."),
      h(
        "div",
        { class: "row" },
        button("Connect", actions.connect, "primary"),
        button("Another code", actions.leave, "quiet"),
      ),
      terminalCommands(code, rendezvous),
    ],
  });
}

/** Nothing can be done in this browser, or here: a terminal still can. */
export function showUnable(screen: Screen, why: string, text: string, rendezvous: string): void {
  let code: string | undefined;
  try {
    code = formatCode(parseCode(text));
  } catch {
    // Then there is none to show.
  }
  const commands = code === undefined ? undefined : terminalCommands(code, rendezvous);
  commands?.setAttribute("open", "");
  screen.show({
    title: "Not in this browser",
    body: [
      code === undefined ? undefined : h("p", { class: "code big" }, code),
      h("p", { class: "lead" }, why),
      commands,
    ],
  });
}

export function showConnecting(screen: Screen, code: string): void {
  screen.show({
    title: "Connecting",
    body: [
      h("p", { class: "code big" }, code),
      h("p", { class: "lead" }, "Looking for the other side and a path between the two networks."),
    ],
  });
}
