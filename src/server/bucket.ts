/** A token bucket: so many bytes a second, and a second's worth at once after a pause. */
export class TokenBucket {
  readonly #rate: number;
  readonly #now: () => number;
  #tokens: number;
  #filled: number;

  /** `rate` in bytes a second; `now` in milliseconds. Full at first. */
  constructor(rate: number, now: () => number = () => performance.now()) {
    this.#rate = rate;
    this.#now = now;
    this.#tokens = rate;
    this.#filled = now();
  }

  /** Goes into debt rather than refuse: what has been read is passed on, and what follows waits for longer. */
  take(bytes: number): void {
    this.#fill();
    this.#tokens -= bytes;
  }

  /** Milliseconds until the debt is paid off; 0 when there is none. */
  get wait(): number {
    this.#fill();
    return this.#tokens >= 0 ? 0 : Math.ceil((-this.#tokens / this.#rate) * 1000);
  }

  #fill(): void {
    const now = this.#now();
    this.#tokens = Math.min(this.#rate, this.#tokens + ((now - this.#filled) / 1000) * this.#rate);
    this.#filled = now;
  }
}
