/**
 * What a sender lists, and the question whether all that is welcome. Until it is answered nothing is decided: entries wait
 * here, and when there are more than the window holds, the sender is asked to count the rest. What goes beyond what was
 * agreed to is refused.
 */
import { DcpipeError } from "../errors.ts";
import { protocolError } from "../wire/bytes.ts";
import { ENTRY_WINDOW, type Entry } from "../wire/file.ts";
import type { Listed, ReceiveOptions } from "./receive.ts";

type Decision = () => Promise<void> | void;

interface Totals {
  readonly entries: number;
  readonly bytes: number;
}

export class Approval {
  /** What was listed. */
  entries = 0;
  files = 0;
  bytes = 0;
  /** Something has no known size. */
  unknown = false;
  /** There is no more. */
  complete = false;
  readonly #options: ReceiveOptions;
  readonly #askCount: () => void;
  #held: { readonly decide: Decision; readonly listed: Listed | undefined }[] | undefined;
  #counting = false;
  #told: (Totals & { readonly last: boolean }) | undefined;
  #agreed: (Totals & { readonly unknown: boolean }) | undefined;

  /** `askCount` asks the sender for the totals. */
  constructor(options: ReceiveOptions, askCount: () => void) {
    this.#options = options;
    this.#askCount = askCount;
    this.#held = options.approve ? [] : undefined;
  }

  /** The question is open. */
  get pending(): boolean {
    return this.#held !== undefined;
  }

  /** All files and bytes, as far as that is known: for progress. */
  get total(): { readonly files: number | undefined; readonly bytes: number | undefined } {
    const bytes = this.complete ? this.bytes : this.#told?.bytes;
    return { files: this.complete ? this.files : undefined, bytes: this.unknown ? undefined : bytes };
  }

  /** One more entry is listed. Throws PROTOCOL when there are to be no more. */
  list(entry: Entry): void {
    if (this.complete) throw protocolError("an entry after LISTED");
    this.entries++;
    if (entry.kind !== "file" && entry.kind !== "text") return;
    this.files++;
    this.bytes += entry.size ?? 0;
    if (entry.size === undefined) this.unknown = true;
  }

  /** Whether an entry that was listed last goes beyond what was agreed to. */
  exceeded(entry: Entry): boolean {
    if (!this.#agreed) return false;
    const { entries, bytes, unknown } = this.#agreed;
    if (entry.kind === "file" && entry.size === undefined && !unknown) return true;
    return this.entries > entries || this.bytes > bytes;
  }

  /** Decides now, or when the question is answered. `listed` is what the question tells about, `unsettled` how many wait. */
  async decide(decide: Decision, unsettled: number, listed?: Listed): Promise<void> {
    if (!this.#held) return decide();
    this.#held.push({ decide, listed });
    // No more will come until something is settled: the sender has to count.
    if (unsettled < ENTRY_WINDOW || this.#counting) return;
    this.#counting = true;
    this.#askCount();
  }

  /** Takes what the sender has counted. Throws PROTOCOL after the end of the count. */
  async count(totals: Totals & { readonly last: boolean }, check: () => void): Promise<void> {
    if (this.#told?.last || this.complete) throw protocolError("TOTALS after the last ones");
    this.#told = totals;
    if (!this.#held || !this.#counting) return;
    this.#options.oncounting?.(totals.entries, totals.bytes);
    if (totals.last) await this.ask(check);
  }

  /** Asks, and decides about all that waits. Rejects with REFUSED; `check` throws when the transfer is over meanwhile. */
  async ask(check: () => void): Promise<void> {
    const held = this.#held;
    if (!held) return;
    const entries = held.flatMap(({ listed }) => listed ?? []);
    // A count may be a lie: no less is asked for than what is listed.
    const total = {
      entries: Math.max(this.entries, this.#told?.entries ?? 0),
      bytes: Math.max(this.bytes, this.#told?.bytes ?? 0),
    };
    const { approve, ontext } = this.#options;
    const textOnly = ontext && entries.every(({ kind }) => kind === "text");
    if (approve && entries.length > 0 && !textOnly) {
      const shown = this.complete ? { entries: this.entries, bytes: this.bytes } : total;
      const offer = { entries, complete: this.complete, total: shown, unknown: this.unknown };
      if (!(await approve(offer))) throw new DcpipeError("REFUSED", "what was offered is not wanted");
    }
    this.#agreed = { ...total, unknown: this.unknown };
    this.#held = undefined;
    for (const { decide } of held) {
      check();
      await decide();
    }
  }
}
