import { TidingsError } from "./errors.js";
import type { TokenProvider } from "./types.js";

/** A token with less remaining lifetime than this, in milliseconds, is not used for a new connection. */
const SPARE_MS = 30_000;

/** Stores the token, and fetches another one when necessary; never twice at a time. */
export class Tokens {
  #token: string | null | undefined;
  #expires = Infinity;
  #refused = false;
  #call: Promise<string | null> | undefined;

  constructor(public source: string | TokenProvider | undefined) {}

  /** Whether fetching again may return another token. */
  get canRenew(): boolean {
    return typeof this.source === "function";
  }

  /** A token for a new connection, `null` for none. */
  get(): Promise<string | null> {
    if (typeof this.source !== "function") return Promise.resolve(this.source ?? null);
    const good = this.#token && !this.#refused && this.#expires - Date.now() > SPARE_MS;
    return good ? Promise.resolve(this.#token!) : this.renew();
  }

  /** A new token. Callers during a fetch share its result. */
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

  /** The server has accepted the token, until then (milliseconds of this machine's clock). */
  accepted(expires: number): void {
    this.#expires = expires;
  }

  /** The server has refused it, or no longer accepts it. */
  refused(): void {
    this.#refused = true;
  }
}
