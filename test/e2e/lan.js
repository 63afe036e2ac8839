/**
 * One side of test/e2e/lan.test.ts, inside a network namespace: prints what happens as JSON lines.
 *
 *   lan.js announce '{"nameplate":7,"port":4711}'     ends at the end of standard input
 *   lan.js find '{"nameplate":7}'                     likewise
 *   lan.js isTaken '{"nameplate":7,"timeoutMs":300}'
 */
import { announce, find, isTaken } from "../../dist/node/lan.js";

const [, , verb, json] = process.argv;
const say = (event) => console.log(JSON.stringify(event));
const options = { ...JSON.parse(json), onlog: (log) => say({ log }) };
const ended = new Promise((resolve) => process.stdin.resume().once("end", resolve));

if (verb === "announce") {
  const announcement = await announce(options);
  say({ ready: true });
  await ended;
  announcement.close();
} else if (verb === "find") {
  const stop = new AbortController();
  void ended.then(() => stop.abort());
  await find({ ...options, signal: stop.signal, onfound: (found) => say({ found }) });
} else {
  say({ taken: await isTaken(options) });
  process.stdin.destroy();
}
