/**
 * The services that people forward, real ones, each on the loopback of one machine and used from another one through
 * dcpipe forward.
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, type TestContext } from "vitest";
import { startServer } from "./code.ts";
import {
  BIN,
  type Dcpipe,
  type Exit,
  expectEqualFiles,
  makeFile,
  needs,
  pair,
  Process,
  quote,
  rootTest,
  sha256,
  start,
  type StartOptions,
  succeed,
  temporaryDirectory,
} from "./dcpipe.ts";
import { createSwitch } from "./switch.ts";

const WEB = fileURLToPath(new URL("web.js", import.meta.url));

/** Names of two namespaces. */
interface Machines {
  readonly server: string;
  readonly client: string;
  /** Of the server. */
  readonly address: string;
}

async function createMachines(): Promise<Machines> {
  const [server, client] = await createSwitch(2);
  return {
    server: server?.namespace ?? "",
    client: client?.namespace ?? "",
    address: server?.address ?? "",
  };
}

function runIn(namespace: string, argv: readonly string[], options?: StartOptions): Process {
  return new Process(["ip", "netns", "exec", namespace, ...argv], options);
}

/** Runs a command that must succeed, and returns what it prints. */
async function output(namespace: string, argv: readonly string[], options?: StartOptions): Promise<string> {
  const [exit] = await succeed(runIn(namespace, argv, options));
  return String(exit?.stdout);
}

/** Starts a service; it is there when it has said so. */
async function startService(namespace: string, argv: readonly string[], ready: RegExp): Promise<Process> {
  const service = runIn(namespace, argv);
  await service.until(
    String(ready),
    () => ready.test(service.stderr) || ready.test(service.stdout.toString()) || undefined,
  );
  return service;
}

/** Two forwards; the joining one listens for its first `listeners`. */
async function forward(
  { server, client }: Machines,
  offers: readonly string[],
  asks: readonly string[],
): Promise<{ waiting: Dcpipe; joining: Dcpipe }> {
  const sides = await pair(
    [["forward", ...offers], { namespace: server }],
    [["forward", ...asks], { namespace: client }],
  );
  await sides.joining.event("listening");
  await sides.joining.event("connected");
  return sides;
}

async function leave({ waiting, joining }: { waiting: Dcpipe; joining: Dcpipe }): Promise<void> {
  joining.kill("SIGINT");
  expect(await joining.exited).toMatchObject({ status: 130 });
  await succeed(waiting);
  // Nothing of what a service does is a failure of the forward.
  for (const side of [waiting, joining]) expect(side.find("refused")).toBeUndefined();
}

// ---- ssh ------------------------------------------------------------------------------------------------------------

/** sshd on port 2222 of the server, and the configuration of a client that knows it as `box`. */
async function startSshd({
  server,
}: Machines): Promise<{ config: string; options: (port: number) => string[] }> {
  const directory = temporaryDirectory();
  const path = (name: string): string => join(directory, name);
  for (const name of ["host", "user"])
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", path(name)]);
  writeFileSync(path("authorized_keys"), readFileSync(path("user.pub")));
  writeFileSync(
    path("sshd_config"),
    `Port 2222
ListenAddress 127.0.0.1
HostKey ${path("host")}
AuthorizedKeysFile ${path("authorized_keys")}
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
Subsystem sftp internal-sftp
`,
  );
  writeFileSync(
    path("known_hosts"),
    `box ${readFileSync(path("host.pub"), "utf8").split(" ").slice(0, 2).join(" ")}\n`,
  );
  writeFileSync(
    path("ssh_config"),
    `Host box
  HostName localhost
  Port 2222
  HostKeyAlias box
  User root
  IdentityFile ${path("user")}
  IdentitiesOnly yes
  UserKnownHostsFile ${path("known_hosts")}
  StrictHostKeyChecking yes
  BatchMode yes
`,
  );
  // Where sshd has its parts without privileges live; a service manager would have made it.
  mkdirSync("/run/sshd", { recursive: true, mode: 0o755 });
  await startService(server, ["/usr/sbin/sshd", "-D", "-e", "-f", path("sshd_config")], /Server listening/);
  const config = path("ssh_config");
  return { config, options: (port) => ["-F", config, "-o", "HostName=127.0.0.1", "-o", `Port=${port}`] };
}

