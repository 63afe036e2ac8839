/** What to type in a terminal, and how to get dcpipe there. */
import { copyable } from "./copy.ts";
import { h } from "./dom.ts";

export type Verb = "receive" | "send" | "pipe" | "forward";

/** The other side's command. */
export function commandFor(verb: Verb, code: string, rendezvous: string): string {
  const at = ` --rendezvous ${rendezvous}`;
  return verb === "send" ? `dcpipe send FILE --to ${code}${at}` : `dcpipe ${verb} ${code}${at}`;
}

const LABELS: Readonly<Record<Verb, string>> = {
  receive: "Receive files",
  send: "Send a file",
  pipe: "Join a pipe",
  forward: "Reach forwarded ports",
};

/** For a code that somebody waits with: one of these, whichever fits. */
export function terminalCommands(code: string, rendezvous: string): HTMLElement {
  const verbs = Object.keys(LABELS) as Verb[];
  return h(
    "details",
    { class: "terminal" },
    h("summary", {}, "In a terminal instead"),
    ...verbs.flatMap((verb) => [
      h("h2", {}, LABELS[verb]),
      copyable(commandFor(verb, code, rendezvous), `the command to ${LABELS[verb].toLowerCase()}`),
    ]),
  );
}

/** At the foot of every view. */
export function footer(rendezvous: string | undefined): HTMLElement {
  const at = rendezvous === undefined ? "" : ` --rendezvous ${rendezvous}`;
  return h(
    "footer",
    {},
    h(
      "details",
      {},
      h("summary", {}, "dcpipe in a terminal"),
      h("p", {}, "The same, between terminals and to this page. It needs Node.js 20.19 or newer:"),
      copyable("npm install -g dcpipe", "the command to install"),
      h("p", {}, "To send a file; it prints what to do on the other machine:"),
      copyable(`dcpipe send FILE${at}`, "the command to send a file"),
    ),
    h(
      "details",
      {},
      h("summary", {}, "Who sees what"),
      h(
        "p",
        {},
        "A rendezvous introduces the two sides to each other. Then they talk directly where their networks let them, end-to-end encrypted; where not, the rendezvous passes on what it cannot read. The code never goes to it in full.",
      ),
      h(
        "p",
        {},
        "Whoever serves this page could serve another one. If you do not want to trust them with that, dcpipe page --out dcpipe.html writes it as a file of your own.",
      ),
    ),
  );
}
