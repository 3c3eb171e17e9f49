package dev.tidings;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;

/** Driver of the behaviour suite (clients/behaviour): does what a case says, and prints what it sees. */
final class BehaviourDriver {
  private BehaviourDriver() {}

  public static void main(String[] arguments) throws InterruptedException {
    JsonObject given = JsonParser.parseString(arguments[0]).getAsJsonObject();
    TidingsClient.Builder builder =
        TidingsClient.to(given.get("server").getAsString())
            .backoff(new Backoff(Duration.ofMillis(20), Duration.ofMillis(100)));
    if (given.has("token")) {
      builder.token(given.get("token").getAsString());
    }
    if (given.has("tokens")) {
      Iterator<JsonElement> tokens = given.getAsJsonArray("tokens").iterator();
      builder.tokenSource(() -> tokens.next().getAsString());
    }
    try (TidingsClient client = builder.build()) {
      if (given.has("publish")) {
        publish(client, given.get("publish").getAsInt());
      } else {
        subscribe(client, given.getAsJsonObject("subscribe"));
      }
    }
  }

  private static void publish(TidingsClient client, int count) {
    for (int n = 0; n < count; n++) {
      try {
        Published published = client.publish(NewEvent.json("n", String.valueOf(n)).to("project:1"));
        System.out.println("published " + n + " " + published.position().orElseThrow().offset());
      } catch (TidingsException refused) {
        System.out.println("failed " + refused.code());
      }
    }
  }

  private static void subscribe(TidingsClient client, JsonObject wanted) throws InterruptedException {
    List<String> channels = new ArrayList<>();
    wanted.getAsJsonArray("channels").forEach(channel -> channels.add(channel.getAsString()));
    Map<String, Position> since = new HashMap<>();
    if (wanted.has("since")) {
      wanted
          .getAsJsonObject("since")
          .entrySet()
          .forEach(entry -> since.put(entry.getKey(), Position.parse(entry.getValue().getAsString())));
    }
    SubscribeOptions options = SubscribeOptions.LIVE.withSince(since);
    if (wanted.has("rewind")) {
      options = options.withRewind(wanted.get("rewind").getAsInt());
    }
    try (Subscription subscription = client.subscribe(channels, options)) {
      subscription.forEach(BehaviourDriver::show);
    } catch (TidingsException failed) {
      System.out.println("failed " + failed.code());
    }
  }

  private static void show(Step step) {
    if (step instanceof Event event) {
      String offset = event.position().map(position -> String.valueOf(position.offset())).orElse("-");
      System.out.println("event " + event.channel() + " " + offset);
    } else if (step.isStale()) {
      System.out.println("stale " + step.channel());
    }
  }
}
