/** A link was opened: nothing happens before somebody wants it to, since a code works once and links are looked at by many programs. */
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

export function showConnecting(screen: Screen, code: string): void {
  screen.show({
    title: "Connecting",
    body: [
      h("p", { class: "code big" }, code),
      h("p", { class: "lead" }, "Looking for the other side and a path between the two networks."),
    ],
  });
}
