"""The positions of a subscription in each channel: what to request, and which events to deliver."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from . import wire
from .acks import Acks
from .errors import TidingsError
from .types import Event, Gap, Position, Subscribed
from .v1 import event_service_pb2


def is_pattern(channel: str) -> bool:
    """True for `*` and `namespace:*`."""
    return channel == "*" or channel.endswith(":*")


def matches(pattern: str, channel: str) -> bool:
    """True if the pattern is this channel, or matches it."""
    return pattern in ("*", channel) or (is_pattern(pattern) and channel.partition(":")[0] == pattern[:-2])


class Positions:
    """The positions of one subscription.

    A pattern has no position. Hence, the channels received through it are tracked, at most `most` of them;
    the least recently active are dropped first. Each is resumed by its own name. A durable subscription, one
    with `acks`, resumes behind its cursors instead.
    """

    def __init__(
        self,
        channels: Sequence[str],
        since: Mapping[str, Position],
        rewind: int,
        most: int,
        acks: Acks | None = None,
    ) -> None:
        for name in since:
            if not any(matches(channel, name) for channel in channels):
                raise ValueError(f"since: {name} is not among the channels")
        self._requested = list(dict.fromkeys(channels))
        self._patterns = [channel for channel in self._requested if is_pattern(channel)]
        self._rewind = rewind
        self._most = most
        self._acks = acks
        # The channels of a durable subscription that have a cursor.
        self._cursors: set[str] = set()
        self._at: dict[str, Position] = {}
        self._tracked: OrderedDict[str, Position] = OrderedDict()
        for name, position in since.items():
            self._move(name, position)
        # Whether there is a position to resume from, by requested channel.
        self._resumes = {c: c in since or (is_pattern(c) and bool(self._tracked)) for c in self._requested}
        # What the current stream was asked to resume.
        self._sent: dict[str, Position] = {}
        self._opening = True

    def positions(self) -> dict[str, Position]:
        """The position of each channel, after the last delivered event."""
        return {**self._tracked, **self._at}

    def subscriptions(self) -> list[event_service_pb2.Subscription]:
        """The request for a new stream."""
        self._opening = True
        for channel in self._cursors:
            self._at.pop(channel, None)
        self._sent = self.positions()
        requested = []
        for channel in [*self._requested, *self._tracked]:
            wanted = event_service_pb2.Subscription(channel=channel)
            if channel in self._sent:
                wanted.since.CopyFrom(wire.place(self._sent[channel]))
            elif self._rewind and not is_pattern(channel):
                wanted.rewind = self._rewind
            requested.append(wanted)
        return requested

    def forget_noted(self) -> list[Subscribed]:
        """The server accepts no more subscriptions, so channels of patterns cannot be resumed."""
        lost = [Subscribed(channel, None, False) for channel in self._tracked]
        self._tracked.clear()
        return lost

    def subscribed(self, message: event_service_pb2.Subscribed) -> list[Subscribed]:
        """The state of each channel. Raises the error if a requested channel was refused."""
        steps = []
        for refused in message.errors:
            if refused.channel in self._requested:
                raise TidingsError(refused.code, refused.message, channel=refused.channel)
            # Its events still arrive through the pattern.
            if self._tracked.pop(refused.channel, None) and self._opening:
                steps.append(Subscribed(refused.channel, None, False))
        for entry in message.channels:
            steps.append(self._began(entry))
        self._opening = False
        return steps

    def event(self, event: Event) -> list[Event | Subscribed]:
        """The steps for an event. Empty if it was delivered before."""
        if event.position is None:
            return [event]
        before = self._at.get(event.channel) or self._tracked.get(event.channel)
        if before and before.epoch == event.position.epoch and event.position.offset <= before.offset:
            return []
        self._move(event.channel, event.position)
        if before and before.epoch != event.position.epoch:
            # A subscription by pattern is not told of a new epoch otherwise.
            begins = Position(event.position.epoch, event.position.offset - 1)
            return [Subscribed(event.channel, begins, False), event]
        return [event]

    def gap(self, gap: Gap) -> list[Gap]:
        """The step for a gap. Empty if all of it was delivered before.

        Its offsets will not come, so they are not requested again after a reconnect.
        """
        before = self._at.get(gap.channel) or self._tracked.get(gap.channel)
        if before and gap.last:
            if gap.last <= before.offset:
                return []
            self._move(gap.channel, Position(before.epoch, gap.last))
        return [gap]

    def _began(self, entry: event_service_pb2.SubscribedChannel) -> Subscribed:
        channel = entry.channel
        position = wire.position(entry.position) if entry.HasField("position") else None
        recovered: bool | None = False
        if self._acks is not None and position is not None:
            return self._durable_began(self._acks, entry, position)
        if self._opening:
            resumed = channel in self._sent or self._resumes.get(channel, False)
            recovered = entry.recovered if resumed else None
        if channel in self._resumes:
            self._resumes[channel] = True
        if position is None:
            self._at.pop(channel, None)
            self._tracked.pop(channel, None)
        elif not recovered and not (self._opening and entry.replayed):
            # Replayed events come after this position, and must not be skipped.
            self._move(channel, position)
        return Subscribed(channel, position, recovered, entry.replayed)

    def _durable_began(
        self, acks: Acks, entry: event_service_pb2.SubscribedChannel, position: Position
    ) -> Subscribed:
        channel = entry.channel
        self._cursors.add(channel)
        recovered = self._opening and entry.recovered
        cursor = entry.cursor if entry.HasField("cursor") else position.offset
        behind = acks.resumed(channel, Position(position.epoch, cursor))
        if not recovered:
            self._move(channel, position)
        elif channel not in self._at:
            self._move(channel, behind)
        return Subscribed(channel, position, recovered, entry.replayed, cursor)

    def _move(self, channel: str, position: Position) -> None:
        if channel in self._requested:
            self._at[channel] = position
        elif self._patterns:
            self._tracked[channel] = position
            self._tracked.move_to_end(channel)
            if len(self._tracked) > self._most:
                self._tracked.popitem(last=False)
