/**
 * One host of test/e2e/mapping.test.ts, inside a network namespace: a UDP socket that answers what comes with its own name, and
 * the router asked for a port. Prints what happens as JSON lines.
 *
 *   mapping.js map '{"name":"a","port":41000,"bind":"10.88.1.2","lifetime":8}'
 *       "release" on standard input gives the port back; its end ends the program, which releases nothing by itself
 *   mapping.js probe '{}'
 *   mapping.js knock '{"address":"203.0.113.1","port":41000}'
 *       says who answers there, or that nobody listens (ICMP)
 *   mapping.js hear '{"group":"239.255.255.250","port":1900,"local":"10.99.0.2"}'
 *       says what comes to a multicast group; ends at the end of standard input
 *   mapping.js shout '{"group":"239.255.255.250","port":1900,"local":"10.99.0.1","text":"marker"}'
 */
import { createSocket } from "node:dgram";
import { createInterface } from "node:readline";
import { mapPort, mapPortAt, probeMapping, standardRouter } from "../../dist/node/mapping.js";
import { findGateway } from "../../dist/node/mapping/gateway.js";

/** Until there is an answer of one kind or the other. */
const KNOCK_MS = 200;

const [, , verb, json] = process.argv;
const options = JSON.parse(json);
const say = (event) => console.log(JSON.stringify(event));
const socket = createSocket({ type: "udp4", reuseAddr: verb === "hear" });
const signal = new AbortController().signal;

const verbs = {
  map: () => {
    const { name, port, bind, lifetime } = options;
    let mapping;
    createInterface({ input: process.stdin })
      .on("line", async () => {
        const start = performance.now();
        await mapping?.release();
        say({ released: true, ms: performance.now() - start });
      })
      .on("close", () => socket.close());
    socket.on("message", (_, from) => socket.send(name, from.port, from.address));
    socket.bind({ port, address: bind }, async () => {
      const start = performance.now();
      const request = { port, bind, signal, onlog: (log) => say({ log }) };
      mapping =
        lifetime === undefined
          ? await mapPort(request)
          : await mapPortAt(standardRouter(await findGateway(bind)), { ...request, lifetime });
      const { protocol, port: external, address } = mapping ?? {};
      say({ mapped: mapping ? { protocol, port: external, address } : null, ms: performance.now() - start });
    });
  },
  probe: async () => {
    say({ probe: await probeMapping({ bind: options.bind, signal }) });
    socket.close();
  },
  knock: () => {
    const send = () => socket.send("?");
    let timer;
    const end = (answer) => {
      clearInterval(timer);
      say({ answer });
      socket.close();
    };
    socket.on("message", (message) => end(message.toString()));
    socket.on("error", ({ code }) => end(code));
    socket.connect(options.port, options.address, () => {
      send();
      timer = setInterval(send, KNOCK_MS);
    });
  },
  hear: () => {
    socket.on("message", (message) => say({ heard: message.toString() }));
    socket.bind(options.port, () => {
      socket.addMembership(options.group, options.local);
      say({ ready: true });
    });
    process.stdin.resume().on("end", () => socket.close());
  },
  shout: () => {
    socket.bind(0, options.local, () => {
      socket.setMulticastInterface(options.local);
      socket.send(options.text, options.port, options.group, () => socket.close());
    });
  },
};
await verbs[verb]();
