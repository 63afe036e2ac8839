/** How a rendezvous answers to plain HTTP, and which proxies are on the way there. */
import { get as getHttp, type IncomingMessage } from "node:http";
import { get as getHttps } from "node:https";
import type { Socket } from "node:net";
import { getProxyForUrl } from "proxy-from-env";
import type { Health, ProxySetting } from "../doctor/findings.ts";
import { openTunnel, placeOf, proxyFor, speakThrough } from "./net/proxy.ts";

/** What proxies are set by; lower case counts first (proxy-from-env). */
const VARIABLES = ["https_proxy", "http_proxy", "all_proxy", "no_proxy"];

/**
 * `healthz` below the URL of a rendezvous, through the proxy that the environment names. Redirects are not followed. Rejects when
 * nothing answers; how long that may take is up to the signal.
 */
export async function fetchHealth(url: string, signal: AbortSignal): Promise<Health> {
  const target = new URL("healthz", url);
  const proxy = proxyFor(target, target.origin);
  const started = Date.now();
  const clock = performance.now();
  const tunnel = proxy && (await openTunnel(proxy, placeOf(target), { signal }));
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const get = target.protocol === "https:" ? getHttps : getHttp;
    const through = tunnel && {
      createConnection: (options: object): Socket => speakThrough(tunnel, target, options),
    };
    get(target, { signal, ...through, headers: { connection: "close" } }, resolve).on("error", reject);
  });
  const roundTripMs = performance.now() - clock;
  // Nobody reads the body, and it may be long.
  response.destroy();
  const theirs = Date.parse(response.headers.date ?? "");
  // The header is cut to whole seconds, and was written halfway.
  const clockSeconds = Number.isNaN(theirs) ? undefined : (theirs + 500 - started - roundTripMs / 2) / 1000;
  return { status: response.statusCode ?? 0, clockSeconds, roundTripMs };
}

/** The proxy that leads to a URL, without credentials; undefined for none. */
export function proxyOf(url: string): string | undefined {
  const setting = getProxyForUrl(url);
  return setting === "" ? undefined : withoutCredentials(setting);
}

export function proxySettings(env: NodeJS.ProcessEnv = process.env): ProxySetting[] {
  return VARIABLES.flatMap((variable) => {
    const name = [variable, variable.toUpperCase()].find((each) => env[each]);
    return name === undefined ? [] : [{ name, value: withoutCredentials(env[name] ?? "") }];
  });
}

function withoutCredentials(url: string): string {
  // A password may hold anything, so everything up to the last @ goes.
  return url.replace(/^([a-z][a-z\d+.-]*:\/\/)?.*@/is, "$1");
}
