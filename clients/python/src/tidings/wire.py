"""Converts between the types of this package and those of the schema."""

from __future__ import annotations

import uuid
from typing import Any

from .encoding import Encode
from .encoding import encode as encode_json
from .types import UTC, Cursor, Event, Gap, HistoryPage, NewEvent, Position, Published, PublishedTo
from .v1 import event_pb2, event_service_pb2


def request(new: NewEvent, encode: Encode = encode_json) -> event_service_pb2.PublishRequest:
    """The request to publish an event. It has an idempotency key, unless it has no channel."""
    channels = [new.channel] if isinstance(new.channel, str) else list(new.channel or ())
    built = event_service_pb2.PublishRequest(
        channels=channels,
        type=new.type,
        data=payload(new.data, encode),
        content_type=new.content_type,
        headers=dict(new.headers),
        key=new.key,
        idempotency_key=new.idempotency_key,
        source=new.source,
        skip_history=new.skip_history,
        expected_offset=new.expected_offset,
        traceparent=new.traceparent,
        tracestate=new.tracestate,
    )
    if new.ttl is not None:
        built.ttl.FromMicroseconds(round(new.ttl * 1_000_000))
    if new.time is not None:
        built.time.FromDatetime(new.time)
    if new.audience is not None:
        built.audience.users.extend(new.audience.users)
        built.audience.roles.extend(new.audience.roles)
        built.audience.connections.extend(new.audience.connections)
        built.audience.except_connections.extend(new.audience.except_connections)
    if not built.idempotency_key and repeatable(built):
        built.idempotency_key = uuid.uuid4().hex
    return built


def repeatable(asked: event_service_pb2.PublishRequest) -> bool:
    """True if a retry is recognized. Keys are remembered per channel, so not for direct delivery."""
    return bool(asked.channels) or not asked.HasField("audience")


def payload(data: Any, encode: Encode = encode_json) -> bytes:
    """Bytes as they are, anything else as JSON."""
    if isinstance(data, bytes):
        return data
    encoded = encode(data)
    return encoded.encode() if isinstance(encoded, str) else encoded


def published(answer: event_service_pb2.PublishResponse) -> Published:
    """The result of publishing an event."""
    results = (
        PublishedTo(
            result.channel,
            position(result.position) if result.HasField("position") else None,
            result.subscribers,
            result.duplicate,
        )
        for result in answer.results
    )
    return Published(answer.id, tuple(results))


def event(message: event_pb2.Event) -> Event:
    """An event."""
    return Event(
        id=message.id,
        type=message.type,
        channel=message.channel,
        time=message.time.ToDatetime(tzinfo=UTC),
        data=message.data,
        content_type=message.content_type or "application/json",
        source=message.source,
        headers=dict(message.headers),
        traceparent=message.traceparent,
        tracestate=message.tracestate,
        position=position(message.position) if message.HasField("position") else None,
    )


def gap(message: event_service_pb2.Gap) -> Gap:
    """A gap. `from` is a keyword of Python, so the field is read by name."""
    return Gap(message.channel, getattr(message, "from"), message.to, message.reason)


def page(answer: event_service_pb2.GetHistoryResponse) -> HistoryPage:
    """A page of history."""
    events = tuple(event(message) for message in answer.events)
    return HistoryPage(events, position(answer.position), answer.next_page_token)


def cursor(message: event_service_pb2.Cursor) -> Cursor:
    """A cursor."""
    return Cursor(
        user=message.user,
        durable=message.durable,
        channel=message.channel,
        position=position(message.position),
        used_at=message.used_at.ToDatetime(tzinfo=UTC),
    )


def position(message: event_pb2.Position) -> Position:
    """A position."""
    return Position(message.epoch, message.offset)


def place(at: Position) -> event_pb2.Position:
    """The protobuf form of a position."""
    return event_pb2.Position(epoch=at.epoch, offset=at.offset)
