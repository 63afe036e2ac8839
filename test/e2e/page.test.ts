/** dcpipe page: what a rendezvous serves, as a file. What the page does is tested in browsers: test/browser/page-*.test.ts. */
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startServer } from "./code.ts";
import { sha256, start, temporaryDirectory } from "./dcpipe.ts";

test("the file is what a rendezvous serves, byte for byte, and its hash is told", async () => {
  const path = join(temporaryDirectory(), "dcpipe.html");
  const process = start(["page", "--out", path, "--json"]);
  const { status, stdout } = await process.exited;
  expect(status).toBe(0);
  expect(stdout).toHaveLength(0);
  const page = readFileSync(path);
  const hash = sha256(page);
  expect(process.find("done")).toMatchObject({ bytes: page.length, files: 1, path, sha256: hash });
  const server = await startServer();
  const served = await fetch(server.url, { headers: { connection: "close" } });
  expect(sha256(Buffer.from(await served.arrayBuffer()))).toBe(hash);
});

test("stdout takes it, too, and nothing else; people are told the hash", async () => {
  const { status, stdout, stderr } = await start(["page", "--out", "-"]).exited;
  expect(status).toBe(0);
  expect(stdout.toString()).toMatch(/^<!doctype html>.*<\/html>\s*$/s);
  expect(stderr).toContain(sha256(stdout));
});

test("what is there stays, unless it may be replaced", async () => {
  const path = join(temporaryDirectory(), "dcpipe.html");
  writeFileSync(path, "mine");
  const refused = start(["page", "--out", path, "--json"]);
  expect((await refused.exited).status).toBe(5);
  expect(refused.error).toMatchObject({ code: "EXISTS", hint: "--overwrite replaces it" });
  expect(readFileSync(path, "utf8")).toBe("mine");
  expect((await start(["page", "--out", path, "--overwrite"]).exited).status).toBe(0);
  expect(statSync(path).size).toBeGreaterThan(10_000);
});

test("a rendezvous is written into it, as text; one that is none is wrong usage", async () => {
  const directory = temporaryDirectory();
  const path = join(directory, "dcpipe.html");
  const url = `https://meet.example/a&"b'<i>/`;
  expect((await start(["page", "--out", path, "--rendezvous", url]).exited).status).toBe(0);
  const html = readFileSync(path, "utf8");
  const told = /name="dcpipe-rendezvous" content="([^"]*)"/.exec(html)?.[1];
  expect(told).toBe("https://meet.example/a&#38;%22b'%3Ci%3E/");
  const none = join(directory, "none.html");
  expect((await start(["page", "--out", none, "--rendezvous", "ftp://meet.example/"]).exited).status).toBe(2);
  expect(existsSync(none)).toBe(false);
  expect((await start(["page"]).exited).status).toBe(2);
  expect((await start(["page", "--out", join(directory, "no/where.html")]).exited).status).toBe(1);
});
