package dev.tidings;

import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Map;
import java.util.Optional;

/**
 * An event as it was published.
 *
 * @param id its id, a UUID of version 7
 * @param type its type
 * @param channel its channel; empty if it was sent directly to users, roles or connections
 * @param time when it happened
 * @param data its payload
 * @param contentType the media type of the payload
 * @param source who published it
 * @param headers its header pairs
 * @param traceparent W3C Trace Context
 * @param tracestate W3C Trace Context
 * @param position its position; empty if the channel keeps no history
 */
public record Event(
    String id,
    String type,
    String channel,
    Instant time,
    byte[] data,
    String contentType,
    String source,
    Map<String, String> headers,
    String traceparent,
    String tracestate,
    Optional<Position> position)
    implements Step {
  /** The payload as text, such as JSON. */
  public String text() {
    return new String(data, StandardCharsets.UTF_8);
  }

  @Override
  public boolean isStale() {
    return false;
  }

  static Event of(dev.tidings.v1.Event message) {
    var time = message.getTime();
    return new Event(
        message.getId(),
        message.getType(),
        message.getChannel(),
        Instant.ofEpochSecond(time.getSeconds(), time.getNanos()),
        message.getData().toByteArray(),
        message.getContentType().isEmpty() ? "application/json" : message.getContentType(),
        message.getSource(),
        message.getHeadersMap(),
        message.getTraceparent(),
        message.getTracestate(),
        message.hasPosition() ? Optional.of(Position.of(message.getPosition())) : Optional.empty());
  }
}
