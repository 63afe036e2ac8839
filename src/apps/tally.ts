/** What a transfer has come to, counted as it goes; the same on both sides. */
import type { Problem, Problems, TransferResult } from "./endpoints.ts";

/** So many problems are kept by name: a peer decides how many there are. */
const MAX_LIST = 100;

export class Tally {
  files = 0;
  directories = 0;
  bytes = 0;
  moved = 0;
  unchanged = 0;
  passed = 0;
  #refused = 0;
  #failed = 0;
  readonly #list: Problem[] = [];

  /** One that was not taken. */
  refuse(problem: Problem): void {
    this.#refused++;
    this.#keep(problem);
  }

  /** One that could not be read, sent or stored. */
  fail(problem: Problem): void {
    this.#failed++;
    this.#keep(problem);
  }

  get result(): TransferResult {
    const { files, directories, bytes, moved, unchanged, passed } = this;
    const problems: Problems = { refused: this.#refused, failed: this.#failed, list: this.#list };
    return { files, directories, bytes, moved, unchanged, passed, problems };
  }

  #keep(problem: Problem): void {
    if (this.#list.length < MAX_LIST) this.#list.push(problem);
  }
}
