"""The parts that need no server."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from conftest import token
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from tidings import Backoff, Event, NewEvent, Position, Subscribed
from tidings.errors import from_status
from tidings.places import Places
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


def test_positions_are_read_and_written() -> None:
    assert Position.parse("e/17") == Position("e", 17)
    assert str(Position("e", 17)) == "e/17"
    for wrong in ("", "17", "/17", "e/", "e/-1", "e/x"):
        with pytest.raises(ValueError, match="EPOCH/OFFSET"):
            Position.parse(wrong)


def test_pauses_grow_but_not_for_ever_and_heed_advice() -> None:
    backoff = Backoff(first=1, longest=8)
    for failures, most in ((0, 1), (1, 2), (2, 4), (3, 8), (1000, 8)):
        pauses = [backoff.pause(failures) for _ in range(200)]
        assert 0 <= min(pauses) < most / 4
        assert most * 3 / 4 < max(pauses) <= most
    assert 5 <= backoff.pause(0, 5) <= 6


def test_the_end_of_a_token_is_read_from_it() -> None:
    assert expiry("not a token") == float("inf")
    assert expiry("a.b.c") == float("inf")
    assert abs(expiry(token(ttl=100)) - datetime.now().timestamp() - 100) < 5


def test_advice_and_fields_are_found_in_the_details() -> None:
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


def test_a_new_event_says_what_is_wrong_with_it() -> None:
    with pytest.raises(TypeError, match="data"):
        NewEvent(type="n", data={}, content_type="text/plain")
    with pytest.raises(ValueError, match="time"):
        NewEvent(type="n", time=datetime(2026, 1, 1))


def test_an_event_is_handed_on_once() -> None:
    places = Places(["a"], {}, 0, 10)
    places.subscriptions()
    places.subscribed(stands(one("a", 5)))
    assert places.event(an_event("a", "e", 5)) == []
    assert len(places.event(an_event("a", "e", 6))) == 1
    assert places.event(an_event("a", "e", 6)) == []
    assert places.positions() == {"a": Position("e", 6)}


def test_events_that_a_rewind_brings_are_handed_on() -> None:
    places = Places(["a"], {}, 3, 10)
    [asked] = places.subscriptions()
    assert asked.rewind == 3
    places.subscribed(stands(one("a", 5, replayed=3)))
    assert [len(places.event(an_event("a", "e", offset))) for offset in (3, 4, 5, 6)] == [1] * 4
    [asked] = places.subscriptions()
    assert (asked.rewind, asked.since.offset) == (0, 6)


def test_a_position_is_kept_until_what_follows_it_has_come() -> None:
    places = Places(["a"], {"a": Position("e", 2)}, 0, 10)
    places.subscriptions()
    [how] = places.subscribed(stands(one("a", 5, recovered=True, replayed=3)))
    assert how.recovered is True
    assert places.positions() == {"a": Position("e", 2)}
    places.event(an_event("a", "e", 3))
    assert places.positions() == {"a": Position("e", 3)}


def test_a_channel_without_history_is_never_recovered() -> None:
    places = Places(["a"], {}, 0, 10)
    told = []
    for _ in range(2):
        places.subscriptions()
        told += places.subscribed(stands(one("a")))
    assert [how.recovered for how in told] == [None, False]


def test_a_new_numbering_is_told_even_to_a_pattern() -> None:
    places = Places(["a:*"], {}, 0, 10)
    places.subscriptions()
    places.subscribed(stands(one("a:*")))
    assert len(places.event(an_event("a:1", "old", 7))) == 1
    notice, event = places.event(an_event("a:1", "new", 3))
    assert notice == Subscribed("a:1", Position("new", 2), False)
    assert isinstance(event, Event)


def test_of_the_channels_of_a_pattern_those_that_were_quiet_for_longest_are_forgotten() -> None:
    places = Places(["a:*"], {}, 0, 2)
    for channel in ("a:1", "a:2", "a:1", "a:3"):
        offset = places.positions().get(channel, Position("e", 0)).offset + 1
        places.event(an_event(channel, "e", offset))
    assert set(places.positions()) == {"a:1", "a:3"}
    assert [asked.channel for asked in places.subscriptions()] == ["a:*", "a:1", "a:3"]
