/** A side stands still for longer than a session takes for alive (10 s), and goes on. */
import { expect, test } from "vitest";
import { pair, succeed } from "./dcpipe.ts";
import { slowTransfer } from "./slow.ts";

for (const side of ["sender", "receiver"] as const) {
  test(`a ${side} that stands still until it is given up goes on where it was`, async () => {
    const transfer = await slowTransfer();
    const other = side === "sender" ? transfer.receiver : transfer.sender;
    transfer[side].kill("SIGSTOP");
    await other.event("reconnecting");
    transfer[side].kill("SIGCONT");
    await other.event("path");
    await transfer.check();
  });
}

test("a pipe that stands still goes on, both ways", async () => {
  const { waiting, joining } = await pair([["pipe"], { stdin: "pipe" }], [["pipe"], { stdin: "pipe" }]);
  waiting.stdin.write("one ");
  joining.stdin.write("uno ");
  await Promise.all([waiting.printed("uno "), joining.printed("one ")]);
  joining.kill("SIGSTOP");
  waiting.stdin.write("two ");
  await waiting.event("reconnecting");
  joining.kill("SIGCONT");
  joining.stdin.write("due ");
  await Promise.all([waiting.printed("due "), joining.printed("two ")]);
  waiting.stdin.end("three");
  joining.stdin.end("tre");
  await succeed(waiting, joining);
  expect(joining.stdout.toString()).toBe("one two three");
  expect(waiting.stdout.toString()).toBe("uno due tre");
});
