/** Text with a button that copies it. */
import { button, h } from "./dom.ts";

/** `what`: for who does not see what stands beside the button. */
export function copyable(text: string, what: string, className = ""): HTMLElement {
  const source = h("code", { class: className }, text);
  const copy = button("Copy", () => void copyText());
  copy.setAttribute("aria-label", `Copy ${what}`);
  const done = h("span", { class: "unseen", role: "status" });
  const copyText = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      // Without a secure origin, or permission, there is no clipboard: mark it, for the keyboard.
      getSelection()?.selectAllChildren(source);
      copy.textContent = "Marked";
    }
    done.textContent = `${copy.textContent}: ${what}`;
  };
  return h("div", { class: "copyable" }, source, copy, done);
}
