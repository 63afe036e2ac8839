/** Whatever is wrong with a code or a rendezvous: each side says what, with the documented status. */
import { createServer } from "node:http";
import { expect, test } from "vitest";
import { WebSocketServer } from "ws";
import { freePort, listen, otherWords, pairByCode, startServer } from "./code.ts";
import { type Dcpipe, fail, start } from "./dcpipe.ts";

/** Ends with this error, and tells nobody the words of the code. */
async function failAs(
  side: Dcpipe,
  status: number,
  code: string,
  message: RegExp,
  secret?: string,
): Promise<void> {
  await fail(side, status, message);
  expect(side.error).toMatchObject({ code });
  for (const word of secret?.split("-").slice(1) ?? [])
    expect(`${side.error?.message} ${side.error?.hint}`).not.toContain(word);
}

// ---- codes ----------------------------------------------------------------------------------------------------------

for (const command of [
  ["pipe", "pipe"],
  ["send", "receive"],
] as const) {
  test(`${command[1]} with wrong words ends both sides, and the code with them`, async () => {
    const server = await startServer();
    const here = ["--rendezvous", server.url];
    const waiting = start([...(command[0] === "send" ? ["send", import.meta.filename] : ["pipe"]), ...here]);
    const code = await waiting.code();
    const wrong = otherWords(code);
    const joining = start([command[1], wrong, ...here]);
    await failAs(joining, 4, "CODE_WRONG", /the codes of the two sides differ; this one is burned/, wrong);
    await failAs(waiting, 4, "CODE_WRONG", /burned/, code);
    for (const side of [waiting, joining]) {
      expect(side.error?.hint).toMatch(/new code/);
      expect(side.stdout.length).toBe(0);
      expect(side.find("connected")).toBeUndefined();
    }
    await server.counts('dcpipe_outcomes_total{outcome="wrong"}', 1);
    // The right words come too late.
    await failAs(start(["pipe", code, ...here]), 4, "CODE_USED", /somebody else has used this code/, code);
  });
}

test("what is no code is named, and the server never hears of it", async () => {
  const server = await startServer();
  const here = ["--rendezvous", server.url];
  const cases: readonly (readonly [text: string, message: RegExp])[] = [
    ["7-guitra-sandwich", /"guitra" is no word of a code; did you mean "guitar"\?/],
    ["7-gui-sandwich", /did you mean "guitar"\?/],
    ["7-guitar-xylophone", /"xylophone" is no word of a code$/],
    ["7-guitar", /a word is missing at its end/],
    ["7guitarsandwich", /hyphens are missing/],
    ["guitar-sandwich", /starts with a number/],
    ["7", /words behind the number are missing/],
    ["0-guitar-sandwich", /number at its front/],
    ["1000000-guitar-sandwich", /number at its front/],
    [`7${"-guitar".repeat(13)}`, /more than 12 words/],
    [`${server.url}#7-guitar-sandwhich`, /did you mean "sandwich"\?/],
    [`${server.url}#`, /the link has no code/],
    [server.url, /the link has no code/],
  ];
  await Promise.all(
    cases.map(async ([text, message]) => {
      await failAs(start(["receive", text, ...here]), 2, "CODE_MALFORMED", message);
    }),
  );
  // Without any hyphen it may be anything, and is taken for a broken token.
  await fail(start(["receive", "guitarsandwich", ...here]), 2);
  await failAs(start(["receive", "--code-file", "-", ...here]), 2, "TOKEN_MALFORMED", /no token given/);
  expect(await server.metric("dcpipe_connections_total")).toBe(0);
});

test("a nameplate at which nobody waits", async () => {
  const server = await startServer();
  const joining = start(["pipe", "7-guitar-sandwich", "--rendezvous", server.url]);
  await failAs(joining, 4, "CODE_UNKNOWN", /nobody waits with this code/, "7-guitar-sandwich");
});

test("a code serves once: while its session stands, and afterwards", async () => {
  const server = await startServer();
  const { waiting, joining, code } = await pairByCode(
    server.url,
    [["pipe"], { stdin: "pipe" }],
    [["pipe"], { stdin: "pipe" }],
  );
  await Promise.all([waiting.event("connected"), joining.event("connected")]);
  const third = (): Dcpipe => start(["pipe", code, "--rendezvous", server.url]);
  await failAs(third(), 4, "CODE_USED", /somebody else has used this code/, code);
  waiting.stdin.end("still there");
  joining.stdin.end();
  expect((await joining.exited).stdout.toString()).toBe("still there");
  expect((await waiting.exited).status).toBe(0);
  await failAs(third(), 4, "CODE_USED", /somebody else has used this code/, code);
});

// ---- the rendezvous -------------------------------------------------------------------------------------------------

test("what answers is a web server", async () => {
  const port = await listen(createServer((_, response) => response.end("hello")));
  for (const peer of [[], ["7-guitar-sandwich"]]) {
    const side = start(["pipe", ...peer, "--rendezvous", `http://127.0.0.1:${port}`]);
    await failAs(side, 3, "NO_RENDEZVOUS", /what answers at .* is no rendezvous/, peer[0]);
    expect(side.find("code")).toBeUndefined();
  }
});

