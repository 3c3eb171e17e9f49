package dev.tidings;

import java.util.List;
import java.util.Map;

/**
 * Narrows a subscription, and says where it begins.
 *
 * @param since resumes each channel after a position
 * @param rewind replays the newest events of each other named channel
 * @param eventTypes exact, or ending in {@code *}; none means all
 * @param filter a CEL expression over the event; empty means none
 * @param remember how many channels received through a pattern can be resumed
 */
public record SubscribeOptions(
    Map<String, Position> since, int rewind, List<String> eventTypes, String filter, int remember) {
  /** Live events of all types. */
  public static final SubscribeOptions LIVE = new SubscribeOptions(Map.of(), 0, List.of(), "", 100);

  /** The same from these positions. */
  public SubscribeOptions withSince(Map<String, Position> positions) {
    return new SubscribeOptions(Map.copyOf(positions), rewind, eventTypes, filter, remember);
  }

  /** The same with the newest events first. */
  public SubscribeOptions withRewind(int events) {
    return new SubscribeOptions(since, events, eventTypes, filter, remember);
  }

  /** The same for these types. */
  public SubscribeOptions withEventTypes(String... types) {
    return new SubscribeOptions(since, rewind, List.of(types), filter, remember);
  }

  /** The same for events for which this CEL expression is true. */
  public SubscribeOptions withFilter(String expression) {
    return new SubscribeOptions(since, rewind, eventTypes, expression, remember);
  }
}
