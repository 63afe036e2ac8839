/**
 * Real browsers for the tests, without windows: Chromium by playwright-core, Firefox by puppeteer-core over WebDriver BiDi. A page
 * comes from a server on loopback, under a strict Content-Security-Policy, with the library that was built (dist/browser.js) in it.
 *
 *   const page = await openPage(context, "firefox");
 *   const done = page.run(async (rendezvous) => {          // runs in the page: nothing of the test's file is there
 *     const { session, role } = await tab.meet({ rendezvous });
 *     await dcpipe.pipe(session, role, ...);
 *   }, server.url);
 *   const code = await page.told<string>("code");
 *
 * What a page complains about (errors on its console, errors that nobody caught, its security policy) fails the test at its end.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium, type Page } from "playwright-core";
import puppeteer, { type Page as FirefoxPage } from "puppeteer-core";
import type { BrowserOptions, Role, Session } from "../../src/browser.ts";
import { afterAll, expect, onTestFailed, onTestFinished, type TestContext } from "vitest";

export const KINDS = ["chromium", "firefox"] as const;
export type Kind = (typeof KINDS)[number];

declare global {
  /** The library, in a page. */
  var dcpipe: typeof import("../../src/browser.ts");
  /** What tests say in a page. */
  var tab: {
    /** Says something to the test: any JSON. */
    tell(name: string, value?: unknown): void;
    /** Meets the other side: waits without a code, and tells the "code" then; joins with one. `path` settles when it is known. */
    meet(meeting: MeetingOptions): Promise<{ session: Session; role: Role; path: Promise<string> }>;
    random(size: number): Uint8Array<ArrayBuffer>;
    /** Hexadecimal digits. */
    sha256(bytes: BufferSource): Promise<string>;
  };
}

export interface MeetingOptions extends Omit<BrowserOptions, "onevent"> {
  readonly code?: string | undefined;
}

export interface PageOptions {
  /** What the server answers beside the page itself, by path. */
  readonly routes?: Readonly<Record<string, RequestListener>>;
  /** Complaints that the test provokes. */
  readonly expected?: readonly RegExp[];
}

export interface BrowserPage {
  readonly kind: Kind;
  /** Of the page: `http://127.0.0.1:PORT/`. */
  readonly url: string;
  /** Runs a function in the page; what goes in and comes out is JSON. Rejects with what the function throws, as text. */
  run<A, R>(body: (argument: A) => R | Promise<R>, argument: A): Promise<R>;
  /** What the page told by that name, in order, past or to come. */
  told<T>(name: string): Promise<T>;
  reload(): Promise<void>;
  /** Goes to another path of the server: one of `routes`. */
  visit(path: string): Promise<void>;
  /** As when the user closes the tab. Complaints until then count. */
  close(): Promise<void>;
}

const PROGRAMS: Readonly<Record<Kind, readonly string[]>> = {
  chromium: ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"],
  firefox: ["/usr/bin/firefox-esr", "/usr/bin/firefox"],
};

const BUNDLE = fileURLToPath(new URL("../../dist/browser.js", import.meta.url));

const POLICY =
  "default-src 'none'; script-src 'self'; connect-src 'self' ws://127.0.0.1:*; img-src data:; base-uri 'none'";

const HTML = `<!doctype html><html lang="en"><meta charset="utf-8"><title>test</title><link rel="icon" href="data:,">
<script type="module" src="/harness.js"></script></html>`;

/** What is told goes out in order; "ready" when the library is there. */
const SCRIPT = `
let before = Promise.resolve();
const tell = (name, value = null) => {
  before = before.then(() => fetch("/told", { method: "POST", body: JSON.stringify({ name, value }) }));
};
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
  tell("complaint", "security policy: " + violatedDirective + " " + blockedURI);
});
addEventListener("unhandledrejection", ({ reason }) => tell("complaint", "nobody caught " + reason));
addEventListener("error", ({ message }) => tell("complaint", "nobody caught " + message));
const random = (size) => {
  const bytes = new Uint8Array(size);
  // No more is given at once.
  for (let at = 0; at < size; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
  return bytes;
};
const sha256 = async (bytes) => {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
};
const meet = async ({ code, ...given }) => {
  let found;
  const path = new Promise((resolve) => (found = resolve));
  const onevent = (event) => event.event === "connected" && found(event.path);
  const options = { stun: [], ...given, onevent };
  if (code !== undefined) {
    const joining = await dcpipe.connectByCode(dcpipe.parseCode(code), options);
    return { session: await joining.session, role: "joining", path };
  }
  const waiting = await dcpipe.listenByCode(options);
  tell("code", dcpipe.formatCode(waiting.code));
  return { session: await waiting.session, role: "waiting", path };
};
globalThis.tab = { tell, meet, random, sha256 };
globalThis.dcpipe = await import("/browser.js");
tell("ready");
`;

