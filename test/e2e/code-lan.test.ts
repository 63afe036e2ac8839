/** Meeting by code on the local network: no server, no default route. */
import { expect } from "vitest";
import { otherWords, startServer } from "./code.ts";
import { fail, rootTest, start, succeed } from "./dcpipe.ts";
import { createSwitch, type Machine } from "./switch.ts";

rootTest("two machines on one network meet without a server", async () => {
  const [a, b] = (await createSwitch(2)) as [Machine, Machine];
  for (const [w, j] of [
    [a, b],
    [b, a],
  ] as const) {
    const waiting = start(["pipe", "--lan"], { namespace: w.namespace, stdin: Buffer.from("there") });
    const code = await waiting.code();
    expect(waiting.find("code")).toEqual({ event: "code", code });
    const joining = start(["pipe", code, "--lan"], { namespace: j.namespace, stdin: Buffer.from("back") });
    await succeed(waiting, joining);
    expect(joining.stdout.toString()).toBe("there");
    expect(waiting.stdout.toString()).toBe("back");
    expect(joining.find("connected")).toMatchObject({ path: "direct", remote: { address: w.address } });
  }
});

rootTest("the joining side may be there first", async () => {
  const [a, b, c] = (await createSwitch(3)) as [Machine, Machine, Machine];
  const first = start(["pipe", "--lan"], { namespace: a.namespace, stdin: "pipe" });
  const code = await first.code();
  // Of two that are called the first one's mailbox is burned; the second has never heard of it.
  const other = start(["pipe", "--lan"], { namespace: c.namespace, stdin: "pipe" });
  expect(await other.code()).not.toBe(code);
  const joining = start(["pipe", code, "--lan"], { namespace: b.namespace, stdin: "pipe" });
  await first.event("connected");
  expect(other.find("connected")).toBeUndefined();
  for (const each of [first, joining]) each.stdin.end();
  await succeed(first, joining);
});

rootTest("wrong words end both sides", async () => {
  const [a, b] = (await createSwitch(2)) as [Machine, Machine];
  const waiting = start(["pipe", "--lan"], { namespace: a.namespace });
  const code = await waiting.code();
  const joining = start(["pipe", otherWords(code), "--lan"], { namespace: b.namespace });
  for (const side of [joining, waiting]) {
    await fail(side, 4, /burned/);
    expect(side.error).toMatchObject({ code: "CODE_WRONG" });
    for (const word of code.split("-").slice(1)) expect(side.error?.message).not.toContain(word);
  }
});

rootTest("nobody waits: the joining side gives up", async () => {
  const [, b] = (await createSwitch(2)) as [Machine, Machine];
  const joining = start(["pipe", "7-guitar-sandwich", "--lan", "--timeout", "2"], { namespace: b.namespace });
  await fail(joining, 3);
  expect(joining.error).toMatchObject({ code: "TIMEOUT" });
});

rootTest("where the joining side cannot reach the rendezvous, the local network joins them", async () => {
  const [a, b] = (await createSwitch(2)) as [Machine, Machine];
  // On a's own loopback, so b's way to it ends at b.
  const server = await startServer([], { namespace: a.namespace });
  const here = ["--lan", "--rendezvous", server.url];
  const waiting = start(["pipe", ...here], { namespace: a.namespace, stdin: "pipe" });
  const code = await waiting.code();
  expect(waiting.find("code")).toEqual({ event: "code", code, link: `${server.url}#${code}` });
  const joining = start(["pipe", code, ...here], { namespace: b.namespace, stdin: "pipe" });
  await Promise.all([waiting.event("connected"), joining.event("connected")]);
  // A third one is refused by the rendezvous, and hears nothing on the local network.
  const third = start(["pipe", code, ...here], { namespace: a.namespace });
  await fail(third, 4);
  expect(["CODE_UNKNOWN", "CODE_USED"]).toContain(third.error?.code);
  const fourth = start(["pipe", code, "--lan", "--timeout", "2"], { namespace: b.namespace });
  await fail(fourth, 3);
  waiting.stdin.end("there");
  joining.stdin.end();
  await succeed(waiting, joining);
  expect(joining.stdout.toString()).toBe("there");
});

rootTest("with both, and both in reach, one session comes of it", async () => {
  const [a, b] = (await createSwitch(2)) as [Machine, Machine];
  const server = await startServer([], { namespace: a.namespace, address: a.address });
  const here = ["--lan", "--rendezvous", server.url];
  for (let i = 0; i < 3; i++) {
    const waiting = start(["pipe", ...here], { namespace: a.namespace, stdin: Buffer.from("there") });
    const joining = start(["pipe", await waiting.code(), ...here], { namespace: b.namespace });
    await succeed(waiting, joining);
    expect(joining.stdout.toString()).toBe("there");
    expect(waiting.events.filter(({ event }) => event === "connected")).toHaveLength(1);
  }
});
