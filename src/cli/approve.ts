/** The two questions of a receiver at a terminal: whether it wants what comes, and what to do with names that are taken. */
import { DcpipeError, escapeText, type Conflict, type Offer, type Session } from "../index.ts";
import { allLines, offerLines, totalsOf } from "./listing.ts";
import { ask } from "./prompt.ts";
import type { Ui } from "./ui.ts";

/** Shows what comes and asks whether it may. False at the end of input. */
export async function askApproval(offer: Offer, into: string, ui: Ui, session: Session): Promise<boolean> {
  const lines = offerLines(offer, process.stderr.columns || 80);
  const question = `Receive ${totalsOf(offer)} ${into}? [Y/n/l] `;
  const answer = await ui.asking(lines, () =>
    ask(
      question,
      (text) => {
        if (text === "l") for (const line of allLines(offer.entries)) process.stderr.write(`${line}\n`);
        return text === "" || text === "y" || text === "yes" ? true : /^no?$/.test(text) ? false : undefined;
      },
      session.closed,
    ),
  );
  return answer ?? false;
}

const ANSWERS: Readonly<Record<string, Conflict | "abort">> = {
  s: "skip",
  r: "rename",
  o: "overwrite",
  a: "abort",
};

/** Asks what to do with a name that is taken, and all others like it. Rejects with REFUSED when nobody wants to go on. */
export async function askConflict(path: string, ui: Ui, session: Session): Promise<Conflict> {
  const name = escapeText(path);
  const question =
    `${name} exists here with other content. For this and all others: ` +
    "[s]kip, [r]ename, [o]verwrite, [a]bort? ";
  const read = (text: string): Conflict | "abort" | undefined =>
    ANSWERS[text] ?? Object.values(ANSWERS).find((answer) => answer === text);
  const answer = await ui.asking([], () => ask(question, read, session.closed));
  if (answer !== undefined && answer !== "abort") return answer;
  const error = new DcpipeError("REFUSED", `stopped at ${path}, which exists here with other content`);
  // A refusal of this name alone would go on with the next.
  void session.abort("REFUSED", `stopped at ${path}, which exists there with other content`, error);
  throw error;
}
