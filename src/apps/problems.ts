/** What went wrong with single entries while the rest went on. */
import type { Problem, Problems } from "./endpoints.ts";

/** So many are kept by name: a peer decides how many there are. */
const MAX_LIST = 100;

export class ProblemList implements Problems {
  refused = 0;
  failed = 0;
  readonly list: Problem[] = [];

  refuse(problem: Problem): void {
    this.refused++;
    this.#keep(problem);
  }

  fail(problem: Problem): void {
    this.failed++;
    this.#keep(problem);
  }

  #keep(problem: Problem): void {
    if (this.list.length < MAX_LIST) this.list.push(problem);
  }
}
