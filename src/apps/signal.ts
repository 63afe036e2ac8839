/** Something that changes and is waited for: whoever waits looks again at every `wake`. */
import { DcpipeError } from "../errors.ts";

export class Signal {
  #closed = false;
  #promise: Promise<void> | undefined;
  #resolve: (() => void) | undefined;

  get closed(): boolean {
    return this.#closed;
  }

  /** Resolves at the next `wake`. Rejects with ABORTED once it is closed. */
  async next(): Promise<void> {
    if (!this.#closed) await (this.#promise ??= new Promise((resolve) => (this.#resolve = resolve)));
    if (this.#closed) throw new DcpipeError("ABORTED", "nobody wants it any more");
  }

  wake(): void {
    this.#resolve?.();
    this.#promise = undefined;
  }

  /** Lets everybody go who waits. */
  close(): void {
    this.#closed = true;
    this.wake();
  }
}
