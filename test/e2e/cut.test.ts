/** The network between two machines goes away, and comes back or not. */
import { expect } from "vitest";
import { fail, rootTest, start } from "./dcpipe.ts";
import { slowTransfer } from "./slow.ts";

/** What the lab's cable can do. */
interface Veth {
  readonly a: string;
  readonly b: string;
  cut(): Promise<unknown>;
  restore(): Promise<unknown>;
  destroy(): void;
}

async function createVeth(): Promise<Veth> {
  const lab = (await import(new URL("../lab/veth.js", import.meta.url).href)) as {
    createVeth(): Promise<Veth>;
  };
  return lab.createVeth();
}

for (const seconds of [5, 20]) {
  rootTest(
    `a link that is cut for ${seconds} s in mid-transfer`,
    async () => {
      const veth = await createVeth();
      try {
        const transfer = await slowTransfer([veth.a, veth.b]);
        await veth.cut();
        // Not to wait for something, but the length of the cut itself.
        await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
        await veth.restore();
        await transfer.check();
        if (seconds > 15) expect(transfer.receiver.find("reconnecting")).toBeDefined();
      } finally {
        veth.destroy();
      }
    },
    120_000,
  );
}

rootTest("a link that is cut for good: both sides give up", async () => {
  const veth = await createVeth();
  try {
    const waiting = start(["pipe", "--reconnect", "1"], { namespace: veth.a, stdin: "pipe" });
    const joining = start(["pipe", "--reconnect", "1", "--to", await waiting.offer()], {
      namespace: veth.b,
      stdin: "pipe",
    });
    waiting.stdin.write("ready");
    await joining.printed("ready");
    await veth.cut();
    await Promise.all([waiting.event("reconnecting"), joining.event("reconnecting")]);
    await fail(waiting, 6);
    await fail(joining, 6);
  } finally {
    veth.destroy();
  }
});
