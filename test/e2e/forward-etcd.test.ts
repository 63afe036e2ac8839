/**
 * Three machines, each behind a NAT of another kind, form an etcd cluster. None can reach another one except through
 * dcpipe forwards: one session for each pair, made by code. On machine N etcd listens for its peers on 127.0.0.1:238N, and the
 * forwards listen for the other two members, so that each member has the same address on all three machines.
 */
import { join } from "node:path";
import { expect } from "vitest";
import { startServer, type Server } from "./code.ts";
import { type Dcpipe, needs, Process, rootTest, start, temporaryDirectory } from "./dcpipe.ts";
import { told } from "./forward.ts";
import { createNats, type NatKind } from "./nat.ts";

const KINDS: readonly NatKind[] = ["full cone", "port-restricted", "symmetric"];
const PUBLIC = "203.0.113.5";
const SECRET = "a secret between the two servers";
const MEMBERS = [1, 2, 3] as const;
type Member = (typeof MEMBERS)[number];
/** Writes that each phase of the test waits for, at each member that can take them. */
const WRITES = 10;

const peerUrl = (member: Member): string => `http://127.0.0.1:238${member}`;

class Cluster {
  readonly #insides: readonly string[];
  readonly #server: Server;
  readonly #directories = MEMBERS.map(() => temporaryDirectory());
  readonly #members = new Map<Member, Process>();
  readonly #writers = new Map<Member, Process>();

  constructor(insides: readonly string[], server: Server) {
    this.#insides = insides;
    this.#server = server;
  }

  #namespace(member: Member): string {
    return this.#insides[member - 1] ?? "";
  }

  /** Joins two machines: each offers the port of its own member and listens at that of the other one's. */
  async connect(one: Member, other: Member): Promise<[Dcpipe, Dcpipe]> {
    const common = ["--rendezvous", this.#server.url, "--stun", `stun:${PUBLIC}`];
    const side = (member: Member, ...more: string[]): Dcpipe =>
      start(["forward", `127.0.0.1:238${member}`, ...common, ...more], {
        namespace: this.#namespace(member),
      });
    const waiting = side(one);
    const joining = side(other, "--to", await waiting.code());
    for (const [process, port] of [
      [waiting, 2380 + other],
      [joining, 2380 + one],
    ] as const)
      expect(await process.event("listening")).toMatchObject({ address: "127.0.0.1", port });
    return [waiting, joining];
  }

  startMember(member: Member): void {
    const urls = MEMBERS.map((each) => `n${each}=${peerUrl(each)}`).join(",");
    const peers = ["--listen-peer-urls", peerUrl(member), "--initial-advertise-peer-urls", peerUrl(member)];
    const clients = ["--listen-client-urls", "http://127.0.0.1:2379"];
    const who = ["--name", `n${member}`, "--data-dir", join(this.#directories[member - 1] ?? "", "data")];
    const cluster = ["--initial-cluster", urls, "--initial-cluster-token", "three-nats"];
    // A machine that has three of them and all else to run is slow at times: that is no reason for an election.
    const patience = ["--heartbeat-interval", "200", "--election-timeout", "2000", "--pre-vote"];
    const advertised = ["--advertise-client-urls", "http://127.0.0.1:2379"];
    this.#members.set(
      member,
      this.#run(member, ["etcd", ...who, ...peers, ...clients, ...advertised, ...cluster, ...patience]),
    );
  }

  async killMember(member: Member): Promise<void> {
    this.#members.get(member)?.kill("SIGKILL");
    await this.#members.get(member)?.exited;
  }

  /** Puts one key after the other at this member, for ever, and prints those that were acknowledged. */
  startWriter(member: Member): void {
    const script = `for ((i = 1; ; i++)); do
      etcdctl --endpoints=127.0.0.1:2379 --command-timeout=5s put "n${member}-$i" "value $i of ${member}" >&2 && echo "n${member}-$i"
    done`;
    this.#writers.set(member, this.#run(member, ["bash", "-c", script]));
  }

  acknowledged(member: Member): string[] {
    const text = this.#writers.get(member)?.stdout.toString() ?? "";
    return text.split("\n").slice(0, -1);
  }

  /** Resolves when each of these members has acknowledged some more writes. */
  async writes(...members: readonly Member[]): Promise<void> {
    await Promise.all(
      members.map(async (member) => {
        const goal = this.acknowledged(member).length + WRITES;
        const enough = (): true | undefined => this.acknowledged(member).length >= goal || undefined;
        await this.#writers.get(member)?.until(`${WRITES} writes at ${member}`, enough);
      }),
    );
  }

  async stopWriters(): Promise<void> {
    for (const writer of this.#writers.values()) {
      writer.kill("SIGKILL");
      await writer.exited;
    }
  }

  /** What this member has itself, whatever the others say. Waits until it knows all that was agreed on before. */
  async read(member: Member): Promise<Map<string, string>> {
    const etcdctl = ["etcdctl", "--endpoints=127.0.0.1:2379", "--command-timeout=30s"];
    // A read that the cluster agrees on is answered when this member has caught up.
    await this.#output(member, [...etcdctl, "get", "x", "--consistency=l"]);
    const json = await this.#output(member, [
      ...etcdctl,
      "get",
      "n",
      "--prefix",
      "--consistency=s",
      "-w",
      "json",
    ]);
    const { kvs = [] } = JSON.parse(json) as { kvs?: { key: string; value: string }[] };
    const text = (base64: string): string => Buffer.from(base64, "base64").toString();
    return new Map(kvs.map(({ key, value }) => [text(key), text(value)]));
  }

  async #output(member: Member, argv: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.#run(member, argv).exited;
    expect(status, stderr).toBe(0);
    return stdout.toString();
  }

  #run(member: Member, argv: readonly string[]): Process {
    return new Process(["ip", "netns", "exec", this.#namespace(member), ...argv], {
      env: { ETCDCTL_API: "3" },
    });
  }
}

