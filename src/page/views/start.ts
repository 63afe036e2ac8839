/** The first view: a code of somebody else's, or something of one's own. */
import { codeField } from "../code-field.ts";
import { button, h, uniqueId } from "../dom.ts";
import { canScan, scan } from "../scan.ts";
import type { Screen } from "../screen.ts";

export interface StartChoices {
  /** Undefined where the rendezvous is the page's own. */
  readonly rendezvous: RendezvousChoice | undefined;
  /** What is wrong with a code, for people; undefined when it was taken. */
  join(text: string): string | undefined;
  send(): void;
  receive(): void;
  pipe(): void;
}

interface RendezvousChoice {
  readonly value: string;
  readonly set: (url: string) => void;
}

/** `problem`: said at the field, about `text`. */
export function showStart(screen: Screen, choices: StartChoices, problem?: string, text?: string): void {
  screen.line.reset();
  const { root, input } = codeField();
  const errorId = uniqueId();
  const error = h("p", { id: errorId, class: "problem", role: "alert" });
  const complain = (what: string | undefined): void => {
    error.textContent = what ?? "";
    input.setAttribute("aria-invalid", String(what !== undefined));
    if (what !== undefined) input.setAttribute("aria-describedby", errorId);
  };
  const join = (): void => {
    const what = choices.join(input.value);
    complain(what);
    if (what !== undefined) input.focus();
  };
  const form = h(
    "form",
    {
      class: "enter",
      onsubmit: (event: Event) => {
        event.preventDefault();
        join();
      },
    },
    root,
    h("button", { type: "submit", class: "primary" }, "Go on"),
  );
  const scanner = h("div", { class: "scanner" });
  if (text !== undefined) input.value = text;
  screen.show({
    title: "Between two machines",
    body: [
      h(
        "p",
        { class: "lead" },
        "Files, texts and pipes, from one machine to the other, end-to-end encrypted.",
      ),
      choices.rendezvous && rendezvousField(choices.rendezvous),
      form,
      error,
      scanner,
      h("h2", {}, "Or begin here"),
      h(
        "div",
        { class: "choices" },
        choice("Send files", "and get a code for the other side", () => {
          choices.send();
        }),
        choice("Receive files", "from who has your code", () => {
          choices.receive();
        }),
        choice("Open a pipe", "lines of text or bytes, both ways", () => {
          choices.pipe();
        }),
      ),
    ],
    ...(problem === undefined ? {} : { focus: input }),
  });
  complain(problem);
  void canScan().then((can) => {
    if (!can) return;
    const open = button("Scan a QR code", () => {
      void useCamera(scanner, open).then(({ text: found, problem: trouble }) => {
        complain(trouble);
        if (found === undefined) return;
        input.value = found;
        join();
      });
    });
    scanner.append(open);
  });
}

function choice(title: string, text: string, onclick: () => void): HTMLElement {
  return h(
    "button",
    { type: "button", class: "choice", onclick },
    h("strong", {}, title),
    h("span", {}, text),
  );
}

function rendezvousField({ value, set }: RendezvousChoice): HTMLElement {
  const id = uniqueId();
  const input = h("input", {
    id,
    type: "url",
    placeholder: "https://rendezvous.example.org/",
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => {
      set(input.value);
    },
  });
  input.value = value;
  return h("div", { class: "field" }, h("label", { for: id }, "Rendezvous"), input);
}

/** What is in the QR code, or what is in the way; neither when the user has stopped it. */
async function useCamera(
  place: HTMLElement,
  open: HTMLElement,
): Promise<{ readonly text?: string; readonly problem?: string }> {
  const stop = new AbortController();
  const video = h("video", { muted: true, playsinline: true, "aria-label": "What the camera sees" });
  const cancel = button("Stop the camera", () => {
    stop.abort();
  });
  place.replaceChildren(video, cancel);
  cancel.focus();
  try {
    return { text: await scan(video, stop.signal) };
  } catch (error) {
    if (stop.signal.aborted) return {};
    const forbidden = error instanceof DOMException && error.name === "NotAllowedError";
    return { problem: forbidden ? "The camera was not allowed." : "There is no camera to be used." };
  } finally {
    place.replaceChildren(open);
  }
}
