/** The other side forwards ports, and a page has none: it says what is offered, and how to get there. */
import { escapeText, formatTarget, visit } from "../../browser.ts";
import type { Met } from "../connect.ts";
import { button, h } from "../dom.ts";
import type { Screen } from "../screen.ts";
import type { Outcome } from "./over.ts";

export async function forward(screen: Screen, { session, role }: Met): Promise<Outcome> {
  const visiting = visit(session, role);
  const offers = await visiting.offers;
  const left = new Promise<void>((resolve) => {
    screen.show({
      title: "The other side forwards ports",
      body: [
        h("p", { class: "lead" }, offers.length === 0 ? "It offers none by itself." : "It offers:"),
        h(
          "ul",
          { class: "list" },
          ...offers.map(({ target, protocol }) =>
            h("li", {}, h("code", {}, escapeText(formatTarget(target, protocol)))),
          ),
        ),
        h(
          "p",
          {},
          "This page cannot listen on ports. Start it anew on the other side, since this code is used up:",
        ),
        h(
          "ul",
          {},
          h("li", {}, "for a web site, with --web, and open the link that it prints;"),
          h("li", {}, "for anything else, and run dcpipe forward with its code in a terminal here."),
        ),
        h("div", { class: "row" }, button("Close", resolve, "primary")),
      ],
    });
  });
  await Promise.race([left, visiting.done]);
  visiting.leave();
  return { title: "Closed", text: "The other side has been told." };
}
