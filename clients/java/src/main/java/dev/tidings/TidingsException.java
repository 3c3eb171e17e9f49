package dev.tidings;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;

/** A request was refused, or failed within its time. */
public final class TidingsException extends RuntimeException {
  private static final long serialVersionUID = 1;

  // gRPC itself reports these codes for a broken call. The server sends them only with details.
  private static final Set<String> BROKEN = Set.of("cancelled", "internal", "unknown");
  private static final Set<String> FINAL =
      Set.of(
          "already_exists",
          "data_loss",
          "failed_precondition",
          "invalid_argument",
          "not_found",
          "out_of_range",
          "permission_denied",
          "unauthenticated",
          "unimplemented");

  private final String code;
  private final String channel;
  private final String field;
  private final transient Duration retryAfter;

  TidingsException(String code, String message) {
    this(code, message, null, null, null);
  }

  TidingsException(String code, String message, String channel, String field, Duration retryAfter) {
    super(code + ": " + message);
    this.code = code;
    this.channel = channel;
    this.field = field;
    this.retryAfter = retryAfter;
  }

  /** One of the protocol's codes in lower case, such as {@code permission_denied}, or {@code deadline_exceeded}. */
  public String code() {
    return code;
  }

  /** The channel whose subscription ended. */
  public Optional<String> channel() {
    return Optional.ofNullable(channel);
  }

  /** The invalid field. */
  public Optional<String> field() {
    return Optional.ofNullable(field);
  }

  /** How long the server asks to wait. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }

  /** True if the same request may succeed when retried. */
  boolean isPassing() {
    return code.equals("unavailable") || (code.equals("resource_exhausted") && retryAfter != null);
  }

  /** True if it ends a subscription. */
  boolean isFinal() {
    return FINAL.contains(code);
  }

  static TidingsException of(Throwable error) {
    if (error instanceof TidingsException known) {
      return known;
    }
    if (!(error instanceof StatusRuntimeException) && !(error instanceof StatusException)) {
      return new TidingsException("unavailable", String.valueOf(error.getMessage()));
    }
    com.google.rpc.Status details = StatusProto.fromThrowable(error);
    if (details != null && details.getDetailsCount() > 0) {
      return of(details);
    }
    Status status = Status.fromThrowable(error);
    String code = name(status.getCode());
    String message = String.valueOf(status.getDescription());
    return new TidingsException(BROKEN.contains(code) ? "unavailable" : code, message);
  }

  static TidingsException of(com.google.rpc.Status status) {
    String field = null;
    Duration retryAfter = null;
    try {
      for (var detail : status.getDetailsList()) {
        if (detail.is(BadRequest.class)) {
          var violations = detail.unpack(BadRequest.class).getFieldViolationsList();
          field = violations.isEmpty() ? null : violations.get(0).getField();
        } else if (detail.is(RetryInfo.class)) {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
        }
      }
    } catch (InvalidProtocolBufferException broken) {
      // The code and the message say enough.
      field = null;
    }
    String code = name(Status.fromCodeValue(status.getCode()).getCode());
    return new TidingsException(code, status.getMessage(), null, field, retryAfter);
  }

  private static String name(Status.Code code) {
    return code.name().toLowerCase(Locale.ROOT);
  }
}
