/** The trees that are sent: made, partly put at the receiver beforehand, and compared with what arrived. */
import { spawnSync } from "node:child_process";
import { randomFillSync } from "node:crypto";
import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  readdirSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "../lab/exec.js";

const MODULES = fileURLToPath(new URL("../../node_modules", import.meta.url));

const SMALL = 4096;
const DIRECTORIES = 100;
const BLOCK = 2 ** 20;

/** A file of random bytes. */
export function makeFile(path, bytes) {
  const block = Buffer.allocUnsafe(BLOCK);
  const file = openSync(path, "wx");
  for (let left = bytes; left > 0; left -= BLOCK)
    writeSync(file, randomFillSync(block), 0, Math.min(left, BLOCK));
  closeSync(file);
  return path;
}

/** `count` files of 4 KiB of random bytes, in 100 directories. */
export function makeSmallFiles(path, count) {
  const content = Buffer.allocUnsafe(SMALL);
  for (let i = 0; i < DIRECTORIES; i++) mkdirSync(join(path, `d${i}`), { recursive: true });
  for (let i = 0; i < count; i++)
    writeFileSync(join(path, `d${i % DIRECTORIES}`, `f${i}`), randomFillSync(content));
  return path;
}

/** This project's own node_modules, or as many of its packages as make `atLeast` files. */
export async function makeModules(path, atLeast) {
  if (atLeast === Infinity) {
    await run("cp", "-a", MODULES, path);
    return path;
  }
  mkdirSync(path);
  let files = 0;
  // Not .bin, whose links would lead to what is not there.
  for (const name of readdirSync(MODULES).filter((name) => !name.startsWith("."))) {
    if (files >= atLeast) break;
    await run("cp", "-a", join(MODULES, name), path);
    files += filesOf(join(path, name)).length;
  }
  return path;
}

/** A directory for every thousand entries, itself among them; the files empty, but every tenth of 10 bytes. */
export function makeEntries(path, count) {
  for (let made = 0; made < count; made += 1000) {
    const directory = join(path, `d${made / 1000}`);
    mkdirSync(directory, { recursive: true });
    const files = Math.min(1000, count - made) - 1;
    for (let i = 0; i < files; i++) writeFileSync(join(directory, `f${i}`), i % 10 === 0 ? "0123456789" : "");
  }
  return path;
}

/** Paths below `root` (that itself, "", when it is a file) of all files and of the links that lead to one, sorted. */
export function filesOf(root) {
  const files = [];
  const walk = (relative) => {
    const status = lstatSync(join(root, relative));
    if (status.isDirectory()) {
      for (const name of readdirSync(join(root, relative))) walk(join(relative, name));
    } else if (status.isFile() || statSync(join(root, relative), { throwIfNoEntry: false })?.isFile()) {
      files.push(relative);
    }
  };
  walk("");
  return files.sort();
}

/** Puts every fifth file of `source` below `target` as an earlier copy would have left it: times, modes and links. */
export function putEveryFifth(source, target) {
  const files = filesOf(source).filter((_, index) => index % 5 === 0);
  const { status, stderr } = spawnSync("xargs", ["-0", "cp", "-a", "--parents", "-t", target], {
    cwd: dirname(source),
    input: files.map((file) => `${join(basename(source), file)}\0`).join(""),
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`cp: ${stderr}`);
}

/** All of `source` likewise. */
export async function putAll(source, target) {
  await run("cp", "-a", source, target);
}

/**
 * Fails unless `target` holds the files of `source`, every `step`th of them with the same bytes. A link may have arrived as
 * the file it leads to.
 */
export function compare(source, target, step = 1) {
  const [here, there] = [filesOf(source), filesOf(target)];
  if (here.length !== there.length) throw new Error(`${there.length} of ${here.length} files arrived`);
  for (const [index, file] of here.entries()) {
    if (there[index] !== file) throw new Error(`${file} did not arrive, ${there[index]} did`);
    if (index % step === 0 && !sameBytes(join(source, file), join(target, file)))
      throw new Error(`${file} arrived with other bytes`);
  }
}

const blocks = [Buffer.allocUnsafe(BLOCK), Buffer.allocUnsafe(BLOCK)];

function sameBytes(...paths) {
  const files = paths.map((path) => openSync(path));
  try {
    for (;;) {
      // A regular file gives a whole block unless it ends.
      const [mine, theirs] = files.map((file, i) => blocks[i].subarray(0, readSync(file, blocks[i])));
      if (!mine.equals(theirs)) return false;
      if (mine.length === 0) return true;
    }
  } finally {
    files.forEach((file) => closeSync(file));
  }
}
