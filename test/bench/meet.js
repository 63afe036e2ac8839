/**
 * One end of a meeting whose time is taken: both processes run, all modules are loaded, and the clock starts when the joining one
 * is given the other's code or token.
 *
 *   meet.js wait KIND [URL]   prints {"peer"}, waits for the session, ends with it
 *   meet.js join KIND [URL]   prints {"ready"}, reads PEER from a line, prints {"met"}: ms to the session, and to the first byte
 *                             of the other side
 *
 * KIND is `code`, `direct` (a code, without the relay), `relay` (nothing else) or `token`, URL that of the rendezvous.
 */
import { createInterface } from "node:readline";
import {
  connect,
  connectByCode,
  formatCode,
  listen,
  listenByCode,
  parseCode,
  preload,
} from "../../dist/index.js";

const say = (object) => console.log(JSON.stringify(object));

const [, , verb, kind, rendezvous] = process.argv;
const relay = { direct: "off", relay: "only" }[kind];
const byCode = kind !== "token";
const options = { rendezvous, lan: false, stun: [], relay };

if (verb === "wait") {
  const waiting = byCode ? await listenByCode(options) : await listen(options);
  preload();
  say({ event: "peer", peer: byCode ? formatCode(waiting.code) : waiting.offer });
  const session = await waiting.session;
  void session.open(Uint8Array.of(1)).write(Uint8Array.of(1));
  await session.closed.catch(() => undefined);
} else {
  preload();
  // Whatever is loaded on first use.
  await Promise.all([
    import("../../dist/connect/code.js"),
    import("../../dist/node/websocket.js"),
    import("ws"),
  ]);
  say({ event: "ready" });
  for await (const peer of createInterface({ input: process.stdin })) {
    const begun = performance.now();
    const joining = byCode ? await connectByCode(parseCode(peer), options) : connect(peer, options);
    const session = await joining.session;
    const met = performance.now() - begun;
    await (await session.accept()).read();
    say({ event: "met", ms: met, byte: performance.now() - begun });
    await session.abort("ABORTED", "");
    break;
  }
}
process.exit(0);
