/** Programs of the lab: STUN and TURN, the rendezvous, a proxy, a router's port mapping. Each is ready when its promise is kept. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { scratch, start } from "../lab/exec.js";
import { authority } from "./certificates.js";
import { afresh } from "./rules.js";
import { FIRST, load, SECOND } from "./topology.js";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const BIN = path("../../bin/dcpipe.js");

/** What is not up by then will not be, ms. A machine that runs many labs is slow. */
const PATIENCE = 120_000;

const STUN_PORT = 3478;
export const STUN_URL = `stun:stun.test:${STUN_PORT}`;
const TLS_PORT = 443;
const RENDEZVOUS_PORT = 8787;
const PROXY_PORT = 3128;
/** The account of the TURN server, where it has no secret. */
const USER = "ann";
const PASSWORD = "sesame";

let count = 0;

/** Starts a program that says a line of this kind when it is up. */
async function serve(namespace, argv, ready, env) {
  const program = start(namespace, argv, { env });
  try {
    await program.line((line) => (ready.test(line) ? true : undefined), PATIENCE, "readiness");
    return program;
  } catch (error) {
    await program.kill();
    throw error;
  }
}

/**
 * coturn at turn.test: TURN over UDP and TCP on port 3478, over TLS on 443. STUN on both of the server's addresses, with the other
 * address and port that RFC 5780 asks for.
 *
 * @param {string} namespace
 * @param {{ secret?: string }} [options] a secret for credentials that expire (use-auth-secret) in place of an account
 */
export async function startTurn(namespace, { secret } = {}) {
  const { cert, key } = await (await authority()).issue("turn.test");
  const directory = join(scratch(), `turn-${++count}`);
  const files = ["--userdb", `${directory}.db`, "--pidfile", `${directory}.pid`, "--log-file", "stdout"];
  const ports = ["--listening-port", String(STUN_PORT), "--alt-listening-port", String(STUN_PORT + 1)];
  // Main listeners take TLS at each address, and 443 of the first is the rendezvous'; an auxiliary one knows TLS when it sees it.
  const tls = SECOND.map(
    (address) => `--aux-server=${address.includes(":") ? `[${address}]` : address}:${TLS_PORT}`,
  );
  const credentials =
    secret === undefined
      ? ["--lt-cred-mech", "--user", `${USER}:${PASSWORD}`]
      : ["--use-auth-secret", "--static-auth-secret", secret];
  const argv = [
    ...[
      "stdbuf",
      "-oL",
      "turnserver",
      "-n",
      "-v",
      "--no-cli",
      "--no-multicast-peers",
      "--realm",
      "turn.test",
    ],
    ...[...FIRST, ...SECOND].flatMap((address) => ["--listening-ip", address]),
    ...SECOND.flatMap((address) => ["--relay-ip", address]),
    ...[...ports, ...tls, "--cert", cert, "--pkey", key, ...files, ...credentials],
  ];
  // Into a pipe it would say nothing before it has a lot to say, without stdbuf.
  const program = await serve(namespace, argv, /Total General servers/);
  const account = secret === undefined ? `${USER}:${PASSWORD}@` : "";
  return {
    program,
    /** As --turn takes it; without an account where that expires. */
    url: {
      udp: `turn:${account}turn.test:${STUN_PORT}`,
      tcp: `turn:${account}turn.test:${STUN_PORT}?transport=tcp`,
      tls: `turns:${account}turn.test:${TLS_PORT}`,
    },
  };
}

/**
 * A dcpipe rendezvous, by HTTP at port 8787 of all addresses, and at https://rendezvous.test/.
 *
 * @param {string} namespace
 * @param {{ args?: string[], env?: Record<string, string> }} [options] more for its command line and environment
 */
export async function startRendezvous(namespace, { args = [], env } = {}) {
  const { cert, key } = await (await authority()).issue("rendezvous.test");
  const listen = ["--listen", `[::]:${RENDEZVOUS_PORT}`, "--public-url", "https://rendezvous.test/"];
  const server = await serve(
    namespace,
    [process.execPath, BIN, "rendezvous", "--json", ...listen, ...args],
    /"listening"/,
    env,
  );
  const target = ["::1", String(RENDEZVOUS_PORT), String(TLS_PORT)];
  const front = await serve(
    namespace,
    [process.execPath, path("front.js"), cert, key, ...target, ...FIRST],
    /^ready$/,
  );
  return {
    programs: [server, front],
    http: `http://rendezvous.test:${RENDEZVOUS_PORT}/`,
    https: "https://rendezvous.test/",
  };
}

/** A proxy for CONNECT to port 443 on that router. Returns its program and URL. */
export async function startProxy(namespace, address) {
  const argv = [process.execPath, path("proxy.js"), address, String(PROXY_PORT)];
  return { program: await serve(namespace, argv, /^ready$/), url: `http://${address}:${PROXY_PORT}` };
}

/** As miniupnpd wants it to be, beside the rules of the router itself. */
const MINIUPNPD_TABLE = `
  ${afresh("inet miniupnpd")}
  table inet miniupnpd {
    chain forward { type filter hook forward priority -5; }
    chain prerouting { type nat hook prerouting priority -105; }
    chain postrouting { type nat hook postrouting priority 95; }
  }
`;

/**
 * What the router calls its outer address. miniupnpd opens no port at an address that is reserved, as all of the lab's are
 * (RFC 5737); so it lies, and callers have to learn the address elsewhere. Nothing is ever sent there.
 */
export const CLAIMED_ADDRESS = "44.0.0.1";

/** miniupnpd: opens ports of that router by UPnP IGD, NAT-PMP and PCP. */
export async function startPortMapping(namespace) {
  await load(namespace, MINIUPNPD_TABLE);
  const file = join(scratch(), `miniupnpd-${++count}`);
  const settings = {
    ext_ifname: "wan",
    ext_ip: CLAIMED_ADDRESS,
    listening_ip: "lan",
    enable_upnp: "yes",
    enable_natpmp: "yes",
    upnp_table_name: "miniupnpd",
    upnp_nat_table_name: "miniupnpd",
    upnp_forward_chain: "forward",
    upnp_nat_chain: "prerouting",
    upnp_nat_postrouting_chain: "postrouting",
    uuid: "5ca1ab1e-0000-4000-8000-000000000001",
  };
  writeFileSync(
    `${file}.conf`,
    Object.entries(settings)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(""),
  );
  return serve(namespace, ["miniupnpd", "-d", "-f", `${file}.conf`, "-P", `${file}.pid`], /NAT-PMP/);
}
