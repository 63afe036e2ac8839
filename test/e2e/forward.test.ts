/** dcpipe forward: which ports lead where, who may reach what, and how it ends. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  type Dcpipe,
  type DcpipeEvent,
  fail,
  rootTest,
  start,
  succeed,
  temporaryDirectory,
} from "./dcpipe.ts";
import { createNat } from "./nat.ts";
import {
  dial,
  echo,
  ending,
  exchange,
  forwardPair,
  freeRange,
  portOf,
  readExactly,
  serve,
  told,
} from "./forward.ts";

/** A Ctrl-C at one side is a good end for the other. */
async function interrupt(side: Dcpipe, other: Dcpipe): Promise<void> {
  side.kill("SIGINT");
  expect(await side.exited).toMatchObject({ status: 130, signal: null });
  await succeed(other);
}

const ofPeer = (event: DcpipeEvent): boolean => event["peer"] === true;

describe("ports", () => {
  test("the joining side listens on the port that is offered, and both end well", async () => {
    // The server is at another loopback address, so that its port is free at the usual one.
    const port = await serve(echo, { host: "127.0.0.2" });
    const { waiting, joining } = await forwardPair([`127.0.0.2:${port}`], []);
    expect(await joining.event("listening")).toMatchObject({
      protocol: "tcp",
      address: "127.0.0.1",
      port,
      target: `127.0.0.2:${port}`,
    });
    expect((await exchange(port, "hello")).toString()).toBe("hello");
    await joining.event("closed");
    await waiting.event("closed");
    await interrupt(joining, waiting);
    expect(waiting.find("done")).toMatchObject({ bytes: 10, connections: 1 });
  });

  test("it says so when that port is taken, and takes another one", async () => {
    const port = await serve(echo);
    const { waiting, joining } = await forwardPair([String(port)], []);
    const listening = await joining.event("listening");
    expect(listening["port"]).not.toBe(port);
    expect(String(listening["instead"])).toContain(String(port));
    expect((await exchange(Number(listening["port"]), "hello")).toString()).toBe("hello");
    await interrupt(waiting, joining);
  });

  test("each side offers something: each listens for what the other one has", async () => {
    const [a, b] = [await serve((socket) => socket.end("a")), await serve((socket) => socket.end("b"))];
    const { waiting, joining } = await forwardPair([String(a)], [String(b)]);
    expect((await exchange(await portOf(joining), "")).toString()).toBe("a");
    expect((await exchange(await portOf(waiting), "")).toString()).toBe("b");
  });

  for (const side of ["waiting", "joining"] as const) {
    test(`-L at the ${side} side: several of them, one with an address to bind`, async () => {
      const [a, b] = [await serve((socket) => socket.end("a")), await serve((socket) => socket.end("b"))];
      const local = ["-L", `0:localhost:${a}`, "-L", `127.0.0.3:0:127.0.0.1:${b}`];
      const offers = [String(a), `127.0.0.1:${b}`];
      const sides = await (side === "waiting" ? forwardPair(local, offers) : forwardPair(offers, local));
      const asker = sides[side];
      const [first, second] = await told(asker, "listening", 2);
      expect(first).toMatchObject({ address: "127.0.0.1", target: `localhost:${a}` });
      expect(second).toMatchObject({ address: "127.0.0.3", target: `127.0.0.1:${b}` });
      expect((await exchange(Number(first?.["port"]), "")).toString()).toBe("a");
      expect((await exchange({ host: "127.0.0.3", port: Number(second?.["port"]) }, "")).toString()).toBe(
        "b",
      );
    });

    test(`-R at the ${side} side: the port that the other one picked is told to both`, async () => {
      const port = await serve(echo);
      const remote = ["-R", `0:localhost:${port}`];
      const sides = await (side === "waiting" ? forwardPair(remote, []) : forwardPair([], remote));
      const [asker, other] =
        side === "waiting" ? [sides.waiting, sides.joining] : [sides.joining, sides.waiting];
      const listening = await asker.event("listening", ofPeer);
      expect(listening).toMatchObject({ protocol: "tcp", peer: true, target: `localhost:${port}` });
      expect(await other.event("listening")).toMatchObject({ port: listening["port"] });
      expect((await exchange(Number(listening["port"]), "hello")).toString()).toBe("hello");
      await interrupt(asker, other);
    });
  }

  test("a port of -R that is taken there ends both, and says which", async () => {
    const port = await serve(echo);
    const { waiting, joining } = await forwardPair([], ["-R", `${port}:localhost:${port}`]);
    expect((await joining.event("unheard")).message).toContain(String(port));
    await fail(joining, 1, /does not listen/);
    await fail(waiting, 6, /gave up.*in use/);
  });

  test("-R for more than loopback is refused, and --gateway allows it", async () => {
    const port = await serve(echo);
    const refused = await forwardPair([], ["-R", `*:0:localhost:${port}`]);
    await fail(refused.joining, 5, /loopback/);
    await fail(refused.waiting, 5, /loopback/);
    expect(refused.waiting.find("refused")).toMatchObject({ by: "us", target: "*:0" });
    const allowed = await forwardPair(["--gateway"], ["-R", `*:0:localhost:${port}`]);
    const there = await portOf(allowed.joining, ofPeer);
    // Only who listens on every address answers at this one.
    expect((await exchange({ host: "127.0.0.9", port: there }, "hello")).toString()).toBe("hello");
  });

  test("a range is as many ports", async () => {
    const base = await freeRange(3, "127.0.0.2");
    for (let i = 0; i < 3; i++)
      await serve((socket) => socket.end(String(i)), { host: "127.0.0.2", port: base + i });
    const { joining } = await forwardPair([`127.0.0.2:${base}-${base + 2}`], []);
    await told(joining, "listening", 3);
    for (let i = 0; i < 3; i++) {
      const port = await portOf(joining, ({ target }) => target === `127.0.0.2:${base + i}`);
      expect((await exchange(port, "")).toString()).toBe(String(i));
    }
    const there = await freeRange(3, "127.0.0.3");
    const second = await forwardPair(
      ["--allow", "127.0.0.2:*"],
      ["-L", `127.0.0.3:${there}-${there + 2}:127.0.0.2:${base}-${base + 2}`],
    );
    await told(second.joining, "listening", 3);
    for (let i = 0; i < 3; i++)
      expect((await exchange({ host: "127.0.0.3", port: there + i }, "")).toString()).toBe(String(i));
  });

  test("IPv6 at both ends", async () => {
    const port = await serve(echo, { host: "::1" });
    const { joining } = await forwardPair([`[::1]:${port}`], ["-L", `[::1]:0:[::1]:${port}`]);
    const listening = await joining.event("listening");
    expect(listening).toMatchObject({ address: "::1", target: `[::1]:${port}` });
    expect((await exchange({ host: "::1", port: Number(listening["port"]) }, "hello")).toString()).toBe(
      "hello",
    );
  });

  test("a name stands for IPv4 and IPv6: whichever the server listens at is found", async () => {
    const port = await serve(echo, { host: "::1" });
    const { joining } = await forwardPair([String(port)], ["-L", `0:localhost:${port}`]);
    expect((await exchange(await portOf(joining), "hello")).toString()).toBe("hello");
  });

  test("unix sockets at either end and at both", async () => {
    const directory = temporaryDirectory();
    const [server, client, back] = ["server", "client", "back"].map((name) => join(directory, name)) as [
      string,
      string,
      string,
    ];
    await serve(echo, { path: server });
    const port = await serve(echo);
    const { waiting, joining } = await forwardPair(
      [`unix:${server}`, String(port)],
      ["-L", `${client}:${server}`, "-L", `0:unix:${server}`, "-L", `${back}:localhost:${port}`],
    );
    await told(joining, "listening", 3);
    expect((await exchange({ path: client }, "one")).toString()).toBe("one");
    expect((await exchange(await portOf(joining, (e) => "port" in e), "two")).toString()).toBe("two");
    expect((await exchange({ path: back }, "three")).toString()).toBe("three");
    // As private as a port on loopback is not: other users stay out.
    expect(statSync(client).mode & 0o077).toBe(0);
    await interrupt(joining, waiting);
    expect(existsSync(client)).toBe(false);
  });
});

