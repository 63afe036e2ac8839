/** dcpipe rendezvous: runs the server until a signal ends it. */
import { asDcpipeError } from "../errors.ts";
import { MemoryStore } from "../server/memory.ts";
import { Rendezvous } from "../server/rendezvous.ts";
import type { Store } from "../server/store.ts";
import {
  parseListen,
  parsePublicUrl,
  parseRelay,
  parseSiteUrl,
  parseStore,
  parseTurn,
  type RendezvousArguments,
} from "./rendezvous-options.ts";
import { VERDICTS } from "./status.ts";
import { Ui } from "./ui.ts";

/** Asked to end, as by systemd, it did what it should; Ctrl-C is an interruption. */
const SIGNALS = { SIGTERM: 0, SIGINT: 130 } as const;

export async function runRendezvous(options: RendezvousArguments): Promise<void> {
  const { host, port } = parseListen(options.listen);
  const publicUrl = parsePublicUrl(options.publicUrl);
  const siteUrl = parseSiteUrl(options.siteUrl, publicUrl);
  const turn = parseTurn(options, process.env);
  const relay = parseRelay(options);
  const color = options.color && process.env["NO_COLOR"] === undefined;
  const ui = new Ui({ json: options.json, quiet: options.quiet, verbose: options.verbose, color });
  const rendezvous = new Rendezvous({
    store: await openStore(parseStore(options.store)),
    publicUrl,
    siteUrl,
    turn,
    relay,
    trustProxy: options.trustProxy,
    onlog: (line) => {
      if (options.verbose) ui.note(line);
    },
  });
  let asked = false;
  for (const [name, status] of Object.entries(SIGNALS)) {
    process.on(name, () => {
      if (asked) process.exit(status);
      asked = true;
      void rendezvous.drain().then(() => process.exit(status));
    });
  }
  try {
    const bound = await rendezvous.listen(port, host);
    const url = (publicUrl ?? urlOf(bound)).replace(/\/$/, "");
    const lonely = publicUrl === undefined && /^(127\.|::1$)/.test(bound.address);
    ui.listening(
      { protocol: "http", ...bound },
      `Rendezvous at ${url}${lonely ? " (for this machine only: --listen 0.0.0.0:8787 opens it to others)" : ""}\n` +
        `Add --rendezvous ${url}, as in\n\n  dcpipe send FILE --rendezvous ${url}\n`,
    );
  } catch (cause) {
    const error = asDcpipeError(cause, "IO");
    ui.error(error);
    process.exitCode = VERDICTS[error.code].status;
  }
}

/** Redis' client is loaded when it is needed. */
async function openStore(redis: string | undefined): Promise<Store> {
  if (redis === undefined) return new MemoryStore();
  const { RedisStore } = await import("../server/redis-store.ts");
  return new RedisStore(redis);
}

/** What a client on this machine can use; an unspecified address is that of the machine itself. */
function urlOf({ address, port }: { address: string; port: number }): string {
  const host = address === "0.0.0.0" ? "127.0.0.1" : address === "::" ? "::1" : address;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}/`;
}
