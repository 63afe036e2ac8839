/** The end of a transfer, said to people and scripts. */
import { errorOf, fieldsOf, problemLines, summary, type Ending } from "./summary.ts";
import type { Ui } from "./ui.ts";

/** Throws when something was refused or failed: then it is not done. */
export function finish(ending: Ending, ui: Ui, text = summary(ending)): void {
  const error = errorOf(ending);
  if (error) {
    ui.end();
    ui.problems(ending.result.problems.list, problemLines(ending));
    throw error;
  }
  ui.done(fieldsOf(ending), text);
}
