/** Datagrams between two sessions over WebRTC, beside a stream that moves data at full speed. */
import { randomBytes } from "node:crypto";
import { expect, onTestFinished, test } from "vitest";
import type * as Library from "../../src/index.ts";

const INDEX = new URL("../../dist/index.js", import.meta.url).href;
const { connect, listen } = (await import(INDEX)) as typeof Library;

const MIB = 1024 * 1024;
const COUNT = 1000;
const LONGEST = 9000;
/** Asks for an echo until there is one. */
const KNOCK = Uint8Array.of(0xff);
/** From the last datagram sent to the last one that comes, at most. */
const PATIENCE_MS = 5000;

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

test("a thousand of up to 9,000 bytes go there and back, while a stream moves data", async () => {
  const offering = await listen({ stun: [] });
  const answering = connect(offering.offer, { stun: [] });
  const [waiting, joining] = await Promise.all([offering.session, answering.session]);
  onTestFinished(async () => {
    await Promise.all([waiting.close(), joining.close()]);
  });
  // Both ask: one channel serves both ways.
  for (const session of [waiting, joining]) session.wantDatagrams();
  const flow = joining.open(Uint8Array.of(6));
  const echo = await waiting.accept();
  echo.ondatagram = (payload) => echo.sendDatagram(payload);
  await new Promise<void>((resolve) => {
    const knocking = setInterval(() => flow.sendDatagram(KNOCK), 10);
    flow.ondatagram = () => {
      clearInterval(knocking);
      resolve();
    };
  });
  expect([waiting.datagramsReady, joining.datagramsReady]).toEqual([true, true]);

  // Its first four bytes say which one it is; the shorter ones are known by their lengths.
  const payloads = Array.from({ length: COUNT }, (_, i) => {
    const payload = randomBytes(i < 10 ? i : Math.round((i * LONGEST) / (COUNT - 1)));
    if (payload.length >= 4) payload.writeUInt32BE(i);
    return payload;
  });
  const right = new Set<number>();
  const wrong: string[] = [];
  flow.ondatagram = (payload) => {
    const bytes = Buffer.from(payload);
    if (bytes.equals(KNOCK)) return;
    const number = bytes.length < 4 ? bytes.length : bytes.readUInt32BE();
    if (payloads[number]?.equals(bytes) && !right.has(number)) right.add(number);
    else wrong.push(`${number}: ${bytes.length} bytes`);
  };

  const block = randomBytes(MIB);
  const mover = waiting.open(Uint8Array.of(1));
  const moved = await joining.accept();
  const stop = new AbortController();
  const writing = (async () => {
    let written = 0;
    for (; !stop.signal.aborted; written += MIB) await mover.write(block);
    await Promise.all([mover.end(), mover.read()]);
    return written;
  })();
  let read = 0;
  let different = 0;
  const reading = (async () => {
    for (let chunk = await moved.read(); chunk; chunk = await moved.read()) {
      const start = read % MIB;
      const first = Math.min(chunk.length, MIB - start);
      if (!block.subarray(start, start + first).equals(chunk.subarray(0, first))) different++;
      if (!block.subarray(0, chunk.length - first).equals(chunk.subarray(first))) different++;
      read += chunk.length;
    }
    await moved.end();
  })();

  for (const payload of payloads) {
    expect(flow.sendDatagram(payload)).toBe(true);
    // An eager program, at some megabytes a second.
    await delay(1);
  }
  const moving = read;
  stop.abort();
  const deadline = performance.now() + PATIENCE_MS;
  while (right.size < COUNT && performance.now() < deadline) await delay(10);
  expect(wrong).toEqual([]);
  expect(right.size).toBeGreaterThan(0.9 * COUNT);
  expect(moving).toBeGreaterThan(MIB);
  const [written] = await Promise.all([writing, reading]);
  expect([read, different]).toEqual([written, 0]);
  flow.reset();
  await expect(echo.closed).rejects.toMatchObject({ code: "INCOMPLETE" });
});
