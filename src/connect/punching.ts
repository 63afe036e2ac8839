/**
 * From the relay to a hole through both NATs, where one of them gives a socket another outer port for each place that it calls
 * (docs/protocol.md, section 3.6). Ordinary tries find no way then; many sockets of that side and many calls of the other do.
 *
 *   on the relay --the tries had their time--> NAT sent --theirs is here--> both punch --> a hole, tried by direct.ts
 *                                                ^                              | nothing
 *                                                +------- once more, later -----+
 */
import { PUNCH_SOCKETS, type Punch, type PunchFromMany, type PunchFromOne } from "../transport/nat.ts";
import { parseAddress } from "../wire/candidate.ts";
import type { NatMessage } from "../wire/lane.ts";
import type { Direct } from "./direct.ts";
import type { LinkContext } from "./link.ts";

/** Ordinary tries find a path within this, if they find one. */
const PATIENCE_MS = 2500;
/** Between the end of an attempt and the next: the hole has been tried, and ordinary tries have had another chance. */
const AGAIN_MS = 10_000;
/** Attempts of a session, so that no peer can have us call around for long. The second one mends bad luck; what else is in the way stays there. */
const MAX_ATTEMPTS = 2;

export interface PunchingOptions {
  readonly context: Pick<LinkContext, "role" | "keys" | "bind">;
  readonly ports: readonly [number, number] | undefined;
  readonly punch: Punch;
  readonly direct: Pick<Direct, "mapping" | "outer" | "port" | "nextEpoch" | "detour">;
  /** Over the session, while it is relayed. */
  readonly tell: (message: NatMessage) => void;
  readonly log: (text: string) => void;
}

export class Punching {
  readonly #options: PunchingOptions;
  #attempts = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stop: AbortController | undefined;
  /** What was said on both sides since the last attempt. */
  #mine: NatMessage | undefined;
  #theirs: NatMessage | undefined;

  constructor(options: PunchingOptions) {
    this.#options = options;
  }

  /** The session goes by the relay from now on. */
  begin(): void {
    this.#stop?.abort();
    this.#stop = new AbortController();
    // What the other side has said may have come a moment earlier.
    this.#mine = undefined;
    this.#arm(PATIENCE_MS);
  }

  /** It does not, or is over. Ends an attempt. Idempotent. */
  end(): void {
    clearTimeout(this.#timer);
    this.#stop?.abort();
    this.#stop = this.#mine = this.#theirs = undefined;
  }

  /** The other side is ready. */
  receive(message: NatMessage): void {
    this.#theirs = message;
    this.#start();
  }

  #arm(milliseconds: number): void {
    clearTimeout(this.#timer);
    if (this.#attempts >= MAX_ATTEMPTS) return;
    this.#timer = setTimeout(() => {
      this.#mine = this.#self();
      if (this.#mine) {
        this.#options.tell(this.#mine);
        this.#start();
      } else {
        this.#arm(AGAIN_MS);
      }
    }, milliseconds);
  }

  /** Undefined while this side cannot take its part. */
  #self(): NatMessage | undefined {
    const { direct, ports } = this.#options;
    const { mapping, outer, port, nextEpoch } = direct;
    if (!outer || !isPublic(outer.address)) return undefined;
    const able =
      mapping === "dependent" ? !ports || ports[1] - ports[0] >= PUNCH_SOCKETS - 1 : port !== undefined;
    if (!able) return undefined;
    return {
      type: "NAT",
      epoch: nextEpoch,
      mapping,
      candidate: { type: "srflx", address: outer.address, port: outer.port },
    };
  }

  #start(): void {
    const [mine, theirs, stop] = [this.#mine, this.#theirs, this.#stop];
    const { direct, punch, log } = this.#options;
    if (!mine || !theirs || !stop) return;
    this.#mine = this.#theirs = undefined;
    const obstacle = obstacleBetween(mine, theirs);
    if (obstacle !== undefined) {
      log(`no hole punching: ${obstacle}`);
      return;
    }
    this.#attempts++;
    const { signal } = stop;
    const epoch = Math.max(mine.epoch, theirs.epoch);
    direct.detour(epoch, async (port) => {
      const attempt = this.#attempt(mine, theirs, epoch, port, signal);
      if (!attempt || signal.aborted) return undefined;
      log(`punching from ${attempt.from === "many" ? "many sockets" : `port ${attempt.local}`}`);
      const hole = await punch(attempt);
      log(hole ? `a hole: port ${hole.local} and ${hole.address}:${hole.port}` : "punching found no hole");
      if (this.#stop === stop) this.#arm(AGAIN_MS);
      return hole;
    });
  }

  #attempt(
    mine: NatMessage,
    { candidate }: NatMessage,
    epoch: number,
    port: number | undefined,
    signal: AbortSignal,
  ): PunchFromMany | PunchFromOne | undefined {
    const { context, ports } = this.#options;
    const { role, keys, bind } = context;
    const tags = {
      ours: keys.punchTags(role, epoch),
      theirs: keys.punchTags(role === "waiting" ? "joining" : "waiting", epoch),
    };
    const { address } = candidate;
    if (mine.mapping === "dependent")
      return { from: "many", ports, address, port: candidate.port, bind, signal, ...tags };
    return port === undefined ? undefined : { from: "one", local: port, address, bind, signal, ...tags };
  }
}

/** Why there is nothing to punch, or nobody to be called, between these two. */
function obstacleBetween(mine: NatMessage, theirs: NatMessage): string | undefined {
  const dependent = [mine, theirs].filter(({ mapping }) => mapping === "dependent").length;
  if (dependent === 0) return "neither NAT is known to need it";
  if (dependent === 2) return "both NATs give out another port for each destination";
  const { address } = theirs.candidate;
  if (!isPublic(address)) return "the other side's address is not a public one";
  if (address === mine.candidate.address) return "both sides are behind the same NAT";
  return undefined;
}

/**
 * Whether a peer may have us call this address: IPv4, and not one of this machine, of a private network, or of many (RFC 6890). Addresses
 * for documentation lead nowhere, so they are not looked for.
 */
export function isPublic(address: string): boolean {
  const [a = 0, b = 0, ...rest] = parseAddress(address) ?? [];
  if (rest.length !== 2) return false;
  if (a === 0 || a === 10 || a === 127 || a >= 224) return false;
  if (a === 100) return b < 64 || b > 127;
  if (a === 169) return b !== 254;
  if (a === 172) return b < 16 || b > 31;
  return a !== 192 || b !== 168;
}
