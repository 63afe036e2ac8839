/** When a waiting side uses the addresses that the other one tells it. */
import type { Candidate } from "../transport/peer.ts";

/** The other side's first check, from the moment it has our addresses: making a connection takes it some of this. */
const LEAD_MS = 80;
/** Nobody is given more. */
const MAX_WAIT_MS = 600;

/**
 * The side that is reached first is connected last, and as the DTLS client the waiting one has to be the last: a flight to a server that
 * is not up is lost, and repeated a second later. So the other side calls first where it can; where two NATs have to be opened from
 * within, both call at the same moment, when the other one has our addresses.
 */
export class Lead {
  /** How long our addresses take to the other side. */
  wayMs = 0;
  readonly #give: (candidates: readonly Candidate[]) => void;
  readonly #addresses: Candidate[] = [];
  /** When the other side was told the first of our addresses. */
  #told: number | undefined;
  /** Addresses of the other side that came before that. */
  readonly #early: (readonly Candidate[])[] = [];

  /** `give` takes addresses of the other side when it is their time. */
  constructor(give: (candidates: readonly Candidate[]) => void) {
    this.#give = give;
  }

  /** These addresses of ours are on their way to the other side, or there are none. */
  tell(candidates: readonly Candidate[]): void {
    this.#addresses.push(...candidates);
    this.#told ??= performance.now();
    for (const early of this.#early.splice(0)) this.take(early);
  }

  /** The other side's addresses are here. */
  take(candidates: readonly Candidate[]): void {
    if (this.#told === undefined) {
      this.#early.push(candidates);
      return;
    }
    const outside = (list: readonly Candidate[]): boolean => list.some(({ type }) => type !== "host");
    const lead = outside(candidates) && outside(this.#addresses) ? 0 : LEAD_MS;
    const wait = Math.min(this.#told + this.wayMs + lead - performance.now(), MAX_WAIT_MS);
    if (wait <= 0) this.#give(candidates);
    else setTimeout(this.#give, wait, candidates);
  }
}
