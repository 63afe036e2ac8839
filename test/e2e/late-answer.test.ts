/** An answer that takes its time on the way: longer than one connection of the library below lives (39.5 s). */
import { join } from "node:path";
import { expect } from "vitest";
import { expectEqualFiles, makeFile, rootTest, start, succeed, temporaryDirectory } from "./dcpipe.ts";
import { createNat } from "./nat.ts";

rootTest(
  "both sides are older than 40 s when the answer is delivered",
  async () => {
    const { inside, outside } = createNat();
    const [source, target] = [makeFile("f", 200_000), temporaryDirectory()];
    const waiting = start(["receive", "-o", target], { namespace: inside, stdin: "pipe" });
    const offer = await waiting.offer();
    const joining = start(["send", source, "--timeout", "300", "--to", offer], { namespace: outside });
    const { token } = await joining.event("answer");
    // The age that is tested; no event tells of it.
    await new Promise((resolve) => setTimeout(resolve, 42_000));
    expect(joining.find("connected")).toBeUndefined();
    waiting.stdin.write(`${String(token)}\n`);
    await succeed(waiting, joining);
    expectEqualFiles(join(target, "f"), source);
  },
  120_000,
);
