/** The page receives: what a dcpipe process sends is agreed to, and on disk in the end. */
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startServer } from "../e2e/code.ts";
import { fail, sha256, start, succeed, temporaryDirectory } from "../e2e/dcpipe.ts";
import { KINDS } from "./harness.ts";
import { openUser, type User } from "./user.ts";

/** A directory with these files. */
function makeTree(name: string, files: Readonly<Record<string, Buffer | string>>): string {
  const path = join(temporaryDirectory(), name);
  for (const [each, bytes] of Object.entries(files)) {
    mkdirSync(join(path, each, ".."), { recursive: true });
    writeFileSync(join(path, each), bytes);
  }
  return path;
}

/** Opens a link and connects. */
async function connect(user: User, url: string, code: string): Promise<void> {
  await user.visit(`${url}#${code}`);
  await user.see("heading", "Somebody waits for you");
  await user.click("button", "Connect");
}

/** In a page: what is in its own storage, as hashes. */
async function listStorage(): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  const walk = async (directory: FileSystemDirectoryHandle, path: string): Promise<void> => {
    for await (const child of directory.values()) {
      if (child instanceof FileSystemDirectoryHandle) await walk(child, `${path}${child.name}/`);
      else if (child instanceof FileSystemFileHandle) {
        const bytes = await (await child.getFile()).arrayBuffer();
        const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
        files[path + child.name] = Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
      }
    }
  };
  await walk(await navigator.storage.getDirectory(), "");
  return files;
}

for (const kind of KINDS) {
  test(`${kind}: a code is typed, a file comes and is downloaded`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const bytes = randomBytes(5_000_001);
    const path = join(temporaryDirectory(), "photo 1.jpg");
    writeFileSync(path, bytes);
    const process = start(["send", path, "--rendezvous", server.url]);
    await user.visit(server.url);
    const code = await process.code();
    await user.type("Code or link", code.replaceAll("-", " ").toUpperCase());
    await user.click("button", "Go on");
    await user.see("heading", "Receive photo 1.jpg (4.8 MiB)?");
    expect(readdirSync(user.downloads)).not.toContain("photo 1.jpg");
    await user.click("button", "Download");
    await user.see("heading", "Received");
    await succeed(process);
    await user.downloaded("photo 1.jpg", sha256(bytes));
  });

  test(`${kind}: a folder comes as several downloads, said so before`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const files = {
      "a.bin": randomBytes(300_000),
      "in/ü <b>.txt": Buffer.from("hello\n"),
      "in/empty": Buffer.alloc(0),
    };
    const process = start(["send", makeTree("photos", files), "--rendezvous", server.url]);
    await connect(user, server.url, await process.code());
    await user.see("heading", "Receive 3 files (293 KiB)?");
    await user.read("photos/in/ü <b>.txt");
    await user.read("This browser keeps no folders: their names stand in front of each file's.");
    await user.read("your browser may ask whether you allow that");
    await user.click("button", "Download");
    await user.see("heading", "Received");
    await succeed(process);
    await user.downloaded("photos_a.bin", sha256(files["a.bin"]));
    await user.downloaded("photos_in_empty", sha256(files["in/empty"]));
    // Names that some systems forbid are changed by the browser.
    await user.downloaded(/^photos_in_ü .b.\.txt$/, sha256(files["in/ü <b>.txt"]));
  });

  test(`${kind}: refused, nothing is written and the other side knows`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const process = start(["send", makeTree("photos", { a: "a" }), "--rendezvous", server.url]);
    await connect(user, server.url, await process.code());
    await user.click("button", "Refuse");
    await fail(process, 5);
    await user.see("heading", "That was refused.");
    await user.read("you refused it: nothing was written");
    expect(readdirSync(user.downloads)).toEqual([]);
  });

  test(`${kind}: a text is shown as text`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const text = "<img src=x onerror=alert(1)>\n\u202egnp.exe\u0007";
    const process = start(["send", "--text", text, "--rendezvous", server.url]);
    await connect(user, server.url, await process.code());
    await user.see("heading", "Received");
    await succeed(process);
    await user.read("<img src=x onerror=alert(1)>\n\\u{202e}gnp.exe\\u{7}");
    await user.click("button", "Copy the text");
    await user.see("status", /^(Copied|Marked): the text$/);
  });

  test(`${kind}: hostile names are text, and none leaves its place`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const long = `${"l".repeat(251)}.txt`;
    const files = {
      "<script>alert(1)<": "1",
      "x\u202egpj.exe": "2",
      "a\\..\\b": "3",
      "C:evil": "4",
      [long]: "5",
      '"; filename="evil.sh': "6",
    };
    const process = start(["send", makeTree("t", files), "--rendezvous", server.url]);
    await connect(user, server.url, await process.code());
    await user.see("heading", /^Receive 3 files/);
    await user.read("t/<script>alert(1)<");
    await user.click("button", "Download");
    // Three have names that are refused: the others come.
    await user.see("heading", "Received, but not everything");
    await user.read("\\u{202e}gpj.exe");
    await fail(process, 5);
    // The front of what is too long for one name is cut; some browsers cut more.
    await user.downloaded(/^l+\.txt$/, sha256(Buffer.from("5")));
    expect(readdirSync(user.downloads)).not.toContain("evil.sh");
  });

  test(`${kind}: the other side vanishes; the page says so`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const process = start(["send", makeTree("t", { a: "a" }), "--rendezvous", server.url]);
    await connect(user, server.url, await process.code());
    await user.see("heading", /^Receive/);
    process.kill("SIGINT");
    await user.see("heading", "The other side was stopped by its user.");
    await user.click("button", "Start over");
    await user.see("heading", "Between two machines");
  });

  test(`${kind} waits and receives; dcpipe send joins`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const bytes = randomBytes(100_000);
    await user.visit(server.url);
    await user.click("button", /^Receive files/);
    await user.see("heading", "Waiting for the other side");
    await user.see("img", "QR code of the link");
    const command = await user.read(/dcpipe send FILE --to \S+ --rendezvous \S+/);
    const [, , , , code = ""] = command.split(" ");
    expect(command).toBe(`dcpipe send FILE --to ${code} --rendezvous ${server.url}`);
    await user.read(`${server.url}#${code}`);
    const tree = makeTree("t", { a: bytes });
    const process = start(["send", join(tree, "a"), "--to", code, "--rendezvous", server.url]);
    await user.click("button", "Download");
    await user.see("heading", "Received");
    await succeed(process);
    await user.downloaded("a", sha256(bytes));
  });
}

