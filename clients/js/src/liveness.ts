/** How long the reply to a ping may take, in milliseconds; at most the server's interval. */
const PONG_MS = 10_000;
/** The same if the network was reported offline, or the page was hidden. */
const QUICK_PONG_MS = 4_000;

/**
 * Detects that the server is gone although the socket doesn't report it. The server sends something
 * in every interval in which it receives nothing. If it is silent for longer, the client sends a
 * ping; without a reply the connection is dead.
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

  /** The connection is open; the server sends something at least every `interval` milliseconds. */
  start(interval: number): void {
    this.#interval = interval * 1.25 + 1000;
    this.#pong = Math.min(PONG_MS, interval);
    this.received();
    this.#watch();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#interval = 0;
  }

  /** A message arrived. */
  received(): void {
    this.#last = Date.now();
    this.#count += 1;
  }

  /** The connection is doubtful: sends a ping at once. */
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
      // A page that was blocked or asleep may still have the reply in its queue: wait once more.
      const late = Date.now() - this.#due > 1000;
      if (late && !this.#late) {
        this.#late = true;
        return this.#await(asked, 1000);
      }
      this.dead();
    }, wait);
  }
}
