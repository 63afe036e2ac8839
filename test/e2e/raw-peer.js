/**
 * A WebRTC library of npm as the other side of `dcpipe pipe --raw`: echoes what comes, and ends when the channel closes.
 *
 *   node raw-peer.js werift|wrtc offering      prints its offer, reads the answer from stdin
 *   node raw-peer.js werift|wrtc answering     reads the offer from stdin, prints its answer
 */
import { createInterface } from "node:readline";
import { answering, offering } from "./raw-page.js";

const [library, role] = process.argv.slice(2);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const nextLine = async () => (await lines.next()).value;
const RTCPeerConnection =
  library === "werift"
    ? (await import("werift")).RTCPeerConnection
    : (await import("@roamhq/wrtc")).default.RTCPeerConnection;

const peer = await (role === "offering"
  ? offering(RTCPeerConnection)
  : answering(RTCPeerConnection, await nextLine()));
process.stdout.write(`${peer.line}\n`);
if (role === "offering") await peer.take(await nextLine());
await new Promise((resolve) => {
  const look = setInterval(() => {
    if (!globalThis.kept || globalThis.kept.readyState !== "closed") return;
    clearInterval(look);
    resolve();
  }, 10);
});
process.exit();
