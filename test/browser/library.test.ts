/** The library for web pages: what it does beside pipes and files, and what it says when something goes wrong. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { freePort, otherWords, startServer } from "../e2e/code.ts";
import { makeFile, sha256, start, succeed } from "../e2e/dcpipe.ts";
import { KINDS, openPage, type MeetingOptions } from "./harness.ts";

const MANUAL = new URL("../../docs/browsers.md", import.meta.url);

/** In a page: both sides of a session, and what comes through its Web Streams. */
async function meetItself({
  rendezvous,
}: {
  rendezvous: string;
}): Promise<{ equal: boolean; paths: string[] }> {
  const paths: string[] = [];
  const options: Parameters<typeof dcpipe.listenByCode>[0] = {
    rendezvous,
    stun: [],
    onevent: (event) => {
      if (event.event === "connected") paths.push(event.path);
    },
  };
  const waiting = await dcpipe.listenByCode(options);
  const joining = await dcpipe.connectByCode(waiting.code, options);
  const [here, there] = await Promise.all([waiting.session, joining.session]);
  if ((await waiting.verifier) !== (await joining.verifier)) throw new Error("somebody sits in between");
  const bytes = tab.random(2_000_000);
  const stream = here.open(new TextEncoder().encode("what for"));
  const sent = new Blob([bytes]).stream().pipeTo(stream.writable);
  const accepted = await there.accept();
  const [received] = await Promise.all([new Response(accepted.readable).arrayBuffer(), sent]);
  await Promise.all([accepted.end(), stream.read()]);
  await Promise.all([here.close(), there.close()]);
  return { equal: (await tab.sha256(received)) === (await tab.sha256(bytes)), paths };
}

/** In a page: the code of what joining comes to. */
async function joiningFails({
  code,
  abort = false,
  ...options
}: MeetingOptions & { code: string; abort?: boolean }): Promise<string> {
  const joining = await dcpipe.connectByCode(dcpipe.parseCode(code), {
    ...options,
    stun: [],
    signal: abort ? AbortSignal.abort() : undefined,
  });
  return joining.session.then(
    () => "met",
    (error: unknown) => (error instanceof dcpipe.DcpipeError ? error.code : String(error)),
  );
}

/** In a page: receives, up to so many bytes if any; what came of it. */
async function receiveUpTo({ most, ...meeting }: MeetingOptions & { most?: number }): Promise<{
  names: string[];
  moved: number;
  hash: string;
  error: string;
}> {
  const stop = new AbortController();
  const { session, role } = await tab.meet({ ...meeting, signal: stop.signal });
  const root = await navigator.storage.getDirectory();
  let [moved, error, hash] = [0, "", ""];
  try {
    const result = await dcpipe.receiveFiles(session, role, {
      target: dcpipe.directoryTarget(root),
      conflict: "refuse",
      createDigest: dcpipe.createDigest,
      codec: dcpipe.codec,
      onprogress: ({ bytes }) => {
        if (most !== undefined && bytes >= most) stop.abort();
      },
    });
    moved = result.moved;
    await session.close();
    const file = await (await root.getFileHandle("big.bin")).getFile();
    hash = await tab.sha256(await file.arrayBuffer());
  } catch (thrown) {
    error = thrown instanceof dcpipe.DcpipeError ? thrown.code : String(thrown);
  }
  const names: string[] = [];
  for await (const name of root.keys()) names.push(name);
  return { names, moved, hash, error };
}

/** In a page: receives into streams of its own. */
async function receiveIntoStreams(meeting: MeetingOptions): Promise<{ opened: unknown[]; hashes: string[] }> {
  const { session, role } = await tab.meet(meeting);
  const opened: unknown[] = [];
  const contents: Promise<ArrayBuffer>[] = [];
  await dcpipe.receiveFiles(session, role, {
    target: dcpipe.streamTarget((file) => {
      opened.push(file);
      const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
      contents.push(new Response(readable).arrayBuffer());
      return writable;
    }),
    conflict: "refuse",
    createDigest: dcpipe.createDigest,
    codec: dcpipe.codec,
  });
  await session.close();
  const hashes = await Promise.all((await Promise.all(contents)).map((content) => tab.sha256(content)));
  return { opened, hashes };
}

