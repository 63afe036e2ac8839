/**
 * The line between this page and the other side, drawn as what it is: a pipe. It shows whether the two are connected, how, and how fast;
 * and holds what can be done at any time: compare, cancel.
 */
import type { ConnectedPath } from "../browser.ts";
import type { News } from "./connect.ts";
import { button, h, svg, uniqueId } from "./dom.ts";
import { formatBytes } from "./format.ts";

export interface Line {
  readonly root: HTMLElement;
  /** Between the views of one connection: shown, with its ways to end it. */
  begin(actions: { readonly oncancel: () => void; readonly ondiffer: () => void }): void;
  news(news: News): void;
  /** The short authentication string. */
  verifier(words: string): void;
  /** Bytes a second, both directions. */
  rate(bytesPerSecond: number): void;
  /** It is over. */
  end(how: "done" | "failed"): void;
  /** Nothing has begun. */
  reset(): void;
}

const PATHS: Readonly<Record<ConnectedPath["path"], string>> = {
  direct: "direct",
  turn: "through a TURN relay",
  relay: "through the relay",
};

export function createLine(): Line {
  const text = h("span", { class: "how" });
  const rate = h("span", { class: "rate" });
  const words = h("p", { class: "words" });
  const panelId = uniqueId();
  let differ = (): void => undefined;
  let cancel = (): void => undefined;
  const toggle = (open: boolean): void => {
    panel.hidden = !open;
    compare.setAttribute("aria-expanded", String(open));
  };
  const compare = button(
    "Compare",
    () => {
      toggle(panel.hidden === true);
    },
    "quiet",
  );
  compare.setAttribute("aria-controls", panelId);
  const panel = h(
    "div",
    { id: panelId, class: "panel", hidden: true, role: "region", "aria-label": "Compare" },
    h(
      "p",
      {},
      "When nobody sits in between, the other side sees the same words. Read them to each other. (A terminal shows them with --verify.)",
    ),
    words,
    h(
      "div",
      { class: "row" },
      button("They are the same", () => {
        toggle(false);
        compare.focus();
      }),
      button("They differ", () => {
        toggle(false);
        differ();
      }),
    ),
  );
  const stop = button(
    "Cancel",
    () => {
      cancel();
    },
    "quiet",
  );
  const actions = h("div", { class: "actions" }, compare, stop);
  const root = h(
    "section",
    { class: "line", "aria-label": "Connection", "data-state": "idle" },
    h(
      "div",
      { class: "ends" },
      h("span", { class: "end" }, device(), h("span", {}, "This page")),
      h("span", { class: "pipe" }, pipe(), h("span", { class: "label" }, text, rate)),
      h("span", { class: "end" }, device(), h("span", {}, "Other side")),
    ),
    actions,
    panel,
  );
  const show = (state: string, how: string): void => {
    root.dataset["state"] = state;
    text.textContent = how;
  };
  const reset = (): void => {
    show("idle", "");
    rate.textContent = "";
    actions.hidden = true;
    compare.hidden = true;
    toggle(false);
  };
  reset();
  return {
    root,
    begin: ({ oncancel, ondiffer }) => {
      reset();
      cancel = oncancel;
      differ = ondiffer;
      actions.hidden = false;
    },
    news: (news) => {
      if (news.state === "connected") show("connected", describe(news.path));
      else if (news.state === "connecting")
        show("connecting", news.role === "joining" ? "connecting" : "waiting");
      else if (news.state === "reconnecting") {
        show("connecting", "reconnecting");
        rate.textContent = "";
      } else if (root.dataset["state"] === "connecting")
        text.textContent = news.trouble === undefined ? "waiting" : "rendezvous out of reach";
    },
    verifier: (each) => {
      words.textContent = each;
      compare.hidden = false;
    },
    rate: (bytes) => {
      rate.textContent = bytes > 0 ? `${formatBytes(bytes)}/s` : "";
    },
    end: (how) => {
      show(how, how === "done" ? "closed" : "ended");
      rate.textContent = "";
      actions.hidden = true;
      toggle(false);
    },
    reset,
  };
}

function describe({ path, rttMs }: ConnectedPath): string {
  const rtt = rttMs > 0 ? `, ${rttMs < 10 ? rttMs.toFixed(1) : rttMs.toFixed(0)} ms` : "";
  return PATHS[path] + rtt;
}

function device(): SVGElement {
  return svg(
    "svg",
    { class: "device", viewBox: "0 0 24 24", "aria-hidden": "true" },
    svg("rect", { x: 3, y: 4, width: 18, height: 13, rx: 2 }),
    svg("path", { d: "M8 21h8M12 17v4" }),
  );
}

/** A tube with a flange at either end, and what flows in it: drawn by the style. */
function pipe(): HTMLElement {
  return h("span", { class: "tube", "aria-hidden": "true" }, h("span", { class: "flow" }));
}
