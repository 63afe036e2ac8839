/** Machines that remember each other: paired once by code or token, and then met by name. */
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { listen, startServer, type Server } from "./code.ts";
import {
  type Dcpipe,
  fail,
  makeFile,
  pair,
  rootTest,
  start,
  type StartOptions,
  succeed,
  temporaryDirectory,
} from "./dcpipe.ts";
import { createSwitch, type Machine } from "./switch.ts";

/** A user on some machine, with peers of its own. */
class User {
  readonly state = temporaryDirectory();
  readonly files = temporaryDirectory();
  readonly #options: StartOptions;
  readonly #args: readonly string[];

  /** `args` go with every command that meets somebody. */
  constructor(args: readonly string[], options: StartOptions = {}) {
    this.#args = args;
    this.#options = options;
  }

  run(args: readonly string[], options: StartOptions = {}): Dcpipe {
    return start([...args, ...this.#args], this.#with(options));
  }

  peers(args: readonly string[]): Dcpipe {
    return start(["peers", ...args], this.#with({}));
  }

  recordOf(name: string): string {
    return join(this.state, "dcpipe", "peers", `${name}.json`);
  }

  #with(options: StartOptions): StartOptions {
    const env = { XDG_STATE_HOME: this.state, ...options.env };
    return { ...this.#options, cwd: this.files, ...options, env };
  }
}

/** Two users who have met by code once: `ann` waited, so she is side a. They know each other as "bob" and "ann". */
async function friends(server: Server): Promise<{ ann: User; bob: User }> {
  const where = ["--rendezvous", server.url];
  return meetOnce(new User(where), new User(where));
}

async function meetOnce(ann: User, bob: User): Promise<{ ann: User; bob: User }> {
  const waiting = ann.run(["pipe", "--remember", "bob"]);
  const joining = bob.run(["pipe", await waiting.code(), "--remember", "ann"]);
  await succeed(waiting, joining);
  expect(waiting.find("remembered")).toMatchObject({ name: "bob" });
  expect(joining.find("remembered")).toMatchObject({ name: "ann" });
  return { ann, bob };
}

/** Runs until it has said that its door is open, whichever that is: it knocks, or waits at the rendezvous. */
async function stands(server: Server, connections: number): Promise<void> {
  await server.counts("dcpipe_connections", connections);
}

describe("pairing", () => {
  test("stores the same secret on both sides, for this user only", async () => {
    const { ann, bob } = await friends(await startServer());
    const [a, b] = [ann.recordOf("bob"), bob.recordOf("ann")].map(
      (path) => JSON.parse(readFileSync(path, "utf8")) as Record<string, string>,
    );
    expect(a?.["secret"]).toBe(b?.["secret"]);
    expect([a?.["side"], b?.["side"]]).toEqual(["a", "b"]);
    expect([a?.["calledHere"], b?.["calledHere"]]).toEqual(["ann", "bob"]);
    expect(a?.["certificate"]).not.toBe(b?.["certificate"]);
    for (const path of [ann.recordOf("bob"), bob.recordOf("ann")])
      expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(ann.state, "dcpipe", "peers")).mode & 0o777).toBe(0o700);
  });

  test("works with a token, too", async () => {
    const [ann, bob] = [new User(["--no-rendezvous"]), new User(["--no-rendezvous"])];
    const waiting = ann.run(["pipe", "--remember", "bob"]);
    const joining = bob.run(["pipe", await waiting.offer(), "--remember", "ann"]);
    await succeed(waiting, joining);
    const record = JSON.parse(readFileSync(ann.recordOf("bob"), "utf8")) as Record<string, unknown>;
    expect(record["rendezvous"]).toBeNull();
    // Without a rendezvous and the local network there is no place to meet.
    await fail(ann.run(["pipe", "bob"]), 2, /no rendezvous is known/);
  });

  test.each(["waiting", "joining"])("needs both sides: only the %s one wants it", async (side) => {
    const server = await startServer();
    const where = ["--rendezvous", server.url];
    const [ann, bob] = [new User(where), new User(where)];
    const ask = (here: string): string[] => (here === side ? ["--remember", "friend"] : []);
    const waiting = ann.run(["pipe", ...ask("waiting")], { stdin: Buffer.from("there") });
    const joining = bob.run(["pipe", await waiting.code(), ...ask("joining")], {
      stdin: Buffer.from("back"),
    });
    const [, exit] = await succeed(waiting, joining);
    expect(exit?.stdout.toString()).toBe("there");
    const [asking, refusing] = side === "waiting" ? [waiting, joining] : [joining, waiting];
    expect(asking.find("note", (note) => /not remembered/.test(note.text ?? ""))).toBeDefined();
    expect(refusing.find("note", (note) => /--remember NAME/.test(note.text ?? ""))).toBeDefined();
    for (const user of [ann, bob]) expect(existsSync(user.recordOf("friend"))).toBe(false);
  });

  test("replaces nobody unless told to", async () => {
    const { ann, bob } = await friends(await startServer());
    const before = readFileSync(ann.recordOf("bob"), "utf8");
    await fail(ann.run(["pipe", "--remember", "BOB"]), 2, /remembered as "BOB" already/);
    expect(readFileSync(ann.recordOf("bob"), "utf8")).toBe(before);
    const waiting = ann.run(["pipe", "--remember", "bob", "--yes"]);
    await succeed(waiting, bob.run(["pipe", await waiting.code(), "--remember", "ann", "--yes"]));
    expect(readFileSync(ann.recordOf("bob"), "utf8")).not.toBe(before);
    // And with the new keys they meet.
    const first = ann.run(["pipe", "bob"], { stdin: Buffer.from("new") });
    const [exit] = await succeed(bob.run(["pipe", "ann"]), first);
    expect(exit?.stdout.toString()).toBe("new");
  });

  test.each(["1st", "a/b", "host:22", "dc1abcdefgh", "", "x".repeat(64)])("%s is no name", async (name) => {
    await fail(new User([]).run(["pipe", "--remember", name]), 2);
  });
});

describe("meeting by name", () => {
  test("receive waits by code, and a peer sends to it by name", async () => {
    const server = await startServer();
    const { ann, bob } = await friends(server);
    for (const [from, to, name, sender] of [
      [ann, bob, "bob", "ann"],
      [bob, ann, "ann", "bob"],
    ] as const) {
      const file = makeFile(`from-${sender}`, 100_000);
      const receiving = to.run(["receive"]);
      await receiving.code();
      const sending = from.run(["send", file, "--to", name]);
      await succeed(sending, receiving);
      expect(sending.find("connected")).toMatchObject({ peer: name });
      expect(receiving.find("connected")).toMatchObject({ peer: sender });
      expect(readFileSync(join(to.files, `from-${sender}`))).toEqual(readFileSync(file));
    }
  });

  test("whoever sends may be there first", async () => {
    const server = await startServer();
    const { ann, bob } = await friends(server);
    const sending = ann.run(["send", makeFile("early", 1000), "--to", "bob"]);
    await stands(server, 2);
    const receiving = bob.run(["receive"]);
    await succeed(sending, receiving);
    expect(existsSync(join(bob.files, "early"))).toBe(true);
  });

  test.each([
    ["the one that waited once", true],
    ["the one that joined", false],
  ])("both name each other, %s first", async (_who, annFirst) => {
    const server = await startServer();
    const { ann, bob } = await friends(server);
    const a = (): Dcpipe => ann.run(["pipe", "bob"], { stdin: Buffer.from("from ann") });
    const b = (): Dcpipe => bob.run(["pipe", "--to", "ann"], { stdin: Buffer.from("from bob") });
    const first = annFirst ? a() : b();
    await stands(server, 2);
    const second = annFirst ? b() : a();
    const [one, other] = await succeed(first, second);
    expect([one?.stdout.toString(), other?.stdout.toString()].sort()).toEqual(["from ann", "from bob"]);
    for (const each of [first, second])
      expect(each.events.filter(({ event }) => event === "connected")).toHaveLength(1);
  });

  test("both name each other, to send and to receive, at the same moment", async () => {
    const { ann, bob } = await friends(await startServer());
    const [receiving, sending] = [
      ann.run(["receive", "bob"]),
      bob.run(["send", makeFile("both", 1000), "--to", "ann"]),
    ];
    await succeed(receiving, sending);
    expect(existsSync(join(ann.files, "both"))).toBe(true);
  });

  test("neither send nor pipe waits for peers", async () => {
    const { ann, bob } = await friends(await startServer());
    const waiting = ann.run(["pipe"], { stdin: "pipe" });
    await waiting.code();
    await fail(bob.run(["pipe", "ann", "--timeout", "2"]), 3);
    expect(waiting.find("connected")).toBeUndefined();
  });

  test("--no-known waits for nobody", async () => {
    const { ann, bob } = await friends(await startServer());
    const waiting = ann.run(["receive", "--no-known"]);
    await waiting.code();
    await fail(
      bob.run(["send", "--text", "x", "--to", "ann", "--timeout", "2"]),
      3,
      /did not come within 2 s/,
    );
    expect(waiting.find("connected")).toBeUndefined();
  });

  test("three that knock at the same moment are met one after the other", async () => {
    const server = await startServer();
    const { ann, bob } = await friends(server);
    const sending = ["one", "two", "three"].map((text) => ann.run(["send", "--text", text, "--to", "bob"]));
    const texts: string[] = [];
    for (let i = 0; i < 3; i++) {
      const [exit] = await succeed(bob.run(["receive"]));
      texts.push(exit?.stdout.toString() ?? "");
    }
    await succeed(...sending);
    expect(texts.sort()).toEqual(["one\n", "three\n", "two\n"]);
  });

  test("three peers that each wait behind a door of their own", async () => {
    const server = await startServer();
    const where = ["--rendezvous", server.url];
    const hub = new User(where);
    const others = await Promise.all(
      ["x", "y", "z"].map(async (name) => {
        const other = new User(where);
        const waiting = hub.run(["pipe", "--remember", name]);
        await succeed(waiting, other.run(["pipe", await waiting.code(), "--remember", "hub"]));
        return other;
      }),
    );
    for (const [i, other] of others.entries()) {
      const receiving = hub.run(["receive"]);
      await receiving.code();
      await succeed(receiving, other.run(["send", "--text", `${i}`, "--to", "hub"]));
      expect(receiving.find("connected")?.["peer"]).toBe(["x", "y", "z"][i]);
    }
  });

  test("a rendezvous that is started anew meanwhile", async () => {
    const server = await startServer();
    const { ann, bob } = await friends(server);
    const knocking = ann.run(["send", "--text", "here", "--to", "bob"]);
    await stands(server, 2);
    server.process.kill("SIGKILL");
    await server.process.exited;
    await knocking.event("rendezvous", ({ state }) => state === "lost");
    await startServer([], { port: server.port });
    const [exit] = await succeed(bob.run(["receive", "ann"]), knocking);
    expect(exit?.stdout.toString()).toBe("here\n");
  });

  test("the verifier is the same on both sides", async () => {
    const { ann, bob } = await friends(await startServer());
    const [a, b] = [
      ann.run(["pipe", "bob", "--verify", "--yes"]),
      bob.run(["pipe", "ann", "--verify", "--yes"]),
    ];
    await succeed(a, b);
    expect(a.find("verify")?.["words"]).toBe(b.find("verify")?.["words"]);
  });
});

describe("forward", () => {
  const plain = ["--json", "--no-stun", "--no-lan"];
  /** A server that says back what it hears. Returns its port. */
  const echo = (): Promise<number> => listen(createServer((socket) => void socket.pipe(socket)));

  test("a remembered peer opens one connection to a TARGET", async () => {
    const { ann, bob } = await friends(await startServer());
    const port = await echo();
    const forward = bob.run(["forward", `${port}`, ...plain]);
    await forward.code();
    const pipe = ann.run(["pipe", "--to", "bob", "--target", `localhost:${port}`], {
      stdin: Buffer.from("through"),
    });
    const [exit] = await succeed(pipe);
    expect(exit?.stdout.toString()).toBe("through");
    expect(forward.find("connected")).toMatchObject({ peer: "ann" });
  });

  test("both name each other", async () => {
    const { ann, bob } = await friends(await startServer());
    const port = await echo();
    bob.run(["forward", `${port}`, "--to", "ann", ...plain]);
    const here = ann.run(["forward", "-L", `0:localhost:${port}`, "--to", "bob", ...plain]);
    const { port: bound } = await here.event("listening");
    await here.event("connected");
    expect(await text(connect(Number(bound), "127.0.0.1").end("again"))).toBe("again");
  });
});

describe("dcpipe peers", () => {
  test("list, rename, forget", async () => {
    const { ann, bob } = await friends(await startServer());
    const [listed] = await succeed(ann.peers(["list", "--json"]));
    const lines = listed?.stdout.toString().trim().split("\n") ?? [];
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ name: "bob", calledHere: "ann" });
    expect(listed?.stdout.toString()).not.toContain("secret");

    await succeed(ann.peers(["rename", "bob", "Robert"]));
    const [table] = await succeed(ann.peers(["list"]));
    expect(table?.stdout.toString()).toMatch(/^NAME .*\nRobert +/);
    await fail(ann.run(["pipe", "bob"]), 2, /no peer is remembered as "bob"; dcpipe peers list shows them/);
    await succeed(ann.run(["pipe", "robert"]), bob.run(["pipe", "ann"]));

    await fail(ann.peers(["forget", "robert", "nobody"]), 2, /"nobody"/);
    expect(existsSync(ann.recordOf("robert"))).toBe(true);
    await succeed(ann.peers(["forget", "robert"]));
    expect(existsSync(ann.recordOf("robert"))).toBe(false);
    await fail(ann.peers(["rename", "robert", "bob"]), 2, /no peer is remembered/);
  });

