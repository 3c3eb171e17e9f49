"""The synchronous client: for Django, Flask, Celery, scripts, and everything else without `asyncio`."""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

from . import client as asynchronous
from .background import BackgroundStats
from .backoff import Backoff
from .connection import Tls
from .encoding import Encode
from .encoding import encode as encode_json
from .errors import TidingsError
from .publisher import Publisher as AsyncPublisher
from .subscription import Subscription as AsyncSubscription
from .subscription import warn_of_stale
from .sync_admin import Admin
from .threads import LoopThread, result_of
from .token import TokenProvider, in_a_thread
from .types import (
    Audience,
    Cursor,
    Event,
    Gap,
    HistoryPage,
    NewEvent,
    Position,
    Presence,
    Published,
    Purged,
    Subscribed,
)
from .v1 import connection_service_pb2

Item = TypeVar("Item")
Result = TypeVar("Result")

__all__ = ["Admin", "Publisher", "Subscription", "Tidings"]


class Tidings:
    """A client of one server, for any number of threads.

    It may be created at any time, also at import: it connects with the first call, in a thread of its own.
    A forked process (Celery, Gunicorn, uWSGI) that inherits it makes its own connection. For the arguments
    see `tidings.Tidings`. At exit, events of `fire_and_forget` are sent for up to `exit_timeout` seconds.
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
        exit_timeout: float = 5.0,
    ) -> None:
        if queue_events < 1 or queue_bytes < 1:
            raise ValueError("queue_events, queue_bytes: expected 1 or more")
        # A synchronous provider may block, which must not hold up the event loop.
        provider = in_a_thread(token) if callable(token) else token

        async def create() -> asynchronous.Tidings:
            return asynchronous.Tidings(
                address,
                token=provider,
                tls=tls,
                timeout=timeout,
                backoff=backoff,
                keepalive=keepalive,
                encode=encode,
                queue_events=queue_events,
                queue_bytes=queue_bytes,
            )

        self._create = create
        self._encode = encode
        self._exit_timeout = exit_timeout
        self._loop = LoopThread(f"tidings {address}")
        self._loop.on_fork = self._after_fork
        self._creating = threading.Lock()
        self._client: asynchronous.Tidings | None = None
        self._closed = False
        self.admin = Admin(self)
        """Connections, channels, counters and the catalog."""
        _clients.add(self)

    def __enter__(self) -> Tidings:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.flush(self._exit_timeout)
        self.close()

    def close(self) -> None:
        """Cancels all calls and closes the connection. Call `flush` before if `fire_and_forget` was used.

        Leaving `with` does that, within `exit_timeout`.
        """
        with self._creating:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            self._loop.run(client.close())
            self._loop.stop()

    def publish(
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
        return self._run(
            lambda client: client.publish(
                channel,
                type,
                data,
                content_type=content_type,
                key=key,
                headers=headers,
                audience=audience,
                source=source,
                time=time,
                idempotency_key=idempotency_key,
                ttl=ttl,
                skip_history=skip_history,
                expected_offset=expected_offset,
                traceparent=traceparent,
                tracestate=tracestate,
                timeout=timeout,
            )
        )

    def publish_batch(
        self, events: Iterable[NewEvent], *, timeout: float | None = None
    ) -> list[Published | TidingsError]:
        """Publishes events in order. Returns a result or an error for each. See `tidings.Tidings`."""
        return self._run(lambda client: client.publish_batch(events, timeout=timeout))

    def publisher(self, *, in_flight: int = 256, timeout: float | None = None) -> Publisher:
        """A stream for many events, of which at most `in_flight` are unacknowledged."""

        async def create(client: asynchronous.Tidings) -> AsyncPublisher:
            return client.publisher(in_flight=in_flight, timeout=timeout)

        return Publisher(self._loop, self._run(create))

    def fire_and_forget(
        self, channel: str | Sequence[str] | None, type: str, data: Any = None, **fields: Any
    ) -> bool:
        """Publishes one event in the background, and returns at once. `fields` are those of `NewEvent`.

        Returns False if the queue is full: the event is dropped. Never raises for the server's sake, but
        for a payload that cannot be encoded. `background_stats` counts what became of them.
        """
        return self.queue(NewEvent(channel=channel, type=type, data=data, **fields))

    def queue(self, event: NewEvent) -> bool:
        """Publishes one event in the background, like `fire_and_forget`."""
        if self._closed:
            return False
        return self._get().queue(event)

    @property
    def background_stats(self) -> BackgroundStats:
        """The counters of `fire_and_forget` in this process."""
        return self._client.background_stats if self._client else BackgroundStats(0, 0, 0, 0)

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until `fire_and_forget` has nothing pending. Returns False on timeout."""
        if self._client is None:
            return True
        return self._run(lambda client: client.flush(timeout))

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
        """Subscribes to channels: names, `namespace:*` or `*`. See `tidings.Tidings`."""

        async def create(client: asynchronous.Tidings) -> AsyncSubscription:
            return client.subscribe(
                *channels,
                since=since,
                rewind=rewind,
                event_types=event_types,
                filter=filter,
                remember=remember,
                durable=durable,
                auto_ack=auto_ack,
                min_interval=min_interval,
            )

        return Subscription(self._loop, self._run(create))

    def ack(
        self, channel: str, offset: int, *, durable: str, user: str = "", timeout: float | None = None
    ) -> None:
        """Acknowledges events of the durable subscription `durable`. See `tidings.Tidings`."""
        self._run(lambda client: client.ack(channel, offset, durable=durable, user=user, timeout=timeout))

    def get_cursors(self, *, channel: str = "", user: str = "", durable: str = "") -> Iterator[Cursor]:
        """The cursors of durable subscriptions that match all conditions. Needs role `service` or `admin`."""
        return self._each(lambda client: client.get_cursors(channel=channel, user=user, durable=durable))

    def purge_history(
        self,
        channel: str,
        *,
        until_offset: int | None = None,
        user: str = "",
        timeout: float | None = None,
    ) -> Purged:
        """Removes events from a channel's history: up to an offset, of one user, or all."""
        return self._run(
            lambda client: client.purge_history(
                channel, until_offset=until_offset, user=user, timeout=timeout
            )
        )

    def subscribe_user(
        self,
        *channels: str,
        user: str = "",
        connection_id: str = "",
        event_types: Sequence[str] = (),
        filter: str = "",
        timeout: float | None = None,
    ) -> int:
        """Subscribes the connections that a user has now, or one connection. Returns how many."""
        return self._run(
            lambda client: client.subscribe_user(
                *channels,
                user=user,
                connection_id=connection_id,
                event_types=event_types,
                filter=filter,
                timeout=timeout,
            )
        )

    def unsubscribe_user(
        self, *channels: str, user: str = "", connection_id: str = "", timeout: float | None = None
    ) -> int:
        """Ends subscriptions of a user's connections, or of one. Returns how many connections there are."""
        return self._run(
            lambda client: client.unsubscribe_user(
                *channels, user=user, connection_id=connection_id, timeout=timeout
            )
        )

    def history_page(
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
        return self._run(
            lambda client: client.history_page(
                channel,
                since=since,
                page_size=page_size,
                page_token=page_token,
                reverse=reverse,
                timeout=timeout,
            )
        )

    def history(
        self, channel: str, *, since: Position | None = None, page_size: int = 100, reverse: bool = False
    ) -> Iterator[Event]:
        """Iterates over a channel's history, page by page."""
        token = ""
        while True:
            page = self.history_page(
                channel, since=since, page_size=page_size, page_token=token, reverse=reverse
            )
            yield from page.events
            token = page.next_page_token
            if not token:
                return

    def presence(self, channel: str, *, timeout: float | None = None) -> Presence:
        """The presence of a channel. Needs role `service` or `admin`."""
        return self._run(lambda client: client.presence(channel, timeout=timeout))

    def stats(self, *, timeout: float | None = None) -> connection_service_pb2.Stats:
        """The server's current counters. Needs role `admin`."""
        return self._run(lambda client: client.stats(timeout=timeout))

    def submit(
        self, channel: str | Sequence[str] | None, type: str, data: Any = None, **fields: Any
    ) -> Future[Published]:
        """Publishes one event as `publish` does, but returns a future. `fields` are those of `NewEvent`."""
        return self.submit_event(NewEvent(channel=channel, type=type, data=data, **fields))

    def submit_event(self, event: NewEvent) -> Future[Published]:
        """Publishes one event as `publish` does, but returns a future."""
        return self._loop.submit(self._get().publish_event(event))

    def _run(self, call: Callable[[asynchronous.Tidings], Awaitable[Result]]) -> Result:
        return self._loop.run(result_of(call(self._get())))

    def _each(self, call: Callable[[asynchronous.Tidings], AsyncIterator[Item]]) -> Iterator[Item]:
        items = call(self._get())
        try:
            while True:
                try:
                    yield self._loop.run(result_of(items.__anext__()))
                except StopAsyncIteration:
                    return
        finally:
            aclose = getattr(items, "aclose", None)
            if aclose is not None and self._loop.running:
                self._loop.run(result_of(aclose()))

    def _get(self) -> asynchronous.Tidings:
        client = self._client
        if client is not None:
            return client
        with self._creating:
            if self._closed:
                raise TidingsError("cancelled", "the client was closed")
            if self._client is None:
                self._client = self._loop.run(self._create())
            return self._client

    def _after_fork(self) -> None:
        # What the queue holds is the parent's, which sends it.
        self._creating = threading.Lock()
        self._client = None

    def _at_exit(self) -> None:
        if self._client is not None and not self._closed:
            self.flush(self._exit_timeout)
            self.close()


class Subscription:
    """Subscribes to channels. Iterate over it from one thread at a time; see `tidings.Subscription`."""

    def __init__(self, loop: LoopThread, subscription: AsyncSubscription) -> None:
        self._loop = loop
        self._subscription = subscription

    @property
    def positions(self) -> dict[str, Position]:
        """For each channel, the position after the last delivered event: the `since` for resuming later."""
        return self._subscription.positions

    @property
    def connection_id(self) -> str:
        """The server's id of the latest connection. Empty before the first."""
        return self._subscription.connection_id

    def ack(self, channel: str, offset: int) -> None:
        """Acknowledges all events of a channel up to this offset. See `tidings.Subscription`."""
        self._loop.run(self._subscription.ack(channel, offset))

    def __iter__(self) -> Subscription:
        return self

    def __next__(self) -> Event | Gap | Subscribed:
        try:
            return self._loop.run(self._subscription.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def get(self, timeout: float) -> Event | Gap | Subscribed | None:
        """The next step. None if there is none within `timeout` seconds, and nothing is lost by that.

        Raises `TidingsError` (`cancelled`) if the subscription was closed.
        """

        async def wait() -> Event | Gap | Subscribed | None:
            try:
                return await asyncio.wait_for(self._subscription.__anext__(), timeout)
            except asyncio.TimeoutError:
                return None

        try:
            return self._loop.run(wait())
        except StopAsyncIteration:
            raise TidingsError("cancelled", "the subscription is closed") from None

    def events(self, on_stale: Callable[[Gap | Subscribed], None] | None = None) -> Iterator[Event]:
        """Yields only events. `on_stale` is called when events were missed and are lost.

        Without it, a warning is logged.
        """
        for step in self:
            if isinstance(step, Event):
                yield step
            elif step.stale and on_stale is not None:
                on_stale(step)
            elif step.stale:
                warn_of_stale(step)

    def close(self) -> None:
        """Ends the subscription. May be called from another thread than the one that iterates."""
        if self._loop.running:
            self._loop.run(self._subscription.aclose())

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Publisher:
    """Publishes events in order without waiting for each: `with client.publisher() as publisher`.

    `publish` waits while `in_flight` events are unacknowledged. Leaving the block waits until everything is
    acknowledged, and raises the first failure. See `tidings.Publisher`.
    """

    def __init__(self, loop: LoopThread, publisher: AsyncPublisher) -> None:
        self._loop = loop
        self._publisher = publisher

    @property
    def in_flight(self) -> int:
        """The number of unacknowledged events."""
        return self._publisher.in_flight

    def publish(self, event: NewEvent) -> Future[Published]:
        """Queues an event, once there is space. The future is its result, or raises `TidingsError`."""
        result: Future[Published] = Future()

        async def send() -> None:
            answer = await self._publisher.publish(event)
            answer.add_done_callback(lambda done: _copy(done, result))

        self._loop.run(send())
        return result

    def flush(self) -> None:
        """Waits until every event is acknowledged. Raises the first failure since the last call."""
        self._loop.run(self._publisher.flush())

    def close(self) -> None:
        """Cancels all unacknowledged events."""
        if self._loop.running:
            self._loop.run(self._publisher.aclose())

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()


def _copy(done: asyncio.Future[Published], result: Future[Published]) -> None:
    if not result.set_running_or_notify_cancel():
        return
    if done.cancelled():
        result.set_exception(TidingsError("cancelled", "the publisher is closed"))
        return
    error = done.exception()
    if error is not None:
        result.set_exception(error)
    else:
        result.set_result(done.result())


_clients: weakref.WeakSet[Tidings] = weakref.WeakSet()


def _at_exit() -> None:
    for client in list(_clients):
        client._at_exit()


atexit.register(_at_exit)
