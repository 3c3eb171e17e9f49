package dev.tidings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.time.Instant;
import java.util.Base64;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

class TokensTest {
  @Test
  void tokenIsKeptUntilItExpiresSoon() {
    AtomicInteger asked = new AtomicInteger();
    Tokens fresh = new Tokens(null, () -> token(3600, asked.incrementAndGet()));
    assertEquals(fresh.get(), fresh.get());
    assertEquals(1, asked.get());
    Tokens expired = new Tokens(null, () -> token(-10, asked.incrementAndGet()));
    expired.get();
    expired.get();
    assertEquals(3, asked.get());
  }

  @Test
  void refusedTokenIsReplaced() {
    AtomicInteger asked = new AtomicInteger();
    Tokens tokens = new Tokens(null, () -> "token-" + asked.incrementAndGet());
    String first = tokens.get();
    assertTrue(tokens.refused(first));
    assertEquals("token-2", tokens.get());
    // Another call was refused with the old one: the new one stays.
    assertTrue(tokens.refused(first));
    assertEquals("token-2", tokens.get());
    assertFalse(new Tokens("fixed", null).refused("fixed"));
  }

  @Test
  void failureOfTheSourceHidesItsMessage() {
    Tokens tokens =
        new Tokens(
            null,
            () -> {
              throw new IOException("secret-token");
            });
    TidingsException failure = assertThrows(TidingsException.class, tokens::get);
    assertEquals("unavailable", failure.code());
    assertFalse(failure.getMessage().contains("secret-token"));
  }

  private static String token(long seconds, int number) {
    String claims = "{\"exp\": " + Instant.now().plusSeconds(seconds).getEpochSecond() + ", \"n\": " + number + "}";
    return "h." + Base64.getUrlEncoder().withoutPadding().encodeToString(claims.getBytes()) + ".s";
  }
}
