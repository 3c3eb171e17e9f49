"""A subscription over any number of connections."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Union

import grpc.aio

from . import wire
from .acks import Acks
from .connection import Connection
from .errors import TidingsError, from_call
from .positions import Positions
from .types import Event, Gap, Position, Subscribed
from .v1 import event_service_pb2

log = logging.getLogger("tidings")

Step = Union[Event, Gap, Subscribed]
"""A step of a subscription."""

OnStale = Callable[[Union[Gap, Subscribed]], Union[Awaitable[None], None]]
"""Called when events were missed and are lost."""

# What an ended subscription waits for its last acknowledgements.
_LAST_ACKS = 2.0
# A stream that was open for this many seconds resets the backoff.
_GOOD = 10.0


def warn_of_stale(step: Gap | Subscribed) -> None:
    """Logs that events were missed, for a program that gave no `on_stale`."""
    log.warning("%s: events were missed, and `on_stale` is not set", step.channel)


class Subscription:
    """Subscribes to channels. Iterate over it from one task at a time.

    It connects on the first step, and reconnects whenever the connection breaks. Each channel resumes after
    the last delivered event. There is no client-side queue: unread events wait at the server, within its
    limits. Iterating raises `TidingsError` if the server refuses a channel, or revokes the permission for
    it.

    A durable subscription resumes behind the last acknowledged event instead: events that were not
    acknowledged before a reconnect are delivered again.
    """

    def __init__(
        self,
        connection: Connection,
        positions: Positions,
        event_types: Sequence[str],
        filter: str,
        open_timeout: float,
        acks: Acks | None = None,
        durable: str = "",
        auto_ack: bool = False,
        min_interval: float = 0.0,
    ) -> None:
        self._connection = connection
        self._places = positions
        self._event_types = list(event_types)
        self._filter = filter
        self._open_timeout = open_timeout
        self._acks = acks
        self._durable = durable
        self._auto_ack = auto_ack
        self._min_interval = min_interval
        # Delivered, and acknowledged when the next step is asked for.
        self._given: Event | None = None
        self._ready: deque[Step] = deque()
        self._stream: grpc.aio.UnaryStreamCall[Any, event_service_pb2.SubscribeResponse] | None = None
        self._reading: asyncio.Task[Any] | None = None
        self._token: str | None = None
        self._failures = 0
        self._stood_since: float | None = None
        self._ever_stood = False
        self._renewed = False
        self._done = False
        self.connection_id = ""
        """The server's id of the latest connection. Empty before the first."""

    @property
    def positions(self) -> dict[str, Position]:
        """For each channel, the position after the last delivered event: the `since` for resuming later."""
        return self._places.positions()

    def __aiter__(self) -> Subscription:
        return self

    async def ack(self, channel: str, offset: int) -> None:
        """Acknowledges all events of a channel up to this offset. An earlier offset has no effect.

        Only for a durable subscription. Returns once the server has stored it.
        """
        if self._acks is None:
            raise TidingsError("failed_precondition", "not a durable subscription")
        await self._acks.ack(channel, offset)

    async def __anext__(self) -> Step:
        self._acknowledge()
        while not self._ready:
            if self._done or self._connection.closed:
                raise StopAsyncIteration
            try:
                message = await self._read()
                if message is not None:
                    self._ready.extend(self._steps(message))
                continue
            except grpc.aio.AioRpcError as error:
                failure = from_call(error)
            except TidingsError as error:
                failure = error
            self._drop_stream()
            if self._acks is not None:
                # They come again.
                self._ready.clear()
            await self._after(failure)
        step = self._ready.popleft()
        self._given = step if self._auto_ack and isinstance(step, Event) else None
        return step

    def _acknowledge(self) -> None:
        event, self._given = self._given, None
        if event is not None and event.position is not None and self._acks is not None:
            self._acks.handled(event.channel, event.position)

    async def events(self, on_stale: OnStale | None = None) -> AsyncIterator[Event]:
        """Yields only events. `on_stale` is called, and awaited, when events were missed and are lost.

        Without it, a warning is logged.
        """
        async for step in self:
            if isinstance(step, Event):
                yield step
            elif step.stale and on_stale is None:
                warn_of_stale(step)
            elif step.stale and on_stale is not None:
                answer = on_stale(step)
                if inspect.isawaitable(answer):
                    await answer

    async def aclose(self) -> None:
        """Ends the subscription, and an iteration that waits for the next step."""
        self._done = True
        self._ready.clear()
        self._drop_stream()
        if self._acks is not None:
            await self._acks.close(_LAST_ACKS)

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _read(self) -> event_service_pb2.SubscribeResponse | None:
        """The next message. Opens a stream if there is none. None if the subscription was closed."""
        if self._stream is None:
            self._stream = await self._open()
        if self._reading is None:
            # A separate task: cancelling the wait for the next step, for instance by a timeout,
            # loses nothing.
            self._reading = asyncio.ensure_future(self._stream.read())
        reading = self._reading
        timeout = None if self._stood_since is not None else self._open_timeout
        done, _ = await asyncio.wait((reading,), timeout=timeout)
        if not done:
            raise TidingsError("unavailable", "the server did not answer in time")
        if self._reading is reading:
            self._reading = None
        if reading.cancelled():
            if self._done or self._connection.closed:
                return None
            raise TidingsError("unavailable", "the stream was cancelled")
        message = reading.result()
        if message is grpc.aio.EOF:
            raise TidingsError("unavailable", "the server ended the stream")
        response: event_service_pb2.SubscribeResponse = message
        return response

    async def _open(self) -> Any:
        metadata, self._token = await self._connection.metadata()
        request = event_service_pb2.SubscribeRequest(
            subscriptions=self._places.subscriptions(),
            event_types=self._event_types,
            filter=self._filter,
            durable=self._durable,
        )
        if self._min_interval:
            request.min_interval.FromMilliseconds(round(self._min_interval * 1000))
        return self._connection.events.Subscribe(request, metadata=metadata)

    def _steps(self, message: event_service_pb2.SubscribeResponse) -> list[Step]:
        which = message.WhichOneof("message")
        if which == "event":
            return [*self._places.event(wire.event(message.event))]
        if which == "gap":
            return [*self._places.gap(wire.gap(message.gap))]
        if which != "subscribed":
            # A heartbeat, or a message of a newer server, which this client does not know.
            return []
        steps: list[Step] = [*self._places.subscribed(message.subscribed)]
        if self._stood_since is None:
            self._stood_since = asyncio.get_running_loop().time()
            self._ever_stood = True
            self._renewed = False
            self.connection_id = message.subscribed.connection_id
        return steps

    async def _after(self, failure: TidingsError) -> None:
        """The stream ended: waits for the backoff, or raises."""
        now = asyncio.get_running_loop().time()
        stood = self._stood_since is not None
        if self._stood_since is not None and now - self._stood_since >= _GOOD:
            self._failures = 0
        self._stood_since = None
        if self._done or self._connection.closed:
            return
        if (
            failure.code == "unauthenticated"
            and not self._renewed
            and self._connection.tokens.refused(self._token)
        ):
            self._renewed = True
            return
        if failure.code == "resource_exhausted" and failure.retry_after is None and not stood:
            lost = self._places.forget_noted()
            if lost:
                self._ready.extend(lost)
                return
            if not self._ever_stood:
                await self._give_up(failure)
        if failure.final:
            await self._give_up(failure)
        pause = self._connection.backoff.pause(self._failures, failure.retry_after)
        self._failures += 1
        log.info("following is interrupted (%s): again in %.2f s", failure, pause)
        await asyncio.sleep(pause)

    async def _give_up(self, failure: TidingsError) -> None:
        await self.aclose()
        raise failure

    def _drop_stream(self) -> None:
        stream, self._stream = self._stream, None
        reading, self._reading = self._reading, None
        if stream is not None:
            stream.cancel()
        if reading is not None:
            reading.cancel()
