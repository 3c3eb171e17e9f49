import { Rate } from "./rate.js";

/** The most concurrent calls. */
const WINDOW = 256;

/**
 * Limits calls to the rate that a server accepts: the limit is shared, so that a refusal of one
 * call slows down the others, and only a window of them is in flight.
 */
export class Pace {
  readonly #rate = new Rate(1);
  #inFlight = 0;
  #queue: ((number: number) => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Resolves when a call may begin, with its number. */
  async enter(): Promise<number> {
    if (!this.#queue.length && this.#inFlight < WINDOW && this.#rate.wait <= 0) return this.#begin();
    return new Promise<number>((resolve) => {
      this.#queue.push(resolve);
      this.#pump();
    });
  }

  /** A call has ended; `retryAfter` is set if it was refused because of a rate limit. */
  leave(number: number, retryAfter?: number): void {
    this.#inFlight -= 1;
    if (retryAfter === undefined) this.#rate.accepted();
    else this.#rate.refused(number, retryAfter);
    this.#pump();
  }

  #begin(): number {
    this.#inFlight += 1;
    return this.#rate.begin();
  }

  #pump(): void {
    clearTimeout(this.#timer);
    while (this.#queue.length && this.#inFlight < WINDOW) {
      const { wait } = this.#rate;
      if (wait > 0) {
        this.#timer = setTimeout(() => this.#pump(), wait);
        return;
      }
      this.#queue.shift()!(this.#begin());
    }
  }
}
