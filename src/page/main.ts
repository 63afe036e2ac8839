/** The page: a dcpipe of its own, on the library for web pages alone. */
import { footer } from "./commands.ts";
import { createFlow } from "./flow.ts";
import { findPlace, fragment } from "./place.ts";
import { createScreen } from "./screen.ts";

const place = findPlace();
const root = document.getElementById("page");
if (root) {
  const flow = createFlow(createScreen(root, footer(place.rendezvous)), place);
  flow.open(fragment());
  // The next link in the same tab.
  addEventListener("hashchange", () => {
    flow.open(fragment());
  });
  // What is dropped beside its place would be opened in place of this page.
  for (const type of ["dragover", "drop"])
    addEventListener(type, (event) => {
      event.preventDefault();
    });
  addEventListener("beforeunload", (event) => {
    if (flow.busy) event.preventDefault();
  });
}
