/** WebSockets of the site, opened over the session; each has a port to the document that asked for it. */
import { createWebSocket, type CookieJar } from "../../browser.ts";
import type { SocketMessage, SocketNews, SocketOrder } from "../messages.ts";
import type { Ground } from "./requests.ts";

/** As many as Chromium has for a host. */
const MAX_SOCKETS = 255;
/** What waits to be sent is looked at so often, in milliseconds, while there is any. */
const LOOK_MS = 50;

export interface Sockets {
  /** Opens one, and tells on the port what becomes of it. */
  serve(message: SocketMessage, port: MessagePort): void;
}

export function createSockets({ session, target, places, jar }: Ground): Sockets {
  const cookies: CookieJar = {
    cookie: ({ pathname }) => jar.text(pathname, false),
    store: ({ pathname }, values) => {
      jar.store(pathname, values);
    },
  };
  const headers = { "user-agent": navigator.userAgent };
  const Socket = createWebSocket(session, { target, cookies, headers });
  let open = 0;

  const serve = ({ path, protocols }: SocketMessage, port: MessagePort): void => {
    const tell = (news: SocketNews, transfer: Transferable[] = []): void => {
      port.postMessage(news, transfer);
    };
    const fail = (text: string): void => {
      tell({ type: "error", text });
      tell({ type: "close", code: 1006, reason: "", wasClean: false });
    };
    if (open >= MAX_SOCKETS) {
      fail("too many WebSockets");
      return;
    }
    let socket: InstanceType<typeof Socket>;
    try {
      if (!path.startsWith("/")) throw new TypeError("no path");
      // A path of two slashes would be read as a host.
      socket = new Socket(places.target + path, protocols);
    } catch (cause) {
      fail((cause as Error).message);
      return;
    }
    open++;
    socket.binaryType = "arraybuffer";
    let given = 0;
    let looking: ReturnType<typeof setTimeout> | undefined;
    const look = (): void => {
      looking = undefined;
      const bytes = socket.bufferedAmount;
      tell({ type: "buffered", bytes, given });
      if (bytes > 0 && socket.readyState < 2) looking = setTimeout(look, LOOK_MS);
    };
    socket.onopen = () => {
      tell({ type: "open", protocol: socket.protocol });
    };
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      tell({ type: "message", data }, typeof data === "string" ? [] : [data]);
    };
    socket.addEventListener("error", (event) => {
      tell({ type: "error", text: (event as ErrorEvent).message });
    });
    socket.addEventListener("close", (event) => {
      open--;
      clearTimeout(looking);
      const { code, reason, wasClean } = event as CloseEvent;
      tell({ type: "close", code, reason, wasClean });
    });
    port.onmessage = ({ data: order }: MessageEvent<SocketOrder>) => {
      try {
        if (order.type === "close") socket.close(order.code, order.reason);
        else {
          socket.send(order.data);
          given += sizeOf(order.data);
          looking ??= setTimeout(look);
        }
      } catch {
        // A script speaks here in the document's place: it breaks its own WebSocket.
        socket.close();
      }
    };
  };
  return { serve };
}

function sizeOf(data: string | ArrayBuffer | Blob): number {
  if (typeof data === "string") return new TextEncoder().encode(data).length;
  return data instanceof Blob ? data.size : data.byteLength;
}
