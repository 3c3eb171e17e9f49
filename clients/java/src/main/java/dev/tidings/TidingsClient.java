package dev.tidings;

import dev.tidings.v1.ConnectionServiceGrpc;
import dev.tidings.v1.EventServiceGrpc;
import dev.tidings.v1.GetHistoryRequest;
import dev.tidings.v1.GetPresenceRequest;
import dev.tidings.v1.PublishBatchRequest;
import dev.tidings.v1.PublishRequest;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** A client of one server, for any number of threads. It connects with the first call. */
public final class TidingsClient implements AutoCloseable {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  // A batch or a page may have up to 16 MiB.
  private static final int LARGEST_MESSAGE = 32 << 20;
  // The server's limits on one batch, with a margin for the bytes.
  private static final int BATCH_EVENTS = 1000;
  private static final int BATCH_BYTES = 8 << 20;

  private final ManagedChannel channel;
  private final Tokens tokens;
  private final Duration timeout;
  private final Backoff backoff;
  private volatile boolean closed;

  private TidingsClient(Builder builder) {
    this.tokens = new Tokens(builder.token, builder.source);
    this.timeout = builder.timeout;
    this.backoff = builder.backoff;
    this.channel =
        Grpc.newChannelBuilder(builder.address, builder.credentials)
            .disableRetry()
            .maxInboundMessageSize(LARGEST_MESSAGE)
            // A ping detects a server that has disappeared.
            .keepAliveTime(builder.keepAlive.toMillis(), TimeUnit.MILLISECONDS)
            .keepAliveTimeout(10, TimeUnit.SECONDS)
            .build();
  }

  /** A client of the server at {@code HOST:PORT}; {@code https://} before it turns on TLS. */
  public static Builder to(String address) {
    return new Builder(address);
  }

  /** The settings of a client. */
  public static final class Builder {
    private final String address;
    private ChannelCredentials credentials = InsecureChannelCredentials.create();
    private String token;
    private TokenSource source;
    private Duration timeout = Duration.ofSeconds(30);
    private Duration keepAlive = Duration.ofSeconds(20);
    private Backoff backoff = Backoff.DEFAULT;

    private Builder(String address) {
      this.address = address.replaceFirst("^https?://", "").replaceFirst("/$", "");
      if (address.startsWith("https://")) {
        credentials = TlsChannelCredentials.create();
      }
    }

    /** A fixed token (a JWT). */
    public Builder token(String token) {
      this.token = token;
      this.source = null;
      return this;
    }

    /**
     * Where tokens come from. It is asked before the first call, before a token expires, and when the server refuses
     * one.
     */
    public Builder tokenSource(TokenSource source) {
      this.source = source;
      this.token = null;
      return this;
    }

    /** TLS with authorities of one's own, or with a client certificate: see {@link TlsChannelCredentials}. */
    public Builder credentials(ChannelCredentials credentials) {
      this.credentials = credentials;
      return this;
    }

    /** How long a call may take with all its retries. 30 s unless set. */
    public Builder timeout(Duration timeout) {
      this.timeout = timeout;
      return this;
    }

    /** After how much silence a ping checks the connection. 20 s unless set. */
    public Builder keepAlive(Duration keepAlive) {
      this.keepAlive = keepAlive;
      return this;
    }

    /** The pauses between retries. */
    public Builder backoff(Backoff backoff) {
      this.backoff = backoff;
      return this;
    }

    /** The client. */
    public TidingsClient build() {
      return new TidingsClient(this);
    }
  }

  /** Cancels all calls and closes the connection. */
  @Override
  public void close() {
    closed = true;
    channel.shutdownNow();
  }

  /** The gRPC channel, for calls with the stubs in {@code dev.tidings.v1}, which {@link #authorized} gives the token. */
  public ManagedChannel channel() {
    return channel;
  }

  /** A stub that carries the token. */
  public <S extends AbstractStub<S>> S authorized(S stub) {
    return withToken(stub, tokens.get());
  }

  /** Publishes one event. Returns once the event has a position in every channel. */
  public Published publish(NewEvent event) {
    PublishRequest request = event.request();
    return Published.of(
        call(
            stub -> stub.publish(request),
            EventServiceGrpc.newBlockingStub(channel),
            NewEvent.isRepeatable(request)));
  }

  /**
   * Publishes any number of events in order. Returns an outcome for each.
   *
   * <p>Events over the rate limit are retried until the timeout.
   */
  public List<Outcome> publishBatch(List<NewEvent> events) {
    long end = System.nanoTime() + timeout.toNanos();
    List<PublishRequest> requests = events.stream().map(NewEvent::request).toList();
    Outcome[] outcomes = new Outcome[requests.size()];
    List<Integer> left = new ArrayList<>();
    for (int at = 0; at < outcomes.length; at++) {
      left.add(at);
    }
    for (int failures = 0; !left.isEmpty(); failures++) {
      for (List<Integer> part : parts(left, requests)) {
        batch(part, requests, outcomes);
      }
      left.removeIf(at -> outcomes[at].error() == null || !outcomes[at].error().isPassing());
      Duration advised =
          left.stream()
              .map(at -> outcomes[at].error().retryAfter().orElse(Duration.ZERO))
              .max(Duration::compareTo)
              .orElse(Duration.ZERO);
      Duration pause = backoff.pause(failures, advised);
      if (left.isEmpty() || System.nanoTime() + pause.toNanos() - end >= 0) {
        break;
      }
      sleep(pause);
    }
    return List.of(outcomes);
  }

