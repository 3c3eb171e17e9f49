/** A gRPC message. */
export type Wired = Record<string, any>;

/** A `google.protobuf.Duration` in milliseconds. */
export function millisOf(duration: Wired | null | undefined): number {
  return duration ? Number(duration.seconds) * 1000 + duration.nanos / 1e6 : 0;
}

/** Milliseconds as a `google.protobuf.Duration`. */
export function durationOf(millis: number): Wired {
  return { seconds: Math.floor(millis / 1000), nanos: Math.round((millis % 1000) * 1e6) };
}

/** A `google.protobuf.Timestamp`. */
export function dateOf(timestamp: Wired | null | undefined): Date {
  return new Date(millisOf(timestamp));
}

const isJson = (type: string) => /^application\/(json|[\w.-]+\+json)\b/i.test(type);

/** An event as handlers get it on every transport; a payload that is not JSON as bytes. */
export function eventOf({ position, time, contentType, headers, data, id, type, channel, source, traceparent, tracestate }: Wired): any {
  const json = !contentType || isJson(contentType);
  return {
    ...{ id, type, timestamp: dateOf(time).toISOString() },
    ...(channel && { channel }),
    ...(position && { epoch: position.epoch, offset: position.offset }),
    ...(source && { source }),
    ...(Object.keys(headers ?? {}).length > 0 && { headers }),
    ...(traceparent && { traceparent }),
    ...(tracestate && { tracestate }),
    ...(contentType && !json && { content_type: contentType }),
    data: json ? JSON.parse(Buffer.from(data).toString() || "null") : data,
  };
}
