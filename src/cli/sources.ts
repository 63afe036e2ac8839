/** What `dcpipe send` was asked to send, as a tree: PATHs, stdin, a text. */
import { lstatSync } from "node:fs";
import {
  checkName,
  checkPaths,
  DcpipeError,
  readableSource,
  stdinSource,
  walkPaths,
  type SourceEntry,
  type SourceFile,
  type SourceTree,
} from "../index.ts";
import { excluder } from "./globs.ts";

/** A text travels as one message. Bytes of UTF-8. */
const MAX_TEXT = 64 * 1024;
/** A device directory has thousands of files that cannot be sent, and nobody reads as many notes. */
const MAX_NOTES = 100;

export interface SourceOptions {
  readonly path?: readonly string[] | undefined;
  readonly name?: string | undefined;
  readonly text?: string | undefined;
  readonly exclude?: readonly string[] | undefined;
  readonly follow?: boolean | undefined;
  readonly stdioSignal: boolean;
}

export interface Sources {
  /** What to call it: the only thing there is; undefined for several. */
  readonly what: string | undefined;
  readonly stdin: boolean;
  /** What should be known beforehand. */
  readonly notes: readonly string[];
  tree(onnote: (text: string) => void): SourceTree;
}

/** Throws USAGE when it makes no sense, or cannot be read. */
export function findSources(options: SourceOptions): Sources {
  const { path: paths = [], name, text, exclude = [], follow = false } = options;
  const stdin = paths.filter((path) => path === "-").length;
  if (stdin > 1) throw new DcpipeError("USAGE", "stdin (-) can be sent once only");
  checkStdinName(name, stdin > 0);
  const excluded = excluder(exclude);
  if (text !== undefined) {
    if (paths.length > 0) throw new DcpipeError("USAGE", "--text goes alone: leave out PATH");
    const tree = oneEntry(textEntry(text));
    return { what: "the text", stdin: false, notes: [], tree: () => tree };
  }
  const onDisk = paths.filter((path) => path !== "-");
  if (paths.length === 0)
    throw new DcpipeError("USAGE", "nothing to send: give a PATH, - for stdin, or --text");
  checkPaths(onDisk, { follow });
  const only = paths.length === 1 ? paths[0] : undefined;
  return {
    what: only === "-" ? (name ?? "stdin") : only,
    stdin: stdin > 0,
    notes: follow ? [] : onDisk.filter(isLink).map(linkNote),
    tree: (onnote) => {
      const walk = { follow, exclude: excluded, onnote: onceEach(onnote) };
      const at = paths.indexOf("-");
      if (at < 0) return walkPaths(paths, walk);
      return inOrder([
        walkPaths(paths.slice(0, at), walk),
        oneEntry(stdinFile(options)),
        walkPaths(paths.slice(at + 1), walk),
      ]);
    },
  };
}

function checkStdinName(name: string | undefined, stdin: boolean): void {
  if (name === undefined) return;
  if (!stdin) throw new DcpipeError("USAGE", "--name is for stdin (-); files keep their names");
  try {
    checkName(name);
  } catch (cause) {
    throw new DcpipeError("USAGE", `--name: ${(cause as Error).message}`, { cause });
  }
}

function textEntry(text: string): SourceEntry {
  if (Buffer.byteLength(text) > MAX_TEXT)
    throw new DcpipeError("USAGE", "--text takes 64 KiB at most; send more as a file, or through stdin (-)");
  return { kind: "text", text };
}

function stdinFile({ name = "stdin", stdioSignal }: SourceOptions): SourceFile {
  return {
    kind: "file",
    name,
    size: undefined,
    mode: 0o644,
    mtime: Date.now() * 1000,
    open: () => {
      // --stdio-signal has read from process.stdin, and a descriptor has one reader only.
      const source = stdioSignal ? readableSource(process.stdin) : stdinSource();
      return Promise.resolve({ ...source, changed: () => Promise.resolve(undefined) });
    },
  };
}

function oneEntry(entry: SourceEntry): SourceTree {
  return inOrder([
    async function* () {
      await Promise.resolve();
      yield entry;
    },
  ]);
}

function inOrder(trees: readonly SourceTree[]): SourceTree {
  return async function* () {
    for (const tree of trees) yield* tree();
  };
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
}

function linkNote(path: string): string {
  return `${path} is a symbolic link and is sent as one; --follow sends what it points to`;
}

/** A tree is walked more than once, and says the same each time. */
function onceEach(onnote: (text: string) => void): (text: string) => void {
  const said = new Set<string>();
  return (text) => {
    if (said.has(text) || said.size > MAX_NOTES) return;
    said.add(text);
    onnote(said.size > MAX_NOTES ? "more of this kind is not said" : text);
  };
}
