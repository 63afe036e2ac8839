/** What is to be sent, as pickers, drops and pages give it. */
import type { SourceEntry, SourceFile, SourceTree } from "../apps/endpoints.ts";
import { DcpipeError } from "../errors.ts";
import { blobContent } from "./files/blob.ts";
import { fileError } from "./files/failure.ts";
import { readableSource } from "./streams/web.ts";

export type Sendable =
  /** Of an `<input type=file>`; one of a chosen folder (`webkitdirectory`) stands in that folder. */
  | File
  /** Of a drop: see `droppedItems`. */
  | FileSystemEntry
  /** Of `showOpenFilePicker` and `showDirectoryPicker`. */
  | FileSystemHandle
  /** Anything with a name. A stream can be sent once. */
  | { readonly name: string; readonly content: Blob | ReadableStream<Uint8Array> }
  | { readonly text: string };

/** A page is not told modes: what a new file and a new directory get elsewhere. */
const FILE_MODE = 0o644;
const DIRECTORY_MODE = 0o755;

/** Files, folders and texts to send. */
export function fileTree(items: Iterable<Sendable>): SourceTree {
  const list = [...items];
  return async function* () {
    const chosen = new Folder();
    for (const item of list) {
      if (item instanceof File) chosen.add(item);
      else if ("text" in item && typeof item.text === "string") yield { kind: "text", text: item.text };
      else if ("content" in item) yield named(item);
      else if (item instanceof FileSystemHandle) yield* walkHandle(item);
      else yield* walkEntry(item as FileSystemEntry);
    }
    yield* chosen.walk();
  };
}

/** What was dropped, folders too. Call it while the event is handled: later there is nothing there. */
export function droppedItems(transfer: DataTransfer): Sendable[] {
  const found = [...transfer.items].map((item) =>
    item.kind === "file" ? (item.webkitGetAsEntry() ?? item.getAsFile()) : null,
  );
  return found.filter((item) => item !== null);
}

/** A directory as the paths of chosen files tell it. */
class Folder {
  readonly #files: File[] = [];
  readonly #folders = new Map<string, Folder>();

  add(file: File): void {
    const path = file.webkitRelativePath.split("/").slice(0, -1);
    this.#below(path).#files.push(file);
  }

  *walk(): Iterable<SourceEntry> {
    for (const file of this.#files) yield fileEntry(file);
    for (const [name, folder] of this.#folders) {
      yield directoryEntry(name);
      yield* folder.walk();
      yield { kind: "up" };
    }
  }

  #below([name, ...rest]: readonly string[]): Folder {
    if (name === undefined) return this;
    let folder = this.#folders.get(name);
    if (!folder) this.#folders.set(name, (folder = new Folder()));
    return folder.#below(rest);
  }
}

async function* walkHandle(handle: FileSystemHandle): AsyncIterable<SourceEntry> {
  if (handle instanceof FileSystemFileHandle) {
    yield await found(handle.name, () => handle.getFile());
  } else if (handle instanceof FileSystemDirectoryHandle) {
    yield directoryEntry(handle.name);
    try {
      for await (const child of handle.values()) yield* walkHandle(child);
    } catch (error) {
      yield missing(handle.name, error);
    }
    yield { kind: "up" };
  }
}

async function* walkEntry(entry: FileSystemEntry): AsyncIterable<SourceEntry> {
  if (entry.isFile) {
    yield await found(
      entry.name,
      () =>
        new Promise<File>((resolve, reject) => {
          (entry as FileSystemFileEntry).file(resolve, reject);
        }),
    );
  } else {
    yield directoryEntry(entry.name);
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    try {
      for (;;) {
        // Some at a time, none at the end.
        const some = await new Promise<FileSystemEntry[]>((resolve, reject) => {
          reader.readEntries(resolve, reject);
        });
        if (some.length === 0) break;
        for (const child of some) yield* walkEntry(child);
      }
    } catch (error) {
      yield missing(entry.name, error);
    }
    yield { kind: "up" };
  }
}

async function found(name: string, look: () => Promise<File>): Promise<SourceEntry> {
  try {
    return fileEntry(await look());
  } catch (error) {
    return missing(name, error);
  }
}

function missing(name: string, error: unknown): SourceEntry {
  return { kind: "missing", name, text: fileError(error, "cannot be read").message };
}

function directoryEntry(name: string): SourceEntry {
  return { kind: "directory", name, mode: DIRECTORY_MODE, mtime: Date.now() * 1000 };
}

function fileEntry(file: File): SourceFile {
  const { name, lastModified } = file;
  return blobEntry(name, file, lastModified);
}

function blobEntry(name: string, blob: Blob, modified: number): SourceFile {
  return {
    kind: "file",
    name,
    size: blob.size,
    mode: FILE_MODE,
    mtime: modified * 1000,
    open: () => Promise.resolve(blobContent(blob)),
  };
}

function named({
  name,
  content,
}: {
  readonly name: string;
  readonly content: Blob | ReadableStream<Uint8Array>;
}): SourceFile {
  if (content instanceof Blob) return blobEntry(name, content, Date.now());
  return {
    kind: "file",
    name,
    size: undefined,
    mode: FILE_MODE,
    mtime: Date.now() * 1000,
    open: () => {
      if (content.locked) return Promise.reject(new DcpipeError("IO", "the stream has been read already"));
      return Promise.resolve({ ...readableSource(content), changed: () => Promise.resolve(undefined) });
    },
  };
}
