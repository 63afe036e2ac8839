/** Files between a page and a dcpipe process. */
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startServer } from "../e2e/code.ts";
import { fail, sha256, start, succeed, temporaryDirectory } from "../e2e/dcpipe.ts";
import { KINDS, openPage, type MeetingOptions } from "./harness.ts";

/** Paths and hashes. */
type Listing = Record<string, string>;

/** In a page: receives into its own storage, and lists what is there then. */
async function receiveInPage({
  accept,
  ...meeting
}: MeetingOptions & { accept: boolean }): Promise<{ offered: string[]; files: Listing; error: string }> {
  const { session, role } = await tab.meet(meeting);
  const root = await navigator.storage.getDirectory();
  const offered: string[] = [];
  let error = "";
  try {
    await dcpipe.receiveFiles(session, role, {
      target: dcpipe.directoryTarget(root),
      approve: async ({ entries }) => {
        offered.push(...entries.map(({ path }) => path));
        // Nothing is there before the answer.
        for await (const name of root.keys()) throw new Error(`${name} is there already`);
        return accept;
      },
      conflict: "refuse",
      createDigest: dcpipe.createDigest,
      codec: dcpipe.codec,
    });
    await session.close();
  } catch (thrown) {
    error = thrown instanceof dcpipe.DcpipeError ? thrown.code : String(thrown);
  }
  const files: Record<string, string> = {};
  const walk = async (directory: FileSystemDirectoryHandle, path: string): Promise<void> => {
    for await (const child of directory.values()) {
      if (child instanceof FileSystemDirectoryHandle) {
        files[`${path}${child.name}/`] = "";
        await walk(child, `${path}${child.name}/`);
      } else if (child instanceof FileSystemFileHandle) {
        files[path + child.name] = await tab.sha256(await (await child.getFile()).arrayBuffer());
      }
    }
  };
  await walk(root, "");
  return { offered, files, error };
}

/** In a page: sends a file, an empty one, one of a chosen folder, and a stream; returns the hashes. */
async function sendFromPage({
  size,
  ...meeting
}: MeetingOptions & { size: number }): Promise<Record<string, string>> {
  const { session, role } = await tab.meet(meeting);
  const bytes = tab.random(size);
  const within = new File([bytes.subarray(0, 1000)], "inner.bin");
  // As the browser does for the files of a chosen folder.
  Object.defineProperty(within, "webkitRelativePath", { value: "folder/deep/inner.bin" });
  const result = await dcpipe.sendFiles(session, role, {
    tree: dcpipe.fileTree([
      new File([bytes], "gr\u00fc\u00dfe \u2603.bin", { lastModified: 1_600_000_000_000 }),
      new File([], "empty"),
      within,
      { name: "stream", content: new Blob([bytes.subarray(0, 100_000)]).stream() },
    ]),
    createDigest: dcpipe.createDigest,
    codec: dcpipe.codec,
  });
  await session.close();
  if (result.files !== 4 || result.problems.list.length > 0) throw new Error(JSON.stringify(result));
  return {
    "gr\u00fc\u00dfe \u2603.bin": await tab.sha256(bytes),
    empty: await tab.sha256(new Uint8Array(0)),
    stream: await tab.sha256(bytes.subarray(0, 100_000)),
    "folder/deep/inner.bin": await tab.sha256(bytes.subarray(0, 1000)),
  };
}

/** A directory to send, and what it comes to. */
function makeTree(): { path: string; listing: Listing } {
  const path = join(temporaryDirectory(), "photos");
  const files: Record<string, Buffer> = {
    "big.bin": randomBytes(3 * 1024 * 1024 + 17),
    "text.txt": Buffer.from("hello\n".repeat(10_000)),
    empty: Buffer.alloc(0),
    "inner/\u00fcml\u00e4ut <b>.txt": Buffer.from("x"),
  };
  mkdirSync(join(path, "inner"), { recursive: true });
  const listing: Listing = { "photos/": "", "photos/inner/": "" };
  for (const [name, bytes] of Object.entries(files)) {
    writeFileSync(join(path, name), bytes);
    listing[`photos/${name}`] = sha256(bytes);
  }
  return { path, listing };
}

/** What is below a directory, as hashes. */
function listFiles(directory: string): Listing {
  const listing: Listing = {};
  for (const name of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
    const path = join(directory, name);
    if (statSync(path).isFile()) listing[name] = sha256(readFileSync(path));
  }
  return listing;
}

for (const kind of KINDS) {
  test(`dcpipe send waits, ${kind} joins and receives`, async (context) => {
    const page = await openPage(context, kind);
    const server = await startServer();
    const { path, listing } = makeTree();
    const process = start(["send", path, "--rendezvous", server.url]);
    const received = page.run(receiveInPage, {
      rendezvous: server.url,
      code: await process.code(),
      accept: true,
    });
    await succeed(process);
    expect((await received).files).toEqual(listing);
    expect((await received).offered).toContain("photos/big.bin");
  });

  test(`${kind} waits and receives, dcpipe send joins`, async (context) => {
    const page = await openPage(context, kind);
    const server = await startServer();
    const { path, listing } = makeTree();
    const received = page.run(receiveInPage, { rendezvous: server.url, accept: true });
    const code = await page.told<string>("code");
    await succeed(start(["send", path, "--to", code, "--rendezvous", server.url]));
    expect((await received).files).toEqual(listing);
  });

  test(`${kind} refuses what dcpipe send offers: nothing is written`, async (context) => {
    const page = await openPage(context, kind);
    const server = await startServer();
    const { path } = makeTree();
    const process = start(["send", path, "--rendezvous", server.url]);
    const received = page.run(receiveInPage, {
      rendezvous: server.url,
      code: await process.code(),
      accept: false,
    });
    await fail(process, 5);
    const { files, offered, error } = await received;
    expect(files).toEqual({});
    expect(offered.length).toBeGreaterThan(4);
    expect(error).toBe("REFUSED");
  });

  test(`dcpipe receive waits, ${kind} joins and sends`, async (context) => {
    const page = await openPage(context, kind);
    const server = await startServer();
    const directory = temporaryDirectory();
    const process = start(["receive", "-o", directory, "--yes", "--rendezvous", server.url]);
    const code = await process.code();
    const sent = page.run(sendFromPage, { rendezvous: server.url, code, size: 3_000_000 });
    await succeed(process);
    expect(listFiles(directory)).toEqual(await sent);
    expect(statSync(join(directory, "gr\u00fc\u00dfe \u2603.bin")).mtimeMs).toBe(1_600_000_000_000);
  });

  test(`${kind} waits and sends, dcpipe receive joins`, async (context) => {
    const page = await openPage(context, kind);
    const server = await startServer();
    const directory = temporaryDirectory();
    const sent = page.run(sendFromPage, { rendezvous: server.url, size: 3_000_000 });
    const code = await page.told<string>("code");
    await succeed(start(["receive", code, "-o", directory, "--yes", "--rendezvous", server.url]));
    expect(listFiles(directory)).toEqual(await sent);
  });
}
