/**
 * The page around a site: joins the code of the address' fragment, and answers what the service worker of the inner origin asks for by
 * asking the TARGET. It has the session, so it must stay open; nothing of the site runs in its origin.
 */
import {
  asDcpipeError,
  connectByCode,
  DcpipeError,
  escapeText,
  formatTarget,
  parseCode,
  placeOf,
  visit,
  type BrowserOptions,
  type Session,
  type Target,
  type TargetOffer,
} from "../../browser.ts";
import type { GoneMessage, HelloMessage, PortMessage, WorkerMessage } from "../messages.ts";
import { createDocuments } from "./documents.ts";
import type { Places } from "./fields.ts";
import { createJar } from "./jar.ts";
import { serveRequest, type Ground } from "./requests.ts";
import { createSockets } from "./sockets.ts";
import { createView } from "./view.ts";

const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/;
/** TARGETs that are offered for choice; more would be no list. */
const MAX_CHOICES = 100;
/** Longer texts of the other side's are cut. */
const MAX_SHOWN = 300;
const { rendezvous = "", inner = "" } = document.documentElement.dataset;
const view = createView();
/** Ports of the worker, the latest last; those that are of no use any more hurt nobody. */
const ports = new Set<MessagePort>();
/** A worker that is stopped and started again has a new one each time; a script of the site that makes more ends its own site. */
const MAX_PORTS = 64;
let ground: Ground | undefined;
let serve: ((message: WorkerMessage, port: MessagePort) => void) | undefined;
let over: string | undefined;
let standing!: () => void;
const workerStands = new Promise<void>((resolve) => (standing = resolve));

/** The code is in the address for nobody but us, and only until it is read. */
function takeCode(): string {
  const text = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener("message", (event: MessageEvent<PortMessage>) => {
  const [port] = event.ports;
  if (event.origin !== inner || !port || (event.data as Partial<PortMessage> | null)?.type !== "port") return;
  ports.add(port);
  for (const oldest of ports) {
    if (ports.size <= MAX_PORTS) break;
    oldest.close();
    ports.delete(oldest);
  }
  port.onmessage = (said: MessageEvent<WorkerMessage>) => {
    const [answer] = said.ports;
    if (answer && (said.data as WorkerMessage | null)) serve?.(said.data, answer);
  };
  greet(port);
  standing();
});

function greet(port: MessagePort): void {
  if (over !== undefined) port.postMessage({ type: "gone", text: over } satisfies GoneMessage);
  else if (ground) port.postMessage({ type: "hello", origins: ground.places.aliases } satisfies HelloMessage);
}

/** Browsers say what the policy of this page has stopped: the site wanted to go elsewhere. */
addEventListener("securitypolicyviolation", ({ effectiveDirective, blockedURI }) => {
  if (effectiveDirective !== "frame-src") return;
  // Firefox names the address that redirects, not the one that was stopped.
  const url = blockedURI.startsWith(inner) ? ground?.led() : blockedURI;
  if (url !== undefined && /^https?:/.test(url)) view.leads(url);
});

async function run(code: string): Promise<void> {
  view.state("connecting", "Connecting", "To the machine that gave you this link.");
  const session = await join(code);
  const visiting = visit(session, "joining");
  const [offers] = await Promise.all([visiting.offers, workerStands]);
  const target = await chooseTarget(offers);
  open(session, target);
  await visiting.done;
}

async function join(code: string): Promise<Session> {
  const options: BrowserOptions = {
    rendezvous,
    // At a rendezvous of this machine itself, both sides are on it as a rule; nobody else is told then.
    ...(LOOPBACK.test(new URL(rendezvous).hostname) ? { stun: [] } : {}),
    onevent: (event) => {
      if (event.event === "connected" || event.event === "path") {
        view.path(
          event.path === "direct" ? "direct" : event.path === "turn" ? "by a TURN relay" : "by the relay",
        );
        if (ground) view.state("shown", "Connected");
      } else if (event.event === "reconnecting")
        view.state(
          "reconnecting",
          "Reconnecting",
          "The connection is lost; trying again. What you have open stays.",
        );
    },
  };
  const joining = await connectByCode(parseCode(code), options);
  joining.verifier.then(view.words, () => undefined);
  return joining.session;
}

async function chooseTarget(offers: readonly TargetOffer[]): Promise<Target> {
  const sites = offers.filter(({ protocol }) => protocol === "tcp").slice(0, MAX_CHOICES);
  const [first, ...others] = sites;
  if (!first) throw new DcpipeError("REFUSED", "the other side offers nothing that a browser could open");
  if (others.length === 0) return first.target;
  view.state("connecting", "Which site?");
  const chosen = sites[await view.choose(sites.map(({ target }) => nameOf(target)))];
  return (chosen ?? first).target;
}

function nameOf(target: Target): string {
  return escapeText(formatTarget(target, "tcp").slice(0, MAX_SHOWN));
}

function open(session: Session, target: Target): void {
  const own = placeOf(target).base.origin;
  const { hostname, port } = new URL(own);
  const names = LOOPBACK.test(hostname) ? ["localhost", "127.0.0.1", "[::1]"] : [hostname];
  const aliases = names.map((name) => `http://${name}${port === "" ? "" : `:${port}`}`);
  const { userAgent, languages } = navigator;
  const places: Places = { target: own, aliases, inner, browser: { userAgent, languages } };
  const documents = createDocuments();
  const jar = createJar(documents.tell);
  let led: string | undefined;
  const opened: Ground = {
    session,
    target,
    places,
    jar,
    leads: (url) => (led = url),
    led: () => led,
  };
  const sockets = createSockets(opened);
  ground = opened;
  serve = (message, answer) => {
    switch (message.type) {
      case "request":
        void serveRequest(opened, message, answer);
        break;
      case "socket":
        sockets.serve(message, answer);
        break;
      case "cookies":
        documents.serve(answer, jar.visible(), jar.assign);
    }
  };
  for (const each of ports) greet(each);
  view.state("shown", "Connected");
  view.site(`${inner}/`, nameOf(target));
}

function end(cause: unknown): void {
  const { code, message } = asDcpipeError(cause, "IO");
  over = escapeText(message.slice(0, MAX_SHOWN));
  for (const port of ports) greet(port);
  const left = code === "CLOSED" || code === "INTERRUPTED";
  const why = left
    ? "The other side has ended it."
    : `${over.charAt(0).toUpperCase()}${over.slice(1)} (${code}).`;
  view.state("lost", "Not connected", `${why} Codes work once: ask for a new link.`);
}

const code = takeCode();
if (code.trim() === "")
  view.state(
    "none",
    "Nothing to show",
    "This page needs a link with a code in it. Codes work once: ask for a new link.",
  );
else run(code).catch(end);
