/** The first stream of a session, and the question before it. */
import { expect, test } from "vitest";
import { askPurpose, meet, type Purpose } from "../../src/apps/meet.ts";
import { visit } from "../../src/apps/http/visit.ts";
import { encodeHeader } from "../../src/wire/header.ts";
import { sessionPair } from "./transfer.ts";

const COUNTERPARTS: readonly (readonly [Purpose, Purpose])[] = [
  ["pipe", "pipe"],
  ["send", "receive"],
  ["receive", "send"],
];

test.each(COUNTERPARTS)("a joining side is told %s, and does %s", async (theirs, ours) => {
  const { waiting, joining } = sessionPair();
  const met = meet(waiting, "waiting", theirs);
  expect(await askPurpose(joining)).toBe(theirs);
  const stream = await meet(joining, "joining", ours);
  await stream.write(Uint8Array.of(7));
  expect(await (await met).read()).toEqual(Uint8Array.of(7));
});

test("a forward answers, and goes on", async () => {
  const { waiting, joining } = sessionPair();
  visit(waiting, "waiting").done.catch(() => undefined);
  expect(await askPurpose(joining)).toBe("forward");
  expect(await visit(joining, "joining").offers).toEqual([]);
});

test("who has asked may still do what does not fit", async () => {
  const { waiting, joining } = sessionPair();
  const met = meet(waiting, "waiting", "send");
  met.catch(() => undefined);
  await askPurpose(joining);
  const stream = await meet(joining, "joining", "send");
  await expect(stream.closed).rejects.toMatchObject({ code: "REFUSED" });
  await expect(met).rejects.toMatchObject({ code: "REFUSED" });
});

test("a second question is refused", async () => {
  const { waiting, joining } = sessionPair();
  const met = meet(waiting, "waiting", "pipe");
  met.catch(() => undefined);
  await askPurpose(joining);
  await expect(askPurpose(joining)).rejects.toMatchObject({ code: "REFUSED" });
  await expect(met).rejects.toMatchObject({ code: "REFUSED" });
});

test.each([
  ["nothing", []],
  ["a kind that is no program", [0x05]],
  ["an unknown kind", [0x77]],
  ["two bytes", [0x01, 0x02]],
])("an answer of %s is PROTOCOL", async (_name, bytes) => {
  const { waiting, joining } = sessionPair();
  const asked = askPurpose(joining);
  asked.catch(() => undefined);
  const stream = await waiting.accept();
  expect(stream.header).toEqual(encodeHeader({ kind: "ask" }));
  void stream.write(Uint8Array.from(bytes)).then(
    () => stream.end().catch(() => undefined),
    () => undefined,
  );
  await expect(asked).rejects.toMatchObject({ code: "PROTOCOL" });
});

test("a question with content is reset", async () => {
  const { waiting, joining } = sessionPair();
  meet(waiting, "waiting", "pipe").catch(() => undefined);
  const stream = joining.open(encodeHeader({ kind: "ask" }));
  void stream.write(Uint8Array.of(1)).catch(() => undefined);
  await expect(stream.closed).rejects.toMatchObject({ code: "PROTOCOL" });
});
