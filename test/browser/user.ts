/**
 * Somebody who uses the page in a real browser: finds things by what they are and what they are called, as people and screen readers do,
 * and waits until they are there. Nothing here waits for a time.
 */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  watch,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { chromium } from "playwright-core";
import puppeteer from "puppeteer-core";
import { afterAll, expect, onTestFailed, onTestFinished, type TestContext } from "vitest";
import { CUT_SOCKET, type Kind } from "./harness.ts";

export type Role =
  "button" | "textbox" | "heading" | "checkbox" | "file" | "img" | "log" | "region" | "status";

export interface UserOptions {
  /** Chromium's picker of folders gives the page's own storage; without it there is none. */
  readonly folders?: boolean;
  /** The page takes itself for one that came by http. */
  readonly insecure?: boolean;
  /** Width and height, CSS pixels. */
  readonly size?: readonly [number, number];
  readonly dark?: boolean;
  /** Complaints that the test provokes. */
  readonly expected?: readonly RegExp[];
}

/** What is to be found: a role and an accessible name, whole, or a part as /source/. */
interface Sought {
  readonly role: Role;
  readonly name: string;
  readonly part: boolean;
}

export interface User {
  readonly kind: Kind;
  /** Where its downloads go. */
  readonly downloads: string;
  visit(url: string): Promise<void>;
  reload(): Promise<void>;
  click(role: Role, name: string | RegExp): Promise<void>;
  /** Types into what is found, as with a keyboard. */
  type(name: string | RegExp, text: string): Promise<void>;
  press(key: "Tab" | "Enter"): Promise<void>;
  /** Picks files. */
  pick(name: string | RegExp, paths: readonly string[]): Promise<void>;
  /** Picks a folder with all that is in it: some 100 KiB. */
  pickFolder(name: string | RegExp, path: string): Promise<void>;
  /** Waits until it is there, and visible. */
  see(role: Role, name: string | RegExp): Promise<void>;
  /** Waits until a text is on the page. */
  read(text: string | RegExp): Promise<string>;
  run<A, R>(body: (argument: A) => R | Promise<R>, argument: A): Promise<R>;
  /** Waits for a downloaded file with this name and hash. */
  downloaded(name: string | RegExp, hash: string): Promise<void>;
  screenshot(path: string): Promise<void>;
  /** As when the user closes the tab: without asking what the page thinks of it. */
  close(): Promise<void>;
}

const PROGRAMS: Readonly<Record<Kind, readonly string[]>> = {
  chromium: ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"],
  firefox: ["/usr/bin/firefox-esr", "/usr/bin/firefox"],
};

/** Runs before the page: complaints are collected. */
function listen(): void {
  const complaints: string[] = [];
  Object.assign(globalThis, { complaints });
  addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sample }) => {
    complaints.push(`security policy: ${violatedDirective} ${blockedURI} ${sample}`);
  });
  addEventListener("unhandledrejection", ({ reason }) => complaints.push(`nobody caught ${String(reason)}`));
  addEventListener("error", ({ message }) => complaints.push(`nobody caught ${message}`));
}

/** Runs before the page: a picker that nobody has to click. */
function pickOwnStorage(): void {
  Object.assign(globalThis, { showDirectoryPicker: () => navigator.storage.getDirectory() });
}

/** Runs before the page. */
function comeByHttp(): void {
  Object.defineProperty(globalThis, "isSecureContext", { value: false });
}

function noPicker(): void {
  Reflect.deleteProperty(globalThis, "showDirectoryPicker");
}

/** In the page: resolves with the element when it is there and visible. */
async function findElement({ role, name, part }: Sought): Promise<HTMLElement> {
  const selectors: Record<Role, string> = {
    button: "button, summary, [role=button]",
    textbox: "input[type=text], input[type=url], textarea",
    heading: "h1, h2",
    checkbox: "input[type=checkbox]",
    file: "input[type=file]",
    img: "[role=img], img",
    log: "[role=log]",
    region: "[role=region], section[aria-label]",
    status: "[role=status], [role=alert]",
  };
  const nameOf = (element: HTMLElement): string => {
    const labelled = element.getAttribute("aria-labelledby");
    const label = element.id === "" ? null : document.querySelector(`label[for="${element.id}"]`);
    const text =
      element.getAttribute("aria-label") ??
      (labelled === null ? undefined : document.getElementById(labelled)?.textContent) ??
      label?.textContent ??
      element.textContent;
    return text.trim();
  };
  const fits = (element: HTMLElement): boolean =>
    element.checkVisibility() &&
    !(element as HTMLButtonElement).disabled &&
    (part ? new RegExp(name, "s").test(nameOf(element)) : nameOf(element) === name);
  const look = (): HTMLElement | undefined =>
    [...document.querySelectorAll<HTMLElement>(selectors[role])].find(fits);
  for (;;) {
    const found = look();
    if (found) return found;
    await new Promise<void>((resolve) => {
      const observer = new MutationObserver(() => {
        observer.disconnect();
        resolve();
      });
      observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
    });
  }
}

