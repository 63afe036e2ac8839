/** Directory trees to send: made at random, and compared after they have arrived. */
import { createHash, randomBytes, randomInt } from "node:crypto";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  lutimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

const NAMES = [
  "größe",
  "日本",
  "a b",
  "emoji 👩‍👩‍👧",
  ".hidden",
  "-dash",
  "x'y\"z",
  "%s",
  "CON",
  "dot.",
  "UPPER",
  "upper",
];
/** No time in it is newer: what was made now must not look as if it had been given its time. */
const EPOCH = 1_500_000_000;

/**
 * Makes a tree in a new directory: a few large files, many small ones in nested directories, empty ones of both, links, modes
 * and times of all kinds.
 * @param {string} path does not exist yet
 * @param {{ small?: number, smallSize?: number, large?: number[] }} [options] how many small files, and all below which size;
 *   bytes of the large ones
 * @returns {number} bytes of content
 */
export function makeTree(path, { small = 200, smallSize = 8000, large = [3_000_000, 1_000_000] } = {}) {
  mkdirSync(path);
  const directories = [path];
  for (let i = 0; i < small / 10; i++) {
    const parent = directories[randomInt(directories.length)];
    const made = join(parent, `${NAMES[i % NAMES.length]}-${i}`);
    mkdirSync(made);
    directories.push(made);
  }
  let bytes = 0;
  const file = (size, name) => {
    const made = join(directories[randomInt(directories.length)], name);
    // Half of it can be compressed.
    writeFileSync(made, randomInt(2) ? randomBytes(size) : Buffer.alloc(size, `${name} `));
    bytes += size;
    chmodSync(made, [0o644, 0o600, 0o755, 0o444, 0o400, 0o640][randomInt(6)]);
    utimesSync(made, time(), time());
  };
  for (let i = 0; i < small; i++)
    file(i % 20 === 0 ? 0 : randomInt(smallSize), `${NAMES[i % NAMES.length]} ${i}`);
  for (const [i, size] of large.entries()) file(size, `large ${i}.bin`);
  for (let i = 0; i < small / 20; i++) {
    const link = join(directories[randomInt(directories.length)], `link ${i}`);
    symlinkSync(["nowhere", "./here", "a/b/c"][i % 3], link);
    lutimesSync(link, time(), time());
  }
  // Deepest first: what comes into a directory changes its time.
  for (const directory of directories.toReversed()) {
    chmodSync(directory, [0o755, 0o700, 0o555, 0o750][randomInt(4)]);
    utimesSync(directory, time(), time());
  }
  return bytes;
}

/** Seconds, to the microsecond. */
const time = () => EPOCH + randomInt(100_000_000) + randomInt(1_000_000) / 1e6;

/**
 * What differs between two trees: type, mode, time to the microsecond, content, where a link points, names.
 * @returns {string[]} a line each; none when they are equal
 */
export function compareTrees(one, other, path = ".") {
  const [a, b] = [describe(join(one, path)), describe(join(other, path))];
  if (!a || !b) return a === b ? [] : [`${path}: only on one side`];
  const lines = [];
  for (const key of Object.keys(a)) {
    if (a[key] !== b[key]) lines.push(`${path}: ${key} ${a[key]} and ${b[key]}`);
  }
  if (a.type !== "directory" || b.type !== "directory") return lines;
  const names = new Set([...readdirSync(join(one, path)), ...readdirSync(join(other, path))]);
  for (const name of names) lines.push(...compareTrees(one, other, join(path, name)));
  return lines;
}

function describe(path) {
  const info = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (!info) return undefined;
  const type = info.isDirectory()
    ? "directory"
    : info.isSymbolicLink()
      ? "link"
      : info.isFile()
        ? "file"
        : "special";
  return {
    type,
    mode: type === "link" ? "" : (Number(info.mode) & 0o7777).toString(8),
    mtime: String(info.mtimeNs / 1000n),
    target: type === "link" ? readlinkSync(path) : "",
    digest: type === "file" ? createHash("sha256").update(readFileSync(path)).digest("hex") : "",
  };
}
