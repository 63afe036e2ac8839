/** Sending: what, and how far it is. */
import { codec, createDigest, fileTree, sendFiles, type Sendable } from "../../browser.ts";
import { createChooser } from "../chooser.ts";
import type { Met } from "../connect.ts";
import { button, h, uniqueId } from "../dom.ts";
import { createProgress } from "../progress.ts";
import type { Screen } from "../screen.ts";
import { describeResult, type Outcome } from "./over.ts";

/** Asks what to send. `done` says what happens next: "Get a code", "Send". */
export function showChooser(
  screen: Screen,
  done: string,
  onchosen: (items: readonly Sendable[], compares: boolean) => void,
  onleave?: () => void,
): void {
  const chooser = createChooser();
  const id = uniqueId();
  const compares = h("input", { id, type: "checkbox" });
  const go = button(
    done,
    () => {
      onchosen(chooser.items(), compares.checked);
    },
    "primary",
  );
  go.disabled = true;
  chooser.onchange = () => {
    go.disabled = chooser.items().length === 0;
  };
  screen.show({
    title: "Send files",
    body: [
      onleave
        ? undefined
        : h("p", { class: "lead" }, "The other side waits to receive. Nothing is sent before you say so."),
      chooser.root,
      onleave &&
        h(
          "p",
          { class: "check" },
          compares,
          h("label", { for: id }, "Compare words before anything is sent"),
        ),
      h("div", { class: "row" }, go, onleave && button("Back", onleave, "quiet")),
    ],
  });
}

/** Asks on a connection that stands. Rejects when the session ends meanwhile. */
export function chooseItems(screen: Screen, { session }: Met): Promise<readonly Sendable[]> {
  return new Promise((resolve, reject) => {
    session.closed.catch(reject);
    showChooser(screen, "Send", resolve);
  });
}

export async function send(screen: Screen, met: Met, items: readonly Sendable[]): Promise<Outcome> {
  const progress = createProgress(screen);
  screen.show({
    title: "Sending",
    body: [h("p", { class: "lead" }, "The other side is asked whether it wants it."), progress.root],
  });
  try {
    const result = await sendFiles(met.session, met.role, {
      tree: fileTree(items),
      createDigest,
      codec,
      onprogress: (each) => {
        progress.update(each);
      },
    });
    const { list, failed, refused } = result.problems;
    return {
      title: failed + refused > 0 ? "Sent, but not everything" : "Sent",
      text: `${describeResult(result)} Stored by the other side.`,
      problems: list,
    };
  } finally {
    progress.stop();
  }
}
