/** Datagrams between two sessions over WebRTC, beside a stream that moves data at full speed. */
import { randomBytes } from "node:crypto";
import { expect, onTestFinished, test } from "vitest";
import type * as Library from "../../src/index.ts";

const INDEX = new URL("../../dist/index.js", import.meta.url).href;
const { connect, listen } = (await import(INDEX)) as typeof Library;

const COUNT = 1000;
const LONGEST = 9000;
const CONTENT = 32 * 1024 * 1024;
/** What the other side says in a datagram when it has the channel. */
const HELLO = 0xff;

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

test("a thousand of up to 9,000 bytes arrive, while a stream moves data", async () => {
  const offering = await listen({ stun: [] });
  const [waiting, joining] = await Promise.all([
    offering.session,
    connect(offering.offer, { stun: [] }).session,
  ]);
  onTestFinished(async () => {
    await Promise.all([waiting.close(), joining.close()]);
  });
  // Both ask: one channel serves both ways.
  for (const session of [waiting, joining]) session.wantDatagrams();
  const flow = joining.open(Uint8Array.of(6));
  const echo = await waiting.accept();
  echo.ondatagram = (payload) => echo.sendDatagram(payload);
  await new Promise<void>((resolve) => {
    flow.ondatagram = () => {
      resolve();
    };
    const hello = setInterval(() => {
      flow.sendDatagram(Uint8Array.of(HELLO));
    }, 20);
    onTestFinished(() => {
      clearInterval(hello);
    });
    void waiting.closed.catch(() => undefined);
  });

  const payloads = Array.from({ length: COUNT }, (_, i) => {
    const payload = randomBytes(i < 10 ? i : Math.round((i * LONGEST) / (COUNT - 1)));
    if (payload.length >= 4) payload.writeUInt32BE(i);
    return payload;
  });
  let right = 0;
  const wrong: string[] = [];
  const seen = new Set<number>();
  flow.ondatagram = (payload) => {
    const bytes = Buffer.from(payload);
    if (bytes.length < 4) {
      if (bytes.equals(payloads[bytes.length] ?? Buffer.alloc(0))) right++;
      else if (bytes[0] !== HELLO) wrong.push(bytes.toString("hex"));
      return;
    }
    const number = bytes.readUInt32BE();
    if (seen.has(number) || !payloads[number]?.equals(bytes)) wrong.push(`${number}: ${bytes.length} bytes`);
    seen.add(number);
    right++;
  };

  const content = randomBytes(CONTENT);
  const mover = waiting.open(Uint8Array.of(1));
  const mine = await joining.accept();
  let moving = true;
  const moved = (async () => {
    await mover.write(content);
    await Promise.all([mover.end(), mine.end(), mover.read()]);
  })();
  const read = (async () => {
    let at = 0;
    for (let chunk = await mine.read(); chunk; chunk = await mine.read()) {
      expect(content.subarray(at, at + chunk.length).equals(chunk)).toBe(true);
      at += chunk.length;
    }
    moving = false;
    return at;
  })();
  let during = 0;
  for (const payload of payloads) {
    if (moving) during++;
    expect(flow.sendDatagram(payload)).toBe(true);
    // As fast as an eager program, and slower than the channel: 9 MB a second at the most.
    await delay(1);
  }
  const deadline = performance.now() + 5000;
  while (right < COUNT && performance.now() < deadline) await delay(10);
  expect(wrong).toEqual([]);
  expect(right).toBeGreaterThan(0.9 * COUNT);
  expect(during).toBeGreaterThan(0);
  const [length] = await Promise.all([read, moved]);
  expect(length).toBe(CONTENT);
  expect(joining.datagramsReady && waiting.datagramsReady).toBe(true);
  flow.reset();
  // The waiting side takes notice of the end of its flow by itself.
  await echo.closed.catch(() => undefined);
});
