/** What can go wrong, named as the server names it, which is as gRPC does. */
export type Code =
  | "invalid_argument"
  | "unauthenticated"
  | "permission_denied"
  | "not_found"
  | "already_exists"
  | "failed_precondition"
  | "resource_exhausted"
  | "out_of_range"
  | "unavailable"
  | "internal"
  /** No answer came in time. Only the client says this. */
  | "deadline_exceeded"
  /** The client was closed. Only the client says this. */
  | "cancelled";

/** A refusal by the server, or a failure of the client. */
export class TidingsError extends Error {
  override readonly name = "TidingsError";

  constructor(
    readonly code: Code,
    message: string,
    /** What exactly is wrong, where the server says so: `field` and `expected`. */
    readonly details?: { field?: string; expected?: string },
    /** Milliseconds after which trying again may help. */
    readonly retryAfterMs?: number,
  ) {
    super(message);
  }
}

/** The error in a message of the server. */
export function errorOf(message: any): TidingsError {
  return new TidingsError(message.code, message.message, message.details, message.retry_after_ms);
}

/** Anything thrown, as an error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