describe("access", () => {
  test("what is neither offered nor allowed is refused, and both sides say so", async () => {
    const [offered, other] = [await serve(echo), await serve(echo)];
    const { waiting, joining } = await forwardPair([String(offered)], ["-L", `0:localhost:${other}`]);
    const { received } = await ending(dial(await portOf(joining)));
    expect(received.length).toBe(0);
    for (const [side, by] of [
      [waiting, "us"],
      [joining, "them"],
    ] as const)
      expect(await side.event("refused")).toMatchObject({ by, target: `localhost:${other}` });
  });

  test("--allow takes names, globs of ports and networks; what it does not name stays refused", async () => {
    const port = await serve(echo, { host: "127.0.0.2" });
    const ask = async (rules: readonly string[], host: string): Promise<string> => {
      const allow = rules.flatMap((rule) => ["--allow", rule]);
      const { waiting, joining } = await forwardPair(allow, ["-L", `0:${host}:${port}`]);
      const { received } = await (async () => {
        const socket = dial(await portOf(joining));
        socket.end("hello");
        return ending(socket);
      })();
      if (received.length === 0) await Promise.all([waiting.event("refused"), joining.event("refused")]);
      await interrupt(joining, waiting);
      return received.toString();
    };
    expect(await ask([`127.0.0.2:${port}`], "127.0.0.2")).toBe("hello");
    expect(await ask(["127.0.0.0/8:1-65535"], "127.0.0.2")).toBe("hello");
    expect(await ask(["10.0.0.0/8:*", "127.0.0.?:*"], "127.0.0.2")).toBe("hello");
    expect(await ask(["127.0.0.0/31:*"], "127.0.0.2")).toBe("");
    expect(await ask([`127.0.0.2:${port + 1}`], "127.0.0.2")).toBe("");
    // A rule about names does not lead to this machine itself, whatever the name stands for.
    expect(await ask(["local*:*"], "localhost")).toBe("");
  });

  test("no unix socket is reached that nobody named", async () => {
    const directory = temporaryDirectory();
    await serve(echo, { path: join(directory, "secret") });
    const { waiting, joining } = await forwardPair(
      ["--allow", "*:*", "--allow", `unix:${directory}/other`],
      ["-L", `0:${directory}/secret`],
    );
    expect((await ending(dial(await portOf(joining)))).received.length).toBe(0);
    await Promise.all([waiting.event("refused"), joining.event("refused")]);
  });
});

