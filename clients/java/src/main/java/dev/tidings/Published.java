package dev.tidings;

import dev.tidings.v1.PublishResponse;
import java.util.List;
import java.util.Optional;

/**
 * The result of publishing an event.
 *
 * @param id the event's id
 * @param results one for each channel
 */
public record Published(String id, List<To> results) {
  /**
   * The result for one channel.
   *
   * @param channel the channel
   * @param position the event's position; empty if the channel keeps no history
   * @param subscribers how many subscribed to the channel at that moment
   * @param duplicate true if an earlier publish had the same idempotency key
   */
  public record To(String channel, Optional<Position> position, long subscribers, boolean duplicate) {}

  /** The position in the first channel. Empty if that keeps no history. */
  public Optional<Position> position() {
    return results.isEmpty() ? Optional.empty() : results.get(0).position();
  }

  static Published of(PublishResponse message) {
    return new Published(
        message.getId(),
        message.getResultsList().stream()
            .map(
                result ->
                    new To(
                        result.getChannel(),
                        result.hasPosition()
                            ? Optional.of(Position.of(result.getPosition()))
                            : Optional.empty(),
                        result.getSubscribers(),
                        result.getDuplicate()))
            .toList());
  }
}
