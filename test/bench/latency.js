/**
 * How long a 1-byte echo takes, first on an idle path and then beside a bulk stream that fills it. The one measurement for
 * the bare channel (raw.js) and for dcpipe (echo.js).
 */
import { setTimeout as sleep } from "node:timers/promises";

/** Pause between two echoes, ms: enough of them for a median, too few to be a load of their own. */
const PAUSE = 10;

/** Time for the bulk stream to reach its full rate before echoes count, s. */
const WARM_UP = 2;

/**
 * @param {object} subject
 * @param {number} subject.seconds how long to measure, idle and loaded each
 * @param {() => Promise<unknown>} subject.ping one byte there and back
 * @param {(stopped: () => boolean) => Promise<unknown>} subject.fill sends bulk as fast as it goes, until `stopped()`
 * @param {() => Promise<number>} subject.delivered bulk bytes that the other side has received so far
 */
export async function measureLatency({ seconds, ping, fill, delivered }) {
  const idle = await series(ping, seconds);
  let over = false;
  const filling = fill(() => over);
  await sleep(WARM_UP * 1000);
  const [before, begun] = [await delivered(), performance.now()];
  const loaded = await series(ping, seconds);
  const [after, ended] = [await delivered(), performance.now()];
  over = true;
  await Promise.race([filling, sleep(5000, undefined, { ref: false })]);
  return { idle, loaded, bulkMiBps: (after - before) / 2 ** 20 / ((ended - begun) / 1000) };
}

async function series(ping, seconds) {
  const times = [];
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    const begun = performance.now();
    await ping();
    times.push(performance.now() - begun);
    await sleep(PAUSE);
  }
  times.sort((a, b) => a - b);
  const at = (share) => times[Math.min(times.length - 1, Math.floor(times.length * share))];
  return { count: times.length, median: at(0.5), p90: at(0.9), p99: at(0.99), max: times.at(-1) };
}
