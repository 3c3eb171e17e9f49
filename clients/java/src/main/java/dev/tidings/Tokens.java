package dev.tidings;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The current token. */
final class Tokens {
  // A new token is fetched this long before the old one expires, or at half of its lifetime.
  private static final Duration EARLY = Duration.ofMinutes(1);
  private static final Pattern EXPIRY = Pattern.compile("\"exp\"\\s*:\\s*(\\d{1,12})");

  private final TokenSource source;
  private String token;
  private Instant renewAt = Instant.MAX;
  private Instant endsAt = Instant.MAX;

  Tokens(String fixed, TokenSource source) {
    this.token = fixed;
    this.source = source;
  }

  /** A token that remains valid for a while. Null for none. */
  synchronized String get() {
    if (source == null || (token != null && Instant.now().isBefore(renewAt))) {
      return token;
    }
    try {
      token = source.get();
    } catch (Exception error) {
      if (error instanceof InterruptedException) {
        Thread.currentThread().interrupt();
      }
      if (token != null && Instant.now().isBefore(endsAt)) {
        return token;
      }
      // The source's own message might contain a secret.
      String kind = error.getClass().getSimpleName();
      throw new TidingsException("unavailable", "the token source failed: " + kind);
    }
    endsAt = expiry(token);
    if (endsAt.equals(Instant.MAX)) {
      renewAt = endsAt;
    } else {
      Duration half = Duration.between(Instant.now(), endsAt).dividedBy(2);
      renewAt = endsAt.minus(half.compareTo(EARLY) < 0 ? half : EARLY);
    }
    return token;
  }

  /** The server refused this token. Returns true if there may be another one. */
  synchronized boolean refused(String refused) {
    if (source == null) {
      return false;
    }
    if (refused != null && refused.equals(token)) {
      token = null;
    }
    return true;
  }

  private static Instant expiry(String token) {
    String[] parts = token.split("\\.");
    if (parts.length != 3) {
      return Instant.MAX;
    }
    try {
      String claims = new String(Base64.getUrlDecoder().decode(parts[1]), StandardCharsets.UTF_8);
      Matcher expiry = EXPIRY.matcher(claims);
      return expiry.find() ? Instant.ofEpochSecond(Long.parseLong(expiry.group(1))) : Instant.MAX;
    } catch (IllegalArgumentException notBase64) {
      return Instant.MAX;
    }
  }
}
