package dev.tidings;

/** Returns a token (a JWT). Calls never overlap. */
@FunctionalInterface
public interface TokenSource {
  /** A token that the server should accept. */
  String get() throws Exception;
}
