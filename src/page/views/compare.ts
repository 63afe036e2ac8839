/** Both people compare a short authentication string before anything flows. */
import { DcpipeError } from "../../browser.ts";
import type { Met } from "../connect.ts";
import { button, h } from "../dom.ts";
import type { Screen } from "../screen.ts";

/** Resolves when the user has said yes; rejects with AUTH_FAILED, or with what ended the session. */
export async function compare(screen: Screen, { session, verifier }: Met): Promise<void> {
  const same = await new Promise<boolean>((resolve, reject) => {
    session.closed.then(() => {
      reject(new DcpipeError("PEER_GONE", "the other side left before it was compared"));
    }, reject);
    screen.show({
      title: "Compare",
      body: [
        h("p", { class: "lead" }, "Does the other side show the same words? Read them to each other."),
        h("p", { class: "words big" }, verifier),
        h(
          "div",
          { class: "row" },
          button(
            "They are the same",
            () => {
              resolve(true);
            },
            "primary",
          ),
          button("They differ", () => {
            resolve(false);
          }),
        ),
      ],
    });
  });
  if (!same) throw differing(session);
}

/** The session ends, and the other side is told. */
export function differing(session: Met["session"]): DcpipeError {
  const error = new DcpipeError("AUTH_FAILED", "you said that the words differ");
  void session.abort("REFUSED", "the short authentication strings differ", error);
  return error;
}
