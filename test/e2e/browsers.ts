/** A real browser's tab, Chromium's or Firefox's, that evaluates what a test gives it. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import puppeteer from "puppeteer-core";
import { expect, onTestFinished, type TestContext } from "vitest";

export const BROWSERS = ["chromium", "firefox"] as const;

export interface Tab {
  /** What the page says on its console. */
  onlog: ((text: string) => void) | undefined;
  /** What a user types where the page calls `prompt`. */
  onprompt: ((question: string) => Promise<string>) | undefined;
  /** The value of an expression; promises are awaited. */
  evaluate(expression: string): Promise<unknown>;
  close(): Promise<void>;
}

const PATHS = {
  chromium: ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"],
  firefox: ["/usr/bin/firefox-esr", "/usr/bin/firefox"],
};

/** Where the browser is. Without it the test is skipped on a desk, and fails in CI. */
export function executableOf(context: TestContext, name: (typeof BROWSERS)[number]): string {
  const executablePath = PATHS[name].find((path) => existsSync(path));
  if (executablePath === undefined && process.env["CI"] !== "true") context.skip(`needs ${name}`);
  expect(executablePath, `${name} is missing`).toBeDefined();
  if (executablePath === undefined) throw new Error("unreachable");
  return executablePath;
}

/** Opens an empty page. */
export async function openTab(context: TestContext, name: (typeof BROWSERS)[number]): Promise<Tab> {
  const executablePath = executableOf(context, name);
  const home = mkdtempSync(join(tmpdir(), "dcpipe-browser-"));
  if (name === "chromium") {
    const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
    onTestFinished(() => browser.close());
    onTestFinished(() => {
      rmSync(home, { recursive: true, force: true });
    });
    const page = await browser.newPage();
    const tab = newTab(
      (expression) => page.evaluate(expression),
      () => browser.close(),
    );
    page.on("console", (message) => tab.onlog?.(message.text()));
    page.on("dialog", (dialog) => {
      void tab.onprompt?.(dialog.message()).then((text) => dialog.accept(text));
    });
    return tab;
  }
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath,
    headless: true,
    env: { ...process.env, HOME: home },
  });
  onTestFinished(() => {
    rmSync(home, { recursive: true, force: true, maxRetries: 10 });
  });
  onTestFinished(() => browser.close());
  const page = await browser.newPage();
  const tab = newTab(
    (expression) => page.evaluate(expression),
    () => browser.close(),
  );
  page.on("console", (message) => tab.onlog?.(message.text()));
  page.on("dialog", (dialog) => {
    void tab.onprompt?.(dialog.message()).then((text) => dialog.accept(text));
  });
  return tab;
}

function newTab(evaluate: Tab["evaluate"], close: Tab["close"]): Tab {
  return { onlog: undefined, onprompt: undefined, evaluate, close };
}
