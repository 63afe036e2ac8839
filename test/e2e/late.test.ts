/** A side that waits for longer than one connection of the library below lives (39.5 s). */
import { expect, test } from "vitest";
import { start, succeed } from "./dcpipe.ts";

test("a waiting side older than 40 s takes a joining side", async () => {
  const waiting = start(["pipe"], { stdin: Buffer.from("patience") });
  const offer = await waiting.offer();
  // The age that is tested; no event tells of it.
  await new Promise((resolve) => setTimeout(resolve, 42_000));
  const joining = start(["pipe", "--to", offer]);
  await succeed(waiting, joining);
  expect(joining.stdout.toString()).toBe("patience");
}, 120_000);
