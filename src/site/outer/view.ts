/** What the outer page shows around the site: a thin bar, and a panel in the site's place while there is none. */

export type State = "connecting" | "shown" | "reconnecting" | "lost" | "none";

function $(id: "site"): HTMLIFrameElement;
function $(id: "tab" | "leave"): HTMLAnchorElement;
function $(id: string): HTMLElement;
function $(id: string): HTMLElement {
  return document.getElementById(id) as HTMLElement;
}

export interface View {
  /** `detail` is shown as text. */
  readonly state: (state: State, text: string, detail?: string) => void;
  /** The short authentication string, for those whom the other side asks for it. */
  readonly words: (words: string) => void;
  readonly path: (text: string) => void;
  /** Asks which TARGET to open. */
  readonly choose: (names: readonly string[]) => Promise<number>;
  /** Shows the site. */
  readonly site: (url: string, name: string) => void;
  /** The site leads elsewhere, which is not shown within this page. */
  readonly leads: (url: string) => void;
}

export function createView(): View {
  const show = (id: string, shown: boolean): void => {
    $(id).hidden = !shown;
  };
  return {
    state: (state, text, detail = "") => {
      document.documentElement.dataset["state"] = state;
      $("state").textContent = text;
      $("headline").textContent = text;
      $("detail").textContent = detail;
      const isShown = !$("site").hasAttribute("hidden");
      show("panel", !isShown);
      show("notice", isShown && detail !== "");
      $("said").textContent = detail;
      show("leave", false);
      show("back", false);
      show("tab", isShown && state !== "lost");
      if (state === "lost") $("path").textContent = "";
    },
    words: (words) => {
      $("words").textContent = words;
      show("verify", true);
    },
    path: (text) => {
      $("path").textContent = text;
    },
    choose: (names) =>
      new Promise((resolve) => {
        const list = $("targets");
        list.replaceChildren(
          ...names.map((name, index) => {
            const button = document.createElement("button");
            button.type = "button";
            button.textContent = name;
            button.onclick = () => {
              show("choice", false);
              resolve(index);
            };
            const item = document.createElement("li");
            item.append(button);
            return item;
          }),
        );
        show("choice", true);
        list.querySelector("button")?.focus();
      }),
    site: (url, name) => {
      const frame = $("site");
      const tab = $("tab");
      tab.href = url;
      $("back").onclick = () => {
        show("notice", false);
        frame.src = url;
      };
      show("tab", true);
      $("name").textContent = name;
      document.title = `${name} - dcpipe`;
      frame.title = `The site of ${name}`;
      frame.hidden = false;
      frame.src = url;
      show("panel", false);
    },
    leads: (url) => {
      const link = $("leave");
      link.href = url;
      link.textContent = `Open ${new URL(url).host}`;
      $("said").textContent = "The site leads to another one, which is not shown in here.";
      show("leave", true);
      show("back", true);
      show("notice", true);
    },
  };
}
