package dev.tidings;

import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;

/**
 * Pauses with full jitter: a random part of a time that doubles with each failure in a row.
 *
 * @param first the upper bound of the first pause
 * @param longest the upper bound of every pause
 */
public record Backoff(Duration first, Duration longest) {
  /** Half a second to 15 seconds. */
  public static final Backoff DEFAULT = new Backoff(Duration.ofMillis(500), Duration.ofSeconds(15));

  /** Checks the bounds. */
  public Backoff {
    if (first.isNegative() || first.isZero() || longest.compareTo(first) < 0) {
      throw new IllegalArgumentException("expected 0 < first <= longest");
    }
  }

  /** How long to wait after so many failures in a row; never less than what the server advised. */
  Duration pause(int failures, Duration advised) {
    long most = longest.toNanos();
    if (failures < 20) {
      most = Math.min(most, first.toNanos() << failures);
    }
    Duration jitter = Duration.ofNanos(ThreadLocalRandom.current().nextLong(most + 1));
    return advised == null ? jitter : advised.plus(jitter);
  }
}
