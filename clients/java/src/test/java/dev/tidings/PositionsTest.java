package dev.tidings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tidings.Subscribed.Recovery;
import dev.tidings.v1.SubscribedChannel;
import dev.tidings.v1.SubscriptionError;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class PositionsTest {
  @Test
  void positionsAreParsedAsTheyAreWritten() {
    assertEquals(new Position("a/b", 7), Position.parse("a/b/7"));
    assertEquals("e1/42", new Position("e1", 42).toString());
    assertThrows(IllegalArgumentException.class, () -> Position.parse("7"));
    assertThrows(IllegalArgumentException.class, () -> Position.parse("e1/x"));
  }

  @Test
  void positionsOfOtherChannelsAreRefused() {
    Map<String, Position> since = Map.of("project:1", new Position("e1", 1));
    assertThrows(IllegalArgumentException.class, () -> new Positions(List.of("job:1"), since, 0, 100));
    new Positions(List.of("project:*"), since, 0, 100);
  }

  @Test
  void channelsOfPatternsAreResumedByName() {
    Positions positions = new Positions(List.of("project:*"), Map.of(), 0, 2);
    positions.subscriptions();
    positions.subscribed(subscribed("project:*", null));
    for (int n = 1; n <= 3; n++) {
      positions.event(event("project:" + n, "e1", n));
    }
    // The least recently active one is dropped.
    assertEquals(List.of("project:*", "project:2", "project:3"), names(positions));
    // A new epoch is reported, as a subscription by pattern is not told of it otherwise.
    List<Step> steps = positions.event(event("project:3", "e2", 1));
    assertTrue(steps.get(0).isStale());
    assertEquals(2, steps.size());
    var denied = SubscriptionError.newBuilder().setChannel("project:2").setCode("not_found");
    positions.subscriptions();
    steps = positions.subscribed(dev.tidings.v1.Subscribed.newBuilder().addErrors(denied).build());
    assertEquals(Recovery.LOST, ((Subscribed) steps.get(0)).recovery());
    assertEquals(List.of("project:*", "project:3"), names(positions));
    assertEquals(1, positions.forgetTracked().size());
    assertEquals(List.of("project:*"), names(positions));
  }

  @Test
  void repeatedGapsAndEventsAreDeliveredOnce() {
    Positions positions = new Positions(List.of("project:1"), Map.of(), 0, 100);
    positions.subscriptions();
    positions.subscribed(subscribed("project:1", new Position("e1", 0)));
    assertEquals(1, positions.gap(new Gap("project:1", 1, 4, "slow_consumer")).size());
    assertEquals(0, positions.gap(new Gap("project:1", 2, 3, "slow_consumer")).size());
    assertEquals(0, positions.event(event("project:1", "e1", 4)).size());
    assertEquals(new Position("e1", 4), positions.all().get("project:1"));
  }

  private static List<String> names(Positions positions) {
    return positions.subscriptions().stream().map(dev.tidings.v1.Subscription::getChannel).toList();
  }

  private static dev.tidings.v1.Subscribed subscribed(String channel, Position position) {
    SubscribedChannel.Builder entry = SubscribedChannel.newBuilder().setChannel(channel);
    if (position != null) {
      entry.setPosition(position.message());
    }
    return dev.tidings.v1.Subscribed.newBuilder().addChannels(entry).build();
  }

  private static Event event(String channel, String epoch, long offset) {
    Optional<Position> position = Optional.of(new Position(epoch, offset));
    return new Event(
        "id", "n", channel, Instant.EPOCH, new byte[0], "application/json", "", Map.of(), "", "", position);
  }
}