/** What the two libraries have in common, as far as it is needed here. */
export interface Tab {
  goto(url: string): Promise<unknown>;
  reload(): Promise<unknown>;
  evaluate<A, R>(body: (argument: A) => R | Promise<R>, argument: A): Promise<R>;
  /** The same in the first frame whose URL begins so. */
  evaluateIn<A, R>(url: string, body: (argument: A) => R | Promise<R>, argument: A): Promise<R>;
  /** URLs of all its frames. */
  frames(): string[];
  /** Another tab, with the same cookies and workers. */
  another(): Promise<Tab>;
  /** Stops all service workers, as browsers do by themselves after a while. Chromium only. */
  stopWorkers(): Promise<void>;
  /** A PNG of what is shown, at that size and in that colour scheme. */
  picture(
    path: `${string}.png`,
    size: { width: number; height: number },
    scheme: "light" | "dark",
  ): Promise<void>;
  close(): Promise<void>;
}

interface Program {
  /** A tab that shares nothing with others. */
  open(oncomplaint: (text: string) => void): Promise<Tab>;
  close(): Promise<void>;
}

/** One of each kind for all tests of a file. */
const programs = new Map<Kind, Promise<Program>>();

afterAll(async () => {
  for (const program of programs.values()) await (await program).close();
});

/** Opens the page in a browser of that kind. Without the browser the test is skipped on a desk, and fails in CI. */
export async function openPage(
  context: TestContext,
  kind: Kind,
  options: PageOptions = {},
): Promise<BrowserPage> {
  return new LoopbackPage(kind, options).open(await programFor(context, kind));
}

/** An empty tab, which is closed when the test is over; what its pages complain about on their consoles is told. */
export async function openTab(
  context: TestContext,
  kind: Kind,
  oncomplaint: (text: string) => void,
): Promise<Tab> {
  const tab = await (await programFor(context, kind)).open(oncomplaint);
  onTestFinished(() => tab.close());
  return tab;
}

async function programFor(context: TestContext, kind: Kind): Promise<Program> {
  const path = PROGRAMS[kind].find((each) => existsSync(each));
  if (path === undefined && process.env["CI"] !== "true") context.skip(`needs ${kind}`);
  if (path === undefined) throw new Error(`${kind} is missing`);
  let program = programs.get(kind);
  if (!program)
    programs.set(kind, (program = kind === "chromium" ? startChromium(path) : startFirefox(path)));
  return program;
}

class LoopbackPage implements BrowserPage {
  readonly kind: Kind;
  url = "";
  readonly #options: PageOptions;
  readonly #complaints: string[] = [];
  readonly #said: { name: string; value: unknown }[] = [];
  readonly #listeners = new Set<() => void>();
  #tab: Tab | undefined;

  constructor(kind: Kind, options: PageOptions) {
    this.kind = kind;
    this.#options = options;
  }

  async open(program: Program): Promise<this> {
    const server = createServer((request, response) => {
      const { pathname } = new URL(request.url ?? "/", "http://localhost");
      const route = this.#options.routes?.[pathname];
      const answer = (type: string, body: string | Buffer): void => {
        response.writeHead(200, { "content-type": type, "content-security-policy": POLICY }).end(body);
      };
      if (route) route(request, response);
      else if (pathname === "/") answer("text/html; charset=utf-8", HTML);
      else if (pathname === "/harness.js") answer("text/javascript", SCRIPT);
      else if (pathname === "/browser.js") answer("text/javascript", readFileSync(BUNDLE));
      else if (pathname === "/told")
        void this.#hear(request).then(() => {
          answer("text/plain", "");
        });
      // Browsers ask for it unbidden.
      else response.writeHead(pathname === "/favicon.ico" ? 204 : 404).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => {
      server.close();
      server.closeAllConnections();
    });
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const tab = await program.open((text) => this.#complaints.push(text));
    this.#tab = tab;
    onTestFailed(() => {
      console.error(
        `--- ${this.kind}\n${[...this.#complaints, ...this.#said.map((each) => JSON.stringify(each))].join("\n")}`,
      );
    });
    onTestFinished(() => this.close());
    await tab.goto(this.url);
    await this.told("ready");
    return this;
  }