/** In the page: resolves with what is on it when that contains the text. */
async function findText({ name, part }: Omit<Sought, "role">): Promise<string> {
  for (;;) {
    const text = document.body.innerText;
    if (part) {
      const match = new RegExp(name, "s").exec(text);
      if (match) return match[0];
    } else if (text.includes(name)) return name;
    await new Promise<void>((resolve) => {
      const observer = new MutationObserver(() => {
        observer.disconnect();
        resolve();
      });
      observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
    });
  }
}

const sought = (role: Role, name: string | RegExp): Sought =>
  typeof name === "string" ? { role, name, part: false } : { role, name: name.source, part: true };

function hashOf(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

/** One Chromium for all tests of a file. */
let running: ReturnType<typeof chromium.launch> | undefined;

afterAll(async () => {
  await (await running)?.close();
});

/** Opens a browser with nothing in it. Without the browser the test is skipped on a desk, and fails in CI. */
export async function openUser(context: TestContext, kind: Kind, options: UserOptions = {}): Promise<User> {
  const path = PROGRAMS[kind].find((each) => existsSync(each));
  if (path === undefined && process.env["CI"] !== "true") context.skip(`needs ${kind}`);
  if (path === undefined) throw new Error(`${kind} is missing`);
  const home = mkdtempSync(join(tmpdir(), "dcpipe-user-"));
  onTestFinished(() => {
    rmSync(home, { recursive: true, force: true });
  });
  const user =
    kind === "chromium" ? await chromiumUser(path, home, options) : await firefoxUser(path, home, options);
  onTestFinished(() => user.close());
  return user;
}

/** What the two libraries have in common, as far as it is needed here. */
interface Tab {
  goto(url: string): Promise<unknown>;
  reload(): Promise<unknown>;
  evaluate<A, R>(body: (argument: A) => R | Promise<R>, argument: A): Promise<R>;
  evaluateHandle(body: typeof findElement, argument: Sought): Promise<{ asElement(): Handle | null }>;
  readonly keyboard: { type(text: string): Promise<void>; press(key: "Tab" | "Enter"): Promise<void> };
  screenshot(options: { path: string; fullPage: boolean }): Promise<unknown>;
}

interface Handle {
  click(): Promise<void>;
  focus(): Promise<void>;
  setInputFiles?(paths: string[]): Promise<void>;
  uploadFile?(...paths: string[]): Promise<void>;
}

class Browsing implements User {
  readonly kind: Kind;
  readonly downloads: string;
  readonly #tab: Tab;
  readonly #end: () => Promise<void>;
  readonly #complaints: string[];
  readonly #expected: readonly RegExp[];
  #closed = false;
  /** What it showed when it was closed. */
  #last = "";

  constructor(
    kind: Kind,
    tab: Tab,
    downloads: string,
    complaints: string[],
    { expected = [] }: UserOptions,
    end: () => Promise<void>,
  ) {
    this.kind = kind;
    this.#tab = tab;
    this.downloads = downloads;
    this.#complaints = complaints;
    this.#expected = expected;
    this.#end = end;
    onTestFailed(() => {
      console.error(`--- ${kind}\n${complaints.join("\n")}\n${this.#last}`);
    });
  }

  async visit(url: string): Promise<void> {
    await this.#tab.goto(url);
  }

  async reload(): Promise<void> {
    await this.#tab.reload();
  }

  async click(role: Role, name: string | RegExp): Promise<void> {
    await (await this.#find(role, name)).click();
  }

  async type(name: string | RegExp, text: string): Promise<void> {
    await (await this.#find("textbox", name)).focus();
    await this.#tab.keyboard.type(text);
  }

  press(key: "Tab" | "Enter"): Promise<void> {
    return this.#tab.keyboard.press(key);
  }

  async pick(name: string | RegExp, paths: readonly string[]): Promise<void> {
    const input = await this.#find("file", name);
    await (input.setInputFiles?.([...paths]) ?? input.uploadFile?.(...paths));
  }

  async pickFolder(name: string | RegExp, path: string): Promise<void> {
    const input = await this.#find("file", name);
    if (input.setInputFiles) {
      await input.setInputFiles([path]);
      return;
    }
    // Firefox takes no folder from WebDriver: the page gets the files as it would from the picker.
    const files = readdirSync(path, { recursive: true, encoding: "utf8" })
      .filter((each) => statSync(join(path, each)).isFile())
      .map((each) => ({
        path: `${basename(path)}/${each}`,
        content: readFileSync(join(path, each)).toString("base64"),
      }));
    await this.run(
      ([label, chosen]) => {
        const picker = document.querySelector(`[aria-label="${label}"]`);
        const value = chosen.map((each) => {
          const bytes = Uint8Array.from(atob(each.content), (c) => c.charCodeAt(0));
          const file = new File([bytes], each.path.split("/").at(-1) ?? "");
          return Object.defineProperty(file, "webkitRelativePath", { value: each.path });
        });
        if (picker) Object.defineProperty(picker, "files", { value });
        picker?.dispatchEvent(new Event("change"));
      },
      [String(name), files] as const,
    );
  }

  async see(role: Role, name: string | RegExp): Promise<void> {
    await this.#find(role, name);
  }

  read(text: string | RegExp): Promise<string> {
    const { name, part } = sought("region", text);
    return this.run(findText, { name, part });
  }

  run<A, R>(body: (argument: A) => R | Promise<R>, argument: A): Promise<R> {
    return this.#tab.evaluate(body, argument);
  }

  async downloaded(name: string | RegExp, hash: string): Promise<void> {
    const look = (): boolean =>
      readdirSync(this.downloads)
        .filter((each) => (typeof name === "string" ? each === name : name.test(each)))
        .some((each) => hashOf(join(this.downloads, each)) === hash);
    await new Promise<void>((resolve, reject) => {
      const watcher = watch(this.downloads, () => {
        finish();
      });
      const finish = (): void => {
        // Its directory goes when the test is over, whatever has come.
        const found = !this.#closed && look();
        if (!found && !this.#closed) return;
        watcher.close();
        if (found) resolve();
        else reject(new Error(`${name} was not downloaded`));
      };
      finish();
    });
  }

  async screenshot(path: string): Promise<void> {
    await this.#tab.screenshot({ path, fullPage: true });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const told = await this.run(
      () => (globalThis as unknown as { complaints?: string[] }).complaints ?? [],
      undefined,
    );
    this.#last = await this.run(() => document.body.innerText, undefined);
    await this.#end();
    const all = [...this.#complaints, ...told];
    expect(all.filter((text) => !this.#expected.some((each) => each.test(text)))).toEqual([]);
  }

  async #find(role: Role, name: string | RegExp): Promise<Handle> {
    const found = (await this.#tab.evaluateHandle(findElement, sought(role, name))).asElement();
    if (!found) throw new Error(`no ${role} ${name}`);
    return found;
  }
}

async function chromiumUser(executablePath: string, home: string, options: UserOptions): Promise<User> {
  const { folders = false, size, dark = false } = options;
  running ??= chromium.launch({
    executablePath,
    // Where there is no network but loopback, WebRTC is to use that.
    args: ["--no-sandbox", "--allow-loopback-in-peer-connection"],
  });
  const context = await (
    await running
  ).newContext({
    acceptDownloads: true,
    colorScheme: dark ? "dark" : "light",
    ...(size ? { viewport: { width: size[0], height: size[1] } } : {}),
  });
  await context.addInitScript(listen);
  await context.addInitScript(folders ? pickOwnStorage : noPicker);
  if (options.insecure === true) await context.addInitScript(comeByHttp);
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("download", (download) => {
    // One that is cut off is missed by who waits for it.
    download.saveAs(join(home, download.suggestedFilename())).catch(() => undefined);
  });
  return new Browsing("chromium", page, home, complaints, options, () => context.close());
}

/** A browser of its own: where downloads go is a setting of all of it. */
async function firefoxUser(executablePath: string, home: string, options: UserOptions): Promise<User> {
  const { size, dark = false } = options;
  const downloads = join(home, "Downloads");
  mkdirSync(downloads);
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath,
    headless: true,
    protocolTimeout: 0,
    ...(size ? { defaultViewport: { width: size[0], height: size[1] } } : {}),
    env: { ...process.env, HOME: home },
    extraPrefsFirefox: {
      "media.peerconnection.ice.loopback": true,
      "browser.download.folderList": 2,
      "browser.download.dir": downloads,
      "browser.download.useDownloadDir": true,
      "browser.helperApps.neverAsk.saveToDisk": "application/octet-stream",
      "browser.download.alwaysOpenPanel": false,
      "layout.css.prefers-color-scheme.content-override": dark ? 0 : 1,
    },
  });
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" && !CUT_SOCKET.test(message.text())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => {
    if (!CUT_SOCKET.test(String(error))) complaints.push(String(error));
  });
  await page.evaluateOnNewDocument(listen);
  if (options.insecure === true) await page.evaluateOnNewDocument(comeByHttp);
  return new Browsing("firefox", page as unknown as Tab, downloads, complaints, options, () =>
    browser.close(),
  );
}
