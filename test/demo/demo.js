/**
 * npm run demo: two dcpipe processes on this machine, one real file, one token from the one to the other. Shows what each
 * side prints and compares the checksums. Needs Node alone, no network but loopback; the status is 0 when the copy is equal.
 */
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createReadStream, createWriteStream, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";

const BIN = fileURLToPath(new URL("../../bin/dcpipe.js", import.meta.url));
const BUILT = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
/** This machine is all there is: no STUN server, and an address that is there without a network. */
const LOCAL = ["--no-stun", "--bind", "127.0.0.1"];
const FILE = "random.bin";
const TARGET = "received";
const MIB = 1024 * 1024;
const SIZE = 20 * MIB;
/** All of it takes some two seconds; a machine that needs more than this has a problem worth a message. */
const PATIENCE_MS = 60_000;

const color = process.stdout.isTTY && process.env["NO_COLOR"] === undefined;
const paint = (code, text) => (color ? `\x1b[${code}m${text}\x1b[0m` : text);
const say = (text = "") => process.stdout.write(`${text}\n`);

const children = new Set();
const folder = mkdtempSync(join(tmpdir(), "dcpipe-demo-"));
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});
for (const [signal, status] of Object.entries({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }))
  process.on(signal, () => process.exit(status));

/** Starts one side, shows its lines as they come, and gives the token in the first that holds one to `ontoken`. */
function start(name, paintCode, words, ontoken = () => undefined) {
  const prefix = paint(paintCode, `${name.padEnd(7)} |`);
  const short = words.map((word) => (word.startsWith("dc1") ? `${word.slice(0, 20)}...` : word));
  say(`${prefix} ${paint(1, `$ dcpipe ${short.join(" ")}`)}`);
  const child = spawn(process.execPath, [BIN, ...words], {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.add(child);
  const show = (line) => {
    say(`${prefix} ${line}`);
    const token = /\bdc1[A-Za-z0-9_-]{20,}/.exec(line)?.[0];
    if (token !== undefined) ontoken(token);
  };
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on("line", show);
  return once(child, "close").then(([status, signal]) => {
    children.delete(child);
    if (status !== 0)
      throw new Error(`dcpipe ${name} ended ${signal ? `by ${signal}` : `with status ${status}`}`);
  });
}

async function writeRandom(path) {
  await pipeline(function* () {
    for (let left = SIZE; left > 0; left -= MIB) yield randomBytes(Math.min(left, MIB));
  }, createWriteStream(path));
}

async function sha256(path) {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

async function demo() {
  if (!existsSync(BUILT)) throw new Error("dcpipe is not built here yet: run npm ci first");
  const file = join(folder, FILE);
  const target = join(folder, TARGET);
  mkdirSync(target);
  await writeRandom(file);
  say(
    `Two dcpipe processes on this machine, and ${SIZE / MIB} MiB of random bytes to send from one to the other.\n`,
  );

  await new Promise((resolve, reject) => {
    let receiving;
    const sending = start("send", 36, ["send", FILE, ...LOCAL], (token) => {
      receiving ??= start("receive", 35, ["receive", token, ...LOCAL, "-o", TARGET]);
      receiving.catch(reject);
    });
    sending.then(() => {
      if (receiving) receiving.then(resolve, reject);
      else reject(new Error("dcpipe send printed no token"));
    }, reject);
  });

  const sums = [await sha256(file), await sha256(join(target, FILE))];
  say(`\nsha256 of what was sent      ${sums[0]}`);
  say(`sha256 of what was received  ${sums[1]}`);
  if (sums[0] !== sums[1]) throw new Error("the checksums differ");
  say(paint(32, "They agree."));
}

const guard = setTimeout(() => {
  console.error(
    `\ndemo: not done after ${PATIENCE_MS / 1000} s, giving up; the lines above show how far each side came`,
  );
  process.exit(1);
}, PATIENCE_MS);

try {
  await demo();
} catch (error) {
  console.error(`\ndemo: ${error.message}`);
  process.exitCode = 1;
}
clearTimeout(guard);
// A side that is left after the other has failed waits for nobody.
process.exit();
