package dev.tidings;

/**
 * Events that will not be delivered.
 *
 * @param channel the channel
 * @param first the first missing offset; 0 without history
 * @param last the last missing offset
 * @param reason such as {@code slow_consumer}, {@code conflated} or {@code expired}
 */
public record Gap(String channel, long first, long last, String reason) implements Step {
  @Override
  public boolean isStale() {
    // Newer events stand for those that were conflated.
    return !reason.equals("conflated");
  }
}
