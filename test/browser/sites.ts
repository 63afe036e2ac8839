/**
 * A site on a server of the test's own, a `dcpipe forward --web` in front of it, and a browser that has opened the link. The site's pages
 * run functions of the test, and say what they see by their own site:
 *
 *   const visit = await openSite(context, kind, { "/": page(async () => { await tell("title", document.title); }) });
 *   expect(await visit.told("title")).toBe("site");
 *
 * What any page complains about fails the test at its end: errors on consoles, errors that nobody caught, security policies.
 */
import type { IncomingMessage, RequestListener, Server as HttpServer, ServerResponse } from "node:http";
import { expect, onTestFailed, onTestFinished, type TestContext } from "vitest";
import { startServer, type Server } from "../e2e/code.ts";
import { start, type Dcpipe } from "../e2e/dcpipe.ts";
import { portOf, serveHttp } from "../e2e/site.ts";
import { openTab, type Kind, type Tab } from "./harness.ts";

declare global {
  /** Says something to the test, from a page of the site. Resolves when it has heard it. */
  var tell: (name: string, value?: unknown) => Promise<void>;
}

export type Routes = Readonly<Record<string, RequestListener>>;

export interface SiteVisit {
  readonly site: HttpServer;
  /** `localhost:PORT` of the site's server. */
  readonly host: string;
  readonly rendezvous: Server;
  readonly forward: Dcpipe;
  /** The link. */
  readonly web: string;
  /** The tab with the outer page. */
  readonly tab: Tab;
  /** Origins of this visit; they are there when the site has told something. */
  readonly outer: string;
  readonly inner: string;
  /** What the site's pages told by that name, in order, past or to come. */
  told<T>(name: string): Promise<T>;
  /** All requests that the site's server has had, but those by which pages tell. */
  readonly requests: IncomingMessage[];
  readonly complaints: string[];
}

export interface SiteTestOptions {
  /** Further arguments of `dcpipe forward`. */
  readonly args?: readonly string[];
  /** Complaints that the test provokes. */
  readonly expected?: readonly RegExp[];
}

/** Serves HTML with a script that runs the function, and tells when it fails. */
export function page<A = undefined>(
  body: (argument: A) => unknown,
  argument?: A,
  html = "",
): RequestListener {
  return (_, response) => {
    response
      .writeHead(200, { "content-type": "text/html; charset=utf-8" })
      .end(document(body, argument, html));
  };
}

export function document<A = undefined>(body: (argument: A) => unknown, argument?: A, html = ""): string {
  const json = JSON.stringify(argument ?? null);
  return `<!doctype html><html lang="en"><head><title>site</title><link rel="icon" href="data:,"></head><body>${html}<script>
    globalThis.tell = async (name, value = null) => { await fetch("/told", { method: "POST", body: JSON.stringify({ name, value }) }); };
    addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
      tell("complaint", "security policy: " + violatedDirective + " " + blockedURI));
    addEventListener("error", ({ message }) => tell("complaint", "nobody caught " + message));
    (async () => (${body.toString()})(${json}))().catch((error) => tell("complaint", String(error && error.stack || error)));
  </script></body></html>`;
}

/** Answers with a text of that type. */
export function text(
  type: string,
  body: string | Buffer,
  headers: Record<string, string | string[]> = {},
): RequestListener {
  return (_, response) => {
    response.writeHead(200, { "content-type": type, ...headers }).end(body);
  };
}

export async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

export async function openSite(
  context: TestContext,
  kind: Kind,
  routes: Routes,
  options: SiteTestOptions = {},
): Promise<SiteVisit> {
  const said: { name: string; value: unknown }[] = [];
  const listeners = new Set<() => void>();
  const complaints: string[] = [];
  const requests: IncomingMessage[] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    if (pathname === "/told") {
      const heard = JSON.parse((await bodyOf(request)).toString()) as { name: string; value: unknown };
      response.writeHead(204).end();
      if (heard.name === "complaint") complaints.push(String(heard.value));
      else said.push(heard);
      for (const listener of [...listeners]) listener();
      return;
    }
    requests.push(request);
    const route = routes[pathname];
    if (route) route(request, response);
    else response.writeHead(pathname === "/favicon.ico" ? 204 : 404).end();
  };
  const site = await serveHttp((request, response) => void answer(request, response));
  const visit = await openForward(context, kind, portOf(site), complaints, options);
  onTestFailed(() => {
    console.error(`--- ${kind}\n${[...complaints, ...said.map((each) => JSON.stringify(each))].join("\n")}`);
  });
  return {
    ...visit,
    get outer() {
      return originOf(visit.tab, /^http:\/\/[\da-f]+\./);
    },
    get inner() {
      return originOf(visit.tab, /^http:\/\/site\./);
    },
    site,
    host: `localhost:${portOf(site)}`,
    requests,
    complaints,
    told: async <T>(name: string): Promise<T> => {
      for (;;) {
        const at = said.findIndex((each) => each.name === name);
        const [found] = at < 0 ? [] : said.splice(at, 1);
        if (found) return found.value as T;
        await new Promise<void>((resolve) => {
          const listener = (): void => {
            listeners.delete(listener);
            resolve();
          };
          listeners.add(listener);
        });
      }
    },
  };
}

function originOf(tab: Tab, form: RegExp): string {
  const url = tab.frames().find((each) => form.test(each));
  if (url === undefined) throw new Error(`no frame like ${form}: ${tab.frames().join(" ")}`);
  return new URL(url).origin;
}

/** A forward to a port of this machine, and a tab that has opened its link. */
export async function openForward(
  context: TestContext,
  kind: Kind,
  port: number,
  complaints: string[],
  { args = [], expected = [] }: SiteTestOptions = {},
): Promise<Pick<SiteVisit, "rendezvous" | "forward" | "web" | "tab">> {
  const rendezvous = await startServer();
  const forward = start(["forward", String(port), "--web", ...args, "--rendezvous", rendezvous.url]);
  const web = String((await forward.event("code"))["web"]);
  // Before the tab goes, which is after this in the order of what was opened last.
  const tab = await openTab(context, kind, (complaint) => complaints.push(complaint));
  onTestFinished(() => {
    expect(complaints.filter((complaint) => !expected.some((each) => each.test(complaint)))).toEqual([]);
  });
  await tab.goto(web);
  return { rendezvous, forward, web, tab };
}
