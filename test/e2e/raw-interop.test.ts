/** dcpipe pipe --raw and other people's WebRTC: browsers, and libraries for Node and Python. Each echoes what comes. */
import { randomBytes } from "node:crypto";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { BROWSERS, openTab, type Tab } from "./browsers.ts";
import { type Dcpipe, Process, sha256, start, succeed, temporaryDirectory } from "./dcpipe.ts";

const SIZE = 3 * 1024 * 1024 + 17;
const PAGE = readFileSync(join(import.meta.dirname, "raw-page.js"), "utf8").replaceAll("export ", "");

/** The answer lies there whole, or not at all. */
function answer(file: string, line: string): void {
  writeFileSync(`${file}.new`, `${line}\n`);
  renameSync(`${file}.new`, file);
}

/** A dcpipe that offers, its offer, and where it looks for the answer. */
async function offers(stdin: Uint8Array): Promise<{ dcpipe: Dcpipe; offer: string; file: string }> {
  const file = join(temporaryDirectory(), "answer");
  const dcpipe = start(["pipe", "--raw", "--answer-file", file], { stdin });
  return { dcpipe, offer: await dcpipe.offer(), file };
}

async function answered(dcpipe: Dcpipe): Promise<string> {
  return String((await dcpipe.event("answer")).token);
}

/** What was sent has come back, and the channel was closed in order. */
async function expectEcho(dcpipe: Dcpipe, bytes: Uint8Array): Promise<void> {
  await succeed(dcpipe);
  expect(dcpipe.stdout.length).toBe(bytes.length);
  expect(sha256(dcpipe.stdout)).toBe(sha256(bytes));
}

/** Runs a statement in the page with the functions of raw-page.js; `return` gives its value. */
function run(tab: Tab, body: string): Promise<unknown> {
  return tab.evaluate(`(async () => { ${PAGE}; ${body} })()`);
}

for (const name of BROWSERS) {
  test(`${name} offers: some MiB come back as they were`, async (context) => {
    const tab = await openTab(context, name);
    const bytes = randomBytes(SIZE);
    const offer = await run(tab, "globalThis.peer = await offering(RTCPeerConnection); return peer.line;");
    const dcpipe = start(["pipe", "--raw", "--to", String(offer)], { stdin: bytes });
    await run(tab, `await peer.take(${JSON.stringify(await answered(dcpipe))});`);
    await expectEcho(dcpipe, bytes);
    // The page is told by an event, behind the last message.
    await expect.poll(() => run(tab, "return kept.readyState")).toBe("closed");
  });

  test(`${name} answers: some MiB come back as they were`, async (context) => {
    const tab = await openTab(context, name);
    const bytes = randomBytes(SIZE);
    const { dcpipe, offer, file } = await offers(bytes);
    const line = await run(
      tab,
      `globalThis.peer = await answering(RTCPeerConnection, ${JSON.stringify(offer)}); return peer.line;`,
    );
    answer(file, String(line));
    await expectEcho(dcpipe, bytes);
    await expect.poll(() => run(tab, "return kept.readyState")).toBe("closed");
  });

  test(`${name} offers by half trickle: candidates in lines of their own, and text messages`, async (context) => {
    const tab = await openTab(context, name);
    // The offer as it is before any address is known, then the candidates, then their end.
    const lines = await run(
      tab,
      `const pc = (globalThis.pc = new RTCPeerConnection());
       const channel = (globalThis.kept = pc.createDataChannel("text"));
       const lines = [];
       const all = new Promise((resolve) => {
         pc.onicecandidate = ({ candidate }) => (candidate ? lines.push(JSON.stringify(candidate)) : resolve());
       });
       const offer = await pc.createOffer();
       await pc.setLocalDescription(offer);
       await all;
       channel.onopen = () => { channel.send("gr\\u00fc\\u00dfe "); channel.send(""); channel.send("\\u2603"); channel.close(); };
       return [JSON.stringify(offer), ...lines, "null"].join("\\n");`,
    );
    expect(String(lines).split("\n").length).toBeGreaterThan(2);
    const dcpipe = start(["pipe", "--raw", "--to", String(lines)]);
    await run(tab, `await pc.setRemoteDescription(${await answered(dcpipe)});`);
    await succeed(dcpipe);
    expect(dcpipe.stdout.toString()).toBe("gr\u00fc\u00dfe \u2603");
  });

  test(`${name} sends some MiB and closes the channel: nothing is missing`, async (context) => {
    const tab = await openTab(context, name);
    const { dcpipe, offer, file } = await offers(new Uint8Array(0));
    const line = await run(
      tab,
      `const pc = (globalThis.pc = new RTCPeerConnection());
       pc.ondatachannel = async ({ channel }) => {
         globalThis.kept = channel;
         channel.onclose = () => pc.close();
         for (let i = 0; i < 256; i++) channel.send(new Uint8Array(16384).fill(i));
         // Firefox may throw away what it still holds at close().
         while (channel.bufferedAmount > 0) await new Promise((resolve) => setTimeout(resolve, 5));
         channel.close();
       };
       await pc.setRemoteDescription(${offer});
       await pc.setLocalDescription(await pc.createAnswer());
       await gathered(pc);
       return JSON.stringify(pc.localDescription);`,
    );
    answer(file, String(line));
    await succeed(dcpipe);
    const expected = Buffer.alloc(256 * 16384, 0).map((_, i) => i >> 14);
    expect(dcpipe.stdout.length).toBe(expected.length);
    expect(sha256(dcpipe.stdout)).toBe(sha256(expected));
  });
}

const NODE = [process.execPath, join(import.meta.dirname, "raw-peer.js")];
const PEERS: Readonly<Record<string, readonly string[]>> = {
  werift: [...NODE, "werift"],
  wrtc: [...NODE, "wrtc"],
  // Debian's package, which its own Python sees.
  aiortc: ["/usr/bin/python3", join(import.meta.dirname, "raw-peer.py")],
};

for (const [library, command] of Object.entries(PEERS)) {
  test(`${library} offers: some MiB come back as they were`, async () => {
    const bytes = randomBytes(SIZE);
    const peer = new Process([...command, "offering"], { stdin: "pipe" });
    await peer.printed("\n");
    const dcpipe = start(["pipe", "--raw", "--to", peer.stdout.toString()], { stdin: bytes });
    peer.stdin.write(`${await answered(dcpipe)}\n`);
    await expectEcho(dcpipe, bytes);
    await succeed(peer);
  });

  test(`${library} answers: some MiB come back as they were`, async () => {
    const bytes = randomBytes(SIZE);
    const { dcpipe, offer, file } = await offers(bytes);
    const peer = new Process([...command, "answering"], { stdin: "pipe" });
    peer.stdin.write(`${offer}\n`);
    await peer.printed("\n");
    answer(file, peer.stdout.toString().trim());
    await expectEcho(dcpipe, bytes);
    await succeed(peer);
  });
}