/** A directory with files of several sizes, deep and odd names, and a link. */
function makeTree(): string {
  const root = temporaryDirectory();
  mkdirSync(join(root, "a/b/c"), { recursive: true });
  for (const [name, size] of [
    ["empty", 0],
    ["a/small", 100],
    ["a/b/a name with spaces", 70_000],
    ["a/b/c/large", 5_000_000],
  ] as const)
    writeFileSync(join(root, name), randomBytes(size));
  for (let i = 0; i < 200; i++) writeFileSync(join(root, `a/b/${i}`), `file ${i}\n`);
  symlinkSync("b/c/large", join(root, "a/link"));
  chmodSync(join(root, "a/small"), 0o700);
  return root;
}

function expectSameTree(a: string, b: string): void {
  execFileSync("diff", ["-r", "--no-dereference", a, b]);
}

rootTest("ssh: a command's status, a terminal, scp, rsync, git", async (context) => {
  needs(context, "sshd", "ssh", "scp", "rsync", "git");
  const machines = await createMachines();
  const { options } = await startSshd(machines);
  const sides = await forward(machines, ["2222"], ["-L", "22022:localhost:2222"]);
  const ssh = options(22_022);
  const { client } = machines;

  const payload = randomBytes(3_000_000);
  const command = await runIn(client, ["ssh", ...ssh, "box", "cat; echo oops >&2; exit 7"], {
    stdin: payload,
  }).exited;
  expect(command.status, command.stderr).toBe(7);
  expect(sha256(command.stdout)).toBe(sha256(payload));
  expect(command.stderr).toContain("oops");

  const terminal = runIn(client, ["ssh", "-tt", ...ssh, "box", "exec sh"], { stdin: "pipe" });
  terminal.stdin.write("stty -echo; echo $((6 * 7)); test -t 0 && echo a terminal\n");
  await terminal.printed(/42\r\na terminal\r\n/);
  terminal.stdin.write("exit 3\n");
  expect(await terminal.exited).toMatchObject({ status: 3 });

  const [source, target] = [makeFile("f", 4_000_000), temporaryDirectory()];
  await output(client, ["scp", "-q", ...ssh, source, `box:${target}/up`]);
  await output(client, ["scp", "-q", ...ssh, `box:${target}/up`, join(target, "down")]);
  expectEqualFiles(join(target, "down"), source);

  const [tree, there, back] = [makeTree(), temporaryDirectory(), temporaryDirectory()];
  const rsync = ["rsync", "-a", "-e", `ssh ${quote(ssh)}`];
  await output(client, [...rsync, `${tree}/`, `box:${there}/`]);
  expectSameTree(tree, there);
  writeFileSync(join(there, "a/more"), "more");
  await output(client, [...rsync, "--delete", `box:${there}/`, `${back}/`]);
  expectSameTree(there, back);

  const [repository, clone] = [join(temporaryDirectory(), "r.git"), join(temporaryDirectory(), "clone")];
  execFileSync("git", ["init", "-q", "--bare", "-b", "main", repository]);
  const env = { GIT_SSH_COMMAND: `ssh ${quote(ssh)}`, GIT_CONFIG_GLOBAL: "/dev/null" };
  const git = (...args: string[]): Promise<string> => output(client, ["git", ...args], { env });
  await git("clone", "-q", `box:${repository}`, clone);
  writeFileSync(join(clone, "file"), "content\n");
  await git("-C", clone, "add", "file");
  const who = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
  await git("-C", clone, ...who, "commit", "-q", "-m", "one");
  await git("-C", clone, "push", "-q", "origin", "HEAD:main");
  expect(execFileSync("git", ["-C", repository, "show", "main:file"], { encoding: "utf8" })).toBe(
    "content\n",
  );
  await leave(sides);
});