// RFC 6455, section 4.1: a client takes no subprotocol that it has not offered.
for (const protocol of ["chat", "dcpipe-rendezvous.99"]) {
  test(`what answers is a WebSocket server that chooses ${protocol}`, async () => {
    const http = createServer();
    new WebSocketServer({ server: http, handleProtocols: () => protocol });
    const side = start(["pipe", "--rendezvous", `http://127.0.0.1:${await listen(http)}`]);
    await failAs(side, 3, "NO_RENDEZVOUS", /is no rendezvous/);
  });
}

test("what answers is a rendezvous of another version", async () => {
  for (const chosen of ["dcpipe-rendezvous.1", false] as const) {
    const http = createServer();
    new WebSocketServer({ server: http, handleProtocols: () => chosen }).on("connection", (client) => {
      client.close(4001);
    });
    const url = `http://127.0.0.1:${await listen(http)}`;
    for (const peer of [[], ["7-guitar-sandwich"]]) {
      const side = start(["pipe", ...peer, "--rendezvous", url]);
      await failAs(side, 1, "VERSION", /another version/);
      expect(side.error?.hint).toMatch(/same version/);
    }
  }
});

test("nobody answers", async () => {
  const port = await freePort();
  for (const peer of [[], ["7-guitar-sandwich"]]) {
    const side = start(["pipe", ...peer, "--timeout", "1", "--rendezvous", `http://127.0.0.1:${port}`]);
    await fail(side, 3);
    expect(["TIMEOUT", "SIGNALLING"]).toContain(side.error?.code);
    expect(side.find("rendezvous")).toMatchObject({ state: "lost", reason: /refused/ });
  }
});

test("a rendezvous that was never reached is given up", async () => {
  const port = await freePort();
  const waiting = start(["pipe", "--rendezvous", `http://127.0.0.1:${port}`]);
  await failAs(
    waiting,
    3,
    "SIGNALLING",
    /cannot reach http:\/\/127\.0\.0\.1:\d+: the connection was refused/,
  );
  expect(waiting.events.filter(({ event }) => event === "rendezvous")).toHaveLength(1);
});

test("what is no URL", async () => {
  for (const url of [
    "http://",
    "ftp://example.org",
    "https://ann:secret@example.org",
    "https://example.org?a",
  ]) {
    for (const peer of [[], ["7-guitar-sandwich"]]) {
      const side = start(["pipe", ...peer, "--rendezvous", url]);
      await fail(side, 2);
      expect(side.error).toMatchObject({ code: "USAGE" });
      expect(side.stderr).not.toContain("secret");
    }
  }
  await failAs(start(["pipe", "ftp://example.org/#7-guitar-sandwich"]), 2, "USAGE", /no URL of a rendezvous/);
});

// ---- people ---------------------------------------------------------------------------------------------------------

test("the joining side is interrupted before there is a connection: the waiting side is told", async () => {
  const server = await startServer();
  const here = ["--rendezvous", server.url];
  const waiting = start(["pipe", ...here], { stdin: "pipe" });
  const code = await waiting.code();
  // It cannot answer, so that there is no connection yet.
  waiting.kill("SIGSTOP");
  const joining = start(["pipe", code, ...here], { stdin: "pipe" });
  await server.counts("dcpipe_matches_total", 1);
  joining.kill("SIGINT");
  expect(await joining.exited).toMatchObject({ status: 130, signal: null });
  expect(joining.error).toBeUndefined();
  waiting.kill("SIGCONT");
  await failAs(waiting, 6, "INTERRUPTED", /gave up before there was a connection/, code);
});

test("the waiting side is interrupted: who comes later finds nobody", async () => {
  const server = await startServer();
  const here = ["--rendezvous", server.url];
  const waiting = start(["pipe", ...here], { stdin: "pipe" });
  const code = await waiting.code();
  waiting.kill("SIGINT");
  expect(await waiting.exited).toMatchObject({ status: 130, signal: null });
  await server.counts("dcpipe_connections", 0);
  await failAs(start(["pipe", code, ...here]), 4, "CODE_UNKNOWN", /nobody waits with this code/, code);
  await server.counts('dcpipe_outcomes_total{outcome="left"}', 1);
});

test("the waiting side is interrupted while the joining side is there: that is told", async () => {
  const server = await startServer();
  const here = ["--rendezvous", server.url];
  const waiting = start(["pipe", ...here], { stdin: "pipe" });
  const code = await waiting.code();
  waiting.kill("SIGSTOP");
  const joining = start(["pipe", code, ...here], { stdin: "pipe" });
  await server.counts("dcpipe_matches_total", 1);
  waiting.kill("SIGINT");
  waiting.kill("SIGCONT");
  expect(await waiting.exited).toMatchObject({ status: 130, signal: null });
  await fail(joining, 6);
  expect(joining.error).toMatchObject({ code: "INTERRUPTED" });
});

test("nobody comes within --timeout", async () => {
  const server = await startServer();
  const waiting = start(["pipe", "--timeout", "1", "--rendezvous", server.url]);
  await failAs(waiting, 3, "TIMEOUT", /did not connect within 1 s/);
  await server.counts('dcpipe_outcomes_total{outcome="left"}', 1);
});
