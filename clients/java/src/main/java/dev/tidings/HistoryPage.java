package dev.tidings;

import java.util.List;

/**
 * A page of a channel's history.
 *
 * @param events the events
 * @param position the channel's newest position
 * @param nextPageToken empty on the last page
 */
public record HistoryPage(List<Event> events, Position position, String nextPageToken) {}
