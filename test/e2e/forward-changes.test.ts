/** Networks change under forwarded connections, which go on: a sample of what the soak does with --changes. */
import { expect } from "vitest";
import { needs, rootTest } from "./dcpipe.ts";

interface Lab {
  forwardThroughChanges(options: { by: "code" | "token"; changes: readonly string[] }): Promise<string[]>;
}

async function through(by: "code" | "token", changes: readonly string[]): Promise<void> {
  const lab = (await import(new URL("../lab/changes.js", import.meta.url).href)) as Lab;
  const lines = await lab.forwardThroughChanges({ by, changes });
  // The traffic before, each change, and the comparison.
  expect(lines).toHaveLength(changes.length + 2);
}

rootTest(
  "by code, behind two NATs: a link that is down, other addresses, NATs that boot",
  async (context) => {
    needs(context, "nft");
    await through("code", [
      "the link is down for 5 s",
      "both machines get other addresses",
      "both NATs boot, with other ports",
      "both NATs boot and get each other's address",
    ]);
  },
);

rootTest(
  "by pasting: a link that is down for so long that the session is lost, and a side that sleeps",
  async () => {
    await through("token", ["the link is down for 20 s", "the joining side sleeps for 30 s"]);
  },
);
