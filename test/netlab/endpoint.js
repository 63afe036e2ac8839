/**
 * One side of a cell of the grid: runs a dcpipe, feeds it random bytes, and tells what came of it as JSON lines. What dcpipe itself
 * says goes to standard error as it is.
 *
 *   node test/netlab/endpoint.js '{"argv":["node","bin/dcpipe.js","pipe",...],"env":{...},"size":100000,"bursts":2}'
 *
 *   {"event":"started","at":SECONDS}
 *   {"event":"first","at":SECONDS}                 the first byte from the other side
 *   {"event":"received","burst":1}                 as many bytes as were sent from here up to that burst
 *   {"event":"over","status":0,"signal":null,"sent":SHA256,"received":SHA256,"bytes":N}
 *
 * Seconds are those of the clock that all processes of this machine share. SIGUSR2 brings the next burst, and after the last the end
 * of what is fed, which ends the session.
 */
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { now } from "../lab/exec.js";

const { argv, env, size, bursts } = JSON.parse(process.argv[2]);
const say = (event, fields) => console.log(JSON.stringify({ event, ...fields }));

const sent = createHash("sha256");
const received = createHash("sha256");
let burst = 0;
let bytes = 0;

// Nothing of the caller's settings may change what is measured.
const clean = {
  PATH: process.env.PATH,
  XDG_CONFIG_HOME: "/nonexistent",
  XDG_STATE_HOME: "/nonexistent",
  ...env,
};
const at = now();
const child = spawn(argv[0], argv.slice(1), { stdio: ["pipe", "pipe", "inherit"], env: clean });
say("started", { at });
child.stdin.on("error", () => {});

function feed() {
  if (burst === bursts) {
    child.stdin.end();
    return;
  }
  burst++;
  const payload = randomBytes(size);
  sent.update(payload);
  child.stdin.write(payload);
}
feed();
process.on("SIGUSR2", feed);

child.stdout.on("data", (chunk) => {
  if (bytes === 0) say("first", { at: now() });
  const whole = Math.floor(bytes / size);
  bytes += chunk.length;
  received.update(chunk);
  for (let n = whole + 1; n <= bytes / size; n++) say("received", { burst: n });
});
child.on("close", (status, signal) => {
  say("over", { status, signal, sent: sent.digest("hex"), received: received.digest("hex"), bytes });
});
