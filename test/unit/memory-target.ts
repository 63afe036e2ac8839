/**
 * A filesystem in memory to receive into, and things around the target that must stay as they are. It minds the promises of
 * TargetDirectory, and writes down when the other side of them is broken: a name that is more than one component, a directory
 * used after it was closed, a file never given back. With `careless` it does what a plain path API would: every path is
 * walked anew, and links are followed wherever they lead. A receiver must be safe on top of that, too, as far as it can look.
 */
import type { Attributes, FileSink, Found, Source, TargetDirectory } from "../../src/apps/endpoints.ts";
import { DcpipeError } from "../../src/errors.ts";

interface FileNode {
  readonly kind: "file";
  content: Uint8Array;
  mode: number;
  mtime: number;
}

interface DirectoryNode {
  readonly kind: "directory";
  readonly entries: Map<string, { readonly name: string; node: Node }>;
  /** What earlier tries left, by the name it would have had. */
  readonly parts: Map<string, Uint8Array>;
  mode: number;
  mtime: number;
}

interface LinkNode {
  readonly kind: "link";
  readonly target: string;
  readonly mtime: number;
}

/** A device, a pipe, a socket. */
interface OtherNode {
  readonly kind: "other";
}

type Node = FileNode | DirectoryNode | LinkNode | OtherNode;

export interface MemoryOptions {
  /** Names that differ in case or normalization are one; the first spelling stays. */
  readonly folding?: boolean;
  readonly careless?: boolean;
  /** Bytes that fit. */
  readonly capacity?: number;
}

/** Where the target is; everything else is outside. */
const TARGET = "/home/user/target";
const MAX_LINKS = 40;

function newDirectory(): DirectoryNode {
  return { kind: "directory", entries: new Map(), parts: new Map(), mode: 0o755, mtime: 0 };
}

function newFile(text: string): FileNode {
  return { kind: "file", content: new TextEncoder().encode(text), mode: 0o644, mtime: 0 };
}

function exists(name: string): DcpipeError {
  return new DcpipeError("EXISTS", `EEXIST: ${JSON.stringify(name)}`);
}

function io(what: string): DcpipeError {
  return new DcpipeError("IO", what);
}

export class MemoryDisk {
  readonly folding: boolean;
  readonly careless: boolean;
  /** Every change, with the path it was asked for. */
  readonly writes: string[] = [];
  /** What was asked that must not be asked of a target. */
  readonly violations: string[] = [];
  /** Handles that are open; the target's own is not counted. */
  readonly open = new Set<object>();
  readonly #root = newDirectory();
  readonly #before: Map<string, string>;
  #room: number;

  constructor(options: MemoryOptions = {}) {
    this.folding = options.folding ?? false;
    this.careless = options.careless ?? false;
    this.#room = options.capacity ?? Infinity;
    for (const path of ["/etc", "/home/user/.ssh", "/home/user/outside", "/proc/self", "/tmp", "/x", TARGET])
      this.plant(path, newDirectory());
    for (const [path, text] of [
      ["/etc/passwd", "root"],
      ["/home/user/.ssh/authorized_keys", "mine"],
      ["/home/user/.bashrc", "rc"],
      ["/home/user/outside/secret", "secret"],
      ["/home/user/x", "x"],
      ["/proc/self/environ", "env"],
    ] as const)
      this.plant(path, newFile(text));
    this.#before = this.#list(this.#root, "");
  }

  get target(): TargetDirectory {
    return new MemoryDirectory(this, this.#targetNode(), TARGET, false);
  }

  /** Puts something into the target that was there before, by a path below it. */
  put(path: string, what: { file: string } | { link: string } | "directory" | "other"): void {
    const node: Node =
      what === "directory"
        ? newDirectory()
        : what === "other"
          ? { kind: "other" }
          : "file" in what
            ? newFile(what.file)
            : { kind: "link", target: what.link, mtime: 0 };
    this.plant(`${TARGET}/${path}`, node);
  }

  plant(path: string, node: Node): void {
    const parts = path.slice(1).split("/");
    const last = parts.pop() ?? "";
    let directory = this.#root;
    for (const name of parts) {
      const found = directory.entries.get(this.key(name));
      const next = found?.node ?? newDirectory();
      if (next.kind !== "directory") throw new Error(`${path}: ${name} is a ${next.kind}`);
      if (!found) directory.entries.set(this.key(name), { name, node: next });
      directory = next;
    }
    directory.entries.set(this.key(last), { name: last, node });
  }

  /** What is in the target: "directory", "link: where to", "file: content", by path. Partial files are not told. */
  contents(): Map<string, string> {
    return this.#list(this.#targetNode(), "");
  }

  attributes(path: string): Attributes | undefined {
    const node = this.#find(path);
    return node?.kind === "file" || node?.kind === "directory"
      ? { mode: node.mode, mtime: node.mtime }
      : undefined;
  }

  /** The content of a file below the target. */
  fileOf(path: string): Uint8Array | undefined {
    const node = this.#find(path);
    return node?.kind === "file" ? node.content : undefined;
  }

  /** What an earlier try left of a file in the target itself. */
  putPart(name: string, content: Uint8Array): void {
    this.#targetNode().parts.set(this.key(name), content);
  }

  #find(path: string): Node | undefined {
    let node: Node = this.#targetNode();
    for (const name of path.split("/")) {
      const next: Node | undefined =
        node.kind === "directory" ? node.entries.get(this.key(name))?.node : undefined;
      if (!next) return undefined;
      node = next;
    }
    return node;
  }

