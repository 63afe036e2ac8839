/** What is on the screen: the line between the two sides, and one view at a time. */
import { createLine, type Line } from "./line.ts";
import { h } from "./dom.ts";

export interface View {
  /** For the tab, and the heading, which gets the focus: so that who does not see the page hears where he is. */
  readonly title: string;
  readonly body: readonly (Node | string | undefined)[];
  /** Gets the focus in place of the heading. */
  readonly focus?: HTMLElement;
}

export interface Screen {
  readonly line: Line;
  show(view: View): void;
  /** Says something to who does not see the page, and to nobody else. */
  announce(text: string): void;
}

/** `footer`: what stands below all views. */
export function createScreen(root: HTMLElement, footer: Node): Screen {
  const line = createLine();
  const card = h("section", { class: "card" });
  const status = h("p", { class: "unseen", role: "status" });
  root.replaceChildren(
    h("header", { class: "top" }, h("span", { class: "mark" }, "dcpipe")),
    h("main", {}, line.root, card, status),
    footer,
  );
  let first = true;
  return {
    line,
    show: ({ title, body, focus }) => {
      const heading = h("h1", { tabindex: -1 }, title);
      card.replaceChildren(heading, ...body.filter((each) => each !== undefined));
      document.title = `${title} - dcpipe`;
      // Nothing has been done yet: the page's beginning is where the focus is.
      if (!first || focus) (focus ?? heading).focus({ preventScroll: first });
      if (!first) scrollTo({ top: 0 });
      first = false;
    },
    announce: (text) => {
      status.textContent = text;
    },
  };
}
