/** The field for a code: words are completed, spaces and capitals forgiven. */
import { completeWord } from "../browser.ts";
import { h, uniqueId } from "./dom.ts";

/** Suggestions at a time: more are no help. */
const MAX_SUGGESTIONS = 8;

export interface CodeField {
  readonly root: HTMLElement;
  readonly input: HTMLInputElement;
}

export function codeField(): CodeField {
  const [id, list] = [uniqueId(), uniqueId()];
  const words = h("datalist", { id: list });
  const input = h("input", {
    id,
    list,
    type: "text",
    inputmode: "text",
    class: "code",
    placeholder: "7-guitar-sandwich",
    autocomplete: "off",
    autocapitalize: "none",
    autocorrect: "off",
    spellcheck: "false",
    enterkeyhint: "go",
    maxlength: 2048,
    oninput: () => {
      const { start, options } = completions(input.value);
      words.replaceChildren(...options.map((word) => h("option", { value: start + word })));
    },
    // As in a shell: the only word that it can be, or as far as all that it can be agree.
    onkeydown: (event: KeyboardEvent) => {
      if (event.key !== "Tab" || event.shiftKey || event.altKey || event.ctrlKey) return;
      const { start, begun, options } = completions(input.value);
      const common = begun === "" ? "" : commonStart(options);
      if (common.length <= begun.length) return;
      event.preventDefault();
      input.value = start + common;
      input.dispatchEvent(new Event("input"));
    },
  });
  return { root: h("div", { class: "field" }, h("label", { for: id }, "Code or link"), input, words), input };
}

/** What stands before the last word, what is there of it, and what it may become. */
function completions(text: string): { start: string; begun: string; options: readonly string[] } {
  const match = /^(\s*\d+[\s_-]+(?:[a-z]+[\s_-]+)*)([a-z]*)$/i.exec(text);
  const [start, begun] = [match?.[1] ?? "", match?.[2] ?? ""];
  if (!match || begun === "") return { start, begun, options: [] };
  return { start, begun, options: completeWord(begun).slice(0, MAX_SUGGESTIONS) };
}

function commonStart([first = "", ...others]: readonly string[]): string {
  let length = first.length;
  for (const word of others) while (!word.startsWith(first.slice(0, length))) length--;
  return first.slice(0, length);
}
