"""Publishes many events over one stream, with a bound on unacknowledged ones."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any

import grpc.aio

from . import wire
from .connection import Connection
from .encoding import Encode
from .encoding import encode as encode_json
from .errors import TidingsError, from_call, from_status
from .types import NewEvent, Published
from .v1 import event_service_pb2


class _Item:
    """One unacknowledged event."""

    __slots__ = ("answer", "expiry", "failures", "repeatable", "request")

    def __init__(self, request: event_service_pb2.PublishRequest, answer: asyncio.Future[Published]) -> None:
        self.request = request
        self.answer = answer
        self.repeatable = wire.repeatable(request)
        self.failures = 0
        self.expiry: asyncio.TimerHandle | None = None


class Publisher:
    """Publishes events in order without waiting for each: `async with client.publisher() as publisher`.

    At most `in_flight` events are unacknowledged; `publish` waits if there are more. If the stream breaks,
    they are sent again in order, and their idempotency keys prevent duplicates. An event over the rate limit
    is sent again after the advised delay, behind others.

    Leaving the block waits until everything is acknowledged, and raises the first failure.
    """

    def __init__(
        self, connection: Connection, in_flight: int, timeout: float, encode: Encode = encode_json
    ) -> None:
        if in_flight < 1:
            raise ValueError("in_flight: expected 1 or more")
        self._connection = connection
        self._timeout = timeout
        self._encode = encode
        self._slots = asyncio.Semaphore(in_flight)
        # Each event holds a slot of one of these from `publish` until its result.
        self._waiting: deque[_Item] = deque()
        self._sent: deque[_Item] = deque()
        self._paused: dict[_Item, asyncio.TimerHandle] = {}
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._first_failure: TidingsError | None = None
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def in_flight(self) -> int:
        """The number of unacknowledged events."""
        return len(self._waiting) + len(self._sent) + len(self._paused)

    @property
    def closed(self) -> bool:
        """True if it accepts no more events."""
        return self._closed

    async def publish(self, event: NewEvent) -> asyncio.Future[Published]:
        """Queues an event, once there is space. The future is its result, or raises `TidingsError`."""
        return await self.send(wire.request(event, self._encode))

    async def send(self, request: event_service_pb2.PublishRequest) -> asyncio.Future[Published]:
        """Queues a request, as `publish` does with an event."""
        await self._slots.acquire()
        if self._closed:
            self._slots.release()
            raise TidingsError("cancelled", "the publisher is closed")
        loop = asyncio.get_running_loop()
        item = _Item(request, loop.create_future())
        item.expiry = loop.call_later(self._timeout, self._expire, item)
        self._idle.clear()
        self._waiting.append(item)
        self._work.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run())
            self._running.add_done_callback(self._stopped)
        return item.answer

    async def flush(self) -> None:
        """Waits until every event is acknowledged. Raises the first failure since the last call."""
        await self._idle.wait()
        failure, self._first_failure = self._first_failure, None
        if failure is not None:
            raise failure

    async def aclose(self) -> None:
        """Cancels all unacknowledged events."""
        self._closed = True
        if self._running is not None:
            for item in [*self._sent, *self._waiting, *self._paused]:
                item.answer.cancel()
            self._running.cancel()
            await asyncio.wait((self._running,))
            # The task's callback releases what is left, at the latest in the next iteration of the
            # event loop.
            await self._idle.wait()

    async def __aenter__(self) -> Publisher:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            await self.aclose()

    def _stopped(self, running: asyncio.Task[None]) -> None:
        """The client was closed, or an internal error occurred: no waiter is left."""
        self._closed = True
        error = None if running.cancelled() else running.exception()
        failure = TidingsError("cancelled", "the client was closed")
        if error is not None:
            failure = TidingsError("internal", f"the publisher failed: {error!r}")
        for timer in self._paused.values():
            timer.cancel()
        left = [*self._sent, *self._waiting, *self._paused]
        for queue in (self._sent, self._waiting, self._paused):
            queue.clear()
        for item in left:
            self._finish(item, failure)

    async def _run(self) -> None:
        """Keeps a stream open while there are events to publish."""
        failures, renewed = 0, False
        while True:
            await self._work.wait()
            token, answered = None, [0]
            try:
                metadata, token = await self._connection.metadata()
                await self._stream(metadata, answered)
                failure = TidingsError("unavailable", "the server ended the stream")
            except grpc.aio.AioRpcError as error:
                failure = from_call(error)
            except TidingsError as error:
                failure = error
            if answered[0]:
                failures, renewed = 0, False
            self._send_again(failure)
            if failure.code == "unauthenticated" and not renewed and self._connection.tokens.refused(token):
                renewed = True
                continue
            if not failure.passing:
                self._fail_all(failure)
                continue
            await asyncio.sleep(self._connection.backoff.pause(failures, failure.retry_after))
            failures += 1

    async def _stream(self, metadata: list[tuple[str, str]], answered: list[int]) -> None:
        """One stream, until it breaks."""
        stream = self._connection.events.PublishStream(metadata=metadata)
        writer = asyncio.create_task(self._write(stream))
        try:
            while True:
                message = await stream.read()
                if message is grpc.aio.EOF:
                    return
                answered[0] += 1
                self._answer(self._sent.popleft(), message.response)
        finally:
            writer.cancel()
            stream.cancel()
            await asyncio.wait((writer,))
            if not writer.cancelled():
                # Whatever it failed with, reading has failed with as well.
                writer.exception()

    async def _write(self, stream: Any) -> None:
        while True:
            while self._waiting:
                item = self._waiting.popleft()
                self._sent.append(item)
                await stream.write(event_service_pb2.PublishStreamRequest(request=item.request))
            self._work.clear()
            await self._work.wait()

    def _answer(self, item: _Item, response: event_service_pb2.PublishResponse) -> None:
        if not response.HasField("error"):
            self._finish(item, wire.published(response))
            return
        failure = from_status(response.error)
        if not failure.passing or item.answer.done():
            self._finish(item, failure)
            return
        pause = self._connection.backoff.pause(item.failures, failure.retry_after)
        item.failures += 1
        self._paused[item] = asyncio.get_running_loop().call_later(pause, self._resume, item)

    def _resume(self, item: _Item) -> None:
        del self._paused[item]
        self._waiting.append(item)
        self._work.set()

    def _send_again(self, failure: TidingsError) -> None:
        """The stream broke, and the results of sent events are unknown."""
        while self._sent:
            item = self._sent.pop()
            if item.answer.done() or not item.repeatable:
                self._finish(item, failure)
            else:
                self._waiting.appendleft(item)
        if self._waiting:
            self._work.set()
        else:
            self._work.clear()

    def _fail_all(self, failure: TidingsError) -> None:
        while self._waiting:
            self._finish(self._waiting.popleft(), failure)
        self._work.clear()

    def _expire(self, item: _Item) -> None:
        failure = TidingsError("deadline_exceeded", f"no answer within {self._timeout:g} s")
        timer = self._paused.pop(item, None)
        if timer is not None:
            timer.cancel()
        elif item in self._waiting:
            self._waiting.remove(item)
        else:
            # Its response is still expected. Otherwise, the next ones would be matched to it.
            self._settle(item, failure)
            return
        self._finish(item, failure)

    def _finish(self, item: _Item, outcome: Published | TidingsError) -> None:
        self._settle(item, outcome)
        self._leave(item)
        if self.in_flight == 0:
            self._idle.set()

    def _settle(self, item: _Item, outcome: Published | TidingsError) -> None:
        if item.answer.done():
            return
        if isinstance(outcome, Published):
            item.answer.set_result(outcome)
            return
        self._first_failure = self._first_failure or outcome
        item.answer.set_exception(outcome)
        # `flush` reports it, whether or not anybody awaits this future.
        item.answer.exception()

    def _leave(self, item: _Item) -> None:
        if item.expiry is not None:
            item.expiry.cancel()
        self._slots.release()
