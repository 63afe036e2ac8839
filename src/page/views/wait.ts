/** This page waits: the code, and the ways to hand it on. */
import { formatLink, parseCode } from "../../browser.ts";
import { commandFor, type Verb } from "../commands.ts";
import { copyable } from "../copy.ts";
import { h } from "../dom.ts";
import { drawQr } from "../qr.ts";
import type { Screen } from "../screen.ts";

/** `counterpart`: what the other side is to run. */
export function showWaiting(screen: Screen, code: string, rendezvous: string, counterpart: Verb): void {
  const link = formatLink(rendezvous, parseCode(code));
  screen.show({
    title: "Waiting for the other side",
    body: [
      h(
        "p",
        { class: "lead" },
        "Give this code, or the link, to the other side. It works once; leave this page open.",
      ),
      h(
        "div",
        { class: "handout" },
        h(
          "div",
          {},
          h("h2", {}, "Code"),
          copyable(code, "the code", "code big"),
          h("h2", {}, "Link"),
          copyable(link, "the link"),
          h("h2", {}, "In a terminal"),
          copyable(commandFor(counterpart, code, rendezvous), "the command for the other side"),
        ),
        drawQr(link),
      ),
    ],
  });
}

export function showAllocating(screen: Screen): void {
  screen.show({
    title: "Getting a code",
    body: [h("p", { class: "lead" }, "The rendezvous is asked for one.")],
  });
}
