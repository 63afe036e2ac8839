/** Messages that come before anybody listens: kept in order, as many as there is room for, the rest is lost. */

/** What a message that waits costs at least: an empty one is not free. */
const MIN_COST = 512;

export class Inbox {
  #room: number;
  #early: Uint8Array[] = [];
  #listener: ((message: Uint8Array) => void) | undefined;

  /** `room`: bytes that may wait, in all the time there is nobody to listen. */
  constructor(room = Infinity) {
    this.#room = room;
  }

  get listener(): ((message: Uint8Array) => void) | undefined {
    return this.#listener;
  }

  set listener(listener: ((message: Uint8Array) => void) | undefined) {
    this.#listener = listener;
    const early = this.#early;
    this.#early = [];
    for (const message of early) listener?.(message);
  }

  take(message: Uint8Array): void {
    if (this.#listener) this.#listener(message);
    else if (message.length <= this.#room) {
      this.#room -= Math.max(message.length, MIN_COST);
      this.#early.push(message);
    }
  }

  /** Nobody will want what waits. */
  clear(): void {
    this.#early = [];
    this.#room = 0;
  }
}
