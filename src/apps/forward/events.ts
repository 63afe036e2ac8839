/** What happens in a forward, for people and scripts; and the connections that live. */
import type { DcpipeError } from "../../errors.ts";
import type { Place, Protocol } from "../../wire/forward.ts";
import type { Carried } from "./carry.ts";

export type ForwardEvent =
  /** A port of ours (`of` "us"), or one of the other side's that we asked for, leads somewhere now. */
  | {
      readonly event: "listening";
      readonly of: "us" | "them";
      readonly protocol: Protocol | "socks";
      readonly place: Place;
      /** Undefined for "socks": each connection names its own. */
      readonly target: string | undefined;
      /** Why it is another port than the one that was wished for. */
      readonly instead?: string | undefined;
    }
  /** The other side does not listen there for us. */
  | { readonly event: "unheard"; readonly place: string; readonly error: DcpipeError }
  | ({ readonly event: "opened" } & Opened)
  | ({
      readonly event: "closed";
      readonly seconds: number;
      readonly error: DcpipeError | undefined;
    } & Opened)
  /** A rule said no; `by` "us" when the other side asked. */
  | { readonly event: "refused"; readonly by: "us" | "them"; readonly target: string; readonly text: string };

/** One connection, or one flow of datagrams. */
export interface Opened {
  readonly id: number;
  readonly protocol: Protocol;
  readonly target: string;
  /** Who opened it: an address of this side, or undefined for somebody at the other side. */
  readonly from: string | undefined;
  readonly carried: Readonly<Carried>;
}

/** A rule's refusals are told up to so many times a second: a peer that asks a thousand times is one piece of news. */
const REFUSALS_A_SECOND = 10;

/** Keeps account of what is open, and tells it. */
export class Ledger {
  readonly #tell: (event: ForwardEvent) => void;
  readonly #open = new Map<number, Opened & { readonly since: number }>();
  #next = 1;
  #refusals = { second: 0, count: 0 };
  #onempty: (() => void) | undefined;

  constructor(tell: (event: ForwardEvent) => void) {
    this.#tell = tell;
  }

  get open(): readonly (Opened & { readonly since: number })[] {
    return [...this.#open.values()];
  }

  /** Resolves when nothing is open any more, or after so many milliseconds. */
  async settled(milliseconds: number): Promise<void> {
    if (this.#open.size === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#onempty = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  tell(event: ForwardEvent): void {
    this.#tell(event);
  }

  /** Returns what to call when it is over, once. */
  opened(
    protocol: Protocol,
    target: string,
    from: string | undefined,
    carried: Readonly<Carried>,
  ): (error?: DcpipeError) => void {
    const id = this.#next++;
    const opened = { id, protocol, target, from, carried };
    this.#open.set(id, { ...opened, since: performance.now() });
    this.#tell({ event: "opened", ...opened });
    return (error) => {
      const entry = this.#open.get(id);
      if (!entry) return;
      this.#open.delete(id);
      this.#tell({ event: "closed", ...opened, seconds: (performance.now() - entry.since) / 1000, error });
      if (this.#open.size === 0) this.#onempty?.();
    };
  }

  refused(by: "us" | "them", target: string, text: string): void {
    const second = Math.floor(performance.now() / 1000);
    if (this.#refusals.second !== second) this.#refusals = { second, count: 0 };
    if (++this.#refusals.count <= REFUSALS_A_SECOND) this.#tell({ event: "refused", by, target, text });
  }
}
