import { TidingsError } from "./errors.js";
import type { TokenProvider } from "./types.js";

/** A token with less than this many milliseconds left is not used for a new connection. */
const SPARE_MS = 30_000;

/** Knows the token, and asks for another one where it has to; never twice at a time. */
export class Tokens {
  #token: string | null | undefined;
  #expires = Infinity;
  #refused = false;
  #call: Promise<string | null> | undefined;

  constructor(public source: string | TokenProvider | undefined) {}

  /** Whether asking again may bring another token. */
  get canRenew(): boolean {
    return typeof this.source === "function";
  }

  /** A token for a new connection, `null` for none. */
  get(): Promise<string | null> {
    if (typeof this.source !== "function") return Promise.resolve(this.source ?? null);
    const good = this.#token && !this.#refused && this.#expires - Date.now() > SPARE_MS;
    return good ? Promise.resolve(this.#token!) : this.renew();
  }

  /** A new token. Whoever asks while one is under way gets the same. */
  renew(): Promise<string | null> {
    const { source } = this;
    if (typeof source !== "function") return Promise.resolve(source ?? null);
    this.#call ??= this.#ask(source).finally(() => (this.#call = undefined));
    return this.#call;
  }

  async #ask(source: TokenProvider): Promise<string | null> {
    const refused = this.#refused;
    const token = await source({ refused });
    if (!token && refused) {
      throw new TidingsError("unauthenticated", "the token was refused, and there is no other");
    }
    this.#token = token;
    this.#refused = false;
    this.#expires = Infinity;
    return token;
  }

  /** The server has taken the token, until then (milliseconds of this machine's clock). */
  accepted(expires: number): void {
    this.#expires = expires;
  }

  /** The server has not taken it, or no longer. */
  refused(): void {
    this.#refused = true;
  }
}
