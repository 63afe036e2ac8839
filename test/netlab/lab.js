/**
 * A lab of real NATs: two hosts, each on a network of some kind (kinds.js), and between them an internet with STUN, TURN and a
 * rendezvous.
 *
 *   sudo node test/netlab/lab.js list
 *   sudo node test/netlab/lab.js up symmetric port-restricted
 *   sudo node test/netlab/lab.js exec a node bin/dcpipe.js pipe --rendezvous https://rendezvous.test/
 *   sudo node test/netlab/lab.js do a unplug
 *   sudo node test/netlab/lab.js down
 */
import { fileURLToPath } from "node:url";
import { PREFIX, removeNamespace, undoOnExit } from "../lab/exec.js";
import { authority } from "./certificates.js";
import { KINDS, PAIRS } from "./kinds.js";
import { startPortMapping, startProxy, startRendezvous, startTurn, STUN_URL } from "./services.js";
import { homeSubnet, Host, Internet, Router } from "./topology.js";

const SIDES = ["a", "b"];

let count = 0;

/**
 * @typedef {object} Services what the internet has to offer; false leaves one out
 * @property {boolean | { secret?: string }} [turn] STUN and TURN; default true
 * @property {boolean | { args?: string[], env?: Record<string, string> }} [rendezvous] default true
 *
 * @typedef {Awaited<ReturnType<typeof createLab>>} Lab
 */

/**
 * Builds a lab. A pair of hosts behind one router ("same-lan", "hairpin") is one kind for both.
 * @param {string} kindA of KINDS or PAIRS
 * @param {string} [kindB] of KINDS
 * @param {Services} [services]
 */
export async function createLab(kindA, kindB = kindA, { turn = true, rendezvous = true } = {}) {
  for (const kind of [kindA, kindB])
    if (!(kind in KINDS) && !(kind === kindA && kind === kindB && kind in PAIRS))
      throw new Error(`no such kind of network: ${kindA} and ${kindB}`);
  const prefix = `${PREFIX}net${++count}-`;
  const names = [];
  const name = (what) => names[names.push(`${prefix}${what}`) - 1];
  const programs = [];
  const undo = undoOnExit(() => names.forEach(removeNamespace));
  const close = async () => {
    undo();
    await Promise.all(programs.map((program) => program.exited));
  };
  const internet = new Internet(name("internet"));
  try {
    await internet.build();
    const starting = [
      turn && startTurn(internet.namespace, turn === true ? {} : turn),
      rendezvous && startRendezvous(internet.namespace, rendezvous === true ? {} : rendezvous),
      kindA in PAIRS
        ? createPair(PAIRS[kindA], internet, name)
        : Promise.all(
            [kindA, kindB].map((kind, i) => createSide(KINDS[kind], SIDES[i], i + 1, internet, name)),
          ),
      authority(),
    ];
    // All come to their ends first: what is still being built when the rest is removed would be left behind.
    const failed = (await Promise.allSettled(starting)).find(({ status }) => status === "rejected");
    if (failed) throw failed.reason;
    const [relay, server, sides, { ca }] = await Promise.all(starting);
    programs.push(...sides.flatMap((side) => side.programs));
    if (relay) programs.push(relay.program);
    if (server) programs.push(...server.programs);
    const [a, b] = sides.map(({ host }) => host);
    for (const host of [a, b]) host.env = { NODE_EXTRA_CA_CERTS: ca, ...host.env };
    return {
      a,
      b,
      /** Where the servers run; every public address can be called from here. */
      internet: internet.namespace,
      stun: STUN_URL,
      /** URLs of the TURN server, for --turn. */
      turn: relay ? relay.url : undefined,
      /** URLs of the rendezvous. */
      rendezvous: server ? { http: server.http, https: server.https } : undefined,
      /** The authority behind all certificates, a PEM file. */
      ca,
      /** Bytes that went each way since the last call. */
      traffic: () => internet.traffic(),
      /** Ends every process inside and removes the namespaces. */
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A host on a network of that kind, and its programs. */
async function createSide(kind, side, n, internet, name) {
  const { ipv4, ipv6, out, opensPorts } = kind;
  const families = { ipv4: ipv4 !== undefined, ipv6 };
  const namespace = name(side);
  if (ipv4?.length === 0) {
    const host = new Host(namespace, await internet.createLan(n), []);
    await host.build();
    return { host, programs: [] };
  }
  const outer = families.ipv4 ? `203.0.113.${n}` : undefined;
  const [nat, carrierNat] = ipv4 ?? [];
  const home = new Router(name(`home-${side}`), carrierNat ? `100.64.${n}.2` : outer, { nat, out });
  await home.build(families);
  const routers = [home];
  if (carrierNat) {
    const carrier = new Router(name(`carrier-${side}`), outer, { nat: carrierNat });
    await carrier.build(families);
    await carrier.connect(internet, n, ipv6);
    await carrier.connectHome(home, n);
    routers.push(carrier);
  } else await home.connect(internet, n, ipv6);
  const lan = await home.createLan("lan", homeSubnet(n, families));
  const host = new Host(namespace, lan, routers);
  await host.build();
  const programs = [];
  if (out === "proxy") {
    const proxy = await startProxy(home.namespace, lan.subnet.address(1));
    host.env = { HTTP_PROXY: proxy.url, HTTPS_PROXY: proxy.url };
    programs.push(proxy.program);
  }
  if (opensPorts) {
    let daemon = await startPortMapping(home.namespace);
    programs.push(daemon);
    home.onboot = async () => {
      await daemon.kill();
      daemon = await startPortMapping(home.namespace);
      programs.push(daemon);
    };
  }
  return { host, programs };
}

/** Two hosts behind one router. */
async function createPair({ nat, separate }, internet, name) {
  const families = { ipv4: true, ipv6: false };
  const namespaces = SIDES.map(name);
  const home = new Router(name("home"), "203.0.113.1", { nat, hairpin: separate });
  await home.build(families);
  await home.connect(internet, 1, false);
  const one = await home.createLan("lan", homeSubnet(1, families));
  const other = separate ? await home.createLan("lan2", homeSubnet(2, families)) : one;
  const a = new Host(namespaces[0], one, [home]);
  // Numbers far from those of the other one, who may move.
  const b = new Host(namespaces[1], other, [home], separate ? undefined : 100);
  await Promise.all([a.build(), b.build()]);
  return [a, b].map((host) => ({ host, programs: [] }));
}

async function main([verb, ...rest]) {
  const { act, DEED_WORDS, down, exec, hold, up } = await import("./by-hand.js");
  const verbs = {
    list: () => {
      for (const [kind, { says }] of Object.entries({ ...KINDS, ...PAIRS }))
        console.log(`${kind.padEnd(19)}${says}`);
    },
    up,
    hold,
    exec,
    do: act,
    down,
  };
  if (verb in verbs) return verbs[verb](rest);
  console.error(
    `usage: lab.js list | up KIND_A KIND_B | up ${Object.keys(PAIRS).join("|")} | exec PLACE COMMAND... | down`,
  );
  console.error(`       lab.js do a|b ${DEED_WORDS}`);
  process.exitCode = 2;
}

// Not awaited: what is imported above imports this module in turn.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main(process.argv.slice(2)).catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