describe("sessions", () => {
  test("--multi serves three joiners at once, each by an offer of its own", async () => {
    const port = await serve(echo, { host: "127.0.0.2" });
    const waiting = start(["forward", "--multi", `127.0.0.2:${port}`]);
    const joiners: Dcpipe[] = [];
    for (let count = 1; count <= 3; count++) {
      const offers = await told(waiting, "offer", count);
      const joiner = start(["forward", "-L", `0:127.0.0.2:${port}`, "--to", String(offers.at(-1)?.token)]);
      await joiner.event("connected");
      joiners.push(joiner);
    }
    const sockets = await Promise.all(joiners.map(async (joiner) => dial(await portOf(joiner))));
    // In turns, so that all three stand at the same time.
    for (const turn of ["first", "second"]) {
      for (const [i, socket] of sockets.entries()) socket.write(`${turn} of ${i}`);
      for (const [i, socket] of sockets.entries())
        expect((await readExactly(socket, turn.length + 5)).toString()).toBe(`${turn} of ${i}`);
    }
    // One that leaves disturbs nobody.
    joiners[0]?.kill("SIGINT");
    expect(await joiners[0]?.exited).toMatchObject({ status: 130 });
    sockets[1]?.end("still here");
    expect((await readExactly(sockets[1] ?? dial(0), 10)).toString()).toBe("still here");
    waiting.kill("SIGINT");
    expect(await waiting.exited).toMatchObject({ status: 130 });
    await succeed(...joiners.slice(1));
  });

  test("connections that stand when a side ends are ended too", async () => {
    const servers: Promise<unknown>[] = [];
    const port = await serve((socket) => servers.push(ending(socket)));
    const { waiting, joining } = await forwardPair([String(port)], []);
    const client = dial(await portOf(joining));
    const over = ending(client);
    client.write("hello");
    await waiting.event("opened");
    await interrupt(waiting, joining);
    await over;
    await Promise.all(servers);
  });

  test("connections are counted and told one by one", async () => {
    const port = await serve(echo);
    const { waiting, joining } = await forwardPair([String(port)], []);
    const client = dial(await portOf(joining));
    client.write("four");
    await readExactly(client, 4);
    const opened = await joining.event("opened");
    const from = `127.0.0.1:${client.localPort ?? 0}`;
    expect(opened).toMatchObject({ protocol: "tcp", target: `localhost:${port}`, from });
    client.end("three");
    for (const side of [waiting, joining])
      expect(await side.event("closed")).toMatchObject({ protocol: "tcp", sent: 9, received: 9 });
    expect(joining.find("closed")).toMatchObject({ id: opened["id"], from });
    expect(joining.find("closed")?.reason).toBeUndefined();
  });

  test("SIGUSR1 shows how things stand", async () => {
    const port = await serve(echo);
    const { waiting, joining } = await forwardPair([String(port)], []);
    const client = dial(await portOf(joining));
    client.write("hello");
    await readExactly(client, 5);
    for (const side of [waiting, joining]) {
      side.kill("SIGUSR1");
      expect(await side.event("status")).toMatchObject({
        state: "running",
        path: "direct",
        connections: [{ protocol: "tcp", target: `localhost:${port}`, sent: 5, received: 5 }],
      });
    }
    await interrupt(joining, waiting);
  });

  test("a client that comes before the other side has joined waits for it", async () => {
    const port = await serve(echo);
    const waiting = start(["forward", "-L", `0:localhost:${port}`]);
    const answer = exchange(await portOf(waiting), "early");
    const joining = start(["forward", String(port), "--to", await waiting.offer()]);
    expect((await answer).toString()).toBe("early");
    await interrupt(joining, waiting);
  });

  for (const direction of ["up", "down"] as const) {
    test(`--limit caps what the joining side ${direction === "up" ? "sends" : "gets"} through its port`, async () => {
      const size = 1_500_000;
      const port = await serve((socket) => {
        if (direction === "down") socket.end(Buffer.alloc(size));
        else socket.resume().on("end", () => socket.end("thanks"));
      });
      const limit = ["--limit", "500k"];
      const { joining } = await forwardPair(
        [String(port), ...(direction === "down" ? limit : [])],
        ["-L", `0:localhost:${port}`, ...(direction === "up" ? limit : [])],
      );
      const listening = await portOf(joining);
      const begun = performance.now();
      const answer = await exchange(listening, direction === "up" ? Buffer.alloc(size) : "");
      expect(answer.length).toBe(direction === "up" ? 6 : size);
      // Half of what it has to take: what lies in buffers on the way is not held back.
      expect(performance.now() - begun).toBeGreaterThan(1500);
    });
  }
});

