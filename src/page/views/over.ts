/** The end, good or bad. */
import { escapeText, type DcpipeError, type Problem, type TransferResult } from "../../browser.ts";
import { copyable } from "../copy.ts";
import { button, h } from "../dom.ts";
import { detailOf, FAILURES } from "../failures.ts";
import { countOf, formatBytes } from "../format.ts";
import type { Screen } from "../screen.ts";

export interface Outcome {
  readonly title: string;
  readonly text: string;
  readonly problems?: readonly Problem[] | undefined;
}

/** What came and is nowhere else: it stays on the screen, however it ends. */
export interface Kept {
  readonly texts: string[];
  /** What a pipe has brought. */
  log: Node | undefined;
}

/** Of a long list so many are shown. */
const MAX_PROBLEMS = 50;

/** "3 files, 1.5 MiB" */
export function describeResult({ files, bytes, unchanged, passed }: TransferResult): string {
  const same = unchanged > 0 ? ` ${countOf(unchanged, "file was", "files were")} there already.` : "";
  const left = passed > 0 ? ` ${countOf(passed, "entry was", "entries were")} passed over.` : "";
  return `${countOf(files, "file")}, ${formatBytes(bytes)}.${same}${left}`;
}

export function showDone(screen: Screen, outcome: Outcome, kept: Kept, again: () => void): void {
  const { title, text, problems = [] } = outcome;
  screen.line.end("done");
  screen.show({
    title,
    body: [
      h("p", { class: "lead" }, text),
      problems.length > 0 ? problemList(problems) : undefined,
      ...show(kept),
      h("div", { class: "row" }, button("Start over", again, "primary")),
    ],
  });
}

export function showFailed(screen: Screen, error: DcpipeError, kept: Kept, again: () => void): void {
  const { what, todo } = FAILURES[error.code];
  screen.line.end("failed");
  screen.show({
    title: what,
    body: [
      h("p", { class: "lead" }, todo),
      h("p", { class: "detail" }, detailOf(error)),
      ...show(kept),
      h("div", { class: "row" }, button("Start over", again, "primary")),
    ],
  });
}

function show({ texts, log }: Kept): (Node | undefined)[] {
  return [...texts.map((text) => copyable(plainText(text), "the text", "received")), log];
}

/** A text of the other side's, with its line breaks and nothing else that is more than a letter. */
export function plainText(text: string): string {
  return text.replace(/[^\n\t]+/g, escapeText);
}

function problemList(problems: readonly Problem[]): HTMLElement {
  return h(
    "div",
    { class: "problems" },
    h("h2", {}, "Not everything went well"),
    h(
      "ul",
      { class: "list" },
      ...problems
        .slice(0, MAX_PROBLEMS)
        .map(({ name, text, reason }) =>
          h(
            "li",
            {},
            h("span", { class: "name" }, escapeText(name)),
            h("span", {}, `${escapeText(text)} (${reason})`),
          ),
        ),
    ),
    problems.length > MAX_PROBLEMS
      ? h("p", {}, `and ${countOf(problems.length - MAX_PROBLEMS, "other")}`)
      : undefined,
  );
}
