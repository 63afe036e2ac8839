/** Looking for UPnP devices: SSDP (UPnP Device Architecture 1.1, section 1.3), as far as one router is meant. */
import { createSocket } from "node:dgram";
import type { Router } from "./client.ts";
import type { Wait } from "./wait.ts";

/** Devices of version 2 answer to version 1, or should; some answer only to the third. */
const TARGETS = [
  "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
  "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
  "upnp:rootdevice",
];
/** Seconds over which devices may spread their answers; the smallest there is. */
const MAX_DELAY_S = 1;
/** Datagrams get lost: how long after the start the search is sent again. What is sent later is answered too late. */
const SEARCHES_MS = [0, 250, 750];
/** An answer is some lines. */
const MAX_ANSWER = 2_048;
/** Descriptions of one router that are worth a look. */
const MAX_LOCATIONS = 4;

/**
 * Searches on the interface of our address alone, until the wait is over or the returned function is called. `onlocation` is called
 * once for each place at the router where a description is said to be, four at most; `onerror` when nothing can be sent.
 */
export function search(
  router: Router,
  { signal, holds }: Wait,
  {
    onlocation,
    onerror,
  }: { readonly onlocation: (location: URL) => void; readonly onerror: (error: unknown) => void },
): () => void {
  const socket = createSocket("udp4");
  if (!holds) socket.unref();
  const timers: ReturnType<typeof setTimeout>[] = [];
  const seen = new Set<string>();
  let isStopped = false;
  const stop = (): void => {
    if (isStopped) return;
    isStopped = true;
    for (const timer of timers) clearTimeout(timer);
    signal.removeEventListener("abort", stop);
    socket.close();
  };
  const send = (): void => {
    for (const { address, port } of router.ssdp)
      for (const target of TARGETS)
        // One of the places may be out of reach; silence says so as well.
        socket.send(encodeSearch(target, address, port), port, address, () => undefined);
  };
  const failed = (error: unknown): void => {
    if (isStopped) return;
    stop();
    onerror(error);
  };
  socket.on("error", failed);
  socket.on("message", (answer, from) => {
    // Nobody but the router may say where the router is.
    if (isStopped || from.address !== router.address) return;
    const location = readLocation(answer, router.address);
    if (!location || seen.has(location.href) || seen.size === MAX_LOCATIONS) return;
    seen.add(location.href);
    onlocation(location);
  });
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  else
    socket.bind({ address: router.local, port: 0, exclusive: true }, () => {
      if (isStopped) return;
      try {
        // The system would take the interface of its own choice. The time to live stays at 1: the router is next to us.
        socket.setMulticastInterface(router.local);
      } catch (error) {
        failed(error);
        return;
      }
      for (const after of SEARCHES_MS) timers.push(setTimeout(send, after));
      if (!holds) for (const timer of timers) timer.unref();
    });
  return stop;
}

function encodeSearch(target: string, address: string, port: number): string {
  const lines = [
    "M-SEARCH * HTTP/1.1",
    `HOST: ${address}:${port}`,
    'MAN: "ssdp:discover"',
    `MX: ${MAX_DELAY_S}`,
    `ST: ${target}`,
  ];
  return `${lines.join("\r\n")}\r\n\r\n`;
}

/** Where the answer to a search says the description is; undefined unless that is a place at `address`. */
export function readLocation(answer: Buffer, address: string): URL | undefined {
  if (answer.length > MAX_ANSWER) return undefined;
  const text = answer.toString("latin1");
  if (!/^HTTP\/1\.[01] 200\b/.test(text)) return undefined;
  const location = /^location:[ \t]*(\S+)/im.exec(text)?.[1];
  return location === undefined ? undefined : placeAt(address, location);
}

/** A URL, absolute or from `base`, if it leads to the router by HTTP; undefined otherwise. */
export function placeAt(address: string, text: string, base?: URL): URL | undefined {
  if (!URL.canParse(text, base?.href)) return undefined;
  const url = new URL(text, base?.href);
  const isThere = url.protocol === "http:" && url.hostname === address && url.port !== "0";
  return isThere && url.username === "" && url.password === "" ? url : undefined;
}