  run<A, R>(body: (argument: A) => R | Promise<R>, argument: A): Promise<R> {
    if (!this.#tab) throw new Error("the page is closed");
    const running = this.#tab.evaluate(body, argument);
    // A test that looks elsewhere first sees it later.
    running.catch(() => undefined);
    return running;
  }

  async told<T>(name: string): Promise<T> {
    for (;;) {
      const at = this.#said.findIndex((each) => each.name === name);
      const [found] = at < 0 ? [] : this.#said.splice(at, 1);
      if (found) return found.value as T;
      if (!this.#tab) throw new Error(`the page is closed, and has not told "${name}"`);
      await new Promise<void>((resolve) => this.#listeners.add(resolve));
    }
  }

  async reload(): Promise<void> {
    await this.#tab?.reload();
    await this.told("ready");
  }

  async visit(path: string): Promise<void> {
    await this.#tab?.goto(this.url + path);
  }

  async close(): Promise<void> {
    const tab = this.#tab;
    if (!tab) return;
    this.#tab = undefined;
    this.#wake();
    await tab.close();
    const { expected = [] } = this.#options;
    expect(this.#complaints.filter((text) => !expected.some((each) => each.test(text)))).toEqual([]);
  }

  async #hear(request: IncomingMessage): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const said = JSON.parse(Buffer.concat(chunks).toString()) as { name: string; value: unknown };
    if (said.name === "complaint") this.#complaints.push(String(said.value));
    else this.#said.push(said);
    this.#wake();
  }

  #wake(): void {
    const waiting = [...this.#listeners];
    this.#listeners.clear();
    for (const each of waiting) each();
  }
}

function found<F extends { url(): string }>(frames: readonly F[], url: string): F {
  const frame = frames.find((each) => each.url().startsWith(url));
  if (!frame) throw new Error(`no frame of ${url}`);
  return frame;
}

async function startChromium(executablePath: string): Promise<Program> {
  const browser = await chromium.launch({
    executablePath,
    // Where there is no network but loopback, WebRTC is to use that.
    args: ["--no-sandbox", "--allow-loopback-in-peer-connection"],
  });
  return {
    open: async (oncomplaint) => {
      const context = await browser.newContext();
      const openIn = async (close: (page: Page) => Promise<void>): Promise<Tab> => {
        const page = await context.newPage();
        page.on("console", (message) => {
          if (message.type() === "error") oncomplaint(message.text());
        });
        page.on("pageerror", (error) => {
          oncomplaint(String(error));
        });
        return {
          goto: (url) => page.goto(url),
          reload: () => page.reload(),
          // Its type allows for handles in the argument; there are none here.
          evaluate: (body, argument) => page.evaluate(body as never, argument),
          evaluateIn: (url, body, argument) => found(page.frames(), url).evaluate(body as never, argument),
          frames: () => page.frames().map((frame) => frame.url()),
          another: () => openIn((other) => other.close()),
          stopWorkers: async () => {
            const session = await context.newCDPSession(page);
            await session.send("ServiceWorker.enable");
            await session.send("ServiceWorker.stopAllWorkers");
            await session.detach();
          },
          picture: async (path, size, colorScheme) => {
            await page.setViewportSize(size);
            await page.emulateMedia({ colorScheme });
            await page.screenshot({ path });
          },
          close: () => close(page),
        };
      };
      return openIn(() => context.close());
    },
    close: () => browser.close(),
  };
}

/** What Firefox says when a page goes before its last WebSocket is closed: on a busy machine that may be so. */
export const CUT_SOCKET = /The connection to wss?:\S+ was interrupted while the page was loading/;

async function startFirefox(executablePath: string): Promise<Program> {
  const home = mkdtempSync(join(tmpdir(), "dcpipe-firefox-"));
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath,
    headless: true,
    protocolTimeout: 0,
    env: { ...process.env, HOME: home },
    extraPrefsFirefox: { "media.peerconnection.ice.loopback": true },
  });
  return {
    open: async (oncomplaint) => {
      const context = await browser.createBrowserContext();
      const openIn = async (close: (page: FirefoxPage) => Promise<void>): Promise<Tab> => {
        const page = await context.newPage();
        page.on("console", (message) => {
          if (message.type() === "error" && !CUT_SOCKET.test(message.text())) oncomplaint(message.text());
        });
        page.on("pageerror", (error) => {
          if (!CUT_SOCKET.test(String(error))) oncomplaint(String(error));
        });
        return {
          goto: (url) => page.goto(url),
          reload: () => page.reload(),
          evaluate: (body, argument) => page.evaluate(body as never, argument),
          evaluateIn: (url, body, argument) => found(page.frames(), url).evaluate(body as never, argument),
          frames: () => page.frames().map((frame) => frame.url()),
          another: () => openIn((other) => other.close()),
          stopWorkers: () => Promise.reject(new Error("Firefox does not say how")),
          picture: async (path, size) => {
            await page.setViewport(size);
            await page.screenshot({ path });
          },
          close: () => close(page),
        };
      };
      return openIn(() => context.close());
    },
    close: async () => {
      await browser.close();
      rmSync(home, { recursive: true, force: true });
    },
  };
}
