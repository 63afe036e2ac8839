/** How long a transfer took: from when it could begin, without the time that people took to meet and to answer. */
export class Clock {
  #start = performance.now();
  #begun = false;

  /** It begins now, unless it has begun. */
  begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    this.#start = performance.now();
  }

  /** Stands still while somebody is asked. */
  async without<T>(question: Promise<T>): Promise<T> {
    const asked = performance.now();
    try {
      return await question;
    } finally {
      this.#start += performance.now() - asked;
    }
  }

  get seconds(): number {
    return (performance.now() - this.#start) / 1000;
  }
}
