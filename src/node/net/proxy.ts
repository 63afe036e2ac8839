/** HTTP proxies: which one the environment names, and the way through it by CONNECT (RFC 9110, section 9.3.6). */
import { request as requestHttp, type RequestOptions } from "node:http";
import { request as requestHttps } from "node:https";
import { isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { getProxyForUrl } from "proxy-from-env";
import { DcpipeError } from "../../errors.ts";
import { reasonOf } from "./reason.ts";

/** The proxy of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY for a URL, which is `where` to people. Throws USAGE. */
export function proxyFor(url: URL, where: string): URL | undefined {
  const setting = getProxyForUrl(url.href);
  if (setting === "") return undefined;
  const proxy = URL.canParse(setting) ? new URL(setting) : undefined;
  if (!proxy || !/^https?:$/.test(proxy.protocol))
    throw new DcpipeError("USAGE", `the proxy set for ${where} is no http or https URL`);
  return proxy;
}

/** The proxy as people may see it: without the password. */
export function proxyName({ protocol, host }: URL): string {
  return `the proxy ${protocol}//${host}`;
}

/**
 * A connection to a port, through the proxy. Rejects with UNREACHABLE when the proxy is out of reach, REFUSED when it says no, and
 * ABORTED.
 */
export function openTunnel(
  proxy: URL,
  target: { readonly host: string; readonly port: number },
  options: Pick<RequestOptions, "localAddress" | "family"> & { readonly signal: AbortSignal },
): Promise<Socket> {
  const name = proxyName(proxy);
  const host = `${target.host.includes(":") ? `[${target.host}]` : target.host}:${target.port}`;
  return new Promise((resolve, reject) => {
    const request = (proxy.protocol === "https:" ? requestHttps : requestHttp)({
      ...options,
      ...placeOf(proxy),
      method: "CONNECT",
      path: host,
      // The socket goes to the caller.
      agent: false,
      headers: { host, connection: "keep-alive", ...authorization(proxy) },
    });
    request.on("connect", ({ statusCode = 0 }, socket: Socket, head) => {
      if (statusCode !== 200) {
        socket.destroy();
        reject(new DcpipeError("REFUSED", `${name} refuses (HTTP ${statusCode})`));
        return;
      }
      if (head.length > 0) socket.unshift(head);
      resolve(socket);
    });
    // Not a connection, but a page for whoever asked.
    request.on("response", (response) => {
      response.destroy();
      reject(new DcpipeError("REFUSED", `${name} is no proxy`));
    });
    request.on("error", (cause: NodeJS.ErrnoException) => {
      if (options.signal.aborted) reject(new DcpipeError("ABORTED", "stopped", { cause }));
      // Node's HTTP parser.
      else if (cause.code?.startsWith("HPE_"))
        reject(new DcpipeError("REFUSED", `${name} is no proxy`, { cause }));
      else reject(new DcpipeError("UNREACHABLE", `cannot reach ${name}: ${reasonOf(cause)}`, { cause }));
    });
    request.end();
  });
}

/** Host and port of an http or https URL, as `openTunnel` takes them. */
export function placeOf({ protocol, hostname, port }: URL): { host: string; port: number } {
  return {
    host: hostname.replace(/^\[|\]$/g, ""),
    port: port === "" ? (protocol === "https:" ? 443 : 80) : Number(port),
  };
}

/** What HTTP is spoken on at the end of a tunnel: the tunnel itself, or TLS with the server. `options` are those of the request. */
export function speakThrough(tunnel: Socket, target: URL, options: object): Socket {
  if (target.protocol !== "https:") return tunnel;
  const { host } = placeOf(target);
  return connectTls({ ...options, socket: tunnel, host, servername: isIP(host) === 0 ? host : "" });
}

function authorization({ username, password }: URL): Readonly<Record<string, string>> {
  if (username === "" && password === "") return {};
  const credentials = `${plain(username)}:${plain(password)}`;
  return { "proxy-authorization": `Basic ${Buffer.from(credentials).toString("base64")}` };
}

/** A URL may hold a percent sign that encodes nothing. */
function plain(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
