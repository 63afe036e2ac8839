/** The page and a dcpipe process at the two ends of a pipe. */
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startServer } from "../e2e/code.ts";
import { sha256, start, succeed, temporaryDirectory } from "../e2e/dcpipe.ts";
import { KINDS } from "./harness.ts";
import { openUser } from "./user.ts";

for (const kind of KINDS) {
  test(`${kind}: lines go both ways, and each direction ends on its own`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const process = start(["pipe", "--rendezvous", server.url], { stdin: "pipe" });
    await user.visit(`${server.url}#${await process.code()}`);
    await user.click("button", "Connect");
    await user.see("heading", "Pipe");
    process.stdin.write("<b>hello</b>\u202e\n");
    await user.read("<b>hello</b>\\u{202e}");
    await user.type("Line to send", "from the page");
    await user.press("Enter");
    await process.printed("from the page\n");
    process.stdin.end("last words\n");
    await user.read("the other side has closed its end");
    await user.type("Line to send", "still here");
    await user.click("button", "Send");
    await process.printed("still here\n");
    await user.click("button", "End input");
    await user.see("heading", "Both ends are closed");
    // What came stays to be read.
    await user.read("last words");
    const [exit] = await succeed(process);
    expect(exit?.stdout.toString()).toBe("from the page\nstill here\n");
  });

  test(`${kind} waits; the bytes of a file go in, and what comes is saved`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const path = join(temporaryDirectory(), "in.bin");
    const [out, back] = [randomBytes(2_000_000), randomBytes(2_000_000)];
    writeFileSync(path, out);
    await user.visit(server.url);
    await user.click("button", /^Open a pipe/);
    const code = (await user.read(/dcpipe pipe \S+/)).split(" ")[2] ?? "";
    const process = start(["pipe", code, "--rendezvous", server.url], { stdin: "pipe" });
    await user.click("button", "Save what comes");
    await user.read("what comes from here on goes into a download, pipe.bin");
    process.stdin.end(back);
    await user.pick("File to send into the pipe", [path]);
    await user.read("the other side has closed its end");
    await user.click("button", "End input");
    await user.see("heading", "Both ends are closed");
    const [exit] = await succeed(process);
    expect(sha256(exit?.stdout ?? Buffer.alloc(0))).toBe(sha256(out));
    await user.downloaded("pipe.bin", sha256(back));
  });

  test(`${kind}: a flood of text stays within its bounds, and the pipe goes on`, async (context) => {
    const server = await startServer();
    const user = await openUser(context, kind);
    const flood = Buffer.from("0123456789abcde\n".repeat(200_000));
    const process = start(["pipe", "--rendezvous", server.url], { stdin: "pipe" });
    await user.visit(`${server.url}#${await process.code()}`);
    await user.click("button", "Connect");
    await user.see("heading", "Pipe");
    process.stdin.end(flood);
    await user.read("the other side has closed its end");
    const shown = await user.run(
      () => document.querySelector("[role=log]")?.textContent.length ?? 0,
      undefined,
    );
    expect(shown).toBeGreaterThan(50_000);
    expect(shown).toBeLessThan(150_000);
    await user.click("button", "End input");
    await succeed(process);
  });
}
