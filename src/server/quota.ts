/** How many of something each address has, and all have together. */
export class Quota {
  readonly #each: number;
  readonly #all: number;
  readonly #taken = new Map<string, number>();
  #sum = 0;

  constructor(each: number, all: number) {
    this.#each = each;
    this.#all = all;
  }

  /** One more; or whose limit it would go beyond. */
  take(address: string): "address" | "all" | undefined {
    const taken = this.#taken.get(address) ?? 0;
    if (taken >= this.#each) return "address";
    if (this.#sum >= this.#all) return "all";
    this.#taken.set(address, taken + 1);
    this.#sum++;
    return undefined;
  }

  give(address: string): void {
    const taken = this.#taken.get(address) ?? 0;
    if (taken > 1) this.#taken.set(address, taken - 1);
    else this.#taken.delete(address);
    this.#sum--;
  }
}
