package dev.tidings;

import dev.tidings.Subscribed.Recovery;
import dev.tidings.v1.SubscribedChannel;
import dev.tidings.v1.Subscription;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * The positions of one subscription.
 *
 * <p>A pattern has no position. Hence, the channels received through it are tracked, a bounded number of them; the least
 * recently active are dropped first. Each is resumed by its own name.
 */
final class Positions {
  private final Set<String> requested;
  private final int rewind;
  private final int most;
  private final Map<String, Position> at = new HashMap<>();
  // The least recently active first.
  private final LinkedHashMap<String, Position> tracked = new LinkedHashMap<>();
  // Requested channels that have a position to resume from.
  private final Set<String> resumes = new HashSet<>();
  // What the current stream was asked to resume.
  private Set<String> sent = Set.of();
  private boolean opening = true;

  Positions(List<String> channels, Map<String, Position> since, int rewind, int most) {
    this.requested = new LinkedHashSet<>(channels);
    this.rewind = rewind;
    this.most = most;
    since.forEach(
        (channel, position) -> {
          if (requested.stream().noneMatch(one -> matches(one, channel))) {
            throw new IllegalArgumentException("since: " + channel + " is not among the channels");
          }
          move(channel, position);
        });
    for (String channel : requested) {
      if (at.containsKey(channel) || (isPattern(channel) && !tracked.isEmpty())) {
        resumes.add(channel);
      }
    }
  }

  synchronized Map<String, Position> all() {
    Map<String, Position> all = new HashMap<>(tracked);
    all.putAll(at);
    return all;
  }

  /** The request for a new stream. */
  synchronized List<Subscription> subscriptions() {
    opening = true;
    Map<String, Position> all = all();
    sent = all.keySet();
    List<String> names = new ArrayList<>(requested);
    names.addAll(tracked.keySet());
    List<Subscription> wanted = new ArrayList<>();
    for (String channel : names) {
      Subscription.Builder one = Subscription.newBuilder().setChannel(channel);
      Position position = all.get(channel);
      if (position != null) {
        one.setSince(position.message());
      } else if (!isPattern(channel)) {
        one.setRewind(rewind);
      }
      wanted.add(one.build());
    }
    return wanted;
  }

  /** The server accepts no more subscriptions, so channels of patterns cannot be resumed. */
  synchronized List<Step> forgetTracked() {
    List<Step> lost = new ArrayList<>();
    tracked.keySet().forEach(channel -> lost.add(lost(channel)));
    tracked.clear();
    return lost;
  }

  /** The state of each channel. Throws if a requested channel was refused. */
  synchronized List<Step> subscribed(dev.tidings.v1.Subscribed message) {
    List<Step> steps = new ArrayList<>();
    for (var refused : message.getErrorsList()) {
      String channel = refused.getChannel();
      if (requested.contains(channel)) {
        throw new TidingsException(refused.getCode(), refused.getMessage(), channel, null, null);
      }
      // Its events still arrive through the pattern.
      if (tracked.remove(channel) != null && opening) {
        steps.add(lost(channel));
      }
    }
    for (SubscribedChannel entry : message.getChannelsList()) {
      steps.add(began(entry));
    }
    opening = false;
    return steps;
  }

  /** The steps for an event. None if it was delivered before. */
  synchronized List<Step> event(Event event) {
    Position now = event.position().orElse(null);
    if (now == null) {
      return List.of(event);
    }
    Position before = position(event.channel());
    boolean sameEpoch = before == null || before.epoch().equals(now.epoch());
    if (before != null && sameEpoch && now.offset() <= before.offset()) {
      return List.of();
    }
    move(event.channel(), now);
    if (sameEpoch) {
      return List.of(event);
    }
    // A subscription by pattern is not told of a new epoch otherwise.
    Position begins = new Position(now.epoch(), now.offset() - 1);
    return List.of(new Subscribed(event.channel(), Optional.of(begins), Recovery.LOST, 0), event);
  }

  /**
   * The step for a gap. None if all of it was delivered before.
   *
   * <p>Its offsets will not come, so they are not requested again after a reconnect.
   */
  synchronized List<Step> gap(Gap gap) {
    Position before = position(gap.channel());
    if (before != null && gap.last() > 0) {
      if (gap.last() <= before.offset()) {
        return List.of();
      }
      move(gap.channel(), new Position(before.epoch(), gap.last()));
    }
    return List.of(gap);
  }

  private Subscribed began(SubscribedChannel entry) {
    String channel = entry.getChannel();
    Optional<Position> position =
        entry.hasPosition() ? Optional.of(Position.of(entry.getPosition())) : Optional.empty();
    Recovery recovery = Recovery.LOST;
    if (opening && !sent.contains(channel) && !resumes.contains(channel)) {
      recovery = Recovery.BEGAN;
    } else if (opening && entry.getRecovered()) {
      recovery = Recovery.RECOVERED;
    }
    if (requested.contains(channel)) {
      resumes.add(channel);
    }
    if (position.isEmpty()) {
      at.remove(channel);
      tracked.remove(channel);
    } else if (recovery != Recovery.RECOVERED && !(opening && entry.getReplayed() > 0)) {
      // Replayed events come before this position, and must not be skipped.
      move(channel, position.get());
    }
    return new Subscribed(channel, position, recovery, entry.getReplayed());
  }

  private Position position(String channel) {
    Position known = at.get(channel);
    return known != null ? known : tracked.get(channel);
  }

  private void move(String channel, Position position) {
    if (requested.contains(channel)) {
      at.put(channel, position);
    } else if (requested.stream().anyMatch(Positions::isPattern)) {
      tracked.remove(channel);
      tracked.put(channel, position);
      if (tracked.size() > most) {
        tracked.remove(tracked.keySet().iterator().next());
      }
    }
  }

  private static Step lost(String channel) {
    return new Subscribed(channel, Optional.empty(), Recovery.LOST, 0);
  }

  private static boolean isPattern(String channel) {
    return channel.equals("*") || channel.endsWith(":*");
  }

  private static boolean matches(String pattern, String channel) {
    return pattern.equals("*")
        || pattern.equals(channel)
        || (isPattern(pattern) && channel.startsWith(pattern.substring(0, pattern.length() - 1)));
  }
}
