/** The built package as a program uses it. */
import { randomBytes } from "node:crypto";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";
import { expect, onTestFinished, test } from "vitest";
import type * as Library from "../../src/index.ts";
import type { SourceContent, SourceEntry } from "../../src/index.ts";
import { Dcpipe, fail, makeFile, Process, sha256, start, succeed, temporaryDirectory } from "./dcpipe.ts";

const INDEX = new URL("../../dist/index.js", import.meta.url).href;
const { DcpipeError, connect, createDigest, listen, readableSource, sendFiles, toDuplex } = (await import(
  INDEX
)) as typeof Library;

const MIB = 1024 * 1024;
const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** Two sessions in this process, connected for real. */
async function sessions(
  options: Library.ConnectOptions = {},
): Promise<{ waiting: Library.Session; joining: Library.Session }> {
  const offering = await listen({ stun: [], ...options });
  const answering = connect(offering.offer, { stun: [], ...options });
  const [waiting, joining] = await Promise.all([offering.session, answering.session]);
  onTestFinished(async () => {
    await Promise.all([waiting.close(), joining.close()].map((closing) => closing.catch(() => undefined)));
  });
  return { waiting, joining };
}

async function readAll(stream: Library.Stream): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  // A chunk is the reader's until the next read.
  for (let chunk = await stream.read(); chunk; chunk = await stream.read()) chunks.push(chunk.slice());
  return Buffer.concat(chunks);
}

test("streams with headers, opened by either side, each with its own ends", async () => {
  const { waiting, joining } = await sessions();
  for (const [one, other] of [
    [waiting, joining],
    [joining, waiting],
  ] as const) {
    const opened = one.open(encode("what for"));
    const accepted = await other.accept();
    expect(decode(accepted.header)).toBe("what for");
    await opened.write(encode("there"));
    const [there, back] = await Promise.all([
      readAll(accepted),
      readAll(opened),
      opened.end(),
      accepted.write(encode("and back")).then(() => accepted.end()),
    ]);
    expect(decode(there)).toBe("there");
    expect(decode(back)).toBe("and back");
    await Promise.all([opened.closed, accepted.closed]);
  }
});

test("a hundred streams at once", async () => {
  const { waiting, joining } = await sessions();
  const echo = (async () => {
    for (let i = 0; i < 100; i++) {
      const stream = await waiting.accept();
      void readAll(stream).then(async (bytes) => {
        await stream.write(Buffer.concat([stream.header, bytes]));
        await stream.end();
      });
    }
  })();
  const answers = await Promise.all(
    Array.from({ length: 100 }, async (_, i) => {
      const stream = joining.open(encode(`${i}:`));
      await stream.write(encode("x".repeat(i * 100)));
      const [answer] = await Promise.all([readAll(stream), stream.end()]);
      return decode(answer);
    }),
  );
  await echo;
  answers.forEach((answer, i) => {
    expect(answer).toBe(`${i}:${"x".repeat(i * 100)}`);
  });
});

test("Web Streams: pipeTo, both ways", async () => {
  const { waiting, joining } = await sessions();
  const content = randomBytes(5 * MIB);
  const opened = joining.open(new Uint8Array(0));
  const accepted = await waiting.accept();
  // What comes in goes back out.
  const echo = accepted.readable.pipeTo(accepted.writable);
  const chunks: Uint8Array[] = [];
  const sent = (
    Readable.toWeb(
      Readable.from([content.subarray(0, MIB), content.subarray(MIB)]),
    ) as ReadableStream<Uint8Array>
  ).pipeTo(opened.writable);
  await opened.readable.pipeTo(
    new WritableStream<Uint8Array>({
      write: (chunk) => {
        chunks.push(chunk.slice());
      },
    }),
  );
  await Promise.all([sent, echo]);
  expect(sha256(Buffer.concat(chunks))).toBe(sha256(content));
});

