/** The page receives: what a dcpipe process sends is agreed to, and on disk in the end. */
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "vitest";
import { startServer } from "../e2e/code.ts";
import { sha256, start, succeed, temporaryDirectory } from "../e2e/dcpipe.ts";
import { KINDS } from "./harness.ts";
import { openUser } from "./user.ts";

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
    await user.click("button", "Download");
    await user.see("heading", "Received");
    await succeed(process);
    await user.downloaded("photo 1.jpg", sha256(bytes));
  });
}
