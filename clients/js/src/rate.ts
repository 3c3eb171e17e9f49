/** The rate decreases by this factor with each refusal, and recovers with each answer. */
const SLOWER = 1.5;
const FASTER = 0.98;
const LARGEST_GAP = 5000;
/** A delay is extended by a random part of this share, so that many clients do not return at once. */
const JITTER = 0.25;

/** The rate at which a server accepts requests, learned from its refusals. */
export class Rate {
  /** Milliseconds between two requests; 0 is as fast as possible. */
  #gap = 0;
  #next = 0;
  #begun = 0;
  #slowedAt = 0;

  /** `leastGap`: if a refusal has no useful retry time, requests are at least this far apart, in milliseconds. */
  constructor(readonly leastGap: number) {}

  /** How long the next request has to wait, in milliseconds; not at all if 0 or less. */
  get wait(): number {
    return this.#next - Date.now();
  }

  /** A request is sent now. Returns its number. */
  begin(): number {
    this.#next = Math.max(this.#next, Date.now() + this.#gap);
    return ++this.#begun;
  }

  /** The server has answered. */
  accepted(): void {
    this.#gap = this.#gap * FASTER < this.leastGap / 2 ? 0 : this.#gap * FASTER;
  }

  /** The server has refused the request with this number because of a rate limit. */
  refused(number: number, retryAfter: number): void {
    // A request that was sent before the last slowdown gives no new information.
    if (number > this.#slowedAt) {
      this.#slowedAt = this.#begun;
      this.#gap = Math.min(LARGEST_GAP, Math.max(this.#gap * SLOWER, retryAfter, this.leastGap));
    }
    this.#next = Math.max(this.#next, Date.now() + retryAfter * (1 + Math.random() * JITTER));
  }
}