test("a Web Stream that is aborted or cancelled ends the other side's with an error", async () => {
  const { waiting, joining } = await sessions();
  const opened = joining.open(new Uint8Array(0));
  const accepted = await waiting.accept();
  await opened.writable.abort();
  await expect(accepted.readable.getReader().read()).rejects.toBeInstanceOf(DcpipeError);

  const second = joining.open(new Uint8Array(0));
  const its = await waiting.accept();
  await its.readable.cancel();
  await expect(second.closed).rejects.toBeInstanceOf(DcpipeError);
  await expect(second.writable.getWriter().closed).rejects.toBeInstanceOf(DcpipeError);
});

test("Node streams: toDuplex in stream.pipeline", async () => {
  const { waiting, joining } = await sessions();
  const content = Buffer.alloc(3 * MIB, "compressible ");
  const opened = toDuplex(joining.open(encode("gzip")));
  const accepted = toDuplex(await waiting.accept());
  const chunks: Buffer[] = [];
  await Promise.all([
    pipeline(Readable.from([content]), createGzip(), opened),
    pipeline(
      accepted,
      createGunzip(),
      new Writable({
        write: (chunk: Buffer, _encoding, callback) => {
          chunks.push(Buffer.from(chunk));
          callback();
        },
      }),
    ),
  ]);
  expect(sha256(Buffer.concat(chunks))).toBe(sha256(content));
  // The other direction is open still.
  accepted.end("and back");
  expect(decode(Buffer.concat((await opened.toArray()) as Buffer[]))).toBe("and back");
});

test("a Duplex that is destroyed ends the other side's with an error", async () => {
  const { waiting, joining } = await sessions();
  const opened = toDuplex(joining.open(new Uint8Array(0)));
  const accepted = toDuplex(await waiting.accept());
  opened.on("error", () => undefined);
  opened.destroy(new Error("enough"));
  await expect(accepted.toArray()).rejects.toThrow(/enough/);
});

test("AbortSignal ends listen, connect and accept", async () => {
  const aborted = { code: "ABORTED" };
  await expect(listen({ stun: [], signal: AbortSignal.abort() })).rejects.toMatchObject(aborted);

  const listening = new AbortController();
  const waiting = await listen({ stun: [], signal: listening.signal });
  const connecting = new AbortController();
  listening.abort();
  await expect(waiting.session).rejects.toMatchObject(aborted);

  const joining = connect(waiting.offer, { stun: [], signal: connecting.signal });
  connecting.abort();
  await expect(joining.session).rejects.toMatchObject(aborted);
  const before = connect(waiting.offer, { stun: [], signal: AbortSignal.abort() });
  await expect(before.session).rejects.toMatchObject(aborted);

  const { waiting: one } = await sessions();
  const accepting = new AbortController();
  const accepted = one.accept({ signal: accepting.signal });
  accepting.abort();
  await expect(accepted).rejects.toMatchObject(aborted);
  await expect(one.accept({ signal: AbortSignal.abort() })).rejects.toMatchObject(aborted);
});

test("an AbortSignal after the meeting ends the session on both sides", async () => {
  const stop = new AbortController();
  const offering = await listen({ stun: [], signal: stop.signal });
  const answering = connect(offering.offer, { stun: [] });
  const [waiting, joining] = await Promise.all([offering.session, answering.session]);
  const stream = joining.open(encode("x"));
  await waiting.accept();
  stop.abort();
  await expect(waiting.closed).rejects.toMatchObject({ code: "ABORTED" });
  await expect(joining.closed).rejects.toBeInstanceOf(DcpipeError);
  await expect(stream.closed).rejects.toBeInstanceOf(DcpipeError);
});

test("close: what was written arrives, no new streams, idempotent on both sides", async () => {
  const { waiting, joining } = await sessions();
  const stream = joining.open(encode("last"));
  await stream.write(encode("words"));
  const accepted = await waiting.accept();
  const [words] = await Promise.all([readAll(accepted), stream.end(), accepted.end(), readAll(stream)]);
  expect(decode(words)).toBe("words");
  await Promise.all([joining.close(), waiting.close(), joining.close(), waiting.close()]);
  await Promise.all([joining.closed, waiting.closed]);
  expect(() => joining.open(encode("more"))).toThrow(DcpipeError);
  await expect(waiting.accept()).rejects.toMatchObject({ code: "CLOSED" });
});

