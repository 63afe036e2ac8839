/** dcpipe pipe --raw between two dcpipes, and what it makes of things that are no offer or answer. */
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  BIN,
  type Dcpipe,
  expectEqualFiles,
  fail,
  makeFile,
  quote,
  sha256,
  start,
  type StartOptions,
  succeed,
  temporaryDirectory,
} from "./dcpipe.ts";

/** Two sides, the offer and the answer in files. */
async function rawPair(
  offering: StartOptions["stdin"],
  answering: StartOptions["stdin"],
  args: readonly string[] = [],
): Promise<{ offers: Dcpipe; answers: Dcpipe }> {
  const directory = temporaryDirectory();
  const [offerFile, answerFile] = [join(directory, "offer"), join(directory, "answer")];
  const offers = start(["pipe", "--raw", "--offer-file", offerFile, "--answer-file", answerFile, ...args], {
    ...(offering === undefined ? {} : { stdin: offering }),
  });
  const offer = await offers.offer();
  const answers = start(["pipe", "--raw", "--to", offer, "--answer-file", answerFile, ...args], {
    ...(answering === undefined ? {} : { stdin: answering }),
  });
  return { offers, answers };
}

function expectBytes(dcpipe: Dcpipe, bytes: Uint8Array): void {
  expect(dcpipe.stdout.length).toBe(bytes.length);
  expect(sha256(dcpipe.stdout)).toBe(sha256(bytes));
}

const MIB = 1024 * 1024;

for (const sender of ["offers", "answers"] as const) {
  test(`the side that ${sender} sends, the other one only listens: both end by themselves`, async () => {
    const bytes = randomBytes(24 * MIB + 5);
    const pair = await (sender === "offers" ? rawPair(bytes, "ignore") : rawPair("ignore", bytes));
    await succeed(pair.offers, pair.answers);
    expectBytes(sender === "offers" ? pair.answers : pair.offers, bytes);
    expect(pair[sender].find("done")).toMatchObject({ sent: bytes.length, received: 0 });
    expect(pair.offers.find("connected")).toMatchObject({ path: "direct" });
  });
}

test("both directions at once", async () => {
  const [there, back] = [randomBytes(8 * MIB), randomBytes(5 * MIB + 1)];
  const { offers, answers } = await rawPair(there, back);
  await succeed(offers, answers);
  expectBytes(answers, there);
  expectBytes(offers, back);
});

test("the first bytes go out while stdin is open, and the end of stdin closes", async () => {
  const { offers, answers } = await rawPair("pipe", "pipe");
  offers.stdin.write("question");
  await answers.printed("question");
  answers.stdin.write("answer");
  await offers.printed("answer");
  offers.stdin.end();
  await succeed(offers, answers);
});

test("offer and answer are one line of JSON each, complete with addresses", async () => {
  const { offers, answers } = await rawPair(Buffer.from("x"), "ignore");
  const answer = String((await answers.event("answer")).token);
  for (const [text, type] of [
    [await offers.offer(), "offer"],
    [answer, "answer"],
  ] as const) {
    expect(text).not.toContain("\n");
    const description = JSON.parse(text) as { type: string; sdp: string };
    expect(Object.keys(description)).toEqual(["type", "sdp"]);
    expect(description.type).toBe(type);
    expect(description.sdp).toMatch(/^v=0\r\n[\s\S]*\r\na=candidate:[\s\S]*\r\na=end-of-candidates\r\n$/);
  }
  await succeed(offers, answers);
});

test("by --via and --stdio-signal", async () => {
  const file = makeFile("payload", 300_000);
  const there = quote([process.execPath, BIN, "pipe", "--raw", "--stdio-signal", "--no-stun", "-q"]);
  const arrived = join(temporaryDirectory(), "arrived");
  // The first line is the offer, the rest is what this side sends.
  const via = `${there} | { read -r line; printf '%s\\n' "$line"; cat > ${quote([arrived])}; }`;
  const joins = start(["pipe", "--raw", "--via", via], { stdin: readFileSync(file) });
  await succeed(joins);
  expectEqualFiles(arrived, file);
});

test("the answering side tells of a peer that never comes", async () => {
  const { offers, answers } = await rawPair("ignore", "ignore");
  const offer = await offers.offer();
  await succeed(...(await end(offers, answers)));
  const alone = start(["pipe", "--raw", "--timeout", "1", "--to", offer]);
  await fail(alone, 3, /not connected within 1 s|no path/);
});

/** Ends a pair that has nothing to say by an interrupt of one side; the other one sees it go. */
async function end(offers: Dcpipe, answers: Dcpipe): Promise<Dcpipe[]> {
  await offers.event("connected");
  await answers.event("connected");
  offers.kill("SIGINT");
  expect((await offers.exited).status).toBe(130);
  return [answers];
}

// ---- what is no offer -----------------------------------------------------------------------------------------------

const SDP = [
  "v=0",
  "o=- 1 1 IN IP4 127.0.0.1",
  "s=-",
  "t=0 0",
  "a=group:BUNDLE 0",
  "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
  "c=IN IP4 0.0.0.0",
  "a=mid:0",
  "a=sctp-port:5000",
  "a=max-message-size:262144",
  "a=ice-ufrag:abcd",
  "a=ice-pwd:abcdefghijklmnopqrstuv",
  `a=fingerprint:sha-256 ${Array(32).fill("AB").join(":")}`,
  "a=setup:actpass",
  "",
].join("\r\n");

