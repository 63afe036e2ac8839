/** A tab that is closed or reloaded: what the other side sees of it. */
import { expect, test } from "vitest";
import { startServer } from "../e2e/code.ts";
import { fail, start } from "../e2e/dcpipe.ts";
import { KINDS, openPage, type BrowserPage, type MeetingOptions } from "./harness.ts";

const GOING: readonly (readonly [string, (page: BrowserPage) => Promise<void>])[] = [
  ["closed", (page) => page.close()],
  ["reloaded", (page) => page.reload()],
];

/** In a page: a pipe without an end. */
async function pipeWithoutEnd(meeting: MeetingOptions): Promise<void> {
  const { session, role } = await tab.meet(meeting);
  tab.tell("met");
  const never = new ReadableStream<Uint8Array>();
  await dcpipe.pipe(session, role, {
    source: dcpipe.readableSource(never),
    sink: dcpipe.writableSink(new WritableStream()),
  });
}

for (const kind of KINDS) {
  for (const [how, go] of GOING) {
    test(`${kind}: the tab is ${how} while a session stands: the other side is told`, async (context) => {
      const page = await openPage(context, kind);
      const server = await startServer();
      // It would wait for a day for one that has only fallen silent.
      const process = start(["pipe", "--rendezvous", server.url, "--reconnect", "86400"], { stdin: "pipe" });
      const code = await process.code();
      void page.run(pipeWithoutEnd, { rendezvous: server.url, code }).catch(() => undefined);
      await page.told("met");
      await process.event("connected");
      await go(page);
      await fail(process, 6, /interrupted/);
      expect(process.events.map(({ event }) => event)).not.toContain("reconnecting");
    });
  }
}

// Firefox cuts a page's WebSockets before it asks the page: there the server forgets the code when nobody has come back for it.
test("chromium: the tab is closed while it waits: its code is gone", async (context) => {
  const page = await openPage(context, "chromium");
  const server = await startServer();
  void page.run(pipeWithoutEnd, { rendezvous: server.url }).catch(() => undefined);
  const code = await page.told<string>("code");
  await page.close();
  await server.counts("dcpipe_mailboxes", 0);
  await fail(start(["pipe", "--to", code, "--rendezvous", server.url]), 4);
});
