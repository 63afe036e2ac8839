/** Options of `dcpipe forward`, and what they mean to the library. */
import type { Argv } from "yargs";
import { DcpipeError } from "../errors.ts";
import {
  looksLikeTarget,
  parseDynamic,
  parseForward,
  parseRule,
  parseTarget,
  type Forward,
  type Place,
  type Rule,
  type TargetOffer,
} from "../index.ts";
import type { CommonOptions } from "./options.ts";

export interface ForwardArguments extends CommonOptions {
  readonly words?: readonly string[] | undefined;
  readonly L?: readonly string[] | undefined;
  readonly R?: readonly string[] | undefined;
  readonly D?: readonly string[] | undefined;
  readonly allow?: readonly string[] | undefined;
  readonly ask: boolean;
  readonly multi: boolean;
  readonly gateway: boolean;
  readonly web: boolean;
}

export function forwardOptions<T>(yargs: Argv<T>): Argv<T & ForwardArguments> {
  const several = (describe: string) => ({ type: "string", array: true, nargs: 1, describe }) as const;
  return yargs
    .option("L", several("[bind:]port:host:hostport: listen here, lead there"))
    .option("R", several("[bind:]port:host:hostport: listen there, lead here"))
    .option("D", several("[bind:]port: SOCKS and HTTP proxy into there"))
    .option("allow", several("host:port the other side may reach; globs, CIDR"))
    .option("ask", { type: "boolean", default: false, describe: "ask before each new access" })
    .option("web", {
      type: "boolean",
      default: false,
      describe: "also a link that opens TARGET's site in a browser",
    })
    .option("multi", { type: "boolean", default: false, describe: "serve several joiners" })
    .option("gateway", {
      hidden: !process.argv.includes("--help-all"),
      type: "boolean",
      default: false,
      describe: "-R of the other side may bind more than loopback",
    }) as unknown as Argv<T & ForwardArguments>;
}

/** What a forward is to do. */
export interface ForwardPlan {
  /** PEER among the words. */
  readonly peer: string | undefined;
  readonly offers: readonly TargetOffer[];
  readonly locals: readonly Forward[];
  readonly remotes: readonly Forward[];
  readonly dynamics: readonly Place[];
  readonly allow: readonly Rule[];
}

/** Throws USAGE. */
export function planOf(options: ForwardArguments): ForwardPlan {
  const words = options.words ?? [];
  // The last word may be a PEER; any other that is no TARGET gets the error of one.
  const last = words.at(-1);
  const peer = last !== undefined && !meansTarget(last) ? last : undefined;
  const targets = peer === undefined ? words : words.slice(0, -1);
  const plan = {
    peer,
    offers: targets.flatMap(parseTarget),
    locals: (options.L ?? []).flatMap((text) => parseForward("-L", text)),
    remotes: (options.R ?? []).flatMap((text) => parseForward("-R", text)),
    dynamics: (options.D ?? []).map(parseDynamic),
    allow: (options.allow ?? []).map(parseRule),
  };
  if (options.multi) {
    if (plan.locals.length + plan.remotes.length + plan.dynamics.length > 0)
      throw new DcpipeError("USAGE", "--multi serves several others: -L, -R and -D are for one");
    if (joins(options, plan))
      throw new DcpipeError("USAGE", "--multi is for the waiting side, which takes no PEER");
  }
  if (options.web) {
    if (!plan.offers.some(({ protocol }) => protocol === "tcp"))
      throw new DcpipeError("USAGE", "--web needs a TARGET of TCP, such as 3000: what the link shows");
    if (joins(options, plan))
      throw new DcpipeError("USAGE", "--web is for the waiting side, which takes no PEER");
    if (options.offerFile !== undefined || options.answerFile !== undefined || options.stdioSignal)
      throw new DcpipeError("USAGE", "--web needs a rendezvous: a browser has no other way to meet");
  }
  return plan;
}

/** A mistyped TARGET is one, too: what it gets wrong is not to be told in words about codes. No PEER looks like these. */
function meansTarget(text: string): boolean {
  const ports = /^\d[\d-]*(\/\w*)*$/;
  const socket = /^(unix:|\/)/;
  const hostAndPort = /^(?!.*(\/\/|#|dc1))\S*:\S*$/;
  return looksLikeTarget(text) || [ports, socket, hostAndPort].some((form) => form.test(text));
}

function joins({ to, codeFile, via, stdioSignal }: ForwardArguments, { peer }: ForwardPlan): boolean {
  const given = [peer, to, codeFile, via].some((source) => source !== undefined);
  return given || (!stdioSignal && process.env["DCPIPE_CODE"] !== undefined);
}