rootTest("ssh with ProxyCommand dcpipe pipe --target %h:%p", async (context) => {
  needs(context, "sshd", "ssh");
  const machines = await createMachines();
  const { config } = await startSshd(machines);
  const waiting = start(["forward", "2222"], { namespace: machines.server });
  const token = makeFile("token", Buffer.from(`${await waiting.offer()}\n`));
  const pipe = quote([process.execPath, BIN, "pipe", "-q", "--no-stun", "--no-lan", "--code-file", token]);
  const proxy = ["-o", `ProxyCommand=${pipe} --target %h:%p`];
  const payload = randomBytes(1_000_000);
  const command = ["ssh", "-F", config, ...proxy, "box", "cat; exit 5"];
  const exit: Exit = await runIn(machines.client, command, { stdin: payload }).exited;
  expect(exit.status, exit.stderr).toBe(5);
  expect(sha256(exit.stdout)).toBe(sha256(payload));
  await waiting.exited;
  expect(waiting.find("closed")).toMatchObject({ target: "localhost:2222" });
});

rootTest("ssh to a remembered peer, by its name, several times at once", async (context) => {
  needs(context, "sshd", "ssh");
  const machines = await createMachines();
  const { server, client, address } = machines;
  const { config } = await startSshd(machines);
  const rendezvous = await startServer([], { namespace: server, address });
  const user = (namespace: string): StartOptions & { env: Record<string, string> } => ({
    namespace,
    env: { XDG_STATE_HOME: temporaryDirectory(), DCPIPE_RENDEZVOUS: rendezvous.url },
  });
  const [box, laptop] = [user(server), user(client)];
  const meeting = start(["forward", "2222", "--remember", "laptop"], box);
  const first = start(["forward", "--remember", "box", "--to", await meeting.code()], laptop);
  for (const side of [meeting, first]) await side.event("remembered");
  first.kill("SIGINT");
  await first.exited;
  meeting.kill("SIGINT");
  await meeting.exited;

  const waiting = start(["forward", "2222", "--multi"], box);
  await waiting.event("code");
  const pipe = quote([process.execPath, BIN, "pipe", "-q", "--no-stun", "--no-lan", "--to", "box"]);
  const proxy = ["-o", `ProxyCommand=${pipe} --target %h:%p`];
  const command = ["ssh", "-F", config, ...proxy, "box", "cat; exit 4"];
  const payloads = [randomBytes(300_000), randomBytes(300_000), randomBytes(300_000)];
  const exits = await Promise.all(
    payloads.map((stdin) => runIn(client, command, { stdin, env: laptop.env }).exited),
  );
  for (const [i, exit] of exits.entries()) {
    expect(exit.status, exit.stderr).toBe(4);
    expect(sha256(exit.stdout)).toBe(sha256(payloads[i] ?? Buffer.alloc(0)));
  }
  expect(waiting.gone).toBe(false);
});

// ---- databases ------------------------------------------------------------------------------------------------------

/** Debian keeps the server's programs out of the path, below this. */
const POSTGRES = "/usr/lib/postgresql";

function postgresPrograms(context: TestContext): string {
  const versions = existsSync(POSTGRES) ? readdirSync(POSTGRES) : [];
  const programs = versions
    .map((version) => join(POSTGRES, version, "bin"))
    .find((directory) => existsSync(join(directory, "initdb")));
  if (programs === undefined && process.env["CI"] !== "true") context.skip("needs postgresql");
  expect(programs, "initdb is missing").toBeDefined();
  return String(programs);
}

