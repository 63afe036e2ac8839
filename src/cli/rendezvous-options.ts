/** Options of `dcpipe rendezvous`, and what they mean to the server. */
import type { Argv } from "yargs";
import { DcpipeError } from "../errors.ts";
import { parseRate, parseSize } from "./options.ts";

export interface RendezvousArguments {
  readonly listen: string;
  readonly store: string;
  readonly publicUrl?: string | undefined;
  readonly siteUrl?: string | undefined;
  readonly turn?: readonly string[] | undefined;
  readonly turnSecret?: string | undefined;
  readonly relay: boolean;
  readonly relayRate?: string | undefined;
  readonly relayVolume?: string | undefined;
  readonly trustProxy: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly color: boolean;
}

/** A client takes no longer texts, and no more servers (section 7.2 of docs/protocol.md). */
const MAX_URL_BYTES = 512;
const MAX_TURN_URLS = 8;

export function rendezvousOptions<T>(yargs: Argv<T>): Argv<T & RendezvousArguments> {
  return yargs
    .option("listen", {
      type: "string",
      default: "127.0.0.1:8787",
      describe: "where: [ADDR:]PORT; port 0 picks one",
      requiresArg: true,
    })
    .option("store", {
      type: "string",
      default: "memory",
      describe: "memory, or redis://host:port for several processes",
      requiresArg: true,
    })
    .option("public-url", { type: "string", describe: "URL for links that people get", requiresArg: true })
    .option("site-url", {
      type: "string",
      describe: "origins for forward --web, https://*.sites.HOST",
      requiresArg: true,
    })
    .option("turn", {
      type: "string",
      array: true,
      nargs: 1,
      describe: "TURN server to hand out, turn:host:port or turns:",
    })
    .option("turn-secret", {
      type: "string",
      describe: "its shared secret, or DCPIPE_TURN_SECRET",
      requiresArg: true,
    })
    .option("relay", { type: "boolean", default: true, describe: "--no-relay: never relay data" })
    .option("relay-rate", {
      type: "string",
      describe: "cap each relay, e.g. 2M bytes a second",
      requiresArg: true,
    })
    .option("relay-volume", {
      type: "string",
      describe: "end a relay after so many bytes, e.g. 10G",
      requiresArg: true,
    })
    .option("trust-proxy", {
      type: "boolean",
      default: false,
      describe: "a proxy says where clients come from",
    })
    .option("json", { type: "boolean", default: false, describe: "events as JSON lines on stderr" })
    .option("quiet", { alias: "q", type: "boolean", default: false, describe: "errors only" })
    .option("verbose", { alias: "v", type: "boolean", default: false, describe: "say more" })
    .option("color", { type: "boolean", default: true, hidden: true }) as unknown as Argv<
    T & RendezvousArguments
  >;
}

/** `8787`, `:8787`, `0.0.0.0:8787`, `[::1]:8787`, `localhost:0`. Throws USAGE. */
export function parseListen(text: string): { host: string; port: number } {
  const match = /^(?:(\[[\da-f:.%\w]+\]|[^:[\]\s]*):)?(\d{1,5})$/i.exec(text);
  const port = Number(match?.[2]);
  if (!match || port > 65535)
    throw new DcpipeError("USAGE", `--listen ${text}: write [ADDR:]PORT, such as 8787 or [::1]:8787`);
  const host = (match[1] ?? "").replace(/^\[|\]$/g, "");
  return { host: host === "" ? "127.0.0.1" : host, port };
}

/** Throws USAGE. */
export function parsePublicUrl(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.hash !== "" || url.search !== "" || url.username !== "")
    throw new DcpipeError(
      "USAGE",
      `--public-url ${text}: write an http or https URL, such as https://example.org/`,
    );
  if (Buffer.byteLength(url.href) > MAX_URL_BYTES) throw new DcpipeError("USAGE", "--public-url is too long");
  return url.href;
}

