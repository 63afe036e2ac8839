/** Where received files go in this browser: a folder of the user's, his downloads, or, where there is nothing better, memory. */
import {
  DcpipeError,
  directoryTarget,
  foldsNames,
  streamTarget,
  type IncomingFile,
  type Offer,
  type TargetDirectory,
} from "../browser.ts";
import { h } from "./dom.ts";
import { startDownloads, type Downloads } from "./download.ts";
import { formatBytes } from "./format.ts";

/** What a page may hold in memory, in all: a phone's browser ends pages that take much more. Bytes. */
export const MAX_IN_MEMORY = 256 * 2 ** 20;
/** A long name of a tree becomes one name; what common filesystems take for one, in UTF-8 bytes. */
const MAX_NAME_BYTES = 255;

export interface Saving {
  /** A folder may be chosen. */
  readonly folder: boolean;
  /** Downloads go to disk as they come; without, they are in memory first. */
  readonly streamed: boolean;
  /** Rejects when the user chooses none. */
  chooseFolder(): Promise<TargetDirectory>;
  downloads(): TargetDirectory;
  /** One stream that becomes a file. */
  open(name: string): Promise<WritableStream<Uint8Array>>;
  /** All is done. */
  close(): void;
}

export async function findSaving(): Promise<Saving> {
  const downloads = await startDownloads();
  const open = downloads ? opener(downloads) : inMemory();
  return {
    folder: window.showDirectoryPicker !== undefined,
    streamed: downloads !== undefined,
    chooseFolder: async () => {
      if (!window.showDirectoryPicker)
        throw new DcpipeError("USAGE", "this browser has no folders to choose");
      return directoryTarget(await window.showDirectoryPicker({ mode: "readwrite" }));
    },
    downloads: () => streamTarget(open),
    open: (name) => Promise.resolve(open({ path: name, size: undefined })),
    close: () => {
      downloads?.close();
    },
  };
}

/** Why these files cannot be downloaded here, or undefined. */
export function objectionTo(offer: Offer, { streamed }: Saving): string | undefined {
  if (streamed) return undefined;
  const limit = formatBytes(MAX_IN_MEMORY);
  if (offer.total.bytes > MAX_IN_MEMORY)
    return `This page can only hold downloads in memory here, ${limit} at most; that is more.`;
  return undefined;
}

type Open = Parameters<typeof streamTarget>[0];

function opener(downloads: Downloads): Open {
  return ({ path, size }) => downloads.open(flatten(path), size);
}

/** All that comes is kept until its file is whole, and then given to the browser. Beyond MAX_IN_MEMORY: LIMIT. */
function inMemory(): Open {
  let held = 0;
  return ({ path }: IncomingFile) => {
    const parts: Uint8Array<ArrayBuffer>[] = [];
    return new WritableStream<Uint8Array>({
      write: (chunk) => {
        held += chunk.length;
        if (held > MAX_IN_MEMORY)
          throw new DcpipeError(
            "LIMIT",
            `more than ${formatBytes(MAX_IN_MEMORY)} do not fit into memory here`,
          );
        parts.push(new Uint8Array(chunk));
      },
      close: () => {
        give(flatten(path), new Blob(parts, { type: "application/octet-stream" }));
      },
    });
  };
}

function give(name: string, blob: Blob): void {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  // The browser has taken hold of it when the click is over; some do so a little later.
  setTimeout(() => {
    URL.revokeObjectURL(url);
  }, 60_000);
}

/** Downloads have no folders: "photos/2024/a.jpg" becomes "photos_2024_a.jpg". The end tells more than the beginning. */
function flatten(path: string): string {
  let name = path.replaceAll("/", "_");
  while (new TextEncoder().encode(name).length > MAX_NAME_BYTES) name = name.replace(/^./u, "");
  return name;
}

/**
 * A target that is chosen later, when what comes has been agreed to: nothing but `folding` is asked for before.
 */
export class LaterTarget implements TargetDirectory {
  readonly fresh = false;
  readonly folding = foldsNames();
  #target: TargetDirectory | undefined;

  set(target: TargetDirectory): void {
    this.#target = target;
  }

  get #chosen(): TargetDirectory {
    if (!this.#target) throw new DcpipeError("IO", "no place was chosen for it");
    return this.#target;
  }

  find: TargetDirectory["find"] = (name) => this.#chosen.find(name);
  directory: TargetDirectory["directory"] = (name) => this.#chosen.directory(name);
  read: TargetDirectory["read"] = (name) => this.#chosen.read(name);
  part: TargetDirectory["part"] = (name) => this.#chosen.part(name);
  create: TargetDirectory["create"] = (name, from, size) => this.#chosen.create(name, from, size);
  link: TargetDirectory["link"] = (name, target, mtime, replace) =>
    this.#chosen.link(name, target, mtime, replace);
  // Also called where nothing came but texts, or all was refused.
  finish: TargetDirectory["finish"] = async (attributes, force) => this.#target?.finish(attributes, force);
  forget: TargetDirectory["forget"] = async (name) => this.#target?.forget(name);
  close: TargetDirectory["close"] = async () => this.#target?.close();
}