/** STUN, and TURN for the two NATs that no two packets can meet between: port-restricted and symmetric. */
async function startTurn(namespace: string): Promise<void> {
  const directory = temporaryDirectory();
  const place = ["--listening-ip", PUBLIC, "--relay-ip", PUBLIC, "--listening-port", "3478"];
  const quiet = ["-n", "-v", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout"];
  const files = ["--userdb", join(directory, "db"), "--pidfile", join(directory, "pid")];
  const secret = ["--use-auth-secret", "--static-auth-secret", SECRET, "--realm", "dcpipe"];
  const command = ["stdbuf", "-oL", "turnserver", ...quiet, ...place, ...files, ...secret];
  const turn = new Process(["ip", "netns", "exec", namespace, ...command]);
  await turn.printed("Total General servers");
}

rootTest(
  "an etcd cluster behind three NATs: it loses a path and a member, and no acknowledged write",
  async (context) => {
    needs(context, "etcd", "etcdctl", "turnserver", "nft");
    const { insides, outside } = createNats(KINDS);
    await startTurn(outside);
    // Paths of packets are what this is about.
    const server = await startServer(["--turn", `turn:${PUBLIC}:3478`, "--no-relay"], {
      namespace: outside,
      address: PUBLIC,
      env: { DCPIPE_TURN_SECRET: SECRET },
    });
    const cluster = new Cluster(insides, server);
    const paths = await Promise.all([cluster.connect(1, 2), cluster.connect(1, 3), cluster.connect(2, 3)]);
    const [path] = paths;
    // The last two NATs let no packet of the other one in.
    for (const [i, kind] of ["direct", "direct", "turn"].entries())
      expect(await paths[i]?.[0].event("connected")).toMatchObject({ path: kind });

    // It forms: no member can take a write before two of them have found each other.
    for (const member of MEMBERS) cluster.startMember(member);
    for (const member of MEMBERS) cluster.startWriter(member);
    await cluster.writes(...MEMBERS);

    // A path is lost: 1 and 2 have only 3 in common. At least two members go on; which ones, their election says.
    for (const side of path) side.kill("SIGKILL");
    for (const side of path) await side.exited;
    await cluster.writes(3);

    // It comes back, by a new code.
    const again = await cluster.connect(1, 2);
    await cluster.writes(...MEMBERS);

    // A member is lost: the other two are enough.
    await cluster.killMember(3);
    await cluster.writes(1, 2);
    // It comes back, and learns what it has missed.
    cluster.startMember(3);
    await cluster.writes(...MEMBERS);

    await cluster.stopWriters();
    const acknowledged = MEMBERS.flatMap((member) => cluster.acknowledged(member));
    expect(acknowledged.length).toBeGreaterThan(10 * WRITES);
    for (const member of MEMBERS) {
      const kept = await cluster.read(member);
      const lost = acknowledged.filter((key) => {
        const [, writer, count] = /^n(\d)-(\d+)$/.exec(key) ?? [];
        return kept.get(key) !== `value ${count ?? ""} of ${writer ?? ""}`;
      });
      expect(lost, `member ${member}`).toEqual([]);
    }
    // All of it went through the forwards.
    for (const side of again) expect((await told(side, "opened", 1)).length).toBeGreaterThan(0);
  },
  150_000,
);