test("a token that is wrong throws at once, with its code", async () => {
  expect(() => connect("nonsense")).toThrow(DcpipeError);
  const waiting = await listen({ stun: [] });
  expect(() => {
    waiting.answer(waiting.offer);
  }).toThrow(expect.objectContaining({ code: "TOKEN_KIND" }) as Error);
  waiting.close();
  await expect(waiting.session).rejects.toMatchObject({ code: "ABORTED" });
  await expect(listen({ stun: ["http://example.org"] })).rejects.toMatchObject({ code: "USAGE" });
  await expect(listen({ stun: [], timeout: -1 })).rejects.toMatchObject({ code: "USAGE" });
});

test("a program that is done with the library ends by itself", async () => {
  const program = join(temporaryDirectory(), "program.mjs");
  writeFileSync(
    program,
    `import { connect, listen } from ${JSON.stringify(INDEX)};
     const waiting = await listen({ stun: [] });
     const joining = connect(waiting.offer, { stun: [] });
     const [one, other] = await Promise.all([waiting.session, joining.session]);
     const stream = one.open(new Uint8Array(0));
     const its = await other.accept();
     await Promise.all([stream.end(), its.end(), stream.read(), its.read()]);
     await Promise.all([one.close(), other.close()]);
     const gone = await listen({ stun: [] });
     gone.close();
     await gone.session.catch(() => undefined);
     console.log("done");`,
  );
  const [exit] = await succeed(new Process([process.execPath, program]));
  expect(exit?.stdout.toString()).toBe("done\n");
});

// ---- against the command line ---------------------------------------------------------------------------------------

/** A sender that says what it likes about its files. */
async function hostileSend(offer: string, name: string): Promise<unknown> {
  const { session } = connect(offer, { stun: [] });
  const standing = await session;
  onTestFinished(() => standing.close().catch(() => undefined));
  const content = { ...readableSource(Readable.from([])), changed: () => Promise.resolve(undefined) };
  const open = (): Promise<SourceContent> => Promise.resolve(content);
  const file = { kind: "file", name, size: 0, mode: 0o644, mtime: 0, open } as const;
  const tree = async function* (): AsyncGenerator<SourceEntry> {
    yield await Promise.resolve(file);
  };
  const { problems } = await sendFiles(standing, "joining", { tree, createDigest });
  return problems.list;
}

for (const json of [false, true]) {
  test(`names that a peer must not choose are refused and shown escaped${json ? ", in JSON too" : ""}`, async () => {
    for (const name of [
      "\u001b[31mred\u001b[0m",
      "line\nbreak\rover",
      "\u202egpj.exe",
      "\u009b2J",
      "../up",
      "/etc/passwd",
      "a/b",
      "a\\b",
      "..",
      ".",
    ]) {
      const target = temporaryDirectory();
      const directory = join(temporaryDirectory(), "offer");
      const receiver = new Dcpipe(["receive", "-o", target, "--offer-file", directory], { json });
      const offer = json
        ? await receiver.offer()
        : await receiver.until("a token", () => /\bdc1[\w-]+/.exec(receiver.stderr)?.[0]);
      expect(await hostileSend(offer, name)).toMatchObject([{ reason: "REFUSED" }]);
      const { stderr } = await fail(receiver, 5);
      expect(stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
      if (!json) expect(stderr.split("\n").filter((line) => line.startsWith("dcpipe:"))).toHaveLength(1);
      expect(readdirSync(target)).toEqual([]);
    }
  });
}

test("a reason that a peer gives is shown escaped", async () => {
  const sender = start(["send", makeFile("f", 10)], { json: false });
  const offer = await sender.until("a token", () => /\bdc1[\w-]+/.exec(sender.stderr)?.[0]);
  const { session } = connect(offer, { stun: [] });
  const standing = await session;
  onTestFinished(() => standing.close().catch(() => undefined));
  // The header of a receiver; it ends the stream with words of its own.
  const stream = standing.open(Uint8Array.from([3]));
  stream.closed.catch(() => undefined);
  stream.reset("REFUSED", "\u001b]0;owned\u0007 \u202egnp.exe");
  const { stderr } = await fail(sender, 5);
  expect(stderr).toMatch(/owned/);
  expect(stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
});
