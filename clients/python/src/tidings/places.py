"""Where a subscription stands in each of its channels: what to ask for, and what to hand on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from . import wire
from .errors import TidingsError
from .types import Event, Position, Subscribed
from .v1 import event_service_pb2


def is_pattern(channel: str) -> bool:
    """True for `*` and `namespace:*`."""
    return channel == "*" or channel.endswith(":*")


def matches(pattern: str, channel: str) -> bool:
    """True if a channel is the one that is named, or one of the pattern's."""
    return pattern in ("*", channel) or (is_pattern(pattern) and channel.partition(":")[0] == pattern[:-2])


class Places:
    """The positions of one subscription.

    A pattern has no position. So the channels that came by it are noted, at most `most` of them, those that
    were quiet for longest going first; to resume, each is asked for by its own name.
    """

    def __init__(
        self,
        channels: Sequence[str],
        since: Mapping[str, Position],
        rewind: int,
        most: int,
    ) -> None:
        for name in since:
            if not any(matches(channel, name) for channel in channels):
                raise ValueError(f"since: {name} is not among the channels")
        self._asked = list(dict.fromkeys(channels))
        self._patterns = [channel for channel in self._asked if is_pattern(channel)]
        self._rewind = rewind
        self._most = most
        self._at: dict[str, Position] = {}
        self._noted: OrderedDict[str, Position] = OrderedDict()
        for name, position in since.items():
            self._move(name, position)
        # Whether there is something to resume, by the channel asked for.
        self._resumes = {c: c in since or (is_pattern(c) and bool(self._noted)) for c in self._asked}
        # What the stream that is open was asked to resume.
        self._sent: dict[str, Position] = {}
        self._opening = True

    def positions(self) -> dict[str, Position]:
        """The newest position of each channel, behind what was handed on."""
        return {**self._noted, **self._at}

    def subscriptions(self) -> list[event_service_pb2.Subscription]:
        """What to ask a new stream for."""
        self._opening = True
        self._sent = self.positions()
        asked = []
        for channel in [*self._asked, *self._noted]:
            wanted = event_service_pb2.Subscription(channel=channel)
            if channel in self._sent:
                wanted.since.CopyFrom(wire.place(self._sent[channel]))
            elif self._rewind and not is_pattern(channel):
                wanted.rewind = self._rewind
            asked.append(wanted)
        return asked

    def forget_noted(self) -> list[Subscribed]:
        """The server takes no more subscriptions: what patterns brought can't be resumed."""
        lost = [Subscribed(channel, None, False) for channel in self._noted]
        self._noted.clear()
        return lost

    def subscribed(self, message: event_service_pb2.Subscribed) -> list[Subscribed]:
        """How things stand now. Raises the error where a channel that was asked for is not followed."""
        told = []
        for refused in message.errors:
            if refused.channel in self._asked:
                raise TidingsError(refused.code, refused.message, channel=refused.channel)
            # By the pattern its events still come.
            if self._noted.pop(refused.channel, None) and self._opening:
                told.append(Subscribed(refused.channel, None, False))
        for entry in message.channels:
            told.append(self._began(entry))
        self._opening = False
        return told

    def event(self, event: Event) -> list[Event | Subscribed]:
        """What to hand on for an event: nothing, if it was handed on before."""
        if event.position is None:
            return [event]
        before = self._at.get(event.channel) or self._noted.get(event.channel)
        if before and before.epoch == event.position.epoch and event.position.offset <= before.offset:
            return []
        self._move(event.channel, event.position)
        if before and before.epoch != event.position.epoch:
            # Who follows by a pattern is not told of a new numbering otherwise.
            begins = Position(event.position.epoch, event.position.offset - 1)
            return [Subscribed(event.channel, begins, False), event]
        return [event]

    def _began(self, entry: event_service_pb2.SubscribedChannel) -> Subscribed:
        channel = entry.channel
        position = wire.position(entry.position) if entry.HasField("position") else None
        recovered: bool | None = False
        if self._opening:
            resumed = channel in self._sent or self._resumes.get(channel, False)
            recovered = entry.recovered if resumed else None
        if channel in self._resumes:
            self._resumes[channel] = True
        if position is None:
            self._at.pop(channel, None)
            self._noted.pop(channel, None)
        elif not recovered and not (self._opening and entry.replayed):
            # What is replayed comes from behind this position, and has to pass.
            self._move(channel, position)
        return Subscribed(channel, position, recovered, entry.replayed)

    def _move(self, channel: str, position: Position) -> None:
        if channel in self._asked:
            self._at[channel] = position
        elif self._patterns:
            self._noted[channel] = position
            self._noted.move_to_end(channel)
            if len(self._noted) > self._most:
                self._noted.popitem(last=False)