rootTest("PostgreSQL, by TCP and by unix sockets: psql, COPY, pgbench", async (context) => {
  needs(context, "psql", "pgbench", "setpriv");
  const programs = postgresPrograms(context);
  const machines = await createMachines();
  const [data, sockets, here] = [temporaryDirectory(), temporaryDirectory(), temporaryDirectory()];
  const [uid, gid] = ["-u", "-g"].map((flag) => Number(execFileSync("id", [flag, "postgres"]))) as [
    number,
    number,
  ];
  for (const directory of [data, sockets]) chownSync(directory, uid, gid);
  // It does not run as root.
  const asPostgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
  const create = ["-D", data, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"];
  await output(machines.server, [...asPostgres, join(programs, "initdb"), ...create]);
  const settings = ["-D", data, "-p", "5432", "-h", "127.0.0.1", "-k", sockets, "-F"];
  const server = [...asPostgres, join(programs, "postgres"), ...settings];
  await startService(machines.server, server, /ready to accept connections/);

  const socket = join(sockets, ".s.PGSQL.5432");
  const sides = await forward(
    machines,
    ["5432", `unix:${socket}`],
    ["-L", "15432:localhost:5432", "-L", `${here}/.s.PGSQL.5432:${socket}`, "-L", `15433:${socket}`],
  );
  const { client } = machines;
  const rows = "SELECT i, md5(i::text) FROM generate_series(1, 100000) AS i";
  const directly = await output(machines.server, psql(sockets, 5432, `COPY (${rows}) TO STDOUT`));
  for (const [host, port] of [
    ["127.0.0.1", 15_432],
    [here, 5432],
    ["127.0.0.1", 15_433],
  ] as const) {
    expect(await output(client, psql(host, port, "SELECT 6 * 7"))).toBe("42\n");
    const copied = await output(client, psql(host, port, `COPY (${rows}) TO STDOUT`));
    expect(copied.length).toBeGreaterThan(3_000_000);
    expect(copied === directly).toBe(true);
    await output(client, psql(host, port, "CREATE TABLE t (i int, s text)"));
    const fill = psql(host, port, "COPY t FROM STDIN");
    await output(client, fill, { stdin: Buffer.from(copied) });
    const count = "SELECT count(*), md5(string_agg(s, '' ORDER BY i)) FROM t";
    const expected = `SELECT count(*), md5(string_agg(s, '' ORDER BY i)) FROM (${rows}) AS r (i, s)`;
    expect(await output(client, psql(host, port, count))).toBe(
      await output(client, psql(host, port, expected)),
    );
    await output(client, psql(host, port, "DROP TABLE t"));
  }

  const bench = ["pgbench", "-h", "127.0.0.1", "-p", "15432", "-U", "postgres", "postgres"];
  await output(client, [...bench, "-i", "-q"]);
  const report = await output(client, [...bench, "-n", "-c", "8", "-j", "2", "-t", "50"]);
  expect(report).toMatch(/transactions actually processed: 400\/400/);
  // A statement that is cancelled: the request to cancel comes on a connection of its own.
  const cancelled = runIn(client, psql("127.0.0.1", 15_432, "SELECT pg_sleep(600)"));
  await untilQuery(machines.server, sockets, "pg_sleep(600)");
  cancelled.kill("SIGINT");
  expect((await cancelled.exited).stderr).toMatch(/canceling statement due to user request/);
  await leave(sides);
});

function psql(host: string, port: number, statement: string): string[] {
  const how = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"];
  return ["psql", ...how, "-h", host, "-p", String(port), "-U", "postgres", "-c", statement];
}

/** Resolves when the server works at a statement with this in it. */
async function untilQuery(namespace: string, sockets: string, text: string): Promise<void> {
  const look = `SELECT count(*) FROM pg_stat_activity
    WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%${text}%'`;
  while ((await output(namespace, psql(sockets, 5432, look))) !== "1\n");
}

rootTest("Redis, by TCP and by unix sockets: SET, GET, pub/sub, a pipeline", async (context) => {
  needs(context, "redis-server", "redis-cli");
  const machines = await createMachines();
  const directory = temporaryDirectory();
  const [socket, here] = [join(directory, "redis.sock"), join(directory, "here.sock")];
  const place = ["--port", "6379", "--bind", "127.0.0.1", "--unixsocket", socket];
  const options = [...place, "--save", "", "--appendonly", "no", "--dir", directory];
  await startService(machines.server, ["redis-server", ...options], /Ready to accept connections/);
  const sides = await forward(
    machines,
    ["6379", `unix:${socket}`],
    ["-L", "16379:localhost:6379", "-L", `${here}:${socket}`],
  );
  const { client } = machines;
  const value = randomBytes(500_000).toString("hex");
  for (const [name, way] of [
    ["tcp", ["-p", "16379"]],
    ["unix", ["-s", here]],
  ] as const) {
    const cli = ["redis-cli", ...way];
    await output(client, [...cli, "-x", "SET", name], { stdin: Buffer.from(value) });
    expect((await output(client, [...cli, "GET", name])).trim() === value).toBe(true);

    const subscriber = runIn(client, [...cli, "SUBSCRIBE", "news"]);
    await subscriber.printed(/subscribe\nnews\n1\n/);
    for (let i = 1; i <= 20; i++) {
      expect((await output(client, [...cli, "PUBLISH", "news", `item ${i}`])).trim()).toBe("1");
      // It comes when it is said, not when the connection ends.
      await subscriber.printed(new RegExp(`^item ${i}$`, "m"));
    }
    subscriber.kill("SIGKILL");

    const count = 50_000;
    const lines = Array.from({ length: count }, (_, i) => `SET ${name}:${i} ${i}\r\n`);
    const piped = await output(client, [...cli, "--pipe"], { stdin: Buffer.from(lines.join("")) });
    expect(piped).toContain(`errors: 0, replies: ${count}`);
    expect((await output(client, [...cli, "GET", `${name}:${count - 1}`])).trim()).toBe(String(count - 1));
  }
  await leave(sides);
});

// ---- the web, and names ---------------------------------------------------------------------------------------------

rootTest("HTTP with WebSocket and server-sent events", async (context) => {
  needs(context, "curl");
  const machines = await createMachines();
  await startService(machines.server, [process.execPath, WEB, "serve", "3000"], /^ready$/m);
  const sides = await forward(machines, ["3000"], []);
  expect(await sides.joining.event("listening")).toMatchObject({ address: "127.0.0.1", port: 3000 });
  const seen = JSON.parse(await output(machines.client, [process.execPath, WEB, "visit", "3000"])) as Record<
    string,
    unknown
  >;
  expect(seen).toEqual({
    pages: Array.from({ length: 8 }, () => true),
    events: Array.from({ length: 20 }, (_, i) => `event ${i + 1}`),
    webSocket: {
      echoes: Array.from({ length: 8 }, () => true),
      pong: "are you there",
      code: 4001,
      reason: "enough",
    },
  });
  const size = ["-o", "/dev/null", "-w", "%{http_code} %{size_download}"];
  expect(await output(machines.client, ["curl", "-sS", ...size, "http://localhost:3000/page"])).toBe(
    "200 2000000",
  );
  await leave(sides);
});

rootTest("DNS: questions by UDP, long answers by TCP", async (context) => {
  needs(context, "dnsmasq", "dig");
  const machines = await createMachines();
  const long = Array.from({ length: 12 }, (_, i) => `${i}-${"x".repeat(200)}`);
  const records = [
    ...Array.from({ length: 50 }, (_, i) => `--address=/host${i}.test/10.1.2.${i}`),
    `--txt-record=long.test,${long.join(",")}`,
  ];
  const own = ["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="];
  const place = ["--port=5353", "--listen-address=127.0.0.1", "--bind-interfaces", "--edns-packet-max=4096"];
  await startService(machines.server, ["dnsmasq", ...own, ...place, ...records], /started, version/);
  const sides = await forward(
    machines,
    ["5353/udp", "5353"],
    ["-L", "5300:localhost:5353/udp", "-L", "5300:localhost:5353"],
  );
  const dig = (...args: string[]): Promise<string> =>
    output(machines.client, ["dig", "@127.0.0.1", "-p", "5300", "+short", "+tries=5", ...args]);
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => dig(`host${i}.test`)));
  expect(answers).toEqual(Array.from({ length: 50 }, (_, i) => `10.1.2.${i}\n`));
  const txt = `${long.map((text) => `"${text}"`).join(" ")}\n`;
  // One datagram of more than a packet; and the way by TCP for who takes no such thing.
  expect(await dig("+bufsize=4096", "+notcp", "+ignore", "long.test", "TXT")).toBe(txt);
  expect(await dig("+bufsize=512", "long.test", "TXT")).toBe(txt);
  expect(sides.joining.find("opened", ({ protocol }) => protocol === "tcp")).toBeDefined();
  await leave(sides);
});
