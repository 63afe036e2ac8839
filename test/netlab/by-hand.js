/**
 * One lab that stays until it is taken down, for trying things by hand. A process of its own holds it: what it builds goes with it,
 * whatever ends it.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { undoOnExit } from "../lab/exec.js";
import { createLab } from "./lab.js";

const LAB = fileURLToPath(new URL("lab.js", import.meta.url));
const STATE = "/run/dcpipe-netlab.json";
const SOCKET = "/run/dcpipe-netlab.socket";

/** What may be done to a lab: the words of the command line, for a host or for the first of its routers. */
const DEEDS = {
  unplug: (host) => host.unplug(),
  plug: (host) => host.plug(),
  move: (host) => host.move(),
  "add-interface": (host) => host.addInterface(),
  reboot: (host) => routerOf(host).reboot(),
  "udp-timeout": (host, seconds) => routerOf(host).setUdpTimeout(Number(seconds)),
  mtu: (host, bytes, told) => host.routers.at(-1)?.setMtu(Number(bytes), { told: told !== "untold" }),
};

export const DEED_WORDS =
  "unplug | plug | move | add-interface | reboot | udp-timeout SECONDS | mtu BYTES [untold]";

function routerOf(host) {
  if (host.routers.length === 0) throw new Error("no router in front of it");
  return host.routers[0];
}

/** The lab that is up; undefined when there is none. */
function current() {
  if (!existsSync(STATE)) return undefined;
  const state = JSON.parse(readFileSync(STATE, "utf8"));
  return holds(state.pid) ? state : undefined;
}

/** Whether that process is still the one that holds a lab: process ids come again. */
function holds(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("\0hold\0");
  } catch {
    return false;
  }
}

function expectLab() {
  const state = current();
  if (!state) throw new Error("no lab is up");
  return state;
}

/** Starts the process that holds a lab, and returns when that is up. */
export async function up(kinds) {
  if (current()) throw new Error("a lab is up already: take it down first");
  const holder = spawn(process.execPath, [LAB, "hold", ...kinds], {
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await Promise.race([
    once(createInterface(holder.stdout), "line"),
    once(holder, "exit").then(() => {
      throw new Error("the lab did not come up");
    }),
  ]);
  console.log(line);
  holder.stdout.destroy();
  holder.unref();
}

/** Builds a lab and keeps it until a signal comes. */
export async function hold(kinds) {
  const lab = await createLab(...kinds);
  const hosts = { a: lab.a, b: lab.b };
  rmSync(SOCKET, { force: true });
  const server = createServer((connection) => {
    createInterface(connection).once("line", async (line) => {
      const [side, deed, ...rest] = JSON.parse(line);
      try {
        await DEEDS[deed](hosts[side], ...rest);
        connection.end("done\n");
      } catch (error) {
        connection.end(`${error.message}\n`);
      }
    });
  });
  server.listen(SOCKET);
  await once(server, "listening");
  const places = { internet: { namespace: lab.internet, env: {} } };
  for (const [side, { namespace, env, routers }] of Object.entries(hosts)) {
    places[side] = { namespace, env };
    routers.forEach(
      (router, i) => (places[`${side}-router${i + 1}`] = { namespace: router.namespace, env: {} }),
    );
  }
  undoOnExit(() => [STATE, SOCKET].forEach((file) => rmSync(file, { force: true })));
  writeFileSync(STATE, JSON.stringify({ pid: process.pid, places }));
  const { stun, turn, rendezvous } = lab;
  console.log(JSON.stringify({ places: Object.keys(places), stun, turn, rendezvous }));
  // Nobody reads what is said from now on.
  process.stdout.on("error", () => {});
}

/** Runs a command in a place of the lab; its exit status becomes ours. */
export function exec([place, ...argv]) {
  const { places } = expectLab();
  if (!(place in places) || argv.length === 0)
    throw new Error(`exec ${Object.keys(places).join("|")} COMMAND...`);
  const { namespace, env } = places[place];
  const options = { stdio: "inherit", env: { ...process.env, ...env } };
  const { status } = spawnSync("ip", ["netns", "exec", namespace, ...argv], options);
  process.exitCode = status ?? 1;
}

/** Has the holder do something to one side. */
export async function act([side, deed, ...rest]) {
  expectLab();
  if (!["a", "b"].includes(side) || !(deed in DEEDS)) throw new Error(`do a|b ${DEED_WORDS}`);
  const connection = createConnection(SOCKET);
  connection.write(`${JSON.stringify([side, deed, ...rest])}\n`);
  const [answer] = await once(createInterface(connection), "line");
  connection.destroy();
  if (answer !== "done") throw new Error(answer);
}

/** Ends the holder, and waits until all is gone. */
export async function down() {
  const { pid } = expectLab();
  process.kill(pid, "SIGTERM");
  while (holds(pid)) await new Promise((resolve) => setTimeout(resolve, 20));
}
