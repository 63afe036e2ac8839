/** A page and a dcpipe process at the two ends of a pipe. */
import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { startServer } from "../e2e/code.ts";
import { sha256, start, succeed } from "../e2e/dcpipe.ts";
import { KINDS, openPage } from "./harness.ts";

const SIZE = 3 * 1024 * 1024;

/** In a page: pipes so many random bytes out, and tells the hashes of what went out and came in. */
async function pipeInPage({
  rendezvous,
  code,
  size,
}: {
  rendezvous: string;
  code: string | null;
  size: number;
}): Promise<{ sent: string; received: string; path: string }> {
  let path = "";
  const options: Parameters<typeof dcpipe.listenByCode>[0] = {
    rendezvous,
    stun: [],
    relay: "off",
    onevent: (event) => {
      if (event.event === "connected") path = event.path;
    },
  };
  let meeting;
  if (code === null) {
    const waiting = await dcpipe.listenByCode(options);
    tell("code", dcpipe.formatCode(waiting.code));
    meeting = waiting.session;
  } else meeting = (await dcpipe.connectByCode(dcpipe.parseCode(code), options)).session;
  const session = await meeting;
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
  const parts: Uint8Array<ArrayBuffer>[] = [];
  await dcpipe.pipe(session, code === null ? "waiting" : "joining", {
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
  const hash = async (blob: Blob): Promise<string> =>
    Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer())), (byte) =>
      byte.toString(16).padStart(2, "0"),
    ).join("");
  return { sent: await hash(new Blob([bytes])), received: await hash(new Blob(parts)), path };
}

for (const kind of KINDS) {
  test(`${kind} waits, dcpipe pipe joins`, async (context) => {
    const page = await openPage(context, kind);
    const server = await startServer();
    const done = page.run(pipeInPage, { rendezvous: server.url, code: null, size: SIZE });
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
