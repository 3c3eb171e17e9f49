"""Units that need no server."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from conftest import token
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from tidings import Backoff, Event, NewEvent, Position, Subscribed
from tidings.errors import from_status
from tidings.positions import Positions
from tidings.token import expiry
from tidings.v1 import event_pb2, event_service_pb2


def an_event(channel: str, epoch: str, offset: int) -> Event:
    when = datetime.now(timezone.utc)
    return Event(
        str(offset), "n", channel, when, b"", "application/json", "", {}, "", "", Position(epoch, offset)
    )


def stands(*channels: event_service_pb2.SubscribedChannel) -> event_service_pb2.Subscribed:
    return event_service_pb2.Subscribed(channels=channels)


def one(channel: str, offset: int | None = None, **more: object) -> event_service_pb2.SubscribedChannel:
    entry = event_service_pb2.SubscribedChannel(channel=channel, **more)  # type: ignore[arg-type]
    if offset is not None:
        entry.position.CopyFrom(event_pb2.Position(epoch="e", offset=offset))
    return entry


def test_position_round_trips() -> None:
    assert Position.parse("e/17") == Position("e", 17)
    assert str(Position("e", 17)) == "e/17"
    for wrong in ("", "17", "/17", "e/", "e/-1", "e/x"):
        with pytest.raises(ValueError, match="EPOCH/OFFSET"):
            Position.parse(wrong)


def test_backoff_grows_to_limit_and_respects_advice() -> None:
    backoff = Backoff(first=1, longest=8)
    for failures, most in ((0, 1), (1, 2), (2, 4), (3, 8), (1000, 8)):
        pauses = [backoff.pause(failures) for _ in range(200)]
        assert 0 <= min(pauses) < most / 4
        assert most * 3 / 4 < max(pauses) <= most
    assert 5 <= backoff.pause(0, 5) <= 6


def test_token_expiry_is_parsed() -> None:
    assert expiry("not a token") == float("inf")
    assert expiry("a.b.c") == float("inf")
    assert abs(expiry(token(ttl=100)) - datetime.now().timestamp() - 100) < 5


def test_error_details_have_field_and_retry_delay() -> None:
    details = []
    for detail in (
        error_details_pb2.BadRequest(
            field_violations=[error_details_pb2.BadRequest.FieldViolation(field="type", description="no")]
        ),
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1, nanos=500_000_000)),
    ):
        packed = any_pb2.Any()
        packed.Pack(detail)
        details.append(packed)
    error = from_status(status_pb2.Status(code=8, message="slow down", details=details))
    assert (error.code, error.field, error.retry_after) == ("resource_exhausted", "type", 1.5)
    assert error.passing
    assert not from_status(status_pb2.Status(code=8, message="full")).passing


def test_invalid_new_event_is_refused() -> None:
    with pytest.raises(TypeError, match="data"):
        NewEvent(type="n", data={}, content_type="text/plain")
    with pytest.raises(ValueError, match="time"):
        NewEvent(type="n", time=datetime(2026, 1, 1))


def test_event_is_delivered_once() -> None:
    positions = Positions(["a"], {}, 0, 10)
    positions.subscriptions()
    positions.subscribed(stands(one("a", 5)))
    assert positions.event(an_event("a", "e", 5)) == []
    assert len(positions.event(an_event("a", "e", 6))) == 1
    assert positions.event(an_event("a", "e", 6)) == []
    assert positions.positions() == {"a": Position("e", 6)}


def test_rewound_events_are_delivered() -> None:
    positions = Positions(["a"], {}, 3, 10)
    [asked] = positions.subscriptions()
    assert asked.rewind == 3
    positions.subscribed(stands(one("a", 5, replayed=3)))
    assert [len(positions.event(an_event("a", "e", offset))) for offset in (3, 4, 5, 6)] == [1] * 4
    [asked] = positions.subscriptions()
    assert (asked.rewind, asked.since.offset) == (0, 6)


def test_position_is_kept_until_next_event() -> None:
    positions = Positions(["a"], {"a": Position("e", 2)}, 0, 10)
    positions.subscriptions()
    [how] = positions.subscribed(stands(one("a", 5, recovered=True, replayed=3)))
    assert how.recovered is True
    assert positions.positions() == {"a": Position("e", 2)}
    positions.event(an_event("a", "e", 3))
    assert positions.positions() == {"a": Position("e", 3)}


def test_channel_without_history_is_not_recovered() -> None:
    positions = Positions(["a"], {}, 0, 10)
    told = []
    for _ in range(2):
        positions.subscriptions()
        told += positions.subscribed(stands(one("a")))
    assert [how.recovered for how in told] == [None, False]


def test_new_epoch_is_reported_to_pattern() -> None:
    positions = Positions(["a:*"], {}, 0, 10)
    positions.subscriptions()
    positions.subscribed(stands(one("a:*")))
    assert len(positions.event(an_event("a:1", "old", 7))) == 1
    notice, event = positions.event(an_event("a:1", "new", 3))
    assert notice == Subscribed("a:1", Position("new", 2), False)
    assert isinstance(event, Event)


def test_least_recent_channels_of_pattern_are_dropped() -> None:
    positions = Positions(["a:*"], {}, 0, 2)
    for channel in ("a:1", "a:2", "a:1", "a:3"):
        offset = positions.positions().get(channel, Position("e", 0)).offset + 1
        positions.event(an_event(channel, "e", offset))
    assert set(positions.positions()) == {"a:1", "a:3"}
    assert [asked.channel for asked in positions.subscriptions()] == ["a:*", "a:1", "a:3"]