  test("a forgotten peer does not get in", async () => {
    const { ann, bob } = await friends(await startServer());
    await succeed(ann.peers(["forget", "bob"]));
    const waiting = ann.run(["receive"]);
    await waiting.code();
    await fail(bob.run(["send", "--text", "x", "--to", "ann", "--timeout", "3"]), 3, /within 3 s/);
    expect(waiting.find("connected")).toBeUndefined();
  });

  test("forgetting also closes a door that is open", async () => {
    const { ann, bob } = await friends(await startServer());
    const waiting = ann.run(["receive"]);
    await waiting.code();
    await succeed(ann.peers(["forget", "bob"]));
    await fail(bob.run(["send", "--text", "x", "--to", "ann", "--timeout", "3"]), 3);
    expect(waiting.find("connected")).toBeUndefined();
  });

  test("files that others can read are told, files that others can write are not used, broken ones stop nobody", async () => {
    const { ann, bob } = await friends(await startServer());
    writeFileSync(ann.recordOf("broken"), "{", { mode: 0o600 });
    const listing = ann.peers(["list", "--json"]);
    const exit = await fail(listing, 1, /broken\.json is broken/);
    expect(exit.stdout.toString()).toContain('"bob"');
    await fail(ann.run(["pipe", "broken"]), 2, /broken\.json is broken/);
    chmodSync(ann.recordOf("bob"), 0o644);
    const reading = ann.run(["pipe", "bob"]);
    await succeed(reading, bob.run(["pipe", "ann"]));
    expect(reading.find("note", (note) => /others may read it/.test(note.text ?? ""))).toBeDefined();
    chmodSync(ann.recordOf("bob"), 0o622);
    await fail(ann.run(["pipe", "bob"]), 2, /others may write to it/);
    await succeed(ann.peers(["forget", "broken"]));
  });
});