  /** Paths outside the target that are not as they were. */
  outsideChanges(): string[] {
    const now = this.#list(this.#root, "");
    const paths = new Set([...now.keys(), ...this.#before.keys()]);
    return [...paths].filter(
      (path) =>
        !`/${path}`.startsWith(`${TARGET}/`) && (now.get(path) ?? "") !== (this.#before.get(path) ?? ""),
    );
  }

  // What follows is for the directories.

  key(name: string): string {
    return this.folding ? name.normalize("NFC").toLowerCase() : name;
  }

  /** A name must be one component, whatever else it is. */
  check(name: string, what: string): void {
    const bytes = new TextEncoder().encode(name).length;
    if (name === "" || name === "." || name === ".." || /[/\0]/.test(name) || bytes > 255) {
      this.violations.push(`${what} of ${JSON.stringify(name)}`);
      if (!this.careless || name.includes("\0") || bytes > 255) throw io("EINVAL");
    }
  }

  use(bytes: number): void {
    if (bytes > this.#room) throw new DcpipeError("NO_SPACE", "ENOSPC");
    this.#room -= bytes;
  }

  /** As the kernel does it: every component but perhaps the last is followed. Undefined when there is nothing. */
  resolve(
    path: string,
    followLast: boolean,
  ): { parent: DirectoryNode; name: string; node: Node | undefined } {
    const rest = path.split("/").filter((part) => part !== "");
    const way: DirectoryNode[] = [this.#root];
    let links = 0;
    for (;;) {
      const here = way.at(-1) ?? this.#root;
      const name = rest.shift();
      if (name === undefined) return { parent: here, name: ".", node: here };
      if (name === ".") continue;
      if (name === "..") {
        if (way.length > 1) way.pop();
        continue;
      }
      const node = here.entries.get(this.key(name))?.node;
      const last = rest.length === 0;
      if (node?.kind === "link" && (!last || followLast)) {
        if (++links > MAX_LINKS) throw io("ELOOP");
        if (node.target.startsWith("/")) way.length = 1;
        rest.unshift(...node.target.split("/").filter((part) => part !== ""));
        continue;
      }
      if (last) return { parent: here, name, node };
      if (!node) throw io("ENOENT");
      if (node.kind !== "directory") throw io("ENOTDIR");
      way.push(node);
    }
  }

  #targetNode(): DirectoryNode {
    const { node } = this.resolve(TARGET, false);
    if (node?.kind !== "directory") throw new Error("the target is gone");
    return node;
  }

  #list(directory: DirectoryNode, prefix: string): Map<string, string> {
    const found = new Map<string, string>();
    for (const { name, node } of directory.entries.values()) {
      const path = prefix === "" ? name : `${prefix}/${name}`;
      if (node.kind === "file") found.set(path, `file: ${new TextDecoder().decode(node.content)}`);
      else if (node.kind === "link") found.set(path, `link: ${node.target}`);
      else found.set(path, node.kind);
      if (node.kind === "directory")
        for (const [below, what] of this.#list(node, path)) found.set(below, what);
    }
    return found;
  }
}

class MemoryDirectory implements TargetDirectory {
  readonly fresh: boolean;
  readonly folding: boolean;
  readonly #disk: MemoryDisk;
  readonly #own: DirectoryNode;
  readonly #path: string;
  #closed = false;

  constructor(disk: MemoryDisk, node: DirectoryNode, path: string, fresh: boolean) {
    this.#disk = disk;
    this.#own = node;
    this.#path = path;
    this.fresh = fresh;
    this.folding = disk.folding;
  }

  async find(name: string): Promise<Found | undefined> {
    const { node } = await this.#look(name, "find", false);
    if (!node) return undefined;
    const size = node.kind === "file" ? node.content.length : 0;
    return { kind: node.kind, size, ...(node.kind === "link" ? { target: node.target } : {}) };
  }

  async directory(name: string): Promise<TargetDirectory> {
    const { parent, last, node } = await this.#look(name, "directory", this.#disk.careless);
    if (node && node.kind !== "directory") throw exists(name);
    const made = node ?? newDirectory();
    if (!node) this.#put(parent, last, made, "mkdir");
    const directory = new MemoryDirectory(this.#disk, made, `${this.#path}/${name}`, node === undefined);
    this.#disk.open.add(directory);
    return directory;
  }

  async read(name: string): Promise<Source> {
    const { node } = await this.#look(name, "read", this.#disk.careless);
    if (node?.kind !== "file") throw io(node ? "ELOOP" : "ENOENT");
    return bytesSource(node.content);
  }

  async part(name: string): Promise<{ readonly size: number; readonly content: Source } | undefined> {
    const { parent } = await this.#look(name, "part", false);
    const part = parent.parts.get(this.#disk.key(name));
    return part && { size: part.length, content: bytesSource(part) };
  }

  async forget(name: string): Promise<void> {
    const { parent } = await this.#look(name, "forget", false);
    parent.parts.delete(this.#disk.key(name));
  }

  async create(name: string, from: number): Promise<FileSink> {
    const { parent } = await this.#look(name, "create", false);
    const key = this.#disk.key(name);
    const before = parent.parts.get(key);
    if (from > (before?.length ?? 0)) {
      this.#disk.violations.push(`create of ${JSON.stringify(name)} from ${from}`);
      throw io("the partial file is shorter");
    }
    parent.parts.delete(key);
    const chunks: Uint8Array[] = from > 0 && before ? [before.slice(0, from)] : [];
    let over = false;
    const sink: FileSink = {
      write: async (chunk) => {
        await turn();
        if (over) this.#violation(`write to ${JSON.stringify(name)} after its end`);
        this.#disk.use(chunk.length);
        chunks.push(chunk.slice());
      },
      commit: async (attributes, replace) => {
        await turn();
        if (over) this.#violation(`commit of ${JSON.stringify(name)} after its end`);
        // Names are given by rename(2), which follows nothing.
        const target = await this.#look(name, "commit", false);
        const { node } = target;
        if (node && (!replace || node.kind === "directory" || node.kind === "other")) throw exists(name);
        over = true;
        this.#disk.open.delete(sink);
        const content = new Uint8Array(Buffer.concat(chunks));
        this.#put(target.parent, target.last, { kind: "file", content, ...attributes }, "rename");
      },
      abandon: async () => {
        await turn();
        this.#disk.open.delete(sink);
        if (over) return;
        over = true;
        if (chunks.length > 0) parent.parts.set(key, new Uint8Array(Buffer.concat(chunks)));
      },
    };
    this.#disk.writes.push(`create ${this.#path}/${name}`);
    this.#disk.open.add(sink);
    return sink;
  }

  async link(name: string, target: string, mtime: number, replace: boolean): Promise<void> {
    const { parent, last, node } = await this.#look(name, "link", false);
    if (node && (!replace || (node.kind !== "file" && node.kind !== "link"))) throw exists(name);
    if (target === "" || target.includes("\0")) throw io("ENOENT");
    this.#put(parent, last, { kind: "link", target, mtime }, "symlink");
  }

  async finish(attributes: Attributes, force: boolean): Promise<void> {
    const { node } = await this.#look(".", "finish", this.#disk.careless, true);
    this.#closed = true;
    this.#disk.open.delete(this);
    if (node?.kind !== "directory" || !(this.fresh || force)) return;
    this.#disk.writes.push(`chmod ${this.#path}`);
    node.mode = attributes.mode;
    node.mtime = attributes.mtime;
  }

  async close(): Promise<void> {
    await turn();
    this.#closed = true;
    this.#disk.open.delete(this);
  }

  async #look(
    name: string,
    what: string,
    follow: boolean,
    self = false,
  ): Promise<{ parent: DirectoryNode; last: string; node: Node | undefined }> {
    await turn();
    if (this.#closed) this.#violation(`${what} of ${JSON.stringify(name)} in a closed directory`);
    if (!self) this.#disk.check(name, what);
    if (this.#disk.careless) {
      const found = this.#disk.resolve(self ? this.#path : `${this.#path}/${name}`, follow);
      return { parent: found.parent, last: found.name, node: found.node };
    }
    if (self) return { parent: this.#own, last: name, node: this.#own };
    return { parent: this.#own, last: name, node: this.#own.entries.get(this.#disk.key(name))?.node };
  }

  #put(parent: DirectoryNode, name: string, node: Node, what: string): void {
    const key = this.#disk.key(name);
    parent.entries.set(key, { name: parent.entries.get(key)?.name ?? name, node });
    this.#disk.writes.push(`${what} ${this.#path}/${name}`);
  }

  #violation(what: string): never {
    this.#disk.violations.push(what);
    throw io(what);
  }
}

/** Nothing on a disk happens at once. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** In small pieces, each in a buffer that is used again. */
function bytesSource(content: Uint8Array): Source {
  const buffer = new Uint8Array(4096);
  let at = 0;
  return {
    read: async () => {
      await turn();
      if (at >= content.length) return undefined;
      const piece = content.subarray(at, at + buffer.length);
      buffer.fill(0xee);
      buffer.set(piece);
      at += piece.length;
      return buffer.subarray(0, piece.length);
    },
    cancel: () => undefined,
  };
}
