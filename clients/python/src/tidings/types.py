"""The public types."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any


@dataclass(frozen=True)
class Position:
    """A position in a channel: the `offset` of an event, within an `epoch`."""

    epoch: str
    offset: int

    @classmethod
    def parse(cls, text: str) -> Position:
        """Parses `EPOCH/OFFSET`."""
        epoch, slash, offset = text.rpartition("/")
        if not (slash and epoch and offset.isdecimal()):
            raise ValueError("expected EPOCH/OFFSET")
        return cls(epoch, int(offset))

    def __str__(self) -> str:
        return f"{self.epoch}/{self.offset}"


@dataclass(frozen=True)
class Event:
    """An event as it was published.

    `channel` is empty if it was sent directly to users, roles or connections. `position` is None if the
    channel keeps no history. `traceparent` and `tracestate` are W3C Trace Context.
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


@dataclass(frozen=True)
class Subscribed:
    """The state of a channel's subscription, at the start and after each reconnect.

    `recovered` is None if there was nothing to resume. True: every event after the position follows, each
    once. False: events may have been missed and are lost, so reload the state. `cursor` is the acknowledged
    offset of a durable subscription.
    """

    channel: str
    position: Position | None
    recovered: bool | None
    replayed: int = 0
    cursor: int | None = None

    @property
    def stale(self) -> bool:
        """True if the state that the events led to must be reloaded."""
        return self.recovered is False


@dataclass(frozen=True)
class Gap:
    """The events with offsets `first` to `last` will not be delivered. Both are 0 without history."""

    channel: str
    first: int
    last: int
    reason: str

    @property
    def stale(self) -> bool:
        """True if the state must be reloaded: the lost events are not replaced by newer ones."""
        return self.reason != "conflated"


@dataclass(frozen=True)
class Audience:
    """The audience of an event. A connection matches if any of the first three names it."""

    users: Sequence[str] = ()
    roles: Sequence[str] = ()
    connections: Sequence[str] = ()
    except_connections: Sequence[str] = ()


@dataclass(frozen=True)
class NewEvent:
    """An event to publish.

    Give the fields by name. `channel` is one name or several. None means `global`, or with an audience,
    directly to it. `data` is sent unchanged if it is bytes, and as JSON otherwise (see `tidings.encode`).
    `content_type` is that of bytes; empty means JSON. `key` is the conflation key. Without an
    `idempotency_key`, the client generates one. `ttl` is for how many seconds the event may be replayed and
    read. With `skip_history` it is delivered and kept nowhere. With `expected_offset` it is published only if
    that is the channel's newest offset, 0 before its first event; otherwise `failed_precondition`.
    `traceparent` and `tracestate` are W3C Trace Context of this event, in place of the call's.
    """

    type: str
    channel: str | Sequence[str] | None = None
    data: Any = None
    content_type: str = ""
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    audience: Audience | None = None
    source: str = ""
    time: datetime | None = None
    idempotency_key: str = ""
    ttl: float | None = None
    skip_history: bool = False
    expected_offset: int | None = None
    traceparent: str = ""
    tracestate: str = ""

    def __post_init__(self) -> None:
        if self.content_type and not isinstance(self.data, bytes):
            raise TypeError("data: expected bytes, where content_type says what they are")
        if self.time is not None and self.time.tzinfo is None:
            raise ValueError("time: expected a time zone, such as timezone.utc")


@dataclass(frozen=True)
class PublishedTo:
    """The result of publishing an event to one channel."""

    channel: str
    position: Position | None
    subscribers: int
    duplicate: bool


@dataclass(frozen=True)
class Published:
    """The result of publishing an event: its id, and its position in each channel."""

    id: str
    results: tuple[PublishedTo, ...]

    @property
    def position(self) -> Position | None:
        """Its position in the first channel, if that keeps history."""
        return self.results[0].position if self.results else None

    @property
    def duplicate(self) -> bool:
        """True if an earlier publish had the same idempotency key in every channel."""
        return bool(self.results) and all(result.duplicate for result in self.results)


@dataclass(frozen=True)
class HistoryPage:
    """A page of a channel's history. `next_page_token` is empty on the last page."""

    events: tuple[Event, ...]
    position: Position
    next_page_token: str


@dataclass(frozen=True)
class Presence:
    """The presence of a channel: connections by user, at most 1,000 users. `total` counts all users."""

    users: Mapping[str, int]
    total: int


@dataclass(frozen=True)
class Purged:
    """The result of a purge: how many events, and the channel's newest position, which does not change."""

    purged: int
    position: Position | None


@dataclass(frozen=True)
class Cursor:
    """How far a user has acknowledged a channel. `used_at` is when it was last moved, or used."""

    user: str
    durable: str
    channel: str
    position: Position
    used_at: datetime


UTC = timezone.utc
