package example;

import dev.tidings.Event;
import dev.tidings.Step;
import dev.tidings.Subscription;
import dev.tidings.TidingsClient;
import java.util.concurrent.CountDownLatch;
import org.springframework.context.SmartLifecycle;
import org.springframework.stereotype.Component;

/** Subscribes to a channel in its own thread, for as long as the application runs. */
@Component
class EventSubscriber implements SmartLifecycle {
  private final TidingsClient tidings;
  private final CountDownLatch subscribed = new CountDownLatch(1);
  private final CountDownLatch received = new CountDownLatch(1);
  private volatile Subscription subscription;

  EventSubscriber(TidingsClient tidings) {
    this.tidings = tidings;
  }

  CountDownLatch subscribed() {
    return subscribed;
  }

  CountDownLatch received() {
    return received;
  }

  @Override
  public void start() {
    Subscription started = tidings.subscribe("demo");
    subscription = started;
    Thread thread =
        new Thread(
            () -> {
              try {
                started.forEach(this::handle);
              } catch (InterruptedException ended) {
                Thread.currentThread().interrupt();
              }
            },
            "tidings-subscriber");
    thread.setDaemon(true);
    thread.start();
  }

  private void handle(Step step) {
    if (step instanceof Event event) {
      System.out.println(event.type() + " " + event.text());
      received.countDown();
    } else {
      subscribed.countDown();
      if (step.isStale()) {
        System.out.println("events were missed: reload the state");
      }
    }
  }

  @Override
  public void stop() {
    subscription.close();
    subscription = null;
  }

  @Override
  public boolean isRunning() {
    return subscription != null;
  }
}
