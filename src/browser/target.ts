/** Where received files go: a directory that the browser lets the page write to, or streams that the page gives. */
import { sha256 } from "@noble/hashes/sha2.js";
import type { FileSink, Found, Sink, TargetDirectory } from "../apps/endpoints.ts";
import { DcpipeError } from "../errors.ts";
import { blobContent } from "./files/blob.ts";
import { ChunkWriter } from "./files/chunks.ts";
import { fileError } from "./files/failure.ts";
import { writableSink } from "./streams/web.ts";

const PART_SUFFIX = ".dcpipe-part";
/** Names have 255 bytes at most. Of a longer one its digest stands for it, in so many bytes. */
const MAX_BASE = 255 - PART_SUFFIX.length;
const DIGEST_BYTES = 16;
/** Whether this is a system whose filesystems fold names, mostly. */
export function foldsNames(): boolean {
  return /\b(mac|win|iphone|ipad)/i.test(navigator.userAgent);
}

/**
 * A directory of `showDirectoryPicker` or, unseen by the user, of `navigator.storage.getDirectory` (OPFS). A file grows as
 * NAME.dcpipe-part and gets its name when it is whole; what came of it stays for another try. When the page goes in the middle, half of it
 * stays at least, once there are 16 MiB. Browsers cannot set modes and times, nor make links (REFUSED). One page at a time should write there: nothing that
 * a browser has makes a name in one step.
 */
export function directoryTarget(directory: FileSystemDirectoryHandle): TargetDirectory {
  return new BrowserDirectory(directory, false, foldsNames());
}

class BrowserDirectory implements TargetDirectory {
  readonly fresh: boolean;
  readonly folding: boolean;
  readonly #handle: FileSystemDirectoryHandle;

  constructor(handle: FileSystemDirectoryHandle, fresh: boolean, folding: boolean) {
    this.#handle = handle;
    this.fresh = fresh;
    this.folding = folding;
  }

  async find(name: string): Promise<Found | undefined> {
    try {
      const file = await this.#file(name);
      return file && { kind: "file", size: file.size };
    } catch (error) {
      if (error instanceof DcpipeError && error.code === "EXISTS") return { kind: "directory", size: 0 };
      throw error;
    }
  }

  async directory(name: string): Promise<TargetDirectory> {
    const fresh = (await this.find(name)) === undefined;
    try {
      const handle = await this.#handle.getDirectoryHandle(name, { create: true });
      return new BrowserDirectory(handle, fresh, this.folding);
    } catch (error) {
      throw fileError(error, "cannot make the directory");
    }
  }

  async read(name: string): Promise<ReturnType<typeof blobContent>> {
    const file = await this.#file(name);
    if (!file) throw new DcpipeError("IO", "it is not there any more");
    return blobContent(file);
  }

  async part(name: string): ReturnType<TargetDirectory["part"]> {
    const file = await this.#file(partOf(name));
    return file && { size: file.size, content: blobContent(file) };
  }

  async forget(name: string): Promise<void> {
    await this.#handle.removeEntry(partOf(name)).catch(() => undefined);
  }

  async create(name: string, from: number): Promise<FileSink> {
    let part: FileSystemFileHandle;
    let writer: ChunkWriter;
    try {
      part = await this.#handle.getFileHandle(partOf(name), { create: true });
      writer = await ChunkWriter.open(part, from);
    } catch (error) {
      throw fileError(error, "cannot make it");
    }
    return {
      write: (chunk) => writer.write(chunk),
      commit: async (_attributes, replace) => {
        await writer.close();
        if (!replace && (await this.find(name)) !== undefined)
          throw new DcpipeError("EXISTS", "something has this name by now");
        try {
          await this.#rename(part, name);
        } catch (error) {
          throw fileError(error, "cannot give it its name");
        }
      },
      abandon: () => writer.close().catch(() => undefined),
    };
  }

  link(): Promise<void> {
    return Promise.reject(new DcpipeError("REFUSED", "a browser makes no links"));
  }

  finish(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Rejects with EXISTS when the name is that of a directory. */
  async #file(name: string): Promise<File | undefined> {
    try {
      return await (await this.#handle.getFileHandle(name)).getFile();
    } catch (error) {
      if (error instanceof DOMException && error.name === "NotFoundError") return undefined;
      throw fileError(error, "cannot look at it");
    }
  }

  /** Where the browser renames no files (some do so in their own storage only), the content is copied. */
  async #rename(
    part: FileSystemFileHandle & { move?(name: string): Promise<void> },
    name: string,
  ): Promise<void> {
    if (part.move) {
      try {
        await part.move(name);
        return;
      } catch (error) {
        if (
          !(error instanceof DOMException) ||
          !["NotAllowedError", "NotSupportedError", "InvalidModificationError"].includes(error.name)
        )
          throw error;
      }
    }
    const copy = await (await this.#handle.getFileHandle(name, { create: true })).createWritable();
    await (await part.getFile()).stream().pipeTo(copy);
    await this.#handle.removeEntry(part.name);
  }
}

function partOf(name: string): string {
  const bytes = new TextEncoder().encode(name);
  if (bytes.length <= MAX_BASE) return name + PART_SUFFIX;
  const digest = sha256(bytes).subarray(0, DIGEST_BYTES);
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") + PART_SUFFIX;
}

/** A file that comes. Its path is the sender's, with slashes: each part has passed `checkName`; show it as text. */
export interface IncomingFile {
  readonly path: string;
  /** Bytes, undefined when nobody knows. */
  readonly size: number | undefined;
}

/**
 * Each file goes to a stream that the page opens for it: closed when the file is whole and verified, aborted when it is not. Nothing is
 * found there, and nothing resumed. Links are REFUSED.
 */
export function streamTarget(
  open: (file: IncomingFile) => WritableStream<Uint8Array> | Promise<WritableStream<Uint8Array>>,
): TargetDirectory {
  return below(open, "");
}

function below(open: Parameters<typeof streamTarget>[0], path: string): TargetDirectory {
  return {
    fresh: true,
    folding: false,
    find: () => Promise.resolve(undefined),
    directory: (name) => Promise.resolve(below(open, `${path}${name}/`)),
    read: () => Promise.reject(new DcpipeError("IO", "what went into a stream cannot be read")),
    part: () => Promise.resolve(undefined),
    forget: () => Promise.resolve(),
    create: async (name, _from, size) => {
      let sink: Sink & { abort(reason?: unknown): Promise<void> };
      try {
        sink = writableSink(await open({ path: path + name, size }));
      } catch (error) {
        throw fileError(error, "cannot open it");
      }
      return {
        write: (chunk) => sink.write(chunk),
        commit: () => sink.end(),
        abandon: () => sink.abort(new DcpipeError("INCOMPLETE", "it did not come whole")),
      };
    },
    link: () => Promise.reject(new DcpipeError("REFUSED", "a browser makes no links")),
    finish: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}
