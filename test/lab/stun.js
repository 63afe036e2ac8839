/**
 * A STUN server that answers Binding requests over IPv4 (RFC 8489) and does nothing else.
 *
 *   node test/lab/stun.js ADDRESS PORT      says "ready"
 */
import { createSocket } from "node:dgram";

const COOKIE = 0x2112a442;
const REQUEST = 0x0001;
const RESPONSE = 0x0101;
const XOR_MAPPED_ADDRESS = 0x0020;
const HEADER = 20;
const IPV4 = 1;

const [address, port] = process.argv.slice(2);
const socket = createSocket("udp4");
socket.on("message", (request, from) => {
  if (request.length < HEADER || request.readUInt16BE(0) !== REQUEST || request.readUInt32BE(4) !== COOKIE)
    return;
  const response = Buffer.alloc(HEADER + 12);
  response.writeUInt16BE(RESPONSE, 0);
  response.writeUInt16BE(12, 2);
  request.copy(response, 4, 4, HEADER);
  response.writeUInt16BE(XOR_MAPPED_ADDRESS, HEADER);
  response.writeUInt16BE(8, HEADER + 2);
  response.writeUInt8(IPV4, HEADER + 5);
  response.writeUInt16BE(from.port ^ (COOKIE >>> 16), HEADER + 6);
  for (const [i, part] of from.address.split(".").entries())
    response.writeUInt8(Number(part) ^ request.readUInt8(4 + i), HEADER + 8 + i);
  socket.send(response, from.port, from.address);
});
socket.bind(Number(port), address, () => console.log("ready"));
