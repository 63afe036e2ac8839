/** Work that goes on beside the caller, so many pieces at a time. */
export class Slots {
  readonly #onfailed: (error: unknown) => void;
  #free: number;
  #failed = false;
  readonly #running = new Set<Promise<void>>();
  #waiting: (() => void)[] = [];

  /** `onfailed` hears of the first piece of work that rejects; nothing begins after that. */
  constructor(count: number, onfailed: (error: unknown) => void) {
    this.#free = count;
    this.#onfailed = onfailed;
  }

  /** Starts the work when there is a slot, and resolves then. Work that begins more work must not wait for it. */
  async run(work: () => Promise<void>): Promise<void> {
    while (this.#free === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.#failed) return;
    this.#free--;
    const done: Promise<void> = work()
      .catch((error: unknown) => {
        if (!this.#failed) this.#onfailed(error);
        this.#failed = true;
      })
      .finally(() => {
        this.#free++;
        this.#running.delete(done);
        this.#waiting.shift()?.();
      });
    this.#running.add(done);
  }

  /** Resolves when nothing runs. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}
