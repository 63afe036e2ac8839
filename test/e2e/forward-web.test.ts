/** `dcpipe forward --web`: what it says, and what it needs. The sites themselves are in test/browser. */
import { expect, test } from "vitest";
import { startServer } from "./code.ts";
import { fail, start } from "./dcpipe.ts";

test("the link stands beside the code, for scripts and for people", async () => {
  const server = await startServer();
  const forward = start(["forward", "3000", "--web", "--rendezvous", server.url]);
  const { code, link, web } = await forward.event("code");
  expect(link).toBe(`${server.url}#${String(code)}`);
  expect(web).toBe(`${server.url}site#${String(code)}`);

  const said = start(["forward", "3000", "--web", "--rendezvous", server.url, "--qr"], { json: false });
  const [, text = ""] = await said.until(
    "the link",
    () => /or open the site in a browser:\s+(\S+)\s/.exec(said.stderr) ?? undefined,
  );
  expect(text).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/site#\d+-[a-z]+-[a-z]+$/);
  await said.until("the drawing", () => said.stderr.includes("▄") || undefined);

  const plain = start(["forward", "3000", "--rendezvous", server.url]);
  expect(await plain.event("code")).not.toHaveProperty("web");
});

test("it needs a rendezvous, a TARGET of TCP, and to wait", async () => {
  const there = ["--rendezvous", "http://127.0.0.1:1/"];
  await fail(start(["forward", "3000", "--web"]), 2, /--web needs a rendezvous/);
  await fail(start(["forward", "53/udp", "--web", ...there]), 2, /--web needs a TARGET of TCP/);
  await fail(start(["forward", "--web", ...there]), 2, /--web needs a TARGET of TCP/);
  await fail(
    start(["forward", "3000", "7-guitar-sandwich", "--web", ...there]),
    2,
    /--web is for the waiting side/,
  );
  await fail(
    start(["forward", "3000", "--web", "--offer-file", "/nonexistent/x", ...there]),
    2,
    /--web needs a rendezvous/,
  );
});

test("--site-url is checked", async () => {
  const server = start([
    "rendezvous",
    "--json",
    "--listen",
    "127.0.0.1:0",
    "--site-url",
    "https://*.sites.example.org",
  ]);
  await fail(server, 2, /--site-url needs --public-url/);
});
