package dev.tidings;

/** A step of a subscription. */
public sealed interface Step permits Event, Gap, Subscribed {
  /** The channel. Empty for an event that was sent directly to users, roles or connections. */
  String channel();

  /** True if events were missed and will not come, so that the state that they led to must be reloaded. */
  boolean isStale();
}