const offer = (sdp: string): string => JSON.stringify({ type: "offer", sdp });

test("what is no offer is named in a message, with status 2, and nothing is said on stdout", async () => {
  const cases: readonly (readonly [text: string, code: string, message: RegExp])[] = [
    ["", "TOKEN_MALFORMED", /no offer or answer given/],
    ["hello", "TOKEN_MALFORMED", /no JSON/],
    ["[]", "TOKEN_MALFORMED", /no object/],
    ["7", "TOKEN_MALFORMED", /no object/],
    ["{}", "TOKEN_MALFORMED", /neither/],
    ["null", "TOKEN_MALFORMED", /only candidates/],
    ['{"candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host"}', "TOKEN_MALFORMED", /only candidates/],
    ["dc1AAAAAAAA", "TOKEN_MALFORMED", /dcpipe token/],
    [SDP, "TOKEN_MALFORMED", /bare SDP/],
    [offer(SDP).slice(0, 100), "TOKEN_CUT", /cut short/],
    [JSON.stringify({ type: "answer", sdp: SDP }), "TOKEN_KIND", /an answer, but an offer is due/],
    [JSON.stringify({ type: "rollback", sdp: SDP }), "TOKEN_MALFORMED", /neither "offer" nor "answer"/],
    [`${offer(SDP)}\n${offer(SDP)}`, "TOKEN_MALFORMED", /two offers/],
    [offer(""), "TOKEN_MALFORMED", /no SDP/],
    [offer("v=0\r\n"), "TOKEN_MALFORMED", /no data channel/],
    [offer(SDP.replace(/m=.*/, "m=audio 9 UDP/TLS/RTP/SAVPF 111")), "TOKEN_MALFORMED", /other media/],
    [offer(`${SDP}m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n`), "TOKEN_MALFORMED", /other media/],
    [offer(SDP.replace(/a=ice-ufrag.*\r\n/, "")), "TOKEN_MALFORMED", /ice-ufrag/],
    [offer(SDP.replace("abcdefghijklmnopqrstuv", "short")), "TOKEN_MALFORMED", /ice-pwd/],
    [offer(SDP.replace("sha-256", "sha-1")), "TOKEN_MALFORMED", /fingerprint/],
    [offer(SDP.replace("AB:", "XY:")), "TOKEN_MALFORMED", /fingerprint/],
    [offer(SDP.replace("actpass", "holdconn")), "TOKEN_MALFORMED", /a=setup/],
    [offer(SDP.replace("sctp-port:5000", "sctp-port:99999")), "TOKEN_MALFORMED", /sctp-port/],
    [offer(SDP.replace("size:262144", "size:-1")), "TOKEN_MALFORMED", /max-message-size/],
    [offer(SDP.replace("a=mid:0", "a=mid:\u0007\u001b[31m")), "TOKEN_MALFORMED", /a=mid/],
    [offer(`${SDP}${"a=x\r\n".repeat(1000)}`), "TOKEN_MALFORMED", /too long/],
    ["x".repeat(70_000), "TOKEN_MALFORMED", /too long/],
  ];
  // A few at a time: each is a process.
  for (let i = 0; i < cases.length; i += 4) {
    await Promise.all(
      cases.slice(i, i + 4).map(async ([text, code, message]) => {
        const answers = start(["pipe", "--raw", "--code-file", makeFile("offer", Buffer.from(text))]);
        await fail(answers, 2, message);
        expect(answers.error, text.slice(0, 60)).toMatchObject({ code });
        expect(answers.stdout.length).toBe(0);
        expect(answers.stderr).not.toContain("\u001b");
      }),
    );
  }
});

test("what is no answer is named in a message, with status 2", async () => {
  for (const [text, code] of [
    ["nonsense\n", "TOKEN_MALFORMED"],
    [`${offer(SDP)}\n`, "TOKEN_KIND"],
    [`${JSON.stringify({ type: "answer", sdp: SDP })}\n`, "TOKEN_MALFORMED"],
  ] as const) {
    const file = join(temporaryDirectory(), "answer");
    const offers = start(["pipe", "--raw", "--answer-file", file]);
    await offers.offer();
    writeFileSync(file, text);
    await fail(offers, 2);
    expect(offers.error).toMatchObject({ code });
  }
});

test("without a terminal and without a file there is no way for an answer to come", async () => {
  await fail(start(["pipe", "--raw"]), 2, /--answer-file/);
});

test("options that need a dcpipe at the other end are refused", async () => {
  for (const args of [
    ["--rendezvous", "https://example.org"],
    ["--verify"],
    ["--remember", "box"],
    ["--target", "localhost:22"],
    ["--reconnect", "5"],
    ["--qr"],
    ["--code-length", "3"],
  ]) {
    const refused = start(["pipe", "--raw", ...args]);
    await fail(refused, 2, new RegExp(`${args[0] ?? ""} does not go with --raw`));
  }
});
