/** Downloads that are written to disk as they come, by a service worker of the page's origin (worker.ts). */
import { DcpipeError } from "../browser.ts";
import { h } from "./dom.ts";

/** What the worker is told of a download. */
export interface DownloadRequest {
  /** Random: the end of the address that stands for it. */
  readonly id: string;
  readonly name: string;
  /** Bytes, undefined when nobody knows. */
  readonly size: number | undefined;
  readonly stream: ReadableStream<Uint8Array<ArrayBuffer>>;
}

export interface Downloads {
  /** A stream that becomes a file among the user's downloads. */
  open(name: string, size: number | undefined): Promise<WritableStream<Uint8Array>>;
  /** No more will be opened, and all are done. */
  close(): void;
}

const SCRIPT = "download.js";
/** Not the page itself: the worker sees nothing but downloads. */
const SCOPE = "download/";
/** Firefox ends a worker that has been idle for 30 s. */
const STAY_MS = 10_000;
/** After the last byte was given, a browser may still be about to make a file of it. */
const LINGER_MS = 60_000;
/** A script of two KiB from a server that has just sent the page, and a message: what takes longer will not come. */
const START_MS = 10_000;

/** Undefined where there are no such workers: in a page of the user's disk, in some private windows. */
export async function startDownloads(): Promise<Downloads | undefined> {
  // Typed as always there; it is not in a page that is not secure.
  const container = navigator.serviceWorker as ServiceWorkerContainer | undefined;
  if (!container || location.protocol === "file:" || !streamsTravel()) return undefined;
  try {
    const registration = await container.register(scriptUrl(), { scope: SCOPE });
    const worker = await inTime(active(registration));
    return new WorkerDownloads(worker);
  } catch {
    return undefined;
  }
}

/** Whether a stream can be handed to a worker: Safari has learned it late. */
function streamsTravel(): boolean {
  const { port1, port2 } = new MessageChannel();
  const stream = new ReadableStream();
  try {
    port1.postMessage(stream, [stream]);
    return true;
  } catch {
    return false;
  } finally {
    port1.close();
    port2.close();
  }
}

class WorkerDownloads implements Downloads {
  readonly #worker: ServiceWorker;
  readonly #frames: HTMLIFrameElement[] = [];
  readonly #stay: ReturnType<typeof setInterval>;

  constructor(worker: ServiceWorker) {
    this.#worker = worker;
    this.#stay = setInterval(() => {
      worker.postMessage("stay");
    }, STAY_MS);
  }

  async open(name: string, size: number | undefined): Promise<WritableStream<Uint8Array>> {
    const id = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
      byte.toString(16).padStart(2, "0"),
    ).join("");
    const { readable, writable } = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>();
    const { port1, port2 } = new MessageChannel();
    const next = (): Promise<void> =>
      inTime(
        new Promise((resolve) => {
          port1.onmessage = () => {
            resolve();
          };
        }),
      );
    const ready = next();
    const request: DownloadRequest = { id, name, size, stream: readable };
    this.#worker.postMessage(request, [port2, readable]);
    await ready;
    const begun = next();
    const frame = h("iframe", { src: SCOPE + id, hidden: true, title: "download" });
    this.#frames.push(frame);
    document.body.append(frame);
    // A small file may be whole before the browser asks for it.
    await begun;
    port1.close();
    return writable;
  }

  close(): void {
    const frames = this.#frames.splice(0);
    setTimeout(() => {
      clearInterval(this.#stay);
      for (const frame of frames) frame.remove();
    }, LINGER_MS);
  }
}

let script: string | undefined;

/** The one script that may be loaded, whatever else goes wrong here. A policy can be made once. */
function scriptUrl(): string {
  const policy = (script === undefined ? window.trustedTypes : undefined)?.createPolicy("dcpipe", {
    createScriptURL: (url) => {
      if (url !== SCRIPT) throw new TypeError("no script of ours");
      return url;
    },
  });
  return (script ??= policy ? policy.createScriptURL(SCRIPT) : SCRIPT);
}

function active({ installing, waiting, active }: ServiceWorkerRegistration): Promise<ServiceWorker> {
  const worker = installing ?? waiting ?? active;
  if (!worker) return Promise.reject(new Error("no worker"));
  return new Promise((resolve, reject) => {
    const look = (): void => {
      if (worker.state === "activated") resolve(worker);
      else if (worker.state === "redundant") reject(new Error("the worker did not start"));
    };
    worker.addEventListener("statechange", look);
    look();
  });
}

function inTime<T>(promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new DcpipeError("IO", "the browser does not start the download"));
    }, START_MS);
  });
  return Promise.race([promise, late]).finally(() => {
    clearTimeout(timer);
  });
}
