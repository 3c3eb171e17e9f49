package dev.tidings;

import java.util.Optional;

/**
 * The state of a channel, at the start and after each reconnect.
 *
 * @param channel the channel
 * @param position where live delivery starts; empty if the channel keeps no history
 * @param recovery what happened to the events between two connections
 * @param replayed the number of events that follow from history
 */
public record Subscribed(String channel, Optional<Position> position, Recovery recovery, long replayed)
    implements Step {
  /** What happened to the events between two connections. */
  public enum Recovery {
    /** There was nothing to resume. */
    BEGAN,
    /** Every event after the position follows, each once. */
    RECOVERED,
    /** Events may have been missed and will not come: reload the state. */
    LOST
  }

  @Override
  public boolean isStale() {
    return recovery == Recovery.LOST;
  }
}
