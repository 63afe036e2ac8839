/** The relay as a way to the other side: tried again while that can help, and given up when the rendezvous says no. */
import { asDcpipeError, type DcpipeError } from "../errors.ts";
import { randomKey } from "../signalling/mailbox.ts";
import type { PeerPath } from "../transport/peer.ts";
import { FIRST_RELAY_EPOCH, openRelay, type RelayContext, type Relayed, type RelayPlace } from "./relay.ts";

/** Pauses between two attempts, doubled each time. */
const FIRST_PAUSE_MS = 500;
const MAX_PAUSE_MS = 15_000;

export class RelayWay {
  /** Why the rendezvous does not relay for us, as it said last. */
  refusal: DcpipeError | undefined;
  readonly #place: RelayPlace;
  readonly #context: RelayContext;
  readonly #log: (text: string) => void;
  /** Always the same: what is left of an end of ours that nobody has missed yet makes room for the next one. */
  readonly #key = randomKey();
  /** It has relayed for us: what it refuses is a matter of the moment. */
  #served = false;
  /** The epoch that the next meeting has at least. */
  #epoch = FIRST_RELAY_EPOCH;
  #abort = new AbortController();

  constructor(place: RelayPlace, context: RelayContext, log: (text: string) => void) {
    this.#place = place;
    this.#context = context;
    this.#log = log;
  }

  /** Both ends of the way are at the rendezvous, as far as anybody sees. */
  get path(): PeerPath {
    const { hostname, port, protocol } = new URL(this.#place.url);
    const defaultPort = /^(https|wss):/.test(protocol) ? 443 : 80;
    const end = {
      address: hostname.replace(/^\[|\]$/g, ""),
      port: port === "" ? defaultPort : Number(port),
      type: "relay",
    };
    return { local: end, remote: end };
  }

  /** Resolves when the other side is there, too; with undefined when stopped or refused. A second call ends the first. */
  async meet(): Promise<Relayed | undefined> {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.refusal = undefined;
    const { signal } = this.#abort;
    let pause = FIRST_PAUSE_MS;
    while (!isAborted(signal)) {
      try {
        const target = { epoch: this.#epoch, index: 0, key: this.#key };
        const relayed = await openRelay(this.#place, this.#context, target, signal);
        this.#epoch = relayed.epoch + 1;
        this.#served = true;
        return relayed;
      } catch (cause) {
        if (isAborted(signal)) return undefined;
        const error = asDcpipeError(cause, "SIGNALLING");
        this.#log(`relay: ${error.message}`);
        if (FINAL.has(error.code) || (error.code === "LIMIT" && !this.#served)) {
          this.refusal = error;
          return undefined;
        }
      }
      await rest(pause, signal);
      pause = Math.min(2 * pause, MAX_PAUSE_MS);
    }
    return undefined;
  }

  /** Ends what `meet` is doing; a channel that stands goes on. */
  stop(): void {
    this.#abort.abort();
  }
}

/**
 * What another attempt would only repeat. That no rendezvous answers is not of these: there was one when the two met, and proxies say all
 * sorts of things, as do networks that want a login first.
 */
const FINAL: ReadonlySet<string> = new Set(["USAGE", "VERSION"]);

/** Asked anew after each wait. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

function rest(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", over);
      resolve();
    };
    const timer = setTimeout(over, milliseconds);
    signal.addEventListener("abort", over);
  });
}