for (const kind of KINDS) {
  test(`${kind}: two sides that hide their addresses meet by the relay, with Web Streams`, async (context) => {
    const page = await openPage(context, kind);
    const server = await startServer();
    const { equal, paths } = await page.run(meetItself, { rendezvous: server.url });
    expect(equal).toBe(true);
    expect(paths).toEqual(["relay", "relay"]);
  });

  test(`${kind}: errors say what happened`, async (context) => {
    const page = await openPage(context, kind, {
      // What the browser itself says of a server that is not there.
      expected: [/WebSocket connection to|can.t establish a connection|connection refused/i],
    });
    const server = await startServer();
    const waiting = start(["pipe", "--rendezvous", server.url]);
    const code = await waiting.code();
    const join = (options: Parameters<typeof joiningFails>[0]): Promise<string> =>
      page.run(joiningFails, options);
    expect(await join({ rendezvous: server.url, code: "4711-acorn-zebra" })).toBe("CODE_UNKNOWN");
    expect(await join({ rendezvous: server.url, code, abort: true })).toBe("ABORTED");
    const nobody = `http://127.0.0.1:${await freePort()}/`;
    expect(await join({ rendezvous: nobody, code, timeout: 1 })).toBe("TIMEOUT");
    expect(await join({ rendezvous: "ftp://127.0.0.1/", code })).toBe("USAGE");
    expect(await join({ rendezvous: server.url, code: otherWords(code) })).toBe("CODE_WRONG");
  });

  test(`${kind}: a transfer that was stopped goes on where it was`, async (context) => {
    const page = await openPage(context, kind);
    const server = await startServer();
    const size = 8_000_000;
    const path = makeFile("big.bin", size);
    const first = start(["send", path, "--limit", "4M", "--rendezvous", server.url]);
    const stopped = await page.run(receiveUpTo, {
      rendezvous: server.url,
      code: await first.code(),
      most: 2_000_000,
    });
    expect(stopped.error).toBe("ABORTED");
    expect(stopped.names).toEqual(["big.bin.dcpipe-part"]);
    const second = start(["send", path, "--rendezvous", server.url]);
    const done = await page.run(receiveUpTo, { rendezvous: server.url, code: await second.code() });
    await succeed(second);
    expect(done).toMatchObject({ names: ["big.bin"], error: "", hash: sha256(readFileSync(path)) });
    expect(done.moved).toBeLessThanOrEqual(size - 2_000_000);
  });

  test(`${kind}: the page of the manual receives`, async (context) => {
    const server = await startServer();
    const example = /^```html\n(.*?)^```$/ms.exec(readFileSync(MANUAL, "utf8"))?.[1] ?? "";
    expect(example).toContain("https://pipes.example.org");
    const page = await openPage(context, kind, {
      routes: {
        "/example": (_request, response) => {
          response.setHeader("content-type", "text/html; charset=utf-8");
          response.end(example.replace("https://pipes.example.org", server.url));
        },
      },
    });
    const path = makeFile("big.bin", 1_000_000);
    const process = start(["send", path, "--rendezvous", server.url]);
    const code = await process.code();
    await page.visit("example");
    await page.run((code) => {
      // The picker needs a hand, and the question a head.
      Object.assign(globalThis, {
        showDirectoryPicker: () => navigator.storage.getDirectory(),
        confirm: () => true,
      });
      const field = document.querySelector("input");
      if (field) field.value = code;
      document.querySelector("button")?.click();
    }, code);
    await succeed(process);
    const received = await page.run(async () => {
      const said = document.querySelector("p");
      while (said && !/ problems$|^[A-Z_]+:/.test(said.textContent)) await new Promise(requestAnimationFrame);
      const root = await navigator.storage.getDirectory();
      const bytes = new Uint8Array(
        await (await (await root.getFileHandle("big.bin")).getFile()).arrayBuffer(),
      );
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
      return { said: said?.textContent, hash: Array.from(hash) };
    }, undefined);
    expect(received.said).toBe("1 files, 0 problems");
    expect(Buffer.from(received.hash).toString("hex")).toBe(sha256(readFileSync(path)));
  });

  test(`${kind}: files into streams`, async (context) => {
    const page = await openPage(context, kind);
    const server = await startServer();
    const path = makeFile("big.bin", 1_000_000);
    const process = start(["send", path, "--rendezvous", server.url]);
    const received = page.run(receiveIntoStreams, { rendezvous: server.url, code: await process.code() });
    await succeed(process);
    expect(await received).toEqual({
      opened: [{ path: "big.bin", size: 1_000_000 }],
      hashes: [sha256(readFileSync(path))],
    });
  });
}