test("chromium: a folder is saved into a folder that was chosen", async (context) => {
  const server = await startServer();
  const user = await openUser(context, "chromium", { folders: true });
  const files = { "a.bin": randomBytes(3_000_000), "in/b.txt": Buffer.from("hello\n") };
  const process = start(["send", makeTree("photos", files), "--rendezvous", server.url]);
  await connect(user, server.url, await process.code());
  await user.click("button", "Save to a folder");
  await user.see("heading", "Received");
  await succeed(process);
  expect(await user.run(listStorage, undefined)).toEqual({
    "photos/a.bin": sha256(files["a.bin"]),
    "photos/in/b.txt": sha256(files["in/b.txt"]),
  });
});

test("chromium: a name that is taken is asked about once", async (context) => {
  const server = await startServer();
  const user = await openUser(context, "chromium", { folders: true });
  for (const content of ["one", "two"]) {
    const path = join(makeTree("t", { "a.txt": content }), "a.txt");
    const process = start(["send", path, "--rendezvous", server.url]);
    await connect(user, server.url, await process.code());
    await user.click("button", "Save to a folder");
    if (content === "two") {
      await user.see("heading", "A name is taken");
      await user.click("button", "Keep both");
    }
    await user.see("heading", "Received");
    await succeed(process);
    await user.click("button", "Start over");
  }
  expect(await user.run(listStorage, undefined)).toEqual({
    "a.txt": sha256(Buffer.from("one")),
    "a (1).txt": sha256(Buffer.from("two")),
  });
});
