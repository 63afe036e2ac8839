/** A side dies without a word. */
import { existsSync, openSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fail, pair, partSize, temporaryDirectory } from "./dcpipe.ts";

const MIB = 1024 * 1024;

/** One side is killed in mid-transfer; resolves when the other has said so and given up. */
async function killInTransfer(side: "sender" | "receiver", after: number): Promise<void> {
  const target = join(temporaryDirectory(), "f");
  const { waiting, joining } = await pair(
    [["send", "-", "--limit", "5M", "--reconnect", "3"], { stdin: { fd: openSync("/dev/zero", "r") } }],
    [["receive", "-o", target, "--reconnect", "3"]],
  );
  const [killed, other] = side === "sender" ? [waiting, joining] : [joining, waiting];
  if (after === 0) await other.event("connected");
  else await other.event("progress", ({ bytes = 0 }) => bytes >= after);
  killed.kill("SIGKILL");
  await other.event("reconnecting");
  await fail(other, 6, /did not come back within 3 s/);
  expect(other.error).toMatchObject({ code: "PEER_GONE" });
  expect(other.error?.hint).toMatch(/--reconnect/);
  expect(existsSync(target)).toBe(false);
  if (after > 0) expect(partSize(target)).toBeGreaterThan(0);
}

for (const side of ["sender", "receiver"] as const) {
  test(`kill -9 of the ${side}: the other says so and gives up, and only a part is left`, async () => {
    // Before a byte, among the first, in full flight.
    await Promise.all([0, 1, 2 * MIB, 7 * MIB].map((after) => killInTransfer(side, after)));
  });
}

for (const side of ["waiting", "joining"] as const) {
  test(`pipe: kill -9 of the ${side} side`, async () => {
    const sides = await pair(
      [["pipe", "--reconnect", "1"], { stdin: "pipe" }],
      [["pipe", "--reconnect", "1"], { stdin: "pipe" }],
    );
    const other = side === "waiting" ? sides.joining : sides.waiting;
    sides[side].stdin.write("ready");
    await other.printed("ready");
    sides[side].kill("SIGKILL");
    await other.event("reconnecting");
    await fail(other, 6);
  });
}
