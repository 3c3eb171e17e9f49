/** The most confirmations per second: they share the connection's rate limit with the requests. */
const PER_SECOND = 10;

/** Sends `receive` for events that ask for it, so that a trace ends where the page's handler ran. */
export class Confirmer {
  #second = 0;
  #sent = 0;

  constructor(readonly send: (message: object) => void) {}

  /** Delivers an event, and confirms it when it was handled. `handle` returns what to wait for. */
  around(event: any, handle: () => unknown): void {
    const received_at = new Date().toISOString();
    const done = handle();
    const confirm = () => this.#confirm(event, received_at);
    if (done instanceof Promise) done.then(confirm, confirm);
    else confirm();
  }

  #confirm({ id, channel }: any, received_at: string): void {
    const now = Date.now();
    const second = Math.floor(now / 1000);
    if (second !== this.#second) [this.#second, this.#sent] = [second, 0];
    if (this.#sent++ >= PER_SECOND) return;
    this.send({ type: "receive", id, channel, received_at, handled_at: new Date(now).toISOString() });
  }
}
