import type { Presence, PresenceChange, TidingsEvent } from "./types.js";

/** The list with an event appended, at most `limit` long; the same list if it already contains the event. */
export function appendEvent<Event extends TidingsEvent>(events: Event[], event: Event, limit: number): Event[] {
  if (events.some(({ id }) => id === event.id)) return events;
  return [...events, event].slice(-limit);
}

/** The users present after somebody joined or left. */
export function changePresence(presence: Presence, { user, joined }: PresenceChange): Presence {
  const users = presence.users.filter((other) => other.user !== user);
  const was = presence.users.length - users.length;
  if (joined && user !== null) users.push(presence.users.find((other) => other.user === user) ?? { user, connections: 1 });
  // There may be more users than those listed by name: for them only the change counts.
  const total = Math.max(users.length, presence.total + (joined ? 1 - was : -1));
  return { ...presence, users, total };
}
