/** What is to be sent: dropped, picked, or typed. */
import { droppedItems, escapeText, type Sendable } from "../browser.ts";
import { button, h, uniqueId } from "./dom.ts";
import { countOf, formatBytes } from "./format.ts";

export interface Chooser {
  readonly root: HTMLElement;
  readonly items: () => readonly Sendable[];
  /** Told whenever something is added or taken away. */
  onchange: () => void;
}

interface Chosen {
  readonly label: string;
  readonly items: readonly Sendable[];
}

export function createChooser(): Chooser {
  let chosen: Chosen[] = [];
  const list = h("ul", { class: "list chosen", "aria-label": "To be sent" });
  const textId = uniqueId();
  const text = h("textarea", {
    id: textId,
    rows: 3,
    oninput: () => {
      changed();
    },
  });
  const show = (): void => {
    list.hidden = chosen.length === 0;
    list.replaceChildren(
      ...chosen.map((each) => {
        const remove = button(
          "Remove",
          () => {
            chosen = chosen.filter((other) => other !== each);
            show();
            changed();
            files.focus();
          },
          "quiet",
        );
        remove.setAttribute("aria-label", `Remove ${each.label}`);
        return h("li", {}, h("span", { class: "name" }, each.label), remove);
      }),
    );
  };
  const add = (more: readonly Chosen[]): void => {
    chosen = [...chosen, ...more];
    show();
    changed();
  };
  const picked = (input: HTMLInputElement): void => {
    const found = [...(input.files ?? [])];
    // The same may be picked again.
    input.value = "";
    add(groupFiles(found));
  };
  const input = h("input", {
    type: "file",
    multiple: true,
    class: "unseen",
    tabindex: -1,
    "aria-label": "Files to send",
    onchange: () => {
      picked(input);
    },
  });
  const folderInput = h("input", {
    type: "file",
    webkitdirectory: true,
    class: "unseen",
    tabindex: -1,
    "aria-label": "Folder to send",
    onchange: () => {
      picked(folderInput);
    },
  });
  const files = button("Choose files", () => {
    input.click();
  });
  const folder = button("Choose a folder", () => {
    folderInput.click();
  });
  const zone = h(
    "div",
    {
      class: "drop",
      ondragover: (event: DragEvent) => {
        event.preventDefault();
        zone.classList.add("over");
      },
      ondragleave: () => {
        zone.classList.remove("over");
      },
      ondrop: (event: DragEvent) => {
        event.preventDefault();
        zone.classList.remove("over");
        if (event.dataTransfer) add(droppedItems(event.dataTransfer).map(describe));
      },
    },
    h("p", {}, "Drop files and folders here, or"),
    h("div", { class: "row" }, files, "webkitdirectory" in input ? folder : undefined),
    input,
    folderInput,
  );
  const root = h(
    "div",
    { class: "chooser" },
    zone,
    list,
    h(
      "details",
      { class: "text" },
      h("summary", {}, "A text"),
      h("label", { for: textId }, "Text to send"),
      text,
    ),
  );
  const chooser: Chooser = {
    root,
    items: () => [
      ...chosen.flatMap(({ items }) => items),
      ...(text.value === "" ? [] : [{ text: text.value }]),
    ],
    onchange: () => undefined,
  };
  const changed = (): void => {
    chooser.onchange();
  };
  show();
  return chooser;
}

/** Files of one chosen folder stand as one. */
function groupFiles(files: readonly File[]): Chosen[] {
  const folders = new Map<string, File[]>();
  const found: Chosen[] = [];
  for (const file of files) {
    const slash = file.webkitRelativePath.indexOf("/");
    if (slash < 0) {
      found.push({ label: `${escapeText(file.name)} (${formatBytes(file.size)})`, items: [file] });
      continue;
    }
    const name = file.webkitRelativePath.slice(0, slash);
    const folder = folders.get(name);
    if (folder) folder.push(file);
    else folders.set(name, [file]);
  }
  for (const [name, items] of folders) {
    const bytes = items.reduce((sum, { size }) => sum + size, 0);
    const label = `${escapeText(name)}/ (${countOf(items.length, "file")}, ${formatBytes(bytes)})`;
    found.push({ label, items });
  }
  return found;
}

function describe(item: Sendable): Chosen {
  if (item instanceof File)
    return { label: `${escapeText(item.name)} (${formatBytes(item.size)})`, items: [item] };
  const name = "name" in item ? escapeText(item.name) : "a text";
  return { label: "isDirectory" in item && item.isDirectory ? `${name}/` : name, items: [item] };
}