describe("a port that cannot be had", () => {
  test("-L: status 2 before anybody is asked to join", async () => {
    const port = await serve(echo);
    const busy = start(["forward", "-L", `${port}:localhost:1`]);
    await fail(busy, 2, new RegExp(String(port)));
    expect(busy.find("offer")).toBeUndefined();
    await fail(start(["forward", "-D", String(port)]), 2, new RegExp(String(port)));
    await fail(start(["forward", "-L", `192.0.2.1:0:localhost:1`]), 2, /192\.0\.2\.1/);
  });

  test("a unix socket: not where something else is", async () => {
    const directory = temporaryDirectory();
    await serve(echo, { path: join(directory, "socket") });
    await fail(start(["forward", "-L", `${directory}/socket:localhost:1`]), 2, /socket/);
    await fail(start(["forward", "-L", `${directory}/none/socket:localhost:1`]), 2, /none/);
  });

  rootTest("a privileged port", async () => {
    // A namespace of its own: there the privileged ports are those below 1024, whatever this machine has been told.
    const { inside } = createNat();
    const without = start(["forward", "-L", "80:localhost:80"], {
      namespace: inside,
      shell: 'exec setpriv --bounding-set=-net_bind_service "$@"',
    });
    await fail(without, 2, /80/);
    const offering = start(["forward", "-L", "80:localhost:80"], { namespace: inside });
    expect(await portOf(offering)).toBe(80);
  });
});

