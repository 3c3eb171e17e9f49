/** The most concurrent calls. */
const WINDOW = 256;
const SLOWER = 1.5;
const FASTER = 0.98;
const LEAST_GAP = 1;
const LARGEST_GAP = 5000;

/**
 * Limits calls to the rate that a server accepts: the limit is shared, so that a refusal of one
 * call slows down the others, and only a window of them is in flight.
 */
export class Pace {
  #inFlight = 0;
  #gap = 0;
  #next = 0;
  #started = 0;
  #slowedAt = 0;
  #queue: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Resolves when a call may begin, with its number. */
  async enter(): Promise<number> {
    if (this.#queue.length || this.#inFlight >= WINDOW || this.#next > Date.now()) {
      await new Promise<void>((resolve) => {
        this.#queue.push(resolve);
        this.#pump();
      });
    } else {
      this.#begin();
    }
    return ++this.#started;
  }

  /** A call has ended; `retryAfter` is set if it was refused because of a rate limit. */
  leave(number: number, retryAfter?: number): void {
    this.#inFlight -= 1;
    if (retryAfter === undefined) {
      this.#gap = this.#gap * FASTER < LEAST_GAP / 2 ? 0 : this.#gap * FASTER;
    } else {
      // Calls that began before the last slowdown give no new information.
      if (number > this.#slowedAt) {
        this.#slowedAt = this.#started;
        this.#gap = Math.min(LARGEST_GAP, Math.max(this.#gap * SLOWER, retryAfter, LEAST_GAP));
      }
      this.#next = Math.max(this.#next, Date.now() + retryAfter * (1 + Math.random() / 4));
    }
    this.#pump();
  }

  #begin(): void {
    this.#inFlight += 1;
    this.#next = Math.max(this.#next, Date.now() + this.#gap);
  }

  #pump(): void {
    clearTimeout(this.#timer);
    while (this.#queue.length && this.#inFlight < WINDOW) {
      const wait = this.#next - Date.now();
      if (wait > 0) {
        this.#timer = setTimeout(() => this.#pump(), wait);
        return;
      }
      this.#begin();
      this.#queue.shift()!();
    }
  }
}
