package dev.tidings;

import com.google.protobuf.ByteString;
import com.google.protobuf.Timestamp;
import dev.tidings.v1.PublishRequest;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.UUID;

/** An event to publish. Each method returns the same object. */
public final class NewEvent {
  private final PublishRequest.Builder request = PublishRequest.newBuilder();

  private NewEvent(String type) {
    request.setType(type);
  }

  /** An event with a JSON payload, such as Jackson's {@code writeValueAsString} makes. */
  public static NewEvent json(String type, String data) {
    NewEvent event = new NewEvent(type);
    event.request.setData(ByteString.copyFromUtf8(data));
    return event;
  }

  /** An event with a payload of any media type. */
  public static NewEvent bytes(String type, byte[] data, String contentType) {
    NewEvent event = new NewEvent(type);
    event.request.setData(ByteString.copyFrom(data)).setContentType(contentType);
    return event;
  }

  /** Adds channels. An event without one goes to {@code global}, or directly to its audience. */
  public NewEvent to(String... channels) {
    request.addAllChannels(List.of(channels));
    return this;
  }

  /** Narrows it to these users. */
  public NewEvent toUsers(String... users) {
    request.getAudienceBuilder().addAllUsers(List.of(users));
    return this;
  }

  /** Narrows it to holders of one of these roles. */
  public NewEvent toRoles(String... roles) {
    request.getAudienceBuilder().addAllRoles(List.of(roles));
    return this;
  }

  /** Narrows it to these connections. */
  public NewEvent toConnections(String... ids) {
    request.getAudienceBuilder().addAllConnections(List.of(ids));
    return this;
  }

  /** Leaves out connections, such as the sender's own. */
  public NewEvent exceptConnections(String... ids) {
    request.getAudienceBuilder().addAllExceptConnections(List.of(ids));
    return this;
  }

  /** Adds a header pair. */
  public NewEvent header(String name, String value) {
    request.putHeaders(name, value);
    return this;
  }

  /** The conflation key. */
  public NewEvent key(String key) {
    request.setKey(key);
    return this;
  }

  /** The idempotency key, which makes a retry safe. Without one, the client makes one. */
  public NewEvent idempotencyKey(String key) {
    request.setIdempotencyKey(key);
    return this;
  }

  /** The publisher that subscribers see. */
  public NewEvent source(String source) {
    request.setSource(source);
    return this;
  }

  /** When it happened. */
  public NewEvent time(Instant time) {
    request.setTime(Timestamp.newBuilder().setSeconds(time.getEpochSecond()).setNanos(time.getNano()));
    return this;
  }

  /** How long it may be replayed and read from history. */
  public NewEvent ttl(Duration ttl) {
    request.setTtl(com.google.protobuf.Duration.newBuilder().setSeconds(ttl.getSeconds()).setNanos(ttl.getNano()));
    return this;
  }

  /** Delivers it and keeps it nowhere. */
  public NewEvent skipHistory() {
    request.setSkipHistory(true);
    return this;
  }

  /** Publishes it only if this is the channel's newest offset, 0 before its first event. Otherwise {@code failed_precondition}. */
  public NewEvent expectedOffset(long offset) {
    request.setExpectedOffset(offset);
    return this;
  }

  /** Its W3C trace context. */
  public NewEvent traceparent(String traceparent) {
    request.setTraceparent(traceparent);
    return this;
  }

  /** The request. It has an idempotency key, unless it has no channel. */
  PublishRequest request() {
    PublishRequest.Builder built = request.clone();
    if (built.getIdempotencyKey().isEmpty() && isRepeatable(built.build())) {
      built.setIdempotencyKey(UUID.randomUUID().toString());
    }
    return built.build();
  }

  /** True if the server recognizes a retry. It remembers keys per channel, so not for direct delivery. */
  static boolean isRepeatable(PublishRequest request) {
    return request.getChannelsCount() > 0 || !request.hasAudience();
  }
}