describe("wrong usage: status 2", () => {
  for (const args of [
    ["--nonsense"],
    ["-L"],
    ["-L", "80"],
    ["-L", "80:host"],
    ["-L", "99999:host:80"],
    ["-L", "80-90:host:80"],
    ["-R", "80:host:0"],
    ["-D", "host"],
    ["--allow", "host"],
    ["--allow", "*"],
    ["99999"],
    ["0"],
    ["host:port"],
    ["5432", "not a code", "5433"],
    ["--multi", "-L", "0:localhost:80"],
    ["--multi", "80", "--to", "7-guitar-sandwich"],
    ["--limit", "fast"],
    ["--ask", "80"],
  ]) {
    test(`forward ${args.join(" ")}`, async () => {
      const wrong = start(["forward", ...args]);
      expect(await wrong.exited).toMatchObject({ status: 2, signal: null });
      expect(wrong.stderr).not.toMatch(/^\s+at /m);
      expect(wrong.find("offer")).toBeUndefined();
    });
  }

  test.each(["99999", "8000-7000", "80/tpc", "host:http", "unix:socket", "/run/socket"])(
    "%s is told as a TARGET, not as a code or a token",
    async (word) => {
      await fail(start(["forward", word]), 2, new RegExp(`TARGET ${word}: `));
    },
  );
});

describe("pipe --target", () => {
  test("is one connection to what a waiting forward offers", async () => {
    const port = await serve(echo);
    const waiting = start(["forward", String(port)]);
    const target = ["--target", `localhost:${port}`];
    const pipe = start(["pipe", ...target, "--to", await waiting.offer()], { stdin: Buffer.from("hello") });
    const [exit] = await succeed(pipe, waiting);
    expect(exit?.stdout.toString()).toBe("hello");
    expect(waiting.find("closed")).toMatchObject({ sent: 5, received: 5 });
  });

  test("carries megabytes both ways, and the target may end first", async () => {
    const payload = Buffer.alloc(3_000_000, "abcdefg");
    const port = await serve((socket) => {
      socket.end(payload);
      socket.resume();
    });
    const waiting = start(["forward", String(port)]);
    const target = ["--target", `localhost:${port}`];
    const pipe = start(["pipe", ...target, "--to", await waiting.offer()], { stdin: payload });
    const [exit] = await succeed(pipe, waiting);
    expect(exit?.stdout.equals(payload)).toBe(true);
  });

  for (const [what, status, port, message] of [
    ["something that is not offered", 5, 9, /not offered/],
    ["a port at which nobody listens", 1, undefined, /refused/],
  ] as const) {
    test(`${what}: status ${status}`, async () => {
      const free = await freeRange(1, "127.0.0.1");
      const waiting = start(["forward", `127.0.0.1:${free}`]);
      const target = ["--target", `127.0.0.1:${port ?? free}`];
      const pipe = start(["pipe", ...target, "--to", await waiting.offer()], { stdin: "pipe" });
      await fail(pipe, status, message);
      await waiting.exited;
    });
  }

  test("a waiting side has no use for it", async () => {
    await fail(start(["pipe", "--target", "localhost:1"]), 2, /PEER/);
  });
});

describe("verbs that do not go together: status 5 at both sides", () => {
  for (const [waits, joins] of [
    [["forward", "80"], ["pipe"]],
    [["pipe"], ["forward", "80"]],
    [["forward", "80"], ["receive"]],
    [["receive"], ["forward", "80"]],
    [
      ["send", "--text", "x"],
      ["forward", "80"],
    ],
  ] as const) {
    test(`${waits[0]} and ${joins[0]}`, async () => {
      const waiting = start(waits, { stdin: "pipe", cwd: temporaryDirectory() });
      const joining = start([...joins, "--to", await waiting.offer()], {
        stdin: "pipe",
        cwd: temporaryDirectory(),
      });
      await fail(waiting, 5, new RegExp(`dcpipe ${joins[0]}`));
      await fail(joining, 5, new RegExp(`dcpipe ${waits[0]}`));
    });
  }
});