describe("on the local network", () => {
  rootTest("without a server, in every order", async () => {
    const [a, b] = (await createSwitch(2)) as [Machine, Machine];
    const user = ({ namespace }: Machine): User => new User(["--lan", "-v"], { namespace });
    const { ann, bob } = await meetOnce(user(a), user(b));
    for (const [one, other, names] of [
      [ann, bob, ["bob", "ann"]],
      [bob, ann, ["ann", "bob"]],
    ] as const) {
      const receiving = one.run(["receive"]);
      await receiving.code();
      await succeed(receiving, other.run(["send", "--text", "plain", "--to", names[1]]));
      const first = one.run(["pipe", names[0]], { stdin: Buffer.from("first") });
      const second = other.run(["pipe", names[1]], { stdin: Buffer.from("second") });
      const [exit] = await succeed(first, second);
      expect(exit?.stdout.toString()).toBe("second");
    }
  });

  rootTest("where the rendezvous cannot be reached by one side", async () => {
    const [a, b] = (await createSwitch(2)) as [Machine, Machine];
    const server = await startServer([], { namespace: a.namespace });
    const user = ({ namespace }: Machine): User =>
      new User(["--lan", "--rendezvous", server.url], { namespace });
    const { ann, bob } = await meetOnce(user(a), user(b));
    const receiving = ann.run(["receive"]);
    await receiving.code();
    const sending = bob.run(["send", "--text", "past it", "--to", "ann"]);
    await succeed(receiving, sending);
    expect(receiving.stdout.toString()).toBe("past it\n");
  });
});

test("words that are nobody's name", async () => {
  const user = new User([]);
  await fail(user.run(["pipe", "nobody"]), 2, /no peer is remembered as "nobody"/);
  // Words of a code without their number.
  await fail(user.run(["pipe", "guitar-sandwich"]), 2, /a code starts with a number/);
  const { waiting, joining } = await pair([["pipe"]], [["pipe"]]);
  await succeed(waiting, joining);
});
