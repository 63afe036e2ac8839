/**
 * Asks a STUN server over IPv4 how one local UDP port looks from there (RFC 8489), and prints "ADDRESS:PORT".
 *
 *   node test/netlab/reflexive.js SERVER SERVER_PORT LOCAL_PORT
 */
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";

const COOKIE = 0x2112a442;
const REQUEST = 0x0001;
const XOR_MAPPED_ADDRESS = 0x0020;
const HEADER = 20;
/** A packet may get lost where mappings come and go. */
const RETRY_MS = 500;

const [server, serverPort, localPort] = process.argv.slice(2);
const request = Buffer.alloc(HEADER);
request.writeUInt16BE(REQUEST, 0);
request.writeUInt32BE(COOKIE, 4);
randomBytes(12).copy(request, 8);

const socket = createSocket("udp4");
socket.on("message", (response) => {
  if (!response.subarray(8, HEADER).equals(request.subarray(8))) return;
  for (
    let at = HEADER;
    at + 4 <= response.length;
    at += 4 + Math.ceil(response.readUInt16BE(at + 2) / 4) * 4
  ) {
    if (response.readUInt16BE(at) !== XOR_MAPPED_ADDRESS) continue;
    const port = response.readUInt16BE(at + 6) ^ (COOKIE >>> 16);
    const address = [0, 1, 2, 3]
      .map((i) => response.readUInt8(at + 8 + i) ^ request.readUInt8(4 + i))
      .join(".");
    console.log(`${address}:${port}`);
    clearInterval(retry);
    socket.close();
    return;
  }
});
await new Promise((resolve) => socket.bind(Number(localPort), resolve));
const send = () => socket.send(request, Number(serverPort), server);
const retry = setInterval(send, RETRY_MS);
send();