  /** Subscribes to channels: names, {@code namespace:*} or {@code *}. */
  public Subscription subscribe(List<String> channels, SubscribeOptions options) {
    return new Subscription(this, channels, options);
  }

  /** Subscribes to live events of channels. */
  public Subscription subscribe(String... channels) {
    return subscribe(List.of(channels), SubscribeOptions.LIVE);
  }

  /** Reads a page of a channel's history, oldest first. {@code since} may be null; the first page has no token. */
  public HistoryPage history(String channelName, Position since, int pageSize, String pageToken) {
    GetHistoryRequest.Builder request =
        GetHistoryRequest.newBuilder()
            .setChannel(channelName)
            .setPageSize(pageSize)
            .setPageToken(pageToken == null ? "" : pageToken);
    if (since != null) {
      request.setSince(since.message());
    }
    var answer =
        call(stub -> stub.getHistory(request.build()), EventServiceGrpc.newBlockingStub(channel), true);
    List<Event> events = answer.getEventsList().stream().map(Event::of).toList();
    return new HistoryPage(events, Position.of(answer.getPosition()), answer.getNextPageToken());
  }

  /** The users in a channel, at most 1,000, with the number of their connections. Needs role service or admin. */
  public Map<String, Integer> presence(String channelName) {
    GetPresenceRequest request = GetPresenceRequest.newBuilder().setChannel(channelName).build();
    var answer =
        call(stub -> stub.getPresence(request), ConnectionServiceGrpc.newBlockingStub(channel), true);
    Map<String, Integer> users = new TreeMap<>();
    answer.getUsersList().forEach(user -> users.put(user.getUser(), user.getConnections()));
    return users;
  }

  boolean isClosed() {
    return closed;
  }

  Tokens tokens() {
    return tokens;
  }

  Backoff backoff() {
    return backoff;
  }

  Duration timeout() {
    return timeout;
  }

  EventServiceGrpc.EventServiceStub streams(String token) {
    return withToken(EventServiceGrpc.newStub(channel), token);
  }

  private void batch(List<Integer> part, List<PublishRequest> requests, Outcome[] outcomes) {
    PublishBatchRequest.Builder asked = PublishBatchRequest.newBuilder();
    part.forEach(at -> asked.addRequests(requests.get(at)));
    boolean repeatable = asked.getRequestsList().stream().allMatch(NewEvent::isRepeatable);
    var answer =
        call(
            stub -> stub.publishBatch(asked.build()),
            EventServiceGrpc.newBlockingStub(channel),
            repeatable);
    if (answer.getResponsesCount() != part.size()) {
      throw new TidingsException("internal", "the server's answer has another number of results");
    }
    for (int n = 0; n < part.size(); n++) {
      var response = answer.getResponses(n);
      outcomes[part.get(n)] =
          response.hasError()
              ? new Outcome(null, TidingsException.of(response.getError()))
              : new Outcome(Published.of(response), null);
    }
  }

  /**
   * Retries until there is a response, a permanent failure, or the timeout.
   *
   * <p>A call that is not repeatable is only retried if the server has surely not executed it.
   */
  private <S extends AbstractStub<S>, R> R call(Function<S, R> method, S stub, boolean repeatable) {
    long end = System.nanoTime() + timeout.toNanos();
    boolean renewed = false;
    for (int failures = 0; ; failures++) {
      String token = null;
      TidingsException failure;
      try {
        token = tokens.get();
        long left = Math.max(end - System.nanoTime(), 1_000_000);
        return method.apply(withToken(stub, token).withDeadlineAfter(left, TimeUnit.NANOSECONDS));
      } catch (RuntimeException error) {
        failure = TidingsException.of(error);
      }
      if (closed) {
        throw new TidingsException("cancelled", "the client was closed");
      }
      if (failure.code().equals("unauthenticated") && !renewed && tokens.refused(token)) {
        renewed = true;
        continue;
      }
      if (!failure.isPassing() || !(repeatable || failure.retryAfter().isPresent())) {
        throw failure;
      }
      Duration pause = backoff.pause(failures, failure.retryAfter().orElse(null));
      if (System.nanoTime() + pause.toNanos() - end >= 0) {
        throw failure;
      }
      sleep(pause);
    }
  }

  private static <S extends AbstractStub<S>> S withToken(S stub, String token) {
    if (token == null) {
      return stub;
    }
    Metadata headers = new Metadata();
    headers.put(AUTHORIZATION, "Bearer " + token);
    return stub.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  private static void sleep(Duration pause) {
    try {
      TimeUnit.NANOSECONDS.sleep(pause.toNanos());
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new TidingsException("cancelled", "the thread was interrupted");
    }
  }

  /** Splits requests so that each part fits into one call. */
  private static List<List<Integer>> parts(List<Integer> left, List<PublishRequest> requests) {
    List<List<Integer>> parts = new ArrayList<>();
    int size = 0;
    for (int at : left) {
      int bytes = requests.get(at).getSerializedSize();
      List<Integer> last = parts.isEmpty() ? null : parts.get(parts.size() - 1);
      if (last == null || last.size() == BATCH_EVENTS || size + bytes > BATCH_BYTES) {
        last = new ArrayList<>();
        parts.add(last);
        size = 0;
      }
      last.add(at);
      size += bytes;
    }
    return parts;
  }
}
