/** The page of a rendezvous in a real browser. */
import { existsSync } from "node:fs";
import { chromium, type Browser, type Page } from "playwright-core";
import { expect, onTestFinished, test, type TestContext } from "vitest";
import { MemoryStore } from "../../src/server/memory.ts";
import { Rendezvous } from "../../src/server/rendezvous.ts";

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) =>
  existsSync(path),
);

/** Opens the page; whatever it complains about or asks of the network is noted. */
async function open(
  context: TestContext,
  fragment: string,
): Promise<{ page: Page; url: string; noted: string[] }> {
  if (CHROMIUM === undefined && process.env["CI"] !== "true") context.skip("needs chromium");
  const server = new Rendezvous({ store: new MemoryStore() });
  onTestFinished(() => server.close());
  const { port } = await server.listen(0, "127.0.0.1");
  const browser: Browser = await chromium.launch({
    executablePath: CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox"],
  });
  onTestFinished(() => browser.close());
  const page = await browser.newPage();
  const noted: string[] = [];
  page.on("console", (message) => noted.push(message.text()));
  page.on("pageerror", (error) => noted.push(String(error)));
  page.on("request", (request) => noted.push(request.url()));
  const url = `http://127.0.0.1:${port}/`;
  await page.goto(url + fragment);
  return { page, url, noted };
}

const text = (page: Page, id: string): Promise<string | null> => page.locator(`#${id}`).textContent();

test("a code in the fragment: what to type, and nothing of it is sent", async (context) => {
  const { page, url, noted } = await open(context, "#7-Guitar%20sandwich");
  expect(await text(page, "code")).toBe("7-guitar-sandwich");
  expect(await text(page, "receive")).toBe(`dcpipe receive 7-guitar-sandwich --rendezvous ${url}`);
  expect(await text(page, "send")).toBe(`dcpipe send FILE --to 7-guitar-sandwich --rendezvous ${url}`);
  expect(await page.locator("#bad").isVisible()).toBe(false);
  // One request, its fragment cut off by the browser, and no complaint about the security policy.
  expect(noted.map((entry) => entry.split("#")[0])).toEqual([url]);
  await page.locator("button").first().click();
  await expect.poll(() => page.locator("button").first().textContent()).toMatch(/Copied|Marked/);
  // The next link in the same tab.
  await page.evaluate("location.hash = '#12-ocean-tiger-lemon-piano'");
  await expect.poll(() => page.title()).toContain("12-ocean-tiger-lemon-piano");
});

test("what is no code is shown as it is, as text", async (context) => {
  const { page, url, noted } = await open(context, "#<img src=/x onerror=alert(1)>");
  expect(await page.locator("#bad").isVisible()).toBe(true);
  expect(await page.locator("#with").isVisible()).toBe(false);
  expect(await text(page, "wrong")).toBe("<img src=/x onerror=alert(1)>");
  expect(await page.locator("img").count()).toBe(0);
  expect(noted.map((entry) => entry.split("#")[0])).toEqual([url]);
});

test("without a code it says what it is", async (context) => {
  const { page, url } = await open(context, "");
  expect(await page.locator("#without").isVisible()).toBe(true);
  expect(await text(page, "start")).toBe(`dcpipe send FILE --rendezvous ${url}`);
});