/** `https://*.sites.example.org`. Throws USAGE. */
export function parseSiteUrl(text: string | undefined, publicUrl: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const [, scheme, domain = "", port] = /^(https?):\/\/\*\.([a-z\d.-]+)(:\d{1,5})?\/?$/i.exec(text) ?? [];
  // Names of one label, or none, would be other people's.
  if (
    scheme === undefined ||
    !/^[a-z\d-]+(\.[a-z\d-]+)+$/i.test(domain) ||
    Number(port?.slice(1) ?? 0) > 65535
  )
    throw new DcpipeError(
      "USAGE",
      `--site-url ${text}: write https://*.HOST, such as https://*.sites.example.org`,
    );
  if (publicUrl === undefined)
    throw new DcpipeError("USAGE", "--site-url needs --public-url: pages of sites meet the other side there");
  if (new URL(publicUrl).protocol !== `${scheme.toLowerCase()}:`)
    throw new DcpipeError("USAGE", "--site-url and --public-url: both https, or both http");
  const host = new URL(publicUrl).hostname;
  if (`.${host}`.endsWith(`.${domain.toLowerCase()}`))
    throw new DcpipeError(
      "USAGE",
      `--site-url ${text}: ${host} is the rendezvous itself; give sites a domain of their own, such as sites.${host}`,
    );
  return new URL(text.replace("*", "site")).origin.replace("//site.", "//*.");
}

/** Throws USAGE. */
export function parseTurn(
  { turn = [], turnSecret }: RendezvousArguments,
  environment: NodeJS.ProcessEnv,
): { urls: readonly string[]; secret: string } | undefined {
  const secret = turnSecret ?? environment["DCPIPE_TURN_SECRET"];
  if (turn.length === 0) {
    if (turnSecret !== undefined) throw new DcpipeError("USAGE", "--turn-secret needs --turn");
    return undefined;
  }
  for (const url of turn) {
    // RFC 7065, section 3.1; who writes user and password here would give them to everybody.
    if (!/^turns?:(\[[\da-f:.]+\]|[^\s:@/?[\]]+)(:\d{1,5})?(\?transport=(udp|tcp))?$/i.test(url))
      throw new DcpipeError("USAGE", `--turn ${url.replace(/:[^:]*@/, ":...@")}: write turn:host:port`);
    if (/^turns:.*=udp$/i.test(url))
      throw new DcpipeError(
        "USAGE",
        `--turn ${url}: no client speaks TURN over DTLS, leave ?transport=udp out for TLS`,
      );
    if (url.length > MAX_URL_BYTES) throw new DcpipeError("USAGE", "--turn is too long");
  }
  if (turn.length > MAX_TURN_URLS)
    throw new DcpipeError("USAGE", `--turn: at most ${MAX_TURN_URLS} servers can be handed out`);
  if (secret === undefined || secret === "")
    throw new DcpipeError("USAGE", "--turn needs --turn-secret, or DCPIPE_TURN_SECRET");
  return { urls: turn, secret };
}

/** What each relay may use, or false for no relays. Throws USAGE. */
export function parseRelay({
  relay,
  relayRate,
  relayVolume,
}: RendezvousArguments): { rate: number | undefined; volume: number | undefined } | false {
  const [rate, volume] = [parseRate(relayRate, "--relay-rate"), parseSize(relayVolume, "--relay-volume")];
  if (relay) return { rate, volume };
  if (rate !== undefined || volume !== undefined)
    throw new DcpipeError("USAGE", "--no-relay leaves nothing for --relay-rate and --relay-volume to limit");
  return false;
}

/** The URL of a Redis, or undefined for memory. Throws USAGE; what may hold a password is not shown. */
export function parseStore(text: string): string | undefined {
  if (text === "memory") return undefined;
  if (/^rediss?:\/\//.test(text) && URL.canParse(text)) return text;
  throw new DcpipeError("USAGE", "--store takes memory, or redis://host:port");
}
