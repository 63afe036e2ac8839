/** The page sends: files and folders that are picked or dropped, and texts. */
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startServer } from "../e2e/code.ts";
import { fail, sha256, start, succeed, temporaryDirectory } from "../e2e/dcpipe.ts";
import { KINDS } from "./harness.ts";
import { openUser } from "./user.ts";

for (const kind of KINDS) {
  test(`${kind}: dcpipe receive waits, files are picked and sent`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const [from, to] = [temporaryDirectory(), temporaryDirectory()];
    const bytes = randomBytes(4_000_000);
    writeFileSync(join(from, "a <b>.bin"), bytes);
    writeFileSync(join(from, "b"), "b");
    const process = start(["receive", "-o", to, "--yes", "--rendezvous", server.url]);
    await user.visit(`${server.url}#${await process.code()}`);
    await user.click("button", "Connect");
    await user.see("heading", "Send files");
    await user.pick("Files to send", [join(from, "a <b>.bin"), join(from, "b")]);
    await user.read("a <b>.bin (3.8 MiB)");
    await user.click("button", "Remove b (1 B)");
    await user.click("button", "Send");
    await user.see("heading", "Sent");
    await user.read("1 file, 3.8 MiB. Stored by the other side.");
    await succeed(process);
    expect(sha256(readFileSync(join(to, "a <b>.bin")))).toBe(sha256(bytes));
  });

  test(`${kind} waits; dcpipe receive joins, and gets a folder and a text`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const [from, to] = [join(temporaryDirectory(), "photos"), temporaryDirectory()];
    mkdirSync(join(from, "in"), { recursive: true });
    const bytes = randomBytes(200_000);
    writeFileSync(join(from, "in", "a.bin"), bytes);
    writeFileSync(join(from, "b.txt"), "b");
    await user.visit(server.url);
    await user.click("button", /^Send files/);
    await user.pickFolder("Folder to send", from);
    await user.read("photos/ (2 files, 195 KiB)");
    await user.click("button", "A text");
    await user.type("Text to send", "a line");
    await user.click("button", "Get a code");
    const code = (await user.read(/dcpipe receive \S+/)).split(" ")[2] ?? "";
    const process = start(["receive", code, "-o", to, "--yes", "--rendezvous", server.url]);
    await user.see("heading", "Sent");
    await succeed(process);
    expect(sha256(readFileSync(join(to, "photos", "in", "a.bin")))).toBe(sha256(bytes));
    expect(readFileSync(join(to, "photos", "b.txt"), "utf8")).toBe("b");
    expect(readFileSync(join(to, "text.txt"), "utf8")).toBe("a line");
  });

  test(`${kind}: what is dropped is sent, and words are compared before`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const to = temporaryDirectory();
    await user.visit(server.url);
    await user.click("button", /^Send files/);
    await user.run(() => {
      const transfer = new DataTransfer();
      transfer.items.add(new File(["dropped"], "d.txt"));
      document.querySelector(".drop")?.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
    }, undefined);
    // Of what is dropped not every browser tells the size at once.
    await user.read("d.txt");
    await user.click("checkbox", "Compare words before anything is sent");
    await user.click("button", "Get a code");
    const code = (await user.read(/dcpipe receive \S+/)).split(" ")[2] ?? "";
    const args = ["receive", code, "-o", to, "--yes", "--verify", "--rendezvous", server.url];
    const process = start(args);
    await user.see("heading", "Compare");
    await user.read(String((await process.event("verify"))["words"]));
    await user.click("button", "They are the same");
    await user.see("heading", "Sent");
    await succeed(process);
    expect(readFileSync(join(to, "d.txt"), "utf8")).toBe("dropped");
  });

  test(`${kind}: words that differ end it, and nothing was sent`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const process = start(["receive", "-o", temporaryDirectory(), "--yes", "--rendezvous", server.url]);
    await user.visit(`${server.url}#${await process.code()}`);
    await user.click("button", "Connect");
    await user.click("button", "Compare");
    await user.click("button", "They differ");
    await user.see("heading", "The other side could not prove who it is.");
    await fail(process, 5);
  });

  test(`${kind}: the tab is closed in the middle; the other side knows at once`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const path = join(temporaryDirectory(), "big.bin");
    writeFileSync(path, randomBytes(8_000_000));
    const to = temporaryDirectory();
    const args = ["receive", "-o", to, "--yes", "--limit", "100k", "--rendezvous", server.url];
    const process = start(args);
    await user.visit(`${server.url}#${await process.code()}`);
    await user.click("button", "Connect");
    await user.pick("Files to send", [path]);
    await user.click("button", "Send");
    await process.event("progress", ({ bytes = 0 }) => bytes > 0);
    await user.close();
    await process.exited;
    expect(process.error?.code).toBe("INTERRUPTED");
    await fail(process, 6);
  });

  test(`${kind}: cancelled, both sides know`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const process = start(["receive", "-o", temporaryDirectory(), "--yes", "--rendezvous", server.url]);
    await user.visit(`${server.url}#${await process.code()}`);
    await user.click("button", "Connect");
    await user.see("heading", "Send files");
    // Whether a page may be left is asked of it by an event.
    const leaves = (): Promise<boolean> =>
      user.run(() => dispatchEvent(new Event("beforeunload", { cancelable: true })), undefined);
    expect(await leaves()).toBe(false);
    await user.click("button", "Cancel");
    await user.see("heading", "Stopped.");
    expect(await leaves()).toBe(true);
    await fail(process, 6);
    expect(process.error?.code).toBe("INTERRUPTED");
  });
}
