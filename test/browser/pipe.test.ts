/** A page and a dcpipe process at the two ends of a pipe. */
import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { startServer } from "../e2e/code.ts";
import { sha256, start, succeed } from "../e2e/dcpipe.ts";
import { KINDS, openPage, type MeetingOptions } from "./harness.ts";

const SIZE = 3 * 1024 * 1024;

/** In a page: pipes so many random bytes out, and tells the hashes of what went out and came in. */
async function pipeInPage({
  size,
  ...meeting
}: MeetingOptions & { size: number }): Promise<{ sent: string; received: string; path: string }> {
  const { session, role, path } = await tab.meet({ relay: "off", ...meeting });
  const bytes = tab.random(size);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  await dcpipe.pipe(session, role, {
    source: dcpipe.readableSource(new Blob([bytes]).stream()),
    sink: dcpipe.writableSink(
      new WritableStream({
        write: (chunk) => {
          parts.push(new Uint8Array(chunk));
        },
      }),
    ),
  });
  await session.close();
  const received = await tab.sha256(await new Blob(parts).arrayBuffer());
  return { sent: await tab.sha256(bytes), received, path: await path };
}

for (const kind of KINDS) {
  test(`${kind} waits, dcpipe pipe joins`, async (context) => {
    const page = await openPage(context, kind);
    const server = await startServer();
    const done = page.run(pipeInPage, { rendezvous: server.url, size: SIZE });
    const code = await page.told<string>("code");
    const input = randomBytes(SIZE);
    const process = start(["pipe", "--to", code, "--rendezvous", server.url], { stdin: input });
    const [exit] = await succeed(process);
    const { sent, received, path } = await done;
    expect(path).toBe("direct");
    expect(received).toBe(sha256(input));
    expect(sha256(exit?.stdout ?? Buffer.alloc(0))).toBe(sent);
  });

  test(`dcpipe pipe waits, ${kind} joins`, async (context) => {
    const page = await openPage(context, kind);
    const server = await startServer();
    const input = randomBytes(SIZE);
    const process = start(["pipe", "--rendezvous", server.url], { stdin: input });
    const code = await process.code();
    const done = page.run(pipeInPage, { rendezvous: server.url, code, size: SIZE });
    const [exit] = await succeed(process);
    const { sent, received, path } = await done;
    expect(path).toBe("direct");
    expect(received).toBe(sha256(input));
    expect(sha256(exit?.stdout ?? Buffer.alloc(0))).toBe(sent);
  });
}
