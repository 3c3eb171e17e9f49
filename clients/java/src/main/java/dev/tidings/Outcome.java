package dev.tidings;

/**
 * The result of one event of a batch: one of the two is null.
 *
 * @param published the result
 * @param error why the event was refused
 */
public record Outcome(Published published, TidingsException error) {}
