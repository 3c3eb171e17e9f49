"""The client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any

import grpc.aio

from . import wire
from .acks import Acks
from .admin import Admin
from .background import Background, BackgroundStats
from .backoff import Backoff
from .connection import Connection, Deadline, Metadata, Tls
from .encoding import Encode
from .encoding import encode as encode_json
from .errors import TidingsError, from_status
from .positions import Positions
from .publisher import Publisher
from .subscription import Subscription
from .token import TokenProvider
from .types import Audience, Cursor, Event, HistoryPage, NewEvent, Position, Presence, Published, Purged
from .v1 import connection_service_pb2, event_service_pb2

# The server's limits on one batch, with a margin for the bytes.
_BATCH_EVENTS = 1000
_BATCH_BYTES = 8 << 20
# Items per page. The server's maximum.
_PAGE = 1000


class Tidings:
    """A client of one server. Must be created while an event loop runs.

    `token` is a JWT, or a function, sync or async, that returns one. It is called before the first call,
    before the token expires, and when the server refuses it; calls never overlap. `tls` is True for the
    default authorities, or `Tls`. Idempotent calls are retried with delays of `backoff` until `timeout`
    (seconds). After `keepalive` seconds of silence, a ping checks the connection. `encode` makes JSON of
    payloads. `queue_events` and `queue_bytes` bound what `fire_and_forget` may have pending.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:50051",
        *,
        token: str | TokenProvider | None = None,
        tls: Tls | bool = False,
        timeout: float = 30.0,
        backoff: Backoff | None = None,
        keepalive: float = 20.0,
        encode: Encode = encode_json,
        queue_events: int = 10_000,
        queue_bytes: int = 16 << 20,
    ) -> None:
        self._connection = Connection(address, token, tls, backoff or Backoff(), keepalive)
        self._timeout = timeout
        self._encode = encode
        self._background = Background(self.publisher, queue_events, queue_bytes)
        self.admin = Admin(self._connection, timeout)
        """Connections, channels, counters and the catalog."""

    async def __aenter__(self) -> Tidings:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.flush(self._timeout)
        await self.close()

    async def close(self) -> None:
        """Cancels all calls and closes the connection. Call `flush` before if `fire_and_forget` was used.

        Leaving `async with` does that, within `timeout`.
        """
        await self._background.close()
        await self._connection.close()

    @property
    def channel(self) -> grpc.aio.Channel:
        """The gRPC channel, for calls with the stubs in `tidings.v1`."""
        return self._connection.channel

    async def metadata(self) -> Metadata:
        """The `metadata` of such calls: the token and the trace context."""
        return (await self._connection.metadata())[0]

    async def publish(
        self,
        channel: str | Sequence[str] | None,
        type: str,
        data: Any = None,
        *,
        content_type: str = "",
        key: str = "",
        headers: Mapping[str, str] | None = None,
        audience: Audience | None = None,
        source: str = "",
        time: datetime | None = None,
        idempotency_key: str = "",
        ttl: float | None = None,
        skip_history: bool = False,
        expected_offset: int | None = None,
        traceparent: str = "",
        tracestate: str = "",
        timeout: float | None = None,
    ) -> Published:
        """Publishes one event. See `NewEvent` for the fields.

        Returns once the event has a position in every channel. Raises `TidingsError`.
        """
        event = NewEvent(
            channel=channel,
            type=type,
            data=data,
            content_type=content_type,
            key=key,
            headers=headers or {},
            audience=audience,
            source=source,
            time=time,
            idempotency_key=idempotency_key,
            ttl=ttl,
            skip_history=skip_history,
            expected_offset=expected_offset,
            traceparent=traceparent,
            tracestate=tracestate,
        )
        return await self.publish_event(event, timeout=timeout)

    async def publish_event(self, event: NewEvent, *, timeout: float | None = None) -> Published:
        """Publishes one event, as `publish` does."""
        request = wire.request(event, self._encode)
        publish = self._connection.events.Publish
        answer: event_service_pb2.PublishResponse = await self._connection.call(
            publish, request, self._of(timeout), wire.repeatable(request)
        )
        return wire.published(answer)

    async def publish_batch(
        self, events: Iterable[NewEvent], *, timeout: float | None = None
    ) -> list[Published | TidingsError]:
        """Publishes events in order. Returns a result or an error for each.

        Any number of events, split into as many calls as necessary. Events over the rate limit are retried
        until the timeout. Raises `TidingsError` if a whole call fails.
        """
        deadline = Deadline(self._of(timeout))
        requests = [wire.request(event, self._encode) for event in events]
        outcomes: dict[int, Published | TidingsError] = {}
        left = list(range(len(requests)))
        failures = 0
        while left:
            for part in _parts(left, requests):
                await self._batch(part, requests, outcomes, deadline)
            refused = {at: outcome for at in left if isinstance(outcome := outcomes[at], TidingsError)}
            left = [at for at, failure in refused.items() if failure.passing]
            advised = max((refused[at].retry_after or 0.0 for at in left), default=0.0)
            pause = self._connection.backoff.pause(failures, advised)
            if not left or pause >= deadline.left():
                break
            await asyncio.sleep(pause)
            failures += 1
        return [outcomes[at] for at in range(len(requests))]

    def publisher(self, *, in_flight: int = 256, timeout: float | None = None) -> Publisher:
        """A stream for many events, of which at most `in_flight` are unacknowledged."""
        return Publisher(self._connection, in_flight, self._of(timeout), self._encode)

    def fire_and_forget(
        self, channel: str | Sequence[str] | None, type: str, data: Any = None, **fields: Any
    ) -> bool:
        """Publishes one event in the background, and returns at once. `fields` are those of `NewEvent`.

        Events are published in order, and again after a failure, as `publisher` does. Returns False if the
        queue is full: the event is dropped. Never raises for the server's sake, but for a payload that
        cannot be encoded. `background_stats` counts what became of them.
        """
        return self.queue(NewEvent(channel=channel, type=type, data=data, **fields))

    def queue(self, event: NewEvent) -> bool:
        """Publishes one event in the background, like `fire_and_forget`. May be called from any thread."""
        return self._background.put(wire.request(event, self._encode))

    @property
    def background_stats(self) -> BackgroundStats:
        """The counters of `fire_and_forget`."""
        return self._background.stats

    async def flush(self, timeout: float | None = None) -> bool:
        """Waits until `fire_and_forget` has nothing pending. Returns False on timeout."""
        return await self._background.flush(timeout)

    def subscribe(
        self,
        *channels: str,
        since: Position | Mapping[str, Position] | None = None,
        rewind: int = 0,
        event_types: Sequence[str] = (),
        filter: str = "",
        remember: int = 100,
        durable: str = "",
        auto_ack: bool = False,
        min_interval: float = 0.0,
    ) -> Subscription:
        """Subscribes to channels: names, `namespace:*` or `*`. The default is `global`.

        `since` resumes after a position, or after one per channel; a pattern uses those of its channels.
        `rewind` replays the newest events of each other named channel. `event_types` are exact or end in
        `*`. `filter` is a CEL expression over the event. Of the channels received through a pattern,
        `remember` can be resumed; including the named ones, they should stay within the server's
        `limits.subscriptions_per_connection`.

        `durable` names a durable subscription: channels without `since` resume behind what the token's user
        has acknowledged, on any device. Acknowledge with `Subscription.ack`, or with `auto_ack`, which
        acknowledges an event when the next step is asked for. `min_interval` is the least time in seconds
        between two events of a key, of which only the newest is sent.
        """
        if auto_ack and not durable:
            raise ValueError("auto_ack: expected durable")
        names = channels or ("global",)
        if isinstance(since, Position):
            if len(names) != 1:
                raise ValueError("since: expected a position for each channel, by its name")
            since = {names[0]: since}

        async def send(channel: str, offset: int) -> None:
            await self.ack(channel, offset, durable=durable)

        acks = Acks(send) if durable else None
        positions = Positions(names, since or {}, 0 if durable else rewind, remember, acks)
        return Subscription(
            self._connection,
            positions,
            event_types,
            filter,
            self._timeout,
            acks,
            durable,
            auto_ack,
            min_interval,
        )

    async def ack(
        self, channel: str, offset: int, *, durable: str, user: str = "", timeout: float | None = None
    ) -> None:
        """Acknowledges events of the durable subscription `durable` up to an offset.

        A cursor never moves back. `user` is the token's; only services may name another.
        """
        request = event_service_pb2.AckRequest(channel=channel, durable=durable, offset=offset, user=user)
        await self._connection.call(self._connection.events.Ack, request, self._of(timeout))

    async def get_cursors(
        self, *, channel: str = "", user: str = "", durable: str = ""
    ) -> AsyncIterator[Cursor]:
        """The cursors of durable subscriptions that match all conditions. Needs role `service` or `admin`."""
        request = event_service_pb2.GetCursorsRequest(
            channel=channel, user=user, durable=durable, page_size=_PAGE
        )
        while True:
            page: event_service_pb2.GetCursorsResponse = await self._connection.call(
                self._connection.events.GetCursors, request, self._timeout
            )
            for cursor in page.cursors:
                yield wire.cursor(cursor)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def purge_history(
        self,
        channel: str,
        *,
        until_offset: int | None = None,
        user: str = "",
        timeout: float | None = None,
    ) -> Purged:
        """Removes events from a channel's history: up to an offset, of one user, or all.

        Needs role `service` or `admin`. Subscribers that have not received them get `gap` (`expired`).
        """
        request = event_service_pb2.PurgeHistoryRequest(channel=channel, until_offset=until_offset, user=user)
        answer: event_service_pb2.PurgeHistoryResponse = await self._connection.call(
            self._connection.events.PurgeHistory, request, self._of(timeout)
        )
        position = wire.position(answer.position) if answer.HasField("position") else None
        return Purged(answer.purged, position)

    async def subscribe_user(
        self,
        *channels: str,
        user: str = "",
        connection_id: str = "",
        event_types: Sequence[str] = (),
        filter: str = "",
        timeout: float | None = None,
    ) -> int:
        """Subscribes the connections that a user has now, or one connection. Returns how many.

        Needs role `service` or `admin`.
        """
        request = event_service_pb2.SubscribeUserRequest(
            user=user,
            connection_id=connection_id,
            channels=channels,
            event_types=event_types,
            filter=filter,
        )
        answer: event_service_pb2.SubscribeUserResponse = await self._connection.call(
            self._connection.events.SubscribeUser, request, self._of(timeout)
        )
        return answer.connections

    async def unsubscribe_user(
        self, *channels: str, user: str = "", connection_id: str = "", timeout: float | None = None
    ) -> int:
        """Ends subscriptions of a user's connections, or of one. Returns how many connections there are."""
        request = event_service_pb2.UnsubscribeUserRequest(
            user=user, connection_id=connection_id, channels=channels
        )
        answer: event_service_pb2.UnsubscribeUserResponse = await self._connection.call(
            self._connection.events.UnsubscribeUser, request, self._of(timeout)
        )
        return answer.connections

    async def history_page(
        self,
        channel: str,
        *,
        since: Position | None = None,
        page_size: int = 100,
        page_token: str = "",
        reverse: bool = False,
        timeout: float | None = None,
    ) -> HistoryPage:
        """Reads a page of a channel's history: after `since`, or before it if `reverse`."""
        request = event_service_pb2.GetHistoryRequest(
            channel=channel, page_size=page_size, page_token=page_token, reverse=reverse
        )
        if since is not None:
            request.since.CopyFrom(wire.place(since))
        get = self._connection.events.GetHistory
        answer: event_service_pb2.GetHistoryResponse = await self._connection.call(
            get, request, self._of(timeout)
        )
        return wire.page(answer)

    async def history(
        self,
        channel: str,
        *,
        since: Position | None = None,
        page_size: int = 100,
        reverse: bool = False,
    ) -> AsyncIterator[Event]:
        """Iterates over a channel's history, page by page."""
        token = ""
        while True:
            page = await self.history_page(
                channel, since=since, page_size=page_size, page_token=token, reverse=reverse
            )
            for event in page.events:
                yield event
            token = page.next_page_token
            if not token:
                return

    async def presence(self, channel: str, *, timeout: float | None = None) -> Presence:
        """The presence of a channel. Needs role `service` or `admin`."""
        request = connection_service_pb2.GetPresenceRequest(channel=channel)
        get = self._connection.connections.GetPresence
        answer: connection_service_pb2.GetPresenceResponse = await self._connection.call(
            get, request, self._of(timeout)
        )
        return Presence({user.user: user.connections for user in answer.users}, answer.total)

    async def stats(self, *, timeout: float | None = None) -> connection_service_pb2.Stats:
        """The server's current counters. Needs role `admin`."""
        get = self._connection.connections.GetStats
        answer: connection_service_pb2.GetStatsResponse = await self._connection.call(
            get, connection_service_pb2.GetStatsRequest(), self._of(timeout)
        )
        return answer.stats

    async def _batch(
        self,
        part: list[int],
        requests: list[event_service_pb2.PublishRequest],
        outcomes: dict[int, Published | TidingsError],
        deadline: Deadline,
    ) -> None:
        asked = event_service_pb2.PublishBatchRequest(requests=[requests[at] for at in part])
        repeatable = all(wire.repeatable(requests[at]) for at in part)
        publish = self._connection.events.PublishBatch
        answer: event_service_pb2.PublishBatchResponse = await self._connection.call(
            publish, asked, deadline.left(), repeatable
        )
        if len(answer.responses) != len(part):
            raise TidingsError("internal", "the server's answer has another number of results")
        for at, response in zip(part, answer.responses):
            refused = response.HasField("error")
            outcomes[at] = from_status(response.error) if refused else wire.published(response)

    def _of(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout


def _parts(left: list[int], requests: list[event_service_pb2.PublishRequest]) -> list[list[int]]:
    """Splits requests so that each part fits into one call."""
    parts: list[list[int]] = [[]]
    size = 0
    for at in left:
        bytes_ = requests[at].ByteSize()
        if parts[-1] and (len(parts[-1]) == _BATCH_EVENTS or size + bytes_ > _BATCH_BYTES):
            parts.append([])
            size = 0
        parts[-1].append(at)
        size += bytes_
    return parts
