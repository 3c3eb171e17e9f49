/** How long an answer to a ping may take, in milliseconds; no longer than the server's interval. */
const PONG_MS = 10_000;
/** The same where the network is said to be gone, or the page was not looked at. */
const QUICK_PONG_MS = 4_000;

/**
 * Notices that the server is gone though the socket doesn't say so. The server speaks in every
 * interval in which it hears nothing; when it is silent for longer, it is asked, and what then
 * stays silent is dead.
 */
export class Liveness {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #last = 0;
  #count = 0;
  #interval = 0;
  #pong = PONG_MS;
  #due = 0;
  #late = false;

  constructor(
    readonly ping: () => void,
    readonly dead: () => void,
  ) {}

  /** The connection stands; the server is heard at least every `interval` milliseconds. */
  start(interval: number): void {
    this.#interval = interval * 1.25 + 1000;
    this.#pong = Math.min(PONG_MS, interval);
    this.heard();
    this.#watch();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#interval = 0;
  }

  /** Something came. */
  heard(): void {
    this.#last = Date.now();
    this.#count += 1;
  }

  /** There is reason for doubt: asks at once. */
  probe(): void {
    if (this.#interval) this.#ask(Math.min(QUICK_PONG_MS, this.#pong));
  }

  #watch(): void {
    const left = this.#last + this.#interval - Date.now();
    if (left <= 0) return this.#ask(this.#pong);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#watch(), left);
  }

  #ask(wait: number): void {
    const asked = this.#count;
    this.#late = false;
    this.ping();
    this.#await(asked, wait);
  }

  #await(asked: number, wait: number): void {
    clearTimeout(this.#timer);
    this.#due = Date.now() + wait;
    this.#timer = setTimeout(() => {
      if (this.#count !== asked) return this.#watch();
      // A page that was blocked or asleep has the answer still before it: once more.
      const late = Date.now() - this.#due > 1000;
      if (late && !this.#late) {
        this.#late = true;
        return this.#await(asked, 1000);
      }
      this.dead();
    }, wait);
  }
}
