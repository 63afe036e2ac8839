/**
 * The 1-byte echo over dcpipe's library, idle and beside a bulk stream of the same session.
 *
 *   node test/bench/echo.js wait                 prints {"event":"offer","token":"dc1..."}
 *   node test/bench/echo.js join TOKEN SECONDS   prints {"event":"latency",...} (latency.js)
 *
 * It needs the built library (`npm run build`).
 */
import { connect, listen } from "dcpipe";
import { measureLatency } from "./latency.js";

/** Headers of the two streams: what they are for is between the two sides of this program. */
const ECHO = Uint8Array.of(1);
const BULK = Uint8Array.of(2);

const CHUNK = new Uint8Array(64 * 1024);

function report(event, values) {
  process.stdout.write(`${JSON.stringify({ event, ...values })}\n`);
}

async function wait() {
  const { offer, session: coming } = await listen({ stun: [] });
  report("offer", { token: offer });
  const session = await coming;
  const streams = [await session.accept(), await session.accept()];
  const echo = streams.find(({ header }) => header[0] === ECHO[0]);
  const bulk = streams.find((stream) => stream !== echo);
  discard(bulk).catch(() => {}); // The other side resets it.
  for (let chunk; (chunk = await echo.read());) await echo.write(chunk.slice());
  await echo.end();
  await session.close();
}

async function join(token, seconds) {
  const session = await connect(token, { stun: [] }).session;
  const echo = session.open(ECHO);
  const bulk = session.open(BULK);
  const byte = new Uint8Array(1);
  const latency = await measureLatency({
    seconds,
    ping: async () => {
      await echo.write(byte);
      await echo.read();
    },
    fill: async (stopped) => {
      while (!stopped()) await bulk.write(CHUNK);
    },
    delivered: async () => bulk.acknowledged,
  });
  report("latency", latency);
  bulk.reset("CLOSED");
  await Promise.all([echo.end(), discard(echo)]);
  await session.close();
}

async function discard(stream) {
  while (await stream.read());
}

const [verb, token, seconds] = process.argv.slice(2);
if (verb === "wait") await wait();
else if (verb === "join" && token) await join(token, Number(seconds));
else {
  console.error("usage: echo.js wait | join TOKEN SECONDS");
  process.exitCode = 2;
}
