package dev.tidings;

import dev.tidings.v1.SubscribeRequest;
import dev.tidings.v1.SubscribeResponse;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * Follows channels. Call {@link #next} from one thread at a time.
 *
 * <p>It connects on the first step, and reconnects whenever the connection breaks. Each channel resumes after the last
 * delivered event. The client asks for one message at a time: unread events wait at the server, within its limits.
 */
public final class Subscription implements AutoCloseable {
  // A stream that was open for this long resets the backoff.
  private static final long GOOD = TimeUnit.SECONDS.toNanos(10);
  private static final long FOREVER = TimeUnit.DAYS.toNanos(3650);

  private final TidingsClient client;
  private final Positions positions;
  private final SubscribeOptions options;
  private final ArrayDeque<Step> ready = new ArrayDeque<>();
  private final CountDownLatch closed = new CountDownLatch(1);
  private volatile Stream stream;
  private volatile String connectionId = "";
  private int failures;
  // The times are those of System.nanoTime.
  private Long againAt;
  private Long stoodSince;
  private boolean everStood;
  private boolean renewed;

  Subscription(TidingsClient client, List<String> channels, SubscribeOptions options) {
    this.client = client;
    this.options = options;
    this.positions = new Positions(channels, options.since(), options.rewind(), options.remember());
  }

  /** For each channel, the position after the last delivered event: the {@code since} for resuming later. */
  public Map<String, Position> positions() {
    return positions.all();
  }

  /** The server's id of the latest connection. Empty before the first. */
  public String connectionId() {
    return connectionId;
  }

  /**
   * Waits for the next step.
   *
   * @throws TidingsException the subscription has ended: the server refused a channel, took the permission back, or
   *     {@link #close} was called ({@code cancelled}). Temporary failures are retried for as long as it takes.
   */
  public Step next() throws InterruptedException {
    return await(FOREVER);
  }

  /** Waits for the next step. Returns null if there is none in time, and nothing is lost by that. */
  public Step poll(Duration timeout) throws InterruptedException {
    return await(Math.min(timeout.toNanos(), FOREVER));
  }

  /** Gives each step to the handler, until the subscription is closed. */
  public void forEach(Consumer<Step> handler) throws InterruptedException {
    while (true) {
      Step step;
      try {
        step = next();
      } catch (TidingsException ended) {
        if (isClosed() && ended.code().equals("cancelled")) {
          return;
        }
        throw ended;
      }
      handler.accept(step);
    }
  }

  /** Ends the subscription, and a {@link #next} that waits. May be called from any thread. */
  @Override
  public void close() {
    closed.countDown();
    Stream open = stream;
    if (open != null) {
      open.end();
    }
  }

  private boolean isClosed() {
    return closed.getCount() == 0 || client.isClosed();
  }

  private Step await(long nanos) throws InterruptedException {
    long end = System.nanoTime() + nanos;
    while (ready.isEmpty()) {
      if (isClosed()) {
        drop();
        throw new TidingsException("cancelled", "the subscription is closed");
      }
      try {
        SubscribeResponse message = read(end);
        if (message == null) {
          return null;
        }
        accept(message);
      } catch (RuntimeException failure) {
        if (!isClosed()) {
          after(TidingsException.of(failure));
        }
      }
    }
    return ready.poll();
  }

  /** The next message. Null if there is none in time. */
  private SubscribeResponse read(long end) throws InterruptedException {
    if (againAt != null) {
      long left = Math.min(againAt, end) - System.nanoTime();
      if (closed.await(left, TimeUnit.NANOSECONDS)) {
        throw new TidingsException("cancelled", "the subscription is closed");
      }
      if (againAt - System.nanoTime() > 0) {
        return null;
      }
      againAt = null;
    }
    if (stream == null) {
      open();
    }
    long late = stoodSince == null ? stream.openedAt + client.timeout().toNanos() : end;
    Object got = stream.take(Math.min(end, late) - System.nanoTime());
    if (got == null && stoodSince == null && late - System.nanoTime() <= 0) {
      throw new TidingsException("unavailable", "the server did not answer in time");
    }
    if (got instanceof Throwable failure) {
      throw TidingsException.of(failure);
    }
    return (SubscribeResponse) got;
  }

  private void open() {
    Stream opened = new Stream();
    opened.token = client.tokens().get();
    SubscribeRequest request =
        SubscribeRequest.newBuilder()
            .addAllSubscriptions(positions.subscriptions())
            .addAllEventTypes(options.eventTypes())
            .setFilter(options.filter())
            .build();
    stream = opened;
    client.streams(opened.token).subscribe(request, opened);
    if (isClosed()) {
      opened.end();
    }
  }

  private void accept(SubscribeResponse message) {
    switch (message.getMessageCase()) {
      case EVENT -> ready.addAll(positions.event(Event.of(message.getEvent())));
      case GAP -> {
        var gap = message.getGap();
        ready.addAll(
            positions.gap(new Gap(gap.getChannel(), gap.getFrom(), gap.getTo(), gap.getReason())));
      }
      case SUBSCRIBED -> {
        ready.addAll(positions.subscribed(message.getSubscribed()));
        if (stoodSince == null) {
          stoodSince = System.nanoTime();
          everStood = true;
          renewed = false;
          connectionId = message.getSubscribed().getConnectionId();
        }
      }
      default -> {
        // A heartbeat, or a message of a newer server, which this client does not know.
      }
    }
  }

  /** The stream ended. Schedules the next one, or throws what ends the subscription. */
  private void after(TidingsException failure) {
    String token = stream == null ? null : stream.token;
    drop();
    boolean stood = stoodSince != null;
    if (stood && System.nanoTime() - stoodSince >= GOOD) {
      failures = 0;
    }
    stoodSince = null;
    if (failure.code().equals("unauthenticated") && !renewed && client.tokens().refused(token)) {
      renewed = true;
      return;
    }
    boolean full = failure.code().equals("resource_exhausted") && failure.retryAfter().isEmpty();
    if (full && !stood) {
      List<Step> lost = positions.forgetTracked();
      ready.addAll(lost);
      if (!lost.isEmpty()) {
        return;
      }
    }
    if (failure.isFinal() || (full && !stood && !everStood)) {
      closed.countDown();
      throw failure;
    }
    Duration pause = client.backoff().pause(failures, failure.retryAfter().orElse(null));
    failures++;
    againAt = System.nanoTime() + pause.toNanos();
  }

  private void drop() {
    Stream open = stream;
    stream = null;
    if (open != null) {
      open.end();
    }
  }

  /** One gRPC stream. It holds one message at most, and the failure behind it. */
  private static final class Stream implements ClientResponseObserver<SubscribeRequest, SubscribeResponse> {
    final long openedAt = System.nanoTime();
    String token;
    private final LinkedBlockingQueue<Object> arrived = new LinkedBlockingQueue<>(4);
    private volatile ClientCallStreamObserver<SubscribeRequest> call;

    @Override
    public void beforeStart(ClientCallStreamObserver<SubscribeRequest> call) {
      this.call = call;
      call.disableAutoRequestWithInitial(1);
    }

    Object take(long nanos) throws InterruptedException {
      Object got = arrived.poll(Math.max(nanos, 0), TimeUnit.NANOSECONDS);
      if (got instanceof SubscribeResponse) {
        call.request(1);
      }
      return got;
    }

    void end() {
      arrived.offer(new TidingsException("unavailable", "the stream was cancelled"));
      ClientCallStreamObserver<SubscribeRequest> open = call;
      if (open != null) {
        open.cancel("the subscription does not need it any more", null);
      }
    }

    @Override
    public void onNext(SubscribeResponse message) {
      arrived.offer(message);
    }

    @Override
    public void onError(Throwable failure) {
      arrived.offer(failure);
    }

    @Override
    public void onCompleted() {
      arrived.offer(new TidingsException("unavailable", "the server ended the stream"));
    }
  }
}
