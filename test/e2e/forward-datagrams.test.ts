/** UDP through dcpipe forward: datagrams of all sizes stay whole, and each client hears its own answers. */
import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { ask, forwardPair, openDatagrams, portOf, serveDatagrams } from "./forward.ts";

/** The largest that one packet of IPv4 takes is 65,507 bytes. */
const SIZES = [0, 1, 100, 1000, 1200, 1472, 8000, 60_000, 65_507];

test("datagrams of all sizes, empty and enormous", async () => {
  const port = await serveDatagrams((datagram) => datagram);
  const { joining } = await forwardPair([`${port}/udp`], ["-L", `0:localhost:${port}/udp`]);
  const listening = await joining.event("listening");
  expect(listening).toMatchObject({ protocol: "udp", address: "127.0.0.1", target: `localhost:${port}/udp` });
  const socket = await openDatagrams();
  for (const size of SIZES) {
    const question = randomBytes(size);
    await ask(socket, Number(listening["port"]), question, (datagram) => datagram.equals(question));
  }
});

test("the joining side listens for an offer of UDP at its port", async () => {
  const port = await serveDatagrams((datagram) => datagram, "127.0.0.2");
  const { joining } = await forwardPair([`127.0.0.2:${port}/udp`], []);
  expect(await joining.event("listening")).toMatchObject({ protocol: "udp", port });
  const question = Buffer.from("hello");
  await ask(await openDatagrams(), port, question, (datagram) => datagram.equals(question));
});

test("-R takes datagrams at the other side", async () => {
  const port = await serveDatagrams((datagram) => datagram);
  const { joining } = await forwardPair([], ["-R", `0:localhost:${port}/udp`]);
  const there = await portOf(joining, ({ peer }) => peer === true);
  const question = Buffer.from("hello");
  await ask(await openDatagrams(), there, question, (datagram) => datagram.equals(question));
});

test("a hundred clients at once: each hears what it said, and nothing else", async () => {
  const port = await serveDatagrams((datagram) => datagram);
  const { joining } = await forwardPair([`${port}/udp`], ["-L", `0:localhost:${port}/udp`]);
  const listening = await portOf(joining);
  const foreign: string[] = [];
  await Promise.all(
    Array.from({ length: 100 }, async (_, client) => {
      const socket = await openDatagrams();
      const own = `client ${client}, `;
      socket.on("message", (datagram) => {
        if (!datagram.toString().startsWith(own)) foreign.push(`${own} heard ${datagram.toString()}`);
      });
      for (let turn = 0; turn < 5; turn++) {
        const question = Buffer.from(`${own}turn ${turn}`);
        await ask(socket, listening, question, (datagram) => datagram.equals(question));
      }
    }),
  );
  expect(foreign).toEqual([]);
});

test("IPv6", async () => {
  const port = await serveDatagrams((datagram) => datagram, "::1");
  const { joining } = await forwardPair([`[::1]:${port}/udp`], ["-L", `[::1]:0:[::1]:${port}/udp`]);
  const socket = await openDatagrams("::1");
  const question = Buffer.from("hello");
  await ask(socket, await portOf(joining), question, (datagram) => datagram.equals(question), "::1");
});

test("what is not offered is refused, and both sides say so", async () => {
  const port = await serveDatagrams((datagram) => datagram);
  // The same port by TCP is not the same thing.
  const { waiting, joining } = await forwardPair([String(port)], ["-L", `0:localhost:${port}/udp`]);
  const socket = await openDatagrams();
  await joining.event("connected");
  socket.send("hello", await portOf(joining), "127.0.0.1");
  const target = `localhost:${port}/udp`;
  expect(await waiting.event("refused")).toMatchObject({ by: "us", target });
  expect(await joining.event("refused")).toMatchObject({ by: "them", target });
});
