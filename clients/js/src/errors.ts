/** The error codes, as the server and gRPC name them. */
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
  /** No response arrived in time. Only used by the client. */
  | "deadline_exceeded"
  /** The client was closed. Only used by the client. */
  | "cancelled";

/** A refusal by the server, or a failure of the client. */
export class TidingsError extends Error {
  override readonly name = "TidingsError";

  constructor(
    readonly code: Code,
    message: string,
    /** Details of the error, if the server sends them: `field` and `expected`. */
    readonly details?: { field?: string; expected?: string },
    /** Milliseconds after which a retry may succeed. */
    readonly retryAfterMs?: number,
  ) {
    super(message);
  }
}

/** The error of a server message. */
export function errorOf(message: any): TidingsError {
  return new TidingsError(message.code, message.message, message.details, message.retry_after_ms);
}

/** Any thrown value as an error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
