"""What goes in and what comes out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a channel: behind the event with this `offset`, in the numbering named `epoch`."""

    epoch: str
    offset: int

    @classmethod
    def parse(cls, text: str) -> Position:
        """Reads `EPOCH/OFFSET`."""
        epoch, slash, offset = text.rpartition("/")
        if not (slash and epoch and offset.isdecimal()):
            raise ValueError("expected EPOCH/OFFSET")
        return cls(epoch, int(offset))

    def __str__(self) -> str:
        return f"{self.epoch}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it was published.

    `channel` is empty where it was sent straight to users, roles or connections, and `position` is
    missing where the channel keeps no history. `traceparent` and `tracestate` are W3C Trace Context.
    """

    id: str
    type: str
    channel: str
    time: datetime
    data: bytes
    content_type: str
    source: str
    headers: Mapping[str, str]
    traceparent: str
    tracestate: str
    position: Position | None

    def json(self) -> Any:
        """The payload, which must be JSON."""
        return json.loads(self.data)


@dataclass(frozen=True, slots=True)
class Subscribed:
    """How the subscription to a channel stands, at its beginning and whenever it begins again.

    `recovered` is None where there was nothing to resume; True where every event after the position
    follows, each once; False where something may have been missed and will not come: load the state anew.
    """

    channel: str
    position: Position | None
    recovered: bool | None
    replayed: int = 0

    @property
    def stale(self) -> bool:
        """True if what the events led to has to be loaded anew."""
        return self.recovered is False


@dataclass(frozen=True, slots=True)
class Gap:
    """The events with the offsets `first` to `last` will not come; both are 0 without history."""

    channel: str
    first: int
    last: int
    reason: str

    @property
    def stale(self) -> bool:
        """True if what the events led to has to be loaded anew: newer ones do not stand for them."""
        return self.reason != "conflated"


@dataclass(frozen=True, slots=True)
class Audience:
    """For whom an event is; a connection is meant if any of the first three names it."""

    users: Sequence[str] = ()
    roles: Sequence[str] = ()
    connections: Sequence[str] = ()
    except_connections: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event to publish.

    `channel` is a name or several; None is `global`, or with an audience straight to that. `data` is sent
    as it is where it is bytes, and as JSON otherwise; `content_type` is that of bytes, JSON if it is empty.
    `key` says what the event is about, for conflation. Without an `idempotency_key` the client makes one.
    """

    channel: str | Sequence[str] | None = None
    type: str
    data: Any = None
    content_type: str = ""
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    audience: Audience | None = None
    source: str = ""
    time: datetime | None = None
    idempotency_key: str = ""

    def __post_init__(self) -> None:
        if self.content_type and not isinstance(self.data, bytes):
            raise TypeError("data: expected bytes, where content_type says what they are")
        if self.time is not None and self.time.tzinfo is None:
            raise ValueError("time: expected a time zone, such as timezone.utc")


@dataclass(frozen=True, slots=True)
class PublishedTo:
    """What became of an event in one channel."""

    channel: str
    position: Position | None
    subscribers: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Published:
    """What became of an event: its id, and its place in each channel."""

    id: str
    results: tuple[PublishedTo, ...]

    @property
    def position(self) -> Position | None:
        """Its place in the first channel, where that keeps history."""
        return self.results[0].position if self.results else None

    @property
    def duplicate(self) -> bool:
        """True if an earlier publish with the same idempotency key stands for this one everywhere."""
        return bool(self.results) and all(result.duplicate for result in self.results)


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A part of a channel's history; `next_page_token` is empty on the last page."""

    events: tuple[Event, ...]
    position: Position
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Presence:
    """Who is in a channel: connections by user, at most 1,000 users; `total` counts all users."""

    users: Mapping[str, int]
    total: int


UTC = timezone.utc
