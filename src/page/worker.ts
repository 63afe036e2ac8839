/**
 * The service worker behind downloads (download.js). The page hands it a stream, and opens the address that the stream then has: to the
 * browser that is a file from a server, which it saves as it comes. It answers nothing else, and keeps nothing.
 */
import type { DownloadRequest } from "./download.ts";

/** What TypeScript's types for pages lack. */
interface WorkerScope extends EventTarget {
  skipWaiting(): Promise<void>;
}
interface FetchEvent extends Event {
  readonly request: Request;
  respondWith(response: Response): void;
}

const scope = globalThis as unknown as WorkerScope;
/** Streams that no request has come for. Their names are random: only who has brought one can ask for it. */
const waiting = new Map<
  string,
  { readonly request: DownloadRequest; readonly page: MessagePort | undefined }
>();

scope.addEventListener("install", () => {
  void scope.skipWaiting();
});

scope.addEventListener("message", (event) => {
  const { data, ports } = event as MessageEvent<DownloadRequest | "stay">;
  // Browsers end a worker that is not spoken to for half a minute, whatever streams it holds.
  if (data === "stay") return;
  waiting.set(data.id, { request: data, page: ports[0] });
  ports[0]?.postMessage("ready");
});

scope.addEventListener("fetch", (event) => {
  const fetching = event as FetchEvent;
  const id = new URL(fetching.request.url).pathname.split("/").at(-1) ?? "";
  const found = waiting.get(id);
  waiting.delete(id);
  fetching.respondWith(found ? answer(found.request) : new Response("not found", { status: 404 }));
  found?.page?.postMessage("begun");
});

function answer({ name, size, stream }: DownloadRequest): Response {
  // RFC 6266; a quote or a line break would end the header, or begin another.
  const plain = name.replace(/[^\w. ()-]/g, "_");
  const exact = encodeURIComponent(name).replace(
    /['()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return new Response(stream, {
    headers: {
      "content-type": "application/octet-stream",
      "content-disposition": `attachment; filename="${plain}"; filename*=UTF-8''${exact}`,
      "content-security-policy": "default-src 'none'",
      "x-content-type-options": "nosniff",
      ...(size === undefined ? {} : { "content-length": String(size) }),
    },
  });
}
