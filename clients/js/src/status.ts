import { type Code, TidingsError } from "./errors.js";

const CODES: Record<number, Code> = {
  ...{ 1: "cancelled", 3: "invalid_argument", 4: "deadline_exceeded", 5: "not_found", 6: "already_exists" },
  ...{ 7: "permission_denied", 8: "resource_exhausted", 9: "failed_precondition", 11: "out_of_range" },
  ...{ 13: "internal", 14: "unavailable", 16: "unauthenticated" },
};

/** The fields of a protobuf message: numbers and bytes by field number. */
function* fields(bytes: Uint8Array): Generator<[number, number, Uint8Array]> {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; at < bytes.length; scale *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) break;
    }
    return value;
  };
  while (at < bytes.length) {
    const tag = varint();
    const kind = tag & 7;
    if (kind !== 0 && kind !== 2) return;
    const number = varint();
    if (kind === 2) at += number;
    yield [tag >>> 3, number, kind === 2 ? bytes.subarray(at - number, at) : new Uint8Array()];
  }
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

interface Details {
  details?: { field?: string; expected?: string };
  retryAfterMs?: number;
}

/** The content of `google.rpc.Status.details`: `RetryInfo` and the first violation of `BadRequest`. */
function detailsOf(anys: { type: string; value: Uint8Array }[]): Details {
  const found: Details = {};
  for (const { type, value } of anys) {
    if (type.endsWith("google.rpc.RetryInfo")) {
      for (const [, , duration] of fields(value)) {
        let millis = 0;
        for (const [field, number] of fields(duration)) millis += field === 1 ? number * 1000 : number / 1e6;
        found.retryAfterMs = millis;
      }
    } else if (type.endsWith("google.rpc.BadRequest") && !found.details) {
      for (const [, , violation] of fields(value)) {
        const parts = [...fields(violation)];
        const part = (number: number) => text(parts.find(([field]) => field === number)?.[2] ?? new Uint8Array());
        found.details ??= { field: part(1), expected: part(2) };
      }
    }
  }
  return found;
}

/** An error of grpc-js as one of this package. */
export function errorOfCall(error: any): TidingsError {
  if (error instanceof TidingsError) return error;
  const code = CODES[error.code as number] ?? "internal";
  const [encoded] = error.metadata?.get?.("grpc-status-details-bin") ?? [];
  const anys = encoded ? [...fields(encoded)].filter(([field]) => field === 3).map(([, , any]) => any) : [];
  const { details, retryAfterMs } = detailsOf(
    anys.map((any) => {
      const parts = [...fields(any)];
      const part = (number: number) => parts.find(([field]) => field === number)?.[2] ?? new Uint8Array();
      return { type: text(part(1)), value: part(2) };
    }),
  );
  return new TidingsError(code, error.details || error.message, details, retryAfterMs);
}

/** A `google.rpc.Status` within a response. */
export function errorOfStatus({ code, message, details = [] }: any): TidingsError {
  const found = detailsOf(details.map((any: any) => ({ type: any.typeUrl ?? any.type_url ?? "", value: any.value ?? new Uint8Array() })));
  return new TidingsError(CODES[code as number] ?? "internal", message, found.details, found.retryAfterMs);
}
